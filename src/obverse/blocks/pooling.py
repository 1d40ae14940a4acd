"""Pooling, and what takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, prod
from typing import TYPE_CHECKING, Any, Literal

from obverse.arithmetic import differ, extent_of, pool_output_size, whole, window_of
from obverse.block import Block, Limit
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import along, by_axis, check_number, for_each, settle, spatial_rank
from obverse.shapes import Shape, shape_text
from obverse.sight import Seen, Sight, Window, _plain, floored, halved, transposed_window
from obverse.sizes import spend

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    torch = Later("torch")
    modules = Later("obverse.modules")

__all__ = ["AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "LPPool", "MaxPool", "MaxUnpool", "NearestUnpool"]

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
        return_indices: hand round the code where the largest values were. The mirror is then `MaxUnpool`, which puts
            them back; a model says how many numbers go round.
        ceil_mode: keep a last window that is only partly inside.

    Mirror: `NearestUnpool`, which gives every cell the value of a window that covers it, at any size; or `MaxUnpool`.

    Raises:
        ShapeError: where `torch.nn.MaxPool2d` refuses the shape.
    """

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    dilation: Size = 1
    return_indices: bool = False
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1, padding=0, dilation=1)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """With `return_indices` it hands them round the code."""
        return "gives" if self.return_indices else ""

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *by_axis(self, shape, pool_output_size, pool_axes(self, spatial_rank(self, shape))))

    def numbers_around(self, shape: Shape) -> int:
        return prod(self.output_shape(shape)) if self.return_indices else 0

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        if self.return_indices:
            return MaxUnpool(
                self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, tuple(shape[1:])
            )
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return NearestUnpool(tuple(shape[1:]), *settings)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        rank = len(shape) - 1
        if self.return_indices or self.ceil_mode or rank == 1:  # what PyTorch's own cannot do, or not while traced
            return modules.MaxPool(pool_axes(self, rank), self.return_indices)
        layers: Any = {2: torch.nn.MaxPool2d, 3: torch.nn.MaxPool3d}
        pool: nn.Module = layers[rank](self.kernel_size, self.stride, self.padding, self.dilation)
        return pool

    def remainders(self, shape: Shape) -> tuple[Any, ...]:
        return _left_over(shape, self.output_shape(shape), pool_axes(self, len(shape) - 1))

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(_pool_window(*axis) for axis in pool_axes(self, len(shape) - 1))


@dataclass(frozen=True, repr=False)
class AvgPool(Block):
    """The mean of every window: `torch.nn.AvgPool1d`, `AvgPool2d` or `AvgPool3d`.

    >>> AvgPool(2).output_shape((8, 28, 28)), AvgPool(2).mirror((8, 28, 28))
    ((8, 14, 14), NearestUnpool((28, 28), kernel_size=2))

    Shapes: `C×…` to `C×…`, in one to three dimensions.

    Args:
        kernel_size: cells of a window.
        stride: cells between two windows; `None` means `kernel_size`.
        padding: zeros on either side, at most half the kernel.
        ceil_mode: keep a last window that is only partly inside.
        count_include_pad: whether the padding counts in the mean.
        divisor_override: what to divide the sum by, in place of the number of cells; not in one dimension.

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
    divisor_override: int | None = None

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1, padding=0, divisor_override=1)

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        if rank == 1 and self.divisor_override is not None:
            raise self.refuse(shape, "PyTorch's AvgPool1d has no divisor_override.", "Leave divisor_override out.")
        size_after = _avg_pool3d_size if rank == 3 else pool_output_size
        return (shape[0], *by_axis(self, shape, size_after, pool_axes(self, rank)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return NearestUnpool(tuple(shape[1:]), self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        rank = len(shape) - 1
        if self.ceil_mode or self.divisor_override:  # what PyTorch's own cannot do while traced
            return modules.AvgPool(pool_axes(self, rank), self.count_include_pad, self.divisor_override)
        layers: Any = (torch.nn.AvgPool1d, torch.nn.AvgPool2d, torch.nn.AvgPool3d)
        override = {} if self.divisor_override is None else {"divisor_override": self.divisor_override}
        settings = (self.kernel_size, self.stride, self.padding, False, self.count_include_pad)
        pool: nn.Module = layers[rank - 1](*settings, **override)
        return pool

    def remainders(self, shape: Shape) -> tuple[Any, ...]:
        return _left_over(shape, self.output_shape(shape), pool_axes(self, len(shape) - 1))

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(_pool_window(*axis) for axis in pool_axes(self, len(shape) - 1))


@dataclass(frozen=True, repr=False)
class NearestUnpool(Block):
    """The mirror of pooling: every cell takes the value of a window that covers it.

    >>> NearestUnpool((27, 28), 2).output_shape((8, 13, 14))    # the pool dropped a row; the last window gives it back
    (8, 27, 28)
    >>> NearestUnpool((27, 28)).mirror((8, 6, 6))
    AdaptiveAvgPool((6, 6))

    `torch.nn.functional.interpolate` cannot stand in for it: with 13 windows for 27 cells it gives 12 cells the value
    of a window that never saw them.

    Shapes: `C×…`, the sizes that pooling gives, to `C×size`.

    Args:
        size: the spatial sizes to restore, one an axis.
        kernel_size: of the pooling, like the arguments that follow; `None` for adaptive pooling, which has no other.
        stride: `None` means `kernel_size`.
        padding: cells on either side.
        dilation: distance between a window's cells.
        ceil_mode: whether the pooling kept a last window that is only partly inside.

    Where windows overlap, the last one that covers a cell is taken; where a stride or a dilation left gaps, the last
    that starts at or before it.

    The built module takes `forward(x, size=None)`.

    Mirror: the `MaxPool` of the same settings, or `AdaptiveAvgPool`.

    Raises:
        ShapeError: for a shape that pooling `size` does not give.
    """

    size: tuple[int, ...]
    kernel_size: Size | None = None
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
        check_unpooled(self, shape, self.size, self.mirrored(shape))
        return (shape[0], *self.size)

    def mirrored(self, shape: Shape) -> Block:
        """The pooling that is undone."""
        if self.kernel_size is None:
            return AdaptiveAvgPool(tuple(shape[1:]))
        return MaxPool(self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return self.mirrored(shape)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        if self.kernel_size is None:
            return modules.NearestUnpool(self.size, [None] * len(self.size))
        axes = [(k, s, p, d) for k, s, p, d, _ in pool_axes(self, len(shape) - 1)]
        return modules.NearestUnpool(self.size, axes)

    def windows(self, shape: Shape) -> Sight:
        if self.kernel_size is None:
            sizes = zip(shape[1:], self.size, strict=True)
            return tuple([floored(Fraction(n, m), Fraction(0)) for n, m in sizes])
        return tuple([_covering(*axis) for axis in pool_axes(self, len(shape) - 1)])


@dataclass(frozen=True, repr=False)
class MaxUnpool(Block):
    """Values put back where a `MaxPool` had found them: `torch.nn.MaxUnpool1d`, `MaxUnpool2d`, `MaxUnpool3d`.

    >>> pool = MaxPool(2, return_indices=True)
    >>> pool.mirror((8, 27, 28))
    MaxUnpool(2, size=(27, 28))

    Where they were is handed round the code, so the two come in pairs: the built module pops it from `around`. What no
    window chose is zero.

    Shapes: `C×…` to `C×size`.

    Args:
        kernel_size: of the pooling, like the arguments that follow.
        stride: `None` means `kernel_size`.
        padding: cells on either side.
        dilation: distance between a window's cells.
        ceil_mode: whether the pooling kept a last window that is only partly inside.
        size: the spatial sizes to restore; `None` means the smallest that the pooling maps to these.

    Mirror: the `MaxPool` of the same settings, which hands its indices round.

    Source: Zeiler & Fergus, arXiv:1311.2901.

    Raises:
        ShapeError: for a shape that pooling `size` does not give; from the module, where nothing was handed round.
    """

    kernel_size: Size
    stride: Size | None = None
    padding: Size = 0
    dilation: Size = 1
    ceil_mode: bool = False
    size: tuple[int, ...] | None = None

    around = "takes"

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1, padding=0, dilation=1, size=1)

    def _sizes(self, shape: Shape) -> tuple[Any, ...]:
        if self.size is not None:
            return self.size
        axes = pool_axes(self, spatial_rank(self, shape))
        return tuple(
            [(n - 1) * s + extent_of(k, d) - 2 * p for n, (k, s, p, d, _) in zip(shape[1:], axes, strict=True)]
        )

    def output_shape(self, shape: Shape) -> Shape:
        sizes = self._sizes(shape)
        check_unpooled(self, shape, sizes, self.mirrored())
        return (shape[0], *sizes)

    def mirrored(self) -> Block:
        """The pooling that is undone."""
        return MaxPool(self.kernel_size, self.stride, self.padding, self.dilation, True, self.ceil_mode)

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return self.mirrored()

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        return modules.MaxUnpool(self.output_shape(shape)[1:])

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        axes = pool_axes(self, len(shape) - 1)
        return tuple([transposed_window(extent_of(k, d) - 1, s, p) for k, s, p, d, _ in axes])


@dataclass(frozen=True, repr=False)
class LPPool(Block):
    """The p-norm of every window: `torch.nn.LPPool1d`, `LPPool2d` or `LPPool3d`.

    >>> LPPool(2, 2).output_shape((8, 27, 28)), LPPool(2, 2).mirror((8, 27, 28))
    ((8, 13, 14), NearestUnpool((27, 28), kernel_size=2))

    Args:
        norm_type: the p; 1 sums, large ones approach the maximum.
        kernel_size: cells of a window.
        stride: cells between two windows; `None` means `kernel_size`.
        ceil_mode: keep a last window that is only partly inside.

    Mirror: `NearestUnpool`.

    Raises:
        ShapeError: where `torch.nn.LPPool2d` refuses the shape.
    """

    norm_type: float
    kernel_size: Size
    stride: Size | None = None
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        settle(self, kernel_size=1, stride=1)
        check_number(self, "norm_type", 1)

    def _average(self) -> AvgPool:
        return AvgPool(self.kernel_size, self.stride, ceil_mode=self.ceil_mode)  # which is how PyTorch computes it

    def output_shape(self, shape: Shape) -> Shape:
        spatial_rank(self, shape)
        try:
            return self._average().output_shape(shape)
        except ShapeError as error:
            refused = error
        raise ShapeError(lambda: self.refuse(shape, refused.reason, "", refused.nearest))  # worked out if it is read

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return self._average().mirror(shape)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        average = self._average()
        return modules.LPPool(
            self.norm_type, prod(k for k, *_ in pool_axes(self, len(shape) - 1)), average.build(shape)
        )

    def remainders(self, shape: Shape) -> tuple[Any, ...]:
        return self._average().remainders(shape)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return self._average().windows(shape)


@dataclass(frozen=True, repr=False)
class _Adaptive(Block):
    """What both adaptive poolings share: windows that are as long as they must be for the size to come out."""

    output_size: int | tuple[int | None, ...] | None

    def __post_init__(self) -> None:
        sizes = self.output_size
        if isinstance(sizes, (list, tuple)):
            kept = tuple([size if size is None else whole("output_size", size, 1) for size in sizes])
            object.__setattr__(self, "output_size", kept)
        elif sizes is not None:
            settle(self, output_size=1)

    def output_shape(self, shape: Shape) -> Shape:
        sizes = along(self, ("output_size",), spatial_rank(self, shape))
        return (shape[0], *[n if size is None else size for n, (size,) in zip(shape[1:], sizes, strict=True)])

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return NearestUnpool(tuple(shape[1:]))

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        rank = len(shape) - 1
        sizes = tuple([size for (size,) in along(self, ("output_size",), rank)])
        if not any(sizes):  # which PyTorch refuses in one dimension, and exports with the sizes that it saw
            return torch.nn.Identity()
        layers: Any = modules if isinstance(self, AdaptiveAvgPool) else torch.nn
        layer: nn.Module = getattr(layers, f"{type(self).__name__}{rank}d")(sizes if rank > 1 else sizes[0])
        return layer

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        sizes = [size for (size,) in along(self, ("output_size",), len(shape) - 1)]
        if not any(sizes) or set(sizes) == {1}:
            return ()
        if None in sizes and isinstance(self, AdaptiveMaxPool):
            why = "torch.export fixes the sizes that adaptive pooling shall keep"
            return (Limit("export", f"{self!r}: {why}. Give every axis a size."),)
        why = "PyTorch writes adaptive pooling to more than one cell into ONNX with wrong numbers, or not at all"
        return (Limit("onnx", f"{self!r}: {why}. Pool to one cell, {type(self).__name__}(1), or write a .pt2."),)

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        after = self.output_shape(shape)[1:]
        return tuple([spread_window(n, o) for n, o in zip(shape[1:], after, strict=True)])


@dataclass(frozen=True, repr=False)
class AdaptiveAvgPool(_Adaptive):
    """The mean of as many windows as shall come out: `torch.nn.AdaptiveAvgPool1d` to `3d`.

    >>> AdaptiveAvgPool(1).output_shape((512, 7, 9)), AdaptiveAvgPool(1).mirror((512, 7, 9))
    ((512, 1, 1), NearestUnpool((7, 9)))

    In front of `Flatten` and `Linear` it makes a code of fixed length from an input of any size.

    Args:
        output_size: the sizes to give out: one for all axes, or one an axis; `None` keeps an axis.

    Mirror: `NearestUnpool` to the sizes there were.
    """


@dataclass(frozen=True, repr=False)
class AdaptiveMaxPool(_Adaptive):
    """The maximum of as many windows as shall come out: `torch.nn.AdaptiveMaxPool1d` to `3d`.

    >>> AdaptiveMaxPool((None, 1)).output_shape((512, 7, 9))
    (512, 7, 1)

    Args:
        output_size: the sizes to give out: one for all axes, or one an axis; `None` keeps an axis.

    Mirror: `NearestUnpool` to the sizes there were.
    """


def spread_window(size: int, windows: int) -> Window:
    """What adaptive pooling's windows see, from ⌊j n / o⌋ to ⌈(j + 1) n / o⌉ - 1."""
    span = Fraction(size + windows - 2, windows)
    return Window(span + 1, _plain(Fraction(size, windows)), Fraction(size - windows, 2 * windows))


def _covering(kernel_size: int, stride: int, padding: int, dilation: int, _: bool) -> Window | Seen:
    """The window that a cell takes its value from, the last one that covers it."""
    if dilation == 1:
        return floored(Fraction(1, stride), Fraction(padding, stride))
    turns = dilation // gcd(
        stride, dilation
    )  # windows later it is the same again; the first ones have others before them
    spend(turns * stride)
    cells = range(turns * stride, 2 * turns * stride)
    found = [window_of(cell, 3 * turns + padding + 1, kernel_size, stride, padding, dilation) - turns for cell in cells]
    return Seen(_plain(Fraction(1, stride)), tuple(found), tuple(found))


def check_unpooled(block: Block, shape: Shape, sizes: tuple[Any, ...], pool: Block) -> None:
    """Refuse a shape that pooling the given sizes does not give.

    Raises:
        ShapeError: with what it gives.
    """
    rank = spatial_rank(block, shape)
    if rank != len(sizes):
        raise block.refuse(shape, f"size={sizes} is for {len(sizes)} axes, and the shape has {rank}.")
    expected = pool.output_shape((shape[0], *sizes))
    if any(map(differ, shape, expected)):
        raise block.refuse(
            shape, f"pooling {shape_text(sizes)} gives {shape_text(expected[1:])}, not {shape_text(shape[1:])}."
        )


def pool_axes(block: Any, rank: int) -> tuple[tuple[Any, ...], ...]:
    """Kernel, stride, padding, dilation and ceil_mode along every axis."""
    return along(block, ("kernel_size", "stride", "padding", "dilation"), rank, _pool_axes)


def _pool_axes(block: Any, names: tuple[str, ...], rank: int) -> tuple[tuple[Any, ...], ...]:
    own = tuple([name for name in names if hasattr(block, name)])
    return tuple([(*_pool_defaults(*axis), block.ceil_mode) for axis in for_each(block, own, rank)])


def _pool_defaults(
    kernel_size: int, stride: int | None, padding: int = 0, dilation: int = 1
) -> tuple[int, int, int, int]:
    return kernel_size, kernel_size if stride is None else stride, padding, dilation


def _left_over(shape: Shape, after: Shape, axes: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    """The cells behind the last window; fewer than none, where with `ceil_mode` it juts out."""
    sizes = zip(shape[1:], after[1:], axes, strict=True)
    return tuple([n + 2 * p - extent_of(k, d) - s * (o - 1) for n, o, (k, s, p, d, _) in sizes])


def _pool_window(kernel_size: int, stride: int, padding: int, dilation: int, _: bool) -> Window:
    reach = extent_of(kernel_size, dilation) - 1
    return Window(reach + 1, stride, halved(reach) - padding)


def _avg_pool3d_size(size: Any, kernel_size: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Any:
    # PyTorch's AvgPool3d, and it alone, wants the input without its padding to span the kernel
    if (size < kernel_size) is True:
        raise ShapeError(f"a window spans {kernel_size} cells, and only {size} are there without the padding.")
    return pool_output_size(size, kernel_size, stride, padding, dilation, ceil_mode)
