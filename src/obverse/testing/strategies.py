"""Hypothesis strategies: sizes, shapes, blocks and chains, for property tests of blocks and of what is built on them.

What is drawn is legal by construction: a block together with a shape that it takes. Channels and sizes are small, so
that PyTorch runs an example in about a millisecond, and everything shrinks to the plainest block at the smallest shape.

```python
from hypothesis import given
from obverse.testing.strategies import blocks_with_shapes

@given(blocks_with_shapes())
def test_the_mirror_is_exact(drawn):
    block, shape = drawn
    assert block.mirror(shape).output_shape(block.output_shape(shape)) == shape
```

A block of your own joins with one row, `ROWS["Wavelet"] = wavelets`: a function from a shape to the strategy of the
blocks that take it, or to `None` where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

from hypothesis import strategies as st

from obverse.arithmetic import pool_output_size
from obverse.block import Block, Shape
from obverse.blocks.branching import Parallel, Residual
from obverse.blocks.conv import Conv, ConvTranspose, ResizeConv, SubpixelConv
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import (
    ELU,
    GELU,
    LAYERS,
    BatchNorm,
    Dropout,
    GroupNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    Mish,
    Pointwise,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from obverse.blocks.pooling import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, LPPool, MaxPool, NearestUnpool
from obverse.blocks.rearrange import Rearrange
from obverse.blocks.resampling import MODES, PixelShuffle, PixelUnshuffle, Upsample
from obverse.blocks.reshaping import Crop, Flatten, Pad, Unflatten
from obverse.blocks.skips import Skip
from obverse.chain import Chain
from obverse.registry import block_class

__all__ = [
    "ROWS",
    "blocks",
    "blocks_with_shapes",
    "chains",
    "chains_with_shapes",
    "convolutions",
    "graphs",
    "nestings",
    "shapes",
    "sizes",
]

Drawn = st.SearchStrategy[Any]
Row = Callable[[Shape], "st.SearchStrategy[Any] | None"]
Setting = tuple[Any, ...]

LARGEST = 3000
"""Numbers in one example, past which a chain does not go on."""

MOST = {1: 12, 2: 12, 3: 6}
"""The largest size that is drawn, by the number of spatial axes."""


def sizes(least: int = 1, most: int = 12) -> st.SearchStrategy[int]:
    """Cells along one axis.

    >>> from hypothesis import find
    >>> find(sizes(), lambda size: size > 4)
    5
    """
    return st.integers(least, most)


def shapes(ranks: Sequence[int] = (1, 2, 3), channels: int = 4) -> st.SearchStrategy[Shape]:
    """Shapes of one example, `(C, *spatial)`.

    >>> from hypothesis import find
    >>> find(shapes(ranks=[2]), lambda shape: True)
    (1, 1, 1)

    Args:
        ranks: the numbers of spatial axes to draw from; 0 gives `(C,)`.
        channels: the largest number of channels.
    """
    return st.one_of([_shapes_of(rank, channels) for rank in ranks])


def _shapes_of(rank: int, channels: int) -> st.SearchStrategy[Shape]:
    return st.tuples(st.integers(1, channels), *[sizes(most=MOST[rank])] * rank) if rank else st.tuples(sizes())


# Settings along one axis ------------------------------------------------------------------------------------------
#
# Each of these lists every setting within small bounds that a size takes, plainest first, so that `sampled_from` is
# legal by construction and shrinks to the plainest.


@lru_cache
def _conv_settings(size: int) -> list[Setting]:
    """Kernel, stride, padding and dilation of a convolution."""
    found = product(range(1, 5), range(1, 5), range(3), range(1, 4))
    return _plainest_first((k, s, p, d) for k, s, p, d in found if size + 2 * p > d * (k - 1))


@lru_cache
def _same_settings(size: int) -> list[Setting]:
    """The same for `padding="same"`, which every size takes."""
    return _plainest_first((k, s, "same", d) for k, s, d in product(range(1, 5), range(1, 4), range(1, 4)))


@lru_cache
def _transpose_settings(size: int) -> list[Setting]:
    """Kernel, stride, padding, output_padding and dilation of a transposed convolution."""
    found = product(range(1, 5), range(1, 4), range(3), range(3), range(1, 4))
    return _plainest_first(
        (k, s, p, q, d)
        for k, s, p, q, d in found
        if q < max(s, d) and (size - 1) * s + q + d * (k - 1) + 1 - 2 * p >= 1
    )


@lru_cache
def _transpose_same_settings(size: int) -> list[Setting]:
    found = product(range(1, 5), range(1, 4), range(3), range(1, 4))
    return _plainest_first((k, s, "same", q, d) for k, s, q, d in found if q < s)


@lru_cache
def _pool_settings(size: int, ceil_mode: bool, dilations: tuple[int, ...], unpadded: bool = False) -> list[Setting]:
    """Kernel, stride, padding and dilation of a pooling."""
    found = product(range(1, 5), range(1, 5), range(3), dilations)
    return _plainest_first(
        (k, s, p, d)
        for k, s, p, d in found
        if 2 * p <= k
        and size + 2 * p - d * (k - 1) > (1 - s if ceil_mode else 0)
        and (size >= k or not unpadded)  # a corner of AvgPool3d
    )


@lru_cache
def _unpool_settings(size: int, ceil_mode: bool) -> list[Setting]:
    """What was pooled to this size: cells, kernel, stride, padding and dilation."""
    found = product(range(1, 2 * size + 4), range(1, 4), range(1, 4), range(2), range(1, 3))
    return _plainest_first(
        (n, k, s, p, d)
        for n, k, s, p, d in found
        if (k, s, p, d) in _pool_settings(n, ceil_mode, (1, 2)) and pool_output_size(n, k, s, p, d, ceil_mode) == size
    )


def _plainest_first(settings: Iterable[Setting]) -> list[Setting]:
    return sorted(settings, key=lambda setting: (sum(n for n in setting if isinstance(n, int)), setting))


@st.composite
def _along(draw: Any, settings_for: Callable[[int], list[Setting]], sizes: Shape) -> tuple[Any, ...]:
    """Every argument of a block for all its axes: one number, or one an axis.

    A setting that the smallest axis takes is taken by all.
    """
    if draw(st.booleans()):
        settings = [draw(st.sampled_from(settings_for(size))) for size in sizes]
        return tuple(map(_together, zip(*settings, strict=True)))
    setting: Setting = draw(st.sampled_from(settings_for(min(sizes))))
    return setting


def _together(values: tuple[Any, ...]) -> Any:
    return "same" if "same" in values else values  # which is never said axis by axis


_FLAGS = st.sampled_from([True, False])  # of arguments that are true by default
_STYLES = st.sampled_from([None, None, None, "transpose", "resize", "subpixel"])


def _is_spatial(shape: Shape) -> bool:
    return 2 <= len(shape) <= 4


def _divisors(*numbers: int) -> list[int]:
    return [g for g in range(1, max(numbers) + 1) if all(n % g == 0 for n in numbers)]


# Blocks -------------------------------------------------------------------------------------------------------------


def convolutions(shape: Shape) -> st.SearchStrategy[Conv]:
    """Convolutions that a shape takes, with every argument.

    >>> from hypothesis import find
    >>> find(convolutions((1, 5, 5)), lambda conv: True)
    Conv(1, 1)
    """
    return _convolutions(shape)


@st.composite
def _convolutions(draw: Any, shape: Shape) -> Conv:
    spatial = shape[1:]
    named = draw(st.sampled_from(["", "valid", "same"]))
    settings_for = _same_settings if named == "same" else _conv_settings
    kernel_size, stride, padding, dilation = draw(_along(settings_for, spatial))
    if named == "valid" and not any(padding if isinstance(padding, tuple) else [padding]):
        padding = named
    groups = draw(st.sampled_from(_divisors(shape[0])))
    out_channels = groups * draw(st.integers(1, max(4 // groups, 1)))
    conv = Conv(out_channels, kernel_size, stride, padding, dilation, groups, draw(_FLAGS))
    mode = draw(st.sampled_from(["zeros", *_border_modes(_reach(conv, spatial), spatial)]))
    return replace(conv, padding_mode=mode, upsampling=draw(_STYLES))


def _reach(conv: Conv, spatial: Shape) -> list[int]:
    """At least as many cells as the convolution pads on one side, along every axis."""
    settings = [getattr(conv, name) for name in ("kernel_size", "dilation", "padding")]
    axes = zip(*[value if isinstance(value, tuple) else (value,) * len(spatial) for value in settings], strict=True)
    return [(d * (k - 1) + 1) // 2 if p == "same" else 0 if p == "valid" else p for k, d, p in axes]


def _border_modes(reach: Sequence[int], spatial: Shape) -> list[str]:
    """Padding modes other than zeros that can fill this many cells."""
    modes = ["replicate"]
    if all(cells < size for cells, size in zip(reach, spatial, strict=True)):
        modes.append("reflect")
    if all(cells <= size for cells, size in zip(reach, spatial, strict=True)):
        modes.append("circular")
    return modes


@st.composite
def _transposed(draw: Any, shape: Shape, style: Any) -> Block:
    same = draw(st.sampled_from([False, False, True]))
    settings_for = _transpose_same_settings if same else _transpose_settings
    kernel_size, stride, padding, output_padding, dilation = draw(_along(settings_for, shape[1:]))
    groups = draw(st.sampled_from(_divisors(shape[0])))
    out_channels = groups * draw(st.integers(1, max(4 // groups, 1)))
    settings = (kernel_size, stride, padding, output_padding, groups, draw(_FLAGS), dilation)
    one: Block = style(out_channels, *settings)
    return one


@st.composite
def _max_pools(draw: Any, shape: Shape) -> MaxPool:
    ceil_mode = draw(st.booleans())
    settings = draw(_along(lambda size: _pool_settings(size, ceil_mode, (1, 2)), shape[1:]))
    kernel_size, stride, padding, dilation = settings
    indices = draw(st.sampled_from([False, False, True]))
    return MaxPool(kernel_size, None if stride == kernel_size else stride, padding, dilation, indices, ceil_mode)


@st.composite
def _avg_pools(draw: Any, shape: Shape) -> AvgPool:
    ceil_mode = draw(st.booleans())
    settings = draw(_along(lambda size: _pool_settings(size, ceil_mode, (1,), len(shape) == 4), shape[1:]))
    kernel_size, stride, padding, _ = settings
    divisor = draw(st.sampled_from([None, None, 3])) if len(shape) > 2 else None
    return AvgPool(kernel_size, None if stride == kernel_size else stride, padding, ceil_mode, draw(_FLAGS), divisor)


@st.composite
def _lp_pools(draw: Any, shape: Shape) -> LPPool:
    ceil_mode = draw(st.booleans())

    def unpadded(size: int) -> list[Setting]:
        return [setting for setting in _pool_settings(size, ceil_mode, (1,), len(shape) == 4) if setting[2] == 0]

    kernel_size, stride, *_ = draw(_along(unpadded, shape[1:]))
    return LPPool(draw(st.sampled_from([2, 1])), kernel_size, None if stride == kernel_size else stride, ceil_mode)


@st.composite
def _adaptive_pools(draw: Any, shape: Shape, pool: Any) -> Block:
    along_axis = st.one_of(st.integers(1, 4), st.none())
    one: Block = draw(st.builds(pool, st.one_of(along_axis, st.tuples(*[along_axis] * (len(shape) - 1)))))
    return one


@st.composite
def _shuffles(draw: Any, shape: Shape) -> PixelShuffle:
    rank = len(shape) - 1
    return PixelShuffle(draw(st.sampled_from([factor for factor in (1, 2) if shape[0] % factor**rank == 0])))


@st.composite
def _unshuffles(draw: Any, shape: Shape) -> PixelUnshuffle:
    fits = [factor for factor in (1, 2, 3) if all(size % factor == 0 for size in shape[1:])]
    return PixelUnshuffle(draw(st.sampled_from(fits)))


_LETTERS = ("c", "h", "w", "d")


@st.composite
def _rearrangements(draw: Any, shape: Shape) -> Rearrange:
    """Some axes split in two, all of them shuffled, some neighbours merged."""
    lengths: dict[str, int] = {}
    before: list[str] = []
    names: list[str] = []
    after: list[str] = []
    for letter, size in zip(_LETTERS, shape, strict=False):
        part = draw(st.sampled_from(_divisors(size))) if draw(st.booleans()) else 1
        split = [letter] if part == 1 else draw(st.permutations([letter, f"{letter}{letter}"]))
        lengths |= {f"{letter}{letter}": part} if part > 1 else {}
        before.append(split[0] if len(split) == 1 else f"({' '.join(split)})")
        names += split
    names = draw(st.permutations(names))
    while names:
        merged = draw(st.integers(1, len(names)))
        merged = max(merged, len(names)) if len(after) == 3 else merged  # a shape has four axes at most
        after.append(names[0] if merged == 1 else f"({' '.join(names[:merged])})")
        names = names[merged:]
    return Rearrange(f"{' '.join(before)} -> {' '.join(after)}", **lengths)


@st.composite
def _parallels(draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int) -> Parallel:
    """Branches that can be joined: each ends with a convolution to the channels and sizes of the first."""
    number = draw(st.integers(1, 3))
    fan: Any = "copy"
    if draw(st.booleans()) and shape[0] >= number:
        cuts = sorted(draw(st.permutations(range(1, shape[0])))[: number - 1])
        fan = tuple(end - start for start, end in zip([0, *cuts], [*cuts, shape[0]], strict=True))
    join = draw(st.sampled_from(["add", "concat"]))
    shares = [shape] * number if fan == "copy" else [(share, *shape[1:]) for share in fan]
    first = draw(_graphs(shares[0], names, depth - 1))
    after = first.output_shape(shares[0])
    rest = [draw(_branches(share, after, names, depth - 1)) for share in shares[1:]]
    return Parallel(first, *rest, fan=fan, join=join)


@st.composite
def _branches(draw: Any, shape: Shape, after: Shape, names: tuple[str, ...] | None, depth: int) -> Block:
    """A block from one shape to another: whatever is drawn, then brought to the shape."""
    body: Block = draw(_graphs(shape, names, depth))
    given = body.output_shape(shape)
    if given == after:
        return body
    if len(given) == len(after) > 1:
        return Chain(body, Conv(after[0], 1), AdaptiveAvgPool(after[1:]))
    return Chain(body, Flatten(), Linear(prod(after)), *([Unflatten(1, after)] if len(after) > 1 else []))


@st.composite
def _residuals(draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int) -> Residual:
    if draw(st.booleans()):  # a way around that is worked out
        stride = draw(st.integers(1, 2))
        kernel = draw(st.sampled_from([1, 3]))
        out_channels = draw(st.integers(1, 4)) if stride > 1 else shape[0]
        return Residual(Chain(Conv(out_channels, kernel, stride=stride, padding=kernel // 2), ReLU()))
    body = draw(_graphs(shape, names, depth - 1))
    return Residual(body, draw(_branches(shape, body.output_shape(shape), names, depth - 1)))


@st.composite
def _graphs(draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int) -> Block:
    """A plain block, a short chain, or branches, nested as deep as is allowed."""
    kind = draw(st.sampled_from(["block", "chain", "residual", "parallel"] if depth > 0 else ["block", "chain"]))
    if kind == "residual" and _is_spatial(shape):
        return draw(_residuals(shape, names, depth))  # type: ignore[no-any-return]
    if kind == "parallel":
        return draw(_parallels(shape, names, depth))  # type: ignore[no-any-return]
    plain = tuple(name for name in (ROWS if names is None else names) if name not in ("Residual", "Parallel"))
    if kind == "chain":
        return draw(chains(shape, plain, most=2))  # type: ignore[no-any-return]
    return draw(blocks(shape, plain))  # type: ignore[no-any-return]


def graphs(shape: Shape, names: Iterable[str] | None = None, depth: int = 3) -> st.SearchStrategy[Block]:
    """Blocks with branches in them, nested.

    >>> from hypothesis import find
    >>> find(graphs((2, 6, 6)), lambda block: isinstance(block, Parallel) and len(block.branches) == 2)
    Parallel(Identity(), Identity())

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS` for what stands in the branches; all of them by default.
        depth: how deep branches nest in branches.
    """
    return _graphs(shape, None if names is None else tuple(names), depth)


@st.composite
def _unpools(draw: Any, shape: Shape) -> NearestUnpool:
    ceil_mode = draw(st.booleans())
    axes = [draw(st.sampled_from(_unpool_settings(size, ceil_mode))) for size in shape[1:]]
    if len(set(shape[1:])) == 1 and not draw(st.booleans()):
        axes = axes[:1] * len(axes)
    size, kernel_size, stride, padding, dilation = zip(*axes, strict=True)
    if len(set(axes)) == 1:
        kernel_size, stride, padding, dilation = axes[0][1:]
    return NearestUnpool(size, kernel_size, stride, padding, dilation, ceil_mode)


@st.composite
def _upsamplings(draw: Any, shape: Shape) -> Upsample:
    rank = len(shape) - 1
    mode = draw(st.sampled_from([mode for mode, ranks in MODES.items() if rank in ranks]))
    corners = draw(st.sampled_from([None, True, False])) if mode.endswith(("linear", "cubic")) else None
    factors = [1, 2, 3, 1.5, 2.5, *([0.5, 0.75] if min(shape[1:]) > 1 else [])]
    kinds = (sizes(most=MOST[rank]), st.sampled_from(factors))
    of_size = draw(st.booleans())
    value = draw(st.one_of(kinds[not of_size], st.tuples(*[kinds[not of_size]] * rank)))
    return Upsample(**{"size" if of_size else "scale_factor": value}, mode=mode, align_corners=corners)


@st.composite
def _flattenings(draw: Any, shape: Shape) -> Flatten:
    start = draw(st.integers(1, len(shape)))
    end = draw(st.integers(start, len(shape)))
    backwards = len(shape) + 1
    return Flatten(draw(st.sampled_from([start, start - backwards])), draw(st.sampled_from([end - backwards, end])))


@st.composite
def _unflattenings(draw: Any, shape: Shape) -> Unflatten:
    axis = draw(st.integers(0, len(shape) - 1))
    rest, lengths = shape[axis], []
    for _ in range(draw(st.integers(0, 4 - len(shape)))):
        lengths.append(draw(st.sampled_from(_divisors(rest))))
        rest //= lengths[-1]
    lengths = draw(st.permutations([*lengths, draw(st.sampled_from([rest, -1]))]))
    return Unflatten(draw(st.sampled_from([axis + 1, axis - len(shape)])), tuple(lengths))


@st.composite
def _paddings(draw: Any, shape: Shape) -> Pad:
    pairs = draw(_pairs(shape[1:], sign=1))
    mode, value = "constant", draw(st.sampled_from([0.0, 1.5]))
    reach = [max(pair) for pair in (pairs * (len(shape) - 1) if len(pairs) == 1 else pairs)]
    if all(amount >= 0 for pair in pairs for amount in pair):
        mode = draw(st.sampled_from(["constant", *_border_modes(reach, shape[1:])]))
    return Pad(*pairs, mode=mode, value=value)


@st.composite
def _croppings(draw: Any, shape: Shape) -> Crop:
    return Crop(*draw(_pairs(shape[1:], sign=-1)))


@st.composite
def _pairs(draw: Any, spatial: Shape, sign: int) -> list[tuple[int, int]]:
    """Amounts (before, after), one pair for all axes or one an axis, that leave at least a cell."""

    def pair(size: int) -> tuple[int, int]:
        before = draw(st.integers(-min(2, size - 1), 2))
        after = draw(st.integers(-min(2, size - 1 + min(before, 0)), 2))
        return sign * before, sign * after

    return [pair(size) for size in spatial] if draw(st.booleans()) else [pair(min(spatial))]


_NUMBERS: dict[str, Drawn] = {"p": st.sampled_from([0.0, 0.3])}
_NUMBERS |= dict.fromkeys(("alpha", "lambd", "beta", "threshold", "max_val", "upper"), st.sampled_from([0.5, 1.0]))
_NUMBERS |= dict.fromkeys(("negative_slope", "min_val", "lower"), st.sampled_from([0.1, 0.25]))
_NUMBERS |= {"approximate": st.sampled_from(["none", "tanh"])}


@st.composite
def _named(draw: Any, shape: Shape) -> Pointwise:
    name = draw(st.sampled_from(sorted(LAYERS)))
    return Pointwise(name, **draw(st.fixed_dictionaries({}, optional={key: _NUMBERS[key] for key in LAYERS[name]})))


def _always(strategy: Drawn) -> Row:
    return lambda shape: strategy


def _spatial(strategy: Callable[[Shape], Drawn]) -> Row:
    return lambda shape: strategy(shape) if _is_spatial(shape) else None


_inplace = st.booleans()

ROWS: dict[str, Row] = {
    "Identity": _always(st.just(Identity())),
    "ReLU": _always(st.builds(ReLU, _inplace)),
    "Conv": _spatial(convolutions),
    "ConvTranspose": _spatial(lambda shape: _transposed(shape, ConvTranspose)),
    "ResizeConv": _spatial(lambda shape: _transposed(shape, ResizeConv)),
    "SubpixelConv": _spatial(lambda shape: _transposed(shape, SubpixelConv)),
    "MaxPool": _spatial(_max_pools),
    "AvgPool": _spatial(_avg_pools),
    "NearestUnpool": _spatial(_unpools),
    "Upsample": _spatial(_upsamplings),
    "Linear": _always(st.builds(Linear, st.integers(1, 6), _FLAGS)),
    "Flatten": lambda shape: _flattenings(shape),
    "Unflatten": lambda shape: _unflattenings(shape) if len(shape) <= 4 else None,
    "Pad": _spatial(_paddings),
    "Crop": _spatial(_croppings),
    "BatchNorm": lambda shape: (
        st.builds(BatchNorm, st.sampled_from([1e-5, 1e-3]), st.sampled_from([0.1, None]), _FLAGS, _FLAGS)
        if len(shape) <= 4
        else None
    ),
    "GroupNorm": lambda shape: st.builds(
        GroupNorm, st.sampled_from(_divisors(shape[0])), st.sampled_from([1e-5, 1e-3]), _FLAGS
    ),
    "Dropout": _always(st.builds(Dropout, st.sampled_from([0.5, 0.0]), _inplace)),
    "LeakyReLU": _always(st.builds(LeakyReLU, st.sampled_from([0.01, 0.2]), _inplace)),
    "ELU": _always(st.builds(ELU, st.sampled_from([1.0, 0.5]), _inplace)),
    "GELU": _always(st.builds(GELU, st.sampled_from(["none", "tanh"]))),
    "SiLU": _always(st.builds(SiLU, _inplace)),
    "Mish": _always(st.builds(Mish, _inplace)),
    "Tanh": _always(st.just(Tanh())),
    "Sigmoid": _always(st.just(Sigmoid())),
    "Softplus": _always(st.builds(Softplus, st.sampled_from([1.0, 2.0]))),
    "Pointwise": lambda shape: _named(shape),
    "LPPool": _spatial(_lp_pools),
    "AdaptiveAvgPool": _spatial(lambda shape: _adaptive_pools(shape, AdaptiveAvgPool)),
    "AdaptiveMaxPool": _spatial(lambda shape: _adaptive_pools(shape, AdaptiveMaxPool)),
    "PixelShuffle": _spatial(_shuffles),
    "PixelUnshuffle": _spatial(_unshuffles),
    "Rearrange": lambda shape: _rearrangements(shape) if len(shape) <= 4 else None,
    "InstanceNorm": lambda shape: (
        st.builds(InstanceNorm, affine=_FLAGS, track_running_stats=st.booleans())
        if _is_spatial(shape) and prod(shape[1:]) > 1
        else None
    ),
    "LayerNorm": _always(st.builds(LayerNorm, st.just(1e-5), _FLAGS, _FLAGS, st.sampled_from(["first", "last"]))),
    "RMSNorm": _always(st.builds(RMSNorm, st.just(1e-5), _FLAGS, st.sampled_from(["first", "last"]))),
    "Skip": lambda shape: st.builds(Skip, st.sampled_from(["concat", "add"] if _is_spatial(shape) else ["add"])),
    "Residual": lambda shape: _residuals(shape, None, 1) if _is_spatial(shape) else None,
    "Parallel": lambda shape: _parallels(shape, None, 1),
}
"""For every block, by its name: from a shape to the blocks that take it. `Chain` has `chains`; `MaxUnpool` and `Rejoin`
are drawn as the mirrors that they are, since alone they lack what goes round the code."""


def blocks(shape: Shape, names: Iterable[str] | None = None) -> st.SearchStrategy[Block]:
    """Blocks that take a shape.

    >>> from hypothesis import find
    >>> find(blocks((3, 8, 8)), lambda block: True)
    Identity()

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS`; all of them by default.
    """
    rows = {name: ROWS[name](shape) for name in (ROWS if names is None else names)}
    return _blocks({name: row for name, row in rows.items() if row is not None})


@st.composite
def _blocks(draw: Any, rows: dict[str, Drawn]) -> Block:
    # three of each block that does something to shapes for one of the many that do not
    names = [name for name in rows for _ in range(1 if block_class(name).pointwise else 3)]
    block: Block = draw(rows[draw(st.sampled_from(names))])
    return block


def blocks_with_shapes(
    names: Iterable[str] | None = None, ranks: Sequence[int] = (1, 2, 3)
) -> st.SearchStrategy[tuple[Block, Shape]]:
    """A block and a shape that it takes.

    >>> from hypothesis import find
    >>> find(blocks_with_shapes(["MaxPool"]), lambda drawn: True)
    (MaxPool(1), (1, 1))
    """
    names = None if names is None else tuple(names)
    return shapes(ranks).flatmap(lambda shape: st.tuples(blocks(shape, names), st.just(shape)))


def chains(shape: Shape, names: Iterable[str] | None = None, most: int = 6) -> st.SearchStrategy[Chain]:
    """Chains that take a shape, nested at will.

    >>> from hypothesis import find
    >>> find(chains((1, 5, 5)), lambda chain: any(isinstance(block, Chain) for block in chain))
    Chain(Chain(Identity()))

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS`; all of them by default.
        most: how many blocks a chain has at most, nested chains' blocks counted.
    """
    return _chains(shape, None if names is None else tuple(names), most)


@st.composite
def _chains(draw: Any, shape: Shape, names: tuple[str, ...] | None, most: int) -> Chain:
    links: list[Block] = [draw(blocks(shape, names))]
    shape = links[0].output_shape(shape)
    while len(links) < most and prod(shape) <= LARGEST and draw(st.integers(0, 3)):
        links.append(draw(blocks(shape, names)))
        shape = links[-1].output_shape(shape)
    return Chain(*_gathered(draw, links, depth=2))


def chains_with_shapes(
    names: Iterable[str] | None = None, ranks: Sequence[int] = (1, 2, 3), most: int = 6
) -> st.SearchStrategy[tuple[Chain, Shape]]:
    """A chain and a shape that it takes.

    >>> from hypothesis import find
    >>> find(chains_with_shapes(), lambda drawn: len(drawn[0]) == 2)
    (Chain(Identity(), Identity()), (1, 1))
    """
    names = None if names is None else tuple(names)
    return shapes(ranks).flatmap(lambda shape: st.tuples(chains(shape, names, most), st.just(shape)))


def nestings(links: Sequence[Block], depth: int = 2) -> st.SearchStrategy[Chain]:
    """A chain of the given blocks in their order, with some of them gathered in nested chains.

    >>> from hypothesis import find
    >>> find(nestings([ReLU(), Tanh()]), lambda chain: len(chain) == 1)
    Chain(Chain(ReLU(), Tanh()))
    """
    return _nestings(tuple(links), depth)


@st.composite
def _nestings(draw: Any, links: tuple[Block, ...], depth: int) -> Chain:
    return Chain(*_gathered(draw, links, depth))


def _gathered(draw: Any, links: Sequence[Block], depth: int) -> Iterator[Block]:
    while links:
        together = draw(st.integers(0, len(links))) if depth else 0
        if together:
            yield Chain(*_gathered(draw, links[:together], depth - 1))
        else:
            yield links[0]
        links = links[max(together, 1) :]
