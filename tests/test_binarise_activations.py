"""Binary networks from float graphs: signs become bits, batch norms thresholds, and no decision changes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from model_packager import container, reference
from model_packager.format_table import DType, OperatorKind
from model_packager.importers.onnx import import_onnx
from model_packager.model import Array, Model, Operator, Port, Tensor, Weights
from model_packager.pack import pack
from model_packager.passes.binarise_activations import binarise_activations, order_signs, sign_bias
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.quantise import quantise_model
from tests.onnx_models import build, imported_outputs, original_outputs


class FloatNetwork:
    """Appends float operators; each method returns the index of the tensor that it makes."""

    def __init__(self, seed: int, *shape: int) -> None:
        self.random = np.random.default_rng(seed)
        self.model = Model([Tensor("x", (1, *shape), DType.FLOAT32)], inputs=[Port(0, "x")])

    def append(self, kind: OperatorKind, source: int, shape: tuple[int, ...], **attributes: int) -> int:
        self.model.tensors.append(Tensor(f"t{len(self.model.tensors)}", shape, DType.FLOAT32))
        output = len(self.model.tensors) - 1
        self.model.operators.append(Operator(kind, [source], [output], dict(attributes), name=f"o{output}"))
        return output

    def _weigh(self, rows: int, cols: int, binary: bool = True) -> None:
        scales = self.random.uniform(0.01, 0.3, (rows, 1))
        values = np.where(self.random.random((rows, cols)) < 0.5, -scales, scales)
        values = values if binary else self.random.normal(0, 0.1, (rows, cols))
        self.model.operators[-1].weights = Weights(values.astype(np.float32))

    def conv(self, source: int, channels: int, kernel: int = 3, pad: int = 1, binary: bool = True) -> int:
        _, height, width, depth = self.model.tensors[source].shape
        size = height + 2 * pad - kernel + 1, width + 2 * pad - kernel + 1
        pads = dict.fromkeys(("pad_top", "pad_bottom", "pad_left", "pad_right"), pad)
        shape = (1, *size, channels)
        output = self.append(OperatorKind.CONV_2D, source, shape, kernel_h=kernel, kernel_w=kernel, **pads)
        self._weigh(channels, kernel * kernel * depth, binary)
        return output

    def fully_connected(self, source: int, units: int, binary: bool = True) -> int:
        output = self.append(OperatorKind.FULLY_CONNECTED, source, (1, units))
        self._weigh(units, self.model.tensors[source].element_count, binary)
        return output

    def norm(self, source: int, spread: float = 1.0) -> int:
        """A batch norm with factors of both signs and, in channel 0, of zero."""
        shape = self.model.tensors[source].shape
        output = self.append(OperatorKind.DEPTHWISE_CONV_2D, source, shape)
        factors = self.random.normal(0, 1, (shape[-1], 1))
        factors[0] = 0
        self.model.operators[-1].weights = Weights(factors.astype(np.float32))
        self.model.operators[-1].bias = self.random.normal(0, spread, shape[-1]).astype(np.float32)
        return output

    def sign(self, source: int) -> int:
        output = self.append(OperatorKind.LOOKUP, source, self.model.tensors[source].shape)
        self.model.operators[-1].options["function"] = "sign"
        return output

    def pool(self, source: int) -> int:
        _, height, width, depth = self.model.tensors[source].shape
        window = {"kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2}
        return self.append(OperatorKind.MAX_POOL_2D, source, (1, height // 2, width // 2, depth), **window)

    def flatten(self, source: int) -> int:
        return self.append(OperatorKind.RESHAPE, source, (1, self.model.tensors[source].element_count))

    def finish(self, tensor: int) -> Model:
        self.model.outputs.append(Port(tensor, "y"))
        return self.model


def network(seed: int, pool_first: bool = True) -> Model:
    """Blocks of convolution, pool, batch norm and sign, the pool before (XNOR-Net) or behind the others."""
    net = FloatNetwork(seed, 8, 8, 3)
    tensor = net.sign(net.norm(net.conv(0, 35, binary=False), 20))
    tensor = net.conv(tensor, 37)
    tensor = net.sign(net.norm(net.pool(tensor))) if pool_first else net.pool(net.sign(net.norm(tensor)))
    tensor = net.sign(net.norm(net.conv(tensor, 6)))
    tensor = net.sign(net.norm(net.fully_connected(net.flatten(tensor), 40)))
    return net.finish(net.norm(net.fully_connected(tensor, 5)))


def samples_of(model: Model, count: int = 40) -> Array:
    random = np.random.default_rng(3)
    return random.integers(-128, 128, (count, *model.tensors[0].shape[1:])).astype(np.float32)


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_order_signs_keeps_every_output(seed: int, pool_first: bool) -> None:
    model = network(seed, pool_first)
    ordered = order_signs(model)
    kinds = [operator.kind for operator in ordered.operators]
    pool = kinds.index(OperatorKind.MAX_POOL_2D)
    assert ordered.operators[pool - 1].options.get("function") == "sign"
    before, after = (reference.run(each, [samples_of(model)])[0] for each in (model, ordered))
    assert np.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_quantise_model_of_a_binary_network_has_bits_between_its_layers(seed: int, pool_first: bool) -> None:
    model = network(seed, pool_first)
    samples = samples_of(model)
    quantised = quantise_model(model, [samples])
    bits = [tensor for tensor in quantised.tensors if tensor.dtype is DType.BIT]
    assert len(bits) == 5 and not any(o.kind is OperatorKind.RESHAPE for o in quantised.operators)
    for operator in quantised.operators:
        if operator.weights is not None and quantised.reads_bits(operator):
            assert np.all(np.abs(operator.weights.values) == 1)


@pytest.mark.parametrize("seed", range(4))
def test_quantised_decisions_behind_the_first_layer_are_those_of_the_float_network(seed: int) -> None:
    model = network(seed)
    samples = samples_of(model)
    prepared = binarise_activations(fold_batch_norm(order_signs(model)))
    quantised = quantise_model(model, [samples], bias_correction=False)
    found = reference.run_all(quantised, [samples.astype(np.int8)])
    # The float network goes on from the bits that the int8 layer gave.
    rest = prepared
    rest.inputs = [Port(rest.operators[0].outputs[0], "bits")]
    rest.operators = rest.operators[1:]
    values = {rest.inputs[0].tensor: found[rest.inputs[0].tensor].astype(np.float32)}
    for operator in rest.operators:
        source, output = operator.inputs[0], operator.outputs[0]
        part = Model(
            [Tensor("in", rest.tensors[source].shape, DType.FLOAT32),
             Tensor("out", rest.tensors[output].shape, DType.FLOAT32)],
            [Operator(operator.kind, [0], [1], operator.attributes, operator.weights, operator.bias,
                      options=operator.options)],
            [Port(0, "in")], [Port(1, "out")],
        )  # fmt: skip
        values[output] = reference.run(part, [values[source]])[0]
        if quantised.tensors[output].dtype is DType.BIT:
            assert np.array_equal(values[output], found[output])
    assert len(values) > 4


def test_pack_of_a_binary_network_gives_the_integer_models_outputs() -> None:
    model = network(0)
    samples = samples_of(model)
    packed = pack(model, calibration={"x": samples})
    loaded = container.load(packed.data)
    inputs = [samples.astype(np.int8)]
    assert np.array_equal(reference.run(loaded, inputs)[0], reference.run(packed.model, inputs)[0])
    assert sum(tensor.dtype is DType.BIT for tensor in loaded.tensors) == 5


def test_binarise_activations_keeps_a_table_where_weights_are_not_binary() -> None:
    net = FloatNetwork(1, 4, 4, 2)
    tensor = net.sign(net.conv(0, 8))
    model = net.finish(net.conv(tensor, 3, binary=False))
    result = binarise_activations(model)
    assert [operator.kind for operator in result.operators] == [
        OperatorKind.CONV_2D, OperatorKind.LOOKUP, OperatorKind.CONV_2D,
    ]  # fmt: skip
    table = quantise_model(model, [samples_of(model)]).operators[1].table
    assert table is not None and set(table.tolist()) == {-1, 1}


@pytest.mark.parametrize("seed", range(20))
def test_sign_bias_decides_as_the_real_condition_for_every_accumulator(seed: int) -> None:
    """Scales and offsets of many sizes, and offsets that make the condition 0 at a whole accumulator."""
    random = np.random.default_rng(seed)
    k = int(random.integers(1, 200))
    scales = np.exp(random.uniform(-20, 20, 40))
    offsets = scales * random.integers(-k - 2, k + 3, 40) * random.choice([0, 1, 1 + 1e-16, 1.5], 40)
    scales[:3], offsets[:3] = 0, (-1, 0, 1)
    bias = sign_bias(scales, offsets, np.full(40, -k), np.full(40, k))
    for acc in range(-k, k + 1):
        wanted = [Fraction(s) * acc + Fraction(o) >= 0 for s, o in zip(scales, offsets, strict=True)]
        assert ((acc + bias >= 0) == wanted).all()
    assert (np.abs(bias) <= k + 1).all()


def binary_onnx(scaled: bool) -> bytes:
    """A network as PyTorch exports it, batch norm and all; `scaled` with QuantizeLinear where int8 stays."""
    random = np.random.default_rng(7)
    constants: dict[str, np.ndarray | np.generic] = {
        "w1": random.normal(0, 1, (40, 2, 3, 3)).astype(np.float32),
        "w2": random.uniform(0.1, 1, (6, 1, 1, 1)).astype(np.float32) * random.choice([-1, 1], (6, 40, 3, 3)),
        "w3": random.choice([-0.5, 0.5], (5, 96)),
        "xs": np.float32(1 / 64), "ys": np.float32(1 / 4), "zp": np.int8(0),
    }  # fmt: skip
    for name, rows in (("a", 40), ("b", 6)):
        constants |= {f"{name}{part}": random.normal(0, 1, rows).astype(np.float32) for part in "gbm"}
        constants[f"{name}v"] = random.uniform(0.5, 2, rows).astype(np.float32)
    constants = {
        name: value if value.dtype == np.int8 else value.astype(np.float32)
        for name, value in constants.items()
    }
    first = (
        "xq = QuantizeLinear(x, xs, zp) x1 = DequantizeLinear(xq, xs, zp)" if scaled else "x1 = Identity(x)"
    )
    last = (
        "yq = QuantizeLinear(y, ys, zp) out = DequantizeLinear(yq, ys, zp)" if scaled else "out = Identity(y)"
    )
    nodes = f"""
        {first}
        c1 = Conv<pads=[1,1,1,1]>(x1, w1)
        n1 = BatchNormalization(c1, ag, ab, am, av)
        s1 = Sign(n1)
        c2 = Conv<pads=[1,1,1,1]>(s1, w2)
        p2 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c2)
        n2 = BatchNormalization(p2, bg, bb, bm, bv)
        s2 = Sign(n2)
        f = Flatten(s2)
        y = Gemm<transB=1>(f, w3)
        {last}"""
    return build(nodes, {"x": (1, 2, 8, 8)}, constants)


def test_import_onnx_of_a_scaled_binary_network_gives_bits_and_the_originals_outputs() -> None:
    data = binary_onnx(scaled=True)
    model = import_onnx(data)
    assert sum(tensor.dtype is DType.BIT for tensor in model.tensors) == 3
    inputs = {"x": np.random.default_rng(2).normal(0, 0.6, (20, 2, 8, 8)).astype(np.float32)}
    found, wanted = imported_outputs(model, inputs)[0], original_outputs(data, inputs)[0]
    # The first layer's int8 weights turn some bits; the outputs of the two stay close.
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


def test_import_onnx_of_a_float_binary_network_is_the_original() -> None:
    data = binary_onnx(scaled=False)
    inputs = {"x": np.random.default_rng(2).normal(0, 0.6, (20, 2, 8, 8)).astype(np.float32)}
    model = import_onnx(data)
    found, wanted = imported_outputs(model, inputs)[0], original_outputs(data, inputs)[0]
    assert np.allclose(found.ravel(), wanted.ravel(), atol=1e-4)
    packed = pack(model, calibration=inputs)
    assert sum(tensor.dtype is DType.BIT for tensor in packed.model.tensors) == 3
