"""Convolutions and transposed convolutions, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from obverse.arithmetic import (
    check_border,
    conv_output_size,
    conv_transpose_output_size,
    differ,
    extent_of,
    overlap_by_turns,
    remainder,
    same_padding,
    strided_same_padding,
    whole,
)
from obverse.block import Block, Limit
from obverse.blocks.reshaping import Crop
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import along, by_axis, collapsed, settle, spatial_rank
from obverse.shapes import Shape, at_axes
from obverse.sight import Seen, Sight, Window, composed, floored, halved, transposed_window

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules, upsampling
else:
    torch = Later("torch")
    modules = Later("obverse.modules")
    upsampling = Later("obverse.upsampling")

__all__ = ["Conv", "ConvTranspose", "ResizeConv", "SubpixelConv"]

Size = int | tuple[int, ...]
Style = Literal["transpose", "resize", "subpixel"]
"""How the mirror of a strided convolution makes sizes larger."""


@dataclass(frozen=True, repr=False)
class Conv(Block):
    """A convolution: `torch.nn.Conv1d`, `Conv2d` or `Conv3d`, as the shape says.

    >>> Conv(16, 3, stride=2, padding=1).output_shape((1, 28, 28))
    (16, 14, 14)
    >>> Conv(16, 3, stride=2, padding=1).mirror((1, 28, 27))    # an even size leaves a remainder, an odd one none
    ConvTranspose(1, 3, stride=2, padding=1, output_padding=(1, 0))
    >>> Conv(4, 4, padding="same").mirror((2, 24, 24))    # an even kernel is padded unevenly, so its mirror crops
    Chain(ConvTranspose(2, 4), Crop((1, 2)))

    Shapes: `C×L`, `C×H×W` or `C×D×H×W` to `out_channels×…`. Sizes, strides, paddings and dilations are one number for
    all axes, or one an axis.

    Args:
        out_channels: channels that come out.
        kernel_size: cells of the kernel.
        stride: cells between two windows.
        padding: cells on either side; `"valid"` is 0. `"same"` keeps the size at stride 1, as PyTorch has it, and gives
            `⌈n / stride⌉` at larger strides, padded as TensorFlow does, by an amount that depends on the size.
        dilation: distance between the kernel's cells.
        groups: how many groups of channels are kept apart; divides the channels in and out.
        bias: whether to add a number a channel.
        padding_mode: what the padding holds. The mirror is that of the convolution padded with zeros, since what was
            reflected or repeated has no place of its own to go back to.
        upsampling: how the mirror of a strided convolution makes sizes larger: `"transpose"`, `"resize"`
            (`ResizeConv`) or `"subpixel"` (`SubpixelConv`). `None` leaves it to `mirror(..., upsampling=...)`, and to
            the model, where one style is said for all.

    >>> Conv(16, 3, stride=2, padding=1, upsampling="resize").mirror((1, 28, 28))
    ResizeConv(1, 3, stride=2, padding=1, output_padding=1)

    Mirror: the `ConvTranspose` with the remainder as its `output_padding` (relationship 14 of arXiv:1603.07285).

    Raises:
        ShapeError: where `torch.nn.Conv2d` refuses the shape, and for arguments that no convolution has.
    """

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size | Literal["valid", "same"] = 0
    dilation: Size = 1
    groups: int = 1
    bias: bool = True
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    upsampling: Style | None = None

    def __post_init__(self) -> None:
        settle(self, out_channels=1, kernel_size=1, stride=1, dilation=1, groups=1)
        _check_padding(self, ("valid", "same"))
        _check_choice("Conv", "padding_mode", self.padding_mode, ("zeros", "reflect", "replicate", "circular"))
        if self.upsampling is not None:
            check_style(self.upsampling, "Conv")

    @property
    def is_strided(self) -> bool:
        """Whether it makes sizes smaller along some axis."""
        return any(s > 1 for s in (self.stride if isinstance(self.stride, tuple) else (self.stride,)))

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        """With zeros around it a convolution is linear and its mirror the transpose; reflections are not mirrored."""
        return self.padding_mode == "zeros" and (self.upsampling in (None, "transpose") or not self.is_strided)

    def _axes(self, rank: int) -> tuple[tuple[Any, ...], ...]:
        return along(self, ("kernel_size", "stride", "padding", "dilation"), rank)

    def _size_after(self, size: Any, kernel_size: int, stride: int, padding: Any, dilation: int) -> Any:
        if padding == "same":
            pads = strided_same_padding(whole("input_size", size, 1), kernel_size, stride, dilation)
            after = (size + stride - 1) // stride
        else:
            padding = 0 if padding == "valid" else padding
            pads = (padding, padding)
            after = conv_output_size(size, kernel_size, stride, padding, dilation)
        check_border(self.padding_mode, size, *pads)
        return after

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        if self.groups != 1:
            check_groups(self, shape)
        plain = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        size_after = conv_output_size if plain else self._size_after
        return (self.out_channels, *by_axis(self, shape, size_after, self._axes(rank)))

    def remainders(self, shape: Shape) -> tuple[Any, ...]:
        axes = self._axes(len(shape) - 1)
        if self.padding == "same":
            return tuple([remainder(n, 1, s) for n, (_, s, _, _) in zip(shape[1:], axes, strict=True)])
        unpadded = isinstance(self.padding, str)
        return tuple(
            [remainder(n, k, s, 0 if unpadded else p, d) for n, (k, s, p, d) in zip(shape[1:], axes, strict=True)]
        )

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        axes = self._axes(len(shape) - 1)
        if self.padding == "same":
            return self._mirror_same(shape, axes)
        return self._transposed(shape, 0 if isinstance(self.padding, str) else self.padding, self._told(shape))

    def _told(self, shape: Shape) -> Any:
        return collapsed(self.remainders(shape))

    def _mirror_same(self, shape: Shape, axes: tuple[tuple[Any, ...], ...]) -> Block:
        if any(s > 1 for _, s, _, _ in axes):  # what was padded depends on the size, and the mirror works it out
            return self._transposed(shape, "same", self._told(shape))
        pads = [same_padding(k, d) for k, _, _, d in axes]
        if all(before == after for before, after in pads):
            return self._transposed(shape, collapsed(before for before, _ in pads))
        return Chain(self._transposed(shape, 0), Crop(collapsed(pads)))

    def _transposed(self, shape: Shape, padding: Any, output_padding: Any = 0) -> _Transposed:
        style = self.upsampling or "transpose"
        return STYLES[style if self.is_strided else "transpose"](
            shape[0], self.kernel_size, self.stride, padding, output_padding, self.groups, self.bias, self.dilation
        )

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        rank = len(shape) - 1
        uneven = self.padding == "same" and any(s > 1 or d * (k - 1) % 2 for k, s, _, d in self._axes(rank))
        layers = modules.SAME if uneven else modules.CONVOLUTIONS
        layer: nn.Module = layers[rank](
            shape[0],
            self.out_channels,
            self.kernel_size,
            self.stride,
            0 if uneven else self.padding,
            self.dilation,
            self.groups,
            self.bias,
            self.padding_mode,
            device=device,
            dtype=dtype,
        )
        return layer

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_channels, shape[0] // self.groups, *[axis[0] for axis in self._axes(len(shape) - 1)])
        return {"weight": weight, "bias": (self.out_channels,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        # every cell that comes out is a dot product of a kernel with the channels of its group
        kernel: int = prod([axis[0] for axis in self._axes(len(shape) - 1)])
        return prod(self.output_shape(shape)) * kernel * shape[0] // self.groups

    def windows(self, shape: Shape) -> Sight:
        axes = self._axes(len(shape) - 1)
        if self.padding_mode == "circular" and self.padding not in (0, "valid"):
            return None  # a cell at one end sees those at the other
        if isinstance(self.padding, str):
            sized = zip(shape[1:], axes, strict=True)
            axes = tuple([(k, s, self._before(n, k, s, p, d), d) for n, (k, s, p, d) in sized])
        return tuple([Window(d * (k - 1) + 1, s, halved(d * (k - 1)) - p) for k, s, p, d in axes])

    def _before(self, size: Any, kernel_size: int, stride: int, padding: Any, dilation: int) -> Any:
        if padding == "same":
            return strided_same_padding(size, kernel_size, stride, dilation)[0]
        return 0 if padding == "valid" else padding


@dataclass(frozen=True, repr=False)
class _Transposed(Block):
    """What the mirrors of a convolution share, in whichever style: arguments, sizes, and their own mirror."""

    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size | Literal["same"] = 0
    output_padding: Size = 0
    groups: int = 1
    bias: bool = True
    dilation: Size = 1

    style: ClassVar[Style | None] = None

    def __post_init__(self) -> None:
        settle(self, out_channels=1, kernel_size=1, stride=1, output_padding=0, dilation=1, groups=1)
        _check_padding(self, ("same",))

    def _axes(self, rank: int) -> tuple[tuple[Any, ...], ...]:
        return along(self, ("kernel_size", "stride", "padding", "output_padding", "dilation"), rank)

    def _sizes(self, shape: Shape) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """For every axis the size that goes in, and the settings, with the cells taken away in front as padding."""
        for size, (k, s, p, a, d) in zip(shape[1:], self._axes(len(shape) - 1), strict=True):
            yield size, (k, s, strided_same_padding((size - 1) * s + 1 + a, k, s, d)[0] if p == "same" else p, a, d)

    def output_shape(self, shape: Shape) -> Shape:
        rank = spatial_rank(self, shape)
        if self.groups != 1:
            check_groups(self, shape)
        return (self.out_channels, *by_axis(self, shape, _size_after_transposed, self._axes(rank)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.bias)
        conv = Conv(shape[0], *settings, upsampling=self.style)
        beyond = [(0, q // s) for _, s, _, q, _ in self._axes(len(shape) - 1)]
        if not any(after for _, after in beyond):
            return conv
        return Chain(conv, Crop(*beyond))


@dataclass(frozen=True, repr=False)
class ConvTranspose(_Transposed):
    """A transposed convolution: `torch.nn.ConvTranspose1d`, `ConvTranspose2d` or `ConvTranspose3d`.

    >>> ConvTranspose(16, 3, stride=2, padding=1).output_shape((32, 7, 7))
    (16, 13, 13)
    >>> ConvTranspose(16, 3, stride=2, padding=1, output_padding=1).output_shape((32, 7, 7))
    (16, 14, 14)

    Shapes: `C×…` to `out_channels×…`, in one to three dimensions.

    Args:
        out_channels: channels that come out.
        kernel_size: cells of the kernel.
        stride: cells that the kernel moves for every cell that goes in.
        padding: cells taken away on either side. `"same"` turns round a `Conv` of the same padding: it gives
            `(n - 1) * stride + 1 + output_padding` cells, and takes away what that convolution had added.
        output_padding: cells added behind, below the larger of stride and dilation: the remainder of the convolution
            that is turned round.
        groups: how many groups of channels are kept apart; divides the channels in and out.
        bias: whether to add a number a channel.
        dilation: distance between the kernel's cells.

    The built module takes `forward(x, size=None)`: with a size it restores any that its convolution maps to `x`'s.

    Mirror: the `Conv` of the same settings. Where a dilation allows an `output_padding` that is not below the stride,
    that convolution gives cells that nobody put in, and a `Crop` drops them.

    A plan says where its windows overlap unevenly, as `obverse.arithmetic.overlaps` counts them. `ResizeConv` and
    `SubpixelConv` restore the same shapes without that.

    Raises:
        ShapeError: where `torch.nn.ConvTranspose2d` refuses the shape, and for arguments that it has not.
    """

    adjoint = True

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        same = self.padding == "same"
        layers = modules.TRANSPOSED_SAME if same else modules.TRANSPOSED
        layer: nn.Module = layers[len(shape) - 1](
            shape[0],
            self.out_channels,
            self.kernel_size,
            self.stride,
            0 if same else self.padding,
            self.output_padding,
            self.groups,
            self.bias,
            self.dilation,
            device=device,
            dtype=dtype,
        )
        return layer

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        kernel = [k for k, *_ in self._axes(len(shape) - 1)]
        return _learned((shape[0], self.out_channels // self.groups, *kernel), self.out_channels, self.bias)

    def multiply_adds(self, shape: Shape) -> int:
        # every cell that goes in is multiplied with a kernel for each channel of its group
        kernel: int = prod(k for k, *_ in self._axes(len(shape) - 1))
        return prod(shape) * kernel * self.out_channels // self.groups

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(transposed_window(extent_of(k, d) - 1, s, p) for _, (k, s, p, _, d) in self._sizes(shape))

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        if all(a < s for _, s, _, a, _ in self._axes(len(shape) - 1)):
            return ()
        why = "onnxruntime refuses an output_padding that is not below the stride"
        return (Limit("onnx", f"{self!r}: {why}. Give it a smaller one, and Pad behind it, or write a .pt2."),)

    def notes(self, shape: Shape) -> tuple[str, ...]:
        said: dict[tuple[str, str], list[int]] = {}
        for axis, (k, s, _, _, d) in enumerate(self._axes(len(shape) - 1)):
            counts = sorted(set(overlap_by_turns(k, s, d)))
            if len(counts) > 1:
                why = f"stride={s} does not divide kernel_size={k}" if k % s else f"dilation={d} skips cells"
                said.setdefault((" and ".join(map(str, counts)), why), []).append(axis)
        return tuple(
            f"{counts} windows overlap by turns {at_axes(shape, axes)}, since {why}. "
            'upsampling="resize" has no such checkerboard.'
            for (counts, why), axes in said.items()
        )


@dataclass(frozen=True, repr=False)
class ResizeConv(_Transposed):
    """A transposed convolution's shapes without its checkerboard: cells are repeated, then convolved with stride 1.

    >>> ResizeConv(16, 3, stride=2, padding=1, output_padding=1).output_shape((32, 7, 7))
    (16, 14, 14)
    >>> Conv(16, 3, stride=2, padding=1, upsampling="resize").mirror((1, 28, 27))
    ResizeConv(1, 3, stride=2, padding=1, output_padding=(1, 0))

    Every cell takes the value of the window whose middle is nearest, at exactly the size to restore; then a
    convolution of the same kernel and dilation keeps that size. So each cell is reached by as many as its neighbour. An
    axis of stride 1 is not resized, and convolved as `ConvTranspose` does.

    Shapes: `C×…` to `out_channels×…`, in one to three dimensions.

    Args:
        out_channels: channels that come out.
        kernel_size: cells of the kernel.
        stride: cells for every cell that goes in.
        padding: like the arguments that follow, those of the `ConvTranspose` whose sizes are restored.
        output_padding: cells added behind.
        groups: how many groups of channels are kept apart; divides the channels in and out.
        bias: whether to add a number a channel.
        dilation: distance between the kernel's cells.

    The built module takes `forward(x, size=None)`.

    Mirror: the `Conv` of the same settings.

    Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.

    Raises:
        ShapeError: where `ConvTranspose` does.
    """

    style = "resize"

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return _styled(upsampling.RESIZED, self, shape, device, dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        kernel = [k for k, *_ in self._axes(len(shape) - 1)]
        return _learned((self.out_channels, shape[0] // self.groups, *kernel), self.out_channels, self.bias)

    def multiply_adds(self, shape: Shape) -> int:
        return prod(self.output_shape(shape)[1:]) * prod(self.parameter_shapes(shape)["weight"])

    def reaches(self, rank: int) -> list[tuple[int, int]]:
        """For every axis how far the convolution of what was resized reaches, in front and behind."""
        reaches = [(extent_of(k, d) - 1) if s > 1 else 0 for k, s, _, _, d in self._axes(rank)]
        return [(reach // 2, reach - reach // 2) for reach in reaches]

    def windows(self, shape: Shape) -> Sight:
        return tuple(_window_resized(*axis) for _, axis in self._sizes(shape))


@dataclass(frozen=True, repr=False)
class SubpixelConv(_Transposed):
    """A transposed convolution's shapes, by a convolution to more channels that are then spread out over space.

    >>> SubpixelConv(16, 3, stride=2, padding=1, output_padding=1).output_shape((32, 7, 7))
    (16, 14, 14)
    >>> SubpixelConv(16, 3, stride=2, padding=1).parameter_shapes((32, 7, 7))    # 2 of 3 cells, to 16 * 2 * 2 channels
    {'weight': (64, 32, 2, 2), 'bias': (64,)}

    A full convolution of stride 1 and kernel `⌈extent / stride⌉`, a pixel shuffle, and a crop. It can learn whatever
    `ConvTranspose` can, and where the stride does not divide the kernel more. It starts as a resize: the channels that
    are spread over a cell start equal (ICNR), so that there is no checkerboard to unlearn. An axis of stride 1 is
    convolved as `ConvTranspose` does.

    Shapes: `C×…` to `out_channels×…`, in one to three dimensions.

    Args:
        out_channels: channels that come out.
        kernel_size: cells of the kernel.
        stride: cells for every cell that goes in.
        padding: like the arguments that follow, those of the `ConvTranspose` whose sizes are restored.
        output_padding: cells added behind.
        groups: how many groups of channels are kept apart; divides the channels in and out.
        bias: whether to add a number a channel.
        dilation: distance between the kernel's cells.

    The built module takes `forward(x, size=None)`.

    Mirror: the `Conv` of the same settings.

    Source: Shi et al., arXiv:1609.05158; Aitken et al., arXiv:1707.02937.

    Raises:
        ShapeError: where `ConvTranspose` does.
    """

    style = "subpixel"

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return _styled(upsampling.SUBPIXEL, self, shape, device, dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        axes = self._axes(len(shape) - 1)
        channels = self.out_channels * prod(s for _, s, *_ in axes)
        kernel = [subpixel_kernel(k, s, d)[0] for k, s, _, _, d in axes]
        return _learned((channels, shape[0] // self.groups, *kernel), channels, self.bias)

    def multiply_adds(self, shape: Shape) -> int:
        channels, per_channel, *kernel = self.parameter_shapes(shape)["weight"]
        cells: int = prod(
            n + (subpixel_extent(k, s, d) - s) // s + cells_behind(k, s, p, a, d)
            for n, (k, s, p, a, d) in zip(shape[1:], self._axes(len(shape) - 1), strict=True)
        )
        return channels * per_channel * prod(kernel) * cells

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(transposed_window(subpixel_extent(k, s, d) - 1, s, p) for _, (k, s, p, _, d) in self._sizes(shape))


STYLES: dict[str, type[_Transposed]] = {"transpose": ConvTranspose, "resize": ResizeConv, "subpixel": SubpixelConv}
"""The mirror of a strided convolution, by its style."""


def check_style(style: Any, where: str) -> None:
    """Refuse what is no style of upsampling.

    Raises:
        ShapeError: with the styles there are.
    """
    if not isinstance(style, str) or style not in STYLES:
        listed = ", ".join(map(repr, STYLES))
        raise ShapeError(f"upsampling={style!r} is none of {listed}.", "Give upsampling='resize'.", where=where)


def _styled(
    layers: dict[int, Any], block: _Transposed, shape: Shape, device: Any, dtype: torch.dtype | None
) -> nn.Module:
    rank = len(shape) - 1
    layer: nn.Module = layers[rank](
        shape[0], block.out_channels, block._axes(rank), block.groups, block.bias, device=device, dtype=dtype
    )
    return layer


def _learned(weight: Shape, channels: int, bias: bool) -> dict[str, Shape]:
    return {"weight": weight, "bias": (channels,)} if bias else {"weight": weight}


def subpixel_kernel(kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Kernel and dilation of the convolution in front of the shuffle.

    >>> subpixel_kernel(3, 2, 1), subpixel_kernel(3, 1, 2)    # an axis of stride 1 keeps its own
    ((2, 1), (3, 2))
    """
    return (kernel_size, dilation) if stride == 1 else (-(-extent_of(kernel_size, dilation) // stride), 1)


def subpixel_extent(kernel_size: int, stride: int, dilation: int) -> int:
    """The cells that a single cell becomes: the extent, rounded up to a multiple of the stride."""
    windows: int = -(-extent_of(kernel_size, dilation) // stride)
    return windows * stride


def cells_behind(kernel_size: int, stride: int, padding: Any, output_padding: int, dilation: int) -> int:
    """The cells of zeros to put in behind, so that all that no window reached comes out as the bias.

    >>> cells_behind(3, 2, 1, 1, 1), cells_behind(2, 2, 0, 1, 1)    # 27 from 13 pairs: the last is nobody's
    (0, 1)
    """
    if padding == "same":  # what it takes away in front makes room for any remainder
        return 0
    short: int = (
        output_padding + extent_of(kernel_size, dilation) - padding - subpixel_extent(kernel_size, stride, dilation)
    )
    return max(-(-short // stride), 0)


def _window_resized(kernel_size: int, stride: int, padding: int, _: int, dilation: int) -> Window | Seen:
    reach = extent_of(kernel_size, dilation) - 1
    if stride == 1:
        return transposed_window(reach, stride, padding)
    # cell j takes ⌊(2 j + 2 p - reach - 1 + s) / 2 s⌋, and its window runs from j - ⌊reach / 2⌋ to j + ⌈reach / 2⌉
    nearest = floored(Fraction(1, stride), Fraction(2 * padding - reach - 1 + stride, 2 * stride))
    return composed((nearest,), (Window(reach + 1, 1, Fraction(reach % 2, 2)),))[0]  # type: ignore[index]


def _size_after_transposed(
    size: Any, kernel_size: int, stride: int, padding: Any, output_padding: Any, dilation: int
) -> Any:
    if padding == "same":  # that of a kernel of one cell: what the kernel spans beyond is what "same" takes away
        kernel_size, padding, dilation = 1, 0, 1
    return conv_transpose_output_size(size, kernel_size, stride, padding, output_padding, dilation)


MOST_TRIED = 5_000
"""Numbers of groups that are tried in search of one that divides: an answer need not take longer than a moment."""


def check_groups(block: Any, shape: Shape) -> None:
    """Refuse groups that do not divide the channels in and out.

    Raises:
        ShapeError: with the largest number of groups that does.
    """
    groups, inside, outside = block.groups, shape[0], block.out_channels
    undivided = [f"the {n} channels {way}" for n, way in ((inside, "in"), (outside, "out")) if differ(n % groups, 0)]
    if undivided:
        common = gcd(inside, outside)
        most = min(groups, common)
        fits = next((g for g in range(most, max(most - MOST_TRIED, 0), -1) if common % g == 0), 1)
        raise block.refuse(
            shape, f"groups={groups} does not divide {' and '.join(undivided)}.", f"Give it groups={fits}."
        )


def _check_padding(block: Any, choices: tuple[str, ...]) -> None:
    if isinstance(block.padding, str):
        _check_choice(type(block).__name__, "padding", block.padding, choices)
    else:
        settle(block, padding=0)


def _check_choice(block: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ShapeError(f"{name}={value!r} is none of {listed}.", f"Give {name}={choices[-1]!r}.", where=block)
