"""A large input cut into tiles, run one by one, and put together without a seam."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product
from math import lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from obverse.block import Block
from obverse.blocks.conv import ResizeConv
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Graph
from obverse.model import Autoencoder, Encoder, as_chain, decoder_of
from obverse.shapes import Shape, as_shape, at_axes, shape_text
from obverse.sight import Seen, Sight, Window, composed

__all__ = ["Tile", "tiled", "tiles"]


class Tile(NamedTuple):
    """A piece of an input, and which cells of what comes out of it are those of the whole.

    >>> from obverse import Conv
    >>> _, second = tiles(Conv(8, 3), (1, 40), tile=24)    # each takes two cells more than it gives
    >>> second
    Tile(take=(slice(16, 40, None),), keep=(slice(6, 22, None),), put=(slice(22, 38, None),))

    Attributes:
        take: what to cut out of the input, a slice for every spatial axis.
        keep: which cells to keep of what comes out.
        put: where in the whole output they belong.
    """

    take: tuple[slice, ...]
    keep: tuple[slice, ...]
    put: tuple[slice, ...]


def tiles(block: Block | nn.Module, shape: Shape, tile: int | tuple[int, ...]) -> list[Tile]:
    """The pieces in which a large input can be run, so that together they give what the whole would.

    >>> from obverse import Conv
    >>> for piece in tiles(Chain(Conv(8, 3, stride=2, padding=1), Conv(8, 3, padding=1)), (1, 100), tile=48):
    ...     print(piece)
    Tile(take=(slice(0, 48, None),), keep=(slice(0, 23, None),), put=(slice(0, 23, None),))
    Tile(take=(slice(42, 90, None),), keep=(slice(2, 23, None),), put=(slice(23, 44, None),))
    Tile(take=(slice(52, 100, None),), keep=(slice(18, 24, None),), put=(slice(44, 50, None),))

    They overlap by what a cell sees beyond its place, and begin where all strides meet. So every cell that is kept has
    seen what it sees in the whole, and nothing of a border that is none.

    Args:
        block: a chain, an `Encoder`, or an `Autoencoder`, whose reconstruction is meant.
        shape: the whole input, `(C, *spatial)`.
        tile: the largest piece, cells along every axis, or one number an axis.

    Raises:
        ShapeError: for blocks that see everything (a norm over space, Linear, adaptive pooling), and for tiles that are
            too small, with the smallest that would do.
    """
    shape = as_shape(shape)
    sizes = tile if isinstance(tile, tuple) else (tile,) * (len(shape) - 1)
    if len(sizes) != len(shape) - 1:
        raise ShapeError(f"tile={tile} is for {len(sizes)} axes, and {shape_text(shape)} has {len(shape) - 1}.")
    at = _chains_of(block)
    steps = list(_sights(at(shape), shape, (Window(),) * (len(shape) - 1)))
    if any(sight is None for sight in steps):
        raise ShapeError("a cell of what comes out sees the whole input.", "Give the whole input to the model.")
    axes = [_axis(at, shape, axis, size, [sight[axis] for sight in steps if sight]) for axis, size in enumerate(sizes)]
    return [Tile(*map(tuple, zip(*pieces, strict=True))) for pieces in product(*axes)]


def tiled(model: nn.Module, x: Tensor, tile: int | tuple[int, ...]) -> Tensor:
    """What a model makes of a large batch, tile by tile: the code of an `Encoder`, an `Autoencoder`'s reconstruction.

    >>> from obverse import Conv, ReLU
    >>> model = Autoencoder(Chain(Conv(4, 3, stride=2), ReLU(), Conv(4, 3, stride=2)), (1, 64, 64)).eval()
    >>> large = torch.rand(1, 1, 150, 130)
    >>> torch.allclose(tiled(model, large, tile=64), model(large)[0], atol=1e-6)
    True

    In evaluation mode and without gradients, so that memory is needed for one tile and what comes out.

    Raises:
        ShapeError: as `tiles` does.
    """
    shape: Shape = tuple(x.shape[1:])
    pieces = tiles(model, shape, tile)
    after = _chains_of(model)(shape).output_shape(shape)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            result = x.new_empty(x.shape[0], *after)
            for piece in pieces:
                slices: list[Any] = [(..., *along) for along in piece]
                take, keep, put = slices
                given = model(x[take])
                result[put] = (given[0] if isinstance(given, tuple) else given)[keep]
    finally:
        model.train(training)
    return result


def _chains_of(block: Any) -> Callable[[Shape], Chain]:
    """The chain that is run at a shape."""
    if isinstance(block, Autoencoder):
        decoder = block.decoder
        return lambda shape: Chain(block.encoder.block, decoder_of(decoder.encoder_block, shape, decoder.output))
    chain = block.block if isinstance(block, Encoder) else as_chain(block)
    return lambda shape: chain


def _sights(block: Any, shape: Shape, sight: Sight) -> Iterator[tuple[Seen, ...] | None]:
    """What is seen of the input at every step, in branches too."""
    if isinstance(block, Chain):
        for (_, link), at in zip(block.links, block.shapes(shape), strict=False):
            yield from _sights(link, at, sight)
            sight = composed(sight, link.windows(at), link.output_shape(at)[1:])
    elif hasattr(block, "graph"):
        yield from _sights_in(block.graph(shape), shape, sight)
    else:
        yield composed(sight, block.windows(shape), block.output_shape(shape)[1:])


def _sights_in(graph: Graph, shape: Shape, sight: Sight) -> Iterator[tuple[Seen, ...] | None]:
    wires, seen = graph.wires(shape), graph.sights(shape)
    for _, block, takes, _ in graph.nodes:
        if isinstance(block, Block):
            yield from _sights(block, wires[takes[0]], composed(sight, seen[takes[0]], wires[takes[0]][1:]))


def _axis(
    at: Callable[[Shape], Chain], shape: Shape, axis: int, tile: int, steps: list[Seen]
) -> list[tuple[slice, slice, slice]]:
    """What to take, keep and put along one axis."""
    size = shape[axis + 1]
    meeting = reduce(lcm, [_numerator(seen.stride) for seen in steps], 1)
    if tile >= size:
        after = at(shape).output_shape(shape)[axis + 1]
        return [(slice(0, size), slice(0, after), slice(0, after))]
    pieces = _cut(at, shape, axis, tile, meeting)
    if pieces:
        return pieces
    enough = next((n for n in range(tile, size, meeting) if _cut(at, shape, axis, n, meeting)), size)
    raise ShapeError(
        f"a tile of {tile} cells holds no cell of what comes out with all that it sees {at_axes(shape, [axis])}.",
        f"Give tile={enough}." if enough < size else "Give the whole input to the model.",
    )


def _numerator(stride: Any) -> int:
    return int(stride.numerator)


def _cut(
    at: Callable[[Shape], Chain], shape: Shape, axis: int, tile: int, meeting: int
) -> list[tuple[slice, slice, slice]]:
    """The pieces along one axis; none where a tile is too small, or is not seen alike."""
    size, cells = shape[axis + 1], at(shape).output_shape(shape)[axis + 1]
    length = tile - (tile - size) % meeting  # so that at its end as much is left over as at the end of the whole
    part = (*shape[: axis + 1], length, *shape[axis + 2 :])
    last = size - length if length > 0 else -1

    def kept(begin: int) -> _Span | None:
        """The cells of a tile that are those of the whole."""
        try:
            return _valid(at(shape), at(part), (shape, part), _Span(begin, begin, begin + length), axis, [])
        except ShapeError:
            return None

    pieces: list[tuple[slice, slice, slice]] = []
    place = earliest = 0
    while place < cells:  # each tile begins as far on as its cells still follow those that are there
        for begin in range(last, earliest - 1, -meeting):
            span = kept(begin)
            if span is None:
                return []
            if span.low <= place < span.high:
                break
        else:
            return []
        pieces.append(
            (slice(begin, begin + length), slice(place - span.begin, span.high - span.begin), slice(place, span.high))
        )
        place, earliest = span.high, begin
    return pieces


class _Span(NamedTuple):
    """A tile at some step: where it begins in the whole, and from where to where its cells are those of the whole."""

    begin: int
    low: int
    high: int


def _valid(
    whole: Any, part: Any, shapes: tuple[Shape, Shape], span: _Span, axis: int, around: list[_Span]
) -> _Span | None:
    """The same after a block; `None` where a tile is seen otherwise than the whole."""
    if isinstance(whole, Chain):
        steps = zip(whole.links, part.links, whole.shapes(shapes[0]), part.shapes(shapes[1]), strict=False)
        for (_, one), (_, other), *at in steps:
            after = _valid(one, other, (at[0], at[1]), span, axis, around)
            if after is None:
                return None
            span = after
        return span
    if hasattr(whole, "graph"):
        return _valid_in(whole.graph(shapes[0]), part.graph(shapes[1]), shapes, span, axis, around)
    if whole.around == "gives":
        around.append(span)
    one, other = whole.windows(shapes[0]), part.windows(shapes[1])
    if one is None or other is None or one[axis] != other[axis]:
        return None
    cells = [block.output_shape(at)[axis + 1] for block, at in zip((whole, part), shapes, strict=True)]
    after = _seen_whole(one[axis], cells, shapes[0][axis + 1], span)
    if after is not None and isinstance(whole, ResizeConv):
        after = _convolved_inside(after, cells, whole.reaches(len(shapes[0]) - 1)[axis])
    if after is not None and whole.around == "takes" and around:
        passed = around.pop()
        after = _both(after, passed) if passed.begin == after.begin else after
    return after


def _seen_whole(window: Any, cells: list[int], size: int, span: _Span) -> _Span | None:
    """The cells that come out whose sight is inside, or beyond the border of the whole input too."""
    seen: Seen = window.seen
    if not seen.endless or span.begin % seen.stride:
        return None
    begin = int(span.begin / seen.stride)
    inside = range(begin, min(begin + cells[1], cells[0]))
    low = bisect_left(inside, True, key=lambda cell: max(seen.of(cell)[0], 0) >= span.low)
    high = bisect_left(inside, True, key=lambda cell: min(seen.of(cell)[1], size - 1) >= span.high)
    return _Span(begin, begin + low, max(begin + high, begin + low))


def _convolved_inside(span: _Span, cells: list[int], reach: tuple[int, int]) -> _Span:
    """The same, where cells are made larger and then convolved: those beyond the end of a tile were never made."""
    low = span.begin + reach[0] if span.begin else 0
    end = span.begin + cells[1]
    high = end - reach[1] if end < cells[0] else end
    return _Span(span.begin, max(span.low, low), max(min(span.high, high), span.low))


def _both(one: _Span, other: _Span) -> _Span:
    return _Span(one.begin, max(one.low, other.low), min(one.high, other.high))


def _valid_in(
    whole: Graph, part: Graph, shapes: tuple[Shape, Shape], span: _Span, axis: int, around: list[_Span]
) -> _Span | None:
    wires, others = whole.wires(shapes[0]), part.wires(shapes[1])
    spans = {whole.source: span}
    for node, other in zip(whole.nodes, part.nodes, strict=True):
        if isinstance(node.block, Block):
            at = (wires[node.takes[0]], others[node.takes[0]])
            after = _valid(node.block, other.block, at, spans[node.takes[0]], axis, around)
        else:
            taken = [spans[wire] for wire in node.takes]
            alike = len({one.begin for one in taken}) == 1
            after = reduce(_both, taken) if alike and len({wires[w][axis + 1] for w in node.takes}) == 1 else None
        if after is None:
            return None
        spans.update(dict.fromkeys(node.gives, after))
    return spans[whole.sink]
