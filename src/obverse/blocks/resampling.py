"""Sizes made larger or smaller by a rule: Upsample, PixelShuffle, PixelUnshuffle."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from obverse.arithmetic import differ
from obverse.block import Block, Limit
from obverse.blocks.pooling import AvgPool, spread_window
from obverse.blocks.reshaping import Pad
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import along, by_axis, collapsed, settle, spatial_rank
from obverse.shapes import Shape, at_axes
from obverse.sight import Window, floored

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    torch = Later("torch")
    modules = Later("obverse.modules")

__all__ = ["PixelShuffle", "PixelUnshuffle", "Upsample"]

MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1, 2, 3),  # by any number of axes: PyTorch's bilinear is the linear of two
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
"""Modes of `torch.nn.functional.interpolate`, with the numbers of axes for which PyTorch has them."""


@dataclass(frozen=True, repr=False)
class Upsample(Block):
    """Every axis resized: `torch.nn.Upsample`.

    >>> Upsample(scale_factor=2).output_shape((8, 7, 7)), Upsample(size=(27, 28)).output_shape((8, 7, 7))
    ((8, 14, 14), (8, 27, 28))
    >>> Upsample(scale_factor=2).mirror((8, 7, 7)), Upsample(size=(27, 28)).mirror((8, 7, 7))
    (AvgPool(2), Upsample(size=(7, 7)))

    Shapes: `C×…` to `C×…`, in one to three dimensions.

    Args:
        size: the spatial sizes to give out; one number for all axes, or one an axis.
        scale_factor: the factor by which sizes grow, rounded down, if `size` is not given; one for all axes or one an
            axis.
        mode: `"nearest"`, `"nearest-exact"`, `"area"`, `"linear"` (in any number of dimensions), or PyTorch's
            `"bilinear"`, `"bicubic"`, `"trilinear"`.
        align_corners: as in PyTorch, for the linear and cubic modes.

    Mirror: `AvgPool(factor)` for a whole factor, else the `Upsample` to the sizes there were.

    Raises:
        ShapeError: for neither or both of size and factor, an unknown mode, or a size that vanishes.
    """

    size: int | tuple[int, ...] | None = None
    scale_factor: float | tuple[float, ...] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None

    def __post_init__(self) -> None:
        settle(self, size=1)
        if (self.size is None) == (self.scale_factor is None):
            raise ShapeError(
                f"it takes a size or a scale_factor; {'neither' if self.size is None else 'both'} was given.",
                "Give scale_factor=2.",
                where="Upsample",
            )
        if isinstance(self.scale_factor, list):
            object.__setattr__(self, "scale_factor", tuple(self.scale_factor))
        factors = self.scale_factor if isinstance(self.scale_factor, tuple) else (self.scale_factor,)
        if self.size is None and not all(_is_positive(factor) for factor in factors):
            raise ShapeError(
                f"scale_factor is a number above 0; {self.scale_factor!r} was given.",
                "Give scale_factor=2.",
                where="Upsample",
            )
        if self.mode not in MODES:
            raise ShapeError(
                f"mode={self.mode!r} is none of {', '.join(map(repr, MODES))}.",
                "Give mode='nearest'.",
                where="Upsample",
            )
        if self.align_corners is not None and self.mode in ("nearest", "nearest-exact", "area"):
            raise ShapeError(
                f"align_corners means nothing in mode={self.mode!r}.", "Leave align_corners out.", where="Upsample"
            )

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        if rank not in MODES[self.mode]:
            raise self.refuse(
                shape,
                f"PyTorch has mode={self.mode!r} for {MODES[self.mode][0]} spatial axes, and the shape has {rank}.",
                "Give mode='linear', which there is for any number of axes.",
            )
        return (shape[0], *by_axis(self, shape, _resized, along(self, ("size", "scale_factor"), rank)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        factors = [factor for _, factor in along(self, ("size", "scale_factor"), len(shape) - 1)]
        if all(factor is not None and factor >= 1 and factor == int(factor) for factor in factors):
            return AvgPool(collapsed(int(factor) for factor in factors))
        return Upsample(tuple(shape[1:]), mode=self.mode, align_corners=self.align_corners)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        mode = self.mode if self.mode != "linear" else ("linear", "bilinear", "trilinear")[len(shape) - 2]
        return modules.Upsample(self.size, self.scale_factor, mode, self.align_corners)

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        if self.mode == "area":
            why = "PyTorch writes adaptive pooling, which mode='area' is, into ONNX with wrong numbers, or not at all"
            return (Limit("onnx", f"{self!r}: {why}. Give it mode='linear', or write a .pt2."),)
        return ()

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        after = self.output_shape(shape)[1:]
        factors = [factor for _, factor in along(self, ("size", "scale_factor"), len(shape) - 1)]
        axes = zip(shape[1:], after, factors, strict=True)
        return tuple([_resize_window(self.mode, bool(self.align_corners), *axis) for axis in axes])


@dataclass(frozen=True, repr=False)
class PixelShuffle(Block):
    """Channels spread out over space: `torch.nn.PixelShuffle`, in one to three dimensions.

    >>> PixelShuffle(2).output_shape((32, 7, 7)), PixelShuffle(2).output_shape((32, 7))
    ((8, 14, 14), (16, 14))

    Args:
        upscale_factor: the factor by which sizes grow; its power of the rank divides the channels.

    Mirror: `PixelUnshuffle` by the same factor.

    Source: Shi et al., arXiv:1609.05158.

    Raises:
        ShapeError: for channels that cannot be spread evenly.
    """

    upscale_factor: int

    adjoint = True

    def __post_init__(self) -> None:
        settle(self, upscale_factor=1)

    def output_shape(self, shape: Shape) -> Shape:
        cells = self.upscale_factor ** spatial_rank(self, shape)
        if differ(shape[0] % cells, 0):
            raise self.refuse(
                shape,
                f"{shape[0]} channels cannot be spread over {cells} cells each.",
                f"Put Conv({-(-shape[0] // cells) * cells}, 1) in front of it.",
            )
        return (shape[0] // cells, *[size * self.upscale_factor for size in shape[1:]])

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return PixelUnshuffle(self.upscale_factor)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        if len(shape) == 3:
            return torch.nn.PixelShuffle(self.upscale_factor)
        return modules.shuffle(self.upscale_factor, len(shape) - 1, "shuffle")

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return (floored(Fraction(1, self.upscale_factor), Fraction(0)),) * (len(shape) - 1)


@dataclass(frozen=True, repr=False)
class PixelUnshuffle(Block):
    """Space packed into channels: `torch.nn.PixelUnshuffle`, in one to three dimensions.

    >>> PixelUnshuffle(2).output_shape((8, 14, 14))
    (32, 7, 7)

    Args:
        downscale_factor: the factor by which sizes shrink, which divides them.

    Mirror: `PixelShuffle` by the same factor.

    Raises:
        ShapeError: for sizes that the factor does not divide.
    """

    downscale_factor: int

    adjoint = True

    def __post_init__(self) -> None:
        settle(self, downscale_factor=1)

    def output_shape(self, shape: Shape) -> Shape:
        factor, rank = self.downscale_factor, spatial_rank(self, shape)
        missing = [-size % factor for size in shape[1:]]
        left = [axis for axis, cells in enumerate(missing) if differ(cells, 0)]
        if left:
            raise self.refuse(
                shape,
                f"{factor} does not divide the cells {at_axes(shape, left)}.",
                f"Put {Pad(*[(0, cells) for cells in missing])!r} in front of it.",
            )
        return (shape[0] * factor**rank, *[size // factor for size in shape[1:]])

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return PixelShuffle(self.downscale_factor)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        if len(shape) == 3:
            return torch.nn.PixelUnshuffle(self.downscale_factor)
        return modules.shuffle(self.downscale_factor, len(shape) - 1, "unshuffle")

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        factor = self.downscale_factor
        return (Window(factor, factor, Fraction(factor - 1, 2)),) * (len(shape) - 1)


def _resize_window(mode: str, align_corners: bool, size: int, after: int, factor: float | None) -> Window:
    """What PyTorch's interpolation sees; a cell that lies upon another sees that one alone."""
    if mode == "area":
        return spread_window(size, after)
    scale = Fraction(size, after) if factor is None else 1 / Fraction(factor)
    if mode.startswith("nearest"):
        return floored(scale, scale / 2 if mode == "nearest-exact" else Fraction(0))
    if align_corners:
        scale = Fraction(size - 1, max(after - 1, 1))
    first = Fraction(0) if align_corners else (scale - 1) / 2
    short = Fraction(1, first.denominator if first.denominator > scale.denominator else scale.denominator)
    cells = 2 if mode == "bicubic" else 1  # on either side, those that are just as far away excepted
    return Window(2 * (cells - short) + 1, scale, first)


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _resized(before: Any, size: Any, factor: Any) -> Any:
    if size is not None:
        return size
    exact = Fraction(factor)
    small = exact.denominator <= 1024  # then integers give what floats give, and symbols can be used
    after = before * exact.numerator // exact.denominator if small else int(before * factor)
    if (after < 1) is True:
        raise ShapeError(f"{before} cells times {factor} is less than one.")
    return after
