"""The C core on the host, under AddressSanitizer and UndefinedBehaviorSanitizer, and on emulated Cortex-M0,
M3, M4 and M7: all shared vectors, valid and hostile, give exactly their result, and the published networks
give the bits of the reference."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.core_build import CPUS
from model_packager import container, reference
from model_packager.encoders import Encoding, Stream, StreamDescriptor, encode, stream_scratch_bytes
from model_packager.format_table import (
    HEADER,
    Coder,
    Feature,
    Layout,
    OperatorKind,
    ScheduleKind,
    ValueMap,
    struct_format,
)
from model_packager.golden import golden_inputs
from model_packager.model import Model
from model_packager.pack import PackResult, pack
from model_packager.passes.kernel_scratch import is_fused_tail, ram_peak_bytes
from model_packager.passes.lifetimes import FUSED
from model_packager.passes.plan_memory import PlanOptions, plan_memory
from tests.core_driver import (
    CoreCase,
    CoreResult,
    build_driver,
    build_emulated_driver,
    run_cases,
    stream_case,
)
from tests.file_vectors import HostileVector, hostile_vectors, valid_vectors
from tests.random_networks import NetworkBuilder, random_inputs, random_network

STREAMS = Path(__file__).resolve().parent / "vectors" / "streams"
ENUMERATIONS = {"layout": Layout, "coder": Coder, "value_map": ValueMap}
Run = Callable[[list[CoreCase]], list[CoreResult]]
NETWORKS = ["kws_ref_model_int8", "ic_pretrainedResnet_int8", "ad01_int8", "vww_96_int8"]
PROGRAM_ERRORS = ("bad_constant", "bad_operator", "bad_port")
REQUIRED_FEATURES_OFFSET = struct.calcsize(struct_format(HEADER[:5]))


# The core on this machine in the C of a Cortex-M0, and with the instructions of a Cortex-M4 emulated.
HOST = {"host-m0": "-DTHIMBLE_NARROW_MULTIPLY", "host-m4": "-DTHIMBLE_DSP_EMULATED"}


@pytest.fixture(scope="module", params=[*HOST, *CPUS])
def run(
    request: pytest.FixtureRequest,
    require_tool: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The core under sanitizers, and as it runs on boards, on emulated Cortex-M cores."""
    folder = tmp_path_factory.mktemp("core")
    if request.param in HOST:
        command = build_driver(require_tool("gcc"), folder, [HOST[request.param]])
    else:
        tools = require_tool("arm-none-eabi-gcc"), require_tool("qemu-system-arm")
        command = build_emulated_driver(*tools, request.param, folder)
    return lambda cases: run_cases(command, cases, folder)


def stream_vectors(name: str) -> list[tuple[dict, Stream]]:
    entries = json.loads((STREAMS / f"{name}.json").read_text())
    return [(entry, _stream_of(entry)) for entry in entries]


def _stream_of(entry: dict) -> Stream:
    names = StreamDescriptor.__dataclass_fields__
    fields = {key: ENUMERATIONS[key][entry[key]] if key in ENUMERATIONS else entry[key] for key in names}
    return Stream(StreamDescriptor(**fields), bytes.fromhex(entry["payload"]))


def test_stream_of_each_valid_vector_gives_its_values_and_scratch(run: Run) -> None:
    vectors = stream_vectors("annotated") + stream_vectors("encoded")
    results = run([stream_case(entry["name"], stream) for entry, stream in vectors])
    for (entry, stream), result in zip(vectors, results, strict=True):
        expected = np.array(entry["values"], np.int8).tobytes()
        assert result == CoreResult(expected, None, stream_scratch_bytes(stream.descriptor)), entry["name"]


@pytest.mark.parametrize("layout", [Layout.DENSE, Layout.BITMAP])
@pytest.mark.parametrize("coder", Coder)
def test_stream_of_long_rows_gives_them_whole_and_in_parts(layout: Layout, coder: Coder, run: Run) -> None:
    random = np.random.default_rng(8)
    cases = []
    for cols in (255, 256, 257, 700):
        values = random.integers(-40, 41, (3, cols)).astype(np.int8)
        values[random.random((3, cols)) < 0.3] = 0
        stream = encode(values, Encoding(layout, coder, ValueMap.IDENTITY))
        cases.append((values, stream_case(f"{cols}", stream)))
    for (values, case), result in zip(cases, run([case for _, case in cases]), strict=True):
        assert result.error is None and result.outputs == values.tobytes(), (case.name, result.error)


def test_stream_of_each_hostile_vector_gives_its_error(run: Run) -> None:
    vectors = stream_vectors("hostile")
    results = run([stream_case(entry["name"], stream) for entry, stream in vectors])
    for (entry, _), result in zip(vectors, results, strict=True):
        assert result == CoreResult(error=entry["error"]), entry["name"]


def test_run_of_each_valid_file_gives_its_outputs_in_the_planned_memory(run: Run) -> None:
    vectors = valid_vectors()
    cases = []
    for vector in vectors:
        arrays = golden_inputs(container.load(vector.data), vector.seed)
        inputs = b"".join(array.tobytes() for array in arrays)
        cases.append(CoreCase(vector.name, vector.data, inputs * 2, 2))
    for vector, result in zip(vectors, run(cases), strict=True):
        if _required_features(vector.data) & Feature.FLOAT_TENSORS:
            assert result == CoreResult(error="unsupported_feature"), vector.name
            continue
        memory_bytes = ram_peak_bytes(container.load(vector.data), "c")
        assert result == CoreResult(b"".join(vector.outputs) * 2, None, memory_bytes), vector.name


def _expected_error(vector: HostileVector) -> str | None:
    """As in the list, unless the header asks for 16-bit activations or floats, which the core does not have:
    the header comes before what is wrong with the program."""
    if vector.error in (None, "bad_tensor", "limit_exceeded", "arena_too_small", *PROGRAM_ERRORS):
        lacking = Feature.FLOAT_TENSORS
        if vector.error not in PROGRAM_ERRORS:
            lacking |= Feature.INT16_ACTIVATIONS
        if _required_features(vector.data) & lacking:
            return "unsupported_feature"
    return vector.error


def _required_features(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, REQUIRED_FEATURES_OFFSET)[0])


def test_load_of_each_hostile_file_gives_its_error(run: Run) -> None:
    vectors = list(hostile_vectors())
    results = run([CoreCase(vector.name, vector.data) for vector in vectors])
    wrong = {}
    for vector, result in zip(vectors, results, strict=True):
        error = _expected_error(vector)
        if error is not None:
            if result.error != error:
                wrong[vector.name] = (result.error, error)
        elif result.outputs != _reference_on_zeros(vector.data):
            wrong[vector.name] = (result.error, "the reference's outputs")
    assert not wrong


def _reference_on_zeros(data: bytes) -> bytes:
    model = container.load(data)
    tensors = [model.tensors[port.tensor] for port in model.inputs]
    shapes = [tensor.shape if tensor.shape[:1] == (1,) else (1, *tensor.shape) for tensor in tensors]
    outputs = reference.run(model, [np.zeros(shape, np.int8) for shape in shapes])
    return b"".join(output.tobytes() for output in outputs)


@cache
def _packed(path: Path, objective: str) -> PackResult:
    return pack(path, objective)


@pytest.mark.parametrize("objective", ["size", "speed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_run_of_published_network_is_bit_identical_to_the_reference(
    name: str, objective: str, data_dir: Path, run: Run
) -> None:
    packed = _packed(data_dir / "mlperf_tiny" / "models" / f"{name}.tflite", objective)
    tensor = packed.model.tensors[packed.model.inputs[0].tensor]
    inputs = np.random.default_rng(3).integers(-128, 128, (2, *tensor.shape[1:]), np.int8)
    (expected,) = reference.run(packed.model, [inputs])
    (result,) = run([CoreCase(name, packed.data, inputs.tobytes(), len(inputs))])
    assert result == CoreResult(expected.tobytes(), None, ram_peak_bytes(packed.model, "c"))


def convolution_network(seed: int) -> Model:
    """Convolutions with windows of many shapes on images of up to 13 x 13, as odd as they come."""
    builder = NetworkBuilder(seed)
    random = builder.random
    image = builder.input((1, *(int(size) for size in random.integers(5, 14, 2)), int(random.integers(1, 7))))
    for kernel in random.permutation([1, 2, 3, 5])[:3]:
        stride = int(random.integers(1, 3))
        groups = int(random.choice([n for n in (1, 2, 3) if builder.shape(image)[3] % n == 0]))
        channels = groups * int(random.integers(1, 7))
        image = builder.conv(image, channels, int(kernel), stride, bool(random.integers(2)), groups)
        if min(builder.shape(image)[1:3]) < 5:
            break
        image = builder.depthwise(image, int(random.choice([3, 5])), int(random.integers(1, 3)))
        if min(builder.shape(image)[1:3]) < 5:
            break
    builder.output(image)
    return builder.model


def sum_network(seed: int) -> Model:
    """Sums as TensorFlow Lite has them, one input counting half, and those behind a convolution; a mean."""
    builder = NetworkBuilder(seed)
    random = builder.random
    image = builder.input((1, *(int(size) for size in random.integers(1, 8, 2)), int(random.integers(1, 11))))
    for _ in range(2):
        pair = [image, builder.conv(image, builder.shape(image)[3])]
        image = builder.add(*(pair if random.integers(2) else pair[::-1]))
        shifted = 1 + int(random.integers(2))
        builder.model.operators[-1].attributes |= {
            f"input{shifted}_multiplier": int(random.integers(1 << 30, (1 << 31) - 1)),
            f"input{shifted}_shift": -int(random.integers(1, 5)),
            "output_multiplier": int(random.integers(1 << 30, (1 << 31) - 1)),
        }
    builder.output(image)
    builder.output(builder.global_pool(image))
    return builder.model


def fused_network(seed: int) -> Model:
    """A pointwise convolution in a pair with a depthwise one of 3 x 3."""
    builder = NetworkBuilder(seed)
    random = builder.random
    depth = int(random.choice([4, 8, 8, 8, 9]))
    image = builder.input((1, *(int(size) for size in random.integers(1, 14, 2)), depth))
    image = builder.conv(image, int(random.integers(1, 5)))
    builder.output(builder.depthwise(image, 3, int(random.integers(1, 3))))
    builder.model.operators[0].schedule = ScheduleKind.FUSED_DEPTHWISE
    return builder.model


@pytest.mark.parametrize("make", [convolution_network, random_network, sum_network, fused_network])
def test_run_of_random_networks_in_every_layout_is_bit_identical_to_the_reference(
    make: Callable[[int], Model], run: Run
) -> None:
    layouts = [Encoding(layout, Coder.CLASS, ValueMap.IDENTITY) for layout in list(Layout)[:3]]
    layouts.append(Encoding(Layout.DENSE, Coder.FIXED, ValueMap.IDENTITY))  # raw
    cases, expected = [], []
    for seed in range(60):
        model = make(seed)
        for index, operator in enumerate(model.operators):
            if operator.weights is not None:
                values = operator.weights.values
                operator.weights.encoding = layouts[min((seed + index) % 5, 3)]
                if operator.weights.encoding is layouts[3]:
                    values[0] = -128 + 255 * (seed % 2)
                    continue
                values[:, :: 2 + seed % 3] = 0
                values[0, 0] = 1  # a matrix of zeros has no sparse stream
        # A schedule that is there already is meant.
        forced = {i: op.schedule for i, op in enumerate(model.operators) if op.schedule in FUSED}
        plan_memory(model, PlanOptions(force=forced))
        for index, operator in enumerate(model.operators):
            is_free = operator.schedule is ScheduleKind.WHOLE and not is_fused_tail(model, index)
            if operator.kind is OperatorKind.DEPTHWISE_CONV_2D and is_free and seed % 3 == 0:
                operator.schedule = ScheduleKind.BANDS
                operator.schedule_parameter = 1 + seed % model.tensors[operator.outputs[0]].shape4[1]
        data = container.dump(model)
        inputs = random_inputs(model, 2, seed)
        inputs[0][1] = -128
        outputs = reference.run(model, inputs)
        runs = b"".join(batch[i].tobytes() for i in range(2) for batch in inputs)
        cases.append(CoreCase(f"{make.__name__} {seed}", data, runs, 2))
        expected.append(b"".join(batch[i].tobytes() for i in range(2) for batch in outputs))
    for case, result, outputs in zip(cases, run(cases), expected, strict=True):
        assert result.error is None and result.outputs == outputs, (case.name, result.error)
