"""One-operator cases for numerics.py: drawn at random, written as .tflite, predicted in NumPy, kept as JSON.

A case is a kind, its scalar parameters and its arrays. `KINDS` maps a kind to three functions: `draw`
makes a case from a random generator, `model` writes its .tflite, `predict` computes its output with
model_packager.numerics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tflite_models

from model_packager import numerics

ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
EVERY_INPUT = np.arange(-128, 128).astype(np.int8).reshape(1, 256)


@dataclass
class Case:
    """A kind of operator, scalars by name, arrays by name; `x` (and `x2`) are the model's inputs."""

    kind: str
    parameters: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def inputs(self) -> list[np.ndarray]:
        return [self.arrays[name] for name in ("x", "x2") if name in self.arrays]

    def to_json(self) -> dict[str, Any]:
        arrays = {name: array_to_json(array) for name, array in self.arrays.items()}
        return {"kind": self.kind, "parameters": self.parameters, "arrays": arrays}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        arrays = {name: array_from_json(value) for name, value in fields["arrays"].items()}
        return cls(fields["kind"], fields["parameters"], arrays)


def array_to_json(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": array.ravel().tolist()}


def array_from_json(fields: dict[str, Any]) -> np.ndarray:
    return np.array(fields["values"], fields["dtype"]).reshape(fields["shape"])


class Kind(NamedTuple):
    draw: Callable[[np.random.Generator], Case]
    model: Callable[[Case], bytes]
    predict: Callable[[Case], np.ndarray]


def _scale(rng: np.random.Generator, low: float = 1e-3, high: float = 3.0) -> float:
    """A float32 scale, log-uniform in [low, high], as the double of the same value."""
    return float(np.float32(np.exp(rng.uniform(np.log(low), np.log(high)))))


def _zero_point(rng: np.random.Generator) -> int:
    return int(rng.integers(-128, 128))


def _int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape, dtype=np.int8)


def _pair(p: dict[str, Any], name: str) -> tuple[float, int]:
    return p[f"{name}_scale"], p[f"{name}_zero_point"]


def _clamp(p: dict[str, Any], c: Case) -> tuple[int, int]:
    limits = np.iinfo(c.arrays["x"].dtype)
    return numerics.activation_range(p["activation"], *_pair(p, "out"), limits.min, limits.max)


# --- convolution, depthwise, fully connected ----------------------------------------------------------------


def _draw_window(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "in_scale": _scale(rng),
        "in_zero_point": _zero_point(rng),
        "out_zero_point": _zero_point(rng),
        "stride": [int(rng.integers(1, 3)), int(rng.integers(1, 3))],
        "dilation": [int(rng.integers(1, 3)), int(rng.integers(1, 3))],
        "padding": str(rng.choice(["SAME", "VALID"])),
        "activation": str(rng.choice(ACTIVATIONS)),
    }


def _draw_sums(rng: np.random.Generator, p: dict[str, Any], channels: int, per_channel: bool) -> np.ndarray:
    """Add weight scales and an output scale that neither saturates nor zeroes outputs; return biases."""
    p["weight_scales"] = [_scale(rng, 1e-3, 0.1) for _ in range(channels if per_channel else 1)]
    p["out_scale"] = float(np.float32(_scale(rng, 20, 500) * p["in_scale"] * max(p["weight_scales"])))
    return rng.integers(-5000, 5000, channels).astype(np.int32)


def _draw_conv(rng: np.random.Generator, groups: int = 1) -> Case:
    depth, channels = int(rng.integers(1, 4)) * groups, int(rng.integers(1, 3)) * groups
    p = _draw_window(rng)
    bias = _draw_sums(rng, p, channels, per_channel=bool(rng.integers(0, 3)))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    weights = rng.integers(-127, 128, (channels, *kernel, depth // groups), dtype=np.int8)
    return Case("conv_2d", p, {"x": _int8(rng, 1, 6, 7, depth), "weights": weights, "bias": bias})


def _window_model(write: Callable[..., bytes], c: Case) -> bytes:
    p = c.parameters
    return write(
        c.arrays["x"].shape, c.arrays["weights"], c.arrays["bias"], _pair(p, "in"), p["weight_scales"],
        _pair(p, "out"), tuple(p["stride"]), p["padding"], tuple(p["dilation"]), p["activation"],
        c.arrays["x"].dtype,
    )  # fmt: skip


def _draw_int16(kind: str, rng: np.random.Generator) -> Case:
    """A convolution, depthwise convolution or fully connected layer on int16; bias int32 or int64."""
    bias_dtypes = (np.int64, np.int64, np.int32) if kind != "depthwise_conv_2d" else (np.int64,)
    p = _draw_window(rng) | {
        "in_zero_point": 0,
        "out_zero_point": 0,
        "activation": str(rng.choice(["NONE", "RELU"])),
    }
    p["stride"][1] = p["stride"][0]
    bias = _draw_sums(rng, p, 3, per_channel=bool(rng.integers(0, 3))).astype(rng.choice(bias_dtypes))
    shape = {"conv_2d": (3, 2, 3, 3), "depthwise_conv_2d": (1, 2, 3, 3), "fully_connected": (3, 30)}[kind]
    x_shape = (2, 30) if kind == "fully_connected" else (1, 6, 7, 3)
    x = rng.integers(-32768, 32768, x_shape).astype(np.int16)
    arrays = {"x": x, "weights": rng.integers(-127, 128, shape, dtype=np.int8), "bias": bias}
    return Case(kind, p, arrays)


def _pads(p: dict[str, Any], shape: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int, int, int]:
    if p["padding"] == "VALID":
        return 0, 0, 0, 0
    dilation = p.get("dilation", (1, 1))
    rows = numerics.same_padding(shape[1], kernel[0], p["stride"][0], dilation[0])
    return rows + numerics.same_padding(shape[2], kernel[1], p["stride"][1], dilation[1])


def _window_predict(accumulate: Callable[..., np.ndarray], c: Case) -> np.ndarray:
    p, x, weights = c.parameters, c.arrays["x"], c.arrays["weights"]
    pads = _pads(p, x.shape, weights.shape[1:3])
    window = (tuple(p["stride"]), pads, tuple(p["dilation"]))
    accumulators = accumulate(x, weights, c.arrays["bias"], p["in_zero_point"], *window)
    channels = accumulators.shape[-1]
    scaling = numerics.conv_multipliers(p["in_scale"], p["weight_scales"], p["out_scale"], channels)
    return numerics.requantise(
        accumulators, *scaling, p["out_zero_point"], *_clamp(p, c), c.arrays["x"].dtype
    )


def _draw_depthwise(rng: np.random.Generator) -> Case:
    depth, multiplier = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    p = _draw_window(rng)
    p["stride"][1] = p["stride"][0]
    bias = _draw_sums(rng, p, depth * multiplier, per_channel=bool(rng.integers(0, 3)))
    kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    weights = rng.integers(-127, 128, (1, *kernel, depth * multiplier), dtype=np.int8)
    arrays = {"x": _int8(rng, 1, 6, 7, depth), "weights": weights, "bias": bias}
    return Case("depthwise_conv_2d", p, arrays)


def _draw_fully_connected(rng: np.random.Generator) -> Case:
    outputs, inputs = int(rng.integers(1, 7)), int(rng.integers(1, 40))
    p = {"in_scale": _scale(rng), "in_zero_point": _zero_point(rng), "out_zero_point": _zero_point(rng)}
    p["activation"] = str(rng.choice(ACTIVATIONS))
    bias = _draw_sums(rng, p, outputs, per_channel=bool(rng.integers(0, 2)))
    weights = rng.integers(-127, 128, (outputs, inputs), dtype=np.int8)
    return Case("fully_connected", p, {"x": _int8(rng, 2, inputs), "weights": weights, "bias": bias})


def _fully_connected_model(c: Case) -> bytes:
    p = c.parameters
    return tflite_models.fully_connected(
        c.arrays["x"].shape, c.arrays["weights"], c.arrays["bias"], _pair(p, "in"), p["weight_scales"],
        _pair(p, "out"), p["activation"], c.arrays["x"].dtype,
    )  # fmt: skip


def _fully_connected_predict(c: Case) -> np.ndarray:
    p = c.parameters
    scales = p["weight_scales"]
    accumulators = numerics.fully_connected_accumulate(
        c.arrays["x"], c.arrays["weights"], c.arrays["bias"], p["in_zero_point"]
    )
    scaling: tuple[Any, Any] = numerics.conv_multipliers(p["in_scale"], scales, p["out_scale"])
    if len(scales) == 1:
        scaling = numerics.fully_connected_multiplier(p["in_scale"], scales[0], p["out_scale"])
    return numerics.requantise(
        accumulators, *scaling, p["out_zero_point"], *_clamp(p, c), c.arrays["x"].dtype
    )


# --- element-wise -------------------------------------------------------------------------------------------


def _draw_binary_int16(kind: str, rng: np.random.Generator) -> Case:
    case = _draw_binary(kind, rng)
    case.parameters |= dict.fromkeys(("in1_zero_point", "in2_zero_point", "out_zero_point"), 0)
    if kind == "mul":
        case.parameters["out_scale"] = float(np.float32(case.parameters["out_scale"] * 100))
    for name, array in case.arrays.items():
        case.arrays[name] = rng.integers(-32768, 32768, array.shape).astype(np.int16)
    return case


def _draw_binary(kind: str, rng: np.random.Generator) -> Case:
    p = {"in1_scale": _scale(rng), "in2_scale": _scale(rng)}
    p |= {name: _zero_point(rng) for name in ("in1_zero_point", "in2_zero_point", "out_zero_point")}
    size = p["in1_scale"] * p["in2_scale"] * 40 if kind == "mul" else max(p["in1_scale"], p["in2_scale"])
    p["out_scale"] = float(np.float32(size * _scale(rng, 0.3, 5)))
    p["activation"] = str(rng.choice(ACTIVATIONS))
    second = (1, 4, 5, 3) if rng.integers(0, 2) else (1, 1, 1, 3)
    return Case(kind, p, {"x": _int8(rng, 1, 4, 5, 3), "x2": _int8(rng, *second)})


def _binary_model(c: Case) -> bytes:
    p, x, x2 = c.parameters, c.arrays["x"], c.arrays["x2"]
    quantisations = (_pair(p, "in1"), _pair(p, "in2"), _pair(p, "out"))
    return tflite_models.binary(
        c.kind.upper(), x.shape, x2.shape, *quantisations, p["activation"], dtype=x.dtype
    )


def _binary_predict(c: Case) -> np.ndarray:
    p, x, x2 = c.parameters, c.arrays["x"], c.arrays["x2"]
    scales = (p["in1_scale"], p["in2_scale"], p["out_scale"])
    zero_points = (p["in1_zero_point"], p["in2_zero_point"], p["out_zero_point"])
    if c.kind == "mul":
        return numerics.mul(x, x2, *numerics.mul_multiplier(*scales), zero_points, *_clamp(p, c))
    left_shift = 15 if x.dtype == np.int16 else 20
    if c.kind == "add":
        return numerics.add(x, x2, numerics.add_parameters(*scales, left_shift), zero_points, *_clamp(p, c))
    return numerics.sub(x, x2, numerics.sub_parameters(*scales, left_shift), zero_points, *_clamp(p, c))


# --- pooling, mean, softmax ---------------------------------------------------------------------------------


def _draw_pool(kind: str, rng: np.random.Generator, dtype: Any = np.int8) -> Case:
    p = {
        "scale": _scale(rng),
        "zero_point": _zero_point(rng),
        "kernel": [int(rng.integers(1, 5)), int(rng.integers(1, 5))],
        "stride": [int(rng.integers(1, 3)), int(rng.integers(1, 3))],
        "padding": str(rng.choice(["SAME", "VALID"])),
        "activation": str(rng.choice(ACTIVATIONS)),
    }
    x = (
        _int8(rng, 1, 6, 7, 2)
        if dtype is np.int8
        else rng.integers(-32768, 32768, (1, 6, 7, 2)).astype(dtype)
    )
    return Case(kind, p, {"x": x})


def _pool_model(c: Case) -> bytes:
    p = c.parameters
    return tflite_models.pool_2d(
        c.kind.upper(), c.arrays["x"].shape, tuple(p["kernel"]), (p["scale"], p["zero_point"]),
        tuple(p["stride"]), p["padding"], p["activation"], c.arrays["x"].dtype,
    )  # fmt: skip


def _pool_predict(c: Case) -> np.ndarray:
    p, x = c.parameters, c.arrays["x"]
    pool = numerics.average_pool_2d if c.kind == "average_pool_2d" else numerics.max_pool_2d
    limits = np.iinfo(x.dtype)
    clamp = numerics.activation_range(p["activation"], p["scale"], p["zero_point"], limits.min, limits.max)
    return pool(x, tuple(p["kernel"]), tuple(p["stride"]), _pads(p, x.shape, p["kernel"]), *clamp)


def _draw_mean(rng: np.random.Generator) -> Case:
    p = {"in_scale": _scale(rng), "in_zero_point": _zero_point(rng), "out_zero_point": _zero_point(rng)}
    p["out_scale"] = float(np.float32(p["in_scale"] * _scale(rng, 0.02, 1.5)))
    p["axes"] = [[1, 2], [2], [1], [3], [1, 2, 3]][int(rng.integers(0, 5))]
    p["keep_dims"] = bool(rng.integers(0, 2))
    return Case("mean", p, {"x": _int8(rng, 1, int(rng.integers(1, 9)), int(rng.integers(1, 9)), 3)})


def _mean_model(c: Case) -> bytes:
    p = c.parameters
    return tflite_models.mean(c.arrays["x"].shape, p["axes"], _pair(p, "in"), _pair(p, "out"), p["keep_dims"])


def _mean_predict(c: Case) -> np.ndarray:
    p, x = c.parameters, c.arrays["x"]
    count = int(np.prod([x.shape[axis] for axis in p["axes"]]))
    scaling = numerics.mean_multiplier(p["in_scale"], p["out_scale"], count)
    return numerics.mean(x, p["axes"], *scaling, p["in_zero_point"], p["out_zero_point"], p["keep_dims"])


def _draw_softmax(kind: str, rng: np.random.Generator) -> Case:
    p = {
        "in_scale": _scale(rng),
        "in_zero_point": _zero_point(rng),
        "beta": float(np.float32(rng.uniform(0.3, 3))),
    }
    return Case(kind, p, {"x": _int8(rng, 3, int(rng.integers(1, 40)))})


def _softmax_dtype(c: Case) -> Any:
    return np.int16 if c.kind == "softmax_int16" else np.int8


def _softmax_model(c: Case) -> bytes:
    p = c.parameters
    return tflite_models.softmax(c.arrays["x"].shape, _pair(p, "in"), p["beta"], _softmax_dtype(c))


def _softmax_predict(c: Case) -> np.ndarray:
    parameters = numerics.softmax_parameters(c.parameters["in_scale"], c.parameters["beta"])
    return numerics.softmax(c.arrays["x"], parameters, _softmax_dtype(c))


# --- tables -------------------------------------------------------------------------------------------------


def _draw_table(kind: str, rng: np.random.Generator) -> Case:
    p = {"in_scale": _scale(rng), "in_zero_point": _zero_point(rng)}
    p |= {
        "out_scale": float(np.float32(p["in_scale"] * _scale(rng, 0.2, 5))),
        "out_zero_point": _zero_point(rng),
    }
    if kind == "logistic":
        p |= {"out_scale": 1 / 256, "out_zero_point": -128}
    elif kind == "tanh":
        p |= {"out_scale": 1 / 128, "out_zero_point": 0}
    elif kind == "leaky_relu":
        p["alpha"] = float(np.float32(rng.uniform(-0.5, 1.5)))
    return Case(kind, p, {"x": EVERY_INPUT})


def _table_model(c: Case) -> bytes:
    p, shape = c.parameters, c.arrays["x"].shape
    return tflite_models.unary(c.kind.upper(), shape, _pair(p, "in"), _pair(p, "out"), p.get("alpha"))


def _table_predict(c: Case) -> np.ndarray:
    p = c.parameters
    attributes = {"alpha": p["alpha"]} if "alpha" in p else {}
    return numerics.lookup_table(c.kind, *_pair(p, "in"), *_pair(p, "out"), **attributes)[None]


def _kinds() -> dict[str, Kind]:
    """Every kind; a default argument binds the loop variable of each lambda."""
    conv = lambda c: _window_model(tflite_models.conv_2d, c)  # noqa: E731
    conv_predict = lambda c: _window_predict(numerics.conv_2d_accumulate, c)  # noqa: E731
    kinds = {
        "conv_2d": Kind(_draw_conv, conv, conv_predict),
        "conv_2d_grouped": Kind(lambda rng: _draw_conv(rng, groups=2), conv, conv_predict),
        "depthwise_conv_2d": Kind(
            _draw_depthwise,
            lambda c: _window_model(tflite_models.depthwise_conv_2d, c),
            lambda c: _window_predict(numerics.depthwise_conv_2d_accumulate, c),
        ),
        "fully_connected": Kind(_draw_fully_connected, _fully_connected_model, _fully_connected_predict),
        "mean": Kind(_draw_mean, _mean_model, _mean_predict),
    }
    for name in ("conv_2d", "depthwise_conv_2d", "fully_connected"):
        kinds[f"{name}_int16"] = kinds[name]._replace(draw=lambda rng, name=name: _draw_int16(name, rng))
    for name in ("add", "sub", "mul"):
        kinds[f"{name}_int16"] = Kind(
            lambda rng, name=name: _draw_binary_int16(name, rng), _binary_model, _binary_predict
        )
        kinds[name] = Kind(lambda rng, name=name: _draw_binary(name, rng), _binary_model, _binary_predict)
    for name in ("average_pool_2d", "max_pool_2d"):
        kinds[name] = Kind(lambda rng, name=name: _draw_pool(name, rng), _pool_model, _pool_predict)
        draw = lambda rng, name=name: _draw_pool(name, rng, np.int16)  # noqa: E731
        kinds[f"{name}_int16"] = kinds[name]._replace(draw=draw)
    for name in ("softmax", "softmax_int16"):
        kinds[name] = Kind(lambda rng, name=name: _draw_softmax(name, rng), _softmax_model, _softmax_predict)
    for name in ("logistic", "tanh", "relu", "relu6", "leaky_relu", "hard_swish", "quantize"):
        kinds[name] = Kind(lambda rng, name=name: _draw_table(name, rng), _table_model, _table_predict)
    return kinds


KINDS = _kinds()
