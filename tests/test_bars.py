"""Every bar of every topic has a figure on the right side of it, or says why not.

The tables show just that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import bars

NETWORKS = ("kws", "ic", "vww", "ad")
REQUIRED = {
    "path": {
        *(f"size_{network}" for network in NETWORKS),
        "size_unaccounted",
        *(f"ram_{network}" for network in NETWORKS),
        *(f"differences_reference_{network}" for network in NETWORKS),
        *(f"differences_micropython_{network}" for network in NETWORKS),
        *(f"differences_cpython_{network}" for network in NETWORKS),
        "differences_cpython_operators",
        "reference_ic_seconds",
        "reference_ic_accuracy",
        "viper_instructions_per_mac",
        "mpy_bytes",
        "heap_kws_flash",
        "heap_kws_file",
        *(f"pack_seconds_{network}" for network in NETWORKS),
        "vector_failures",
        "hostile_failures",
    },
    "core": {
        *(f"core_m4_{network}" for network in NETWORKS),
        *(f"core_m0_{network}" for network in ("kws", "ic", "vww")),
        *(f"core_size_ratio_{network}" for network in ("kws", "ic", "vww")),
        "core_ad_size_per_weight",
        "core_speed_bytes_vww",
        *(f"core_ram_{network}" for network in NETWORKS),
        "core_text_m4",
        "core_text_kws",
        "core_text_lenet300",
        "core_microbit_ram",
    },
    "training": {
        *(
            f"{network}_{kind}"
            for network in ("lenet300", "lenet5")
            for kind in (
                "lecture_bytes",
                "lecture_accuracy",
                "small_bytes",
                "small_accuracy",
                "post_training_bytes",
                "post_training_loss",
            )
        ),
        # LeNet-5 has one file for both of its points, held to the smaller size and the higher accuracy.
        "lenet300_accurate_bytes",
        "lenet300_accurate_accuracy",
        "resnet8_bytes",
        "resnet8_accuracy",
        "resnet8_post_training_bytes",
        "resnet8_post_training_loss",
        "post_training_seconds",
        "bwn_loss",
        "ttq_loss",
        "xnor_loss",
        "recipe_minutes",
    },
    "boards": {"deploy_line_share", "deploy_pty_rate", "deploy_ram", "wire_faults", "bench_spread"},
    "architectures": {
        "alexnet_seconds",
        "alexnet_memory",
        "vgg16_seconds",
        "vgg16_memory",
        "mobilenet_native_ratio",
    },
}
SOUND = bars.Bar(
    topic="path", name="sound", what="a figure", unit="bytes", comparison="<=", bar=10, aim=8, before=20,
    command="python benchmarks/bars.py", figure=9, commit="0123456789",
)  # fmt: skip


@pytest.mark.parametrize("topic", REQUIRED)
def test_bars_names_of_a_topic_are_complete(topic: str) -> None:
    assert {bar.name for bar in bars.load() if bar.topic == topic} == REQUIRED[topic]


def test_bars_every_entry_is_measured_and_met_or_says_why() -> None:
    found = bars.problems(bars.load())
    assert not found, "\n".join(found)


def test_bars_tables_are_current() -> None:
    assert bars.stale_pages(bars.load()) == [], "run `python benchmarks/bars.py --write`"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"figure": None, "commit": None}, "neither measured nor explained"),
        ({"figure": 11}, "is not <= 10"),
        ({"not_met": "for a reason"}, "not_met stays although 9 meets the bar"),
        ({"commit": None}, "names no commit"),
        ({"commit": "yesterday"}, "names no commit"),
        ({"comparison": "=<"}, "comparison '=<'"),
        ({"command": None}, "no command measures the figure"),
        ({"command": "python benchmarks/absent.py"}, "benchmarks/absent.py, which does not exist"),
    ],
)
def test_problems_entry_out_of_order_is_named(change: dict[str, object], sentence: str) -> None:
    found = bars.problems([replace(SOUND, **change)])
    assert len(found) == 1 and sentence in found[0]


def test_problems_sound_and_explained_entries_pass() -> None:
    missed = replace(SOUND, name="missed", figure=11, not_met="for a reason")
    unmeasured = replace(SOUND, name="unmeasured", figure=None, commit=None, not_met="no such device")
    assert bars.problems([SOUND, missed, unmeasured]) == []


def test_problems_name_twice_is_named() -> None:
    assert bars.problems([SOUND, SOUND]) == ["sound: the name occurs twice"]


@pytest.mark.parametrize(
    ("comparison", "figure", "met"),
    [("<=", 10, True), ("<", 10, False), ("==", 10, True), ("==", 9, False), (">=", 9, False)],
)
def test_is_met_at_the_edge_follows_the_comparison(comparison: str, figure: float, met: bool) -> None:
    assert replace(SOUND, comparison=comparison, figure=figure).is_met() is met


def test_save_then_load_gives_the_same_entries(tmp_path: Path) -> None:
    entries = [
        SOUND,
        replace(SOUND, name="other", headline=True, bar=0.5, figure=0.75, not_met='a "quoted" \\ reason'),
    ]
    bars.save(entries, tmp_path / "bars.toml")
    assert bars.load(tmp_path / "bars.toml") == entries


def test_with_region_replaces_only_the_region() -> None:
    page = f"before\n{bars.BEGIN}\nold\n{bars.END}\nafter\n"
    written = bars.with_region(page, bars.table([SOUND]))
    assert "old" not in written and written.startswith(f"before\n{bars.BEGIN}\n| what ")
    assert written.endswith(f" |\n{bars.END}\nafter\n")
    assert bars.with_region(written, bars.table([SOUND])) == written


def test_with_region_missing_marker_raises() -> None:
    with pytest.raises(ValueError, match="lacks the region"):
        bars.with_region("no region here", bars.table([SOUND]))


def test_headline_table_holds_the_headlines_alone() -> None:
    shown = replace(SOUND, name="shown", what="a headline", headline=True)
    rows = bars.headline_table([SOUND, shown]).splitlines()
    assert rows[2:] == ["| a headline (bytes) | 20 | <= 10 | **9** |"]


def test_table_leaves_out_what_is_not_measured_and_counts_it() -> None:
    waiting = replace(SOUND, name="later", what="a later thing", figure=None, commit=None, command=None)
    written = bars.table([SOUND, replace(waiting, not_met="not built yet")])
    assert "a figure" in written and "a later thing" not in written
    assert "\n\n1 more bars wait" in written
