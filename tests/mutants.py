"""Small mistakes in the arithmetic of shapes and in the blocks: what the kit must catch, every time.

A mutant is a name in a module or class and what to put there in its place. The modules that PyTorch runs are left as
they are: what they do is the truth that the mistake is held against.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from obverse import (
    AdaptiveAvgPool,
    AvgPool,
    BatchNorm,
    Block,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    GroupNorm,
    Identity,
    LayerNorm,
    Linear,
    LPPool,
    MaxPool,
    MaxUnpool,
    NearestUnpool,
    Pad,
    Parallel,
    PixelShuffle,
    PixelUnshuffle,
    ReLU,
    Residual,
    ResizeConv,
    Skip,
    SubpixelConv,
    Unflatten,
    Upsample,
    arithmetic,
)
from obverse.blocks import conv, pooling, reshaping

Mistake = Callable[..., Any]


class Mutant(NamedTuple):
    """A mistake, and the block by which the kit shall find it."""

    name: str
    owner: Any
    attribute: str
    mistake: Callable[[Any], Any]
    block: type[Block]


def mutant(name: str, owner: Any, attribute: str, block: type[Block], mistake: Callable[[Any], Any]) -> Mutant:
    return Mutant(name, owner, attribute, mistake, block)


def on_sizes(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """A mistake in the number that a function gives: `change(number, *arguments)`."""
    return lambda right: lambda *given, **named: change(right(*given, **named), *given, **named)


def on_shapes(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """A mistake in what a method gives: `change(answer, block, shape)`."""
    return lambda right: lambda self, shape: change(right(self, shape), self, shape)


def plus_one(size: Any, *given: Any, **named: Any) -> Any:
    return size + 1


def at_least_one(size: Any) -> Any:
    return max(size, 1)


def without(*places: int, put: int) -> Callable[[Any], Any]:
    """A function that forgets some of its arguments, by their places."""

    def forgetful(right: Any) -> Any:
        return lambda *given: right(*[put if place in places else value for place, value in enumerate(given)])

    return forgetful


def exchanged(one: int, other: int) -> Callable[[Any], Any]:
    """A function that takes one argument for another."""

    def confused(right: Any) -> Any:
        def mistaken(*given: Any) -> Any:
            values = list(given)
            if len(values) > max(one, other):
                values[one], values[other] = values[other], values[one]
            return right(*values)

        return mistaken

    return confused


def ceiled(right: Any) -> Any:
    """A convolution that keeps a last window that is only partly inside."""

    def size(n: Any, k: Any, s: Any = 1, p: Any = 0, d: Any = 1) -> Any:
        right(n, k, s, p, d)
        return -(-(n + 2 * p - d * (k - 1) - 1) // s) + 1

    return size


def swapped(pair: Any, *given: Any, **named: Any) -> Any:
    return pair[::-1]


def swapped_pairs(crop: Crop) -> Crop:
    return Crop(*[pair[::-1] for pair in crop.amounts])


def crops_swapped(mirror: Block, block: Block, shape: Any) -> Block:
    if isinstance(mirror, Chain):
        return Chain(*[swapped_pairs(part) if isinstance(part, Crop) else part for part in mirror.blocks])
    return swapped_pairs(mirror) if isinstance(mirror, Crop) else mirror


def dropping(name: str) -> Callable[[Any], Any]:
    """A method that forgets one of its parameters."""
    return on_shapes(lambda shapes, block, shape: {key: size for key, size in shapes.items() if key != name})


def mirror_with(**settings: Any) -> Callable[[Any], Any]:
    """A mirror that forgets an argument."""

    def changed(mirror: Block, block: Block, shape: Any) -> Block:
        known = getattr(mirror, "__dataclass_fields__", {})
        return replace(mirror, **{name: value for name, value in settings.items() if name in known})  # type: ignore[type-var]

    return on_shapes(changed)


def more_channels(shape: Any, *given: Any) -> Any:
    return (shape[0] + 1, *shape[1:])


def turned_round(shape: Any, *given: Any) -> Any:
    return (shape[0], *reversed(shape[1:]))


def first_axis_only(shape: Any, block: Block, before: Any) -> Any:
    return (*shape[:2], *before[2:])


def twice(number: Any, *given: Any) -> Any:
    return 2 * number


def shifted(windows: Any, block: Block, shape: Any) -> Any:
    return windows and tuple(window._replace(centre=window.centre + 1) for window in windows)


def narrowed(windows: Any, block: Block, shape: Any) -> Any:
    return windows and tuple(window._replace(size=max(window.size - 1, 1)) for window in windows)


def unstrided(windows: Any, block: Block, shape: Any) -> Any:
    return windows and tuple(window._replace(stride=1) for window in windows)


def takes_all(right: Any) -> Any:
    return lambda *given, **named: None


C, T, P = (conv, "conv_output_size"), (conv, "conv_transpose_output_size"), (pooling, "pool_output_size")
MUTANTS = [
    # arithmetic, as convolutions use it
    mutant("conv size: one more", *C, Conv, on_sizes(plus_one)),
    mutant("conv size: one less", *C, Conv, on_sizes(lambda size, *given, **named: at_least_one(size - 1))),
    mutant("conv size: ceil for floor", *C, Conv, ceiled),
    mutant("conv size: dilation forgotten", *C, Conv, without(4, put=1)),
    mutant("conv size: padding forgotten", *C, Conv, without(3, put=0)),
    mutant("conv size: stride forgotten", *C, Conv, without(2, put=1)),
    mutant("conv size: stride and padding exchanged", *C, Conv, exchanged(2, 3)),
    mutant("conv size: padding and dilation exchanged", *C, Conv, exchanged(3, 4)),
    mutant("conv size: kernel and stride exchanged", *C, Conv, exchanged(1, 2)),
    mutant("remainder: forgotten", conv, "remainder", Conv, on_sizes(lambda rest, *given: 0)),
    mutant("remainder: dilation forgotten", conv, "remainder", Conv, without(4, put=1)),
    mutant("remainder: padding forgotten", conv, "remainder", Conv, without(3, put=0)),
    mutant(
        "remainder: counted from the other end",
        conv,
        "remainder",
        Conv,
        on_sizes(lambda rest, n, k, s=1, p=0, d=1: (s - 1 - rest) % s),
    ),
    mutant("same padding: swapped", conv, "same_padding", Conv, on_sizes(swapped)),
    mutant(
        "same padding: a cell short",
        conv,
        "same_padding",
        Conv,
        on_sizes(lambda pads, *given: (pads[0], max(pads[1] - 1, 0))),
    ),
    mutant("same padding: dilation forgotten", conv, "same_padding", Conv, without(1, put=1)),
    mutant("strided same padding: swapped", conv, "strided_same_padding", Conv, on_sizes(swapped)),
    mutant(
        "strided same padding: swapped in the mirror", conv, "strided_same_padding", ConvTranspose, on_sizes(swapped)
    ),
    mutant("border: never refused", conv, "check_border", Conv, takes_all),
    mutant("border of Pad: never refused", reshaping, "check_border", Pad, takes_all),
    mutant("groups: never refused", conv, "check_groups", Conv, takes_all),
    mutant("kernel's extent: dilation forgotten", conv, "extent_of", ConvTranspose, without(1, put=1)),
    mutant("transposed size: one more", *T, ConvTranspose, on_sizes(plus_one)),
    mutant("transposed size: output_padding forgotten", *T, ConvTranspose, without(4, put=0)),
    mutant("transposed size: dilation forgotten", *T, ConvTranspose, without(5, put=1)),
    mutant("transposed size: padding and output_padding exchanged", *T, ConvTranspose, exchanged(3, 4)),
    mutant("transposed size: as ResizeConv uses it", *T, ResizeConv, on_sizes(plus_one)),
    mutant("transposed size: as SubpixelConv uses it", *T, SubpixelConv, without(3, put=0)),
    mutant("pool size: one more", *P, MaxPool, on_sizes(plus_one)),
    mutant("pool size: ceil_mode forgotten", *P, MaxPool, without(5, put=0)),
    mutant("pool size: dilation forgotten", *P, MaxPool, without(4, put=1)),
    mutant("pool size: padding forgotten", *P, MaxPool, without(3, put=0)),
    mutant("pool size: as AvgPool uses it", *P, AvgPool, on_sizes(plus_one)),
    mutant("pool size: as LPPool uses it", *P, LPPool, without(5, put=0)),
    # blocks: shapes
    mutant("Conv: a channel more", Conv, "output_shape", Conv, on_shapes(more_channels)),
    mutant("Conv: only the first axis", Conv, "output_shape", Conv, on_shapes(first_axis_only)),
    mutant("MaxPool: height and width exchanged", MaxPool, "output_shape", MaxPool, on_shapes(turned_round)),
    mutant(
        "AdaptiveAvgPool: height and width exchanged",
        AdaptiveAvgPool,
        "output_shape",
        AdaptiveAvgPool,
        on_shapes(turned_round),
    ),
    mutant(
        "Upsample: one more",
        Upsample,
        "output_shape",
        Upsample,
        on_shapes(lambda after, *given: (*after[:-1], after[-1] + 1)),
    ),
    mutant("PixelShuffle: a channel more", PixelShuffle, "output_shape", PixelShuffle, on_shapes(more_channels)),
    mutant("PixelUnshuffle: a channel more", PixelUnshuffle, "output_shape", PixelUnshuffle, on_shapes(more_channels)),
    mutant(
        "Linear: a channel more",
        Linear,
        "output_shape",
        Linear,
        on_shapes(lambda after, *given: (*after[:-1], after[-1] + 1)),
    ),
    mutant("Pad: height and width exchanged", Pad, "output_shape", Pad, on_shapes(turned_round)),
    mutant("Residual: a channel more", Residual, "output_shape", Residual, on_shapes(more_channels)),
    mutant("Parallel: a channel more", Parallel, "output_shape", Parallel, on_shapes(more_channels)),
    mutant("pool: kernels that span too much", arithmetic, "_check_span", MaxPool, takes_all),
    # blocks: mirrors
    mutant("Conv: the mirror crops on the other side", Conv, "mirror", Conv, on_shapes(crops_swapped)),
    mutant("Conv: the mirror forgets the dilation", Conv, "mirror", Conv, mirror_with(dilation=1)),
    mutant("Conv: the mirror forgets the bias", Conv, "mirror", Conv, mirror_with(bias=False)),
    mutant("Conv: the mirror forgets the groups", Conv, "mirror", Conv, mirror_with(groups=1)),
    mutant(
        "ConvTranspose: the mirror forgets the dilation",
        ConvTranspose,
        "mirror",
        ConvTranspose,
        mirror_with(dilation=1),
    ),
    mutant("Pad: the mirror crops on the other side", Pad, "mirror", Pad, on_shapes(crops_swapped)),
    mutant(
        "Crop: the mirror pads on the other side",
        Crop,
        "mirror",
        Crop,
        on_shapes(lambda pad, block, shape: Pad(*[pair[::-1] for pair in pad.amounts])),
    ),
    mutant(
        "MaxPool: the mirror is a cell short",
        MaxPool,
        "mirror",
        MaxPool,
        on_shapes(lambda back, *given: replace(back, size=(*back.size[:-1], back.size[-1] + 1))),
    ),
    mutant(
        "NearestUnpool: the mirror forgets ceil_mode",
        NearestUnpool,
        "mirror",
        NearestUnpool,
        mirror_with(ceil_mode=False),
    ),
    mutant(
        "MaxUnpool: the mirror forgets its indices", MaxUnpool, "mirror", MaxUnpool, mirror_with(return_indices=False)
    ),
    mutant(
        "Flatten: the mirror exchanges its lengths",
        Flatten,
        "mirror",
        Flatten,
        on_shapes(
            lambda back, *given: (
                Unflatten(back.dim, back.unflattened_size[::-1]) if isinstance(back, Unflatten) else back
            )
        ),
    ),
    mutant("PixelShuffle: no mirror", PixelShuffle, "mirror", PixelShuffle, on_shapes(lambda *given: Identity())),
    mutant("Skip: the mirror adds always", Skip, "mirror", Skip, on_shapes(lambda *given: ReLU())),
    mutant(
        "Residual: the mirror is that of the body",
        Residual,
        "mirror",
        Residual,
        on_shapes(lambda back, block, shape: block.body.mirror(shape)),
    ),
    # blocks: what they say
    mutant("Conv: bias dropped", Conv, "parameter_shapes", Conv, dropping("bias")),
    mutant("BatchNorm: weight dropped", BatchNorm, "parameter_shapes", BatchNorm, dropping("weight")),
    mutant("GroupNorm: bias dropped", GroupNorm, "parameter_shapes", GroupNorm, dropping("bias")),
    mutant("LayerNorm: bias dropped", LayerNorm, "parameter_shapes", LayerNorm, dropping("bias")),
    mutant("Linear: bias dropped", Linear, "parameter_shapes", Linear, dropping("bias")),
    mutant("Conv: every multiplication twice", Conv, "multiply_adds", Conv, on_shapes(twice)),
    mutant(
        "ConvTranspose: every multiplication twice", ConvTranspose, "multiply_adds", ConvTranspose, on_shapes(twice)
    ),
    mutant("Linear: no multiplication", Linear, "multiply_adds", Linear, on_shapes(lambda *given: 0)),
    mutant("MaxPool: nothing goes round the code", MaxPool, "numbers_around", MaxPool, on_shapes(lambda *given: 0)),
    mutant("Conv: windows a cell aside", Conv, "windows", Conv, on_shapes(shifted)),
    mutant("Conv: windows a cell short", Conv, "windows", Conv, on_shapes(narrowed)),
    mutant("Conv: windows without their stride", Conv, "windows", Conv, on_shapes(unstrided)),
    mutant("MaxPool: windows a cell aside", MaxPool, "windows", MaxPool, on_shapes(shifted)),
    mutant("Pad: windows a cell aside", Pad, "windows", Pad, on_shapes(shifted)),
    mutant(
        "Conv: repr forgets an argument",
        Conv,
        "__repr__",
        Conv,
        lambda right: lambda self: f"Conv({self.out_channels}, {self.kernel_size!r})",
    ),
    mutant("Conv: reflections are called linear", Conv, "adjoint", Conv, lambda right: True),
    mutant("AvgPool: called linear with its mirror", AvgPool, "adjoint", AvgPool, lambda right: True),
]

CAUGHT_BY = {
    name: check
    for check, names in {
        "mirror": (
            "remainder: forgotten",
            "remainder: dilation forgotten",
            "remainder: padding forgotten",
            "remainder: counted from the other end",
            "same padding: a cell short",
            "same padding: dilation forgotten",
            "Conv: the mirror crops on the other side",
            "Conv: the mirror forgets the dilation",
            "ConvTranspose: the mirror forgets the dilation",
            "Pad: the mirror crops on the other side",
            "Crop: the mirror pads on the other side",
            "MaxPool: the mirror is a cell short",
            "NearestUnpool: the mirror forgets ceil_mode",
            "Flatten: the mirror exchanges its lengths",
        ),
        "mirrored_twice": ("Conv: the mirror forgets the bias", "Conv: the mirror forgets the groups"),
        "adjoint": (
            "same padding: swapped",
            "PixelShuffle: no mirror",
            "Residual: the mirror is that of the body",
            "Conv: reflections are called linear",
            "AvgPool: called linear with its mirror",
        ),
        "sight": (
            "strided same padding: swapped",
            "strided same padding: swapped in the mirror",
            "kernel's extent: dilation forgotten",
            "Conv: windows a cell aside",
            "Conv: windows a cell short",
            "Conv: windows without their stride",
            "MaxPool: windows a cell aside",
            "Pad: windows a cell aside",
        ),
        "refusals": (
            "border: never refused",
            "border of Pad: never refused",
            "groups: never refused",
            "pool: kernels that span too much",
        ),
        "around": (
            "Skip: the mirror adds always",
            "MaxPool: nothing goes round the code",
        ),
        "parameters": (
            "Conv: bias dropped",
            "BatchNorm: weight dropped",
            "GroupNorm: bias dropped",
            "LayerNorm: bias dropped",
            "Linear: bias dropped",
        ),
        "multiply_adds": (
            "Conv: every multiplication twice",
            "ConvTranspose: every multiplication twice",
            "Linear: no multiplication",
        ),
        "repr": ("Conv: repr forgets an argument",),
    }.items()
    for name in names
}
"""Which check catches what; `promise` all others."""


@contextmanager
def mutated(one: Mutant) -> Iterator[None]:
    """The library with a mistake in it."""
    from obverse import model

    right = one.owner.__dict__.get(one.attribute) if isinstance(one.owner, type) else getattr(one.owner, one.attribute)
    inherited = right is None
    wrong = one.mistake(getattr(one.owner, one.attribute) if inherited or not callable(right) else right)
    setattr(one.owner, one.attribute, wrong)
    _forget(model)
    try:
        yield
    finally:
        if inherited:
            delattr(one.owner, one.attribute)
        else:
            setattr(one.owner, one.attribute, right)
        _forget(model)


def _forget(model: Any) -> None:
    """What was worked out without the mistake, or with it."""
    for room in [room for name, room in sys.modules.items() if name.startswith("obverse.") and "testing" not in name]:
        for value in list(vars(room).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()
