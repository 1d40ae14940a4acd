"""The least that lies between two values of one shape, with a given call in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from obverse.lifting.recording import Call, Recording, Value

__all__ = ["Region", "Users", "region_around"]

Users = Mapping[Value, Sequence[Call]]
"""The calls that take each value."""


class Region(NamedTuple):
    """Calls between one value and another: nothing else leads in, nothing else leads out."""

    source: Value
    sink: Value
    calls: frozenset[Call]


def region_around(
    call: Call, recording: Recording, users: Users, taken: Sequence[Collection[Call]] = ()
) -> Region | None:
    """The region of fewest calls that has a call in it and keeps its shape; `None` if there is none.

    Args:
        call: what must be in it.
        recording: all calls.
        users: of each value.
        taken: sets of calls that belong together: a region has all of one, or nothing.
    """
    best: Region | None = None
    for sink in _passed_behind(call, recording, users):
        found = _before(sink, call, recording.code, users, taken, None if best is None else len(best.calls))
        best = found or best
    return best


def _passed_behind(call: Call, recording: Recording, users: Users) -> Iterator[Value]:
    """The values through which all passes that a call gives."""
    left = {value: len(users.get(value, ())) + (value is recording.code) for value in call.outputs}
    live = {value for value, number in left.items() if number}
    if len(live) == 1:
        yield from live
    for later in recording.calls[recording.calls.index(call) + 1 :]:
        used = [value for value in later.inputs if value in left]
        if not used:
            continue
        for value in used:
            left[value] -= 1
        left.update({value: len(users.get(value, ())) + (value is recording.code) for value in later.outputs})
        live = {value for value in (*live, *later.outputs) if left[value]}
        if len(live) == 1 and later.outputs[0] in live:
            yield from live


def _before(
    sink: Value, call: Call, code: Value, users: Users, taken: Sequence[Collection[Call]], most: int | None
) -> Region | None:
    """The smallest region that ends with a value and has a call in it."""
    calls: set[Call] = set()
    ahead = {sink}
    while most is None or len(calls) < most:
        if call in calls and len(ahead) == 1:
            (source,) = ahead
            region = Region(source, sink, frozenset(calls))
            if _keeps_the_shape(region) and _is_closed(region, code, users, taken):
                return region
        makers = [value.maker for value in ahead if value.maker is not None]
        if not makers:
            return None  # what is ahead is the input of all
        latest = max(makers, key=lambda maker: maker.number)
        calls.add(latest)
        ahead = (ahead - set(latest.outputs)) | set(latest.inputs)
    return None


def _keeps_the_shape(region: Region) -> bool:
    source, sink = region.source, region.sink
    return source.sizes == sink.sizes and source.has_batch and sink.has_batch


def _is_closed(region: Region, code: Value, users: Users, taken: Sequence[Collection[Call]]) -> bool:
    """Whether nobody else uses what is made inside, and nothing that belongs together is torn apart."""
    inside = {value for call in region.calls for value in call.outputs} - {region.sink}
    if code in inside or any(user not in region.calls for value in inside for user in users.get(value, ())):
        return False
    return all(region.calls.isdisjoint(calls) or region.calls.issuperset(calls) for calls in taken)
