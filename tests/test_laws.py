"""The six laws of the mirror, as properties of blocks and chains, each an assertion with the law's name.

Every law is a plain function of a block and a shape, so that it holds for whatever the strategies learn to draw.
"""

import copy
import pickle
from dataclasses import replace
from itertools import groupby

import obverse
import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from obverse import (
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    Identity,
    Linear,
    MaxPool,
    NearestUnpool,
    Pad,
    ReLU,
    ShapeError,
    Tanh,
    Unflatten,
    Upsample,
    mirror,
)
from obverse.arithmetic import window_of
from obverse.model import Autoencoder
from obverse.registry import BUILT_IN, block_class
from obverse.testing.strategies import ROWS, blocks_with_shapes, chains, chains_with_shapes, nestings, sizes
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

ALL_RANKS = (0, 1, 2, 3)
LINEAR = ("Conv", "ConvTranspose", "Linear", "Flatten", "Unflatten", "Pad", "Crop")
WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AvgPool", "Pad", "Crop")
ANY_SIZE = tuple(name for name in ROWS if name not in ("Linear", "Flatten", "Unflatten", "NearestUnpool"))

either = blocks_with_shapes(ranks=ALL_RANKS) | chains_with_shapes(ranks=ALL_RANKS)


def run(module, shape):
    """The shape that a module gives, asked as the promise says: a batch of two, in training mode."""
    with torch.no_grad():
        return tuple(module.train()(torch.rand(2, *shape)).shape)


def run_on_meta(block, shape):
    """The same without numbers; in evaluation mode, since `BatchNorm(momentum=None)` counts its batches as a number."""
    with torch.no_grad(), torch.device("meta"):
        return tuple(block.build(shape).eval()(torch.rand(2, *shape)).shape)


def leaves(block):
    return [link.block for link in block.links] if isinstance(block, Chain) else [block]


def test_every_built_in_block_is_drawn():
    assert set(ROWS) == set(BUILT_IN) - {"Chain"}


# 1. Promise --------------------------------------------------------------------------------------------------------


@given(either)
@example((ConvTranspose(2, 3, stride=2, padding="same", output_padding=1), (1, 4, 5)))
@example((AvgPool(3, stride=3, padding=1, ceil_mode=True), (1, 3, 4, 5)))
def test_the_predicted_shape_is_the_one_that_the_module_gives(drawn):
    block, shape = drawn
    predicted = block.output_shape(shape)
    module = block.build(shape)
    assert run(module, shape) == (2, *predicted)
    assert block.parameter_shapes(shape) == {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert block.parameters(shape) == sum(p.numel() for p in module.parameters())
    assert run_on_meta(block, shape) == (2, *predicted)


@st.composite
def held_against_another_shape(draw):
    """A block with a shape that it takes, and another; mostly a smaller one, where refusals are."""
    block, shape = draw(either)
    return block, shape, (shape[0], *(draw(sizes(most=3) | sizes()) for _ in shape[1:]))


@given(held_against_another_shape())
@example((Pad(1, mode="reflect"), (1, 2), (1, 1)))
@example((Crop((-2, 2)), (1, 3), (1, 1)))
@example((Unflatten(2, (-1,)), (1, 2), (1, 3)))
@example((ConvTranspose(1, 1, stride=2, padding=1), (1, 3), (1, 1)))
def test_it_refuses_exactly_the_shapes_that_the_module_refuses(drawn):
    block, shape, other = drawn
    accepted = _outcome(block.output_shape, other)
    assume(not any(isinstance(leaf, NearestUnpool) for leaf in leaves(block)))  # its module takes whatever it gets
    assume(accepted is None or block.parameter_shapes(shape) == block.parameter_shapes(other))
    event("refused" if accepted is None else "accepted")
    shapes = block.shapes(shape) if isinstance(block, Chain) else [shape]
    layers = [leaf.build(at) for leaf, at in zip(leaves(block), shapes, strict=False)]
    assert _outcome(_step_by_step, layers, other) == accepted


def _step_by_step(layers, shape):
    for layer in layers:
        shape = run(layer, shape)[1:]
        if 0 in shape:
            raise ShapeError("PyTorch gives out tensors without a cell, and a shape has at least one an axis.")
    return shape


def _outcome(function, *arguments):
    try:
        return function(*arguments)
    except (ShapeError, RuntimeError, ValueError):
        return None


# 2. Mirror ---------------------------------------------------------------------------------------------------------


@given(either)
@example((Conv(1, 1, stride=4), (1, 4)))
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 1)))
@example((MaxPool(3, stride=2, padding=1, ceil_mode=True), (2, 6, 7)))
def test_the_mirror_takes_every_accepted_shape_back(drawn):
    block, shape = drawn
    after = block.output_shape(shape)
    back = block.mirror(shape)
    assert back.output_shape(after) == shape
    assert run(back.build(after), after) == (2, *shape)
    whole = mirror(block, shape)
    assert whole.output_shape(after) == shape
    assert run(whole.build(after), after) == (2, *shape)


@given(either)
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 3)))
@example((Conv(2, 4, padding="same"), (2, 5)))
def test_mirrored_twice_it_maps_the_same_two_shapes(drawn):
    block, shape = drawn
    after = block.output_shape(shape)
    twice = block.mirror(shape).mirror(after)
    assert twice.output_shape(shape) == after
    assert run(twice.build(shape), shape) == (2, *after)


@given(blocks_with_shapes(LINEAR, ALL_RANKS) | chains_with_shapes(LINEAR, ALL_RANKS))
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
    if isinstance(block, ConvTranspose):
        return not isinstance(block.output_padding, tuple) or len(set(block.output_padding)) > 1
    if isinstance(block, Flatten):
        return block.start_dim > 0 and (block.end_dim == -1 or 0 < block.end_dim < len(shape))
    if isinstance(block, Unflatten):
        return block.dim > 0 and -1 not in block.unflattened_size
    return True


# 3. Adjoint --------------------------------------------------------------------------------------------------------


@given(blocks_with_shapes(LINEAR, ALL_RANKS) | chains_with_shapes(LINEAR, ALL_RANKS))
@example((Conv(1, 3, stride=2, padding=1), (1, 4)))
@example((Conv(2, 4, padding="same"), (2, 5, 5)))
@example((Conv(2, (4, 3), stride=2, padding="same", dilation=(1, 2)), (2, 5, 6)))
@example((ConvTranspose(1, 1, output_padding=1, dilation=2), (1, 3)))
@example((Chain(Pad((2, 0)), Conv(2, 2, stride=3)), (1, 6)))
def test_with_the_same_weights_the_mirror_is_the_adjoint(drawn):
    block, shape = drawn
    block = _without_bias(block)
    assume(all(leaf.adjoint for leaf in leaves(block)))
    after = block.output_shape(shape)
    there = block.build(shape).double()
    back = block.mirror(shape).build(after).double()
    _share_weights(there, back)
    x, y = torch.randn(2, *shape, dtype=torch.double), torch.randn(2, *after, dtype=torch.double)
    torch.testing.assert_close((there(x) * y).sum(), (x * back(y)).sum(), rtol=1e-9, atol=1e-9)


def _without_bias(block):
    if isinstance(block, Chain):
        return Chain(*map(_without_bias, block))
    return replace(block, bias=False) if hasattr(block, "bias") else block


def _share_weights(there, back):
    ours = [module for module in there.modules() if hasattr(module, "weight")]
    theirs = [module for module in back.modules() if hasattr(module, "weight")]
    for mine, its in zip(ours, reversed(theirs), strict=True):
        weight = mine.weight.T if isinstance(mine, nn.Linear) else mine.weight
        its.weight = nn.Parameter(weight.detach().clone())


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
def test_one_model_restores_every_size_as_a_model_built_for_it_does(drawn):
    chain, planned, shape = drawn
    model = Autoencoder(chain, planned, dtype=torch.double).eval()
    x = torch.randn(2, *shape, dtype=torch.double)
    if not _fits(chain, planned, shape):
        with pytest.raises(ShapeError):
            model(x)
        return
    built_for_it = Autoencoder(chain, shape, dtype=torch.double).eval()
    built_for_it.load_state_dict(model.state_dict())
    event("another size" if shape != planned else "the planned size")
    with torch.no_grad():
        reconstruction, code = model(x.clone())  # a first layer that works in place overwrites what it is given
        expected, expected_code = built_for_it(x.clone())
        decoded = model.decode(code, size=shape[1:])
    assert reconstruction.shape == x.shape
    assert code.shape[1:] == chain.output_shape(shape)
    torch.testing.assert_close(code, expected_code, equal_nan=True)
    torch.testing.assert_close(reconstruction, expected, equal_nan=True)
    torch.testing.assert_close(decoded, expected, equal_nan=True)


def _fits(chain, planned, shape):
    """Whether the chain takes the shape with the weights that it has at the planned one."""
    return _outcome(chain.output_shape, shape) and chain.parameter_shapes(shape) == chain.parameter_shapes(planned)


# 5. Local ----------------------------------------------------------------------------------------------------------


@given(chains_with_shapes(WINDOWED, most=4), st.data())
@example((Chain(MaxPool(2)), (1, 27)), None)
@example((Chain(Conv(1, 4, padding="same")), (1, 6)), None)
@example((Chain(MaxPool(2, stride=3, dilation=2)), (1, 12)), None)
@example((Chain(Pad((2, 0)), Conv(1, 3, stride=2)), (1, 9)), None)
def test_an_impulse_in_the_code_stays_where_its_window_was(drawn, data):
    """A cell that a cell of the code reaches is one that it saw, or has come of one that no window saw."""
    chain, shape = drawn
    chain, shape = _single_channel(chain), (1, *shape[1:])
    assume(all(getattr(block, "padding_mode", "zeros") == "zeros" for block in leaves(chain)))
    assume(not any(isinstance(block, Pad) and not block.adjoint for block in leaves(chain)))
    assume(not any(getattr(block, "upsampling", None) in ("resize", "subpixel") for block in leaves(chain)))
    shapes = chain.shapes(shape)
    sees, reaches = torch.eye(_cells(shape)), torch.eye(_cells(shape))
    for block, before, after in zip(leaves(chain), shapes, shapes[1:], strict=False):
        seen = _matrix(_seeing(block, before), before)  # after × before
        back = _matrix(_positive(block.mirror(before).build(after)), after)  # before × after
        unseen = seen.sum(0) == 0
        back[unseen] = 0
        sees, reaches = seen @ sees, reaches @ back
    assert sees.shape == reaches.T.shape
    assert not torch.any((reaches.T != 0) & (sees == 0))


def _single_channel(chain):
    one = {"out_channels": 1, "groups": 1}
    return Chain(*(replace(b, **one, bias=False) if hasattr(b, "groups") else b for b in leaves(chain)))


def _cells(shape):
    return torch.Size(shape).numel()


def _positive(module):
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return module


def _seeing(block, shape):
    """A module that adds up what a block's windows see."""
    if not isinstance(block, (MaxPool, AvgPool)):
        return _positive(block.build(shape))
    rank = len(shape) - 1
    axes = [[v] * rank if isinstance(v, int) else v for v in (block.kernel_size, block.padding)]
    kernel, padding = axes
    stride = kernel if block.stride is None else block.stride
    stride = [stride] * rank if isinstance(stride, int) else stride
    pads = [amount for p, s, k in zip(padding, stride, kernel, strict=True) for amount in (p + s + k, p)][::-1]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    after = block.output_shape(shape)

    def summed(x):
        x = F.pad(x, pads)
        x = convolve(x, torch.ones(1, 1, *kernel), None, stride, 0, getattr(block, "dilation", 1))
        return x[(..., *(slice(n) for n in after[1:]))]

    return summed


def _matrix(module, shape):
    """What a linear module does to a single example, as a matrix."""
    basis = torch.eye(_cells(shape)).unflatten(1, shape)
    with torch.no_grad():
        return module(basis).flatten(1).T


@given(blocks_with_shapes(["MaxPool"]))
@example((MaxPool(2), (1, 27)))
@example((MaxPool(2, stride=3, padding=1, dilation=2), (1, 12)))
def test_unpooling_gives_every_cell_the_value_of_a_window_that_covers_it(drawn):
    pool, shape = drawn
    after = pool.output_shape(shape)
    unpool = pool.mirror(shape)
    assert isinstance(unpool, NearestUnpool)
    pooled = torch.arange(_cells(after)).reshape(1, *after).float()
    given_out = unpool.build(after)(pooled)[0]
    expected = pooled[0]
    rank = len(shape) - 1
    names = ("kernel_size", "stride", "padding", "dilation")
    kernel, stride, padding, dilation = (
        value if isinstance(value, tuple) else (value,) * rank for value in (getattr(pool, name) for name in names)
    )
    for axis in range(rank):
        step = kernel[axis] if stride[axis] is None else stride[axis]
        windows = [
            window_of(cell, after[axis + 1], kernel[axis], step, padding[axis], dilation[axis])
            for cell in range(shape[axis + 1])
        ]
        expected = expected.index_select(axis + 1, torch.tensor(windows))
    assert torch.equal(given_out, expected)


# 6. Same tree ------------------------------------------------------------------------------------------------------


@st.composite
def flat_and_nested(draw):
    chain, shape = draw(chains_with_shapes(ranks=ALL_RANKS))
    flat = Chain(*leaves(chain))
    return flat, draw(nestings(leaves(chain))), shape


@given(flat_and_nested())
@example(
    (
        Chain(Conv(2, 1), BatchNorm(), ReLU(), Conv(3, 1)),
        Chain(Chain(Conv(2, 1), BatchNorm()), Chain(ReLU(), Conv(3, 1))),
        (1, 2),
    )
)
def test_nesting_does_not_change_a_network(drawn):
    flat, nested, shape = drawn
    assert leaves(nested.mirror(shape)) == leaves(flat.mirror(shape))
    assert leaves(mirror(nested, shape)) == leaves(mirror(flat, shape))
    assert list(nested.parameter_shapes(shape).values()) == list(flat.parameter_shapes(shape).values())
    assert nested.multiply_adds(shape) == flat.multiply_adds(shape)
    assert [step[1:] for step in nested.plan(shape).steps] == [step[1:] for step in flat.plan(shape).steps]
    ours = Autoencoder(nested, shape).state_dict()
    theirs = Autoencoder(flat, shape).state_dict()
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]


@given(chains_with_shapes(ranks=ALL_RANKS))
def test_a_decoder_keeps_every_activation_but_those_at_the_ends(drawn):
    chain, shape = drawn
    runs = [
        list(run)
        for _, run in groupby(leaves(chain), key=lambda block: (block.pointwise, block.pointwise or id(block)))
    ]
    inner = [run for run in runs[1:-1] if run[0].pointwise]
    expected = [type(block) for run in reversed(inner) for block in run]
    decoder = leaves(mirror(chain, shape))
    if all(run[0].pointwise for run in runs):
        assert decoder == [Identity()]
    else:
        assert [type(block) for block in decoder if block.pointwise] == expected


@given(models())
@example((Chain(Conv(2, 3, stride=2, padding=1)), (1, 5), (1, 6)))
@example((Chain(MaxPool(2)), (1, 4), (1, 5)))
@example((Chain(ConvTranspose(1, 1, output_padding=1, dilation=2)), (1, 4), (1, 5)))
def test_the_structure_of_a_mirror_does_not_depend_on_the_size(drawn):
    chain, shape, other = drawn
    assume(_fits(chain, shape, other))
    here, there = mirror(chain, shape), mirror(chain, other)
    assert [type(block) for block in leaves(here)] == [type(block) for block in leaves(there)]
    code, other_code = chain.output_shape(shape), chain.output_shape(other)
    assert here.parameter_shapes(code) == there.parameter_shapes(other_code)


# Blocks are values -------------------------------------------------------------------------------------------------


@given(either)
def test_a_block_is_a_value(drawn):
    block, shape = drawn
    named = {name: getattr(obverse, name) for name in dir(obverse)}
    for value in (block, block.mirror(shape)):
        pasted = eval(repr(value), {}, named)  # noqa: S307
        for twin in (pasted, copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert twin == value
            assert hash(twin) == hash(value)
            assert repr(twin) == repr(value)
            assert twin.output_shape(shape if value is block else block.output_shape(shape))


@given(blocks_with_shapes(ranks=ALL_RANKS), blocks_with_shapes(ranks=ALL_RANKS))
def test_blocks_are_equal_where_they_say_the_same(one, other):
    assert (one[0] == other[0]) == (repr(one[0]) == repr(other[0]))


# Costs and sights --------------------------------------------------------------------------------------------------


@given(either)
@example((ConvTranspose(4, 3, stride=2, padding="same", groups=2), (2, 4, 5)))
def test_multiply_adds_are_half_of_the_operations_that_pytorch_counts(drawn):
    block, shape = drawn
    with FlopCounterMode(display=False) as counter:
        run_on_meta(block, shape)  # two examples, and two operations for each multiplication with its addition
    assert 4 * block.multiply_adds(shape) == counter.get_total_flops()


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
        assert step.block is eval("chain" + "".join(f"[{at}]" for at in step.place.split(".")))  # noqa: S307
        assert len(step.receptive_field) == len(step.jump) == len(step.start)
        shape = step.output_shape
    assert all(plan_line in str(plan) for plan_line in (f"{plan.parameters:,}", f"{plan.multiply_adds:,}"))
