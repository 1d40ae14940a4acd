"""The laws that speak of shapes: promise, mirror, same tree; and that blocks are values.

Every law is a statement about a block and a shape that it takes, so it holds for whatever the strategies learn to draw.
"""

import copy
import pickle
from itertools import groupby, product

import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from torch import nn

import obverse
from obverse import (
    AdaptiveAvgPool,
    Autoencoder,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    GroupNorm,
    Identity,
    LayerNorm,
    LPPool,
    MaxPool,
    MaxUnpool,
    Pad,
    Parallel,
    PixelShuffle,
    Rearrange,
    ReLU,
    Residual,
    RMSNorm,
    Skip,
    Tanh,
    Unflatten,
    mirror,
)
from obverse.registry import BUILT_IN
from obverse.testing.checks import (
    check_around,
    check_device,
    check_mirror,
    check_mirrored_twice,
    check_parameters,
    check_promise,
    check_refusals,
)
from obverse.testing.strategies import (
    DRAWN,
    ROWS,
    blocks_with_shapes,
    chains_with_shapes,
    graphs,
    nestings,
    shapes,
    sizes,
)
from running import ALL_RANKS, fits, leaves, outcome, parts

SYMMETRIC = (
    *("Conv", "ConvTranspose", "Linear", "Flatten", "Unflatten", "Pad", "Crop"),
    *("PixelShuffle", "PixelUnshuffle", "Rearrange"),
)

branching = shapes(ALL_RANKS).flatmap(lambda shape: st.tuples(graphs(shape, depth=2), st.just(shape)))
either = blocks_with_shapes(ranks=ALL_RANKS) | chains_with_shapes(ranks=ALL_RANKS) | branching


def test_every_built_in_block_is_drawn():
    assert set(ROWS) == set(BUILT_IN) - {"Chain", "Graph"}
    assert set(ROWS) - set(DRAWN) == {"MaxUnpool", "Rejoin"}


# 1. Promise --------------------------------------------------------------------------------------------------------


@given(either)
@example((ConvTranspose(2, 3, stride=2, padding="same", output_padding=1), (1, 4, 5)))
@example((AvgPool(3, stride=3, padding=1, ceil_mode=True), (1, 3, 4, 5)))
@example((AdaptiveAvgPool(None), (1, 3)))
@example((LPPool(2, (2,)), (1, 3)))
def test_the_predicted_shape_is_the_one_that_the_module_gives(drawn):
    check_promise(*drawn)
    check_parameters(*drawn)
    check_device(*drawn)


@st.composite
def held_against_another_shape(draw):
    """A block with a shape that it takes, and another; mostly a smaller one, where refusals are."""
    block, shape = draw(either)
    return block, shape, (shape[0], *(draw(sizes(most=3) | sizes()) for _ in shape[1:]))


@given(held_against_another_shape())
@example((Pad(1, mode="reflect"), (1, 2), (1, 1)))
@example((Crop((-2, 2)), (1, 3), (1, 1)))
@example((Unflatten(2, (-1,)), (1, 2), (1, 3)))
@example((LayerNorm(elementwise_affine=False, channels="last"), (1, 2), (1, 3)))
@example((RMSNorm(elementwise_affine=False, channels="last"), (1, 2), (1, 3)))
@example((ConvTranspose(1, 1, stride=2, padding=1), (1, 3), (1, 1)))
def test_it_refuses_exactly_the_shapes_that_the_module_refuses(drawn):
    block, _, other = drawn
    event("refused" if outcome(block.output_shape, other) is None else "accepted")
    check_refusals(*drawn)


def test_channels_are_refused_where_pytorch_refuses_them():
    for channels, out, groups in product(range(1, 9), range(1, 5), range(1, 6)):
        pairs = [
            (Conv(out, 1, groups=groups), lambda c=channels, o=out, g=groups: nn.Conv1d(c, o, 1, groups=g)),
            (
                ConvTranspose(out, 1, groups=groups),
                lambda c=channels, o=out, g=groups: nn.ConvTranspose1d(c, o, 1, groups=g),
            ),
            (GroupNorm(groups), lambda c=channels, g=groups: nn.GroupNorm(g, c)),
        ]
        for block, layer in pairs:
            taken = outcome(block.output_shape, (channels, 3)) is not None
            assert taken == (outcome(layer) is not None), (block, channels)
        shuffled = outcome(nn.PixelShuffle(groups), torch.zeros(1, channels, 2, 2))
        assert outcome(PixelShuffle(groups).output_shape, (channels, 2, 2)) == (
            None if shuffled is None else tuple(shuffled.shape[1:])
        )


# 2. Mirror ---------------------------------------------------------------------------------------------------------


@given(either)
@example((Conv(1, 1, stride=4), (1, 4)))
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 1)))
@example((MaxPool(3, stride=2, padding=1, ceil_mode=True), (2, 6, 7)))
@example((MaxPool(2, return_indices=True), (2, 5, 7)))
@example((Chain(Skip(), Conv(3, 3, stride=2), MaxPool(2, return_indices=True), Skip("add")), (2, 9, 8)))
@example((Residual(Chain(Conv(3, 3, stride=2, padding=1), GroupNorm(1), ReLU())), (2, 5, 6)))
def test_the_mirror_takes_every_accepted_shape_back(drawn):
    block, shape = drawn
    check_mirror(block, shape)
    if block.around:
        check_around(block, shape)


@given(either)
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 3)))
@example((Conv(2, 4, padding="same"), (2, 5)))
@example((Parallel(Conv(2, 1), Conv(1, 1), join="concat"), (3, 4)))
def test_mirrored_twice_it_maps_the_same_two_shapes(drawn):
    check_mirrored_twice(*drawn)


@given(blocks_with_shapes(["MaxUnpool", "Rejoin"]))
@example((MaxUnpool(2, stride=1, padding=1, dilation=2, size=(1,)), (1, 1)))
def test_what_takes_from_round_the_code_has_an_exact_mirror_too(drawn):
    check_promise(*drawn)
    check_mirror(*drawn)
    check_mirrored_twice(*drawn)


@given(blocks_with_shapes(SYMMETRIC, ALL_RANKS) | chains_with_shapes(SYMMETRIC, ALL_RANKS))
@example((Rearrange("c (h p) (w q) -> (c p q) h w", p=2, q=2), (1, 4, 6)))
@example((Rearrange("c h w -> (h w) c"), (3, 4, 6)))
def test_mirrored_twice_a_symmetric_block_is_the_first_again(drawn):
    block, shape = drawn
    after = block.output_shape(shape)
    links = leaves(block)
    shapes = block.shapes(shape) if isinstance(block, Chain) else [shape]
    assume(all(_is_symmetric(link) for link in links))
    twice = block.mirror(shape).mirror(after)
    if all(_is_plainly_written(link, at) for link, at in zip(links, shapes, strict=False)):
        event("as a value")
        assert twice == block
    once_more = twice.mirror(shape)
    assert once_more == block.mirror(shape)
    assert once_more.mirror(after) == twice


def _is_symmetric(block):
    if isinstance(block, (Conv, ConvTranspose)) and isinstance(block.padding, str):
        return False
    if isinstance(block, ConvTranspose):  # one with cells behind that no stride reached comes back from a crop
        told = block.output_padding if isinstance(block.output_padding, tuple) else [block.output_padding]
        stride = block.stride if isinstance(block.stride, tuple) else [block.stride] * len(told)
        return all(a < s for a in told for s in stride)
    return block.adjoint


def _is_plainly_written(block, shape):
    """Whether it says what it does as a mirror would."""
    if isinstance(block, Conv):  # the style in which it was to be mirrored, a mirror has no use for
        return block.upsampling is None
    if isinstance(block, ConvTranspose):
        return not isinstance(block.output_padding, tuple) or len(set(block.output_padding)) > 1
    if isinstance(block, Flatten):
        return block.start_dim > 0 and (block.end_dim == -1 or 0 < block.end_dim < len(shape))
    if isinstance(block, Unflatten):
        return block.dim > 0 and -1 not in block.unflattened_size
    if isinstance(block, Rearrange):  # which of two lengths is told can change
        return not block.lengths
    return True


# 6. Same tree ------------------------------------------------------------------------------------------------------


@st.composite
def flat_and_nested(draw):
    chain, shape = draw(chains_with_shapes(ranks=ALL_RANKS))
    return Chain(*leaves(chain)), draw(nestings(leaves(chain))), shape


STAGES = (Conv(2, 1), BatchNorm(), ReLU(), Conv(3, 1))


@given(flat_and_nested())
@example((Chain(*STAGES), Chain(Chain(*STAGES[:2]), Chain(*STAGES[2:])), (1, 2)))
def test_nesting_does_not_change_a_network(drawn):
    flat, nested, shape = drawn
    assert leaves(nested.mirror(shape)) == leaves(flat.mirror(shape))
    assert leaves(mirror(nested, shape)) == leaves(mirror(flat, shape))
    assert list(nested.parameter_shapes(shape).values()) == list(flat.parameter_shapes(shape).values())
    assert nested.multiply_adds(shape) == flat.multiply_adds(shape)
    assert [step[1:] for step in nested.plan(shape).steps] == [step[1:] for step in flat.plan(shape).steps]
    ours, theirs = (Autoencoder(chain, shape, device="meta").state_dict() for chain in (nested, flat))
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]


@given(chains_with_shapes(ranks=ALL_RANKS))
@example((Chain(Residual(Chain(Conv(2, 1), Tanh())), Residual(Conv(2, 1))), (2, 3)))
def test_a_decoder_keeps_every_activation_but_those_at_its_ends(drawn):
    chain, shape = drawn
    runs = [list(run) for _, run in groupby(leaves(chain), key=_run_of)]
    inner = [run for run in runs[1:-1] if run[0].pointwise]
    decoder = leaves(mirror(chain, shape))
    if all(run[0].pointwise for run in runs):
        assert decoder == [Identity()]
        return
    assert [type(block) for block in decoder if block.pointwise] == [type(b) for run in reversed(inner) for b in run]
    branches = [leaf for leaf in leaves(chain) if isinstance(leaf, (Residual, Parallel))]
    mirrored = [leaf for leaf in decoder if isinstance(leaf, (Residual, Parallel))]
    assert [_activations(leaf) for leaf in mirrored] == [_activations(leaf) for leaf in reversed(branches)]


def _run_of(block):
    return True if block.pointwise else id(block)


def _activations(block):
    """How many blocks of each kind act pointwise in the branches."""
    return sorted(type(part).__name__ for part in parts(block) if part.pointwise and part != Identity())


@st.composite
def at_two_shapes(draw):
    chain, shape = draw(chains_with_shapes())
    return chain, shape, (shape[0], *(draw(sizes(most=6 if len(shape) == 4 else 14)) for _ in shape[1:]))


@given(at_two_shapes())
@example((Chain(Conv(2, 3, stride=2, padding=1)), (1, 5), (1, 6)))
@example((Chain(MaxPool(2)), (1, 4), (1, 5)))
@example((Chain(Conv(1, 4, padding="same")), (1, 4), (1, 5)))
@example((Chain(ConvTranspose(1, 1, output_padding=1, dilation=2)), (1, 4), (1, 5)))
@example((Chain(Residual(Conv(1, 3, stride=2, padding=1))), (1, 1, 1), (1, 4, 5)))
def test_the_structure_of_a_mirror_does_not_depend_on_the_size(drawn):
    chain, shape, other = drawn
    assume(fits(chain, shape, other))
    here, there = mirror(chain, shape), mirror(chain, other)
    assert [type(part) for part in parts(here)] == [type(part) for part in parts(there)]
    code, other_code = chain.output_shape(shape), chain.output_shape(other)
    assert here.parameter_shapes(code) == there.parameter_shapes(other_code)


# Blocks are values -------------------------------------------------------------------------------------------------


@given(either)
def test_a_block_is_a_value(drawn):
    block, shape = drawn
    named = {name: getattr(obverse, name) for name in dir(obverse)}
    for value, at in ((block, shape), (block.mirror(shape), block.output_shape(shape))):
        for twin in (eval(repr(value), {}, named), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert twin == value
            assert hash(twin) == hash(value)
            assert repr(twin) == repr(value)
            assert twin.output_shape(at) == value.output_shape(at)


@given(either, either)
def test_blocks_are_equal_where_they_say_the_same(one, other):
    assert (one[0] == other[0]) == (repr(one[0]) == repr(other[0]))
