"""Mirrors that learn: what is mirrored in place of the encoder has its shapes, and what is built of it starts well."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean, median

import pytest
import torch
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from obverse import (
    AdaptiveAvgPool,
    Autoencoder,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Dropout,
    Flatten,
    GroupNorm,
    Identity,
    Linear,
    MaxPool,
    Pad,
    Parallel,
    Pointwise,
    Rearrange,
    ReLU,
    Residual,
    ShapeError,
    Sigmoid,
    mirror,
)
from obverse.habits import learnable
from obverse.starts import SMALL, start
from obverse.testing.strategies import chains_with_shapes

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import learn

# What is mirrored -----------------------------------------------------------------------------------------------------


def blocks_of(encoder, shape):
    return {node.name: node.block for node in learnable(encoder, shape).graph(shape).nodes}


@given(chains_with_shapes(), st.integers(0, 9))
def test_it_has_the_shapes_of_the_encoder_at_every_size(drawn, more):
    chain, shape = drawn
    rewritten = learnable(chain, shape)
    for here in (shape, (shape[0], *[size + more for size in shape[1:]])):
        try:
            code = chain.output_shape(here)
        except ShapeError:
            continue
        assert rewritten.output_shape(here) == rewritten.graph(here).output_shape(here) == code
        assert mirror(rewritten, here).output_shape(code) == here


@given(chains_with_shapes(), st.integers(1, 9))
def test_its_parameters_are_the_same_at_every_size(drawn, more):
    chain, shape = drawn
    larger = (shape[0], *[size + more for size in shape[1:]])
    rewritten = learnable(chain, shape)
    try:
        literal = [mirror(chain, here).parameter_shapes(chain.output_shape(here)) for here in (shape, larger)]
    except ShapeError:
        reject()
    assume(literal[0] == literal[1])
    codes = [chain.output_shape(here) for here in (shape, larger)]
    sizes = [mirror(rewritten, here).parameter_shapes(code) for here, code in zip((shape, larger), codes, strict=True)]
    assert sizes[0] == sizes[1]


@given(chains_with_shapes(), st.integers(0, 5))
@example((Chain(Identity(), Rearrange("a b -> b a"), MaxPool(1)), (1, 1)), 1)
@example((Chain(Rearrange("c h w -> h w c"), MaxPool(2)), (3, 6, 6)), 2)
@example((Chain(Rearrange("a b -> (a b)"), Flatten(1, -1)), (1, 1)), 1)
@example((Chain(Rearrange("c h w -> (c h) w"), Flatten()), (2, 3, 4)), 1)
def test_what_is_built_of_it_restores_every_size(drawn, more):
    chain, shape = drawn
    literal, model = (Autoencoder(chain, shape, literal=literal).eval() for literal in (True, False))
    for here in (shape, (shape[0], *[size + more for size in shape[1:]])):
        x = torch.rand(2, *here)
        try:
            literal(x)
        except ShapeError:
            continue
        assert model(x)[0].shape == x.shape


def test_norms_stand_in_front_of_bare_activations_only():
    fire = Parallel(Chain(Conv(4, 1), ReLU()), Conv(4, 1), join="concat")
    encoder = Chain(
        *(Conv(8, 3), Dropout(), ReLU(), ReLU()),  # dropout does not normalise, and one norm is enough
        *(Conv(8, 3), GroupNorm(2), ReLU()),
        *(Chain(Conv(8, 3)), Chain(ReLU())),
        *(fire, ReLU(), Residual(Chain(Conv(8, 1), ReLU())), ReLU()),  # what is joined is not bare
    )
    norms = [name for name, block in blocks_of(encoder, (3, 28, 28)).items() if block == BatchNorm()]
    assert norms == ["image_norm", "0_norm", "7.0_norm", "9.0.0_norm", "11.body.0_norm"]


@pytest.mark.parametrize("pool", [MaxPool(2), MaxPool(3, 2, 1), AvgPool(3, 2), MaxPool(3, 2, ceil_mode=True)])
def test_a_pooling_is_taken_back_by_windows_of_its_own_at_every_size(pool):
    encoder = learnable(Chain(Conv(8, 3), pool), (3, 28, 28))
    for size in range(9, 30):
        decoder = mirror(encoder, (3, size, size))
        assert decoder.output_shape(encoder.output_shape((3, size, size))) == (3, size, size)
        pooled = {node.name: node.block for node in decoder.nodes}["1"]
        last = pooled.blocks[0] if isinstance(pooled, Chain) else pooled
        assert isinstance(last, ConvTranspose)
        assert (last.out_channels, last.groups) == (8, 1)


def test_a_pooling_that_keeps_its_size_smooths_every_channel_by_itself():
    assert blocks_of(Chain(Conv(8, 3), MaxPool(3, 1, 1)), (3, 28, 28))["1"] == Conv(8, 3, padding=1, groups=8)


def test_places_of_largest_values_go_back_where_they_were():
    pool = MaxPool(2, return_indices=True)
    assert blocks_of(Chain(Conv(8, 3), pool), (3, 28, 28))["1"] == pool


def test_depthwise_convolutions_resize_unless_they_say_otherwise():
    encoder = Chain(Conv(8, 3), Conv(8, 3, stride=2, groups=8), Conv(8, 3, stride=2, groups=8, upsampling="transpose"))
    blocks = blocks_of(encoder, (3, 28, 28))
    assert [blocks["1"].upsampling, blocks["2"].upsampling] == ["resize", "transpose"]
    grouped = blocks_of(Chain(Conv(8, 3), Conv(8, 3, stride=2, groups=4)), (3, 28, 28))
    assert grouped["1"].upsampling is None


def test_noise_is_left_out():
    from torchvision.ops import StochasticDepth

    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), StochasticDepth(0.5, "row"), nn.AlphaDropout(), nn.ReLU())
    model = Autoencoder(module, (3, 28, 28))
    model.decoder.train()
    code = torch.rand(1, *model.code_shape)
    code = code.expand(4, *code.shape[1:])
    assert {type(block).__name__ for block in blocks_of(model.encoder_block, (3, 28, 28)).values()} == {
        "Conv",
        "BatchNorm",
        "ReLU",
    }
    assert torch.equal(model.decoder(code)[0], model.decoder(code)[3])


@pytest.mark.parametrize("block", [Dropout(), Identity(), ReLU(), *map(Pointwise, ("AlphaDropout", "SELU"))])
def test_what_is_idle_gives_in_evaluation_what_it_is_given(block):
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(block.build((3, 5, 5)).eval()(x), x) == block.idle


@pytest.mark.parametrize(("first", "channels"), [(8, 16), (32, 64), (96, 64)])
def test_the_image_is_drawn_at_full_size_from_many_channels(first, channels):
    blocks = blocks_of(Chain(Conv(first, 3, stride=2), ReLU()), (3, 28, 28))
    assert blocks["image"] == Conv(channels, 3, padding=1)
    decoder = mirror(Chain(Conv(first, 3, stride=2), ReLU()), (3, 28, 28), literal=False)
    assert decoder.nodes[-1].block == ConvTranspose(3, 3, padding=1)


@pytest.mark.parametrize("first", [Conv(6, 3, groups=3), Chain(MaxPool(2), Conv(8, 3)), Chain(Pad(1), Conv(8, 3))])
def test_nor_is_one_whose_first_convolution_sees_groups_of_it_or_another_size(first):
    assert learnable(first, (3, 28, 28)).image == ""


def test_a_first_convolution_that_is_used_again_keeps_its_channels():
    convolution = nn.Conv2d(3, 3, 3, padding=1)
    model = Autoencoder(nn.Sequential(convolution, nn.ReLU(), convolution), (3, 9, 9))
    assert model.decoder.encoder_block.blocks[0].image == ""
    assert model(torch.rand(2, 3, 9, 9))[0].shape == (2, 3, 9, 9)


def test_an_image_that_is_not_seen_by_a_convolution_is_drawn_as_it_was():
    assert list(blocks_of(Chain(Flatten(), Linear(8)), (1, 6, 6))) == ["0", "1"]


def test_a_way_leads_around_every_stage():
    encoder = Chain(
        *(Conv(8, 3, padding=1), ReLU(), Conv(8, 3, padding=1), ReLU()),  # full size
        *(MaxPool(2), Conv(16, 3, padding=1), ReLU()),  # half
        *(Conv(32, 3, stride=2, padding=1), ReLU(), Conv(32, 3, padding=1)),  # a quarter
        *(Flatten(), Linear(10)),
    )
    assert learnable(encoder, (3, 24, 24)).ways == (("3", "6", (False, False)), ("6", "9", (False, False)))
    blocks = blocks_of(encoder, (3, 24, 24))
    assert [blocks["6_way.0"], blocks["6_way.1"]] == [AdaptiveAvgPool((12, 12)), Conv(16, 1, bias=False)]
    assert learnable(encoder, (3, 4, 4)).ways == learnable(encoder, (3, 24, 24)).ways  # the same at any planned size


def test_no_way_leads_where_one_axis_grows():
    encoder = Chain(Conv(8, 3, padding=1), Rearrange("c (h a) w -> c h (w a)", a=2), Conv(8, 3, padding=1))
    assert learnable(encoder, (3, 24, 24)).ways == ()


def test_a_gate_is_mirrored_as_ever():
    gate = Chain(AdaptiveAvgPool(1), Conv(4, 1), ReLU(), Conv(8, 1), Sigmoid())
    encoder = Chain(Conv(8, 3, stride=2, padding=1), Parallel(Identity(), gate, join="multiply"))
    rewritten = learnable(encoder, (3, 25, 24))
    assert mirror(rewritten, (3, 25, 24)).output_shape((8, 13, 12)) == (3, 25, 24)


def test_ways_know_which_axis_has_the_channels():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.second = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8), nn.Conv2d(8, 16, 2, 2)

        def forward(self, x):
            x = self.norm(self.first(x).permute(0, 2, 3, 1))
            return self.second(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    model = Autoencoder(Last(), (3, 24, 24))
    (way,) = model.decoder.encoder_block.blocks[0].ways[1:]
    assert way.last[1]
    for size in (24, 28):
        x = torch.rand(2, 3, size, 24)
        assert model(x)[0].shape == x.shape


def test_an_encoder_that_takes_one_size_only_has_no_ways():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3, 2, 1)

        def forward(self, x):
            if x.shape[2:] != (24, 24):
                raise ValueError("24×24 only")
            return self.convolution(x)

    model = Autoencoder(Fixed(), (3, 24, 24))
    assert model.decoder.encoder_block.blocks[0].ways == ()
    assert model(torch.rand(2, 3, 24, 24))[0].shape == (2, 3, 24, 24)


def test_names_that_are_taken_get_a_number():
    class Taken(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.image_norm = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()

        def forward(self, x):
            return torch.relu(self.image_norm(self.image(x)) + 0)

    model = Autoencoder(Taken(), (3, 24, 24))
    names = [node.name for node in model.decoder.encoder_block.blocks[0].graph((3, 24, 24)).nodes]
    assert len(set(names)) == len(names)
    assert {"image", "image1", "image_norm", "image_norm1", "image_norm2"} <= set(names)
    assert model(torch.rand(2, 3, 25, 24))[0].shape == (2, 3, 25, 24)


def test_in_a_recorded_graph_too():
    model = Autoencoder(models.squeezenet1_1(), (3, 64, 64), until="features.7")
    literal = Autoencoder(models.squeezenet1_1(), (3, 64, 64), until="features.7", literal=True)
    norms = [module for module in model.decoder.modules() if isinstance(module, nn.BatchNorm2d)]
    bends = [module for module in model.decoder.modules() if isinstance(module, nn.ReLU)]
    assert len(norms) == len(bends) > 5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in literal.decoder.modules())
    for size in (64, 65, 71):
        assert model(torch.rand(2, 3, size, 64))[0].shape == (2, 3, size, 64)


def test_a_chain_is_mirrored_as_it_stands_unless_it_is_asked():
    encoder = Chain(Conv(8, 3), ReLU(), MaxPool(2), Conv(4, 3))
    literal, other = Autoencoder(encoder, (1, 28, 28)), Autoencoder(encoder, (1, 28, 28), literal=False)
    assert literal.decoder.block == mirror(encoder, (1, 28, 28))
    assert other.decoder.block == Chain(mirror(encoder, (1, 28, 28), literal=False)) != literal.decoder.block
    assert other(torch.rand(2, 1, 31, 29))[0].shape == (2, 1, 31, 29)
    assert Autoencoder.from_config(other.to_config()).decoder.block == other.decoder.block


def test_it_is_exported_and_compiled_as_any_other():
    encoder = Chain(
        *(Conv(8, 3, stride=2, padding=1), ReLU(), MaxPool(2), Conv(8, 3, stride=2, padding=1, groups=8), ReLU()),
        Residual(Conv(8, 3, padding=1)),
    )
    model = Autoencoder(encoder, (3, 32, 32), literal=False).eval()
    program = model.export().module()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for size in (32, 47):
        x = torch.rand(2, 3, size, 40)
        for other in (program, compiled):
            torch.testing.assert_close(other(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)


def test_its_weights_cannot_be_tied():
    with pytest.raises(ShapeError, match="Leave out literal, or tied"):
        Autoencoder(Chain(Conv(8, 3)), (1, 28, 28), literal=False, tied=True)


# Where it starts ------------------------------------------------------------------------------------------------------


def test_the_first_images_are_small_and_grey():
    torch.manual_seed(0)
    for make, until in (learn.FAMILIES[name] for name in ("mobilenet_v2", "squeezenet1_1", "swin (narrow)")):
        first = Autoencoder(make(), learn.SHAPE, until=until)(torch.randn(4, *learn.SHAPE))[0]
        assert SMALL / 3 < first.std() < SMALL * 3


def test_a_branch_that_ends_in_a_norm_starts_at_nothing():
    branch = Chain(Conv(8, 3, padding=1), ReLU(), Conv(8, 3, padding=1), BatchNorm())
    module = Chain(Residual(branch), Parallel(branch, branch)).build((8, 9, 9))
    start(module)
    zeroed = [bool((m.weight == 0).all()) for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert zeroed == [True, False, True]  # of two branches that end so, one goes on


# The study -----------------------------------------------------------------------------------------------------------

RUNS = learn.known(learn.RESULTS)


def share(family, kind, mode="eval"):
    return mean(run[mode] for run in RUNS if (run["family"], run["kind"]) == (family, kind))


def test_the_table_of_the_page_is_that_of_the_runs():
    assert learn.table(RUNS) in learn.PAGE.read_text()
    runs = {(run["family"], run["kind"], run["seed"]) for run in RUNS if run["steps"] == 300}
    assert runs == {(family, kind, seed) for family in learn.FAMILIES for kind in learn.KINDS for seed in range(3)}
    assert len(RUNS) == len(runs)


def test_every_family_learns_with_one_set_of_defaults():
    shares = {family: share(family, "mirror") for family in learn.FAMILIES}
    assert min(shares.values()) > 0.95
    assert median(shares.values()) > 0.98
    ratios = [(1 - shares[family]) / (1 - share(family, "generic")) for family in learn.FAMILIES]
    assert max(ratios) < 2
    assert median(ratios) < 1
    gaps = [abs(share(family, "mirror") - share(family, "mirror", "train")) for family in learn.FAMILIES]
    assert max(gaps) < 1e-3


@pytest.mark.parametrize("family", list(learn.FAMILIES))
def test_the_decoders_of_the_runs_are_those_of_today(family):
    make, until = learn.FAMILIES[family]
    decoder = Autoencoder(make(), learn.SHAPE, until=until, approximate=True).decoder
    parameters = {run["parameters"] for run in RUNS if (run["family"], run["kind"]) == (family, "mirror")}
    assert parameters == {sum(weight.numel() for weight in decoder.parameters())}


# And so they learn ----------------------------------------------------------------------------------------------------


def test_a_mirror_learns_what_its_literal_form_does_not():
    images = learn.photographs()
    mirrored, literal = (learn.study("squeezenet1_1", kind, 0, 40, images)["eval"] for kind in ("mirror", "literal"))
    assert mirrored > 0.6
    assert mirrored > literal + 0.3


def test_calibrated_it_gives_in_evaluation_what_it_gave_in_training():
    run = learn.study("shufflenet_v2_x0_5", "mirror", 0, 30, learn.photographs())
    assert run["eval"] > 0.05
    assert abs(run["eval"] - run["train"]) < 1e-3


@pytest.mark.parametrize("family", list(learn.FAMILIES))
def test_every_weight_of_the_decoder_gets_a_gradient(family):
    torch.manual_seed(0)
    make, until = learn.FAMILIES[family]
    model, images = Autoencoder(make(), learn.SHAPE, until=until), learn.photographs()[:2]
    learn.fitted(model, images, steps=2)  # norms that started at zero let nothing through before
    model.train().zero_grad()
    (model(images)[0] - images).square().mean().backward()
    without = [
        name for name, weight in model.decoder.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not without
