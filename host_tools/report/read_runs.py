"""The documents that `thimble report` takes: what analyze, bench, energy, eval, inspect, pack and train print
with --json. A path goes in, a ``Run`` with checked figures comes out.

A .thimble file counts as what `inspect --json` says of it. Results of training without "kind", as
benchmarks/training keeps them, are known by their fields.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from host_tools.inspect import FilePart, RamRow, TensorRow, WeightsRow, inspect_file
from host_tools.report.fields import SIGNED, plain, read_fields
from model_packager.errors import FormatError, UsageError


@dataclass(frozen=True)
class Sizes:
    """`inspect`: bytes by layer and purpose, and the memory plan."""

    model: str
    sha256: str
    name: str
    file_bytes: int
    weight_count: int
    weight_bytes: int
    arena_bytes: int
    ram_peak_bytes: int
    weights: tuple[WeightsRow, ...]
    ram: tuple[RamRow, ...]
    tensors: tuple[TensorRow, ...]
    parts: tuple[FilePart, ...]

    def check(self) -> str | None:
        """What contradicts itself, as the end of a sentence."""
        count = len(self.ram)
        if [row.operator for row in self.ram] != list(range(count)):
            return "ram does not list the operators in their order"
        if any(not -1 <= row.first_operator <= row.last_operator <= count for row in self.tensors):
            return "a tensor lives during operators that there are not"
        if any(row.operator >= count for row in self.weights):
            return "weights belong to an operator that there is not"
        return None


@dataclass(frozen=True)
class LayerTime:
    """One operator of a benchmark; ``time`` in the unit of the run, 0 in a fused pair's first."""

    index: int
    kind: str
    macs: int
    fused: bool
    time: float


@dataclass(frozen=True)
class OtherStack:
    """The nearest published figure; ``missing`` says why there is none."""

    text: str | None = None
    milliseconds: float | None = None
    organisation: str = ""
    system: str = ""
    round: str = ""
    missing: str | None = None

    @property
    def where(self) -> str:
        """Whose result on what it is."""
        return f"{self.organisation}, {self.system}, MLPerf Tiny {self.round}"


@dataclass(frozen=True)
class Latency:
    """`bench`: times in ``unit``, "us" or "instructions"."""

    model: str
    sha256: str
    board: str
    unit: str
    runs: int
    warm_up_runs: int
    min: float
    median: float
    p95: float
    operators: tuple[LayerTime, ...]
    macs: int
    load: float | None = None
    raw_median: float | None = None
    raw_operators: tuple[float, ...] | None = None
    raw_refused: str | None = None
    macs_per_s: float | None = None
    instructions_per_mac: float | None = None
    decode_share: float | None = None
    other_stack: OtherStack | None = None

    def check(self) -> str | None:
        """What contradicts itself, as the end of a sentence."""
        if self.unit not in ("us", "instructions"):
            return f"the unit {self.unit} is neither us nor instructions"
        if [layer.index for layer in self.operators] != list(range(len(self.operators))):
            return "operators are not listed in their order"
        if self.raw_operators is not None and len(self.raw_operators) != len(self.operators):
            return "raw_operators has another length than operators"
        return None


@dataclass(frozen=True)
class Accuracy:
    """`eval`: counts of samples of `data`; the original's where there was one."""

    model: str
    sha256: str
    file_bytes: int
    data: str
    target: str
    count: int
    right: int | None = None
    original: str | None = None
    original_bytes: int | None = None
    judge: str | None = None
    original_right: int | None = None
    same_class: int | None = None
    identical: int | None = None

    def check(self) -> str | None:
        """What contradicts itself, as the end of a sentence."""
        parts = (self.right, self.original_right, self.same_class, self.identical)
        return "more samples are counted than there are" if max(p or 0 for p in parts) > self.count else None


@dataclass(frozen=True)
class Training:
    """`train`: accuracies in per cent of ``test_count`` samples."""

    file_bytes: int
    accuracy: float
    float_accuracy: float
    test_count: int
    output: str = ""
    recipe: str = ""
    sha256: str | None = None
    nonzero_count: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    def check(self) -> str | None:
        """What contradicts itself, as the end of a sentence."""
        return "an accuracy is above 100 per cent" if max(self.accuracy, self.float_accuracy) > 100 else None


@dataclass(frozen=True)
class Packing:
    """`pack`: bytes before, with raw weights, and after."""

    output: str
    sha256: str
    file_bytes: int
    raw_file_bytes: int
    ram_peak_bytes: int
    weights_before: int
    weights_after: int
    channels_removed: int
    source_bytes: int | None = None

    def check(self) -> str | None:
        """There is nothing that could contradict itself."""
        return None


@dataclass(frozen=True)
class PrecisionEnergy:
    """Energy of one inference in picojoules, estimated from single operations."""

    precision: str
    arithmetic_pj: float
    memory_pj: float
    dram_pj: float


@dataclass(frozen=True)
class EnergyEstimate:
    """`analyze`'s estimates and where the operations' energies are from."""

    source: str
    precisions: tuple[PrecisionEnergy, ...]


@dataclass(frozen=True)
class Counts:
    """`analyze`: what the network is, whatever runs it."""

    model: str
    name: str
    weights: int
    macs: int
    peak_activations: int
    energy_estimate: EnergyEstimate
    sha256: str | None = None

    def check(self) -> str | None:
        """There is nothing that could contradict itself."""
        return None


@dataclass(frozen=True)
class Spread:
    """Of the energy of one inference, in microjoules."""

    mean: float = field(metadata=SIGNED)
    standard_deviation: float
    min: float = field(metadata=SIGNED)
    max: float = field(metadata=SIGNED)


@dataclass(frozen=True)
class PerInference:
    """With idle power, and without."""

    gross: Spread
    net: Spread


@dataclass(frozen=True)
class Window:
    """One trigger window: ``runs`` inferences back to back, by the meter's clock."""

    start_s: float = field(metadata=SIGNED)
    end_s: float = field(metadata=SIGNED)
    runs: int
    gross_uj: float = field(metadata=SIGNED)
    net_uj: float = field(metadata=SIGNED)
    idle_mw: float = field(metadata=SIGNED)


@dataclass(frozen=True)
class Trace:
    """Power over time, on the windows' axis."""

    time_s: tuple[float, ...] = field(metadata=SIGNED)
    power_mw: tuple[float, ...] = field(metadata=SIGNED)


@dataclass(frozen=True)
class Measurement:
    """What a meter saw."""

    meter: str
    supply_volts: float
    supply_source: str
    sample_rate_hz: float
    sample_count: int
    lost_samples: int
    clipped_samples: int
    energy_per_inference_uj: PerInference
    windows: tuple[Window, ...]
    trace: Trace


@dataclass(frozen=True)
class CurrentEstimate:
    """From the board file's active current and the measured latency: from and to, in microjoules."""

    estimated_uj: tuple[float, ...]
    supply_volts: float
    active_milliamps: tuple[float, ...]
    source: str


@dataclass(frozen=True)
class OperationsEstimate:
    """From the energies of single operations, in microjoules."""

    estimated_uj: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """Never a measurement."""

    active_current: CurrentEstimate | None = None
    operations: OperationsEstimate | None = None


@dataclass(frozen=True)
class Energy:
    """`energy`: the measurement is None where there was no meter."""

    model: str
    sha256: str
    board: str | None = None
    latency_us: float | None = None
    measurement: Measurement | None = None
    estimate: Estimate | None = None

    def check(self) -> str | None:
        """What contradicts itself, as the end of a sentence."""
        if self.measurement is None:
            return None
        trace = self.measurement.trace
        if len(trace.time_s) != len(trace.power_mw):
            return "the trace has not one power for each time"
        if any(late <= early for early, late in zip(trace.time_s, trace.time_s[1:], strict=False)):
            return "the trace's times do not rise"
        if any(window.end_s <= window.start_s for window in self.measurement.windows):
            return "a window ends before it starts"
        return None


Figures = Sizes | Latency | Accuracy | Training | Packing | Counts | Energy
KINDS: dict[str, type[Any]] = {
    "analyze": Counts,
    "bench": Latency,
    "energy": Energy,
    "eval": Accuracy,
    "inspect": Sizes,
    "pack": Packing,
    "train": Training,
}
_OF_TRAINING = {"file_bytes", "accuracy", "float_accuracy", "test_count"}


@dataclass(frozen=True)
class Run:
    """One document: the name of its file, the command that printed it, its figures."""

    source: str
    kind: str
    figures: Figures


def read_run(path: Path) -> Run:
    """Read and check one document, or a .thimble file in its place.

    Raises:
        UsageError: it is not JSON, not of a kind that a report shows, or contradicts itself.
        FormatError: it is a .thimble file that fails a check.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    if path.suffix.lower() == ".thimble":
        try:
            document: Any = {"kind": "inspect", "model": str(path), **asdict(inspect_file(data))}
        except FormatError as error:
            raise FormatError(error.code, f"{path}: {error.detail}") from error
        document = json.loads(json.dumps(document))
    else:
        document = _parsed(data, path)
    kind = _kind(document, path)
    renamed = _without_unit(document) if kind == "bench" else document
    figures = read_fields(KINDS[kind], renamed, str(path))
    if complaint := figures.check():
        raise UsageError(f"{path}: {complaint}")
    return Run(plain(path.name), kind, figures)


def _parsed(data: bytes, path: Path) -> Any:
    if not data.strip():
        raise UsageError(f"{path} is empty; a report is made of what commands print with --json")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON, as commands print it with --json") from error


def _kind(document: Any, path: Path) -> str:
    known = ", ".join(KINDS)
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds no JSON object, as one of {known} prints with --json")
    kind = document.get("kind")
    if kind is None and _OF_TRAINING <= document.keys():
        return "train"
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"{path} does not say that it is of a kind that a report shows: {known}")
    return kind


def _without_unit(document: dict[str, Any]) -> dict[str, Any]:
    """What bench prints with its unit in the names, such as median_us, by names without it."""
    unit = document.get("unit")
    renamed = {key.removesuffix(f"_{unit}"): value for key, value in document.items()}
    operators = document.get("operators")
    if isinstance(unit, str) and isinstance(operators, list):
        renamed["operators"] = [
            {"time": each.get(unit), **each} if isinstance(each, dict) else each for each in operators
        ]
    return renamed
