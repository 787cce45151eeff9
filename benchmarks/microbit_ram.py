"""How much of the micro:bit's 16 KB of RAM LeNet-300-100 takes, the device server included; its accuracy.

The network is pruned and shares weights (examples/lenet300/recipes/microbit.yaml). It is deployed to the
firmware on QEMU's `microbit` machine (a Cortex-M0), checked by its golden test and run on a few images. RAM
is the sum of

- the memory that the model runs in: inputs, outputs, tensors in between, decoders;
- .data and .bss of the image as linked: the server's state, its two buffers, the board's;
- the deepest stack since the start, with a deployment, a load and inferences in between: start-up code fills
  the stack with a pattern, and QEMU's memory is read at the end.

Accuracy is that of the reference executor, which the device is compared with, on the 10,000 test images.

    python benchmarks/microbit_ram.py

Prints `bar core_microbit_ram BYTES`. Needs arm-none-eabi-gcc with newlib, qemu-system-arm, and the data
folder.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")  # before NumPy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt

from benchmarks.lenet300 import mnist_images, mnist_labels, packed_lenet300
from benchmarks.networks import data_folder
from host_tools import serve
from host_tools.boards import load_board
from host_tools.firmware_image import Image, cached_image
from model_packager import container, reference
from model_packager.golden import golden_inputs, output_crc32
from model_packager.passes.kernel_scratch import ram_peak_bytes
from model_packager.sample_arrays import quantised_batch

BOARD, TARGET = "qemu_microbit", "qemu:microbit"
TEST_IMAGES, DEVICE_IMAGES = 10_000, 5
STACK_PAINT = b"\xa5"  # firmware/platform/cortex_m/stack_paint.h
QMP_SOCKET = "qmp"


def read_memory(folder: Path, address: int, length: int) -> bytes:
    """Memory of the emulated board whose socket is in `folder`, through QEMU's own protocol."""
    dump = folder / "memory"
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        line.connect(str(folder / QMP_SOCKET))
        answers = line.makefile("r", encoding="utf-8")
        arguments = {"val": address, "size": length, "filename": str(dump)}
        for request in ({"execute": "qmp_capabilities"}, {"execute": "memsave", "arguments": arguments}):
            line.sendall(json.dumps(request).encode())
            while "return" not in (answer := json.loads(answers.readline())):
                if "error" in answer:
                    raise SystemExit(f"QEMU does not show its memory: {answer['error']['desc']}")
    return dump.read_bytes()


def stack_bytes(stack: bytes) -> int:
    """The deepest use of a stack whose content, from its lowest address, this is."""
    return len(stack.lstrip(STACK_PAINT))


def accuracy(file: bytes, pixels: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]) -> float:
    """Share of right answers of the reference executor in per cent."""
    model = container.load(file)
    outputs = reference.run(model, [quantised_batch(pixels, model, model.inputs[0])])[0]
    return float((outputs.reshape(len(labels), -1).argmax(1) == labels).mean() * 100)


def main() -> None:
    data = data_folder()
    file = packed_lenet300(data, "size", "microbit").data
    model = container.load(file)
    pixels, labels = mnist_images(data, "t10k", TEST_IMAGES), mnist_labels(data, "t10k", TEST_IMAGES)
    samples = quantised_batch(pixels[:DEVICE_IMAGES], model, model.inputs[0])
    expected = reference.run(model, [samples])[0]
    assert model.golden is not None
    image = Image(cached_image(load_board(BOARD)))
    bottom, top = image.symbols["stack_bottom"], image.symbols["stack_top"]
    with tempfile.TemporaryDirectory(prefix="thimble-") as name:
        options = ("-qmp", f"unix:{name}/{QMP_SOCKET},server=on,wait=off")
        with serve.start(TARGET, options=options) as server, server.connect() as client:
            client.deploy(file)
            golden = [array.tobytes() for array in golden_inputs(model, model.golden[0])]
            outputs, instructions = client.infer(golden)
            if output_crc32([np.frombuffer(output, np.int8) for output in outputs]) != model.golden[1]:
                raise SystemExit("the device's outputs are not the golden ones")
            for sample, output in zip(samples, expected, strict=True):
                if client.infer([sample.tobytes()])[0] != [output.tobytes()]:
                    raise SystemExit("the device's outputs are not the reference's")
            client.bench(1)
            client.profile()
            info = client.info()
            stack = stack_bytes(read_memory(Path(name), bottom, top - bottom))
    memory = info.heap_bytes - info.heap_free_bytes
    if memory != ram_peak_bytes(model, "c"):
        raise SystemExit(f"the device gave the model {memory} bytes, not what the packager plans")
    linked = image.size(".data", ".bss")
    print(f"LeNet-300-100, pruned and shared, on {client.hello.board}")
    print(f"  file                                  {len(file):>7,} bytes of flash")
    code = image.size(".text", ".ARM.exidx", ".data")
    print(f"  firmware, every operator and decoder  {code:>7,} bytes of flash")
    print(f"  accuracy on the MNIST test images     {accuracy(file, pixels, labels):>7.2f} %")
    print(f"  one inference                         {instructions:>7,} instructions")
    print(f"  memory of the model                   {memory:>7,} bytes of RAM")
    print(f"  server and board, as linked           {linked:>7,} bytes of RAM")
    print(f"  stack, deepest                        {stack:>7,} bytes of RAM")
    print(f"bar core_microbit_ram {memory + linked + stack}")


if __name__ == "__main__":
    main()
