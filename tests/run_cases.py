"""Runs models in the firmware's interpreter, one after the other; MicroPython and CPython execute this same
file.

    run_cases.py CASES RESULTS LANE SOURCE

CASES and RESULTS are the files of tests/executors.py, which starts this. LANE is "default" for the kernels
that the interpreter prefers, "bytecode" for those without native code, or "core" for the C core as a native
module, whose own errors are wanted. SOURCE says how a model is read:
"buffer" in place, as from memory-mapped flash, or "file" through the smallest window. Each result is
written before the next case starts, so that a crash or a hang names its case.
"""

import struct
import sys

import thimble

SMALLEST_WINDOW_BYTES = 24
HEAD = "<BbI"  # OK, REFUSED or FAILED; error code; length of what follows
OK, REFUSED, FAILED = 0, 1, 2


def loader_of(lane):
    """What loads a model: from a path or a buffer to a network."""
    if lane == "core":
        return load_in_core
    kernels = None
    if lane == "bytecode":
        from thimble import kernels_bytecode as kernels
    return lambda source: thimble.load(source, SMALLEST_WINDOW_BYTES, kernels)


def load_in_core(source):
    """Where `thimble.load` would leave a model to the interpreter, the error for which it does."""
    from thimble.native import load_core

    network = load_core(source)
    if isinstance(network, int):
        raise thimble.ThimbleError(network, "in the C core")
    assert type(thimble.load(source)) is type(network)
    return network


def outputs_of(network, inputs, runs):
    """Outputs of `runs` runs, each on the bytes of all model inputs in order; with 0, of one run on zeros."""
    found = []
    at = 0
    for _ in range(max(runs, 1)):
        for view in network.inputs:
            view[:] = inputs[at : at + len(view)] if runs else bytes(len(view))
            at += len(view)
        network.invoke()
        found += [bytes(view) for view in network.outputs]
    return b"".join(found)


def run_case(source, load, inputs, runs):
    """(status, error code, bytes): all outputs, where the error is, or what else was raised."""
    try:
        network = load(source)
        try:
            return OK, 0, outputs_of(network, inputs, runs)
        finally:
            network.close()
    except thimble.ThimbleError as error:
        return REFUSED, error.code, error.detail.encode()
    except Exception as error:
        return FAILED, 0, repr(error).encode()


def main(cases_path, results_path, lane_name, source_kind):
    load = loader_of(lane_name)
    model_path = results_path + ".thimble"
    with open(cases_path, "rb") as cases, open(results_path, "wb") as results:
        (count,) = struct.unpack("<I", cases.read(4))
        for _ in range(count):
            file_bytes, input_bytes, runs = struct.unpack("<III", cases.read(12))
            source = cases.read(file_bytes)
            inputs = cases.read(input_bytes)
            if source_kind == "file":
                with open(model_path, "wb") as model:
                    model.write(source)
                source = model_path
            status, code, content = run_case(source, load, inputs, runs)
            results.write(struct.pack(HEAD, status, code, len(content)) + content)
            results.flush()


main(*sys.argv[1:])
