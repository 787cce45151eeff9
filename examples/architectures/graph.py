"""Writes ONNX graphs node by node, with weights from a fixed seed: a ``Graph`` collects nodes, ``model()``
gives the ``onnx.ModelProto``.

Shapes are those of one image, (channels, rows, columns), or (values,) behind `flatten`. Weights are
Laplacian, which is closer to trained ones than a normal distribution, with the variance of He et al. 2015,
so that activations neither vanish nor grow on their way through a hundred layers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
Pair = tuple[int, int]


def pair(value: int | Pair) -> Pair:
    """The same number for rows and columns, or both."""
    return (value, value) if isinstance(value, int) else value


class Graph:
    """A network under construction. Methods take and give names of values."""

    def __init__(self, name: str, input_shape: tuple[int, ...], seed: int = 20261126) -> None:
        self.name = name
        self.input = "image"
        self.shapes: dict[str, tuple[int, ...]] = {self.input: input_shape}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._random = np.random.default_rng(seed)

    def model(self, output: str) -> onnx.ModelProto:
        """The whole graph with one output."""
        inputs = [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, (1, *self.shapes[self.input]))]
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, (1, *self.shapes[output]))]
        graph = helper.make_graph(self._nodes, self.name, inputs, outputs, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    # ------------------------------------------------------------------------------------ layers with weights

    def conv(
        self,
        x: str,
        outputs: int,
        kernel: int | Pair,
        stride: int = 1,
        padding: int | Pair | str = "same",
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        """A convolution; the padding "same" keeps the image's size at stride 1, and is uneven where it must
        be."""
        channels, *size = self.shapes[x]
        window = pair(kernel)
        constants = [self._weights((outputs, channels // groups, *window))]
        if bias:
            constants.append(self._constant(self._random.normal(0, 0.05, outputs)))
        options = {"kernel_shape": list(window), "strides": [stride, stride], "group": groups}
        reached = self._reach(size, window, stride, padding, options)
        return self._node("Conv", [x, *constants], (outputs, *reached), **options)

    def dense(self, x: str, units: int) -> str:
        """A fully connected layer, behind `flatten` or another one."""
        (values,) = self.shapes[x]
        constants = [self._weights((units, values)), self._constant(self._random.normal(0, 0.05, units))]
        return self._node("Gemm", [x, *constants], (units,), transB=1)

    def batch_norm(self, x: str) -> str:
        """Batch normalisation with statistics as training leaves them: near 1 and 0, none alike."""
        channels = self.shapes[x][0]
        scale, variance = self._random.uniform(0.8, 1.2, (2, channels))
        offset, mean = self._random.normal(0, 0.1, (2, channels))
        constants = [self._constant(values) for values in (scale, offset, mean, variance)]
        return self._node("BatchNormalization", [x, *constants], self.shapes[x])

    # --------------------------------------------------------------------------------------------- the others

    def relu(self, x: str) -> str:
        return self._node("Relu", [x], self.shapes[x])

    def softmax(self, x: str) -> str:
        return self._node("Softmax", [x], self.shapes[x])

    def max_pool(self, x: str, kernel: int, stride: int, padding: int = 0, ceil: bool = False) -> str:
        """The largest value of each window; with `ceil` the last window may run past the end."""
        return self._pool("MaxPool", x, kernel, stride, padding, ceil)

    def average_pool(self, x: str, kernel: int, stride: int, padding: int = 0) -> str:
        """The mean of each window, padding not counted."""
        return self._pool("AveragePool", x, kernel, stride, padding, False)

    def global_pool(self, x: str) -> str:
        """The mean of each channel, (channels,)."""
        return self.flatten(self._node("GlobalAveragePool", [x], (self.shapes[x][0], 1, 1)))

    def flatten(self, x: str) -> str:
        return self._node("Flatten", [x], (math.prod(self.shapes[x]),), axis=1)

    def concatenate(self, *parts: str) -> str:
        """Joined along the channels."""
        channels = sum(self.shapes[part][0] for part in parts)
        return self._node("Concat", list(parts), (channels, *self.shapes[parts[0]][1:]), axis=1)

    def add(self, first: str, second: str) -> str:
        return self._node("Add", [first, second], self.shapes[first])

    def shuffle(self, x: str, groups: int) -> str:
        """ShuffleNet's channel shuffle: reshape to (groups, channels / groups), transpose, reshape back."""
        channels, height, width = self.shapes[x]
        split = self._constant(np.array([1, groups, channels // groups, height, width], np.int64))
        joined = self._constant(np.array([1, channels, height, width], np.int64))
        apart = self._node("Reshape", [x, split], (groups, channels // groups, height, width))
        turned = self._node(
            "Transpose", [apart], (channels // groups, groups, height, width), perm=[0, 2, 1, 3, 4]
        )
        return self._node("Reshape", [turned, joined], (channels, height, width))

    # --------------------------------------------------------------------------------------------- inner
    # parts

    def _node(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def _constant(self, values: Any) -> str:
        name = f"constant{len(self._constants)}"
        array = values if values.dtype == np.int64 else values.astype(np.float32)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def _weights(self, shape: tuple[int, ...]) -> str:
        """Laplacian weights with a variance of 2 / fan-in, and of the fan-in's inverse in the last dimension
        alone."""
        magnitudes = self._random.standard_exponential(shape, np.float32)
        magnitudes *= np.float32(1 / math.sqrt(math.prod(shape[1:])))
        np.negative(magnitudes, out=magnitudes, where=self._random.integers(0, 2, shape, bool))
        return self._constant(magnitudes)

    def _pool(self, kind: str, x: str, kernel: int, stride: int, padding: int, ceil: bool) -> str:
        channels, *size = self.shapes[x]
        options: dict[str, Any] = {"kernel_shape": [kernel, kernel], "strides": [stride, stride]}
        reached = self._reach(size, (kernel, kernel), stride, padding, options, ceil)
        if ceil:
            options["ceil_mode"] = 1
        return self._node(kind, [x], (channels, *reached), **options)

    @staticmethod
    def _reach(
        size: list[int],
        window: Pair,
        stride: int,
        padding: int | Pair | str,
        options: dict[str, Any],
        ceil: bool = False,
    ) -> Pair:
        """The output's size; adds the padding to a node's options."""
        if padding == "same":
            options["auto_pad"] = "SAME_UPPER"
            return -(-size[0] // stride), -(-size[1] // stride)
        assert not isinstance(padding, str)
        pads = pair(padding)
        options["pads"] = [*pads, *pads]
        room = [cells + 2 * pad - extent for cells, pad, extent in zip(size, pads, window, strict=True)]
        steps = [-(-each // stride) if ceil else each // stride for each in room]
        return steps[0] + 1, steps[1] + 1
