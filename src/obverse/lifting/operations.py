"""Blocks for what networks do to axes between their layers: what recorded graphs are made of, besides layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse.block import Block
from obverse.shapes import Shape, shape_text

__all__ = ["Border", "Expand", "Mean", "Permute", "Resampled", "Reshape", "Roll", "Scale", "Shift", "Slice", "Unslice"]


class Operation(Block):
    """A block that computes by a function of its settings, and learns nothing."""

    def run(self, x: Tensor) -> Tensor:
        """The result for a batch."""
        raise NotImplementedError

    def build(self, shape: Shape) -> nn.Module:
        self.output_shape(shape)
        return Run(self)

    def output_shape(self, shape: Shape) -> Shape:
        raise NotImplementedError

    def mirror(self, shape: Shape) -> Block:
        raise NotImplementedError


class Run(nn.Module):
    """The module of an operation, which can be told to run as the operation of another size."""

    def __init__(self, block: Operation) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, at: Any = None) -> Tensor:
        block: Operation = self.block if at is None else at[0]
        return block.run(x)

    def extra_repr(self) -> str:
        return repr(self.block)


@dataclass(frozen=True, repr=False)
class Permute(Operation):
    """Axes in another order: `torch.permute`, the batch left out.

    >>> Permute((1, 2, 0)).output_shape((96, 7, 9)), Permute((1, 2, 0)).mirror((96, 7, 9))
    ((7, 9, 96), Permute((2, 0, 1)))

    Args:
        order: the axis that goes to each place, the channels being 0.

    Mirror: the permutation back.

    Raises:
        ShapeError: for a shape with another number of axes.
    """

    order: tuple[int, ...]

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.order):
            raise self.refuse(shape, f"it orders {len(self.order)} axes, and the shape has {len(shape)}.")
        return tuple([shape[axis] for axis in self.order])

    def mirror(self, shape: Shape) -> Block:
        return Permute(tuple([self.order.index(axis) for axis in range(len(self.order))]))

    def run(self, x: Tensor) -> Tensor:
        return x.permute(0, *[axis + 1 for axis in self.order])


@dataclass(frozen=True, repr=False)
class Reshape(Operation):
    """The same numbers under another shape: `torch.reshape`, the batch left out.

    >>> Reshape((4, 96)).output_shape((2, 2, 96)), Reshape((4, 96)).mirror((2, 2, 96))
    ((4, 96), Reshape((2, 2, 96)))

    Args:
        after: the shape that comes out.

    Mirror: back to the shape there was.

    Raises:
        ShapeError: for a shape with another number of cells.
    """

    after: Shape

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if prod(shape) != prod(self.after):
            raise self.refuse(shape, f"{prod(shape)} numbers cannot be laid out as {shape_text(self.after)}.")
        return self.after

    def mirror(self, shape: Shape) -> Block:
        return Reshape(tuple(shape))

    def run(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.after)


Span = tuple[int, int, int]
"""First cell, the one behind the last, and the step from one to the next."""


@dataclass(frozen=True, repr=False)
class Slice(Operation):
    """Some cells of every axis: `x[:, 0:4:2]`.

    >>> Slice(((0, 5, 2),)).output_shape((5,)), Slice(((0, 5, 2),)).mirror((5,))
    ((3,), Unslice(((0, 5, 2),), (5,)))

    Args:
        spans: first cell, the one behind the last, and step, for each axis from the channels on.

    Mirror: `Unslice`, which puts the cells back in their places, among zeros.
    """

    spans: tuple[Span, ...]

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.spans) or any(stop > n for (_, stop, _), n in zip(self.spans, shape, strict=True)):
            raise self.refuse(shape, "it takes cells that are not there.")
        return tuple([len(range(*span)) for span in self.spans])

    def mirror(self, shape: Shape) -> Block:
        return Unslice(self.spans, tuple(shape))

    def run(self, x: Tensor) -> Tensor:
        return x[(slice(None), *[slice(*span) for span in self.spans])]


@dataclass(frozen=True, repr=False)
class Unslice(Operation):
    """Cells put in their places, among zeros.

    >>> Unslice(((1, 5, 2),), (5,)).output_shape((2,))
    (5,)

    Args:
        spans: the places, as those of a `Slice`.
        after: the shape that comes out.

    Mirror: the `Slice`.
    """

    spans: tuple[Span, ...]
    after: Shape

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if Slice(self.spans).output_shape(self.after) != shape:
            raise self.refuse(shape, "these are not as many cells as it has places for.")
        return self.after

    def mirror(self, shape: Shape) -> Block:
        return Slice(self.spans)

    def run(self, x: Tensor) -> Tensor:
        if all(step == 1 for _, _, step in self.spans):
            pads = [(start, n - stop) for (start, stop, _), n in zip(self.spans, self.after, strict=True)]
            return F.pad(x, [amount for pair in reversed(pads) for amount in pair])
        zeros = x.new_zeros(x.shape[0], *self.after)
        zeros[(slice(None), *[slice(*span) for span in self.spans])] = x
        return zeros


@dataclass(frozen=True, repr=False)
class Border(Operation):
    """Cells of zeros added at both ends of every axis, or cells dropped there where the amount is negative.

    >>> Border(((0, 0), (1, 2), (0, -1))).output_shape((3, 7, 7)), Border(((0, 2),)).mirror((7,))
    ((3, 10, 6), Border(((0, -2),)))

    Args:
        amounts: before and after, for each axis from the channels on.

    Mirror: the opposite amounts.
    """

    amounts: tuple[tuple[int, int], ...]

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.amounts) or any(n + a + b < 1 for n, (a, b) in zip(shape, self.amounts, strict=True)):
            raise self.refuse(shape, "it would leave no cells.")
        return tuple([n + before + after for n, (before, after) in zip(shape, self.amounts, strict=True)])

    def mirror(self, shape: Shape) -> Block:
        return Border(tuple([(-before, -after) for before, after in self.amounts]))

    def run(self, x: Tensor) -> Tensor:
        return F.pad(x, [amount for pair in reversed(self.amounts) for amount in pair])


@dataclass(frozen=True, repr=False)
class Resampled(Operation):
    """Every axis brought to another length: each cell takes the value that lies where it does.

    >>> Resampled((8, 4)).output_shape((8, 9)), Resampled((8, 4)).mirror((8, 9))
    ((8, 4), Resampled((8, 9)))

    Args:
        after: the shape that comes out.

    Mirror: back to the lengths there were.
    """

    after: Shape

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.after):
            raise self.refuse(shape, f"it has {len(self.after)} axes, and the shape has {len(shape)}.")
        return self.after

    def mirror(self, shape: Shape) -> Block:
        return Resampled(tuple(shape))

    def run(self, x: Tensor) -> Tensor:
        for dim, (n, m) in enumerate(zip(x.shape[1:], self.after, strict=True), start=1):
            if n != m:
                x = x.index_select(dim, torch.arange(m, device=x.device) * n // m)
        return x


@dataclass(frozen=True, repr=False)
class Roll(Operation):
    """Cells moved round in a circle: `torch.roll`.

    >>> Roll((0, 3)).mirror((8, 7))
    Roll((0, -3))

    Args:
        shifts: how far, along each axis from the channels on.

    Mirror: as far back.
    """

    shifts: tuple[int, ...]

    adjoint = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.shifts):
            raise self.refuse(shape, f"it moves {len(self.shifts)} axes, and the shape has {len(shape)}.")
        return shape

    def mirror(self, shape: Shape) -> Block:
        return Roll(tuple([-shift for shift in self.shifts]))

    def run(self, x: Tensor) -> Tensor:
        return torch.roll(x, self.shifts, tuple(range(1, len(self.shifts) + 1)))


@dataclass(frozen=True, repr=False)
class Expand(Operation):
    """Single cells repeated along their axes, as an addition stretches them: `torch.Tensor.expand`.

    >>> Expand((8, 7, 7)).output_shape((8, 1, 1)), Expand((8, 7, 7)).mirror((8, 1, 1))
    ((8, 7, 7), Mean((1, 2)))

    Args:
        after: the shape that comes out.

    Mirror: `Mean`. (The adjoint is the sum; the mean keeps numbers as large as they were.)
    """

    after: Shape

    def _axes(self, shape: Shape) -> tuple[int, ...]:
        return tuple([axis for axis, (n, m) in enumerate(zip(shape, self.after, strict=True)) if n != m])

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.after) or any(shape[axis] != 1 for axis in self._axes(shape)):
            raise self.refuse(shape, f"it cannot be stretched to {shape_text(self.after)}.")
        return self.after

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return Mean(self._axes(shape))

    def run(self, x: Tensor) -> Tensor:
        return x.expand(x.shape[0], *self.after)


@dataclass(frozen=True, repr=False)
class Mean(Operation):
    """The mean along some axes, which keep one cell: `torch.mean(..., keepdim=True)`.

    >>> Mean((1, 2)).output_shape((8, 7, 7)), Mean((1, 2)).mirror((8, 7, 7))
    ((8, 1, 1), Expand((8, 7, 7)))

    Args:
        axes: which, the channels being 0.

    Mirror: `Expand`.
    """

    axes: tuple[int, ...]

    def output_shape(self, shape: Shape) -> Shape:
        return tuple([1 if axis in self.axes else n for axis, n in enumerate(shape)])

    def mirror(self, shape: Shape) -> Block:
        return Expand(tuple(shape))

    def run(self, x: Tensor) -> Tensor:
        return x.mean([axis + 1 for axis in self.axes], keepdim=True) if self.axes else x


class Learned(nn.Module):
    """A parameter that is added, or multiplied with."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        self.weight = nn.Parameter(torch.empty(block.learned))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the parameter that is mirrored was made."""
        nn.init.normal_(self.weight, *self.block.start)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block.join(x, self.weight)
        return result

    def extra_repr(self) -> str:
        return repr(self.block)


@dataclass(frozen=True, repr=False)
class _WithParameter(Block):
    """What `Shift` and `Scale` share: one parameter that broadcasts to the shape."""

    learned: Shape
    start: tuple[float, float] = (0.0, 0.0)

    join: ClassVar[Any] = None

    def output_shape(self, shape: Shape) -> Shape:
        short = len(shape) - len(self.learned)
        sizes = zip(self.learned, shape[short:], strict=True) if short >= 0 else ((2, 1),)
        if any(mine not in (1, size) for mine, size in sizes):
            raise self.refuse(shape, f"a parameter of {shape_text(self.learned)} does not broadcast to it.")
        return shape

    def mirror(self, shape: Shape) -> Block:
        return self

    def build(self, shape: Shape) -> nn.Module:
        return Learned(self)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": self.learned}


@dataclass(frozen=True, repr=False)
class Shift(_WithParameter):
    """A parameter, added: a position embedding.

    >>> Shift((197, 768)).output_shape((197, 768)), Shift((1, 768)).parameter_shapes((197, 768))
    ((197, 768), {'weight': (1, 768)})

    Args:
        learned: the parameter's shape, which broadcasts.
        start: mean and deviation of its first values.

    Mirror: one of the same shape, with a parameter of its own.
    """

    join = staticmethod(torch.add)


@dataclass(frozen=True, repr=False)
class Scale(_WithParameter):
    """A parameter, multiplied with: the scale of a layer.

    >>> Scale((8, 1, 1), start=(1.0, 0.0)).output_shape((8, 7, 7))
    (8, 7, 7)

    Args:
        learned: the parameter's shape, which broadcasts.
        start: mean and deviation of its first values.

    Mirror: one of the same shape, with a parameter of its own.
    """

    start: tuple[float, float] = (1.0, 0.0)

    join = staticmethod(torch.mul)

    def windows(self, shape: Shape) -> Any:
        return None
