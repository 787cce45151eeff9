"""The networks of the lecture, and its building blocks alone: each function writes one into a ``Graph`` and
gives the name of the output, for a classifier of the scores before softmax. ``NETWORKS`` lists them with the
sizes of their papers, ``SMALL`` in sizes for a microcontroller.

`width` scales all channels, `classes` the last layer. Local response normalisation (AlexNet, GoogLeNet) is
left out, as in every later variant: it has no weights, and batch norm took its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx

from examples.architectures.graph import Graph

CLASSES = 1000
SHUFFLE_GROUPS = 3


def channels(count: int, width: float, divisor: int = 1) -> int:
    """`count` scaled by `width`, a multiple of `divisor`, at least that."""
    return max(round(count * width / divisor), 1) * divisor


def conv_relu(graph: Graph, x: str, outputs: int, kernel: int, **options: int) -> str:
    """A convolution with bias and ReLU."""
    return graph.relu(graph.conv(x, outputs, kernel, **options))  # type: ignore[arg-type]


def conv_bn(
    graph: Graph, x: str, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> str:
    """A convolution with batch norm, and ReLU unless told otherwise."""
    y = graph.batch_norm(graph.conv(x, outputs, kernel, stride, groups=groups, bias=False))
    return graph.relu(y) if relu else y


# ---------------------------------------------------------------------------------------------- building
# blocks


def standard(graph: Graph) -> str:
    """The lecture's example: 7x7x3 to 5x5x128 by 128 kernels of 3x3x3."""
    return graph.conv(graph.input, 128, 3, padding=0, bias=False)


def depthwise_separable(graph: Graph) -> str:
    """The lecture's example: 3 kernels of 3x3x1, then 128 of 1x1x3."""
    depthwise = graph.conv(graph.input, 3, 3, padding=0, groups=3, bias=False)
    return graph.conv(depthwise, 128, 1, bias=False)


def grouped(graph: Graph, groups: int = 4) -> str:
    """A 3x3 convolution in groups, as AlexNet's over two GPUs."""
    return conv_relu(graph, graph.input, 2 * graph.shapes[graph.input][0], 3, groups=groups)


def stacked_3x3(graph: Graph) -> str:
    """Two 3x3 convolutions in place of one 5x5 (VGG)."""
    inputs = graph.shapes[graph.input][0]
    return conv_relu(graph, conv_relu(graph, graph.input, inputs, 3), inputs, 3)


def factorised(graph: Graph, n: int = 3) -> str:
    """1xn and nx1 in place of nxn (Inception v2)."""
    inputs = graph.shapes[graph.input][0]
    across = graph.relu(graph.conv(graph.input, inputs, (1, n)))
    return graph.relu(graph.conv(across, inputs, (n, 1)))


def inception(graph: Graph, x: str, sizes: tuple[int, int, int, int, int, int], width: float = 1.0) -> str:
    """GoogLeNet's block (Szegedy et al. 2015, figure 2b); sizes as in table 1: 1x1, 3x3 reduce, 3x3, 5x5
    reduce, 5x5, pool projection."""
    one, reduce3, three, reduce5, five, pooled = (channels(size, width) for size in sizes)
    return graph.concatenate(
        conv_relu(graph, x, one, 1),
        conv_relu(graph, conv_relu(graph, x, reduce3, 1), three, 3),
        conv_relu(graph, conv_relu(graph, x, reduce5, 1), five, 5),
        conv_relu(graph, graph.max_pool(x, 3, 1, 1), pooled, 1),
    )


def inception_block(graph: Graph) -> str:
    """One Inception block alone."""
    return inception(graph, graph.input, (8, 8, 12, 4, 6, 6))


def fire(graph: Graph, x: str, squeezed: int, expanded: int) -> str:
    """SqueezeNet's fire module (Iandola et al. 2016, figure 1)."""
    narrow = conv_relu(graph, x, squeezed, 1)
    return graph.concatenate(conv_relu(graph, narrow, expanded, 1), conv_relu(graph, narrow, expanded, 3))


def fire_module(graph: Graph) -> str:
    """One fire module alone."""
    return fire(graph, graph.input, 6, 12)


def shuffle_unit(graph: Graph, x: str, outputs: int, stride: int, groups: int, first_groups: int) -> str:
    """ShuffleNet's unit (Zhang et al. 2018, figure 2b, at stride 2 figure 2c)."""
    inputs = graph.shapes[x][0]
    added = outputs - inputs if stride == 2 else outputs
    y = conv_bn(graph, x, channels(outputs // 4, 1, groups), 1, groups=first_groups)
    y = graph.shuffle(y, groups)
    inner = graph.shapes[y][0]
    y = conv_bn(graph, y, inner, 3, stride, groups=inner, relu=False)
    y = conv_bn(graph, y, added, 1, groups=groups, relu=False)
    if stride == 2:
        return graph.relu(graph.concatenate(graph.average_pool(x, 3, 2, 1), y))
    return graph.relu(graph.add(x, y))


def shuffle_block(graph: Graph) -> str:
    """One ShuffleNet unit alone: channel shuffle and residual."""
    inputs = graph.shapes[graph.input][0]
    return shuffle_unit(graph, graph.input, inputs, 1, SHUFFLE_GROUPS, SHUFFLE_GROUPS)


# -----------------------------------------------------------------------------------------------------
# networks


def lenet_300_100(graph: Graph, classes: int = 10) -> str:
    """LeCun et al. 1998, as in Han et al. 2016: two hidden layers."""
    x = graph.flatten(graph.input)
    x = graph.relu(graph.dense(x, 300))
    return graph.dense(graph.relu(graph.dense(x, 100)), classes)


def lenet_5(graph: Graph, width: float = 1.0, classes: int = 10) -> str:
    """LeCun et al. 1998 in the Caffe form of Han et al. 2016."""
    x = graph.max_pool(graph.conv(graph.input, channels(20, width), 5, padding=0), 2, 2)
    x = graph.max_pool(graph.conv(x, channels(50, width), 5, padding=0), 2, 2)
    x = graph.relu(graph.dense(graph.flatten(x), channels(500, width)))
    return graph.dense(x, classes)


def alexnet(graph: Graph, width: float = 1.0, classes: int = CLASSES) -> str:
    """Krizhevsky et al. 2012 with its groups of two, in the Caffe form (input 227x227)."""

    def size(count: int) -> int:
        return channels(count, width, 2)

    x = graph.relu(graph.conv(graph.input, size(96), 11, 4, 0))
    x = graph.max_pool(x, 3, 2)
    x = graph.max_pool(conv_relu(graph, x, size(256), 5, groups=2), 3, 2)
    x = conv_relu(graph, x, size(384), 3)
    x = conv_relu(graph, x, size(384), 3, groups=2)
    x = graph.max_pool(conv_relu(graph, x, size(256), 3, groups=2), 3, 2)
    x = graph.flatten(x)
    for _ in range(2):
        x = graph.relu(graph.dense(x, size(4096)))
    return graph.dense(x, classes)


VGG_BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(graph: Graph, depth: int = 16, width: float = 1.0, classes: int = CLASSES) -> str:
    """Simonyan and Zisserman 2015, configurations D and E."""
    x = graph.input
    for count, outputs in zip(VGG_BLOCKS[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            x = conv_relu(graph, x, channels(outputs, width), 3)
        x = graph.max_pool(x, 2, 2)
    x = graph.flatten(x)
    for _ in range(2):
        x = graph.relu(graph.dense(x, channels(4096, width)))
    return graph.dense(x, classes)


# Table 1 of Szegedy et al. 2015; None is a max pool.
GOOGLENET_BLOCKS: tuple[tuple[int, int, int, int, int, int] | None, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def googlenet(graph: Graph, width: float = 1.0, classes: int = CLASSES) -> str:
    """Szegedy et al. 2015 without the auxiliary classifiers, which serve training alone."""
    x = graph.relu(graph.conv(graph.input, channels(64, width), 7, 2, 3))
    x = graph.max_pool(x, 3, 2, ceil=True)
    x = conv_relu(graph, conv_relu(graph, x, channels(64, width), 1), channels(192, width), 3)
    x = graph.max_pool(x, 3, 2, ceil=True)
    for sizes in GOOGLENET_BLOCKS:
        x = graph.max_pool(x, 3, 2, ceil=True) if sizes is None else inception(graph, x, sizes, width)
    return graph.dense(graph.global_pool(x), classes)


def squeezenet(graph: Graph, width: float = 1.0, classes: int = CLASSES) -> str:
    """Iandola et al. 2016, table 1 (SqueezeNet 1.0): late pooling, and no fully connected layer."""
    x = graph.relu(graph.conv(graph.input, channels(96, width), 7, 2, 0))
    x = graph.max_pool(x, 3, 2, ceil=True)
    pools_before = (3, 7)
    for place, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if place in pools_before:
            x = graph.max_pool(x, 3, 2, ceil=True)
        x = fire(graph, x, channels(squeezed, width), channels(4 * squeezed, width))
    return graph.global_pool(conv_relu(graph, x, classes, 1))


def mobilenet_v1(graph: Graph, width: float = 1.0, classes: int = CLASSES) -> str:
    """Howard et al. 2017, table 1."""

    def size(count: int) -> int:
        return channels(count, width)

    x = conv_bn(graph, graph.input, size(32), 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in plan:
        inputs = graph.shapes[x][0]
        x = conv_bn(graph, x, inputs, 3, stride, groups=inputs)
        x = conv_bn(graph, x, size(outputs), 1)
    return graph.dense(graph.global_pool(x), classes)


def shufflenet(graph: Graph, width: float = 1.0, classes: int = CLASSES) -> str:
    """Zhang et al. 2018, table 1, three groups."""
    groups = SHUFFLE_GROUPS
    x = graph.max_pool(conv_bn(graph, graph.input, channels(24, width, groups), 3, 2), 3, 2, 1)
    for stage, (outputs, repeats) in enumerate(((240, 3), (480, 7), (960, 3))):
        outputs = channels(outputs, width, 4 * groups)
        first_groups = 1 if stage == 0 else groups  # too few channels to split
        x = shuffle_unit(graph, x, outputs, 2, groups, first_groups)
        for _ in range(repeats):
            x = shuffle_unit(graph, x, outputs, 1, groups, groups)
    return graph.dense(graph.global_pool(x), classes)


# Depth -> (blocks per stage, whether they are bottlenecks).
RESNET_STAGES = {
    18: ((2, 2, 2, 2), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(graph: Graph, depth: int = 18, width: float = 1.0, classes: int = CLASSES) -> str:
    """He et al. 2016, table 1; a bottleneck's stride is in its first 1x1, as in the paper."""
    counts, bottleneck = RESNET_STAGES[depth]
    x = graph.max_pool(conv_bn(graph, graph.input, channels(64, width), 7, 2), 3, 2, 1)
    for stage, count in enumerate(counts):
        inner = channels(64 << stage, width)
        for block in range(count):
            stride = 2 if stage and not block else 1
            x = _residual(graph, x, inner, stride, bottleneck)
    return graph.dense(graph.global_pool(x), classes)


def _residual(graph: Graph, x: str, inner: int, stride: int, bottleneck: bool) -> str:
    outputs = 4 * inner if bottleneck else inner
    if bottleneck:
        y = conv_bn(graph, conv_bn(graph, x, inner, 1, stride), inner, 3)
        y = conv_bn(graph, y, outputs, 1, relu=False)
    else:
        y = conv_bn(graph, conv_bn(graph, x, inner, 3, stride), outputs, 3, relu=False)
    if stride > 1 or graph.shapes[x][0] != outputs:
        x = conv_bn(graph, x, outputs, 1, stride, relu=False)
    return graph.relu(graph.add(x, y))


# -------------------------------------------------------------------------------------------------------
# lists


@dataclass(frozen=True)
class Network:
    """A function above and the image that it takes, (channels, rows, columns)."""

    write: Callable[[Graph], str]
    image: tuple[int, int, int]
    softmax: bool = False

    def build(self, name: str) -> onnx.ModelProto:
        """The ONNX model; the same weights every time."""
        graph = Graph(name, self.image)
        output = self.write(graph)
        return graph.model(graph.softmax(output) if self.softmax else output)


BLOCKS = {
    "standard": Network(standard, (3, 7, 7)),
    "depthwise_separable": Network(depthwise_separable, (3, 7, 7)),
    "grouped": Network(grouped, (8, 10, 10)),
    "stacked_3x3": Network(stacked_3x3, (4, 10, 10)),
    "factorised": Network(factorised, (4, 10, 10)),
    "inception_block": Network(inception_block, (12, 10, 10)),
    "fire_module": Network(fire_module, (12, 10, 10)),
    "shuffle_block": Network(shuffle_block, (24, 8, 8)),
}
NETWORKS = {
    "lenet_300_100": Network(lenet_300_100, (1, 28, 28), True),
    "lenet_5": Network(lenet_5, (1, 28, 28), True),
    "alexnet": Network(alexnet, (3, 227, 227), True),
    "vgg_16": Network(vgg, (3, 224, 224), True),
    "vgg_19": Network(partial(vgg, depth=19), (3, 224, 224), True),
    "googlenet": Network(googlenet, (3, 224, 224), True),
    "squeezenet": Network(squeezenet, (3, 224, 224), True),
    "mobilenet_v1": Network(mobilenet_v1, (3, 224, 224), True),
    "mobilenet_v1_025_96": Network(partial(mobilenet_v1, width=0.25), (3, 96, 96), True),
    "shufflenet": Network(shufflenet, (3, 224, 224), True),
    "resnet_18": Network(resnet, (3, 224, 224), True),
    "resnet_50": Network(partial(resnet, depth=50), (3, 224, 224), True),
    "resnet_101": Network(partial(resnet, depth=101), (3, 224, 224), True),
    "resnet_152": Network(partial(resnet, depth=152), (3, 224, 224), True),
}
# The same graphs for tests: fewer channels, smaller images, ten classes; without softmax, which would round
# most differences between two executors away.
SMALL = {
    "lenet_300_100": Network(lenet_300_100, (1, 10, 10)),
    "lenet_5": Network(partial(lenet_5, width=0.2), (1, 20, 20)),
    "alexnet": Network(partial(alexnet, width=1 / 24, classes=10), (3, 67, 67)),
    "vgg_16": Network(partial(vgg, width=1 / 32, classes=10), (3, 32, 32)),
    "googlenet": Network(partial(googlenet, width=1 / 16, classes=10), (3, 64, 64)),
    "squeezenet": Network(partial(squeezenet, width=1 / 8, classes=10), (3, 63, 63)),
    "mobilenet_v1": Network(partial(mobilenet_v1, width=1 / 8, classes=10), (3, 32, 32)),
    "shufflenet": Network(partial(shufflenet, width=1 / 10, classes=10), (3, 64, 64)),
    "resnet_18": Network(partial(resnet, width=1 / 16, classes=10), (3, 32, 32)),
    "resnet_50": Network(partial(resnet, depth=50, width=1 / 16, classes=10), (3, 32, 32)),
}
