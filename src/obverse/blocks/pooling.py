"""Pooling, and what takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import lazy_loader as lazy

from obverse.arithmetic import extent_of, pool_output_size
from obverse.block import Block, Shape, Window, along, by_axis, settle, shape_text, spatial_rank
from obverse.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    torch = lazy.load("torch")
    modules = lazy.load("obverse.modules", suppress_warning=True)

__all__ = ["AvgPool", "MaxPool", "NearestUnpool"]

Size = int | tuple[int, ...]


@dataclass(frozen=True, repr=False)
class MaxPool(Block):
    """The largest value of every window: `torch.nn.MaxPool1d`, `MaxPool2d` or `MaxPool3d`.

    >>> MaxPool(2).output_shape((8, 27, 28)), MaxPool(2, ceil_mode=True).output_shape((8, 27, 28))
    ((8, 13, 14), (8, 14, 14))

    Shapes: `C×…` to `C×…`, in one to three dimensions.

    Args:
        kernel_size: cells of a window.
        stride: cells between two windows; `None` means `kernel_size`.
        padding: cells on either side that never win, at most half the kernel.
        dilation: distance between a window's cells.
        ceil_mode: keep a last window that is only partly inside.

    Mirror: `NearestUnpool`, which gives every cell the value of a window that covers it, at any size.

    Raises:
        ShapeError: where `torch.nn.MaxPool2d` refuses the shape.
    """

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    dilation: Size = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1, padding=0, dilation=1)

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *by_axis(self, shape, pool_output_size, _pool_axes(self, spatial_rank(self, shape))))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return NearestUnpool(tuple(shape[1:]), *settings)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        layers: Any = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d)
        pool: nn.Module = layers[len(shape) - 2](
            self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )
        return pool

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(_pool_window(*axis) for axis in _pool_axes(self, len(shape) - 1))


@dataclass(frozen=True, repr=False)
class AvgPool(Block):
    """The mean of every window: `torch.nn.AvgPool1d`, `AvgPool2d` or `AvgPool3d`.

    >>> AvgPool(2).output_shape((8, 28, 28)), AvgPool(2).mirror((8, 28, 28))
    ((8, 14, 14), NearestUnpool((28, 28), 2))

    Shapes: `C×…` to `C×…`, in one to three dimensions.

    Args:
        kernel_size: cells of a window.
        stride: cells between two windows; `None` means `kernel_size`.
        padding: zeros on either side, at most half the kernel.
        ceil_mode: keep a last window that is only partly inside.
        count_include_pad: whether the padding counts in the mean.

    Mirror: `NearestUnpool`. (The mean is linear; its adjoint would spread every value over its window, divided by the
    cells in it, which dims where windows do not overlap, so that is not what comes back.)

    Raises:
        ShapeError: where `torch.nn.AvgPool2d` refuses the shape.
    """

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1, padding=0)

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        size_after = _avg_pool3d_size if rank == 3 else pool_output_size
        return (shape[0], *by_axis(self, shape, size_after, _pool_axes(self, rank)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return NearestUnpool(tuple(shape[1:]), self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        layers: Any = (torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d)
        pool: nn.Module = layers[len(shape) - 2](
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )
        return pool

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(_pool_window(*axis) for axis in _pool_axes(self, len(shape) - 1))


@dataclass(frozen=True, repr=False)
class NearestUnpool(Block):
    """The mirror of pooling: every cell takes the value of a window that covers it.

    >>> NearestUnpool((27, 28), 2).output_shape((8, 13, 14))    # the pool dropped a row; the last window gives it back
    (8, 27, 28)

    `torch.nn.functional.interpolate` cannot stand in for it: with 13 windows for 27 cells it gives 12 cells the value
    of a window that never saw them.

    Shapes: `C×…`, the sizes that pooling gives, to `C×size`.

    Args:
        size: the spatial sizes to restore, one an axis.
        kernel_size: of the pooling, like the arguments that follow.
        stride: `None` means `kernel_size`.
        padding: cells on either side.
        dilation: distance between a window's cells.
        ceil_mode: whether the pooling kept a last window that is only partly inside.

    Where windows overlap, the last one that covers a cell is taken; where a stride or a dilation left gaps, the last
    that starts at or before it.

    The built module takes `forward(x, size=None)`.

    Mirror: the `MaxPool` of the same settings.

    Raises:
        ShapeError: for a shape that pooling `size` does not give.
    """

    size: tuple[int, ...]
    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    dilation: Size = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        settle(self, size=1, kernel_size=1, stride=1, padding=0, dilation=1)
        if not isinstance(self.size, tuple):
            raise ShapeError(
                f"size is a tuple, one number an axis; {self.size!r} was given.",
                f"Give size=({self.size},).",
                where="NearestUnpool",
            )

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        pooled = MaxPool(self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        if rank != len(self.size):
            raise self.refuse(shape, f"size={self.size} is for {len(self.size)} axes, and the shape has {rank}.")
        expected = pooled.output_shape((shape[0], *self.size))
        if (expected == tuple(shape)) is False:
            raise self.refuse(
                shape, f"pooling {shape_text(self.size)} gives {shape_text(expected[1:])}, not {shape_text(shape[1:])}."
            )
        return (shape[0], *self.size)

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return MaxPool(self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        axes = [(k, s, p, d) for k, s, p, d, _ in _pool_axes(self, len(shape) - 1)]
        return modules.NearestUnpool(self.size, axes)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        # cell 0 takes window p // s, and a window serves s cells in turn
        axes = _pool_axes(self, len(shape) - 1)
        return tuple(Window(1, Fraction(1, s), Fraction(2 * p + 1 - s, 2 * s)) for _, s, p, _, _ in axes)


def _pool_axes(block: Any, rank: int) -> tuple[tuple[Any, ...], ...]:
    """Kernel, stride, padding, dilation and ceil_mode along every axis."""
    names = ("kernel_size", "stride", "padding", *(("dilation",) if hasattr(block, "dilation") else ()))
    return tuple((*_pool_defaults(*axis), block.ceil_mode) for axis in along(block, names, rank))


def _pool_defaults(kernel_size: int, stride: int | None, padding: int, dilation: int = 1) -> tuple[int, int, int, int]:
    return kernel_size, kernel_size if stride is None else stride, padding, dilation


def _pool_window(kernel_size: int, stride: int, padding: int, dilation: int, _: bool) -> Window:
    reach = extent_of(kernel_size, dilation) - 1
    return Window(reach + 1, stride, Fraction(reach, 2) - padding)


def _avg_pool3d_size(size: Any, kernel_size: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Any:
    # PyTorch's AvgPool3d, and it alone, wants the input without its padding to span the kernel
    if (size < kernel_size) is True:
        raise ShapeError(f"a window spans {kernel_size} cells, and only {size} are there without the padding.")
    return pool_output_size(size, kernel_size, stride, padding, dilation, ceil_mode)
