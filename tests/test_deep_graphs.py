"""The laws again, for branches nested up to eight deep: each depth wraps what is there in a way around it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from obverse import AdaptiveAvgPool, Autoencoder, Chain, Conv, Identity, Parallel, ReLU, Residual
from obverse.testing.strategies import graphs, shapes
from running import fits, run

DEEPEST = 8


def ending_as(block, shape):
    """A plain way that ends in the same shape as a block: for a sum, or a concatenation, with it."""
    after = block.output_shape(shape)
    return Identity() if after == shape else Chain(Conv(after[0], 1), AdaptiveAvgPool(after[1:]))


@st.composite
def wrapped(draw, block, shape):
    joinable = len(block.output_shape(shape)) == len(shape)
    kind = draw(st.sampled_from(["residual", "add", "concat"] if joinable else ["alone"]))
    if kind == "residual":
        return Residual(Chain(block, ReLU()), ending_as(block, shape))
    if kind == "alone":
        return Parallel(block)
    ways = draw(st.permutations([block, ending_as(block, shape)]))
    return Parallel(*ways, join=kind if block.output_shape(shape)[0] <= 64 else "add")


@st.composite
def deep_graphs(draw):
    shape = draw(shapes())
    block = draw(graphs(shape, depth=1))
    for _ in range(draw(st.integers(2, DEEPEST - 1))):
        block = draw(wrapped(block, shape))
    return block, shape


@given(deep_graphs())
def test_promise_and_mirror_hold_however_deep_branches_nest(drawn):
    block, shape = drawn
    after, mirror, around = block.output_shape(shape), block.mirror(shape), []
    assert run(block.build(shape), shape, around) == (2, *after)
    assert mirror.output_shape(after) == shape
    assert run(mirror.build(after), after, around) == (2, *shape)
    assert around == []
    assert mirror.mirror(after).output_shape(shape) == after


@given(deep_graphs(), st.integers(1, 3))
@settings(max_examples=max(settings.default.max_examples // 3, 10))
def test_one_model_restores_other_sizes_however_deep_branches_nest(drawn, more):
    block, shape = drawn
    model = Autoencoder(block, shape)
    other = (shape[0], *(size + more for size in shape[1:]))
    if fits(Chain(block), shape, other):
        with torch.no_grad():
            reconstruction, code = model(torch.rand(2, *other))
        assert tuple(code.shape[1:]) == block.output_shape(other)
        assert tuple(reconstruction.shape[1:]) == other
