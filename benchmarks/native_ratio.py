"""MobileNetV1 1.0-224 in int8: the native C core beside ai-edge-litert's reference kernels, on one thread.

    python benchmarks/native_ratio.py

The network of examples/architectures is quantised once. The same integers then go into a .tflite, which
LiteRT runs with its reference kernels and, for comparison, with its default ones (XNNPACK), and into a
.thimble, which the C core runs; onnxruntime runs the float .onnx. The runs take turns, so that a busy machine
is as busy for all; the bar is the ratio of the medians. The reference kernels must give the C core's bits.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnxruntime
import tflite
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from examples.architectures.build import samples
from examples.architectures.networks import NETWORKS
from host_tools.targets.native import NativeTarget
from model_packager.format_table import OperatorKind
from model_packager.importers.onnx import import_onnx
from model_packager.model import Model, Operator
from model_packager.numerics import same_padding
from model_packager.pack import pack
from model_packager.passes.quantise import quantise_model
from tests import tflite_models

NAME = "mobilenet_v1"
ROUNDS = 7


def tflite_of(model: Model) -> bytes:
    """The .tflite of an integer model that has MobileNet's operators, with its scales and integers."""
    tensors = [
        tflite_models.Tensor(t.shape, np.int8, [t.scale], [t.zero_point], name=t.name) for t in model.tensors
    ]
    operators = []

    def constant(data: np.ndarray, scales: Any = (), axis: int = 0) -> int:
        tensors.append(tflite_models.Tensor(data=data, scale=scales, axis=axis))
        return len(tensors) - 1

    for operator in model.operators:
        inputs, fields, options = list(operator.inputs), {}, ""
        source = model.tensors[operator.inputs[0]]
        if operator.weights is not None:
            assert operator.weights.scales is not None
            scales, rows = operator.weights.scales, len(operator.weights.values)
            values, axis = _as_tflite(operator)
            inputs.append(constant(values, scales, axis))
            bias = np.zeros(rows, np.int32) if operator.bias is None else operator.bias
            inputs.append(constant(bias, np.float32(source.scale) * scales.astype(np.float32)))
            activation = operator.options.get("activation", "none").upper()
            fields["FusedActivationFunction"] = getattr(tflite.ActivationFunctionType, activation)
        if operator.kind in (OperatorKind.CONV_2D, OperatorKind.DEPTHWISE_CONV_2D):
            options = "Conv2DOptions"
            fields |= {"StrideH": operator.attributes["stride_h"], "StrideW": operator.attributes["stride_w"]}
            fields["Padding"] = _padding(model, operator)
            if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
                options, fields["DepthMultiplier"] = "DepthwiseConv2DOptions", 1
        elif operator.kind is OperatorKind.FULLY_CONNECTED:
            options = "FullyConnectedOptions"
        elif operator.kind is OperatorKind.MEAN:
            inputs.append(constant(np.array([1, 2], np.int32)))
            options, fields["KeepDims"] = "ReducerOptions", len(model.tensors[operator.outputs[0]].shape) == 4
        elif operator.kind is OperatorKind.SOFTMAX:
            options, fields["Beta"] = "SoftmaxOptions", operator.options["beta"]
        else:
            raise SystemExit(f"{operator.kind.name} is no operator of MobileNet")
        written = tflite_models.Operator(operator.kind.name, inputs, operator.outputs, options, fields)
        operators.append(written)
    ports = [[port.tensor for port in ports] for ports in (model.inputs, model.outputs)]
    return tflite_models.build_model(tensors, operators, *ports)


def _as_tflite(operator: Operator) -> tuple[np.ndarray, int]:
    """(weights in TensorFlow's order, the axis of the output channels)."""
    assert operator.weights is not None
    values, attributes = operator.weights.values, operator.attributes
    if operator.kind is OperatorKind.FULLY_CONNECTED:
        return values, 0
    window = attributes["kernel_h"], attributes["kernel_w"]
    if operator.kind is OperatorKind.DEPTHWISE_CONV_2D:
        return np.ascontiguousarray(values.T).reshape(1, *window, len(values)), 3
    return values.reshape(len(values), *window, -1), 0


def _padding(model: Model, operator: Operator) -> int:
    """SAME, which must be what the operator's pads are."""
    attributes = operator.attributes
    for axis, letter, low, high in ((1, "h", "top", "bottom"), (2, "w", "left", "right")):
        size = model.tensors[operator.inputs[0]].shape[axis]
        expected = same_padding(size, attributes[f"kernel_{letter}"], attributes[f"stride_{letter}"])
        found = attributes.get(f"pad_{low}", 0), attributes.get(f"pad_{high}", 0)
        if found != expected:
            raise SystemExit(f"{operator.name} pads {found} cells, and SAME is {expected}")
    return int(tflite.Padding.SAME)


def interpreter_of(data: bytes, resolver: OpResolverType) -> Interpreter:
    """LiteRT on one thread with the model's memory allocated."""
    interpreter = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def main() -> int:
    graph = NETWORKS[NAME].build(NAME)
    onnx_file, images = graph.SerializeToString(), samples(graph)
    imported = import_onnx(onnx_file)
    batch = images[imported.inputs[0].name].transpose(0, 2, 3, 1)
    model = quantise_model(imported, [np.ascontiguousarray(batch)])
    data = tflite_of(model)
    targets = {}
    for objective in ("speed", "size"):
        targets[objective] = NativeTarget(threads=1)
        targets[objective].load(pack(copy.deepcopy(model), objective).data)
    reference = interpreter_of(data, OpResolverType.BUILTIN_REF)
    default = interpreter_of(data, OpResolverType.AUTO)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    real = {name: values[:1] for name, values in images.items()}
    times: dict[str, list[float]] = {}
    differing = 0
    for _ in range(ROUNDS):
        image = random.integers(-128, 128, model.tensors[model.inputs[0].tensor].shape).astype(np.int8)
        outputs: dict[str, np.ndarray] = {}

        def ours(objective: str, image: np.ndarray = image, outputs: dict[str, np.ndarray] = outputs) -> None:
            outputs[objective] = targets[objective].run([image])[0]

        for interpreter in (reference, default):
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        runs: dict[str, Callable[[], object]] = {
            "native C core, speed": lambda: ours("speed"),
            "native C core, size": lambda: ours("size"),
            "LiteRT, reference kernels": reference.invoke,
            "LiteRT, default kernels": default.invoke,
            "onnxruntime, float": lambda: session.run(None, real),
        }
        for name, run in runs.items():
            times.setdefault(name, []).append(milliseconds(run))
        expected = reference.get_tensor(reference.get_output_details()[0]["index"])
        differing += sum(int(np.count_nonzero(each != expected)) for each in outputs.values())
    for name, values in times.items():
        print(f"{NAME:14} {name:28} {median(values):9.1f} ms")
    ratio = median(times["native C core, speed"]) / median(times["LiteRT, reference kernels"])
    print(f"{differing} outputs of {ROUNDS} images differ between the C core and the reference kernels")
    print(f"bar mobilenet_native_ratio {ratio:.2f}")
    for target in targets.values():
        target.close()
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
