"""Integer networks made from a seed: a builder that appends one operator at a time, and random graphs from
it.

Planner, dead-channel and packing tests share them; they need neither a data folder nor an importer. Weights,
biases and requantisation are random but sane: outputs spread over the int8 range.
"""

from __future__ import annotations

import numpy as np

from model_packager.encoders.bit_planes import BINARY
from model_packager.format_table import DType, OperatorKind
from model_packager.model import SIGN, Model, Operator, Port, Requant, Tensor, Weights, bit_channels

Shape = tuple[int, ...]


class NetworkBuilder:
    """Appends operators to a Model; each method returns the index of the tensor that it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.model = Model(name=f"random{seed}")

    def tensor(self, shape: Shape) -> int:
        zero_point = int(self.random.integers(-20, 20))
        self.model.tensors.append(
            Tensor(f"t{len(self.model.tensors)}", shape, scale=0.1, zero_point=zero_point)
        )
        return len(self.model.tensors) - 1

    def input(self, shape: Shape) -> int:
        tensor = self.tensor(shape)
        self.model.inputs.append(Port(tensor, f"input{len(self.model.inputs)}", 0.1, self.zero_point(tensor)))
        return tensor

    def output(self, tensor: int) -> int:
        self.model.outputs.append(
            Port(tensor, f"output{len(self.model.outputs)}", 0.1, self.zero_point(tensor))
        )
        return tensor

    def zero_point(self, tensor: int) -> int:
        return self.model.tensors[tensor].zero_point

    def shape(self, tensor: int) -> Shape:
        return self.model.tensors[tensor].shape

    def _append(self, kind: OperatorKind, inputs: list[int], shape: Shape, **attributes: int) -> int:
        output = self.tensor(shape)
        self.model.operators.append(Operator(kind, inputs, [output], dict(attributes)))
        return output

    def _weigh(self, rows: int, cols: int) -> None:
        """Give the last operator weights, bias and requantisation."""
        operator = self.model.operators[-1]
        values = self.random.integers(-127, 128, (rows, cols)).astype(np.int8)
        operator.weights = Weights(values, np.full(rows, 0.01))
        operator.bias = self.random.integers(-3000, 3000, rows).astype(np.int32)
        multipliers = self.random.integers(1 << 30, (1 << 31) - 1, rows).astype(np.int32)
        shift = -int(np.ceil(np.log2(70 * np.sqrt(cols))))
        operator.requant = Requant(multipliers, np.full(rows, shift, np.int32))
        operator.attributes |= {
            "input_zero_point": self.zero_point(operator.inputs[0]),
            "output_zero_point": self.zero_point(operator.outputs[0]),
            "clamp_min": self.zero_point(operator.outputs[0]) if self.random.random() < 0.5 else -128,
            "clamp_max": 127,
        }

    @staticmethod
    def _window(
        height: int, width: int, kernel: int, stride: int, same: bool
    ) -> tuple[Shape, dict[str, int]]:
        def one(size: int) -> tuple[int, int, int]:
            if not same:
                return (size - kernel) // stride + 1, 0, 0
            out = -(-size // stride)
            pad = max(0, (out - 1) * stride + kernel - size)
            return out, pad // 2, pad - pad // 2

        (out_h, top, bottom), (out_w, left, right) = one(height), one(width)
        attributes = {
            "kernel_h": kernel, "kernel_w": kernel, "stride_h": stride, "stride_w": stride,
            "pad_top": top, "pad_left": left, "pad_bottom": bottom, "pad_right": right,
        }  # fmt: skip
        return (out_h, out_w), attributes

    def conv(
        self,
        source: int,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        same: bool = True,
        groups: int = 1,
    ) -> int:
        _, height, width, depth = self.shape(source)
        size, window = self._window(height, width, kernel, stride, same)
        window["groups"] = groups
        output = self._append(OperatorKind.CONV_2D, [source], (1, *size, channels), **window)
        self._weigh(channels, kernel * kernel * depth // groups)
        return output

    # -- bits

    def to_bits(self, source: int, channels: int, kernel: int = 3) -> int:
        """A convolution from int8 to bits."""
        return self.by_sign(self.conv(source, channels, kernel))

    def by_sign(self, tensor: int) -> int:
        """Let the last operator, which makes `tensor`, make bits of it."""
        operator = self.model.operators[-1]
        operator.requant = SIGN
        for name in ("output_zero_point", "clamp_min", "clamp_max"):
            operator.attributes.pop(name, None)
        made = self.model.tensors[tensor]
        made.dtype, made.scale, made.zero_point = DType.BIT, 1.0, 0
        return tensor

    def weigh_bits(self, tensor: int, rows: int, cells: int, channels: int) -> int:
        """Binary weights, bias and requantisation for the last operator, which reads bits."""
        operator = self.model.operators[-1]
        values = self.random.choice([-1, 1], (rows, cells, bit_channels(channels))).astype(np.int8)
        values[:, :, channels:] = -1
        operator.weights = Weights(values.reshape(rows, -1), np.full(rows, 0.01), BINARY)
        operator.bias = self.random.integers(-9, 9, rows).astype(np.int32)
        shift = 6 - int(np.log2(np.sqrt(cells * channels)))
        multipliers = self.random.integers(1 << 30, (1 << 31) - 1, rows).astype(np.int32)
        operator.requant = Requant(multipliers, np.full(rows, shift, np.int32))
        operator.attributes["output_zero_point"] = self.zero_point(tensor)
        return tensor

    def bit_conv(self, source: int, channels: int, kernel: int = 3) -> int:
        """A convolution from bits to int8; ``by_sign`` makes bits of it."""
        _, height, width, depth = self.shape(source)
        size, window = self._window(height, width, kernel, 1, True)
        output = self._append(OperatorKind.CONV_2D, [source], (1, *size, channels), **window)
        return self.weigh_bits(output, channels, kernel * kernel, depth)

    def bit_fully_connected(self, source: int, units: int) -> int:
        """From bits, which need not be flat, to int8."""
        _, height, width, depth = self.model.tensors[source].shape4
        output = self._append(OperatorKind.FULLY_CONNECTED, [source], (1, units))
        return self.weigh_bits(output, units, height * width, depth)

    def bit_pool(self, source: int) -> int:
        output = self.pool(source, OperatorKind.MAX_POOL_2D)
        self.model.tensors[output].dtype = DType.BIT
        return output

    # -- int8

    def depthwise(self, source: int, kernel: int = 3, stride: int = 1, multiplier: int = 1) -> int:
        _, height, width, depth = self.shape(source)
        size, window = self._window(height, width, kernel, stride, True)
        channels = depth * multiplier
        output = self._append(OperatorKind.DEPTHWISE_CONV_2D, [source], (1, *size, channels), **window)
        self._weigh(channels, kernel * kernel)
        return output

    def fully_connected(self, source: int, units: int) -> int:
        count = int(np.prod(self.shape(source)))
        output = self._append(OperatorKind.FULLY_CONNECTED, [source], (1, units))
        self._weigh(units, count)
        return output

    def add(self, first: int, second: int) -> int:
        output = self._append(
            OperatorKind.ADD, [first, second], self.shape(first),
            input1_multiplier=1 << 30, input2_multiplier=1 << 30, output_multiplier=1 << 30, output_shift=-18,
        )  # fmt: skip
        tensors = self.model.operators[-1].attributes
        tensors["input1_zero_point"], tensors["input2_zero_point"] = (
            self.zero_point(first),
            self.zero_point(second),
        )
        tensors["output_zero_point"] = self.zero_point(output)
        return output

    def lookup(self, source: int) -> int:
        output = self._append(OperatorKind.LOOKUP, [source], self.shape(source))
        self.model.operators[-1].table = np.sort(self.random.integers(-128, 128, 256)).astype(np.int8)
        return output

    def pool(self, source: int, kind: OperatorKind, kernel: int = 2) -> int:
        _, height, width, depth = self.shape(source)
        size, window = self._window(height, width, kernel, kernel, False)
        output = self._append(kind, [source], (1, *size, depth), **window)
        self.model.tensors[output].zero_point = self.zero_point(source)
        return output

    def global_pool(self, source: int) -> int:
        _, height, width, depth = self.shape(source)
        window = {"kernel_h": height, "kernel_w": width, "stride_h": height, "stride_w": width}
        output = self._append(OperatorKind.AVERAGE_POOL_2D, [source], (1, 1, 1, depth), **window)
        self.model.tensors[output].zero_point = self.zero_point(source)
        return output

    def reshape(self, source: int, shape: Shape) -> int:
        output = self._append(OperatorKind.RESHAPE, [source], shape)
        self.model.tensors[output].zero_point = self.zero_point(source)
        return output

    def concatenate(self, sources: list[int]) -> int:
        _, height, width, _ = self.shape(sources[0])
        depth = sum(self.shape(source)[3] for source in sources)
        return self._append(OperatorKind.CONCATENATION, sources, (1, height, width, depth), axis=3)


def random_inputs(model: Model, count: int, seed: int = 0) -> list[np.ndarray]:
    """One int8 array (count, H, W, C) per model input."""
    random = np.random.default_rng(seed)
    shapes = [model.tensors[port.tensor].shape for port in model.inputs]
    return [random.integers(-128, 128, (count, *shape[1:])).astype(np.int8) for shape in shapes]


def random_network(seed: int, operator_count: int = 10) -> Model:
    """A random directed graph of convolutions, pools, adds, concatenations and look-ups, ended by two
    layers."""
    builder = NetworkBuilder(seed)
    random = builder.random
    tensors = [
        builder.input((1, int(random.integers(4, 9)), int(random.integers(4, 9)), int(random.integers(1, 6))))
    ]
    for _ in range(operator_count):
        source = tensors[-1] if random.random() < 0.7 else int(random.choice(tensors))
        tensors.append(_random_step(builder, tensors, source))
    pooled = builder.global_pool(tensors[-1])
    flat = builder.reshape(pooled, (1, builder.shape(pooled)[3]))
    builder.output(builder.fully_connected(flat, 5))
    if random.random() < 0.3:
        builder.output(int(random.choice(tensors)))
    return builder.model


def _random_step(builder: NetworkBuilder, tensors: list[int], source: int) -> int:
    random = builder.random
    _, height, width, depth = builder.shape(source)
    kind = int(random.integers(0, 8))
    if kind == 0:
        return builder.depthwise(source, 3, int(random.integers(1, 3)))
    if kind == 1:
        return builder.depthwise(source, 3)
    if kind in (2, 3):
        return builder.conv(source, int(random.integers(1, 8)))
    if kind == 4:
        return builder.conv(source, int(random.integers(1, 8)), 3, int(random.integers(1, 3)))
    if kind == 5:
        return builder.lookup(source)
    if kind == 6 and min(height, width) >= 2:
        kinds = (OperatorKind.AVERAGE_POOL_2D, OperatorKind.MAX_POOL_2D)
        return builder.pool(source, kinds[int(random.integers(2))])
    same = [t for t in tensors if builder.shape(t) == builder.shape(source)]
    if len(same) < 2:
        return builder.add(source, builder.conv(source, depth, 3))
    if kind == 7 and depth < 16:
        return builder.concatenate([source, int(random.choice(same))])
    return builder.add(source, int(random.choice(same)))
