"""From a recording to a graph: which steps are needed, what stands for each, and the wires between them."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torch.utils._pytree import tree_leaves, tree_map

from obverse.block import Block
from obverse.blocks.conv import Conv, ConvTranspose
from obverse.blocks.pointwise import Identity
from obverse.blocks.skips import Skip
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Copy, Graph, Node, Split
from obverse.lifting.approximate import APPROXIMATE, learned
from obverse.lifting.complaints import complaint
from obverse.lifting.folded import for_each, of_one_part
from obverse.lifting.kept import Arguments, Kept
from obverse.lifting.operations import Border, Permute, Resampled, Slice
from obverse.lifting.recording import RESHAPES, Call, Constant, Recording, Scope, Value
from obverse.lifting.regions import region_around
from obverse.lifting.replay import replay_of
from obverse.lifting.rules_of_functions import FUNCTIONS
from obverse.lifting.rules_of_modules import is_itself, rule_for
from obverse.lifting.skipping import SkipPoint
from obverse.lifting.steps import Manner, Placed, Recorded, Step
from obverse.shapes import Shape

__all__ = ["Drawing", "draw", "placed_steps"]


@dataclass(eq=False)
class Drawing:
    """A graph, and how each of its steps is mirrored.

    Attributes:
        graph: the blocks.
        manners: for every step of the recording that the graph has, by its label.
    """

    graph: Graph
    manners: dict[str, tuple[str, Manner]] = field(default_factory=dict)


def draw(recording: Recording, approximate: bool = False, points: Sequence[SkipPoint] = ()) -> Drawing:
    """The graph of what was recorded, from the input to the code.

    Args:
        recording: the calls.
        approximate: whether a step without an exact mirror may be followed along its main path only.
        points: where values are handed round the code.
    """
    placed = list(placed_steps(recording, approximate))
    sightings = {seen: value for value, all_seen in recording.sightings.items() for seen in all_seen}
    skips = {sightings[point.seen]: point for point in points}
    wires: dict[Value, list[int]] = {}
    nodes = list(_wired(recording, placed, skips, wires)) or [Node("input", Identity(), (0,), (1,))]
    graph = Graph(*nodes, source=0, sink=wires[recording.code].pop() if placed else nodes[-1].gives[0])
    return Drawing(graph, {part.label: (part.name, part.step.manner) for part in placed})


# What stands for each call -------------------------------------------------------------------------------------------


def placed_steps(recording: Recording, approximate: bool) -> list[Placed]:
    """The steps that the code needs, in order.

    Where a step has no rule, the nearest module around it that keeps its shape is kept whole, and what was placed of
    its inside is forgotten; so they are gone through once more, until all have a rule, or nothing is left to try.
    """
    steps: dict[Call, Step | None] = {}
    whole: dict[Call, Placed] = {}
    users = _users(recording)
    while True:
        placed = _once_through(recording, steps, whole)
        blocked = next((part for part in placed if part.step is None), None)
        if blocked is None:
            return placed
        call: Any = blocked.call
        if (found := _as_a_whole(recording, call, users, whole)) is not None:
            part, calls = found
            whole.update(dict.fromkeys(calls, part))
        elif approximate and (about := _approximately(call)) is not None:
            steps[call] = about
        elif approximate and (scope := _shell(call, users, recording.code, any_shape=True)) is not None:
            whole.update(dict.fromkeys(scope.calls, _passed_by(scope, users, recording.code)))
        else:
            helps = not approximate and call.name in APPROXIMATE
            steps[call] = _without_rule(call, recording.make.place, helps)


def _as_a_whole(
    recording: Recording, call: Call, users: dict[Value, list[Call]], whole: dict[Call, Placed]
) -> tuple[Placed, Collection[Call]] | None:
    """What keeps its shape and has a call in it, with all its calls: the nearest module, or else the least region."""
    scope = _shell(call, users, recording.code)
    if scope is not None:
        part = _kept_whole(recording, scope, users)
        if part is not None:
            return part, scope.calls
    taken = [{other for other in whole if whole[other] is part} for part in set(whole.values())]
    region = region_around(call, recording, users, taken)
    replay = region and replay_of(recording.make, region.calls, region.source, region.sink)
    if region is None or replay is None:
        return None
    maker: Any = region.sink.maker
    return _placed_whole(maker.label, replay, region.source, region.sink, replay.name), region.calls


def _once_through(recording: Recording, steps: dict[Call, Step | None], whole: dict[Call, Placed]) -> list[Placed]:
    needed: set[Value] = {recording.code}
    placed: list[Placed] = []
    done: set[Placed] = set()
    for call in reversed(recording.calls):
        part = whole.get(call)
        if part is not None:
            if part not in done and part.gives[0] in needed:
                done.add(part)
                placed.append(part)
                needed.update(part.takes)
            continue
        if not needed.intersection(call.outputs):
            continue
        if call not in steps:
            steps[call] = _step(recording, call, needed)
        step = steps[call]
        takes = call.inputs if step is None or step.uses is None else [call.inputs[at] for at in step.uses]
        placed.append(Placed(call.label, step, takes, call.outputs, call.name, call))
        needed.update(takes)
        if step is None:
            break  # what stands in front of it may be kept whole together with it
    return placed[::-1]


def _users(recording: Recording) -> dict[Value, list[Call]]:
    users: dict[Value, list[Call]] = {}
    for call in recording.calls:
        for value in call.inputs:
            users.setdefault(value, []).append(call)
    return users


def _step(recording: Recording, call: Call, needed: set[Value]) -> Step | None:
    """What the rules say; `None` where they are silent, or the batch is mixed with what one example has."""
    used = [at for at, value in enumerate(call.outputs) if value in needed]
    values = [*call.inputs, *[call.outputs[at] for at in used]]
    if not all(value.has_batch for value in values):
        return None
    if call.name in RESHAPES or all(value.parts == 1 for value in values):
        return _ruled(recording, call, used) or _as_it_is(recording, call, used)
    inner = of_one_part(call)  # parts of an example are folded into the batch: the rules say what is done to one
    step = None if inner is None else _ruled(recording, inner, used)
    return _as_it_is(recording, call, used) if step is None else for_each(step)


def _as_it_is(recording: Recording, call: Call, used: list[int]) -> Step | None:
    """A call of a single value that keeps its shape, kept whatever it does."""
    (x, *others), out = set(call.inputs), call.outputs[0]
    if others or used != [0] or x.sizes != out.sizes:
        return None
    replay = replay_of(recording.make, [call], x, out)
    return None if replay is None else _kept_as(replay, x, "kept")


def _ruled(recording: Recording, call: Call, used: list[int]) -> Step | None:
    """What the rules say of a call that keeps apart what its values have first."""
    try:
        found = _of_module(recording, call) if call.module is not None else _of_function(call)
    except ShapeError:  # a block that refuses what it was asked to describe
        return None
    alone = isinstance(found, Block) and found.pointwise
    step = found if isinstance(found, Step) or found is None else Step(found, manner="kept" if alone else "exact")
    if step is None or not isinstance(step.hub, Block) or step.before or step.after:
        return step
    shape = call.inputs[step.uses[0] if step.uses else 0].shape
    try:
        fits = used[:1] == [0] and step.hub.output_shape(shape) == call.output_shape
    except ShapeError:
        fits = False
    return step if fits else None


def _of_function(call: Call) -> Any:
    rule = FUNCTIONS.get(call.name)
    return None if rule is None else rule(call)


def _of_module(recording: Recording, call: Call) -> Block | Step | None:
    module: Any = call.module
    x, before, after = call.inputs[0], call.input_shape, call.output_shape
    plain = call.args == (x,) and not call.kwargs
    found = rule_for(module)
    block = None if found is None else found[1](module, before)
    itself = found is not None and plain and is_itself(module, found[0])
    if block is not None and itself and not isinstance(block, Kept):
        return Step(block, manner="kept" if block.pointwise else "exact")
    turned = _turned(block, itself, module, before, after)
    if turned is None and (before != after or len(set(call.inputs)) > 1):
        return None
    arguments = _arguments(x, call.args, call.kwargs, call.result)
    if arguments is None and turned is not None:  # it needs more than its input: then it is known by its shapes
        return Step(Recorded(call.name, before, after, turned), uses=(0,))
    if arguments is None:
        return None
    alone = block is not None and block.pointwise
    settings = None if plain and call.result is None else arguments
    kept = Kept(recording.make, call.path, turned, settings, alone, call.overwrites)
    return Step(kept.knowing(before, after), uses=(0,), manner="exact" if turned is not None else "kept")


def _turned(block: Block | None, itself: bool, module: Any, before: Shape, after: Shape) -> Block | None:
    """The mirror of a layer that is kept as it is, if it is not its own."""
    if isinstance(block, Kept):
        return block.turned
    return None if block is None or itself or before == after else _like(block, module, before, after)


def _like(block: Block, module: Any, before: Shape, after: Shape) -> Block | None:
    """The mirror of a layer that computes in a way of its own, and has the arguments of a kind that is known."""
    try:
        if block.output_shape(before) == after:
            return block.mirror(before)
    except ShapeError:
        pass
    if len(before) == len(after) > 1 and before[0] == after[0] and not isinstance(block, Conv):
        return Resampled(before)
    if not isinstance(block, Conv):
        return None
    rank = len(before) - 1
    same = Conv(after[0], block.kernel_size, block.stride, "same", block.dilation, block.groups, block.bias)
    if block.is_strided and same.output_shape(before) == after:
        return same.mirror(before)
    full = ConvTranspose(before[0], block.kernel_size, block.stride, 0, 0, block.groups, block.bias, block.dilation)
    beyond = [m - n for m, n in zip(full.output_shape(after)[1:], before[1:], strict=True)]
    return Chain(full, Border(((0, 0), *[(-(cells // 2), cells // 2 - cells) for cells in beyond[:rank]])))


def _arguments(x: Value, args: tuple[Any, ...], kwargs: dict[str, Any], result: int | None) -> Arguments | None:
    """How to call a module with another input; `None` if it is given a further tensor."""

    def other(given: Any) -> Any:
        return Arguments.INPUT if given is x else given

    args, kwargs = tree_map(other, (args, kwargs))
    if any(isinstance(leaf, (Constant, Value)) for leaf in tree_leaves((args, kwargs))):
        return None
    return Arguments(args, kwargs, result)


def _shell(call: Call, users: dict[Value, list[Call]], code: Value, any_shape: bool = False) -> Scope | None:
    """The innermost module around a call that takes one value, gives one of the same shape, and hides all between."""
    return next((scope for scope in reversed(call.scopes) if _gives(scope, users, code, any_shape) is not None), None)


def _gives(
    scope: Scope, users: dict[Value, list[Call]], code: Value, any_shape: bool = False
) -> tuple[Value, int] | None:
    """The one value that a module gives to others, and its place among its results; `None` if it is not to be kept."""
    given = [leaf for leaf in tree_leaves(scope.outputs) if isinstance(leaf, Value)]
    inputs = set(scope.inputs)
    if len(inputs) != 1 or not given:
        return None
    (x,) = inputs
    inner = scope.calls
    made = {value for call in inner for value in call.outputs}
    if any(value not in made and value is not x for call in inner for value in call.inputs):
        return None
    leaving = {value for value in made if value is code or any(scope not in c.scopes for c in users.get(value, ()))}
    if len(leaving) != 1:
        return None
    (out,) = leaving
    leaves = tree_leaves(scope.outputs)
    if out not in given or not (x.has_batch and out.has_batch):
        return None
    if any_shape:
        return out, leaves.index(out)
    if out.sizes != x.sizes:
        return None
    return out, leaves.index(out)


def _kept_whole(recording: Recording, scope: Scope, users: dict[Value, list[Call]]) -> Placed | None:
    """A module that keeps its shape; `None` if it is called with a tensor of which nobody knows how it was made."""
    found = _gives(scope, users, recording.code)
    assert found is not None
    out, place = found
    (x,) = set(scope.inputs)
    result = None if isinstance(scope.outputs, Value) else place
    arguments = _arguments(x, scope.args, scope.kwargs, result)
    overwrites = any(call.overwrites and x in call.inputs for call in scope.calls)
    name, label = type(scope.module).__name__, scope.path or "whole"
    if arguments is None:
        block: Block | None = replay_of(recording.make, [_as_call(scope, overwrites)], x, out)
    else:
        kept = Kept(recording.make, scope.path, None, arguments, False, overwrites, "whole")
        block = kept.knowing(x.sizes[1:], x.sizes[1:])
    return None if block is None else _placed_whole(label, block, x, out, name)


def _as_call(scope: Scope, overwrites: bool) -> Call:
    """A module as one call, whatever happens inside."""
    outputs: Any = [leaf for leaf in tree_leaves(scope.outputs) if isinstance(leaf, (Value, Constant))]
    call = Call(type(scope.module).__name__, scope.path, scope.args, scope.kwargs, outputs, scope.around, "")
    call.module, call.path, call.number, call.overwrites = scope.module, scope.path, scope.calls[-1].number, overwrites
    return call


def _placed_whole(label: str, block: Block, x: Value, out: Value, name: str) -> Placed:
    return Placed(label, _kept_as(block, x, "whole"), [x], [out], name, None)


def _kept_as(block: Block, x: Value, manner: Manner) -> Step:
    step = Step(block, uses=(0,), manner=manner)
    return step if x.parts == 1 else for_each(step)


def _passed_by(scope: Scope, users: dict[Value, list[Call]], code: Value) -> Placed:
    """A module that changes the shape in a way that nobody can follow: a plain learned step takes that back."""
    found = _gives(scope, users, code, any_shape=True)
    assert found is not None
    out, (x,) = found[0], set(scope.inputs)
    name = type(scope.module).__name__
    step = Step(Recorded(name, x.shape, out.shape, learned(out.shape, x.shape)), manner="approximate")
    return Placed(scope.path or "whole", step, [x], [out], name, None)


def _approximately(call: Call) -> Step | None:
    rule = APPROXIMATE.get(call.name)
    values = [*call.inputs, call.outputs[0]]
    if rule is None or not all(value.has_batch for value in values):
        return None
    if all(value.parts == 1 for value in values):
        return rule(call)
    inner = of_one_part(call)
    step = None if inner is None else rule(inner)
    return None if step is None else for_each(step)


def _without_rule(call: Call, place: str, approximately: bool) -> Step:
    recorded = Recorded(
        call.name, call.inputs[0].shape, call.outputs[0].shape, None, *complaint(call, place, approximately)
    )
    return Step(recorded, uses=(0,))


# The wires between ---------------------------------------------------------------------------------------------------


def _wired(
    recording: Recording, placed: list[Placed], skips: dict[Value, SkipPoint], wires: dict[Value, list[int]]
) -> Iterator[Node]:
    """Nodes for the steps: a copy where a value is used several times, blocks before and after where rules say so."""
    takers: dict[Value, int] = {recording.code: 1}
    for part in placed:
        for value in part.takes:
            takers[value] = takers.get(value, 0) + 1
    numbers = count(1)

    def spread(value: Value, wire: int, label: str) -> Iterator[Node]:
        if value in skips:
            wire = yield from _skipping(skips[value], value, wire, label, numbers)
        number = takers.get(value, 0)
        if number == 1:
            wires[value] = [wire]
        else:
            wires[value] = [next(numbers) for _ in range(number)]
            yield Node(f"{label}_fan", Copy(number), (wire,), tuple(wires[value]))

    yield from spread(recording.source, 0, "input")
    for part in placed:
        takes = [wires[value].pop() for value in part.takes]
        fed = yield from _after(part.step.before, dict(enumerate(takes)), f"{part.label}_in", numbers)
        hub, live = part.step.hub, [at for at, value in enumerate(part.gives) if takers.get(value)]
        if isinstance(hub, Split) and len(live) < len(part.gives):
            gives = yield from _only(part, hub, takes[0], live, numbers)
        else:
            gives = {at: next(numbers) for at in (range(len(part.gives)) if isinstance(hub, Split) else live[:1])}
            yield Node(part.label, hub, tuple(fed.values()), tuple(gives.values()))
        gives = yield from _after(part.step.after, gives, f"{part.label}_out", numbers)
        for at, wire in gives.items():
            yield from spread(part.gives[at], wire, part.label if len(gives) == 1 else f"{part.label}_out{at}")


def _skipping(
    point: SkipPoint, value: Value, wire: int, label: str, numbers: Iterator[int]
) -> Generator[Node, None, int]:
    """A skip, between two changes of order where the channels do not come first."""
    join: Any = point.join
    order = point.order(len(value.shape))
    blocks: list[Block] = [Skip(join)]
    if order is not None:
        there = Permute(order)
        blocks = [there, Skip(join), there.mirror(value.shape)]
    names = ["skip"] if order is None else ["channels_first", "skip", "channels_back"]
    for name, block in zip(names, blocks, strict=True):
        behind = next(numbers)
        yield Node(f"{label}_{name}", block, (wire,), (behind,))
        wire = behind
    return wire


def _after(
    blocks: tuple[Block | None, ...], wires: dict[int, int], label: str, numbers: Iterator[int]
) -> Generator[Node, None, dict[int, int]]:
    """Blocks on some of the wires; the wires behind them."""
    behind = dict(wires)
    for at, block in enumerate(blocks):
        if block is not None and at in wires:
            behind[at] = next(numbers)
            yield Node(f"{label}{at}", block, (wires[at],), (behind[at],))
    return behind


def _only(
    part: Placed, split: Split, wire: int, live: list[int], numbers: Iterator[int]
) -> Generator[Node, None, dict[int, int]]:
    """Slices in place of a split of which not all is used: in the mirror, what nobody used is zero."""
    shape = part.takes[0].shape
    inside = [next(numbers) for _ in live]
    yield Node(f"{part.label}_parts", Copy(len(live)), (wire,), tuple(inside))
    gives: dict[int, int] = {}
    for at, taken in zip(live, inside, strict=True):
        start = sum(split.sizes[:at])
        spans = [(0, n, 1) for n in shape]
        spans[split.axis] = (start, start + split.sizes[at], 1)
        gives[at] = next(numbers)
        yield Node(f"{part.label}_part{at}", Slice(tuple(spans)), (taken,), (gives[at],))
    return gives
