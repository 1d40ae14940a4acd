"""The laws that speak of values: adjoint, any size, local; and what blocks say about costs and sights."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse import (
    AvgPool,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    MaxPool,
    NearestUnpool,
    Pad,
    Parallel,
    Rearrange,
    ReLU,
    Residual,
    Skip,
    Tanh,
    Unflatten,
)
from obverse.arithmetic import window_of
from obverse.testing.checks import check_adjoint, check_any_size, check_multiply_adds
from obverse.testing.strategies import DRAWN, blocks_with_shapes, chains_with_shapes, graphs, shapes, sizes
from running import ALL_RANKS, fits, leaves, parts

LINEAR = (
    *("Conv", "ConvTranspose", "Linear", "Flatten", "Unflatten", "Pad", "Crop"),
    *("PixelShuffle", "PixelUnshuffle", "Rearrange"),
)
WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AvgPool", "Pad", "Crop")
ANY_SIZE = tuple(name for name in DRAWN if name not in ("Linear", "Flatten", "Unflatten", "NearestUnpool"))

branching = shapes(ALL_RANKS).flatmap(lambda shape: st.tuples(graphs(shape, depth=2), st.just(shape)))
either = blocks_with_shapes(ranks=ALL_RANKS) | chains_with_shapes(ranks=ALL_RANKS) | branching


# 3. Adjoint --------------------------------------------------------------------------------------------------------


@st.composite
def linear_branches(draw):
    """Convolutions of the same arithmetic, side by side."""
    conv, shape = draw(blocks_with_shapes(["Conv"]))
    other = replace(conv, groups=1)
    if draw(st.booleans()):
        return Residual(conv, draw(st.sampled_from([other, Chain(other)]))), shape
    join = draw(st.sampled_from(["add", "concat"]))
    if shape[0] > 1 and draw(st.booleans()):
        return Parallel(other, other, fan=(1, shape[0] - 1), join=join), shape
    return Parallel(conv, Chain(other, Conv(conv.out_channels, 1)), other, join=join), shape


@given(blocks_with_shapes(LINEAR, ALL_RANKS) | chains_with_shapes(LINEAR, ALL_RANKS) | linear_branches())
@example((Conv(1, 3, stride=2, padding=1), (1, 4)))
@example((Conv(2, 4, padding="same"), (2, 5, 5)))
@example((Conv(2, (4, 3), stride=2, padding="same", dilation=(1, 2)), (2, 5, 6)))
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 3)))
@example((Chain(Pad((2, 0)), Conv(2, 2, stride=3)), (1, 6)))
@example((Parallel(Conv(1, 1), Chain(Conv(1, 1), Conv(1, 1))), (2, 3)))
@example((Chain(Chain(Linear(1), Linear(2))), (1,)))
@example((Chain(Residual(Conv(2, 3, stride=2, padding=1)), Residual(Conv(2, 3, padding=1))), (1, 6)))
def test_with_the_same_weights_the_mirror_is_the_adjoint(drawn):
    block, shape = drawn
    assume(all(part.adjoint for part in parts(block)))
    assert block.adjoint
    check_adjoint(block, shape)


# 4. Any size -------------------------------------------------------------------------------------------------------


@st.composite
def models(draw, names=None):
    chain, shape = draw(chains_with_shapes(names))
    return chain, shape, (shape[0], *(draw(sizes(most=6 if len(shape) == 4 else 14)) for _ in shape[1:]))


@given(models(ANY_SIZE) | models())
@example((Chain(Conv(2, 4, stride=3, padding="same")), (1, 5, 7), (1, 6, 4)))
@example((Chain(Chain(MaxPool(3, stride=2, padding=1, dilation=2), ReLU()), Conv(2, 1)), (1, 9, 9), (1, 6, 8)))
@example((Chain(ConvTranspose(1, 2, output_padding=1, dilation=2), Tanh()), (1, 3), (1, 5)))
@example((Chain(Unflatten(2, (-1, 2))), (2, 4), (2, 6)))
@example((Chain(Flatten(2), Conv(3, 1)), (2, 3, 4), (2, 4, 3)))
@example((Chain(Flatten(), Linear(3)), (2, 3, 4), (2, 4, 3)))
@example((Chain(Rearrange("c h w -> (h w) c"), Linear(3)), (2, 3, 4), (2, 5, 3)))
@example((Chain(LayerNorm(channels="last"), Conv(1, 1)), (2, 3), (2, 4)))
@example((Chain(Skip(), Conv(1, 3, stride=2), MaxPool(2, return_indices=True)), (2, 7, 8), (2, 8, 9)))
@example((Chain(Residual(Chain(Conv(2, 3, stride=2, padding=1), ReLU()))), (2, 7), (2, 8)))
@example((Chain(NearestUnpool((1,))), (1, 2), (1, 1)))
@example((Chain(Identity(), Conv(1, 1), NearestUnpool((1, 1))), (1, 1, 1), (1, 1, 2)))
def test_one_model_restores_every_size_as_a_model_built_for_it_does(drawn):
    chain, planned, shape = drawn
    if fits(chain, planned, shape):
        event("another size" if shape != planned else "the planned size")
    else:
        event("refused")
    check_any_size(chain, planned, shape)


# 5. Local ----------------------------------------------------------------------------------------------------------


IMPULSES = [
    (Chain(MaxPool(2)), (1, 27)),
    (Chain(Conv(1, 4, padding="same")), (1, 6)),
    (Chain(MaxPool(2, stride=3, dilation=2)), (1, 12)),
    (Chain(Pad((2, 0)), Conv(1, 3, stride=2)), (1, 9)),
]


@given(chains_with_shapes(WINDOWED, most=4))
@example(IMPULSES[0])
@example(IMPULSES[1])
@example(IMPULSES[2])
@example(IMPULSES[3])
def test_an_impulse_in_the_code_stays_where_its_windows_were(drawn):
    """Every cell that a cell of the code reaches is one that it saw; cells that no window saw are not asked about."""
    chain, shape = drawn
    chain, shape = _of_one_channel(chain), (1, *shape[1:])
    assume(all(block.adjoint for block in chain if isinstance(block, Conv)))
    assume(all(block.adjoint for block in chain if isinstance(block, Pad)))
    sees, reaches = _footprints(chain, shape)
    assert sees.shape == reaches.T.shape
    assert not torch.any((reaches.T != 0) & (sees == 0))


@pytest.mark.parametrize(("chain", "shape"), IMPULSES)
def test_an_impulse_in_the_code_reaches_something(chain, shape):
    """Not so for every chain: a crop may drop the window that a cell would take its value from."""
    _, reaches = _footprints(chain, shape)
    assert torch.all(reaches.sum(0) > 0)


def _footprints(chain, shape):
    """Which cells each cell of the code saw, and which cells it reaches."""
    sees = reaches = torch.eye(_cells(shape))
    for block, before, after in zip(chain, chain.shapes(shape), chain.shapes(shape)[1:], strict=False):
        seen = _matrix(_seeing(block, before), before)
        back = _matrix(_of_ones(block.mirror(before).build(after)), after)
        back[seen.sum(0) == 0] = 0
        sees, reaches = seen @ sees, reaches @ back
    return sees, reaches


def _of_one_channel(chain):
    return Chain(*map(_alone, leaves(chain)))


def _alone(block):
    if isinstance(block, (Conv, ConvTranspose)):
        return replace(block, out_channels=1, groups=1)
    return replace(block, return_indices=False) if isinstance(block, MaxPool) else block


def _cells(shape):
    return torch.Size(shape).numel()


def _of_ones(module):
    for name, parameter in module.named_parameters():
        nn.init.constant_(parameter, 0 if name.endswith("bias") else 1)
    return module


def _seeing(block, shape):
    """A module that adds up what a block's windows see."""
    if not isinstance(block, (MaxPool, AvgPool)):
        return _of_ones(block.build(shape))
    rank = len(shape) - 1
    kernel, padding = _each(block.kernel_size, rank), _each(block.padding, rank)
    stride = kernel if block.stride is None else _each(block.stride, rank)
    pads = [amount for k, s, p in zip(kernel, stride, padding, strict=True) for amount in (p + s + k, p)][::-1]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    kept = (..., *(slice(size) for size in block.output_shape(shape)[1:]))
    dilation = getattr(block, "dilation", 1)
    return lambda x: convolve(F.pad(x, pads), torch.ones(1, 1, *kernel), None, stride, 0, dilation)[kept]


def _each(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def _matrix(module, shape):
    """What a linear module does to a single example, as a matrix."""
    with torch.no_grad():
        return module(torch.eye(_cells(shape)).unflatten(1, shape)).flatten(1).T


@given(blocks_with_shapes(["MaxPool"]))
@example((MaxPool(2), (1, 27)))
@example((MaxPool(2, stride=3, padding=1, dilation=2), (1, 12)))
def test_unpooling_gives_every_cell_the_value_of_a_window_that_covers_it(drawn):
    pool, shape = drawn
    pool = replace(pool, return_indices=False)
    after, rank = pool.output_shape(shape), len(shape) - 1
    pooled = torch.arange(_cells(after)).reshape(1, *after).float()
    unpool = pool.mirror(shape)
    assert isinstance(unpool, NearestUnpool)
    kernel, padding, dilation = (_each(v, rank) for v in (pool.kernel_size, pool.padding, pool.dilation))
    stride = kernel if pool.stride is None else _each(pool.stride, rank)
    expected = pooled
    for axis, setting in enumerate(zip(after[1:], kernel, stride, padding, dilation, strict=True)):
        windows = [window_of(cell, *setting) for cell in range(shape[axis + 1])]
        expected = expected.index_select(axis + 2, torch.tensor(windows))
    assert torch.equal(unpool.build(after)(pooled), expected)


@given(blocks_with_shapes(["MaxPool"]))
def test_unpooling_by_places_puts_every_value_back_where_it_was_the_largest(drawn):
    pool, shape = drawn
    pool = replace(pool, return_indices=True)
    around = []
    x = 1 + torch.rand(2, *shape)
    pooled = pool.build(shape)(x, around=around)
    places = around[0].flatten(2)
    assume(bool((places >= 0).all()) and bool((pooled > 0).all()))  # a dilated window may lie in the padding alone
    restored = pool.mirror(shape).build(pool.output_shape(shape))(pooled, around=around)
    chosen = torch.zeros(2, shape[0], _cells(shape[1:])).scatter(2, places, 1).reshape(x.shape)
    assert torch.equal(restored, x * chosen)


# Costs and sights --------------------------------------------------------------------------------------------------


@given(either)
@example((ConvTranspose(4, 3, stride=2, padding="same", groups=2), (2, 4, 5)))
@example((Chain(Skip(), Conv(2, 3)), (2, 4, 5)))
def test_multiply_adds_are_half_of_the_operations_that_pytorch_counts(drawn):
    block, shape = drawn
    check_multiply_adds(block, shape)
    check_multiply_adds(block.mirror(shape), block.output_shape(shape))


@given(chains_with_shapes(ranks=ALL_RANKS))
def test_a_plan_says_what_its_blocks_say(drawn):
    chain, shape = drawn
    plan = chain.plan(shape)
    assert [step.block for step in plan.steps] == leaves(chain)
    assert [plan.input_shape, *(step.output_shape for step in plan.steps)] == chain.shapes(shape)
    assert plan.output_shape == chain.output_shape(shape)
    assert plan.parameters == chain.parameters(shape) == sum(p.numel() for p in chain.build(shape).parameters())
    assert plan.multiply_adds == chain.multiply_adds(shape)
    for step in plan.steps:
        assert step.input_shape == shape
        assert step.output_shape == step.block.output_shape(shape)
        assert step.parameters == step.block.parameters(shape)
        assert step.block is _at_place(chain, step.place)
        assert len(step.receptive_field) == len(step.jump) == len(step.start) == len(plan.input_shape) - 1
        shape = step.output_shape
    assert {f"{plan.parameters:,}", f"{plan.multiply_adds:,}"} <= set(str(plan).split())


def _at_place(chain, place):
    for at in place.split("."):
        chain = chain[int(at)]
    return chain


@given(chains_with_shapes(("Conv", "MaxPool", "AvgPool", "Pad", "Crop"), most=4))
@example((Chain(Conv(1, 3, stride=2, padding=1), Conv(1, 3, stride=2, padding=1)), (1, 12)))
@example((Chain(Conv(1, 2, dilation=3, padding=1), Pad((2, -1))), (1, 9)))
def test_a_cell_sees_what_the_plan_says(drawn):
    """Cells of the padding counted: so no cell sees more, and one that sees none of the padding sees just as much."""
    chain, shape = drawn
    chain, shape = _of_one_channel(chain), (1, *shape[1:])
    assume(all(block.adjoint for block in chain if isinstance(block, Conv)))
    assume(all(block.adjoint for block in chain if isinstance(block, Pad)))
    sees = torch.eye(_cells(shape))
    for block, before in zip(chain, chain.shapes(shape), strict=False):
        sees = _matrix(_seeing(block, before), before) @ sees
    step = chain.plan(shape).steps[-1]
    sees = sees.reshape(*step.output_shape[1:], *shape[1:])
    rank = len(shape) - 1
    for axis in range(rank):
        others = [dim for dim in range(2 * rank) if dim not in (axis, rank + axis)]
        along = sees.sum(others) if others else sees
        for cell, row in enumerate(along):
            seen = row.nonzero().flatten().tolist()
            middle = step.start[axis] + cell * step.jump[axis]
            first, last = (middle + way * (step.receptive_field[axis] - 1) / 2 for way in (-1, 1))
            assert all(first <= place <= last for place in seen)
            if seen and first >= 0 and last < shape[axis + 1] and not _moves_cells(chain):
                assert (first, last) == (seen[0], seen[-1])


def _moves_cells(chain):
    """Whether cells are cropped away, or padded and seen again, between one layer and the next."""
    return any(isinstance(block, (Pad, Crop)) or getattr(block, "padding", 0) not in (0, (0,)) for block in chain)
