"""Sight: what one cell that a block gives out sees of the cells that went in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil, floor, gcd, lcm
from typing import Any, NamedTuple

from obverse.sizes import spend
from obverse.symbols import is_symbolic

__all__ = ["ITSELF", "Seen", "Sight", "Window", "composed", "halved", "transposed_window", "united"]

Number = int | Fraction
Shape = tuple[int, ...]


class Window(NamedTuple):
    """What one cell that a block gives out sees of the cells that went in, along one axis.

    >>> Window(3, stride=2, centre=0)      # Conv(…, 3, stride=2, padding=1)
    Window(size=3, stride=2, centre=0)

    Cell j sees the cells whose middles lie from `centre + j stride - (size - 1) / 2` to `centre + j stride + (size - 1)
    / 2`: `size` of them where these are whole numbers. Where sizes grow they are fractions, and neighbours see
    different numbers of cells:

    >>> Window(Fraction(5, 2), stride=Fraction(1, 2), centre=Fraction(-1, 4)).seen.size    # ConvTranspose(…, 4, 2, 1)
    2

    Attributes:
        size: how far it sees, in cells.
        stride: how far the window moves from one cell to the next; a fraction where sizes grow.
        centre: where the first window's middle is, the middle of the first cell being 0.
    """

    size: Number = 1
    stride: Number = 1
    centre: Number = 0

    @property
    def seen(self) -> Seen:
        """The first and the last cell that each cell sees."""
        size, stride, centre = self
        reach = (
            Fraction(size - 1) / 2 if type(size) is not int else (size - 1) // 2 if size % 2 else Fraction(size - 1, 2)
        )
        if type(stride) is int:
            low = ceil(centre - reach)
            return Seen(stride, (low,), (floor(centre + reach),))
        spend(stride.denominator)
        cells = range(stride.denominator)
        middles = [centre + cell * stride for cell in cells]
        return Seen(stride, tuple([ceil(m - reach) for m in middles]), tuple([floor(m + reach) for m in middles]))


class Seen(NamedTuple):
    """The first and the last cell that each cell sees, along one axis; those of the padding counted.

    >>> two = Seen(2, (-1,), (1,))    # Conv(…, 3, stride=2, padding=1)
    >>> two.of(5), two.size, two.start
    ((9, 11), 3, 0)

    Attributes:
        stride: how far it moves from one cell to the next, on average.
        low: the first cell seen, for each cell up to where this repeats itself further on.
        high: the last cell seen; below the first one where a cell sees nothing.
        endless: whether it repeats itself; if not, there are no more cells than these.
    """

    stride: Number
    low: tuple[int, ...]
    high: tuple[int, ...]
    endless: bool = True

    @property
    def seen(self) -> Seen:
        """Itself: what a `Window` says in another way."""
        return self

    @property
    def size(self) -> int:
        """How many cells lie from the first to the last that one cell sees, at most."""
        return max([high - low for low, high in zip(self.low, self.high, strict=True)]) + 1

    @property
    def start(self) -> Number:
        """Where the middle of the first cell's sight lies."""
        return halved(self.low[0] + self.high[0])

    def of(self, cell: int) -> tuple[int, int]:
        """The first and the last cell that a cell sees."""
        return self._end(self.low, cell), self._end(self.high, cell)

    def _end(self, ends: tuple[int, ...], cell: int) -> int:
        if not self.endless:
            return ends[min(max(cell, 0), len(ends) - 1)]
        turns, phase = divmod(cell, len(ends))
        return ends[phase] + int(turns * len(ends) * self.stride)


ITSELF = Window()
"""A cell sees the cell in its own place."""

ALONE = Seen(1, (0,), (0,))

Sight = tuple[Window | Seen, ...] | None
"""What is seen along every axis; `None` where a cell sees everything, or axes are mixed."""


def composed(first: Sight, then: Sight, sizes: tuple[int, ...] = ()) -> tuple[Seen, ...] | None:
    """What is seen through two blocks, one after the other.

    Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equations 1 to 4, with
    both ends of what each cell sees in place of size and middle: where sizes grow, neighbours see different numbers.

    >>> conv = (Window(3, stride=2, centre=0),)
    >>> composed(conv, conv)
    (Seen(stride=4, low=(-3,), high=(3,), endless=True),)

    Args:
        first: what the cells in between see.
        then: what is seen of them.
        sizes: how many cells come out along every axis; only that many are followed where no shorter pattern is found.
    """
    if first is None or then is None or len(first) != len(then):
        return None
    if then.count(ITSELF) == len(then):
        return tuple([seen.seen for seen in first])
    most: tuple[int | None, ...] = sizes or (None,) * len(then)
    found: list[Seen] = []
    known: tuple[Any, ...] = (None, None, None)
    for a, b, cells in zip(first, then, most, strict=True):
        if a != known[0] or b != known[1] or cells is not known[2]:  # axes are mostly alike
            known, seen = (a, b, cells), _through(a, b, cells)
        found.append(seen)
    return tuple(found)


def through_all(steps: Iterable[tuple[Any, Shape, Shape]], axes: int) -> Iterator[tuple[Seen, ...] | None]:
    """What is seen of the input after each of several blocks; what goes round the code is seen by who joins it.

    Args:
        steps: each block, with the shape that goes in and the one that comes out.
        axes: the spatial axes of the input.
    """
    sight: Any = (ITSELF.seen,) * axes
    around: list[Any] = []
    for block, before, after in steps:
        sight = composed(sight, block.windows(before), after[1:])
        if block.around == "gives":
            around.append((sight, after[1:]))
        elif block.around == "takes" and around:
            passed, sizes = around.pop()
            if sizes == after[1:]:  # a skip; the places that an unpooling takes are within what it sees anyway
                sight = united(sight, passed, sizes)
        yield sight


def _through(first: Window | Seen, then: Window | Seen, cells: int | None) -> Seen:
    seen, further = first.seen, then.seen
    stride, (low, *more), (high, *_) = seen.stride, seen.low, seen.high
    if type(stride) is int and not more and seen.endless:  # every cell in between sees as much as its neighbour
        lows = tuple([low + stride * end for end in further.low])
        return Seen(
            _plain(stride * further.stride), lows, tuple([high + stride * end for end in further.high]), further.endless
        )
    turns = len(seen.low)
    period = len(further.low) * (turns // gcd(turns, _moved(further)) if turns > 1 else 1)
    endless = seen.endless and further.endless and (cells is None or period <= cells)
    number = range(period if endless else cells or len(further.low))
    spend(len(number))
    ends = [further.of(cell) for cell in number]
    low_ends, high_ends = [seen._end(seen.low, end) for end, _ in ends], [seen._end(seen.high, end) for _, end in ends]
    return Seen(_plain(seen.stride * further.stride), tuple(low_ends), tuple(high_ends), endless)


def _moved(seen: Seen) -> int:
    """How far one turn of a pattern moves."""
    return int(len(seen.low) * seen.stride)


def united(first: Sight, second: Sight, sizes: tuple[int, ...]) -> tuple[Seen, ...] | None:
    """What is seen by either of two ways.

    >>> united((Window(3, 1, 0),), (Window(1, 1, 0),), (9,))
    (Seen(stride=1, low=(-1,), high=(1,), endless=True),)

    Args:
        first: one way.
        second: the other.
        sizes: how many cells there are along every axis.
    """
    if first is None or second is None or len(first) != len(second):
        return None
    return tuple([_hull(a, b, cells) for a, b, cells in zip(first, second, sizes, strict=True)])


def alike(seen: Window | Seen) -> Seen:
    """The sight of cells that all see what the first one sees."""
    low, high = seen.seen.of(0)
    return Seen(0, (low,), (high,), endless=False)


def _hull(one: Window | Seen, other: Window | Seen, cells: int) -> Seen:
    a, b = (one.seen, other.seen)
    if a == b:
        return a
    period = lcm(len(a.low), len(b.low))
    endless = a.endless and b.endless and a.stride == b.stride and period <= cells
    number = range(period if endless else cells)
    spend(len(number))
    both = [(a.of(cell), b.of(cell)) for cell in number]
    ends = [_either(*pair) for pair in both]
    return Seen(a.stride, tuple([low for low, _ in ends]), tuple([high for _, high in ends]), endless)


def _either(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """From the first cell of both to the last; one that sees nothing adds nothing."""
    if one[0] > one[1] or other[0] > other[1]:
        return other if one[0] > one[1] else one
    return min(one[0], other[0]), max(one[1], other[1])


def _plain(number: Number) -> Number:
    """An integer where the number is one."""
    return number if type(number) is int else int(number) if number.denominator == 1 else number


def halved(cells: int) -> int | Fraction:
    """Half of a number of cells, as an integer where it is one."""
    if type(cells) is not int and is_symbolic(cells):
        return cells / 2  # type: ignore[return-value]    # a formula
    return cells // 2 if cells % 2 == 0 else Fraction(cells, 2)


def floored(step: Fraction, offset: Fraction, further: int = 0) -> Window:
    """The window of a cell j that takes the cell `⌊j step + offset⌋`, and `further` cells behind it.

    >>> floored(Fraction(1, 2), Fraction(0)).seen    # nearest upsampling by 2
    Seen(stride=Fraction(1, 2), low=(0, 0), high=(0, 0), endless=True)
    """
    parts = lcm(
        step.denominator, offset.denominator
    )  # ⌊x / parts⌋ is the only whole number from (x - parts + 1) / parts
    span = Fraction(parts - 1, parts) + further
    return Window(span + 1, _plain(step), offset + further - span / 2)


def transposed_window(reach: int, stride: int, padding: int) -> Window:
    """What a cell sees through a transposed window that spans `reach` cells beyond its first.

    Cell j came from the cells i with j = i s - p + t and 0 <= t <= reach, so i runs from (j + p - reach) / s to
    (j + p) / s.
    """
    if stride == 1:
        return Window(reach + 1, 1, halved(2 * padding - reach))
    return Window(_plain(Fraction(reach, stride) + 1), Fraction(1, stride), Fraction(2 * padding - reach, 2 * stride))
