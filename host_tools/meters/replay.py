"""A recorded trace file in a meter's place: nothing is measured again, and no device is needed."""

from __future__ import annotations

from host_tools.meters.meter import MeterName
from host_tools.meters.trace import Trace, load_trace
from model_packager.errors import UsageError


def replay(name: MeterName, sha256: str) -> Trace:
    """The trace of `--meter replay:FILE`, which must be one of the model with this SHA-256 (hex).

    Raises:
        UsageError: no file is named, it is no trace, or it is that of another model.
    """
    if name.place is None or name.options:
        raise UsageError("--meter replay:FILE plays a trace file, without options")
    trace = load_trace(name.place)
    if trace.info.model_sha256 not in ("", sha256):
        raise UsageError(f"{name.place}: the trace of another model, {trace.info.model_sha256[:16]}...")
    return trace
