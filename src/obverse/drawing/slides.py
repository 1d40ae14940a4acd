"""A window that slides along one axis: which cells lie in its way, and which it reads where. Integers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from obverse.arithmetic import conv_output_size, conv_transpose_output_size, extent_of, remainder

__all__ = ["Kind", "Slide", "sliding", "sliding_transposed"]

Kind = Literal["input", "zero", "padding", "cut"]


@dataclass(frozen=True)
class Slide:
    """A window's way along one axis, in the coordinates of the row that it reads.

    Attributes:
        input_size: cells that went in.
        spread: the distance between two of them: 1, or the stride of a transposed convolution.
        first: where the row begins; below 0 where there is padding in front.
        last: where it ends.
        starts: where the window starts for each cell that comes out.
        taps: which cells it reads, counted from its start.
        remainder: cells at the row's end that are there on account of the remainder.
    """

    input_size: int
    spread: int
    first: int
    last: int
    starts: range
    taps: range
    remainder: int

    @property
    def span(self) -> range:
        """Every position that is drawn, those that padding cuts off among them."""
        return range(min(self.first, 0), max(self.last, self.spread * (self.input_size - 1)) + 1)

    def kind(self, position: int) -> Kind:
        """What lies at a position."""
        if not self.first <= position <= self.last:
            return "cut"
        if not 0 <= position <= self.spread * (self.input_size - 1):
            return "padding"
        return "zero" if position % self.spread else "input"

    def beyond(self, position: int) -> bool:
        """Whether a position belongs to the remainder."""
        return self.last - self.remainder < position <= self.last

    def read(self, cell: int) -> list[int]:
        """The positions that make an output cell."""
        return [self.starts[cell] + tap for tap in self.taps]


def sliding(input_size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> Slide:
    """The way of a convolution's window.

    >>> slide = sliding(6, 3, 2, 1, 1)
    >>> slide.read(0), slide.read(2), [slide.kind(position) for position in slide.read(0)]
    ([-1, 0, 1], [3, 4, 5], ['padding', 'input', 'input'])
    >>> slide.beyond(6)    # the padding behind, which no window reached: 6 cells and 5 both give 3
    True
    """
    windows = conv_output_size(input_size, kernel_size, stride, padding, dilation)
    return Slide(
        input_size,
        1,
        -padding,
        input_size - 1 + padding,
        range(-padding, -padding + stride * windows, stride),
        range(0, extent_of(kernel_size, dilation), dilation),
        remainder(input_size, kernel_size, stride, padding, dilation),
    )


def sliding_transposed(
    input_size: int, kernel_size: int, stride: int, padding: int, output_padding: int, dilation: int
) -> Slide:
    """The way of the window that gives what a transposed convolution gives: over the input, spread apart by zeros.

    A border of `d(k - 1) - p` zeros is added; where that is below 0, the border cuts cells off (relationship 13).

    >>> slide = sliding_transposed(3, 3, 2, 1, 1, 1)
    >>> [slide.kind(position) for position in slide.span]
    ['padding', 'input', 'zero', 'input', 'zero', 'input', 'padding', 'padding']
    >>> len(slide.starts), slide.beyond(6)
    (6, True)
    """
    size = conv_transpose_output_size(input_size, kernel_size, stride, padding, output_padding, dilation)
    border = extent_of(kernel_size, dilation) - 1 - padding
    return Slide(
        input_size,
        stride,
        -border,
        stride * (input_size - 1) + border + output_padding,
        range(-border, size - border),
        range(0, extent_of(kernel_size, dilation), dilation),
        output_padding,
    )
