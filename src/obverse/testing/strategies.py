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

A block of your own joins by its class, `chains(shape, extra=[Wavelet])`, with arguments found from its fields. Where
those are not enough it joins with one row, `ROWS["Wavelet"] = Row(wavelets)`: a function from a shape to the strategy
of the blocks that take it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from obverse.arithmetic import pool_output_size
from obverse.block import Block, takes
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
from obverse.blocks.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    LPPool,
    MaxPool,
    MaxUnpool,
    NearestUnpool,
)
from obverse.blocks.rearrange import Rearrange
from obverse.blocks.resampling import MODES, PixelShuffle, PixelUnshuffle, Upsample
from obverse.blocks.reshaping import Crop, Flatten, Pad, Unflatten
from obverse.blocks.skips import Rejoin, Skip
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.registry import block_class
from obverse.shapes import Shape
from obverse.testing.arguments import blocks_of

if TYPE_CHECKING:
    from obverse.model import Autoencoder

__all__ = [
    "DRAWN",
    "ROWS",
    "Row",
    "autoencoders",
    "blocks",
    "blocks_of",
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
Setting = tuple[Any, ...]
Extra = Sequence[type[Block] | st.SearchStrategy[Block]]
"""Blocks of others: their classes, or strategies."""

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


def shapes(ranks: Sequence[int] = (1, 2, 3), channels: int = 8) -> st.SearchStrategy[Shape]:
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
    if not rank:
        return st.tuples(sizes())
    return st.tuples(st.integers(1, channels), *[sizes(most=MOST[rank])] * rank)


_FLAGS = st.sampled_from([True, False])  # of arguments that are true by default
_UNLESS = st.booleans()
_ONE_IN_FOUR = st.sampled_from([False, False, False, True])
_STYLES = st.sampled_from([None, None, None, None, "resize", "subpixel"])
_GO_ON = st.sampled_from([False, True, True, True])


# Settings along one axis ------------------------------------------------------------------------------------------
#
# Each of these lists every setting within small bounds that a size takes, plainest first, so that what is drawn is
# legal by construction and shrinks to the plainest.


def _choices(listed: Callable[..., Iterable[Setting]]) -> Callable[..., st.SearchStrategy[Setting]]:
    """What a function lists, to choose from."""
    return lru_cache(lambda *arguments: st.sampled_from(sorted(listed(*arguments), key=_plainness)))


def _plainness(setting: Setting) -> tuple[int, Setting]:
    return sum(n for n in setting if isinstance(n, int)), setting


@_choices
def _conv_settings(size: int) -> Iterable[Setting]:
    """Kernel, stride, padding and dilation of a convolution."""
    found = product(range(1, 5), range(1, 5), range(3), range(1, 4))
    return [(k, s, p, d) for k, s, p, d in found if size + 2 * p > d * (k - 1)]


@_choices
def _same_settings(size: int) -> Iterable[Setting]:
    """The same for `padding="same"`, which every size takes."""
    return [(k, s, "same", d) for k, s, d in product(range(1, 5), range(1, 4), range(1, 4))]


@_choices
def _transpose_settings(size: int) -> Iterable[Setting]:
    """Kernel, stride, padding, output_padding and dilation of a transposed convolution."""
    return [
        (k, s, p, q, d)
        for k, s, p, q, d in product(range(1, 5), range(1, 4), range(3), range(3), range(1, 4))
        if q < max(s, d) and (size - 1) * s + q + d * (k - 1) + 1 - 2 * p >= 1
    ]


@_choices
def _transpose_same_settings(size: int) -> Iterable[Setting]:
    found = product(range(1, 5), range(1, 4), range(3), range(1, 4))
    return [(k, s, "same", q, d) for k, s, q, d in found if q < s]


def _is_pooled(size: int, ceil_mode: bool, setting: tuple[int, int, int, int]) -> bool:
    k, s, p, d = setting
    return 2 * p <= k and size + 2 * p - d * (k - 1) > (1 - s if ceil_mode else 0)


@_choices
def _pool_settings(size: int, ceil_mode: bool, most_dilation: int, unpadded: bool) -> Iterable[Setting]:
    """Kernel, stride, padding and dilation of a pooling; `unpadded` is a corner of AvgPool3d."""
    found = product(range(1, 5), range(1, 5), range(3), range(1, most_dilation + 1))
    return [
        setting for setting in found if _is_pooled(size, ceil_mode, setting) and (size >= setting[0] or not unpadded)
    ]


@_choices
def _unpool_settings(size: int, ceil_mode: bool) -> Iterable[Setting]:
    """What was pooled to this size: cells, kernel, stride, padding and dilation."""
    found = product(range(1, 2 * size + 4), range(1, 4), range(1, 4), range(2), range(1, 3))
    return [
        (n, k, s, p, d)
        for n, k, s, p, d in found
        if _is_pooled(n, ceil_mode, (k, s, p, d)) and pool_output_size(n, k, s, p, d, ceil_mode) == size
    ]


@st.composite
def _along(draw: Any, settings_for: Callable[..., st.SearchStrategy[Setting]], sizes: Shape, *more: Any) -> Setting:
    """Every argument of a block for all its axes: one number, or one an axis.

    A setting that the smallest axis takes is taken by all.
    """
    if draw(_UNLESS):
        settings = [draw(settings_for(size, *more)) for size in sizes]
        return tuple(map(_together, zip(*settings, strict=True)))
    setting: Setting = draw(settings_for(min(sizes), *more))
    return setting


def _together(values: tuple[Any, ...]) -> Any:
    return "same" if "same" in values else values  # which is never said axis by axis


def _is_spatial(shape: Shape) -> bool:
    return 2 <= len(shape) <= 4


def _has_room(shape: Shape) -> bool:
    return len(shape) <= 4


def _has_cells(shape: Shape) -> bool:
    return _is_spatial(shape) and prod(shape[1:]) > 1


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
    if named == "valid" and not _any(padding):
        padding = named
    groups = draw(st.sampled_from(_divisors(shape[0])))
    out_channels = groups * draw(st.integers(1, max(4 // groups, 1)))
    conv = Conv(out_channels, kernel_size, stride, padding, dilation, groups, draw(_FLAGS))
    mode = draw(st.sampled_from(["zeros", *_border_modes(_reach(conv, spatial), spatial)]))
    return replace(conv, padding_mode=mode, upsampling=draw(_STYLES) if conv.is_strided else None)


def _any(value: Any) -> bool:
    return any(value if isinstance(value, tuple) else [value])


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
    same = draw(_ONE_IN_FOUR)
    settings_for = _transpose_same_settings if same else _transpose_settings
    kernel_size, stride, padding, output_padding, dilation = draw(_along(settings_for, shape[1:]))
    groups = draw(st.sampled_from(_divisors(shape[0])))
    out_channels = groups * draw(st.integers(1, max(4 // groups, 1)))
    settings = (kernel_size, stride, padding, output_padding, groups, draw(_FLAGS), dilation)
    one: Block = style(out_channels, *settings)
    return one


@st.composite
def _max_pools(draw: Any, shape: Shape) -> MaxPool:
    ceil_mode = draw(_UNLESS)
    settings = draw(_along(_pool_settings, shape[1:], ceil_mode, 2, False))
    kernel_size, stride, padding, dilation = settings
    stride = None if stride == kernel_size else stride
    return MaxPool(kernel_size, stride, padding, dilation, draw(_UNLESS), ceil_mode)


@st.composite
def _avg_pools(draw: Any, shape: Shape) -> AvgPool:
    ceil_mode = draw(_UNLESS)
    settings = draw(_along(_pool_settings, shape[1:], ceil_mode, 1, len(shape) == 4))
    kernel_size, stride, padding, _ = settings
    stride = None if stride == kernel_size else stride
    divisor = draw(st.sampled_from([None, 2])) if len(shape) > 2 else None
    return AvgPool(kernel_size, stride, padding, ceil_mode, draw(_FLAGS), divisor)


@st.composite
def _norm_pools(draw: Any, shape: Shape) -> LPPool:
    pool = draw(_avg_pools(shape).filter(lambda pool: not _any(pool.padding)))
    return LPPool(draw(st.sampled_from([2, 1, 1.5])), pool.kernel_size, pool.stride, pool.ceil_mode)


def _adaptive_pools(kind: Any) -> Callable[[Shape], Drawn]:
    def drawn(shape: Shape) -> Drawn:
        each = st.none() | sizes(most=MOST[len(shape) - 1])
        return st.builds(kind, each | st.tuples(*[each] * (len(shape) - 1)))

    return drawn


@st.composite
def _max_unpools(draw: Any, shape: Shape) -> MaxUnpool:
    unpool = draw(_unpools(shape).filter(lambda unpool: unpool.kernel_size is not None))
    settings = (unpool.kernel_size, unpool.stride, unpool.padding, unpool.dilation, unpool.ceil_mode)
    fits = all(size >= 1 for size in MaxUnpool(*settings)._sizes(shape))
    return MaxUnpool(*settings, draw(st.sampled_from([unpool.size, None] if fits else [unpool.size])))


@st.composite
def _unpools(draw: Any, shape: Shape) -> NearestUnpool:
    if draw(_ONE_IN_FOUR):
        return NearestUnpool(tuple(draw(sizes(most=MOST[len(shape) - 1])) for _ in shape[1:]))
    ceil_mode = draw(_UNLESS)
    axes = [draw(_unpool_settings(size, ceil_mode)) for size in shape[1:]]
    if len(set(shape[1:])) == 1 and not draw(_UNLESS):
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
    of_size = draw(_UNLESS)
    value = draw(st.one_of(kinds[not of_size], st.tuples(*[kinds[not of_size]] * rank)))
    return Upsample(**{"size" if of_size else "scale_factor": value}, mode=mode, align_corners=corners)


def _shufflings(shape: Shape) -> Drawn:
    factors = [factor for factor in (1, 2, 3) if shape[0] % factor ** (len(shape) - 1) == 0]
    return st.builds(PixelShuffle, st.sampled_from(factors))


def _unshufflings(shape: Shape) -> Drawn:
    return st.builds(PixelUnshuffle, st.sampled_from([f for f in _divisors(*shape[1:]) if f <= 3]))


@st.composite
def _rearrangements(draw: Any, shape: Shape) -> Rearrange:
    """Axes split in two, moved about and merged again."""
    sides: list[str] = []
    lengths: dict[str, int] = {}
    names: list[str] = []
    for axis, size in zip("abcdef", shape, strict=False):
        factor = draw(st.sampled_from([0, *_divisors(size)]))
        names += [axis, axis.upper()] if factor else [axis]
        sides.append(f"({axis} {axis.upper()})" if factor else axis)
        lengths |= {axis.upper(): factor} if factor else {}
    names = draw(st.permutations(names))
    cuts = sorted(draw(st.sets(st.integers(1, len(names) - 1), max_size=3))) if len(names) > 1 else []
    groups = [names[a:b] for a, b in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    after = [f"({' '.join(group)})" if len(group) > 1 else group[0] for group in groups]
    return Rearrange(f"{' '.join(sides)} -> {' '.join(after)}", **lengths)


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

    return [pair(size) for size in spatial] if draw(_UNLESS) else [pair(min(spatial))]


@st.composite
def _parallels(
    draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int, extra: tuple[Any, ...] = ()
) -> Parallel:
    """Branches that can be joined: each ends with a convolution to the channels and sizes of the first."""
    number = draw(st.integers(1, 3))
    fan: Any = "copy"
    if draw(_UNLESS) and shape[0] >= number:
        cuts = sorted(draw(st.permutations(range(1, shape[0])))[: number - 1])
        fan = tuple(end - start for start, end in zip([0, *cuts], [*cuts, shape[0]], strict=True))
    join = draw(st.sampled_from(["add", "concat"]))
    shares = [shape] * number if fan == "copy" else [(share, *shape[1:]) for share in fan]
    first = draw(_graphs(shares[0], names, depth - 1, extra))
    after = first.output_shape(shares[0])
    rest = [draw(_branches(share, after, names, depth - 1, extra)) for share in shares[1:]]
    return Parallel(first, *rest, fan=fan, join=join)


@st.composite
def _branches(
    draw: Any, shape: Shape, after: Shape, names: tuple[str, ...] | None, depth: int, extra: tuple[Any, ...]
) -> Block:
    """A block from one shape to another: whatever is drawn, then brought to the shape."""
    body: Block = draw(_graphs(shape, names, depth, extra))
    given = body.output_shape(shape)
    if given == after:
        return body
    if len(given) == len(after) > 1:
        return Chain(body, Conv(after[0], 1), AdaptiveAvgPool(after[1:]))
    return Chain(body, Flatten(), Linear(prod(after)), *([Unflatten(1, after)] if len(after) > 1 else []))


@st.composite
def _residuals(
    draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int, extra: tuple[Any, ...] = ()
) -> Residual:
    if not draw(_UNLESS):  # nothing around it, or a way around that is worked out
        stride, radius, dilation = draw(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)))
        channels = draw(st.sampled_from([shape[0], 2, 3]))
        body: Block = Conv(channels, 2 * radius + 1, stride, radius * dilation, dilation)
        followers = draw(st.lists(blocks(body.output_shape(shape), POINTWISE), max_size=2))
        return Residual(Chain(body, *followers) if followers else body)
    body = draw(_graphs(shape, names, depth - 1, extra))
    return Residual(body, draw(_branches(shape, body.output_shape(shape), names, depth - 1, extra)))


@st.composite
def _graphs(draw: Any, shape: Shape, names: tuple[str, ...] | None, depth: int, extra: tuple[Any, ...]) -> Block:
    """A plain block, a short chain, or branches, nested as deep as is allowed."""
    kind = draw(st.sampled_from(["block", "chain", "residual", "parallel"] if depth > 0 else ["block", "chain"]))
    if kind == "residual" and _is_spatial(shape):
        return draw(_residuals(shape, names, depth, extra))  # type: ignore[no-any-return]
    if kind == "parallel":
        return draw(_parallels(shape, names, depth, extra))  # type: ignore[no-any-return]
    plain = tuple(name for name in (DRAWN if names is None else names) if name not in ("Residual", "Parallel"))
    if kind == "chain":
        return draw(chains(shape, plain, most=2, extra=extra))  # type: ignore[no-any-return]
    return draw(blocks(shape, plain, extra))  # type: ignore[no-any-return]


def graphs(
    shape: Shape, names: Iterable[str] | None = None, depth: int = 3, extra: Extra = ()
) -> st.SearchStrategy[Block]:
    """Blocks with branches in them, nested.

    >>> from hypothesis import find
    >>> find(graphs((2, 6, 6)), lambda block: isinstance(block, Parallel) and len(block.branches) == 2)
    Parallel(Identity(), Identity())

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS` for what stands in the branches; by default those in `DRAWN`.
        depth: how deep branches nest in branches.
        extra: block classes of your own, or strategies of blocks.
    """
    return _graphs(shape, None if names is None else tuple(names), depth, tuple(extra))


_NUMBERS: dict[str, Drawn] = {"p": st.sampled_from([0.0, 0.3])}
_NUMBERS |= dict.fromkeys(("alpha", "lambd", "beta", "threshold", "max_val", "upper"), st.sampled_from([0.5, 1.0]))
_NUMBERS |= dict.fromkeys(("negative_slope", "min_val", "lower"), st.sampled_from([0.1, 0.25]))
_NUMBERS |= {"approximate": st.sampled_from(["none", "tanh"])}


@st.composite
def _named(draw: Any) -> Pointwise:
    name = draw(st.sampled_from(sorted(LAYERS)))
    return Pointwise(name, **draw(st.fixed_dictionaries({}, optional={key: _NUMBERS[key] for key in LAYERS[name]})))


_joins = st.sampled_from(["concat", "add"])
_epsilons = st.sampled_from([1e-5, 1e-3])
_places = st.sampled_from(["first", "last"])


def _batch_norms(shape: Shape) -> Drawn:
    return st.builds(BatchNorm, _epsilons, st.sampled_from([0.1, None]), _FLAGS, _FLAGS)


def _group_norms(shape: Shape) -> Drawn:
    return st.builds(GroupNorm, st.sampled_from(_divisors(shape[0])), _epsilons, _FLAGS)


def _instance_norms(shape: Shape) -> Drawn:
    return st.builds(InstanceNorm, _epsilons, st.just(0.1), _UNLESS, _UNLESS)


def _anywhere(shape: Shape) -> bool:
    return True


class Row(NamedTuple):
    """How a block is drawn.

    >>> row = ROWS["PixelShuffle"]
    >>> row.fits((8, 5, 5)), row.fits((8,))    # a vector has no pixels
    (True, False)

    Attributes:
        drawn: from a shape to the strategy of the blocks that take it.
        fits: whether there are any.
    """

    drawn: Callable[[Shape], Drawn]
    fits: Callable[[Shape], bool] = _anywhere


def _always(strategy: Drawn) -> Row:
    return Row(lambda shape: strategy)


def _spatial(drawn: Callable[[Shape], Drawn]) -> Row:
    return Row(drawn, _is_spatial)


ROWS: dict[str, Row] = {
    "Identity": _always(st.just(Identity())),
    "ReLU": _always(st.builds(ReLU, _UNLESS)),
    "Conv": _spatial(convolutions),
    "ConvTranspose": _spatial(lambda shape: _transposed(shape, ConvTranspose)),
    "ResizeConv": _spatial(lambda shape: _transposed(shape, ResizeConv)),
    "SubpixelConv": _spatial(lambda shape: _transposed(shape, SubpixelConv)),
    "MaxPool": _spatial(_max_pools),
    "AvgPool": _spatial(_avg_pools),
    "LPPool": _spatial(_norm_pools),
    "AdaptiveAvgPool": _spatial(_adaptive_pools(AdaptiveAvgPool)),
    "AdaptiveMaxPool": _spatial(_adaptive_pools(AdaptiveMaxPool)),
    "NearestUnpool": _spatial(_unpools),
    "MaxUnpool": _spatial(_max_unpools),
    "Upsample": _spatial(_upsamplings),
    "PixelShuffle": _spatial(_shufflings),
    "PixelUnshuffle": _spatial(_unshufflings),
    "Rearrange": Row(_rearrangements),
    "Residual": _spatial(lambda shape: _residuals(shape, None, 1)),
    "Parallel": Row(lambda shape: _parallels(shape, None, 1)),
    "Skip": Row(lambda shape: st.builds(Skip, _joins if _is_spatial(shape) else st.just("add"))),
    "Rejoin": _spatial(lambda shape: st.builds(Rejoin, _joins)),
    "Linear": _always(st.builds(Linear, st.integers(1, 6), _FLAGS)),
    "Flatten": Row(_flattenings),
    "Unflatten": Row(_unflattenings, _has_room),
    "Pad": _spatial(_paddings),
    "Crop": _spatial(_croppings),
    "BatchNorm": Row(_batch_norms, _has_room),
    "GroupNorm": Row(_group_norms),
    "InstanceNorm": Row(_instance_norms, _has_cells),
    "LayerNorm": _always(st.builds(LayerNorm, _epsilons, _FLAGS, _FLAGS, _places)),
    "RMSNorm": _always(st.builds(RMSNorm, st.sampled_from([None, 1e-3]), _FLAGS, _places)),
    "Dropout": _always(st.builds(Dropout, st.sampled_from([0.5, 0.0]), _UNLESS)),
    "LeakyReLU": _always(st.builds(LeakyReLU, st.sampled_from([0.01, 0.2]), _UNLESS)),
    "ELU": _always(st.builds(ELU, st.sampled_from([1.0, 0.5]), _UNLESS)),
    "GELU": _always(st.builds(GELU, st.sampled_from(["none", "tanh"]))),
    "SiLU": _always(st.builds(SiLU, _UNLESS)),
    "Mish": _always(st.builds(Mish, _UNLESS)),
    "Tanh": _always(st.just(Tanh())),
    "Sigmoid": _always(st.just(Sigmoid())),
    "Softplus": _always(st.builds(Softplus, st.sampled_from([1.0, 2.0]))),
    "Pointwise": _always(_named()),
}
"""How each block is drawn, by its name; chains are drawn by `chains`."""

POINTWISE = tuple(name for name in ROWS if block_class(name).pointwise)
"""The rows of blocks that keep every shape."""

DRAWN = tuple(name for name in ROWS if block_class(name).around != "takes")
"""The rows that are drawn unless others are named: all but of the blocks that run only behind their counterparts."""


def blocks(shape: Shape, names: Iterable[str] | None = None, extra: Extra = ()) -> st.SearchStrategy[Block]:
    """Blocks that take a shape.

    >>> from hypothesis import find
    >>> find(blocks((3, 8, 8)), lambda block: True)
    Identity()

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS`; by default those in `DRAWN`.
        extra: block classes of your own, with arguments found from their fields; or strategies of blocks.
    """
    names = tuple(name for name in (DRAWN if names is None else names) if ROWS[name].fits(shape))
    return _with_extra(shape, names, tuple(extra)) if extra else _blocks(shape, names)


@st.composite
def _blocks(draw: Any, shape: Shape, names: tuple[str, ...]) -> Block:
    block: Block = draw(ROWS[draw(_weighted(names))].drawn(shape))
    return block


@st.composite
def _with_extra(draw: Any, shape: Shape, names: tuple[str, ...], extra: tuple[Any, ...]) -> Block:
    """One of the extra blocks every other time, if it takes the shape."""
    if draw(_UNLESS) or not names:
        one = draw(st.sampled_from(extra))
        block: Block = draw(one if isinstance(one, st.SearchStrategy) else blocks_of(one))
        if takes(block, shape):
            return block
    return draw(_blocks(shape, names) if names else st.nothing())  # type: ignore[no-any-return]


@lru_cache
def _weighted(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Convolutions most of all, then what does something to shapes, then the many that do not."""
    return st.sampled_from([name for name in names for _ in range(WEIGHTS.get(name, 1 if name in POINTWISE else 3))])


WEIGHTS = {"Conv": 12}


def blocks_with_shapes(
    names: Iterable[str] | None = None, ranks: Sequence[int] = (1, 2, 3), extra: Extra = ()
) -> st.SearchStrategy[tuple[Block, Shape]]:
    """A block and a shape that it takes.

    >>> from hypothesis import find
    >>> find(blocks_with_shapes(["MaxPool"]), lambda drawn: True)
    (MaxPool(1), (1, 1))
    """
    chosen = tuple(DRAWN if names is None else names)

    def taken(shape: Shape) -> bool:
        return any(ROWS[name].fits(shape) for name in chosen)

    drawn: Any = shapes(ranks).filter(taken)
    pairs: st.SearchStrategy[tuple[Block, Shape]] = drawn.flatmap(
        lambda shape: st.tuples(blocks(shape, chosen, extra), st.just(shape))
    )
    return pairs


def chains(
    shape: Shape, names: Iterable[str] | None = None, most: int = 6, extra: Extra = ()
) -> st.SearchStrategy[Chain]:
    """Chains that take a shape, nested at will.

    >>> from hypothesis import find
    >>> find(chains((1, 5, 5)), lambda chain: True)
    Chain(Identity())

    Args:
        shape: `(C, *spatial)`.
        names: keys of `ROWS`; by default those in `DRAWN`.
        most: how many blocks a chain has at most, nested chains' blocks counted.
        extra: block classes of your own, or strategies of blocks.
    """
    return _chains(shape, None if names is None else tuple(names), most, tuple(extra))


@st.composite
def _chains(draw: Any, shape: Shape, names: tuple[str, ...] | None, most: int, extra: tuple[Any, ...]) -> Chain:
    links: list[Block] = [draw(blocks(shape, names, extra))]
    shape = links[0].output_shape(shape)
    while len(links) < most and prod(shape) <= LARGEST and draw(_GO_ON):
        links.append(draw(blocks(shape, names, extra)))
        shape = links[-1].output_shape(shape)
    return Chain(*_gathered(draw, links, depth=2))


def chains_with_shapes(
    names: Iterable[str] | None = None, ranks: Sequence[int] = (1, 2, 3), most: int = 6, extra: Extra = ()
) -> st.SearchStrategy[tuple[Chain, Shape]]:
    """A chain and a shape that it takes.

    >>> from hypothesis import find
    >>> find(chains_with_shapes(), lambda drawn: len(drawn[0]) == 2)
    (Chain(Identity(), Identity()), (1, 1))
    """
    names = None if names is None else tuple(names)
    return shapes(ranks).flatmap(lambda shape: st.tuples(chains(shape, names, most, extra), st.just(shape)))


@st.composite
def _autoencoders(draw: Any, names: tuple[str, ...] | None, ranks: Sequence[int], extra: tuple[Any, ...]) -> Any:
    from obverse.model import Autoencoder

    chain, shape = draw(chains_with_shapes(names, ranks, most=4, extra=extra))
    options: dict[str, Any] = {"output": draw(st.sampled_from([None, Sigmoid()]))}
    options["upsampling"] = draw(st.sampled_from(["transpose", "resize", "subpixel"]))
    if options["upsampling"] == "transpose" and draw(_UNLESS):
        with suppress(ShapeError):  # a layer says itself that it is mirrored in another style
            return Autoencoder(chain, shape, tied=True, **options)
    return Autoencoder(chain, shape, **options)


def autoencoders(
    names: Iterable[str] | None = None, ranks: Sequence[int] = (1, 2, 3), extra: Extra = ()
) -> st.SearchStrategy[Autoencoder]:
    """Built models, with an output, in a style of upsampling, or tied.

    >>> from hypothesis import find
    >>> find(autoencoders(["Conv"]), lambda model: True).encoder.block
    Chain(Conv(1, 1))

    Args:
        names: keys of `ROWS`; by default those in `DRAWN`.
        ranks: the numbers of spatial axes to draw from.
        extra: block classes of your own, or strategies of blocks.
    """
    return _autoencoders(None if names is None else tuple(names), tuple(ranks), tuple(extra))


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
