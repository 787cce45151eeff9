"""The memory plan: never an overlap that a schedule does not allow, and no worse than running every operator
whole."""

from __future__ import annotations

import pytest

from model_packager.errors import PackError
from model_packager.format_table import OperatorKind, ScheduleKind, TensorFlag
from model_packager.model import Model
from model_packager.passes.kernel_scratch import kernel_scratch_bytes, ram_peak_bytes
from model_packager.passes.lifetimes import arena_spans
from model_packager.passes.place_tensors import Block, Span, live_bytes, place_tensors
from model_packager.passes.plan_memory import PlanOptions, arena_occupancy, plan_memory, verify_plan
from tests.random_networks import NetworkBuilder, random_network

ONLY_WHOLE = PlanOptions(forbid=frozenset(ScheduleKind) - {ScheduleKind.WHOLE})


def depthwise_separable_network() -> Model:
    """Convolution, then depthwise and pointwise layers of one size, as in keyword spotting."""
    builder = NetworkBuilder(1)
    tensor = builder.conv(builder.input((1, 25, 5, 1)), 64, 3)
    for _ in range(2):
        tensor = builder.conv(builder.depthwise(tensor), 64)
    builder.output(builder.fully_connected(builder.reshape(builder.global_pool(tensor), (1, 64)), 12))
    return builder.model


def residual_network() -> Model:
    """Two convolutions with a shortcut around them, as in a residual network."""
    builder = NetworkBuilder(2)
    start = builder.conv(builder.input((1, 16, 16, 3)), 16, 3)
    builder.output(builder.add(start, builder.conv(builder.conv(start, 16, 3), 16, 3)))
    return builder.model


def expanding_network() -> Model:
    """A pointwise layer that doubles the channels before a depthwise one with stride 2, as in MobileNet."""
    builder = NetworkBuilder(3)
    builder.output(builder.depthwise(builder.conv(builder.input((1, 32, 32, 8)), 16), 3, 2))
    return builder.model


@pytest.mark.parametrize("seed", range(60))
def test_plan_memory_random_network_is_valid_and_no_worse_than_whole(seed: int) -> None:
    model = random_network(seed, 3 + seed % 12)
    verify_plan(plan_memory(model, ONLY_WHOLE))
    whole = ram_peak_bytes(model)
    assert all(operator.schedule is ScheduleKind.WHOLE for operator in model.operators)
    verify_plan(plan_memory(model))
    assert ram_peak_bytes(model) <= whole


@pytest.mark.parametrize("forbidden", [schedule for schedule in ScheduleKind if schedule])
def test_plan_memory_forbidden_schedule_is_not_used(forbidden: ScheduleKind) -> None:
    for seed in range(12):
        model = plan_memory(random_network(seed, 10), PlanOptions(forbid=frozenset({forbidden})))
        verify_plan(model)
        assert forbidden not in {operator.schedule for operator in model.operators}


def test_plan_memory_depthwise_separable_network_holds_one_activation() -> None:
    model = plan_memory(depthwise_separable_network())
    assert model.arena_bytes == 25 * 5 * 64 + 128  # the input, 125 bytes, is rounded up to whole words
    assert ram_peak_bytes(model) == 25 * 5 * 64 + 5 * 64  # a band of one row, where the input has been
    kinds = {operator.kind: operator.schedule for operator in model.operators[1:5]}
    assert kinds == {
        OperatorKind.DEPTHWISE_CONV_2D: ScheduleKind.IN_PLACE,
        OperatorKind.CONV_2D: ScheduleKind.IN_PLACE,
    }


def test_plan_memory_residual_network_fuses_the_sum_in_place() -> None:
    model = plan_memory(residual_network())
    assert model.operators[2].schedule is ScheduleKind.FUSED_ADD
    assert model.operators[3].schedule is ScheduleKind.IN_PLACE
    assert model.arena_bytes == 2 * 16 * 16 * 16
    assert ram_peak_bytes(model) == model.arena_bytes + 16 * 16


def test_plan_memory_expanding_network_never_holds_the_expanded_activation() -> None:
    model = plan_memory(expanding_network())
    assert model.operators[0].schedule is ScheduleKind.FUSED_DEPTHWISE
    assert model.arena_bytes == 32 * 32 * 8 + 16 * 16 * 16
    assert kernel_scratch_bytes(model, 0) >= 33 * 33
    assert kernel_scratch_bytes(model, 1) == 0


def test_plan_memory_schedule_that_lowers_nothing_is_not_used() -> None:
    builder = NetworkBuilder(4)
    small = builder.depthwise(builder.conv(builder.input((1, 32, 32, 8)), 4, 3, 8))
    builder.output(builder.lookup(small))
    model = plan_memory(builder.model)
    assert {operator.schedule for operator in model.operators} == {ScheduleKind.WHOLE}


def test_plan_memory_band_slack_gives_fewer_bands() -> None:
    tight = plan_memory(depthwise_separable_network())
    loose = plan_memory(depthwise_separable_network(), PlanOptions(band_slack=0.25))
    verify_plan(loose)
    assert tight.operators[2].schedule_parameter == 1
    assert loose.operators[2].schedule_parameter > 1
    assert ram_peak_bytes(loose) <= 1.25 * ram_peak_bytes(tight)


def test_plan_memory_forced_schedule_is_used() -> None:
    model = expanding_network()
    plan_memory(model, PlanOptions(force={0: ScheduleKind.WHOLE}))
    assert model.operators[0].schedule is ScheduleKind.WHOLE
    verify_plan(model)
    residual = plan_memory(
        depthwise_separable_network(), PlanOptions(force={2: ScheduleKind.FUSED_DEPTHWISE})
    )
    assert residual.operators[2].schedule is ScheduleKind.FUSED_DEPTHWISE
    verify_plan(residual)


def test_plan_memory_impossible_forced_schedule_is_refused() -> None:
    with pytest.raises(PackError, match=r"operator 0 \(CONV_2D\) cannot have schedule FUSED_ADD"):
        plan_memory(expanding_network(), PlanOptions(force={0: ScheduleKind.FUSED_ADD}))


def test_plan_memory_model_output_that_is_read_later_survives() -> None:
    builder = NetworkBuilder(5)
    middle = builder.output(builder.lookup(builder.input((1, 8, 8, 4))))
    builder.output(builder.lookup(middle))
    verify_plan(plan_memory(builder.model))


def _swap_offsets(model: Model) -> None:
    model.tensors[1].arena_offset = model.tensors[0].arena_offset


def _shrink_arena(model: Model) -> None:
    model.arena_bytes -= 4


def _drop_schedule(model: Model) -> None:
    for operator in model.operators:
        operator.schedule = ScheduleKind.WHOLE


@pytest.mark.parametrize("damage", [_swap_offsets, _shrink_arena, _drop_schedule])
def test_verify_plan_damaged_plan_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    model = plan_memory(depthwise_separable_network())
    damage(model)
    with pytest.raises(PackError):
        verify_plan(model)


def test_arena_occupancy_planned_network_reaches_the_arena_size() -> None:
    for model in (depthwise_separable_network(), residual_network(), expanding_network()):
        occupancy = arena_occupancy(plan_memory(model))
        assert len(occupancy) == len(model.operators)
        assert max(occupancy) == model.arena_bytes


@pytest.mark.parametrize("seed", range(12))
def test_arena_spans_cover_the_bytes_that_arena_occupancy_counts(seed: int) -> None:
    model = plan_memory(random_network(seed, 3 + seed % 12))
    occupancy = arena_occupancy(model)
    for index, counted_bytes in enumerate(occupancy):
        covered: set[int] = set()
        for tensor, (first, last) in arena_spans(model).items():
            if first <= index <= last:
                start = model.tensors[tensor].arena_offset
                size_bytes = -(-model.tensors[tensor].size_bytes // 4) * 4  # places are aligned
                covered |= set(range(start, start + size_bytes))
        assert len(covered) == counted_bytes, index


def test_place_tensors_chain_reuses_what_has_died() -> None:
    blocks = [Block((Span(size, step, step + 1),)) for step, size in enumerate((40, 80, 20, 60))]
    placement = place_tensors(blocks, [0] * 5)
    assert placement.arena_bytes == placement.peak_bytes == max(live_bytes(blocks, 5)) == 120
    for first, second in zip(range(3), range(1, 4), strict=True):
        low, high = sorted((first, second), key=lambda i: placement.offsets[i])
        assert placement.offsets[low] + blocks[low].size_bytes <= placement.offsets[high]


def test_place_tensors_shrinking_chain_frees_its_tail() -> None:
    shrinking = Block((Span(100, 0, 1), Span(20, 1, 2)))
    later = Block((Span(80, 2, 2),))
    placement = place_tensors([shrinking, later], [0] * 3)
    assert (placement.offsets, placement.arena_bytes) == ([0, 20], 100)


def test_place_tensors_step_with_scratch_leaves_room_above_it() -> None:
    blocks = [Block((Span(100, 0, 0),)), Block((Span(40, 0, 1),)), Block((Span(20, 1, 1),))]
    placement = place_tensors(blocks, [0, 80])
    assert placement.ends[1] == 60
    assert placement.peak_bytes == 140


@pytest.mark.parametrize("schedule", [ScheduleKind.IN_PLACE, ScheduleKind.FUSED_ADD])
def test_plan_memory_forced_schedule_of_a_reshape_is_refused(schedule: ScheduleKind) -> None:
    builder = NetworkBuilder(8)
    builder.output(builder.lookup(builder.reshape(builder.input((1, 2, 2, 3)), (1, 12))))
    with pytest.raises(PackError, match=r"operator 0 \(RESHAPE\) cannot have schedule"):
        plan_memory(builder.model, PlanOptions(force={0: schedule}))


def test_plan_memory_forced_schedule_of_a_fused_tail_is_refused() -> None:
    force = {2: ScheduleKind.FUSED_DEPTHWISE, 3: ScheduleKind.IN_PLACE}
    with pytest.raises(PackError, match=r"operator 3 \(DEPTHWISE_CONV_2D\) is fused into the one before it"):
        plan_memory(depthwise_separable_network(), PlanOptions(force=force))


@pytest.mark.parametrize("kind", ["reshape", "lookup", "depthwise"])
def test_plan_memory_persistent_output_keeps_a_place_of_its_own(kind: str) -> None:
    builder = NetworkBuilder(4)
    source = builder.input((1, 4, 4, 2))
    state = {
        "reshape": lambda: builder.reshape(source, (1, 32)),
        "lookup": lambda: builder.lookup(source),
        "depthwise": lambda: builder.depthwise(source, 3),
    }[kind]()
    model = builder.model
    model.tensors[state].flags |= TensorFlag.PERSISTENT
    builder.output(builder.lookup(state))
    verify_plan(plan_memory(model))
    places = {model.tensors[tensor].arena_offset for tensor in (source, state)}
    assert len(places) == 2
