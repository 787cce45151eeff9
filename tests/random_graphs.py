"""Integer networks from a seed that wander through the whole format: every operator, attributes anywhere in
their legal range, every kind of weights, requantisation, bias and shape.

`random_graph` gives a Model without a plan, each ``Weights.encoding`` one that can hold the weights. Tensors
stay small, so that the slowest executor takes a fraction of a second. tests/differential.py runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model_packager import numerics
from model_packager.encoders import candidates
from model_packager.format_table import DType, Limit, OperatorKind
from model_packager.model import Model, Requant, Weights
from tests.random_networks import NetworkBuilder, Shape

MOST_ELEMENTS = 400
MOST_PRODUCTS = 20_000  # of one operator
WEIGHT_KINDS = ("any", "sparse", "rare", "few", "ternary", "log2", "binary", "zeros", "equal")
TWO_INPUTS = (
    OperatorKind.ADD,
    OperatorKind.SUB,
    OperatorKind.MUL,
    OperatorKind.MAXIMUM,
    OperatorKind.MINIMUM,
)
Step = Callable[["GraphBuilder", int], "int | None"]


class GraphBuilder(NetworkBuilder):
    """One method for each operator: appends it to tensor `source` and gives its output, or None where none
    fits."""

    def below(self, end: int) -> int:
        return int(self.random.integers(end))

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def plain(self) -> list[int]:
        """All tensors but those of bits."""
        return [index for index, each in enumerate(self.model.tensors) if each.dtype is not DType.BIT]

    def shape4(self, tensor: int) -> tuple[int, int, int, int]:
        return self.model.tensors[tensor].shape4

    def small(self, shape: Shape) -> bool:
        return int(np.prod(shape)) <= MOST_ELEMENTS

    def append(self, kind: OperatorKind, inputs: list[int], shape: Shape, **attributes: int) -> int | None:
        return self._append(kind, inputs, shape, **attributes) if self.small(shape) else None

    def clamp(self) -> dict[str, int]:
        low, high = sorted(int(value) for value in self.random.integers(-128, 128, 2))
        return {"clamp_min": low, "clamp_max": high} if self.chance(0.3) else {}

    # -- weights

    def matrix(self, rows: int, cols: int) -> np.ndarray:
        kind = str(self.random.choice(WEIGHT_KINDS))
        values = self.random.integers(-128, 128, (rows, cols))
        if kind in ("sparse", "rare"):
            values[self.random.random((rows, cols)) > (0.3 if kind == "sparse" else 0.03)] = 0
        elif kind == "few":
            values = self.random.choice(self.random.integers(-128, 128, 2 + self.below(14)), (rows, cols))
        elif kind == "ternary":
            values = self.random.choice([0, 1 + self.below(127), -1 - self.below(127)], (rows, cols))
        elif kind == "log2":
            values = self.random.choice(
                [0, *(1 << k for k in range(7)), *(-1 << k for k in range(8))], (rows, cols)
            )
        elif kind == "binary":
            values = self.random.choice([-1, 1], (rows, cols))
        elif kind in ("zeros", "equal"):
            values[:] = 0 if kind == "zeros" else self.below(256) - 128
        return values.astype(np.int8)

    def requant(self, rows: int, cols: int) -> Requant:
        """Sane on the whole: outputs spread over the range; now and then a channel that is all clamp or
        zero."""
        shift = -int(np.ceil(np.log2(70 * np.sqrt(cols))))
        count = 1 if self.chance(0.3) else rows
        form = self.below(3)
        if form == 0:
            return Requant(np.zeros(rows, np.int32), np.full(rows, 1 - shift + self.below(2), np.int32), True)
        shifts = shift + self.random.integers(-1, 2, count)
        lowest = 1 << 30 if form == 1 else 0
        multipliers = self.random.integers(lowest, 1 << 31, count)
        if form == 2 and self.chance(0.3):
            shifts[self.below(count)] = self.random.choice([-31, -16, 0, 1])
        return Requant(
            np.resize(multipliers, rows).astype(np.int32), np.resize(shifts, rows).astype(np.int32)
        )

    def weigh(self, tensor: int, rows: int, cols: int) -> int:
        operator = self.model.operators[-1]
        values = self.matrix(rows, cols)
        possible = candidates(values)
        operator.weights = Weights(values, encoding=possible[self.below(len(possible))])
        operator.requant = self.requant(rows, cols)
        spread = (1, 100, 5000, 100_000)[self.below(4)]
        operator.bias = (
            self.random.integers(-spread, spread, rows).astype(np.int32) if self.chance(0.8) else None
        )
        operator.attributes |= {
            "input_zero_point": self.zero_point(operator.inputs[0]),
            "output_zero_point": self.zero_point(tensor),
            **self.clamp(),
        }
        return tensor

    def window(self, source: int, pool: bool) -> tuple[Shape, dict[str, int]] | None:
        """(output height and width, attributes) of a window that fits, dilated unless of a pool."""
        batch, *size, _ = self.shape4(source)
        if batch != 1:
            return None
        attributes: dict[str, int] = {}
        out = []
        for extent, letter, low, high in ((size[0], "h", "top", "bottom"), (size[1], "w", "left", "right")):
            kernel, stride = 1 + self.below(4), 1 + (self.below(3) if self.chance(0.4) else 0)
            dilation = 1 if pool else 1 + (self.below(3) if self.chance(0.2) else 0)
            reach = (kernel - 1) * dilation + 1
            most_pad = kernel if pool else 4
            pads = [self.below(most_pad) if self.chance(0.5) else 0 for _ in range(2)]
            if extent + sum(pads) < reach:
                return None
            attributes |= {
                f"kernel_{letter}": kernel, f"stride_{letter}": stride,
                f"pad_{low}": pads[0], f"pad_{high}": pads[1],
            }  # fmt: skip
            if not pool:
                attributes[f"dilation_{letter}"] = dilation
            out.append((extent + sum(pads) - reach) // stride + 1)
        return tuple(out), attributes

    def grouped_conv(self, source: int) -> int | None:
        found = self.window(source, pool=False)
        depth = self.shape4(source)[3]
        if found is None:
            return None
        (height, width), attributes = found
        if self.chance(0.4):  # pointwise, as in-place and fused schedules want it
            height, width = self.shape4(source)[1:3]
            attributes = {}
        divisors = [n for n in range(1, depth + 1) if depth % n == 0]
        groups = int(self.random.choice(divisors)) if self.chance(0.3) else 1
        rows = groups * (1 + self.below(max(1, 8 // groups)))
        cols = attributes.get("kernel_h", 1) * attributes.get("kernel_w", 1) * depth // groups
        if rows * cols * height * width > MOST_PRODUCTS:
            return None
        tensor = self.append(
            OperatorKind.CONV_2D, [source], (1, height, width, rows), groups=groups, **attributes
        )
        return None if tensor is None else self.weigh(tensor, rows, cols)

    def depthwise_conv(self, source: int) -> int | None:
        found = self.window(source, pool=False)
        if found is None:
            return None
        size, attributes = found
        rows = self.shape4(source)[3] * (1 + (self.below(3) if self.chance(0.3) else 0))
        tensor = self.append(OperatorKind.DEPTHWISE_CONV_2D, [source], (1, *size, rows), **attributes)
        cols = attributes["kernel_h"] * attributes["kernel_w"]
        return None if tensor is None else self.weigh(tensor, rows, cols)

    def separable(self, source: int) -> int | None:
        """A convolution and a depthwise one behind it that may be fused."""
        first = self.grouped_conv(source)
        return None if first is None else self.depthwise_conv(first)

    def residual(self, source: int) -> int | None:
        """A convolution of the source and the sum (or difference) of both, in either order."""
        depth, same = self.shape4(source)[3], self.shape4(source)
        if same[0] != 1 or same[1] * same[2] * depth * depth > MOST_PRODUCTS:
            return None
        tensor = self.append(OperatorKind.CONV_2D, [source], same)
        if tensor is None:
            return None
        pair = [self.weigh(tensor, depth, depth), source]
        return self.combine(pair if self.chance(0.5) else pair[::-1], TWO_INPUTS[self.below(2)])

    def dense(self, source: int) -> int | None:
        rows, cols = 1 + self.below(9), int(np.prod(self.shape(source)))
        shape = ((1, rows), (rows,), (1, 1, 1, rows), (1, rows, 1, 1))[self.below(4)]
        tensor = self.append(OperatorKind.FULLY_CONNECTED, [source], shape)
        return None if tensor is None else self.weigh(tensor, rows, cols)

    # -- bits

    def binary(self, source: int) -> int | None:
        """From int8 to bits, through a few operators on bits, and back."""
        tensor = self.grouped_conv(source) if self.chance(0.7) else self.dense(source)
        if tensor is None or not self.is_one_row(tensor):
            return tensor
        self.by_sign(tensor)
        for _ in range(self.below(4)):
            step = (self.bit_window, self.bit_max_pool, self.bit_pad, self.bit_reshape)[self.below(4)]
            tensor = step(tensor)
        if self.chance(0.5):
            return self.bit_window(tensor, to_bits=False)
        return self.bit_fully_connected(tensor, 1 + self.below(9))

    def is_one_row(self, tensor: int) -> bool:
        """Bits of a fully connected layer are one position."""
        is_dense = self.model.operators[-1].kind is OperatorKind.FULLY_CONNECTED
        return not is_dense or self.shape4(tensor)[:3] == (1, 1, 1)

    def bits(self, kind: OperatorKind, source: int, shape: Shape, **attributes: int) -> int:
        tensor = self._append(kind, [source], shape, **attributes)
        made = self.model.tensors[tensor]
        made.dtype, made.scale, made.zero_point = DType.BIT, 1.0, 0
        return tensor

    def bit_window(self, source: int, to_bits: bool = True) -> int:
        """A convolution of any shape that fits, pointwise otherwise."""
        found = self.window(source, pool=False)
        (height, width), attributes = found if found is not None else (self.shape4(source)[1:3], {})
        if (
            any(attributes.get(f"dilation_{axis}", 1) > 1 for axis in "hw")
            or height * width > MOST_ELEMENTS // 8
        ):
            (height, width), attributes = self.shape4(source)[1:3], {}
        rows = 1 + self.below(40 if to_bits else 6)
        tensor = self._append(OperatorKind.CONV_2D, [source], (1, height, width, rows), **attributes)
        cells = attributes.get("kernel_h", 1) * attributes.get("kernel_w", 1)
        self.weigh_bits(tensor, rows, cells, self.shape4(source)[3])
        operator = self.model.operators[-1]
        if self.chance(0.3):
            operator.bias = None
        if to_bits:
            return self.by_sign(tensor)
        operator.attributes |= self.clamp()
        return tensor

    def bit_max_pool(self, source: int) -> int:
        found = self.window(source, pool=True)
        if found is None:
            return source
        return self.bits(OperatorKind.MAX_POOL_2D, source, (1, *found[0], self.shape4(source)[3]), **found[1])

    def bit_pad(self, source: int) -> int:
        height, width, depth = self.shape4(source)[1:]
        widths = [self.below(2) for _ in range(4)]
        shape = (1, height + widths[0] + widths[1], width + widths[2] + widths[3], depth)
        return self.bits(
            OperatorKind.PAD, source, shape,
            before_1=widths[0], after_1=widths[1], before_2=widths[2], after_2=widths[3],
        )  # fmt: skip

    def bit_reshape(self, source: int) -> int:
        _, height, width, depth = self.shape4(source)
        flat = depth % 32 == 0 and self.chance(0.5)
        return self.bits(
            OperatorKind.RESHAPE,
            source,
            (1, height * width * depth) if flat else (1, 1, height * width, depth),
        )

    # -- operators without weights

    def combine(self, pair: list[int], kind: OperatorKind) -> int | None:
        sizes = [max(sizes) for sizes in zip(*(self.shape4(tensor) for tensor in pair), strict=True)]
        scales = [float(scale) for scale in self.random.uniform(0.02, 0.2, 3)]
        first, second = (self.zero_point(tensor) for tensor in pair)
        attributes: dict[str, int] = {}
        if kind is OperatorKind.MUL:
            multiplier, shift = numerics.mul_multiplier(scales[0], scales[1], scales[2] * 20)
            attributes = {"multiplier": multiplier, "shift": shift}
        elif kind in (OperatorKind.ADD, OperatorKind.SUB):
            p = numerics.add_parameters(scales[0], scales[1], scales[2] * 2)
            attributes = {
                "left_shift": p.left_shift, "input1_multiplier": p.multiplier1, "input1_shift": p.shift1,
                "input2_multiplier": p.multiplier2, "input2_shift": p.shift2,
                "output_multiplier": p.out_multiplier, "output_shift": p.out_shift,
            }  # fmt: skip
        if attributes:
            attributes |= {"input1_zero_point": first, "input2_zero_point": second, **self.clamp()}
        tensor = self.append(kind, pair, tuple(sizes), **attributes)
        if tensor is not None and attributes:
            self.model.operators[-1].attributes["output_zero_point"] = self.zero_point(tensor)
        return tensor

    def element_wise(self, source: int) -> int | None:
        """The source and any tensor that broadcasts with it, itself included."""

        def fits(other: int) -> bool:
            pairs = zip(self.shape4(source), self.shape4(other), strict=True)
            return all(a == b or 1 in (a, b) for a, b in pairs)

        others = [tensor for tensor in self.plain() if fits(tensor)]
        broadcast = [tensor for tensor in others if self.shape4(tensor) != self.shape4(source)]
        chosen = broadcast if broadcast and self.chance(0.6) else others
        pair = [source, chosen[self.below(len(chosen))]]
        return self.combine(pair if self.chance(0.5) else pair[::-1], TWO_INPUTS[self.below(5)])

    def any_pool(self, source: int) -> int | None:
        found = self.window(source, pool=True)
        if found is None:
            return None
        kind = (OperatorKind.AVERAGE_POOL_2D, OperatorKind.MAX_POOL_2D)[self.below(2)]
        depth = self.shape4(source)[3]
        return self.append(kind, [source], (1, *found[0], depth), **found[1], **self.clamp())

    def mean(self, source: int) -> int | None:
        axes = 1 + self.below(15) if self.chance(0.5) else 6
        sizes = self.shape4(source)
        reduced = [size for axis, size in enumerate(sizes) if axes >> axis & 1]
        shape = tuple(1 if axes >> axis & 1 else size for axis, size in enumerate(sizes))
        multiplier, shift = numerics.mean_multiplier(
            float(self.random.uniform(0.05, 0.2)), 0.1, int(np.prod(reduced))
        )
        tensor = self.append(
            OperatorKind.MEAN, [source], shape, axes=axes, multiplier=multiplier, shift=shift,
            input_zero_point=self.zero_point(source),
        )  # fmt: skip
        if tensor is not None:
            self.model.operators[-1].attributes["output_zero_point"] = self.zero_point(tensor)
        return tensor

    def softmax(self, source: int) -> int | None:
        p = numerics.softmax_parameters(
            float(self.random.uniform(0.005, 0.5)), float(self.random.uniform(0.5, 2))
        )
        return self.append(
            OperatorKind.SOFTMAX, [source], self.shape(source), multiplier=p.multiplier, shift=p.left_shift,
            diff_min=p.diff_min,
        )  # fmt: skip

    def table(self, source: int) -> int | None:
        tensor = self.append(OperatorKind.LOOKUP, [source], self.shape(source))
        self.model.operators[-1].table = self.random.integers(-128, 128, 256).astype(np.int8)
        return tensor

    def concatenation(self, source: int) -> int | None:
        axis = self.below(4) if self.chance(0.5) else 3

        def rest(tensor: int) -> list[int]:
            return [size for index, size in enumerate(self.shape4(tensor)) if index != axis]

        fitting = [tensor for tensor in self.plain() if rest(tensor) == rest(source)]
        sources = [source, *(fitting[self.below(len(fitting))] for _ in range(self.below(3)))]
        shape = list(self.shape4(source))
        shape[axis] = sum(self.shape4(tensor)[axis] for tensor in sources)
        return self.append(OperatorKind.CONCATENATION, sources, tuple(shape), axis=axis)

    def pad(self, source: int) -> int | None:
        widths = [(self.below(3), self.below(3)) if self.chance(0.4) else (0, 0) for _ in range(4)]
        widths[0] = widths[0] if self.chance(0.2) else (0, 0)
        shape = tuple(sum(pair) + size for pair, size in zip(widths, self.shape4(source), strict=True))
        attributes = {f"before_{axis}": pair[0] for axis, pair in enumerate(widths)}
        attributes |= {f"after_{axis}": pair[1] for axis, pair in enumerate(widths)}
        return self.append(OperatorKind.PAD, [source], shape, value=self.below(256) - 128, **attributes)

    def reshaped(self, source: int) -> int | None:
        """Any shape of as many elements, of rank 1 to 4; an image mostly."""
        left, shape = int(np.prod(self.shape(source))), []
        for _ in range(self.below(4)):
            divisors = [n for n in range(1, left + 1) if left % n == 0]
            shape.append(divisors[self.below(len(divisors))])
            left //= shape[-1]
        shape.append(left)
        if self.chance(0.7):
            shape = [1, *shape[-3:]] if len(shape) < 4 else [1, shape[0] * shape[1], *shape[2:]]
        return self.append(OperatorKind.RESHAPE, [source], tuple(shape))

    def transpose(self, source: int) -> int | None:
        order = [0, *(1 + self.random.permutation(3))] if self.chance(0.8) else self.random.permutation(4)
        shape = tuple(self.shape4(source)[int(axis)] for axis in order)
        attributes = {f"axis_{index}": int(axis) for index, axis in enumerate(order)}
        return self.append(OperatorKind.TRANSPOSE, [source], shape, **attributes)

    def slice(self, source: int) -> int | None:
        shape, attributes = [], {}
        for axis, size in enumerate(self.shape4(source)):
            begin = self.below(size) if self.chance(0.3) else 0
            stride = 1 + self.below(min(3, size)) if self.chance(0.3) else 1
            shape.append(1 + self.below((size - 1 - begin) // stride + 1))
            attributes |= {f"begin_{axis}": begin, f"stride_{axis}": stride}
        return self.append(OperatorKind.SLICE, [source], tuple(shape), **attributes)

    def resize(self, source: int) -> int | None:
        batch, height, width, depth = self.shape4(source)
        shape = (batch, 1 + self.below(2 * height), 1 + self.below(2 * width), depth)
        flags = {"align_corners": self.below(2), "half_pixel_centers": self.below(2)}
        return self.append(OperatorKind.RESIZE_NEAREST, [source], shape, **flags)


# How often each step is tried, out of the sum.
STEPS: dict[Step, int] = {
    GraphBuilder.grouped_conv: 4,
    GraphBuilder.depthwise_conv: 3,
    GraphBuilder.separable: 2,
    GraphBuilder.residual: 2,
    GraphBuilder.dense: 1,
    GraphBuilder.binary: 2,
    GraphBuilder.element_wise: 4,
    GraphBuilder.any_pool: 2,
    GraphBuilder.mean: 1,
    GraphBuilder.softmax: 1,
    GraphBuilder.table: 1,
    GraphBuilder.concatenation: 2,
    GraphBuilder.pad: 1,
    GraphBuilder.reshaped: 2,
    GraphBuilder.transpose: 1,
    GraphBuilder.slice: 1,
    GraphBuilder.resize: 1,
}


def random_graph(seed: int) -> Model:
    """A network of 1 to 10 steps with 1 to 3 inputs; what nobody reads is an output, and sometimes more."""
    builder = GraphBuilder(seed)
    steps, weights = list(STEPS), np.array([*STEPS.values()], float)
    for _ in range(1 + (builder.below(3) if builder.chance(0.3) else 0)):
        builder.input((1, *(1 + builder.below(7) for _ in range(3))))
    for _ in range(1 + builder.below(10)):
        step = steps[int(builder.random.choice(len(steps), p=weights / weights.sum()))]
        plain = builder.plain()
        step(builder, plain[-1] if builder.chance(0.7) else plain[builder.below(len(plain))])
    model = builder.model
    if not model.operators:
        builder.table(0)
    given = {port.tensor for port in model.inputs}
    read = {tensor for operator in model.operators for tensor in operator.inputs}
    made = [operator.outputs[0] for operator in model.operators]
    made = [tensor for tensor in made if model.tensors[tensor].dtype is not DType.BIT]
    for tensor in dict.fromkeys([made[-1], *(t for t in made if t not in read or builder.chance(0.1))]):
        if tensor not in given and len(model.outputs) < Limit.MODEL_OUTPUTS:
            builder.output(tensor)
    return model
