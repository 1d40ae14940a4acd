"""Mirrors that learn: what is mirrored in place of the encoder has its shapes, and what is built of it starts well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch import nn
from torchvision import models

from obverse import (
    Autoencoder,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Dropout,
    GroupNorm,
    MaxPool,
    Parallel,
    ReLU,
    Residual,
    ShapeError,
    mirror,
)
from obverse.habits import learnable
from obverse.starts import SMALL, start
from obverse.testing.strategies import chains_with_shapes

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import learn

# What is mirrored -----------------------------------------------------------------------------------------------------


@given(chains_with_shapes())
def test_it_has_the_shapes_of_the_encoder(drawn):
    chain, shape = drawn
    rewritten = learnable(chain, shape)
    assert rewritten.output_shape(shape) == chain.output_shape(shape)
    assert mirror(rewritten, shape).output_shape(chain.output_shape(shape)) == shape


def test_norms_stand_in_front_of_bare_activations_only():
    fire = Parallel(Chain(Conv(4, 1), ReLU()), Conv(4, 1), join="concat")
    encoder = Chain(
        *(Conv(8, 3), Dropout(), ReLU(), ReLU()),  # dropout does not normalise, and one norm is enough
        *(Conv(8, 3), GroupNorm(2), ReLU()),
        *(Chain(Conv(8, 3)), Chain(ReLU())),
        *(
            fire,
            ReLU(),
            Residual(Chain(Conv(8, 1), ReLU())),
            ReLU(),
        ),  # what is joined is not bare
    )
    norm = BatchNorm()
    assert learnable(encoder, (3, 28, 28)) == Chain(
        *(Conv(8, 3), Dropout(), norm, ReLU(), ReLU()),
        *(Conv(8, 3), GroupNorm(2), ReLU()),
        *(Chain(Conv(8, 3)), Chain(norm, ReLU())),
        *(Parallel(Chain(Conv(4, 1), norm, ReLU()), Conv(4, 1), join="concat"), ReLU()),
        *(Residual(Chain(Conv(8, 1), norm, ReLU())), ReLU()),
    )


@pytest.mark.parametrize("pool", [MaxPool(2), MaxPool(3, 2, 1), AvgPool(3, 2), MaxPool(3, 2, ceil_mode=True)])
def test_a_pooling_is_taken_back_by_windows_of_its_own_at_every_size(pool):
    encoder = learnable(Chain(Conv(8, 3), pool), (3, 28, 28))
    for size in range(9, 30):
        decoder = mirror(encoder, (3, size, size))
        assert decoder.output_shape(encoder.output_shape((3, size, size))) == (3, size, size)
        leaves = [link.block for link in decoder.links]
        assert any(isinstance(block, ConvTranspose) and block.groups == 8 for block in leaves)


def test_places_of_largest_values_go_back_where_they_were():
    encoder = Chain(Conv(8, 3), MaxPool(2, return_indices=True))
    assert learnable(encoder, (3, 28, 28)) == encoder


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
    assert other.decoder.block == mirror(encoder, (1, 28, 28), literal=False) != literal.decoder.block
    assert other(torch.rand(2, 1, 31, 29))[0].shape == (2, 1, 31, 29)
    assert Autoencoder.from_config(other.to_config()).decoder.block == other.decoder.block


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


def test_a_pooling_is_taken_back_by_interpolation():
    layer = ConvTranspose(4, 4, stride=2, padding=1, groups=4).build((4, 5, 5))
    start(nn.Sequential(layer, nn.Conv2d(4, 1, 1)))
    plain = layer(torch.ones(1, 4, 5, 5))[..., 1:-1, 1:-1]
    assert torch.allclose(plain, torch.ones_like(plain))
    ramp = layer(torch.arange(5.0).expand(1, 4, 5, 5))[0, 0, 4, 1:-1]
    assert torch.allclose(ramp.diff(), torch.full((7,), 0.5))


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


@pytest.mark.parametrize("family", ["squeezenet1_1", "shufflenet_v2_x0_5", "swin (narrow)"])
def test_every_weight_of_the_decoder_is_moved(family):
    torch.manual_seed(0)
    make, until = learn.FAMILIES[family]
    model = Autoencoder(make(), learn.SHAPE, until=until)
    before = {name: weight.clone() for name, weight in model.decoder.named_parameters()}
    learn.fitted(model, learn.photographs()[:4], steps=3)
    still = [name for name, weight in model.decoder.named_parameters() if torch.equal(weight, before[name])]
    assert not still
