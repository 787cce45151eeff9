"""The arithmetic of `thimble energy`: waveforms whose energy is known exactly, and recordings to refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host_tools.boards import load_board
from host_tools.energy import (
    TRACE_POINTS,
    decimated,
    estimate_by_current,
    estimate_by_operations,
    measure,
    measurement_figures,
    spread,
)
from host_tools.exit_codes import ExitCode, exit_code
from host_tools.meters.trace import (
    DTYPES,
    END,
    Samples,
    Trace,
    join_samples,
    load_trace,
    make_samples,
    save_trace,
)
from model_packager import container
from model_packager.errors import (
    ClippedSamples,
    LostSamples,
    MeasurementError,
    MissingTrigger,
    ShortWindow,
    UsageError,
)
from tests.device_models import packed_model
from tests.traces import RATE_HZ, rectangles, trace_of

WINDOWS = [(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)]
IDLE_W, ACTIVE_W = 3.0 * 0.002, 3.0 * 0.010


def without(samples: Samples, dropped: np.ndarray) -> Samples:
    """The samples but those at the places `dropped`."""
    return Samples(**{name: np.delete(getattr(samples, name), dropped) for name in DTYPES})


def test_measure_constant_power_is_exact() -> None:
    measured = measure(trace_of(rectangles(WINDOWS, 7.0), WINDOWS))
    assert measured.gross_uj.mean == pytest.approx(ACTIVE_W / 10 * 1e6, rel=1e-6)
    assert measured.net_uj.mean == pytest.approx((ACTIVE_W - IDLE_W) / 10 * 1e6, rel=1e-6)
    assert measured.gross_uj.standard_deviation == pytest.approx(0, abs=1e-3)
    assert [window.idle_mw for window in measured.windows] == pytest.approx([6.0] * 3, rel=1e-6)
    found = [time for window in measured.windows for time in (window.start_s, window.end_s)]
    assert found == pytest.approx(np.ravel(WINDOWS).tolist())
    assert (measured.lost_samples, measured.clipped_samples) == (0, 0)


def test_measure_of_a_ramp_and_of_a_sine_is_their_integral() -> None:
    ramp = rectangles(WINDOWS, 7.0, active=lambda t: 0.02 * t)
    assert measure(trace_of(ramp, WINDOWS)).gross_uj.mean == pytest.approx(3.0 * 0.01 / 10 * 1e6, rel=2e-4)
    sine = rectangles(WINDOWS, 7.0, active=lambda t: 0.01 + 0.005 * np.sin(2 * np.pi * 50 * t))
    assert measure(trace_of(sine, WINDOWS)).gross_uj.mean == pytest.approx(3.0 * 0.01 / 10 * 1e6, rel=1e-6)


def test_measure_uses_the_voltage_of_each_sample() -> None:
    samples = rectangles(WINDOWS, 7.0)
    sagging = replace(samples, voltage_volts=np.where(samples.trigger, np.float32(2.5), np.float32(3.0)))
    assert measure(trace_of(sagging, WINDOWS)).gross_uj.mean == pytest.approx(2500, rel=1e-6)


def test_measure_idle_is_that_beside_each_window() -> None:
    samples = rectangles(WINDOWS, 7.0)
    drifting = replace(
        samples,
        current_amperes=np.where(samples.trigger, 0.01, samples.time_s / 1000).astype(np.float32),
    )
    measured = measure(trace_of(drifting, WINDOWS))
    # Between two windows, both sides count alike, so that the mean is that of the window's middle; the first
    # and the last have one side that begins or ends with the recording.
    assert measured.windows[1].idle_mw == pytest.approx(3.0 * 3.5, rel=1e-4)


def test_measure_leaves_out_the_time_in_which_the_device_talks() -> None:
    samples = rectangles(WINDOWS, 7.0)
    talking = samples.current_amperes.copy()
    for start_s, end_s in WINDOWS:
        for edge_s in (start_s - 0.09, end_s):
            talking[round(edge_s * RATE_HZ) : round((edge_s + 0.09) * RATE_HZ)] = 0.05
    measured = measure(trace_of(replace(samples, current_amperes=talking), WINDOWS))
    assert measured.windows[1].idle_mw == pytest.approx(6.0, rel=1e-6)


def test_spread_is_of_the_windows() -> None:
    figures = spread([1.0, 2.0, 3.0, 4.0])
    assert figures.standard_deviation == pytest.approx(np.std([1, 2, 3, 4], ddof=1))
    assert (figures.mean, figures.min, figures.max) == (2.5, 1.0, 4.0)
    assert spread([7.0]).standard_deviation == 0


def test_measure_from_ends_alone_takes_the_length_from_the_device() -> None:
    samples = rectangles(WINDOWS, 7.0)
    ends = np.zeros(len(samples), bool)
    ends[[round(end_s * RATE_HZ) for _, end_s in WINDOWS]] = True
    trace = trace_of(replace(samples, trigger=ends), WINDOWS, trigger_marks=END)
    assert measure(trace).gross_uj.mean == pytest.approx(ACTIVE_W / 10 * 1e6, rel=1e-6)


def test_measure_from_ends_refuses_windows_that_overlap() -> None:
    samples = rectangles(WINDOWS, 7.0)
    ends = np.zeros(len(samples), bool)
    ends[[20_000, 25_000, 60_000]] = True
    trace = trace_of(replace(samples, trigger=ends), WINDOWS, trigger_marks=END)
    with pytest.raises(MissingTrigger, match=r"window 2 ended 0\.5 s after the one before"):
        measure(trace)


def test_measure_from_ends_refuses_a_window_that_began_before_the_recording() -> None:
    samples = rectangles(WINDOWS, 7.0)
    ends = np.zeros(len(samples), bool)
    ends[5000] = True
    trace = trace_of(replace(samples, trigger=ends), WINDOWS[:1], trigger_marks=END)
    with pytest.raises(MissingTrigger, match="window 1 began before the recording"):
        measure(trace)


def test_measure_bridges_few_lost_samples_and_refuses_many() -> None:
    samples = rectangles(WINDOWS, 7.0)
    few = without(samples, np.arange(12_000, 12_009))  # 9 of 10,000 in the first window
    measured = measure(trace_of(few, WINDOWS))
    assert measured.lost_samples == 9
    assert measured.gross_uj.mean == pytest.approx(ACTIVE_W / 10 * 1e6, rel=1e-6)
    with pytest.raises(LostSamples, match="11 of 10,000 samples of trigger window 1"):
        measure(trace_of(without(samples, np.arange(12_000, 12_011)), WINDOWS))


def test_measure_refuses_clipped_samples_in_a_window_alone() -> None:
    samples = rectangles(WINDOWS, 7.0)
    clipped = np.zeros(len(samples), bool)
    clipped[:5000] = True
    assert measure(trace_of(replace(samples, clipped=clipped), WINDOWS)).clipped_samples == 5000
    clipped[12_000:12_011] = True
    with pytest.raises(ClippedSamples, match="in 11 of 10,000 samples of trigger window 1"):
        measure(trace_of(replace(samples, clipped=clipped), WINDOWS))


@pytest.mark.parametrize(
    ("trigger", "sentence"),
    [
        (lambda samples: np.zeros(len(samples), bool), "the meter saw 0 trigger windows"),
        (lambda samples: samples.trigger & (samples.time_s < 4.5), "saw 2 trigger windows, and the device"),
        (lambda samples: np.ones(len(samples), bool), "is on where the recording begins"),
        (lambda samples: samples.time_s > 6.5, "is on where the recording ends"),
    ],
)
def test_measure_refuses_windows_that_are_not_the_devices(trigger: object, sentence: str) -> None:
    samples = rectangles(WINDOWS, 7.0)
    trace = trace_of(replace(samples, trigger=trigger(samples)), WINDOWS)  # type: ignore[operator]
    with pytest.raises(MissingTrigger, match=sentence) as refused:
        measure(trace)
    assert exit_code(refused.value) == ExitCode.MEASUREMENT_FAILED


def test_measure_refuses_a_window_of_another_length_than_the_device_timed() -> None:
    trace = trace_of(rectangles(WINDOWS, 7.0), WINDOWS)
    late = Trace(trace.samples, replace(trace.info, device_us=(1_000_000, 1_060_000, 1_000_000)))
    with pytest.raises(MissingTrigger, match=r"window 2 took 1 s by the meter's clock and 1\.06 s by the"):
        measure(late)
    near = Trace(trace.samples, replace(trace.info, device_us=(1_000_000, 1_040_000, 1_000_000)))
    assert measure(near).gross_uj.mean == pytest.approx(3000, rel=1e-6)


def test_measure_refuses_short_windows_and_missing_idle() -> None:
    short = [(1.0, 1.004)]
    with pytest.raises(ShortWindow, match=r"window 1 of 4 ms holds 40 samples.*--seconds"):
        measure(trace_of(rectangles(short, 2.0), short))
    whole = [(0.001, 0.999)]
    with pytest.raises(ShortWindow, match=r"samples of idle time.*--idle"):
        measure(trace_of(rectangles(whole, 1.0), whole))
    with pytest.raises(MissingTrigger, match="does not say how many"):
        measure(trace_of(rectangles([], 1.0), []))


def test_decimated_keeps_the_mean_in_few_points() -> None:
    samples = rectangles(WINDOWS, 7.0)
    points = decimated(samples)
    assert len(points["time_s"]) == len(points["power_mw"]) == TRACE_POINTS
    mean_mw = float(np.mean(samples.current_amperes) * 3.0 * 1e3)
    assert np.mean(points["power_mw"]) == pytest.approx(mean_mw, rel=1e-3)
    assert max(points["power_mw"]) == pytest.approx(30) and min(points["power_mw"]) == pytest.approx(6)
    assert len(decimated(rectangles([], 0.01))["time_s"]) == 100
    gap = without(samples, np.arange(10_000, 40_000))
    assert len(decimated(gap)["time_s"]) < TRACE_POINTS


def test_figures_are_json_and_say_what_was_measured() -> None:
    trace = trace_of(rectangles(WINDOWS, 7.0), WINDOWS)
    figures = json.loads(json.dumps(measurement_figures(trace, measure(trace))))
    assert figures["sample_rate_hz"] == RATE_HZ and figures["supply_volts"] == 3.0
    assert figures["energy_per_inference_uj"]["net"]["mean"] == pytest.approx(2400, rel=1e-6)
    assert [window["runs"] for window in figures["windows"]] == [10, 10, 10]


# ------------------------------------------------------------------------------------------------- the file


def test_trace_file_gives_back_every_sample(tmp_path: Path) -> None:
    trace = trace_of(rectangles(WINDOWS, 7.0), WINDOWS, board="Pico", model_sha256="ab")
    path = tmp_path / "x.npz"
    save_trace(path, trace)
    again = load_trace(path)
    assert again.info == trace.info
    for name, dtype in DTYPES.items():
        array = getattr(again.samples, name)
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, getattr(trace.samples, name))
    assert measure(again) == measure(trace)


def test_trace_file_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    trace = trace_of(rectangles(WINDOWS, 7.0), WINDOWS)
    good = tmp_path / "good.npz"
    save_trace(good, trace)
    with np.load(good) as archive:
        columns = {name: archive[name] for name in archive.files}
    info = json.loads(str(columns["info"]))
    path = tmp_path / "bad.npz"
    cases: list[tuple[dict[str, object], str]] = [
        ({"time_s": None}, "it has no time_s"),
        ({"trigger": columns["trigger"][1:]}, "not of one length"),
        ({"time_s": columns["time_s"][::-1]}, "time_s does not rise"),
        ({"current_amperes": np.full(70_000, np.nan)}, "current_amperes holds what is no number"),
        ({"voltage_volts": np.full(70_000, "x")}, "not of numbers"),
        ({"info": np.array("{")}, "its info is not whole"),
        ({"info": np.array(json.dumps({**info, "format": 2}))}, "not of trace format 1"),
        ({"info": np.array(json.dumps({**info, "more": 1}))}, "unknown field more"),
        ({"info": np.array(json.dumps({**info, "runs": [1]}))}, "one for each window"),
        ({"info": np.array(json.dumps({**info, "runs": [0, 1, 1]}))}, "one for each window"),
        ({"info": np.array(json.dumps({**info, "trigger_marks": "x"}))}, "neither level nor end"),
        ({"info": np.array(json.dumps({"format": 1}))}, "its info is not whole"),
    ]
    for changes, sentence in cases:
        kept = {name: array for name, array in {**columns, **changes}.items() if array is not None}
        np.savez(path, **kept)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=sentence):
            load_trace(path)
    for content in (b"", b"PK\x03\x04", b"time,current\n", good.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"^no trace file: {path} is not a .npy or .npz file"):
            load_trace(path)
    np.savez(path, info=np.array([object()], dtype=object), **{n: columns[n] for n in DTYPES})
    with pytest.raises(UsageError, match="no trace file"):
        load_trace(path)
    with pytest.raises(UsageError, match=r"must end in \.npz"):
        save_trace(tmp_path / "x.csv", trace)


def test_join_samples_of_none_and_of_several() -> None:
    assert len(join_samples([])) == 0
    pieces = [make_samples(time_s=[i, i + 0.5], current_amperes=i, voltage_volts=1) for i in range(3)]
    joined = join_samples(pieces)
    assert joined.time_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert joined.current_amperes.tolist() == [0, 0, 1, 1, 2, 2]


# ------------------------------------------------------------------------------------------------- estimates


def test_estimate_by_current_is_arithmetic_on_the_board_file() -> None:
    estimate = estimate_by_current(load_board("esp32"), 2000.0)
    assert estimate is not None
    assert estimate["estimated_uj"] == pytest.approx([3.3 * 27 * 2, 3.3 * 44 * 2])
    assert estimate["source"] == load_board("esp32").source("measurement.active_milliamps")
    assert estimate_by_current(load_board("pico"), 2000.0) is None  # its file knows no current


def test_estimates_never_look_like_measurements() -> None:
    by_current = estimate_by_current(load_board("esp32"), 2000.0)
    by_operations = estimate_by_operations(container.load(packed_model()))
    assert by_current is not None and by_operations["estimated_uj"] > 0
    for estimate in (by_current, by_operations):
        assert not [key for key in estimate if key.endswith("_uj") and not key.startswith("estimated")]


def test_measurement_errors_have_an_exit_code_of_their_own() -> None:
    for kind in (LostSamples, ClippedSamples, MissingTrigger, ShortWindow):
        assert issubclass(kind, MeasurementError)
        assert exit_code(kind("x")) == ExitCode.MEASUREMENT_FAILED
