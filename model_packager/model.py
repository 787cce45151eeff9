"""The typed graph between importers, passes, encoders and executors.

An importer makes a ``Model``, passes change it, ``container.dump`` writes it and ``container.load`` gives it
back; ``reference.run`` executes it at any of these points. A *float* model has FLOAT32 tensors and float
weights; quantisation turns it into an *integer* model, the kind that devices run. Activations are
NHWC with a batch dimension of 1 (``shape`` includes it); weights are matrices, a row per output channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.format_table import DType, OperatorKind, PortFlag, ScheduleKind, TensorFlag

Array = npt.NDArray[Any]

NUMPY_DTYPES: dict[DType, type] = {
    DType.INT8: np.int8,
    DType.INT16: np.int16,
    DType.INT32: np.int32,
    DType.BIT: np.int8,  # -1 and +1
    DType.FLOAT32: np.float32,
}


def bit_channels(channels: int) -> int:
    """Channels of a BIT tensor with those that fill up the last word of a position."""
    return -(-channels // 32) * 32


@dataclass
class Tensor:
    """An activation: ``shape`` as in the original model (batch included, always 1).

    ``scale`` and ``zero_point`` are those of the original quantisation (real = scale * (q - zero_point));
    they are needed by passes and at the model's ports, and are not stored for inner tensors.
    ``arena_offset`` is set by ``passes.plan_memory`` (bytes from the start of the arena).
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = DType.INT8
    scale: float = 1.0
    zero_point: int = 0
    flags: TensorFlag = TensorFlag(0)
    arena_offset: int = 0

    @property
    def element_count(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        if self.dtype is DType.BIT:
            channels = self.shape[-1] if self.shape else 1
            return self.element_count // channels * bit_channels(channels) // 8
        return self.element_count * np.dtype(NUMPY_DTYPES[self.dtype]).itemsize

    @property
    def shape4(self) -> tuple[int, int, int, int]:
        """The shape padded with ones on the left to four dimensions (NHWC)."""
        padded = (1,) * (4 - len(self.shape)) + tuple(self.shape)
        return padded[0], padded[1], padded[2], padded[3]


@dataclass
class Weights:
    """The weight matrix of one operator: ``values`` is (rows, cols), one row per output channel.

    A convolution's columns run over (kernel row, kernel column, input channel of the group), a depthwise
    one's over (kernel row, kernel column), a fully connected one's over the flattened input. dtype int8 in an
    integer model, float32 in a float model. With a BIT input they are -1 and +1, and the channels of each
    kernel cell are followed by as many -1 as fill up a word (``bit_channels``). ``scales`` (rows,) or (1,)
    float64: real = scale * value (integer models before packing; None after loading from a container).
    ``encoding`` is None until chosen: a ``model_packager.encoders.Encoding``, or what a pass asks for; of
    floats, a ``FloatFormat``.
    """

    values: Array
    scales: Array | None = None
    encoding: Any = None


@dataclass
class Requant:
    """Requantisation of accumulators: ``multipliers`` and ``shifts`` are int32 (1,) or (rows,) arrays.

    ``shifts`` follow TFLM (positive is left). With ``power_of_two`` the multipliers are absent from the file
    and ``shifts`` are right shifts with round half up (dynamic fixed point). With ``sign`` the output is a
    BIT tensor, +1 where the accumulator is not negative, and neither array counts (``SIGN``).
    """

    multipliers: Array
    shifts: Array
    power_of_two: bool = False
    sign: bool = False


SIGN = Requant(np.zeros(1, np.int32), np.zeros(1, np.int32), sign=True)


@dataclass
class Operator:
    """One node. ``inputs`` and ``outputs`` index ``Model.tensors``; ``attributes`` holds the format table's
    names (missing means default). Float models use the same geometry attributes, and ``activation``
    ("none", "relu", "relu6", "relu_n1_to_1") in ``options`` instead of clamps; ``options`` never reaches a
    file.
    """

    kind: OperatorKind
    inputs: list[int]
    outputs: list[int]
    attributes: dict[str, int] = field(default_factory=dict)
    weights: Weights | None = None
    bias: Array | None = None  # int32 (rows,), float32 in float models
    requant: Requant | None = None
    table: Array | None = None  # LOOKUP: int8 (256,), indexed by input + 128
    schedule: ScheduleKind = ScheduleKind.WHOLE
    schedule_parameter: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass
class Port:
    """A model input or output: the tensor, and what a host needs to fill or read it."""

    tensor: int
    name: str
    scale: float = 1.0
    zero_point: int = 0
    flags: PortFlag = PortFlag(0)


@dataclass
class Model:
    """A network. ``operators`` are in execution order; ``metadata`` is JSON-serialisable (names, labels,
    preprocessing); ``golden`` is (seed, CRC-32 of the outputs) or None."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    name: str = ""
    model_id: int = 0
    model_version: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    golden: tuple[int, int] | None = None
    arena_bytes: int = 0

    def mac_count(self, operator: Operator) -> int:
        """Multiply-accumulates of one inference, of dense weights and with products of padding counted; 0 for
        an operator without weights."""
        if operator.weights is None:
            return 0
        is_matrix = operator.kind is OperatorKind.FULLY_CONNECTED
        _, height, width, _ = self.tensors[operator.outputs[0]].shape4
        return int(operator.weights.values.size) * (1 if is_matrix else height * width)

    @property
    def is_float(self) -> bool:
        return any(tensor.dtype is DType.FLOAT32 for tensor in self.tensors)

    def reads_bits(self, operator: Operator) -> bool:
        """Whether the operator's input is a BIT tensor."""
        return self.tensors[operator.inputs[0]].dtype is DType.BIT
