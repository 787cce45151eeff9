"""Memory plan: chooses each operator's schedule and each tensor's arena offset so that the RAM peak is
smallest.

An integer Model goes in and comes back changed in place: ``schedule`` and ``schedule_parameter`` of its
operators, ``arena_offset`` of its tensors, ``arena_bytes``. The RAM peak is the arena (inputs and outputs
included) plus the largest scratch of any operator (kernel_scratch.py). A schedule other than WHOLE is used
only where the peak would be higher without it, since it may cost time. ``verify_plan`` checks a plan on its
own. Callers are ``pack`` and tests.

The search: a limit on scratch is fixed, every operator takes the cheapest schedule whose scratch fits under
it and that lowers the bytes alive, and the limit with the smallest sum wins; then single operators are
changed while that lowers the peak, and schedules that lower nothing are taken back, costly ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from model_packager.errors import PackError
from model_packager.format_table import DType, OperatorKind, ScheduleKind, TensorFlag
from model_packager.model import Model, Operator
from model_packager.passes.kernel_scratch import (
    scratch_bytes,
)
from model_packager.passes.lifetimes import FUSED, Lifetimes
from model_packager.passes.place_tensors import Block, Placement, Span, live_bytes, place_tensors

ELEMENT_WISE = (
    OperatorKind.LOOKUP,
    OperatorKind.ADD,
    OperatorKind.SUB,
    OperatorKind.MUL,
    OperatorKind.MAXIMUM,
    OperatorKind.MINIMUM,
)


@dataclass(frozen=True)
class PlanOptions:
    """What the plan may do. Defaults: everything, for the smallest peak.

    ``forbid``: schedules that are not used; ``force``: operator index -> schedule that it must have
    (``PackError`` where it cannot). ``band_slack``: fraction of the peak that may be spent on higher bands,
    because each band decodes the weights again. ``executor``: whose kernel scratch counts.
    """

    forbid: frozenset[ScheduleKind] = frozenset()
    force: dict[int, ScheduleKind] = field(default_factory=dict)
    band_slack: float = 0.0
    executor: str = "micropython"


@dataclass(frozen=True)
class _Choice:
    """One way to run an operator. ``in_place_of`` is the input tensor whose place the final output takes."""

    schedule: ScheduleKind = ScheduleKind.WHOLE
    parameter: int = 0
    in_place_of: int | None = None

    @property
    def cost(self) -> int:
        """Rank by the time it may cost: element-wise and plane-wise ones nothing, bands decode weights
        again.
        """
        if self.schedule is ScheduleKind.WHOLE:
            return 0
        if self.schedule is ScheduleKind.IN_PLACE:
            return 2 if self.parameter else 1
        return 3


_WHOLE = _Choice()
_Plan = dict[int, _Choice]  # operator index -> choice; operators not named run WHOLE


def is_pointwise(operator: Operator) -> bool:
    """A 1x1 convolution with stride 1, no padding and one group: output pixel p needs input pixel p only."""
    attributes = operator.attributes
    windows = ("kernel_h", "kernel_w", "stride_h", "stride_w", "groups")
    pads = ("pad_top", "pad_left", "pad_bottom", "pad_right")
    return (
        operator.kind is OperatorKind.CONV_2D
        and all(attributes.get(name, 1) == 1 for name in windows)
        and all(attributes.get(name, 0) == 0 for name in pads)
    )


def _is_plane_wise(model: Model, operator: Operator) -> bool:
    """A depthwise convolution with multiplier 1 and stride 1 that keeps height and width."""
    same_shape = model.tensors[operator.inputs[0]].shape4 == model.tensors[operator.outputs[0]].shape4
    strides = (operator.attributes.get("stride_h", 1), operator.attributes.get("stride_w", 1))
    return operator.kind is OperatorKind.DEPTHWISE_CONV_2D and same_shape and strides == (1, 1)


def _in_place_choices(model: Model, lifetimes: Lifetimes, index: int) -> Iterator[_Choice]:
    operator = model.operators[index]
    output = model.tensors[operator.outputs[0]]
    first = operator.inputs[0]
    if output.dtype is DType.BIT:
        return
    if operator.kind in ELEMENT_WISE:
        for tensor in dict.fromkeys(operator.inputs):
            source = model.tensors[tensor]
            same = source.shape4 == output.shape4 and source.dtype is output.dtype
            if same and lifetimes.takes_over(operator.outputs[0], tensor, index):
                yield _Choice(ScheduleKind.IN_PLACE, 0, tensor)
        return
    if model.tensors[first].dtype is not output.dtype:
        return
    if not lifetimes.takes_over(operator.outputs[0], first, index):
        return
    if _is_plane_wise(model, operator):
        yield _Choice(ScheduleKind.IN_PLACE, 0, first)
    elif is_pointwise(operator) and output.shape4[3] <= model.tensors[first].shape4[3]:
        yield _Choice(ScheduleKind.IN_PLACE, 1, first)


def _fused_choices(model: Model, lifetimes: Lifetimes, index: int) -> Iterator[_Choice]:
    """Fusion of a convolution with the next operator: the tensor between them must have no other reader."""
    if index + 1 >= len(model.operators) or model.operators[index].kind is not OperatorKind.CONV_2D:
        return
    operator, tail = model.operators[index], model.operators[index + 1]
    between = operator.outputs[0]
    if DType.BIT in (model.tensors[between].dtype, model.tensors[operator.inputs[0]].dtype):
        return
    if lifetimes.readers[between] != [index + 1] or not lifetimes.dies_at(between, index + 1):
        return
    if tail.kind is OperatorKind.DEPTHWISE_CONV_2D:
        if model.tensors[between].shape4[3] == model.tensors[tail.outputs[0]].shape4[3]:
            yield _Choice(ScheduleKind.FUSED_DEPTHWISE)
        return
    if tail.kind not in (OperatorKind.ADD, OperatorKind.SUB):
        return
    other = next(tensor for tensor in tail.inputs if tensor != between)
    shapes = {model.tensors[tensor].shape4 for tensor in (between, other, tail.outputs[0])}
    dtypes = {model.tensors[tensor].dtype for tensor in (between, other, tail.outputs[0])}
    if len(shapes) != 1 or len(dtypes) != 1:
        return
    yield _Choice(ScheduleKind.FUSED_ADD)
    # The convolution still reads its input while channels of the sum are written.
    if lifetimes.takes_over(tail.outputs[0], other, index + 1) and other not in operator.inputs:
        yield _Choice(ScheduleKind.FUSED_ADD, 0, other)


def _all_choices(model: Model, lifetimes: Lifetimes, options: PlanOptions) -> dict[int, list[_Choice]]:
    """Per operator what it may do beside WHOLE, after the options. An operator whose schedule is forced to
    something else than WHOLE has no WHOLE choice, which is told by leaving it out of the search's starting
    plan.
    """
    choices: dict[int, list[_Choice]] = {}
    for index, operator in enumerate(model.operators):
        possible: list[_Choice] = []
        if operator.kind is not OperatorKind.RESHAPE:  # its tensors share their place without a schedule
            possible = [*_in_place_choices(model, lifetimes, index), *_fused_choices(model, lifetimes, index)]
        possible = [choice for choice in possible if choice.schedule not in options.forbid]
        if index in options.force:
            forced = options.force[index]
            possible = [choice for choice in possible if choice.schedule is forced]
            if not possible and forced is not ScheduleKind.WHOLE:
                raise PackError(f"operator {index} ({operator.kind.name}) cannot have schedule {forced.name}")
            if options.force.get(index - 1) in FUSED and forced is not ScheduleKind.WHOLE:
                raise PackError(f"operator {index} ({operator.kind.name}) is fused into the one before it")
        if possible:
            choices[index] = possible
    return choices


class _Search:
    """Evaluates and improves plans for one model."""

    def __init__(self, model: Model, options: PlanOptions) -> None:
        self.model = model
        self.options = options
        self.lifetimes = Lifetimes(model)
        self.choices = _all_choices(model, self.lifetimes, options)
        self.step_count = len(model.operators) + 2
        self._scratch: dict[tuple[int, _Choice], int] = {}

    # -- one plan ------------------------------------------------------------------------------------------

    def apply(self, plan: _Plan) -> None:
        """Write the plan's schedules into the model."""
        for operator in self.model.operators:
            operator.schedule, operator.schedule_parameter = ScheduleKind.WHOLE, 0
        for index, choice in plan.items():
            operator = self.model.operators[index]
            operator.schedule, operator.schedule_parameter = choice.schedule, choice.parameter
            if choice.schedule is ScheduleKind.FUSED_ADD and choice.in_place_of is not None:
                self.model.operators[index + 1].schedule = ScheduleKind.IN_PLACE

    def scratch(self, index: int, choice: _Choice) -> int:
        """Scratch of one operator under a choice, both kinds, in a model whose schedules are WHOLE."""
        known = self._scratch.get((index, choice))
        if known is not None:
            return known
        operator = self.model.operators[index]
        operator.schedule, operator.schedule_parameter = choice.schedule, choice.parameter
        total = scratch_bytes(self.model, index, self.options.executor)
        operator.schedule, operator.schedule_parameter = ScheduleKind.WHOLE, 0
        self._scratch[index, choice] = total
        return total

    def scratch_steps(self, plan: _Plan) -> list[int]:
        """Scratch per step (operator index + 1); both steps of a fused pair need it."""
        steps = [0] * self.step_count
        for index in range(len(self.model.operators)):
            if not self.free(plan, index):
                continue
            choice = plan.get(index, _WHOLE)
            steps[index + 1] = self.scratch(index, choice)
            if choice.schedule in FUSED:
                steps[index + 2] = steps[index + 1]
        return steps

    def blocks(self, plan: _Plan) -> list[tuple[list[int], Block]]:
        """Groups of tensors that share an offset, with their lifetimes in steps (operator index + 1)."""
        parent = list(range(len(self.model.tensors)))

        def root(tensor: int) -> int:
            while parent[tensor] != tensor:
                tensor = parent[tensor]
            return tensor

        hidden: set[int] = set()  # tensors between fused operators
        first, last = list(self.lifetimes.first), list(self.lifetimes.last)
        for index, operator in enumerate(self.model.operators):
            choice = plan.get(index, _WHOLE)
            output = operator.outputs[0]
            if operator.kind is OperatorKind.RESHAPE:
                if self.lifetimes.takes_over(output, operator.inputs[0], index):
                    parent[root(output)] = root(operator.inputs[0])
            if choice.schedule in FUSED:
                # Both operators are one step: what either reads or writes is alive during both.
                hidden.add(output)
                output = self.model.operators[index + 1].outputs[0]
                first[output] = min(first[output], index)
                for tensor in operator.inputs:
                    last[tensor] = max(last[tensor], index + 1)
            if choice.in_place_of is not None:
                parent[root(output)] = root(choice.in_place_of)
        groups: dict[int, list[int]] = {}
        for tensor in range(len(parent)):
            if tensor not in hidden and self.lifetimes.used(tensor):
                groups.setdefault(root(tensor), []).append(tensor)
        return [
            (
                group,
                Block(
                    tuple(Span(self.model.tensors[t].size_bytes, first[t] + 1, last[t] + 1) for t in group)
                ),
            )
            for group in groups.values()
        ]

    def bound(self, plan: _Plan) -> tuple[int, int]:
        """(lower bound of the peak, sum of squares of the bytes alive): the second breaks plateaus, on which
        several operators must change before the peak moves.
        """
        live = live_bytes([block for _, block in self.blocks(plan)], self.step_count)
        needs = [alive + extra for alive, extra in zip(live, self.scratch_steps(plan), strict=True)]
        return max(needs), sum(value * value for value in needs)

    def place(self, plan: _Plan) -> Placement:
        """The plan's tensors in the arena."""
        return place_tensors([block for _, block in self.blocks(plan)], self.scratch_steps(plan))

    # -- the search ------------------------------------------------------------------------------------------

    def start(self, limit: int) -> _Plan:
        """Every operator takes the choice that keeps the fewest bytes alive among those with scratch <=
        limit.
        """
        plan = self.forced()
        for index, possible in self.choices.items():
            if index in plan or not self.free(plan, index):
                continue
            best, best_key = None, self.bound(plan)[1]
            for choice in possible:
                if self.scratch(index, choice) > limit or not self.fits(plan, index, choice):
                    continue
                key = self.bound({**plan, index: choice})[1]
                if key < best_key:
                    best, best_key = choice, key
            if best is not None:
                plan[index] = best
        return plan

    def forced(self) -> _Plan:
        return {
            index: self.choices[index][0]
            for index, schedule in self.options.force.items()
            if schedule is not ScheduleKind.WHOLE
        }

    @staticmethod
    def free(plan: _Plan, index: int) -> bool:
        """Whether the operator is not the tail of a fused pair."""
        return index == 0 or plan.get(index - 1, _WHOLE).schedule not in FUSED

    def fits(self, plan: _Plan, index: int, choice: _Choice) -> bool:
        """Whether fusing leaves the next operator without a choice of its own."""
        if choice.schedule not in FUSED:
            return True
        return index + 1 not in plan and index + 1 not in self.options.force

    def neighbours(self, plan: _Plan) -> Iterator[_Plan]:
        """Plans in which one operator does something else; a new fusion takes the next operator's choice
        away.
        """
        for index, possible in self.choices.items():
            if index in self.options.force or not self.free(plan, index):
                continue
            for choice in [_WHOLE, *possible]:
                if choice == plan.get(index, _WHOLE):
                    continue
                changed = {i: c for i, c in plan.items() if i != index}
                if choice.schedule in FUSED and index + 1 not in self.options.force:
                    changed.pop(index + 1, None)
                if choice.schedule is not ScheduleKind.WHOLE:
                    if not self.fits(changed, index, choice):
                        continue
                    changed[index] = choice
                yield changed

    def climb(self, plan: _Plan) -> _Plan:
        """Change one operator at a time while that lowers the bound."""
        best, improved = self.bound(plan), True
        while improved:
            improved = False
            for candidate in self.neighbours(plan):
                key = self.bound(candidate)
                if key < best and key[0] <= best[0]:
                    plan, best, improved = candidate, key, True
                    break
        return plan

    def peak(self, plan: _Plan) -> int:
        """The true peak: arena as placed, with scratch above what is alive."""
        return self.place(plan).peak_bytes

    def prune(self, plan: _Plan) -> _Plan:
        """Take back schedules that lower nothing, those that may cost most time first; where a fused pair is
        needed, try whether the tail's own schedule does as well.
        """
        allowed = self.peak(plan)
        while True:
            simpler = next(
                (p for p in self.simpler(plan) if self.bound(p)[0] <= allowed >= self.peak(p)), None
            )
            if simpler is None:
                return plan
            plan = simpler

    def simpler(self, plan: _Plan) -> Iterator[_Plan]:
        """Plans with one schedule less, or with the tail's own schedule in place of a fused pair."""
        for index in sorted(plan, key=lambda i: (-plan[i].cost, i)):
            if index in self.options.force:
                continue
            without = {i: c for i, c in plan.items() if i != index}
            yield without
            if plan[index].schedule in FUSED:
                own = [c for c in self.choices.get(index + 1, []) if c.cost < plan[index].cost]
                yield from ({**without, index + 1: choice} for choice in own)

    def raise_bands(self, plan: _Plan) -> _Plan:
        """Give each band as many rows as fit under the peak (plus the slack): fewer bands decode less."""
        placement = self.place(plan)
        allowed = int(placement.peak_bytes * (1 + self.options.band_slack))
        plan = dict(plan)
        for index, choice in plan.items():
            if choice.schedule is not ScheduleKind.IN_PLACE or not choice.parameter:
                continue
            height = self.model.tensors[self.model.operators[index].inputs[0]].shape4[1]
            fitting = [
                rows
                for rows in range(1, height + 1)
                if placement.ends[index + 1] + self.scratch(index, replace(choice, parameter=rows)) <= allowed
            ]
            bands = {
                -(-height // rows): rows for rows in reversed(fitting)
            }  # fewest rows for each number of bands
            plan[index] = replace(choice, parameter=bands[min(bands)] if bands else 1)
        return plan

    def run(self) -> _Plan:
        """The best plan found; the model's schedules are WHOLE after it."""
        self.apply({})
        limits = {0}
        for index, possible in self.choices.items():
            limits |= {self.scratch(index, choice) for choice in possible}
        candidates: list[tuple[tuple[int, int], _Plan]] = []
        for limit in sorted(limits):
            plan = self.start(limit)
            candidates.append((self.bound(plan), plan))
        candidates.sort(key=lambda item: item[0])
        improved = [self.climb(plan) for _, plan in candidates[:2]]
        best = min([*improved, self.forced()], key=self.peak)
        return self.raise_bands(self.prune(best))


def plan_memory(model: Model, options: PlanOptions | None = None) -> Model:
    """Choose schedules and arena offsets for the smallest RAM peak. Changes the model in place and returns
    it.

    Stream scratch counts where ``Weights.encoding`` is a ``StreamDescriptor``, so encodings are best chosen
    before.

    Raises:
        PackError: a float model that may have schedules, or a forced one that an operator cannot have.
    """
    options = options or PlanOptions()
    if model.is_float and options.forbid != frozenset(ScheduleKind):
        raise PackError("a float model runs without schedules; quantise it first")
    search = _Search(model, options)
    plan = search.run()
    grouped = search.blocks(plan)
    placement = search.place(plan)
    model.arena_bytes = placement.arena_bytes
    search.apply(plan)
    for tensor in model.tensors:
        tensor.arena_offset = 0
    for (group, _), offset in zip(grouped, placement.offsets, strict=True):
        for index in group:
            model.tensors[index].arena_offset = offset
    return model


def arena_occupancy(model: Model) -> list[int]:
    """Bytes of the arena that hold a living tensor while each operator runs: (operators,) for ``inspect``.

    A fused pair is one step: both entries are the same. Works on a loaded model too.
    """
    search = _Search(model, PlanOptions())
    plan: _Plan = {}
    for index, operator in enumerate(model.operators):
        if index and model.operators[index - 1].schedule in FUSED:
            continue
        in_place = None
        output = operator.outputs[0]
        sources: Iterable[int] = operator.inputs
        if operator.schedule in FUSED:
            tail = model.operators[index + 1]
            output, sources = tail.outputs[0], tail.inputs if tail.schedule is ScheduleKind.IN_PLACE else ()
        if operator.schedule is not ScheduleKind.WHOLE:
            offset = model.tensors[output].arena_offset
            in_place = next((t for t in sources if model.tensors[t].arena_offset == offset), None)
            plan[index] = _Choice(operator.schedule, operator.schedule_parameter, in_place)
    live = live_bytes([block for _, block in search.blocks(plan)], search.step_count)
    return live[1:-1]


def _range(model: Model, tensor: int) -> range:
    start = model.tensors[tensor].arena_offset
    return range(start, start + model.tensors[tensor].size_bytes)


def _overlap(a: range, b: range) -> bool:
    return max(a.start, b.start) < min(a.stop, b.stop)


def _may_share(model: Model, index: int, source: int, output: int) -> bool:
    """Whether the schedule of operator `index` lets its output start where its input `source` starts."""
    operator = model.operators[index]
    same_offset = model.tensors[source].arena_offset == model.tensors[output].arena_offset
    if operator.kind is OperatorKind.RESHAPE:
        return same_offset
    return same_offset and operator.schedule is ScheduleKind.IN_PLACE


def verify_plan(model: Model) -> None:
    """Check a plan by walking through it: every byte of the arena remembers which value it holds, and every
    operator must find its inputs whole. Shares no code with the search.

    Raises:
        PackError: an operator would read bytes that something else has overwritten, an output overlaps an
        input in a
            way that its schedule does not allow, or a tensor leaves the arena.
    """
    holder: list[int] = [-1] * model.arena_bytes  # per byte: the tensor whose value it holds
    value_of = list(
        range(len(model.tensors))
    )  # a RESHAPE at equal offsets gives its output the input's value

    def write(tensor: int, where: str) -> None:
        place = _range(model, tensor)
        if place.stop > model.arena_bytes:
            raise PackError(
                f"{where}: tensor {tensor} ends at {place.stop}, the arena at {model.arena_bytes}"
            )
        if model.tensors[tensor].dtype is not DType.INT8 and place.start % 4:
            raise PackError(f"{where}: tensor {tensor} at offset {place.start} is not aligned")
        holder[place.start : place.stop] = [value_of[tensor]] * len(place)

    def read(tensor: int, where: str) -> None:
        place = _range(model, tensor)
        if any(held != value_of[tensor] for held in holder[place.start : place.stop]):
            raise PackError(f"{where}: tensor {tensor} is overwritten before it is read")

    persistent = [i for i, tensor in enumerate(model.tensors) if tensor.flags & TensorFlag.PERSISTENT]
    for tensor in [*(port.tensor for port in model.inputs), *persistent]:
        write(tensor, "model input")
    for port in model.inputs:
        read(port.tensor, "model input")  # inputs must not overlap each other
    _walk_operators(model, value_of, read, write)
    for tensor in [*(port.tensor for port in model.outputs), *persistent]:
        read(tensor, "model output")


def _walk_operators(model: Model, value_of: list[int], read, write) -> None:  # type: ignore[no-untyped-def]
    index = 0
    while index < len(model.operators):
        fused = model.operators[index].schedule in FUSED
        members = range(index, index + 2 if fused else index + 1)
        where = f"operator {index} ({model.operators[index].kind.name})"
        hidden = set(model.operators[index].outputs) if fused else set()
        sources = [t for i in members for t in model.operators[i].inputs if t not in hidden]
        outputs = model.operators[members[-1]].outputs
        for source in sources:
            read(source, where)
        for output in outputs:
            for source in sources:
                shared = source in model.operators[members[-1]].inputs
                allowed = shared and _may_share(model, members[-1], source, output)
                if fused and source in model.operators[index].inputs:
                    allowed = False  # still being read while the output is written
                if not allowed and _overlap(_range(model, source), _range(model, output)):
                    raise PackError(f"{where}: output {output} overlaps input {source}")
            tail = model.operators[members[-1]]
            if tail.kind is OperatorKind.RESHAPE and _may_share(model, members[-1], tail.inputs[0], output):
                value_of[output] = value_of[tail.inputs[0]]
            write(output, where)
        index = members[-1] + 1
