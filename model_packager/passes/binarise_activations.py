"""Makes binary networks run binary: signs between layers with binary weights become tensors of bits.

How a BNN (Courbariaux et al. 2016) or XNOR-Net (Rastegari et al. 2016) comes in: a float model, from ONNX or
PyTorch, of blocks

    convolution or fully connected, rows of weights -a and +a  ->  batch norm  ->  sign  [-> max pool]

in any order of pool, batch norm and sign. ``torch.sign`` exports as Sign, batch norm as itself. In a float
model (``import_module``, then ``quantise_model``) and in one with scales (QuantizeLinear around the layers
that stay int8) this is all that is needed; nothing has to be marked. What comes out of the packager:

- Sign, whose 0 counts as +1, is fused into the layer before it; its output is a BIT tensor where all that
  read it, through max pools, pads with -1 and flattening, are layers with binary rows. Else it is a table.
- Those layers have weights -1 and +1; a, the scale of the row, goes into thresholds or requantisation.
- Batch norm is in the thresholds: acc >= -floor(o / s) is s * acc + o >= 0 for every integer acc, computed
  in exact arithmetic (``sign_bias``); s has the scale of the row, a, gamma and sigma in it. A negative gamma
  turns the row's signs, so that s > 0.
- The first layer may have int8 inputs and weights, the last one int8 outputs.
- XNOR-Net's factors K (the mean magnitude around each position) are not representable: export without them.

``order_signs`` comes before batch norms are folded, ``binarise_activations`` after; ``passes.quantise`` and
the importer of ONNX models with scales call both.
"""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from model_packager.format_table import DType, OperatorKind
from model_packager.model import Model, Operator, bit_channels
from model_packager.passes.graph_edges import consumers, producer, remove_operator, sole_consumer
from model_packager.reference.executor import attributes_of

Array = npt.NDArray[Any]

_LAYERS = (OperatorKind.CONV_2D, OperatorKind.FULLY_CONNECTED)
_EQUAL_MAGNITUDES = 1e-6  # relative: rows are scaled in float32


def is_sign(operator: Operator) -> bool:
    return operator.kind is OperatorKind.LOOKUP and operator.options.get("function") == "sign"


# ------------------------------------------------------------------------------------------ order of signs


def order_signs(model: Model) -> Model:
    """A new float model in which signs stand before max pools, not behind them: the sign of the largest value
    is the largest sign. A batch norm between goes with its sign; where it turns the order round (a negative
    factor), the channel is inverted and the weights that read it are negated, or the pool stays where it is.
    """
    ordered = copy.deepcopy(model)
    for index in range(len(ordered.operators)):
        if ordered.operators[index].kind is OperatorKind.MAX_POOL_2D:
            _order(ordered, index)
    return ordered


def _order(model: Model, pool_index: int) -> None:
    chain = [pool_index]
    following = sole_consumer(model, pool_index)
    if following is not None and _is_scaling(model.operators[following]):
        chain.append(following)
        following = sole_consumer(model, following)
    if following is None or not is_sign(model.operators[following]):
        return
    chain.append(following)
    pool, sign = model.operators[chain[0]], model.operators[chain[-1]]
    if len(chain) == 3 and not _keep_order(model, model.operators[chain[1]], sign):
        return
    first, last = pool.inputs[0], sign.outputs[0]
    operators = [model.operators[index] for index in (*chain[1:], chain[0])]
    shape = model.tensors[first].shape
    for operator in operators[:-1]:
        operator.inputs = [first]
        # The tensors before and behind the pool change places.
        first = operator.outputs[0] if operator is not sign else pool.outputs[0]
        operator.outputs = [first]
        model.tensors[first].shape = shape
    pool.inputs, pool.outputs = [first], [last]
    for index, operator in zip(sorted(chain), operators, strict=True):
        model.operators[index] = operator


def _is_scaling(operator: Operator) -> bool:
    """A batch norm: a 1x1 depthwise convolution with one weight for each channel."""
    if operator.kind is not OperatorKind.DEPTHWISE_CONV_2D or operator.weights is None:
        return False
    attributes = attributes_of(operator)
    pads = [value for name, value in attributes.items() if name.startswith("pad_")]
    strides = attributes["stride_h"], attributes["stride_w"]
    plain = not any(pads) and strides == (1, 1) and operator.options.get("activation", "none") == "none"
    return plain and operator.weights.values.shape[1] == 1


def _keep_order(model: Model, scaling: Operator, sign: Operator) -> bool:
    """Make all factors of a batch norm positive, so that it may stand before a max pool."""
    assert scaling.weights is not None
    negative = scaling.weights.values[:, 0] < 0
    if not negative.any():
        return True
    readers = _layers_behind(model, sign.outputs[0])
    channels = len(negative)
    if readers is None:
        return False
    turn = np.where(negative, -1, 1).astype(np.float32)
    scaling.weights.values = scaling.weights.values * turn[:, np.newaxis]
    bias = np.zeros(channels, np.float32) if scaling.bias is None else scaling.bias
    # An inverted bit is 1 where the value is above the threshold: 0 itself still counts as +1.
    scaling.bias = np.where(negative, np.nextafter(-bias, np.float32(-np.inf)), bias).astype(np.float32)
    for reader in readers:
        assert reader.weights is not None
        shape = reader.weights.values.shape
        cells = reader.weights.values.reshape(shape[0], -1, channels)
        reader.weights.values = (cells * turn).reshape(shape)
    return True


def _layers_behind(model: Model, tensor: int) -> list[Operator] | None:
    """The layers that read a tensor, also flattened; None where something else does."""
    if any(port.tensor == tensor for port in model.outputs):
        return None
    found: list[Operator] = []
    for index in consumers(model, tensor):
        reader = model.operators[index]
        layers: list[Operator] | None = None
        if reader.kind in _LAYERS and reader.attributes.get("groups", 1) == 1:
            layers = [reader]
        elif reader.kind is OperatorKind.RESHAPE:
            layers = _layers_behind(model, reader.outputs[0])
        if layers is None:
            return None
        found += layers
    return found


# ------------------------------------------------------------------------------------------ tensors of bits


def binarise_activations(model: Model) -> Model:
    """A new model with float operators in which fusable signs are the ``activation`` "sign" of the layer
    before, and their outputs BIT tensors; flattening in front of a fully connected layer that reads bits is
    gone. Batch norms are folded already."""
    result = copy.deepcopy(model)
    index = 0
    while index < len(result.operators):
        if is_sign(result.operators[index]):
            index = _binarise(result, index)
        index += 1
    return result


def _binarise(model: Model, sign_index: int) -> int:
    """Fuse one sign, if that can be; returns the index of the operator that stands there now."""
    sign = model.operators[sign_index]
    before = producer(model, sign.inputs[0])
    if before is None or sole_consumer(model, before) != sign_index:
        return sign_index
    layer = model.operators[before]
    plain = layer.kind in _LAYERS and layer.options.get("activation", "none") == "none"
    found = _bit_tensors(model, sign.outputs[0])
    flat = model.tensors[sign.outputs[0]].element_count == model.tensors[sign.outputs[0]].shape4[3]
    if not plain or found is None or (layer.kind is OperatorKind.FULLY_CONNECTED and not flat):
        return sign_index
    for tensor in found:
        model.tensors[tensor].dtype = DType.BIT
        model.tensors[tensor].scale, model.tensors[tensor].zero_point = 1.0, 0
    layer.options["activation"] = "sign"
    remove_operator(model, sign_index, keep_output_of=before)
    _drop_flattening(model)
    return sign_index - 1


def _bit_tensors(model: Model, tensor: int) -> list[int] | None:
    """The tensor and those behind it that hold bits until layers with binary rows read them; None where
    something else reads one of them."""
    readers = consumers(model, tensor)
    if not readers or any(port.tensor == tensor for port in model.outputs):
        return None
    found = [tensor]
    for index in readers:
        reader = model.operators[index]
        if reader.kind in _LAYERS:
            if not _reads_bits(reader):
                return None
            continue
        if not _passes_bits(model, index):
            return None
        behind = _bit_tensors(model, reader.outputs[0])
        if behind is None:
            return None
        found += behind
    return found


def _passes_bits(model: Model, index: int) -> bool:
    operator = model.operators[index]
    if operator.kind is OperatorKind.MAX_POOL_2D:
        return operator.options.get("activation", "none") == "none"
    if operator.kind is OperatorKind.PAD:
        channels = operator.attributes.get("before_3", 0), operator.attributes.get("after_3", 0)
        return operator.options.get("value", 0.0) == -1 and channels == (0, 0)
    readers = [model.operators[reader] for reader in consumers(model, operator.outputs[0])]
    flattens = operator.kind is OperatorKind.RESHAPE and model.tensors[operator.inputs[0]].shape4[0] == 1
    return flattens and all(reader.kind is OperatorKind.FULLY_CONNECTED for reader in readers)


def _reads_bits(layer: Operator) -> bool:
    attributes = attributes_of(layer)
    ones = [attributes.get(name, 1) for name in ("groups", "dilation_h", "dilation_w")]
    return ones == [1, 1, 1] and layer.weights is not None and _is_binary(layer.weights.values)


def _is_binary(values: Array) -> bool:
    """Whether each row has one magnitude."""
    magnitudes = np.abs(values.astype(np.float64))
    return bool((np.ptp(magnitudes, axis=1) <= _EQUAL_MAGNITUDES * magnitudes.max(axis=1)).all())


def _drop_flattening(model: Model) -> None:
    """Fully connected layers read the cells of bits where they are: flat channels would not fill words."""
    for index in range(len(model.operators) - 1, -1, -1):
        operator = model.operators[index]
        is_bit = model.tensors[operator.inputs[0]].dtype is DType.BIT
        if operator.kind is not OperatorKind.RESHAPE or not is_bit:
            continue
        for reader in consumers(model, operator.outputs[0]):
            model.operators[reader].inputs = list(operator.inputs)
        del model.operators[index]


# ----------------------------------------------------------------------------------------------- integers


def binary_rows(values: Array, channels: int) -> tuple[Array, Array]:
    """(int8 -1 and +1, float64 scales (rows,)) of a matrix (rows, cells * channels) whose rows have one
    magnitude each: real = scale * value. Each cell is filled up with -1 to whole words. A row of zeros has
    the scale 0."""
    rows = len(values)
    signs = np.where(values >= 0, 1, -1).reshape(rows, -1, channels)
    filled = np.full((rows, signs.shape[1], bit_channels(channels)), -1, np.int8)
    filled[:, :, :channels] = signs
    return filled.reshape(rows, -1), np.abs(values.astype(np.float64)).max(axis=1)


def sign_bias(scales: Array, offsets: Array, low: Array, high: Array) -> Array:
    """int32 (rows,): the bias b for which acc + b >= 0 is the condition scale * acc + offset >= 0, for every
    integer acc from `low` to `high`; all (rows,), scales >= 0. It is floor(offset / scale), computed without
    rounding and clamped to where the decision no longer changes, -high - 1 (never) to -low (always)."""
    found = []
    for scale, offset, least, most in zip(scales, offsets, low, high, strict=True):
        if scale > 0:
            step = Fraction(float(offset)) // Fraction(float(scale))
        else:
            step = -int(least) if offset >= 0 else -int(most) - 1
        found.append(min(max(step, -int(most) - 1), -int(least)))
    return np.array(found, np.int64).astype(np.int32)
