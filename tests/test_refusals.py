"""What obverse says when it refuses: every message is read here, and what it advises is done, and works."""

import dataclasses
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

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
    Dropout,
    Flatten,
    GroupNorm,
    Linear,
    MaxPool,
    NearestUnpool,
    ObverseError,
    Pad,
    PixelShuffle,
    PixelUnshuffle,
    Pointwise,
    Rearrange,
    RegistryError,
    Rejoin,
    ReLU,
    Residual,
    ShapeError,
    Sigmoid,
    Skip,
    Unflatten,
    Upsample,
)
from obverse.chain import TRIES
from obverse.registry import BUILT_IN, block_class
from obverse.testing.strategies import blocks_with_shapes, chains_with_shapes, sizes
from running import leaves, outcome


def refusal(function, *arguments, **options):
    with pytest.raises(ObverseError) as refused:
        function(*arguments, **options)
    return str(refused.value)


def shape_in(text):
    return tuple(map(int, text.split("×")))


# A chain that refuses ----------------------------------------------------------------------------------------------

STAGES = (Conv(16, 5, stride=2), ReLU(), Conv(32, 5, stride=2), ReLU(), Conv(64, 5))


def test_a_chain_names_the_block_its_place_and_the_shapes_so_far():
    said = refusal(Chain(*STAGES).plan, (3, 12, 12))
    assert said == (
        "Chain at 3×12×12: Conv(16, 5, stride=2), ReLU(), Conv(32, 5, stride=2), ReLU(), Conv(64, 5)\n"
        "  shapes so far: 3×12×12 → 16×4×4 → 16×4×4 → ?\n"
        "  block 2, Conv(32, 5, stride=2): the kernel spans 5 cells, and only 4 are left along H and W.\n"
        "  Give it padding=1, or an input of at least 13×13 (29×29 for the whole chain)."
    )
    padded = Chain(*STAGES[:2], replace(STAGES[2], padding=1))
    assert padded.output_shape((3, 12, 12)) == (32, 1, 1)
    assert Chain(*STAGES[:3]).output_shape((3, 13, 13)) == (32, 1, 1)
    assert Chain(*STAGES).output_shape((3, 29, 29)) == (64, 1, 1)
    assert outcome(Chain(*STAGES[:3]).output_shape, (3, 12, 13)) is None
    assert outcome(Chain(*STAGES).output_shape, (3, 28, 29)) is None


def test_a_nested_place_is_named_as_a_plan_names_it():
    chain = Chain(Chain(Conv(4, 3), ReLU()), Chain(Chain(Conv(4, 9))))
    said = refusal(chain.output_shape, (1, 10, 30))
    assert "block 1.0.0, Conv(4, 9): the kernel spans 9 cells, and only 8 are left along H." in said
    assert chain.plan((1, 11, 30)).steps[-1].place == "1.0.0"


def test_every_way_to_ask_a_chain_refuses_alike():
    chain = Chain(*STAGES)
    asked = [chain.output_shape, chain.mirror, chain.build, chain.plan, chain.parameter_shapes, chain.multiply_adds]
    asked += [lambda shape: obverse.mirror(chain, shape), lambda shape: Autoencoder(chain, shape)]
    assert len({refusal(ask, (3, 12, 12)) for ask in asked}) == 1


def test_the_batch_in_the_shape_is_noticed():
    assert "If 64 is the batch, leave it out: (1, 28, 28)." in refusal(Chain(Conv(8, 5)).plan, (64, 1, 28, 28))
    assert Chain(Conv(8, 5)).output_shape((1, 28, 28)) == (8, 24, 24)
    for batch in (None, -1):
        assert refusal(Chain(Conv(8, 5)).plan, (batch, 1, 28, 28)).endswith("Leave the batch out: (1, 28, 28).")
    assert refusal(Chain(Conv(8, 5), BatchNorm()).plan, (64, 2, 1, 28, 28)).count("leave the batch out") == 1
    said = refusal(Conv(8, 5).output_shape, (64, 2, 1, 28, 28))
    assert said.endswith("A shape is that of one example: leave the batch out, (2, 1, 28, 28).")


@pytest.mark.parametrize("shape", [28, "28", None, (), (1, 28.0), (1, True), (1, "28"), (0, 28), (1, 0), (1, -2)])
def test_what_is_no_shape_is_refused(shape):
    refusal(Chain(Conv(8, 1)).output_shape, shape)


def test_shapes_may_be_lists_and_of_numpy():
    assert Chain(Conv(8, 3)).output_shape([1, 28, 28]) == (8, 26, 26)
    assert Chain(Conv(8, 3)).output_shape(np.array([1, 28, 28])) == (8, 26, 26)
    assert Chain(Conv(8, 3)).output_shape(torch.Size([1, 28, 28])) == (8, 26, 26)


# Advice is good advice ---------------------------------------------------------------------------------------------


REFUSING = (
    *("Conv", "ConvTranspose", "MaxPool", "AvgPool", "LPPool", "NearestUnpool", "Upsample", "Pad", "Crop"),
    *("PixelUnshuffle", "Unflatten", "Rearrange", "InstanceNorm"),
)


@st.composite
def refused(draw, drawn):
    """A block, or chain, and a shape that it refuses with its number of channels."""
    block, shape = draw(drawn)
    other = (shape[0], *(draw(sizes(most=3) | sizes(most=7)) for _ in shape[1:]))
    assume(outcome(block.output_shape, other) is None)
    return block, other


ADVISED = re.compile(r"[Gg]ive(?: it)? (\w+)=(\d+)")
NEAREST = re.compile(r"input of at least ([\d×]+)(?: \(([\d×]+) for the whole chain\))?")
PUT = re.compile(r"Put (\w+\(.*\)) in front of it")


@given(refused(blocks_with_shapes(REFUSING)))
@example((Conv(1, 3, padding=(0, 3)), (1, 2, 1)))
@example((Conv(1, 4, padding=2, dilation=2, padding_mode="reflect"), (1, 1)))
@example((PixelUnshuffle(2), (1, 5, 4)))
@example((Unflatten(2, (2,)), (1, 1, 1)))
@example((Unflatten(1, (2,)), (1,)))
@example((PixelUnshuffle(3), (1, 5, 4, 7)))
@example((AvgPool(4, padding=1), (1, 3, 4, 5)))
@example((ConvTranspose(1, 1, padding=2), (1, 3)))
def test_what_a_block_advises_works(drawn):
    block, shape = drawn
    said = refusal(block.output_shape, shape)
    assert said.startswith(f"{block!r} at ")
    kept = {name: getattr(obverse, name) for name in dir(obverse)}
    if found := NEAREST.search(said):
        event("nearest")
        assert outcome(block.output_shape, (shape[0], *shape_in(found[1])))
    if found := ADVISED.search(said):
        event("an argument")
        assert outcome(replace(block, **{found[1]: int(found[2])}).output_shape, shape)
    if found := PUT.search(said):
        event("another block")
        assert outcome((eval(found[1], {}, kept) >> block).output_shape, shape)


@given(refused(chains_with_shapes(REFUSING)))
def test_what_a_chain_advises_works(drawn):
    chain, shape = drawn
    said = refusal(chain.output_shape, shape)
    place = re.search(r"\n  block ([\d.]+), ", said)[1]
    links = leaves(chain)
    at = [link.place for link in chain.links].index(place)
    assert outcome(Chain(*links[:at]).output_shape, shape) if at else True
    assert outcome(Chain(*links[: at + 1]).output_shape, shape) is None
    if found := NEAREST.search(said):
        event("nearest")
        assert outcome(Chain(*links[: at + 1]).output_shape, (shape[0], *shape_in(found[1])))
        if found[2]:
            event("nearest for the whole chain")
            assert outcome(chain.output_shape, (shape[0], *shape_in(found[2])))


def test_the_search_for_a_size_that_would_do_ends():
    asked = []

    class Counted(ReLU):
        def output_shape(self, shape):
            asked.append(shape)
            return shape

    refusal(Chain(*[Counted()] * 20, Unflatten(1, (2, 3))).output_shape, (1, 4, 4))
    assert 1 < len(asked) <= 3 * TRIES


# Blocks --------------------------------------------------------------------------------------------------------------

SAID = {
    "kernel": (
        Conv(16, 5),
        (3, 4, 9),
        "the kernel spans 5 cells, and only 4 are left along H.\nGive it padding=1, or an input of at least 5×9.",
    ),
    "groups": (
        Conv(4, 3, groups=3),
        (2, 5, 5),
        "groups=3 does not divide the 2 channels in and the 4 channels out.\nGive it groups=2.",
    ),
    "num_groups": (GroupNorm(5), (16, 5, 5), "5 groups do not divide 16 channels.\nGive it num_groups=4."),
    "pool": (
        MaxPool(2),
        (1, 1),
        "the kernel spans 2 cells, and only 1 is left along L.\nGive it padding=1, or an input of at least 2.",
    ),
    "pool padding": (
        MaxPool(2, padding=2),
        (1, 5, 5),
        "padding is at most half of kernel_size=2; 2 was given along H and W.\nGive padding=1 or less.",
    ),
    "average of volumes": (
        AvgPool(4, padding=1),
        (1, 3, 5, 5),
        (
            "a window spans 4 cells, and only 3 are there without the padding along D.\n"
            "Give it an input of at least 4×5×5."
        ),
    ),
    "reflection": (
        Conv(1, 3, padding=2, padding_mode="reflect"),
        (1, 2, 5),
        "reflect padding of 2 needs 3 cells, and only 2 are there along H.\nGive it an input of at least 3×5.",
    ),
    "transposed": (
        ConvTranspose(4, 3, padding=3),
        (2, 2),
        "padding=3 takes 6 cells away, and only 4 came out along L.\nGive it padding=1, or an input of at least 5.",
    ),
    "output_padding": (
        ConvTranspose(4, 3, output_padding=1),
        (2, 2),
        "output_padding is below the larger of stride and dilation, 1; 1 was given along L.\nGive output_padding=0.",
    ),
    "unshuffle": (
        PixelUnshuffle(2),
        (2, 5, 4),
        "2 does not divide the cells along H.\nPut Pad((0, 1), (0, 0)) in front of it.",
    ),
    "shuffle": (
        PixelShuffle(2),
        (6, 5, 4),
        "6 channels cannot be spread over 4 cells each.\nPut Conv(8, 1) in front of it.",
    ),
    "unflatten": (
        Unflatten(1, (2, 3)),
        (5,),
        "the 5 cells of axis 1 cannot be folded into 2×3, which takes 6.\nPut Linear(6) in front of it.",
    ),
    "crop": (Crop(3), (5, 4), "-2 cells would be left along L.\nGive it an input of at least 7."),
    "split": (
        Rearrange("c (h p) -> (c p) h"),
        (5, 4),
        "the 4 cells of (h p) can be split in many ways.\nGive it the length of p.",
    ),
    "axes": (
        Conv(4, (3, 3)),
        (2, 9),
        "kernel_size=(3, 3) is for 2 axes, and the shape has 1.\nGive 1 number, or one for all: kernel_size=3.",
    ),
    "no axes": (
        Conv(4, 3),
        (9,),
        "Conv acts along spatial axes, and this shape has none.\nPut Unflatten in front of it, or Linear in its place.",
    ),
    "unpool": (NearestUnpool((9, 9), 2), (4, 5, 4), "pooling 9×9 gives 4×4, not 5×4."),
    "start": (
        Flatten(0),
        (4, 5),
        "start_dim=0 is the batch: axes count from 1, the channels.\nGive start_dim from 1 to 2.",
    ),
    "order": (Flatten(2, 1), (4, 5), "it starts at axis 2 and ends at axis 1.\nGive end_dim=-1."),
    "mode": (
        Upsample(scale_factor=2, mode="bilinear"),
        (1, 5),
        (
            "PyTorch has mode='bilinear' for 2 spatial axes, and the shape has 1.\n"
            "Give mode='linear', which there is for any number of axes."
        ),
    ),
    "shrunk": (
        Upsample(scale_factor=0.4),
        (1, 2),
        "2 cells times 0.4 is less than one along L.\nGive it an input of at least 3.",
    ),
    "residual": (
        Residual(Conv(16, 3, stride=2)),
        (8, 28, 28),
        (
            "the body gives 16×13×13, which no 1×1 convolution gives at every size.\n"
            "Give it shortcut=Conv(16, 3, stride=2)."
        ),
    ),
}


@pytest.mark.parametrize(("block", "shape", "expected"), SAID.values(), ids=SAID)
def test_what_a_block_says(block, shape, expected):
    where, _, said = refusal(block.output_shape, shape).partition(": ")
    assert said == expected
    assert where.startswith(repr(block))


def test_the_shortcut_that_a_residual_advises_works():
    body = Conv(16, 3, stride=2)
    assert Residual(body, shortcut=Conv(16, 3, stride=2)).output_shape((8, 28, 28)) == (16, 13, 13)


ARGUMENTS = {
    "no kernel": (lambda: Conv(4, 0), "Conv: kernel_size is at least 1; 0 was given.\nGive kernel_size=1 or more."),
    "no stride": (
        lambda: Conv(4, 3, stride=(1, 0)),
        "Conv: stride is at least 1; 0 was given.\nGive stride=1 or more.",
    ),
    "negative": (lambda: Conv(4, 3, padding=-1), "Conv: padding is at least 0; -1 was given.\nGive padding=0 or more."),
    "a bool": (
        lambda: Conv(4, 3, dilation=True),
        "Conv: dilation is an integer; True is a bool.\nGive a plain integer, such as dilation=1.",
    ),
    "a float": (
        lambda: Linear(10.0),
        "Linear: out_features is an integer; 10.0 is a float.\nGive a plain integer, such as out_features=1.",
    ),
    "text": (
        lambda: Linear("10"),
        "Linear: out_features is an integer; '10' is a str.\nGive a plain integer, such as out_features=1.",
    ),
    "nothing": (
        lambda: Conv(None, 3),
        "Conv: out_channels is an integer; None is a NoneType.\nGive a plain integer, such as out_channels=1.",
    ),
    "no groups": (
        lambda: Conv(4, 3, groups=None),
        "Conv: groups is an integer; None is a NoneType.\nGive a plain integer, such as groups=1.",
    ),
    "padding": (
        lambda: Conv(4, 3, padding="full"),
        "Conv: padding='full' is none of 'valid', 'same'.\nGive padding='same'.",
    ),
    "padding_mode": (
        lambda: Conv(4, 3, padding_mode=None),
        (
            "Conv: padding_mode=None is none of 'zeros', 'reflect', 'replicate', 'circular'.\n"
            "Give padding_mode='circular'."
        ),
    ),
    "pool": (
        lambda: MaxPool(2, padding="same"),
        "MaxPool: padding is an integer; 'same' is a str.\nGive a plain integer, such as padding=1.",
    ),
    "pad": (lambda: Pad((1, 2, 3)), "Pad: (before, after) is a pair; (1, 2, 3) was given.\nGive one pair an axis."),
    "no amount": (lambda: Pad(), "Pad: it needs an amount.\nGive Pad(1), or Pad((0, 1))."),
    "reflected crop": (
        lambda: Pad(-1, mode="reflect"),
        "Pad: only constant padding can be negative.\nGive mode='constant', or use Crop.",
    ),
    "probability": (lambda: Dropout(1.5), "Dropout: p is a number from 0 to 1; 1.5 was given.\nGive p=0."),
    "epsilon": (lambda: BatchNorm(eps=-1), "BatchNorm: eps is a number of at least 0; -1 was given.\nGive eps=0."),
    "size": (
        lambda: Upsample(),
        "Upsample: it takes a size or a scale_factor; neither was given.\nGive scale_factor=2.",
    ),
    "factor": (
        lambda: Upsample(scale_factor=0),
        "Upsample: scale_factor is a number above 0; 0 was given.\nGive scale_factor=2.",
    ),
    "corners": (
        lambda: Upsample(3, align_corners=True),
        "Upsample: align_corners means nothing in mode='nearest'.\nLeave align_corners out.",
    ),
    "lengths": (
        lambda: Unflatten(1, (-1, -1)),
        (
            "Unflatten: unflattened_size is a tuple of lengths, at most one of them -1; (-1, -1) was given.\n"
            "Give it as in Unflatten(1, (12, 7, 7))."
        ),
    ),
    "layer": (
        lambda: Pointwise("Hardswich"),
        (
            "Pointwise: 'Hardswich' is no layer of torch.nn that keeps every shape.\n"
            "Give it 'Hardswish', or write a block of your own."
        ),
    ),
    "instance": (
        lambda: Pointwise(torch.nn.ReLU()),
        (
            "Pointwise: it takes a layer's name, not the ReLU object: "
            "a block holds settings, and an instance would be shared.\n"
            "Give it 'ReLU'."
        ),
    ),
    "class": (
        lambda: Pointwise(torch.nn.Softmax),
        "Pointwise: 'Softmax' is no layer of torch.nn that keeps every shape.\nWrite a block of your own.",
    ),
    "argument": (
        lambda: Pointwise("Tanh", beta=1),
        "Pointwise: Tanh has no argument 'beta' here.\nIt takes no arguments.",
    ),
    "empty": (lambda: Chain(), "Chain(): a chain has at least one block.\nGive it blocks, or write Identity()."),
    "list": (
        lambda: Chain([ReLU()]),
        "Chain, block 0: list is no block: [ReLU()].\nGive the blocks one by one: Chain(*blocks).",
    ),
    "type": (
        lambda: Chain(Conv(1, 1), ReLU),
        "Chain, block 1: type is no block: <class 'obverse.blocks.pointwise.ReLU'>.\nGive an instance: ReLU(...).",
    ),
    "name": (lambda: block_class("Convv"), "no block is called 'Convv'.\nDid you mean 'Conv'?"),
}


@pytest.mark.parametrize(("make", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_what_is_said_of_arguments(make, expected):
    assert refusal(make) == expected


# Models ------------------------------------------------------------------------------------------------------------

ENCODER = Chain(Conv(4, 3, stride=2), ReLU())


@pytest.fixture(scope="module")
def model():
    return Autoencoder(ENCODER, (1, 28, 28), output=Sigmoid())


def test_an_image_without_the_batch(model):
    x = torch.rand(1, 28, 28)
    said = refusal(model, x)
    assert said == "one image of 1×28×28 was given, and a model takes batches, N×1×28×28.\nGive x[None]."
    assert model(x[None])[0].shape == (1, 1, 28, 28)


def test_images_without_the_channel(model):
    x = torch.rand(5, 28, 28)
    said = refusal(model, x)
    assert said == "images of 5×28×28 have no channel axis; a model takes N×1×28×28.\nGive x[:, None]."
    assert model(x[:, None])[0].shape == (5, 1, 28, 28)


def test_channels_that_come_last(model):
    x = torch.rand(5, 28, 28, 1)
    said = refusal(model, x)
    assert said.endswith("The channels seem to come last: give x.permute(0, 3, 1, 2).")
    assert model(x.permute(0, 3, 1, 2))[0].shape == (5, 1, 28, 28)


def test_colours_where_grey_was_planned(model):
    x = torch.rand(5, 3, 28, 28)
    said = refusal(model, x)
    assert said == (
        "x has 3 channels, and the model was built for 1.\n"
        "Build the model for (3, 28, 28). Or give it grey images: x.mean(1, keepdim=True)."
    )
    assert model(x.mean(1, keepdim=True))[0].shape == (5, 1, 28, 28)
    assert Autoencoder(ENCODER, (3, 28, 28))(x)[0].shape == x.shape


def test_pixels_from_0_to_255(model):
    x = torch.zeros(5, 1, 28, 28, dtype=torch.uint8)
    said = refusal(model, x)
    assert said == (
        "the images are uint8, and a layer takes floating-point numbers.\n"
        "Give x.float() / 255, for pixels from 0 to 255."
    )
    assert model(x.float() / 255)[0].shape == x.shape


def test_a_model_built_with_the_batch_in_its_shape():
    with_batch = Autoencoder(Chain(Conv(4, 3)), (64, 28, 28))
    said = refusal(with_batch, torch.rand(64, 1, 28, 28))
    assert "64" in said
    with_batch = Autoencoder(Chain(Conv(4, 1, stride=2)), (64, 1, 28, 28))
    said = refusal(with_batch, torch.rand(64, 1, 28, 28))
    assert said.endswith("If 64 in (64, 1, 28, 28) is the batch, build the model for (1, 28, 28).")


def test_a_size_that_the_encoder_refuses(model):
    said = refusal(model, torch.rand(5, 1, 2, 28))
    assert said.startswith("Chain at 1×2×28: Conv(4, 3, stride=2), ReLU()\n")
    assert said.endswith("Give it padding=1, or an input of at least 3×28.")
    assert model(torch.rand(5, 1, 3, 28))[0].shape == (5, 1, 3, 28)


def test_a_code_that_does_not_tell_its_size(model):
    code = torch.rand(5, 4, 14, 13)
    said = refusal(model.decode, code)
    assert said == (
        "a code of 4×14×13 is not the planned 4×13×13, and does not tell its size.\n"
        "Inputs of 29..30 by 27..28 have such a code: give one of them, as in decode(code, size=(29, 27))."
    )
    for size in [(29, 27), (29, 28), (30, 27), (30, 28)]:
        assert model.decode(code, size).shape == (5, 1, *size)
        assert torch.equal(model.encode(torch.rand(5, 1, *size)).new_zeros(code.shape), torch.zeros(code.shape))
    assert model.decode(torch.rand(5, 4, 14, 14), 29).shape == (5, 1, 29, 29)


def test_the_code_of_the_tutorial_comes_from_25_to_28():
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    tutorial = Autoencoder(encoder, (1, 32, 32))
    said = refusal(tutorial.decode, torch.rand(5, 12, 1, 1))
    assert "Inputs of 25..28 by 25..28 have such a code" in said
    for size in range(25, 29):
        assert tutorial.decode(torch.rand(5, 12, 1, 1), size).shape == (5, 1, size, size)


def test_a_code_of_another_size_than_was_asked_for(model):
    said = refusal(model.decode, torch.rand(5, 4, 13, 13), (30, 30))
    assert said == (
        "a code of 4×13×13 does not come from 1×30×30, which has a code of 4×14×14.\n"
        "Inputs of 27..28 by 27..28 have such a code: give one of them, as in decode(code, size=(27, 27))."
    )
    assert "No input has such a code." in refusal(
        Autoencoder(Chain(Conv(4, 1, padding=1)), (1, 5, 5)).decode, torch.rand(1, 4, 2, 2), 5
    )


@pytest.mark.parametrize(
    ("encoder", "shape", "code", "said"),
    [
        (Chain(PixelUnshuffle(2), Conv(2, 3, stride=2)), (1, 10, 10), (2, 3, 5), "Inputs of 14, 16 by 22, 24 have"),
        (Chain(Rearrange("c h w -> c w h"), Conv(2, 3, stride=2)), (1, 9, 9), (2, 3, 5), "Inputs of 11..12 by 7..8"),
        (Chain(Flatten(2)), (1, 4, 4), (1, 20), "Give the size that it was made of, as in decode(code, size=(4, 4))."),
    ],
)
def test_the_sizes_of_a_code_are_told_exactly_or_not_at_all(encoder, shape, code, said):
    assert said in refusal(Autoencoder(encoder, shape).decode, torch.rand(5, *code))


def test_a_code_with_other_channels(model):
    said = refusal(model.decode, torch.rand(5, 3, 13, 13))
    assert said == "a code of 5×3×13×13 was given; the decoder takes N×4×13×13.\nGive what the encoder gives."


def test_weights_that_fix_the_size():
    fixed = Autoencoder(Chain(Conv(4, 3), Flatten(), Linear(3)), (1, 28, 28))
    said = refusal(fixed, torch.rand(2, 1, 27, 28))
    assert said == (
        "an input of 1×27×28 cannot be used: the weights of block 2, Linear(3), were made for 2704, and it gets 2600.\n"
        "Give inputs of 1×28×28. AdaptiveAvgPool in front of that block makes any size legal."
    )
    assert fixed(torch.rand(2, 1, 28, 28))[0].shape == (2, 1, 28, 28)
    free = Autoencoder(Chain(Conv(4, 3), AdaptiveAvgPool(2), Flatten(), Linear(3)), (1, 28, 28))
    assert free(torch.rand(2, 1, 27, 28))[0].shape == (2, 1, 27, 28)


def test_an_output_that_changes_the_shape():
    said = refusal(Autoencoder, ENCODER, (1, 28, 28), output=Conv(2, 1))
    assert said == (
        "with output=Conv(2, 1) it gives 2×28×28, not 1×28×28.\nGive an output that keeps the shape, such as Sigmoid()."
    )


def test_what_went_round_the_code_and_is_missing():
    pooled = Autoencoder(Chain(Conv(4, 3), MaxPool(2, return_indices=True)), (1, 28, 28))
    kept = []
    code = pooled.encode(torch.rand(2, 1, 28, 28), around=kept)
    assert "code = model.encode(x, around=kept), with kept = []" in refusal(pooled.decode, code)
    assert pooled.decode(code, around=kept).shape == (2, 1, 28, 28)
    assert kept, "what went round can be used again"


def test_errors_are_what_python_programs_catch():
    with pytest.raises(ValueError, match="kernel spans"):
        Conv(4, 9).output_shape((1, 5))
    with pytest.raises(LookupError, match="no block is called"):
        block_class("Convv")
    assert issubclass(RegistryError, ObverseError)
    assert issubclass(ShapeError, ObverseError)


HOPELESS = [
    (lambda: Conv(8, 3).output_shape((1, 28.0, 28)), "axis 1 of the shape (1, 28.0, 28) is 28.0, a float."),
    (lambda: Conv(8, 3).output_shape((1, -3, 28)), "axis 1 of the shape (1, -3, 28) is -3, below 1."),
    (lambda: Chain(Conv(8, 3)).output_shape((1, True, 28)), "axis 1 of the shape (1, True, 28) is True, a bool."),
    (lambda: Conv(8, 3).output_shape(5), "a shape is a tuple of integers; 5 was given."),
    (lambda: Linear(3).output_shape(()), "a shape has at least its channels; () was given."),
    (lambda: Conv(8, ()), "kernel_size is empty."),
    (lambda: Autoencoder(Conv(8, 3), (1, 28, 28), output=torch.nn.Sigmoid()), "torch.nn.Sigmoid is no block"),
    (lambda: Autoencoder(Conv(8, 3), (1, 28, 28), skips="both"), "skips='both' is neither 'concat' nor 'add'."),
    (lambda: Autoencoder(Conv(8, 3), (1, 28, 28), skips=("9",)), "there is no block at place '9' to skip from."),
    (lambda: Autoencoder(Conv(2**40, 3), (1, 28, 28)), "10,995,116,277,760 parameters, 43,980 GB"),
]


@pytest.mark.parametrize(("make", "said"), HOPELESS, ids=[said for _, said in HOPELESS])
def test_what_cannot_be_is_never_left_to_pytorch(make, said):
    with pytest.raises(ShapeError) as refused:
        make()
    assert said in str(refused.value)


def test_channels_beyond_all_memory_are_still_counted_on_paper():
    assert Conv(2**40, 3).parameters((1, 28, 28)) == 10 * 2**40
    model = Autoencoder(Conv(2**40, 3), (1, 28, 28), device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 19 * 2**40 + 1


FLAGS = [
    (name, field.name)
    for name in BUILT_IN
    for field in dataclasses.fields(block_class(name))
    if field.type == "bool" and name != "MaxUnpool"
]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_flag_is_true_or_false(name, flag, value):
    required = {"Conv": (4, 3), "ConvTranspose": (4, 3), "ResizeConv": (4, 3), "SubpixelConv": (4, 3), "Linear": (4,)}
    required |= {"MaxPool": (2,), "AvgPool": (2,), "LPPool": (2, 2), "GroupNorm": (2,), "NearestUnpool": ((4,), 2)}
    with pytest.raises(ShapeError, match=f"{name}: {flag} is True or False; {value!r} was given"):
        block_class(name)(*required.get(name, ()), **{flag: value})
    assert len(FLAGS) >= 20


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (Conv(16, 9), (8, 5, 5)),  # which the body refuses itself
        (Conv(16, 3, stride=2), (8, 9, 9)),
        (Chain(Conv(16, 3, stride=2), GroupNorm(4)), (8, 9, 9)),  # a norm sees everything
        (Conv(16, 3, stride=1_000_003), (8, 5, 5)),  # which cannot be followed through all sizes
        (Conv(8, 3, stride=196_608, padding=1), (8, 2_000_000, 5)),
        (Residual(Conv(16, 3, stride=99_991)), (8, 9, 9)),
        (Upsample(scale_factor=(1.3, 1)), (8, 3, 5)),  # of which one axis alone could be followed
        (Conv(16, 3, stride=(2, 141)), (8, 300, 300)),
    ],
)
def test_a_residual_without_a_way_around_says_so_in_time_and_its_advice_works(body, shape):
    began = time.process_time()
    with pytest.raises(ShapeError) as refused:
        Residual(body).output_shape(shape)
    said = str(refused.value)
    assert time.process_time() - began < 2
    shortcut = re.search(r"shortcut=(.*)\.$", said)
    if shortcut and not isinstance(body, Residual):
        advised = Residual(body, eval(shortcut[1], {"Conv": Conv, "Chain": Chain, "Upsample": Upsample}))
        assert advised.output_shape(shape) == body.output_shape(shape)
    else:
        assert "Give it" in said


@pytest.mark.parametrize("join", ["concat", "add"])
def test_a_skip_refuses_what_its_mirror_would(join):
    for shape in [(4,), (4, 3), (4, 3, 3)]:
        assert accepted(Skip(join), shape) == accepted(Rejoin(join), shape) == (join == "add" or len(shape) > 1)


def accepted(block, shape):
    try:
        block.output_shape(shape)
    except ShapeError:
        return False
    return True
