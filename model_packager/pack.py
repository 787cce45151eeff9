"""From a trained network to the bytes of a .thimble file: `pack` imports, quantises, compresses, plans and
writes.

It is what `thimble pack` calls. Every step is a function of its own elsewhere; what this module owns is their
order and the checks at the end: the file is read back and must be the same model, and it is never larger than
with raw weights alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from model_packager import container, reference
from model_packager.encoders import (
    Encoding,
    EncodingPattern,
    Objective,
    Stream,
    choose,
    choose_matching,
    cost,
    decode_cost,
    encode,
)
from model_packager.encoders.bit_planes import BINARY
from model_packager.encoders.floats import pack_floats, unpack_floats
from model_packager.encoders.stream import raw
from model_packager.errors import ImportRefused, PackError, UsageError
from model_packager.format_table import OPERATOR_ATTRIBUTES, FloatFormat, OperatorKind, ScheduleKind
from model_packager.golden import DEFAULT_SEED, golden_inputs, output_crc32
from model_packager.model import Array, Model, Operator, Weights
from model_packager.passes.eliminate_dead_channels import eliminate_dead_channels
from model_packager.passes.fold_batch_norm import fold_batch_norm
from model_packager.passes.kernel_scratch import (
    kernel_scratch_bytes,
    operator_stream_scratch_bytes,
    ram_peak_bytes,
)
from model_packager.passes.lifetimes import FUSED, living_ends
from model_packager.passes.plan_memory import PlanOptions, plan_memory, verify_plan
from model_packager.passes.quantise import quantise_model
from model_packager.passes.split_activations import split_activations
from model_packager.recipe import Recipe
from model_packager.sample_arrays import batches_for_inputs, quantised_batch

OBJECTIVES = ("size", "speed")
# How weights are stored: int8 for every executor, or the floats of a network that is not quantised, which the
# reference alone runs.
STORAGES = {"int8": None, **{kind.name.lower(): kind for kind in FloatFormat}}
# Share of the RAM peak that may go into higher bands: each band of an in-place convolution decodes the
# weights again.
BAND_SLACK = {"size": 1 / 16, "speed": 1 / 8}
# Size comes first, but a byte of the file may be given where it buys at least this many bytes of the RAM
# peak.
RAM_BYTES_PER_FILE_BYTE = 8

# What decoding a tensor once more must save of its raw bytes. Chosen on the keyword network, whose 64 x 64
# pointwise layers the range coder makes 3 % smaller and, in 13 bands, several times slower.
REWIND_SHARE = 1 / 100

# What decoding may add to the instructions of all convolutions, under the objective `size`. Raw weights are
# multiplied several rows at a time where decoded ones come row by row, so that each coded convolution takes
# about twice as long.
SLOWDOWN = 1 / 2
# But an encoding that saves this share of the raw bytes is worth its time.
WORTHY_SHARE = 1 / 8

Signer = Callable[[bytes], bytes]
Progress = Callable[[int, int], None]  # called with the weights that are encoded, and all of them

# Suffix of a source file -> (module, function) that imports it.
IMPORTERS = {
    ".tflite": ("model_packager.importers.tflite", "import_tflite"),
    ".onnx": ("model_packager.importers.onnx", "import_onnx"),
}


@dataclass(frozen=True)
class PackReport:
    """What packing did; sizes in bytes. ``source_bytes`` is None for a Model that came from no file."""

    source_bytes: int | None
    file_bytes: int
    raw_file_bytes: int
    arena_bytes: int
    ram_peak_bytes: int
    weights_before: int
    weights_after: int
    channels_removed: int


@dataclass(frozen=True)
class PackResult:
    """The file, the model that it holds, and the figures."""

    data: bytes
    model: Model
    report: PackReport


def check_importable(path: str | Path) -> None:
    """Raise ``UsageError`` for a name whose suffix no importer knows."""
    if Path(path).suffix.lower() not in IMPORTERS:
        raise UsageError(f"{Path(path)}: the name must end in one of {', '.join(IMPORTERS)}")


def import_model(path: str | Path) -> Model:
    """Import a file by its suffix.

    Raises:
        UsageError: a suffix that no importer knows.
        ImportRefused, OSError: as the importer.
    """
    path = Path(path)
    check_importable(path)
    if not path.is_file():
        raise FileNotFoundError(2, "there is no such file", str(path))
    module, function = IMPORTERS[path.suffix.lower()]
    try:
        return getattr(importlib.import_module(module), function)(path)
    except ImportRefused as refusal:
        raise ImportRefused(f"{path}: {refusal}") from refusal


def _weight_count(model: Model) -> int:
    return sum(operator.weights.values.size for operator in model.operators if operator.weights is not None)


def _channel_count(model: Model) -> int:
    return sum(len(operator.weights.values) for operator in model.operators if operator.weights is not None)


def _streams(model: Model, encode_one: Callable[[Operator], Stream]) -> dict[int, Stream]:
    """A stream for each operator with weights; also sets ``Weights.encoding`` to its descriptor."""
    streams: dict[int, Stream] = {}
    for index, operator in enumerate(model.operators):
        if operator.weights is not None:
            streams[index] = encode_one(operator)
            operator.weights.encoding = streams[index].descriptor
    return streams


def _plain(model: Model) -> Callable[[Operator], Stream]:
    """The streams that are read in place: raw ones, and words where the input is of bits."""

    def encode_one(operator: Operator) -> Stream:
        values = _weights(operator).values
        return encode(values, BINARY) if model.reads_bits(operator) else raw(values)

    return encode_one


def _chosen(values: Array, asked: object, objective: str, scratch_limit_bytes: int, uses: float) -> Stream:
    """The stream that a pass asked for, where that is not larger than raw, or the best one. All that it
    needs are its arguments, so that an executor may run it in another process or on another machine."""
    if isinstance(asked, Encoding):
        return min(encode(values, asked), raw(values), key=lambda each: each.stored_bytes)
    if isinstance(asked, EncodingPattern):
        return choose_matching(values, asked)
    return choose(values, cast(Objective, objective), scratch_limit_bytes, uses)


def _chosen_streams(
    model: Model, objective: str, scratch_limit_bytes: int, executor: Executor | None, progress: Progress
) -> dict[int, Stream]:
    """The best stream for each operator with weights, the largest tensor first, so that no core waits long
    for the last one. Streams of bits are read in place."""
    plain = _plain(model)
    weighted = [index for index, operator in enumerate(model.operators) if operator.weights is not None]
    whole = sum(_weights(model.operators[index]).values.size for index in weighted)
    weighted.sort(key=lambda index: -_weights(model.operators[index]).values.size)
    pending: dict[int, Callable[[], Stream]] = {}
    for index in weighted:
        operator = model.operators[index]
        values, asked = _weights(operator).values, _weights(operator).encoding
        arguments = (values, asked, objective, scratch_limit_bytes, model.mac_count(operator) / values.size)
        if model.reads_bits(operator):
            pending[index] = partial(plain, operator)
        elif executor is None:
            pending[index] = partial(_chosen, *arguments)
        else:
            pending[index] = executor.submit(_chosen, *arguments).result
    streams, done = {}, 0
    for index, result in pending.items():
        streams[index] = result()
        done += _weights(model.operators[index]).values.size
        progress(done, whole)
    return dict(sorted(streams.items()))


def _weights(operator: Operator) -> Weights:
    assert operator.weights is not None
    return operator.weights


def _dump(model: Model, options: PlanOptions, streams: dict[int, Stream], signer: Signer | None) -> bytes:
    """Plan the memory for these streams, and write the file."""
    for index, stream in streams.items():
        _weights(model.operators[index]).encoding = stream.descriptor
    plan_memory(model, options)
    verify_plan(model)
    return container.dump(model, encodings=streams, signer=signer)


def _attributes(operator: Operator) -> list[int]:
    return [
        int(operator.attributes.get(item.name, item.default)) for item in OPERATOR_ATTRIBUTES[operator.kind]
    ]


def _same_array(first: Array | None, second: Array | None) -> bool:
    """Equal values; one value stands for all rows, and an absent bias for zeros."""
    if first is None and second is None:
        return True
    first, second = (np.zeros(1, np.int64) if each is None else each for each in (first, second))
    return bool(np.all(np.equal(first, second)))


def _same_operator(first: Operator, second: Operator) -> bool:
    fields = ("kind", "inputs", "outputs", "schedule", "schedule_parameter")
    same = all(getattr(first, name) == getattr(second, name) for name in fields)
    same &= _attributes(first) == _attributes(second)
    same &= _same_array(first.bias, second.bias) and _same_array(first.table, second.table)
    if (first.weights is None) != (second.weights is None):
        return False
    if first.kind is OperatorKind.LOOKUP and first.table is None:
        same &= first.options == second.options
    if first.weights is None or second.weights is None:
        return same
    same &= np.array_equal(first.weights.values, second.weights.values)
    if first.requant is None or second.requant is None:
        return same and first.requant is second.requant
    same &= first.requant.power_of_two == second.requant.power_of_two
    same &= first.requant.sign == second.requant.sign
    same &= first.requant.power_of_two or _same_array(first.requant.multipliers, second.requant.multipliers)
    return same and _same_array(first.requant.shifts, second.requant.shifts)


def check_same(model: Model, loaded: Model) -> None:
    """Compare a model with what was read back from its file.

    Raises:
        PackError: they differ, which is a defect of Thimble; says where.
    """
    tensors = [(t.shape, t.dtype, t.flags, t.arena_offset) for t in model.tensors]
    if tensors != [(t.shape, t.dtype, t.flags, t.arena_offset) for t in loaded.tensors]:
        raise PackError("the file that was written holds other tensors than the model")
    if len(model.operators) != len(loaded.operators):
        raise PackError(
            f"the file that was written holds {len(loaded.operators)} operators, not {len(model.operators)}"
        )
    for index, pair in enumerate(zip(model.operators, loaded.operators, strict=True)):
        if not _same_operator(*pair):
            raise PackError(f"operator {index} ({pair[0].kind.name}) came back from the file changed")
    for ours, theirs in ((model.inputs, loaded.inputs), (model.outputs, loaded.outputs)):
        ports = [(p.tensor, np.float32(p.scale), p.zero_point, p.flags) for p in ours]
        if ports != [(p.tensor, np.float32(p.scale), p.zero_point, p.flags) for p in theirs]:
            raise PackError("the ports came back from the file changed")
    for name in ("arena_bytes", "golden", "model_id", "model_version"):
        if getattr(model, name) != getattr(loaded, name):
            raise PackError(f"the {name} of the model came back from the file changed")


def _integer_model(model: Model, calibration: Mapping[str, Array] | None, recipe: Recipe) -> Model:
    """An integer model: a float one quantised with the calibration samples, then changed by the recipe."""
    samples = None if calibration is None else batches_for_inputs(calibration, model)
    if model.is_float:
        if samples is None:
            raise UsageError(
                "a float model must be calibrated: it needs --calibration data.npz with sample inputs"
            )
        real = [batch.astype(np.float32) for batch in samples]
        model = quantise_model(model, real, **asdict(recipe.calibration))
    elif recipe.calibration.power_of_two:
        raise UsageError("power_of_two is for float networks; this one has its scales already")
    if samples is not None and recipe.steps:
        pairs = zip(samples, model.inputs, strict=True)
        samples = [quantised_batch(batch, model, port) for batch, port in pairs]
    return recipe.apply(model, samples)


def pack(
    source: str | Path | Model,
    objective: str = "size",
    calibration: Mapping[str, Array] | None = None,
    recipe: Recipe | None = None,
    signer: Signer | None = None,
    golden_seed: int | None = DEFAULT_SEED,
    model_id: int | None = None,
    model_version: int | None = None,
    executor: Executor | None = None,
    progress: Progress = lambda done, whole: None,
    storage: str = "int8",
    name: str | None = None,
) -> PackResult:
    """Pack a network.

        Args: source: path of a .tflite or .onnx file, or a Model (changed in place). objective: "size":
        fewest bytes, then least RAM; "speed": fewest decode cycles. calibration: for float models, arrays of
        samples (N, ...) by input name. recipe: lossy steps, and how a float model is quantised. signer:
        takes the bytes before the trailer, gives an Ed25519 signature of 64 bytes. golden_seed: seed of the
        golden test that is stored (8 bytes); None stores none. model_id, model_version: 32-bit numbers for
        the header; None keeps the Model's own. executor: encodes the tensors, several at once:
        `concurrent.futures.ProcessPoolExecutor`, or a cluster's with the same interface; None encodes them
        one after the other, here. progress: called with (weights encoded so far, all weights). storage: of
        the weights: "int8", or "fp32", "fp16" and "bfloat16" of a float network that is not quantised, which
        the reference executor alone runs. name: for the metadata; None keeps the Model's own, which is that
        of the source file.

    Raises:
        UsageError: an unknown suffix, objective or storage, a number outside 32 bits, floats with a recipe or
            calibration, or a float model without calibration.
        ImportRefused: the source uses what Thimble does not support.
        PackError: accumulators that could overflow, an int8 network as floats, or weights beyond the range of
            their format.
        OSError: the source cannot be read.
    """
    if objective not in OBJECTIVES:
        raise UsageError(f"there is no objective {objective!r}, only {' and '.join(OBJECTIVES)}")
    if storage not in STORAGES:
        raise UsageError(f"there is no storage {storage!r}, only {', '.join(STORAGES)}")
    if storage != "int8" and (calibration or recipe):
        raise UsageError(f"a network stored as {storage} is not quantised: no calibration and no recipe")
    for what, number in (("model id", model_id), ("model version", model_version)):
        if number is not None and not 0 <= number < 1 << 32:
            raise UsageError(f"the {what} is {number}, not 0 to {(1 << 32) - 1}")
    model = source if isinstance(source, Model) else import_model(source)
    model_id = model.model_id if model_id is None else model_id
    model_version = model.model_version if model_version is None else model_version
    source_bytes = None if isinstance(source, Model) else Path(source).stat().st_size
    stored_as = STORAGES[storage]
    model = _integer_model(model, calibration, recipe or Recipe()) if stored_as is None else model
    model.model_id, model.model_version = model_id, model_version
    model.name = model.name if name is None else name
    if stored_as is not None:
        return _pack_as_floats(model, stored_as, signer, source_bytes)
    reference.accumulator_bounds(model)
    weights_before, channels_before = _weight_count(model), _channel_count(model)
    eliminate_dead_channels(model)
    if golden_seed is not None:
        outputs = reference.run(model, golden_inputs(model, golden_seed))
        model.golden = (golden_seed, output_crc32(outputs))
    data, raw_bytes = _smallest_file(model, objective, signer, executor, progress)
    check_same(model, container.load(data))
    report = PackReport(
        source_bytes,
        len(data),
        raw_bytes,
        model.arena_bytes,
        ram_peak_bytes(model),
        weights_before,
        _weight_count(model),
        channels_before - _channel_count(model),
    )
    return PackResult(data, model, report)


def _pack_as_floats(
    model: Model, stored_as: FloatFormat, signer: Signer | None, source_bytes: int | None
) -> PackResult:
    """A file of a network that is not quantised. It has no golden test: the order of a float sum is free."""
    if not model.is_float:
        raise PackError(f"the network is integer already, and not stored as {stored_as.name.lower()}")
    model = split_activations(fold_batch_norm(model))
    for operator in model.operators:
        if operator.weights is not None:
            stored = pack_floats(operator.weights.values, stored_as)
            values = unpack_floats(stored, stored_as).reshape(operator.weights.values.shape)
            operator.weights = Weights(values, encoding=stored_as)
        if operator.bias is not None:
            operator.bias = unpack_floats(pack_floats(operator.bias, stored_as), stored_as)
    plan_memory(model, PlanOptions(forbid=frozenset(ScheduleKind)))
    verify_plan(model)
    data = container.dump(model, signer=signer)
    check_same(model, container.load(data))
    count, arena_bytes = _weight_count(model), model.arena_bytes
    report = PackReport(source_bytes, len(data), len(data), arena_bytes, arena_bytes, count, count, 0)
    return PackResult(data, model, report)


def with_raw_weights(model: Model) -> bytes:
    """The file of an integer model with every weight raw (bits as words) and a memory plan for that: what a
    coded file is compared with to see what decoding costs. Changes encodings and plan of `model`."""
    streams = _streams(model, _plain(model))
    return _dump(model, PlanOptions(band_slack=BAND_SLACK["size"]), streams, None)


def _smallest_file(
    model: Model, objective: str, signer: Signer | None, executor: Executor | None, progress: Progress
) -> tuple[bytes, int]:
    """(the file with chosen encodings, or with raw weights where that is smaller; bytes with raw weights).

    The arena of the raw plan is the most scratch that a decoder may take: compression must not cost more RAM
    than the activations do, which matters to fully connected networks, whose activations are small.
    """
    asked = {i: o.weights.encoding for i, o in enumerate(model.operators) if o.weights is not None}
    options = PlanOptions(band_slack=BAND_SLACK[objective])
    raw_streams = _streams(model, _plain(model))
    raw_file = _dump(model, options, raw_streams, signer)
    for index, encoding in asked.items():
        _weights(model.operators[index]).encoding = encoding
    streams = _chosen_streams(model, objective, model.arena_bytes, executor, progress)
    data = _dump(model, options, streams, signer)
    free = {index: raw_streams[index] for index, encoding in asked.items() if encoding is None}
    replaces = [_with_fewer_rewinds, _with_less_scratch]
    if objective == "size":
        replaces.insert(1, _with_fewer_instructions)
    for replace in replaces:
        lighter = replace(model, streams, free)
        if lighter != streams:
            streams = lighter
            data = _dump(model, options, streams, signer)
    if len(data) > len(raw_file):
        data = _dump(model, options, raw_streams, signer)
    return data, len(raw_file)


def _with_fewer_rewinds(
    model: Model, streams: dict[int, Stream], replacements: dict[int, Stream]
) -> dict[int, Stream]:
    """The streams, some replaced by raw ones, which are read in place: those that an in-place convolution
    would decode again for each band, unless they save REWIND_SHARE of their raw bytes each time.
    The model is planned for `streams`."""
    chosen = dict(streams)
    for index, plain in replacements.items():
        operator = model.operators[index]
        if operator.schedule is not ScheduleKind.IN_PLACE or operator.schedule_parameter == 0:
            continue
        rows = model.tensors[operator.outputs[0]].shape4[1]
        rewinds = -(-rows // operator.schedule_parameter) - 1
        saved = plain.stored_bytes - streams[index].stored_bytes
        if saved < REWIND_SHARE * rewinds * plain.stored_bytes:
            chosen[index] = plain
    return chosen


def _with_fewer_instructions(
    model: Model, streams: dict[int, Stream], replacements: dict[int, Stream]
) -> dict[int, Stream]:
    """The streams, some of convolutions replaced by raw ones, those first that save the fewest bytes for an
    instruction, until all convolutions take no more than SLOWDOWN above raw weights; what saves WORTHY_SHARE
    stays. Fully connected layers do not count: a decoder takes most of their time, and its limit is one for
    each weight."""
    chosen, budget = dict(streams), 0.0
    extra: dict[int, float] = {}
    for index, plain in replacements.items():
        operator, stream = model.operators[index], streams[index]
        if operator.kind is OperatorKind.FULLY_CONNECTED:
            continue
        uses = model.mac_count(operator) / _weights(operator).values.size
        plain_cost = cost(plain.descriptor, uses)
        budget += SLOWDOWN * plain_cost
        # Depthwise kernels take a row as it comes.
        is_depthwise = operator.kind is OperatorKind.DEPTHWISE_CONV_2D
        descriptor = stream.descriptor
        extra[index] = decode_cost(descriptor) if is_depthwise else cost(descriptor, uses) - plain_cost

    def worth(index: int) -> float:
        return (replacements[index].stored_bytes - streams[index].stored_bytes) / extra[index]

    def is_worthy(index: int) -> bool:
        plain_bytes = replacements[index].stored_bytes
        return plain_bytes - streams[index].stored_bytes >= WORTHY_SHARE * plain_bytes

    for index in sorted((i for i in extra if extra[i] > 0 and not is_worthy(i)), key=worth):
        if sum(extra.values()) <= budget:
            break
        chosen[index], extra[index] = replacements[index], 0.0
    return chosen


def _with_less_scratch(
    model: Model, streams: dict[int, Stream], replacements: dict[int, Stream]
) -> dict[int, Stream]:
    """The streams, some replaced by raw ones, which need no scratch, where every byte that the file grows by
    lowers the RAM peak by at least RAM_BYTES_PER_FILE_BYTE. The model is planned for `streams`."""
    count = len(model.operators)
    kernel = [end + kernel_scratch_bytes(model, index) for index, end in enumerate(living_ends(model))]
    total = [kernel[index] + operator_stream_scratch_bytes(model, index) for index in range(count)]
    best, best_worth = streams, 0
    for limit in sorted({*total, *kernel}):
        over = [index for index in range(count) if total[index] > limit]
        opened = [i for index in over for i in _open_streams(model, index) if i in streams]
        if any(kernel[index] > limit for index in over) or not replacements.keys() >= set(opened):
            continue
        growth = sum(replacements[i].stored_bytes - streams[i].stored_bytes for i in opened)
        worth = max(total) - max(limit, model.arena_bytes) - RAM_BYTES_PER_FILE_BYTE * growth
        if worth > best_worth:
            best, best_worth = {**streams, **{i: replacements[i] for i in opened}}, worth
    return best


def _open_streams(model: Model, index: int) -> list[int]:
    """Operators whose streams are open while `index` runs: itself and, in a fused pair, its tail."""
    return [index, index + 1] if model.operators[index].schedule in FUSED else [index]
