"""Sight: what one cell that a block gives out sees of the cells that went in."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

__all__ = ["ITSELF", "Sight", "Window", "composed", "halved", "transposed_window", "united"]


class Window(NamedTuple):
    """What one cell that a block gives out sees of the cells that went in, along one axis.

    >>> Window(3, stride=2, centre=0)      # Conv(…, 3, stride=2, padding=1)
    Window(size=3, stride=2, centre=0)

    Attributes:
        size: how many cells it sees, at most.
        stride: how far the window moves from one cell to the next; a fraction where sizes grow.
        centre: where the first window's middle is, the middle of the first cell being 0.
    """

    size: int = 1
    stride: int | Fraction = 1
    centre: int | Fraction = 0


ITSELF = Window()
"""A cell sees the cell in its own place."""

Sight = tuple[Window, ...] | None
"""Windows along every axis; `None` where a cell sees everything, or axes are mixed."""


def composed(first: Sight, then: Sight) -> Sight:
    """What is seen through two blocks, one after the other.

    Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equations 1 to 4, with
    middles in place of left ends.

    >>> conv = (Window(3, stride=2, centre=0),)
    >>> composed(conv, conv)
    (Window(size=7, stride=4, centre=0),)
    """
    if first is None or then is None or len(first) != len(then):
        return None
    return tuple([_through(a, b) for a, b in zip(first, then, strict=True)])


def _through(first: Window, then: Window) -> Window:
    if then is ITSELF:
        return first
    size, stride, centre = first
    further, step, offset = then
    moved, middle = stride * step, centre + offset * stride
    if type(moved) is type(middle) is int:
        return Window(int(size + (further - 1) * stride), moved, middle)
    return Window(int(size + (further - 1) * stride), _plain(moved), _plain(middle))


def united(first: Sight, second: Sight) -> Sight:
    """What is seen by either of two ways.

    >>> united((Window(3, 1, 0),), (Window(1, 1, 0),))
    (Window(size=3, stride=1, centre=0),)
    """
    if first is None or second is None or len(first) != len(second):
        return None
    if any(a.stride != b.stride for a, b in zip(first, second, strict=True)):
        return None
    return tuple([_hull(a, b) for a, b in zip(first, second, strict=True)])


def _hull(a: Window, b: Window) -> Window:
    if a == b:
        return a
    low = min(2 * a.centre - a.size, 2 * b.centre - b.size)
    high = max(2 * a.centre + a.size, 2 * b.centre + b.size)
    return Window(int(Fraction(high - low, 2)), a.stride, _plain(Fraction(high + low, 4)))


def _plain(number: int | Fraction) -> int | Fraction:
    """An integer where the number is one."""
    return number if type(number) is int else int(number) if number.denominator == 1 else number


def halved(cells: int) -> int | Fraction:
    """Half of a number of cells, as an integer where it is one."""
    return cells // 2 if cells % 2 == 0 else Fraction(cells, 2)


def transposed_window(reach: int, stride: int, padding: int) -> Window:
    """What a cell sees through a transposed window that spans `reach` cells beyond its first.

    Cell j came from the cells i with j = i s - p + t and 0 <= t <= reach, so i runs from (j + p - reach) / s to
    (j + p) / s.
    """
    return Window(reach // stride + 1, Fraction(1, stride), Fraction(2 * padding - reach, 2 * stride))
