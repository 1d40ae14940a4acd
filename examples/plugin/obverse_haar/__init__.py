"""The Haar wavelet: neighbours become their sum and their difference, which halves every size and loses nothing."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from obverse import Block
from obverse.sight import Window

__all__ = ["Haar", "InverseHaar"]


@dataclass(frozen=True, repr=False)
class Haar(Block):
    """Half the size and twice the channels along every axis, exactly invertible.

    >>> Haar().output_shape((1, 28, 27))
    (4, 14, 14)
    >>> Haar().mirror((1, 28, 27))    # an odd size gets a cell, which the mirror drops
    InverseHaar(dropped=(0, 1))
    """

    adjoint = True

    def output_shape(self, shape):
        channels, *sizes = shape
        return (channels * 2 ** len(sizes), *((size + 1) // 2 for size in sizes))

    def mirror(self, shape):
        return InverseHaar(tuple(size % 2 for size in shape[1:]))

    def build(self, shape):
        from obverse_haar.modules import Haar

        return Haar()

    def windows(self, shape):
        return (Window(2, stride=2, centre=Fraction(1, 2)),) * (len(shape) - 1)


@dataclass(frozen=True, repr=False)
class InverseHaar(Block):
    """The mirror of `Haar`: twice the size along every axis, less the cell that an odd size had been given.

    >>> InverseHaar((0, 1)).output_shape((4, 14, 14))
    (1, 28, 27)

    Args:
        dropped: for every axis 1 if its last cell is dropped, else 0; by default none is.

    Raises:
        ShapeError: for channels that are no such multiple, and for another number of axes.
    """

    dropped: tuple[Literal[0, 1], ...] = ()

    adjoint = True

    def output_shape(self, shape):
        channels, *sizes = shape
        dropped = self.dropped or (0,) * len(sizes)
        parts = 2 ** len(sizes)
        if len(dropped) != len(sizes):
            raise self.refuse(shape, f"dropped is for {len(dropped)} axes, and the shape has {len(sizes)}.")
        if channels % parts != 0:
            raise self.refuse(
                shape, f"{channels} channels are not {parts} times as many.", f"Give it {parts} channels."
            )
        return (channels // parts, *(2 * size - drop for size, drop in zip(sizes, dropped, strict=True)))

    def mirror(self, shape):
        self.output_shape(shape)
        return Haar()

    def build(self, shape):
        from obverse_haar.modules import InverseHaar

        self.output_shape(shape)
        return InverseHaar(self.dropped or (0,) * (len(shape) - 1))

    def windows(self, shape):
        return (Window(1, stride=Fraction(1, 2), centre=Fraction(-1, 4)),) * (len(shape) - 1)
