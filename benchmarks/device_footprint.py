"""What Thimble takes of a board: bytes of all .mpy files, and the heap that kws needs.

    python benchmarks/device_footprint.py

Sizes: what host_tools/device_package.py makes of the package for armv6m, that is all that a board needs for
one model and its server; what a server of two models takes beside that is printed apart.

Heap: MicroPython's unix port, the package imported from .mpy files. A block is set aside before the import,
all that is free after it is filled up, the block is given back, and the model is loaded and run twice in it;
the figure is the smallest number of free bytes, `gc.mem_free()`, in which that works. "Flash": the model
lies in a buffer that was allocated before and is not counted, as memory-mapped flash would not be. "File":
it is read through a window of 512 bytes. The port has 64-bit words, so that objects other than buffers are
up to twice as large as on a board: the figures are upper bounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.networks import NETWORKS, packed
from host_tools.device_package import build_device_package
from model_packager import container, reference

HEAP_STEP_BYTES = 256
HEAP_LIMIT_BYTES = 1 << 17

# Prints what was free, and whether the outputs are right.
PROGRAM = """
import gc, sys
sys.path.insert(0, {folder!r})
block = bytearray({free})
inputs, expected = open({inputs!r}, "rb").read(), open({expected!r}, "rb").read()
model = {path!r} if {in_file} else open({path!r}, "rb").read()
import thimble
gc.collect()
taken, size = None, 65536
while size >= 16:
    try:
        taken = (taken, bytearray(size))
    except MemoryError:
        size >>= 1
block = None
gc.collect()
free = gc.mem_free()
network = thimble.load(model)
right = bytes(network.run(inputs)) == expected and bytes(network.run(inputs)) == expected
print(free, right)
"""


def _tool(name: str) -> str:
    beside_python = Path(sys.prefix) / "bin" / name
    return str(beside_python) if beside_python.exists() else name


def _run(program: str) -> int | None:
    """Bytes that were free, or None when they did not suffice. Raises SystemExit for anything else."""
    command = [_tool("micropython"), "-X", f"heapsize={4 * HEAP_LIMIT_BYTES}", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        if "MemoryError" not in done.stderr + done.stdout:
            raise SystemExit(done.stderr or done.stdout)
        return None
    free, right = done.stdout.split()
    if right != "True":
        raise SystemExit("the outputs are wrong")
    return int(free)


def heap_needed(data: bytes, in_file: bool) -> int:
    """Bytes that must be free after the import for a model to load and run."""
    model = container.load(data)
    shape = model.tensors[model.inputs[0].tensor].shape
    inputs = np.random.default_rng(3).integers(-128, 128, shape, dtype=np.int8)
    expected = reference.run(model, [inputs])[0].astype(np.int8)
    with tempfile.TemporaryDirectory() as folder:
        build_device_package("x64", Path(folder) / "thimble")
        paths = {name: str(Path(folder) / name) for name in ("inputs", "expected", "path")}
        for name, content in (("inputs", inputs.tobytes()), ("expected", expected.tobytes()), ("path", data)):
            Path(paths[name]).write_bytes(content)
        low, high, best = 0, HEAP_LIMIT_BYTES, None
        while high - low > HEAP_STEP_BYTES:
            middle = (low + high) // 2
            free = _run(PROGRAM.format(folder=folder, in_file=in_file, free=middle, **paths))
            if free is None:
                low = middle
            else:
                high, best = middle, free
    if best is None:
        raise SystemExit(f"{HEAP_LIMIT_BYTES} bytes are not enough")
    return best


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        sizes = build_device_package("armv6m", Path(folder), slots=False)
        more = build_device_package("armv6m", Path(folder))
    for name, size in sizes.items():
        print(f"{size:6}  {name}.mpy")
    print(f"{sum(more.values()) - sum(sizes.values()):6}  more for two slots, trial runs and signatures")
    print(f"bar mpy_bytes {sum(sizes.values())}")
    data = packed(next(network for network in NETWORKS if network.name == "kws")).data
    print(f"bar heap_kws_flash {heap_needed(data, False)}")
    print(f"bar heap_kws_file {heap_needed(data, True)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
