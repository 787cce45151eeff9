"""Converters of nodes that move values without computing. Most of them only change how an activation is
looked at (see layout.py) and add no operator at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager import numerics
from model_packager.errors import ImportRefused
from model_packager.format_table import OperatorKind
from model_packager.importers.onnx import layout
from model_packager.importers.onnx.graph import ELEMENTS_LIMIT, Graph
from model_packager.importers.onnx.layout import Shape, Value
from model_packager.importers.onnx.source import SourceNode

Array = npt.NDArray[Any]


def _axis(axis: int, rank: int) -> int:
    """A possibly negative axis as a position in the shape."""
    if not -rank <= axis < rank:
        raise ImportRefused(f"its axis {axis} is outside {rank} dimensions")
    return axis % rank


def _require_rank_4(value: Value) -> int:
    if len(value.shape) > 4:
        raise ImportRefused(f"its input has the shape {value.shape}; at most four dimensions are supported")
    return len(value.shape)


# ------------------------------------------------------------------------------ the same elements in order


def convert_identity(graph: Graph, node: SourceNode) -> None:
    """Identity, and Dropout, which does nothing at inference."""
    graph.set_value(node, graph.value(node))


def _reshape(graph: Graph, node: SourceNode, shape: Shape) -> None:
    value = graph.value(node)
    if math.prod(shape) != value.element_count or min(shape, default=1) < 1:
        raise ImportRefused(f"it turns {value.shape} into {shape}")
    graph.set_value(node, Value(value.tensor, shape, value.factors))


def convert_reshape(graph: Graph, node: SourceNode) -> None:
    value = graph.value(node)
    wanted = graph.integers(node, "shape", 1) or []
    if not node.integer("allowzero", 0):
        if any(size == 0 and place >= len(value.shape) for place, size in enumerate(wanted)):
            raise ImportRefused(f"it turns {value.shape} into {wanted}")
        wanted = [value.shape[place] if size == 0 else size for place, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        wanted = [value.element_count // max(rest, 1) if size == -1 else size for size in wanted]
    _reshape(graph, node, tuple(wanted))


def convert_flatten(graph: Graph, node: SourceNode) -> None:
    shape = graph.value(node).shape
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ImportRefused(f"its axis {axis} is outside {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    _reshape(graph, node, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def convert_squeeze(graph: Graph, node: SourceNode) -> None:
    shape = graph.value(node).shape
    axes = graph.integers(node, "axes", 1)
    dropped = (
        {axis for axis, size in enumerate(shape) if size == 1}
        if axes is None
        else {_axis(axis, len(shape)) for axis in axes}
    )
    if any(shape[axis] != 1 for axis in dropped):
        raise ImportRefused(f"it drops the axes {sorted(dropped)} of the shape {shape}")
    _reshape(graph, node, tuple(size for axis, size in enumerate(shape) if axis not in dropped))


def convert_unsqueeze(graph: Graph, node: SourceNode) -> None:
    shape = list(graph.value(node).shape)
    axes = graph.integers(node, "axes", 1) or []
    rank = len(shape) + len(axes)
    for axis in sorted(_axis(axis, rank) for axis in axes):
        shape.insert(axis, 1)
    _reshape(graph, node, tuple(shape))


def convert_transpose(graph: Graph, node: SourceNode) -> None:
    value = graph.value(node)
    rank = len(value.shape)
    permutation = graph.integers(node, "perm") or list(reversed(range(rank)))
    if sorted(permutation) != list(range(rank)):
        raise ImportRefused(f"its permutation is {permutation} for {rank} dimensions")
    shape = tuple(value.shape[axis] for axis in permutation)
    tensor, factors = value.tensor, layout.in_order(value.factors, value.shape, permutation)
    if factors is None:
        tensor = graph.arranged(value, range(rank))
        factors = layout.in_order(layout.row_major(value.shape), value.shape, permutation)
        assert factors is not None
    graph.set_value(node, Value(tensor, shape, factors))


# --------------------------------------------------------------------------------------- slices and joints


def convert_concat(graph: Graph, node: SourceNode) -> None:
    if not node.inputs or len(node.inputs) > 16:
        raise ImportRefused(f"it has {len(node.inputs)} inputs; 1 to 16 are supported")
    values = [graph.value(node, position) for position in range(len(node.inputs))]
    rank = _require_rank_4(values[0])
    axis = _axis(node.integer("axis", 1), rank)
    shape = list(values[0].shape)
    for other in values[1:]:
        if len(other.shape) != rank or any(
            size != other.shape[place] for place, size in enumerate(shape) if place != axis
        ):
            raise ImportRefused(f"its inputs have the shapes {[value.shape for value in values]}")
    shape[axis] = sum(value.shape[axis] for value in values)
    order = graph.natural_order(max(values, key=lambda value: value.element_count))
    inputs = [graph.arranged(value, order) for value in values]
    attributes = {"axis": order.index(axis) + 4 - rank}
    graph.add_result(node, OperatorKind.CONCATENATION, inputs, tuple(shape), order, attributes=attributes)


def _slice(
    graph: Graph,
    node: SourceNode,
    begins: dict[int, int],
    strides: dict[int, int],
    shape: Shape,
    position: int = 0,
) -> int:
    """One SLICE: from each axis's beginning on (0 where none is given), as many cells as `shape` says."""
    value = graph.value(node)
    rank = _require_rank_4(value)
    if min(shape) < 1:
        raise ImportRefused(f"it takes {shape} of the shape {value.shape}")
    order = graph.natural_order(value)
    places = {axis: order.index(axis) + 4 - rank for axis in range(rank)}
    attributes = {f"begin_{places[axis]}": begin for axis, begin in begins.items()}
    attributes |= {f"stride_{places[axis]}": stride for axis, stride in strides.items()}
    tensor = graph.arranged(value, order)
    return graph.add_result(
        node, OperatorKind.SLICE, [tensor], shape, order, position=position, attributes=attributes
    )


def convert_split(graph: Graph, node: SourceNode) -> None:
    """Split: one SLICE for each output."""
    value = graph.value(node)
    axis = _axis(node.integer("axis", 0), len(value.shape))
    size, parts = value.shape[axis], len(node.outputs)
    sizes = graph.integers(node, "split", 1)
    if sizes is None:
        share = -(-size // parts)
        sizes = [share] * (parts - 1) + [size - share * (parts - 1)]
    if len(sizes) != parts or sum(sizes) != size or min(sizes) < 1:
        raise ImportRefused(f"it splits {size} cells into {sizes}")
    begin = 0
    for position, taken in enumerate(sizes):
        if node.outputs[position]:
            shape = (*value.shape[:axis], taken, *value.shape[axis + 1 :])
            _slice(graph, node, {axis: begin}, {}, shape, position)
        begin += taken


def convert_slice(graph: Graph, node: SourceNode) -> None:
    """Slice with constant limits and positive steps."""
    value = graph.value(node)
    rank = len(value.shape)
    starts, ends = graph.integers(node, "starts", 1) or [], graph.integers(node, "ends", 2) or []
    axes = graph.integers(node, "axes", 3)
    steps = graph.integers(node, "steps", 4)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or min(steps, default=1) < 1:
        raise ImportRefused(f"its starts, ends, axes and steps are {starts}, {ends}, {axes} and {steps}")
    shape, begins, strides = list(value.shape), {}, {}
    for start, end, given, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(given, rank)
        first, last, _ = slice(start, end).indices(value.shape[axis])
        shape[axis] = len(range(first, last, step))
        begins[axis] = first
        strides[axis] = min(step, value.shape[axis])
    if tuple(shape) == value.shape:
        graph.set_value(node, value)
        return
    _slice(graph, node, begins, strides, tuple(shape))


def convert_gather(graph: Graph, node: SourceNode) -> None:
    """Gather of one constant index: a SLICE of one cell whose axis is dropped."""
    value = graph.value(node)
    axis = _axis(node.integer("axis", 0), len(value.shape))
    indices = graph.constant(node, 1, "indices")
    if indices.ndim != 0 or indices.dtype.kind not in "iu":
        raise ImportRefused("only a single constant index is supported")
    size = value.shape[axis]
    if not -size <= int(indices) < size:
        raise ImportRefused(f"its index {int(indices)} is outside {size} cells")
    _require_rank_4(value)
    order = graph.natural_order(value)
    kept = (*value.shape[:axis], 1, *value.shape[axis + 1 :])
    place = order.index(axis) + 4 - len(order)
    output = graph.add_tensor(node.outputs[0], tuple(kept[other] for other in order))
    attributes = {f"begin_{place}": int(indices) % size}
    graph.add(OperatorKind.SLICE, [graph.arranged(value, order)], output, attributes=attributes)
    shape = (*value.shape[:axis], *value.shape[axis + 1 :])
    graph.set_value(node, Value(output, shape, layout.stored_as(kept, order)))


# --------------------------------------------------------------------------------------- pad and resize


def convert_pad(graph: Graph, node: SourceNode) -> None:
    """Pad with a constant."""
    value = graph.value(node)
    rank = _require_rank_4(value)
    mode = node.text("mode", "constant")
    if mode != "constant":
        raise ImportRefused(f"its mode is {mode}; only constant padding is supported")
    pads = graph.integers(node, "pads", 1) or []
    axes = graph.integers(node, "axes", 3)
    axes = list(range(rank)) if axes is None else [_axis(axis, rank) for axis in axes]
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise ImportRefused(f"its pads are {pads} for the shape {value.shape}")
    fill = node.number("value", 0.0)
    if graph.has_input(node, 2):
        constant = graph.floats(node, 2, "fill value")
        if constant.size != 1:
            raise ImportRefused(f"its fill value has {constant.size} elements")
        fill = float(constant.reshape(-1)[0])
    if not any(pads):
        graph.set_value(node, value)
        return
    order = graph.natural_order(value)
    shape = list(value.shape)
    attributes: dict[str, int] = {}
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        shape[axis] += before + after
        stored = order.index(axis) + 4 - rank
        attributes |= {f"before_{stored}": before, f"after_{stored}": after}
    graph.add_result(
        node, OperatorKind.PAD, [graph.arranged(value, order)], tuple(shape), order,
        attributes=attributes, options={"value": fill},
    )  # fmt: skip


def convert_resize(graph: Graph, node: SourceNode) -> None:
    """Resize and Upsample of an image, nearest neighbour."""
    value = graph.value(node)
    tensor, height, width, depth = graph.image(value)
    mode = node.text("mode", "nearest")
    if mode != "nearest":
        raise ImportRefused(f"its mode is {mode}; only nearest is supported")
    if len(value.shape) != 4 or node.attributes.get("axes") is not None:
        raise ImportRefused("only images with scales or sizes for all four axes are supported")
    scales, sizes = _resize_targets(graph, node, value.shape)
    if not 1 <= math.prod(sizes) <= ELEMENTS_LIMIT or sizes[:2] != value.shape[:2]:
        raise ImportRefused(f"it resizes {value.shape} to {sizes}, not height and width alone")
    flags = _resize_flags(graph, node, ((height, sizes[2], scales[2]), (width, sizes[3], scales[3])))
    graph.add_result(
        node, OperatorKind.RESIZE_NEAREST, [tensor], sizes, layout.channels_last(4),
        stored=(1, sizes[2], sizes[3], depth), attributes=flags,
    )  # fmt: skip


def _resize_targets(graph: Graph, node: SourceNode, shape: Shape) -> tuple[list[float], Shape]:
    """(scale, size) of each axis from the constant scales or sizes."""
    if node.kind == "Resize" and graph.has_input(node, 3):
        sizes = graph.integers(node, "sizes", 3) or []
        if len(sizes) != 4 or min(sizes) < 1:
            raise ImportRefused(f"its sizes are {sizes}")
        if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise ImportRefused("it keeps the aspect ratio")
        return [new / old for new, old in zip(sizes, shape, strict=True)], tuple(sizes)
    position = 1 if node.kind == "Upsample" or graph.opset < 11 else 2
    scales = [float(item) for item in graph.floats(node, position, "scales").reshape(-1)]
    if len(scales) != 4 or min(scales) <= 0:
        raise ImportRefused(f"its scales are {scales}")
    return scales, tuple(math.floor(size * scale) for size, scale in zip(shape, scales, strict=True))


def _resize_flags(graph: Graph, node: SourceNode, axes: tuple[tuple[int, int, float], ...]) -> dict[str, int]:
    """The pair of flags with which RESIZE_NEAREST picks the very cells that the node picks."""
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    rounding = node.text("nearest_mode", "round_prefer_floor")
    if node.kind == "Upsample" or graph.opset < 11:
        coordinates, rounding = "asymmetric", "floor"
    wanted = [_onnx_cells(coordinates, rounding, size, new, scale) for size, new, scale in axes]
    for align_corners in (0, 1):
        for half_pixel in (0, 1):
            if all(
                np.array_equal(
                    numerics.nearest_indices(size, new, bool(align_corners), bool(half_pixel)), cells
                )
                for (size, new, _), cells in zip(axes, wanted, strict=True)
            ):
                return {"align_corners": align_corners, "half_pixel_centers": half_pixel}
    raise ImportRefused(
        f"its nearest_mode {rounding} with {coordinates} picks cells that RESIZE_NEAREST cannot"
    )


def _onnx_cells(coordinates: str, rounding: str, size: int, new: int, scale: float) -> Array:
    """Input cell of each output cell along one axis. Source: ONNX operator Resize."""
    out = np.arange(new, dtype=np.float64)
    if coordinates == "asymmetric":
        position = out / scale
    elif coordinates == "align_corners":
        position = out * (size - 1) / (new - 1) if new > 1 else out * 0
    elif coordinates in ("half_pixel", "pytorch_half_pixel"):
        position = (out + 0.5) / scale - 0.5
        if coordinates == "pytorch_half_pixel" and new == 1:
            position = out * 0
    else:
        raise ImportRefused(f"its coordinate_transformation_mode is {coordinates}")
    rounders: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
    if rounding not in rounders:
        raise ImportRefused(f"its nearest_mode is {rounding}")
    return np.clip(rounders[rounding](position), 0, size - 1).astype(np.int64)
