"""Where a backbone is skipped from: values that all others pass through, and how they are got hold of when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from obverse.blocks.dense import Linear
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.lifting.folded import Each
from obverse.lifting.operations import Permute, Reshape
from obverse.lifting.recording import Recording, Sighting, Value
from obverse.lifting.steps import Placed
from obverse.rewrite import Skips
from obverse.shapes import Shape

__all__ = ["SkipPoint", "kept_back", "skip_points"]


class SkipPoint(NamedTuple):
    """A value that is handed round the code.

    Attributes:
        seen: where it can be seen when the module runs.
        join: how the mirror joins it: `"concat"` or `"add"`.
        channels: the axis of its channels.
        copied: whether the module overwrites it later.
    """

    seen: Sighting
    join: str
    channels: int
    copied: bool

    def order(self, rank: int) -> tuple[int, ...] | None:
        """The order of its axes with the channels first; `None` if they are."""
        rest = [axis for axis in range(rank) if axis != self.channels]
        return (self.channels, *rest) if self.channels else None


def skip_points(recording: Recording, placed: Sequence[Placed], skips: Skips) -> tuple[SkipPoint, ...]:
    """The points to skip from, in the order in which their values are made.

    Args:
        recording: at the planned shape.
        placed: the steps that the code needs.
        skips: `"concat"` or `"add"` for what the module gives besides its code, if it gives several values, or else for
            what its stages give, one at every resolution; or names of parts, whose outputs skip; or how for each name.

    Raises:
        ShapeError: for a part that there is not, or whose output the code does not need.
    """
    if skips is None:
        return ()
    if isinstance(skips, (str, bool)):
        if skips not in ("concat", "add"):
            raise ShapeError(
                f"skips={skips!r} is neither 'concat' nor 'add'.",
                "For a single part give a tuple: skips=('layer1',).",
                where="skips",
            )
        chosen = dict.fromkeys(recording.features or _bottlenecks(recording, placed), skips)
    else:
        named = dict(skips) if isinstance(skips, Mapping) else dict.fromkeys(skips, "concat")
        chosen = {_output(recording, placed, name): join for name, join in named.items()}
    made = [value for part in placed for value in part.gives]
    points = sorted((value for value in chosen if value in made), key=made.index)
    return tuple([_point(recording, placed, value, chosen[value]) for value in points])


def _bottlenecks(recording: Recording, placed: Sequence[Placed]) -> list[Value]:
    """At every resolution but the code's what the outermost part gives last that everything passes through.

    So it is what a stage gives, and not what its next one makes of it before it is strided.
    """
    channels = _channels(recording, placed)
    stages: list[list[Value]] = [[]]
    passed = (value for value in _passed_by_all(recording, placed) if value.parts == 1)
    for value in [*passed, recording.code]:
        if stages[-1] and _is_coarser(value, stages[-1][-1], channels):
            stages.append([])
        stages[-1].append(value)
    found: list[Value] = []
    for stage in stages[:-1]:
        seen = [value for value in stage if recording.sightings.get(value) and value is not recording.source]
        found += sorted(seen, key=lambda value: -_depth(recording, value))[-1:]
    return found


def _depth(recording: Recording, value: Value) -> int:
    return min(seen.path.count(".") for seen in recording.sightings[value])


def _is_coarser(value: Value, other: Value, channels: Mapping[Value, int]) -> bool:
    """Whether a value has a lower resolution than another, by more than a border."""
    sizes, finer = (_resolution(given, channels) for given in (value, other))
    return len(sizes) == len(finer) and any(3 * n <= 2 * m for n, m in zip(sizes, finer, strict=True))


def _resolution(value: Value, channels: Mapping[Value, int]) -> Shape:
    at = channels.get(value, 0)
    return (*value.shape[:at], *value.shape[at + 1 :])


def _channels(recording: Recording, placed: Sequence[Placed]) -> dict[Value, int]:
    """The axis of every value's channels: they come first, until they are moved or a layer acts on the last axis."""
    axes = {recording.source: 0}
    for part in placed:
        axis = axes.get(part.takes[0], 0)
        hub = part.step.hub
        for block in hub.blocks if isinstance(hub, Chain) else [hub]:
            axis = _moved(block, axis, part.takes[0].shape)
        for value in part.gives:
            axes[value] = axis % max(len(value.shape), 1)
    return axes


def _moved(block: Any, axis: int, shape: Shape) -> int:
    """Where a block puts the channels; counted from the end where it acts on the last axis."""
    if isinstance(block, Each):
        inner = _moved(block.block, axis - 1, shape[1:]) if axis > 0 else -1
        return inner if inner < 0 else inner + 1
    if isinstance(block, Permute):
        return block.order.index(axis % len(block.order))
    acts_last = isinstance(block, Linear) or getattr(block, "channels", "") == "last"
    stays_last = isinstance(block, Reshape) and axis == len(shape) - 1 and shape[-1] == block.after[-1]
    return -1 if acts_last or stays_last else axis


def _passed_by_all(recording: Recording, placed: Sequence[Placed]) -> Iterator[Value]:
    left: dict[Value, int] = {}
    for part in placed:
        for value in part.takes:
            left[value] = left.get(value, 0) + 1
    live = {recording.source}
    for part in placed:
        for value in part.takes:
            left[value] -= 1
        live = {value for value in live if left.get(value)} | {value for value in part.gives if left.get(value)}
        if len(live) == 1:
            yield from live


def _point(recording: Recording, placed: Sequence[Placed], value: Value, join: str) -> SkipPoint:
    overwritten = any(part.call is not None and part.call.overwrites for part in placed if value in part.takes)
    return SkipPoint(recording.sightings[value][0], join, _channels(recording, placed)[value], overwritten)


def _output(recording: Recording, placed: Sequence[Placed], name: str) -> Value:
    made = {value for part in placed for value in part.gives} - {recording.code}
    names = {seen.path: value for value, all_seen in recording.sightings.items() if value in made for seen in all_seen
             if seen.is_output and value.parts == 1}  # fmt: skip
    if name in names:
        return names[name]
    short = sorted((path for path in names if path.count(".") <= 1), key=lambda path: (path.count("."), path))
    raise ShapeError(
        f"there is no part {name!r} whose output goes on to the code.",
        f"Parts to skip from are {', '.join(short[:20])}.",
        where="skips",
    )


@contextmanager
def kept_back(module: nn.Module, points: Sequence[SkipPoint]) -> Iterator[dict[int, Tensor]]:
    """While the module runs, what passes the points is kept, by their place."""
    kept: dict[int, Tensor] = {}
    counts: dict[tuple[str, bool], int] = {}
    handles: list[Any] = []
    by_place: dict[tuple[str, bool], list[tuple[int, SkipPoint]]] = {}
    for at, point in enumerate(points):
        by_place.setdefault((point.seen.path, point.seen.is_output), []).append((at, point))

    def keep(place: tuple[str, bool], given: Any) -> None:
        time = counts.get(place, 0)
        counts[place] = time + 1
        for at, point in by_place[place]:
            if point.seen.time == time:
                value = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)][point.seen.place]
                order = point.order(value.ndim - 1)
                value = value if order is None else value.permute(0, *[axis + 1 for axis in order])
                kept[at] = value.clone() if point.copied else value

    def after(place: tuple[str, bool]) -> Any:
        return lambda _, __, given: keep(place, given)

    def ahead(place: tuple[str, bool]) -> Any:
        return lambda _, args, kwargs: keep(place, (args, kwargs))

    for place in by_place:
        part = module.get_submodule(place[0])
        if place[1]:
            handles.append(part.register_forward_hook(after(place), prepend=True))
        else:
            handles.append(part.register_forward_pre_hook(ahead(place), with_kwargs=True))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
