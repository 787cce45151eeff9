"""What is in a .thimble file and what it needs: bytes go in, an `Inspection` comes out; `thimble inspect`
prints it.

Everything is derived from the file alone. Every byte of it belongs to exactly one `FilePart`, and every
weight matrix, with the constants that it alone uses, to one `WeightsRow`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from model_packager import container
from model_packager.encoders.descriptor import StreamDescriptor
from model_packager.format_table import ConstantKind, Feature, FloatFormat, OperatorKind, TensorFlag
from model_packager.model import Model
from model_packager.passes.kernel_scratch import (
    is_fused_tail,
    kernel_scratch_bytes,
    operator_stream_scratch_bytes,
    ram_peak_bytes,
)
from model_packager.passes.lifetimes import arena_spans, living_ends
from model_packager.passes.plan_memory import arena_occupancy

# What a span of `container.byte_map` belongs to, by the start of its label; the first match counts.
_PARTS = (
    (r"constant \d+: (weights|floats)", "weights"),
    (r"constant \d+: requant", "requantisation"),
    (r"constant \d+: integers|constant \d+: function", "biases and tables"),
    (r"constant", "descriptors of constants"),
    (r"operator", "operators"),
    (r"tensor", "tensors"),
    (r"input|output", "ports"),
    (r"header", "header"),
    (r"section table", "section table"),
    (r"METADATA", "names and labels"),
    (r"GOLDEN", "golden test"),
    (r"padding", "padding"),
    (r"SHA-256", "SHA-256"),
    (r"", "other"),
)


@dataclass(frozen=True)
class FilePart:
    """Bytes of one purpose in the whole file."""

    name: str
    stored_bytes: int
    share: float  # of the file


@dataclass(frozen=True)
class WeightsRow:
    """One weight matrix. ``shared_with`` is the operator that stores the same matrix already, then
    ``stored_bytes`` is 0."""

    operator: int
    kind: str
    rows: int
    cols: int
    non_zero_share: float
    encoding: str
    stored_bytes: int
    bits_per_weight: float
    share: float  # of the file
    shared_with: int | None


@dataclass(frozen=True)
class RamRow:
    """RAM while one operator runs; bytes. ``occupied_bytes``: living tensors in the arena; ``free_from``:
    where the last of them ends, and scratch begins."""

    operator: int
    kind: str
    output_shape: tuple[int, ...]
    schedule: str
    occupied_bytes: int
    free_from: int
    stream_scratch_bytes: int
    kernel_scratch_bytes: int

    @property
    def needed_bytes(self) -> int:
        """The block of RAM that this operator alone would need."""
        return self.free_from + self.stream_scratch_bytes + self.kernel_scratch_bytes


@dataclass(frozen=True)
class TensorRow:
    """A tensor's place in the arena: `size_bytes` from `arena_offset`, during the operators `first_operator`
    to `last_operator`; a model input lives from before the first (-1), an output until after the last. A
    fused pair is one step, and the tensor between its operators has no place. ``role``: input, output, state
    (kept from one inference to the next) or inner."""

    tensor: int
    role: str
    shape: tuple[int, ...]
    dtype: str
    arena_offset: int
    size_bytes: int
    first_operator: int = field(metadata={"signed": True})
    last_operator: int


@dataclass(frozen=True)
class PortRow:
    """A model input or output."""

    name: str
    direction: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    is_float: bool


def ram_text(micropython_bytes: int, c_bytes: int | None, arena_bytes: int) -> str:
    """The RAM peak as `inspect` and `pack` print it: of each executor, whose scratch is its own."""
    where = "" if c_bytes is None else f" on MicroPython, {c_bytes:,} in the C core"
    return f"{micropython_bytes:,} bytes{where}, scratch included: {arena_bytes:,} for tensors"


@dataclass(frozen=True)
class Inspection:
    """Everything about one file."""

    name: str
    file_bytes: int
    model_id: int
    model_version: int
    signed: bool
    sha256: str
    features: tuple[str, ...]
    operators: tuple[str, ...]
    weight_count: int
    weight_bytes: int
    arena_bytes: int
    ram_peak_bytes: int  # on MicroPython
    c_ram_peak_bytes: int | None  # in the C core, which runs no floats
    ports: tuple[PortRow, ...]
    weights: tuple[WeightsRow, ...]
    ram: tuple[RamRow, ...]
    tensors: tuple[TensorRow, ...]
    parts: tuple[FilePart, ...]

    @property
    def peak(self) -> RamRow:
        """The operator that needs most RAM."""
        return max(self.ram, key=lambda row: row.needed_bytes)


def _parts(parsed: container.ParsedFile) -> tuple[FilePart, ...]:
    totals: dict[str, int] = {}
    for _, length, label in parsed.spans:
        name = next(part for pattern, part in _PARTS if re.match(pattern, label))
        totals[name] = totals.get(name, 0) + length
    largest_first = sorted(totals.items(), key=lambda item: -item[1])
    return tuple(FilePart(name, size, size / len(parsed.data)) for name, size in largest_first)


def _encoding_name(encoding: StreamDescriptor | FloatFormat) -> str:
    return encoding.name.lower() if isinstance(encoding, FloatFormat) else encoding.encoding.name


def _weights(parsed: container.ParsedFile, model: Model) -> tuple[WeightsRow, ...]:
    rows: list[WeightsRow] = []
    owner: dict[int, int] = {}  # constant -> operator that counts its bytes
    for index, (stored, operator) in enumerate(zip(parsed.operators, model.operators, strict=True)):
        if operator.weights is None or stored.constants[0] is None:
            continue
        constant = stored.constants[0]
        first = owner.setdefault(constant, index)
        values = operator.weights.values
        size = parsed.constants[constant].length if first == index else 0
        rows.append(
            WeightsRow(
                index,
                operator.kind.name,
                len(values),
                values.shape[1],
                float(np.count_nonzero(values) / values.size),
                _encoding_name(operator.weights.encoding),
                size,
                8 * parsed.constants[constant].length / values.size,
                size / len(parsed.data),
                None if first == index else first,
            )
        )
    return tuple(rows)


def _ram(model: Model) -> tuple[RamRow, ...]:
    occupancy, ends = arena_occupancy(model), living_ends(model)
    rows = []
    for index, operator in enumerate(model.operators):
        schedule = operator.schedule.name.lower()
        if operator.schedule_parameter:
            schedule += f" {operator.schedule_parameter}"
        rows.append(
            RamRow(
                index,
                operator.kind.name,
                tuple(model.tensors[operator.outputs[0]].shape),
                f"fused into {index - 1}" if is_fused_tail(model, index) else schedule,
                occupancy[index],
                ends[index],
                operator_stream_scratch_bytes(model, index),
                kernel_scratch_bytes(model, index),
            )
        )
    return tuple(rows)


def _role(model: Model, tensor: int) -> str:
    if model.tensors[tensor].flags & TensorFlag.PERSISTENT:
        return "state"
    if tensor in (port.tensor for port in model.outputs):
        return "output"
    return "input" if tensor in (port.tensor for port in model.inputs) else "inner"


def _tensors(model: Model) -> tuple[TensorRow, ...]:
    return tuple(
        TensorRow(
            tensor,
            _role(model, tensor),
            tuple(model.tensors[tensor].shape),
            model.tensors[tensor].dtype.name.lower(),
            model.tensors[tensor].arena_offset,
            model.tensors[tensor].size_bytes,
            first,
            last,
        )
        for tensor, (first, last) in sorted(arena_spans(model).items())
    )


def _ports(model: Model) -> tuple[PortRow, ...]:
    return tuple(
        PortRow(
            port.name,
            direction,
            tuple(model.tensors[port.tensor].shape),
            model.tensors[port.tensor].dtype.name.lower(),
            port.scale,
            port.zero_point,
            bool(port.flags),
        )
        for direction, ports in (("input", model.inputs), ("output", model.outputs))
        for port in ports
    )


def inspect_file(data: bytes) -> Inspection:
    """Check a file and describe it.

    Raises:
        FormatError: as `container.load`.
    """
    parsed = container.parse(data)
    model = container.load(data)
    weights = [c for c in parsed.constants if c.kind in (ConstantKind.WEIGHTS, ConstantKind.FLOATS)]
    header = parsed.header
    return Inspection(
        name=model.name,
        file_bytes=len(data),
        model_id=header.model_id,
        model_version=header.model_version,
        signed=parsed.signature is not None,
        sha256=parsed.sha256.hex(),
        features=tuple(
            str(feature.name).lower() for feature in Feature if feature & header.required_features
        ),
        operators=tuple(kind.name for kind in OperatorKind if header.required_operators >> kind & 1),
        weight_count=sum(o.weights.values.size for o in model.operators if o.weights is not None),
        weight_bytes=sum(constant.length for constant in weights),
        arena_bytes=header.arena_bytes,
        ram_peak_bytes=ram_peak_bytes(model),
        c_ram_peak_bytes=None if model.is_float else ram_peak_bytes(model, "c"),
        ports=_ports(model),
        weights=_weights(parsed, model),
        ram=_ram(model),
        tensors=_tensors(model),
        parts=_parts(parsed),
    )
