"""The modules of the upsampling styles: resize, then convolve; or convolve, then spread channels out over space."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse.arithmetic import extent_of, same_padding, strided_same_padding
from obverse.blocks.conv import cells_behind, subpixel_kernel
from obverse.modules import _backwards as backwards

__all__ = ["RESIZED", "SUBPIXEL"]

Axis = tuple[int, int, Any, int, int]
"""Kernel, stride, padding, output_padding and dilation of the transposed convolution whose sizes are restored."""


def _size(cells: Any, axis: Axis) -> Any:
    """The planned size along an axis."""
    k, s, p, a, d = axis
    return (cells - 1) * s + a + (1 if p == "same" else extent_of(k, d) - 2 * p)


def _before(size: Any, axis: Axis) -> Any:
    """The cells taken away in front."""
    k, s, p, _, d = axis
    return strided_same_padding(size, k, s, d)[0] if p == "same" else p


class _Styled(nn.Module):
    """What both styles share: the axes of the transposed convolution that they stand for."""

    axes: tuple[Axis, ...]

    def sizes(self, x: Tensor, size: Sequence[int] | None) -> Sequence[Any]:
        """The sizes to give out: those told, or the planned ones."""
        if size is not None:
            return size
        return [_size(cells, axis) for cells, axis in zip(x.shape[2:], self.axes, strict=True)]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, upsampling={tuple(s for _, s, *_ in self.axes)}"


class _Resized(_Styled):
    """Every cell takes the value of the window whose middle is nearest, then a convolution keeps the size."""

    def __init__(
        self, in_channels: int, out_channels: int, axes: Sequence[Axis], groups: int, bias: bool, **made: Any
    ) -> None:
        self.axes = tuple(axes)
        kernel, dilation = tuple(k for k, *_ in axes), tuple(d for *_, d in axes)
        pads = [_keeping(axis) for axis in axes]
        even = all(before == after >= 0 for before, after in pads)
        self._pads = None if even else backwards(pads)
        padding = tuple(before for before, _ in pads) if even else 0
        super().__init__(in_channels, out_channels, kernel, 1, padding, dilation, groups, bias, **made)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The convolution of what was resized; with `size`, to that size."""
        for dim, (told, axis) in enumerate(zip(self.sizes(x, size), self.axes, strict=True), start=2):
            if axis[1] > 1:
                x = x.index_select(dim, _nearest(told, x.shape[dim], axis, x.device))
        return super().forward(x if self._pads is None else F.pad(x, self._pads))  # type: ignore[no-any-return]


def _keeping(axis: Axis) -> tuple[int, int]:
    """What to pad so that the size stays, or along an axis of stride 1 becomes that of the transposed convolution."""
    k, s, p, a, d = axis
    before, after = same_padding(k, d)
    if s > 1:
        return before, after
    return (after, before) if p == "same" else (before + after - p, before + after - p + a)


def _nearest(size: Any, cells: Any, axis: Axis, device: torch.device) -> Tensor:
    """For every cell the window whose middle is nearest, the first of two that are as near.

    In integers, and from the windows alone: `torch.nn.functional.interpolate` rounds, and stretches a map that has a
    remainder, so that cells drift away from the windows that saw them.
    """
    k, s, _, _, d = axis
    # window i lies around i s - p + (e - 1) / 2
    offset = 2 * _before(size, axis) - extent_of(k, d) + s
    place = torch.div(2 * torch.arange(size, device=device) + offset, 2 * s, rounding_mode="floor")
    return torch.clamp(torch.clamp(place, min=0), max=cells - 1)


class _Subpixel(_Styled):
    """A full convolution to `stride` times the channels an axis, spread out over space, then cropped."""

    def __init__(
        self, in_channels: int, out_channels: int, axes: Sequence[Axis], groups: int, bias: bool, **made: Any
    ) -> None:
        self.axes = tuple(axes)
        self.factors = tuple(s for _, s, *_ in axes)
        self._behind = [cells_behind(*axis) for axis in axes]
        # told a size, it may have to restore any remainder
        self._behind_most = [cells_behind(k, s, p, max(a, s - 1), d) for k, s, p, a, d in axes]
        kernel, dilation = zip(*[subpixel_kernel(k, s, d) for k, s, _, _, d in axes], strict=True)
        reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        channels = out_channels * prod(self.factors)
        super().__init__(in_channels, channels, kernel, 1, reach, dilation, groups, bias, **made)

    def reset_parameters(self) -> None:
        """Make the weights anew: the channels that are spread over a cell start equal.

        ICNR: Aitken et al., arXiv:1707.02937.
        """
        super().reset_parameters()  # type: ignore[misc]    # of the convolution that it is mixed into
        cells = prod(self.factors)
        with torch.no_grad():
            for parameter in self.parameters(recurse=False):
                parameter.copy_(parameter[::cells].repeat_interleave(cells, dim=0))

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The channels spread out; with `size`, to that size."""
        sizes = self.sizes(x, size)
        behind = self._behind if size is None else self._behind_most
        if any(behind):
            x = F.pad(x, backwards([(0, cells) for cells in behind]))
        full = self._spread(super().forward(x))
        amounts = []
        for there, told, axis in zip(full.shape[2:], sizes, self.axes, strict=True):
            before = _before(told, axis)
            amounts.append((-before, before + told - there))
        return F.pad(full, backwards(amounts))

    def _spread(self, x: Tensor) -> Tensor:
        factors, rank = self.factors, len(self.factors)
        if rank == 2 and factors[0] == factors[1]:
            return F.pixel_shuffle(x, factors[0])
        batch, channels, *coarse = x.shape
        parted = x.reshape(batch, channels // prod(factors), *factors, *coarse)
        order = [axis for pair in zip(range(2 + rank, 2 + 2 * rank), range(2, 2 + rank), strict=True) for axis in pair]
        fine = [cells * factor for cells, factor in zip(coarse, factors, strict=True)]
        return parted.permute(0, 1, *order).reshape(batch, channels // prod(factors), *fine)


class ResizeConv1d(_Resized, nn.Conv1d):
    """Resized, then convolved, in one dimension."""


class ResizeConv2d(_Resized, nn.Conv2d):
    """Resized, then convolved, in two dimensions."""


class ResizeConv3d(_Resized, nn.Conv3d):
    """Resized, then convolved, in three dimensions."""


class SubpixelConv1d(_Subpixel, nn.Conv1d):
    """Convolved, then spread out, in one dimension."""


class SubpixelConv2d(_Subpixel, nn.Conv2d):
    """Convolved, then spread out, in two dimensions."""


class SubpixelConv3d(_Subpixel, nn.Conv3d):
    """Convolved, then spread out, in three dimensions."""


RESIZED: dict[int, Any] = {1: ResizeConv1d, 2: ResizeConv2d, 3: ResizeConv3d}
SUBPIXEL: dict[int, Any] = {1: SubpixelConv1d, 2: SubpixelConv2d, 3: SubpixelConv3d}
