"""Runs of pointwise blocks: turned round as a whole, kept in order inside, dropped at both ends of a decoder only."""

import pytest
import torch
from torch import nn

from obverse import (
    Autoencoder,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool,
    Pad,
    Parallel,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
    Unflatten,
    mirror,
)
from running import leaves

SHAPE = (1, 9, 9)


def conv(channels):
    return Conv(channels, 3, stride=2, padding=1, bias=False)


def back(channels, bias=False):
    return ConvTranspose(channels, 3, stride=2, padding=1, bias=bias)


def test_a_run_is_turned_round_as_a_whole():
    chain = Chain(conv(4), BatchNorm(), ReLU(), conv(8), BatchNorm(), ReLU())
    assert chain.mirror(SHAPE) == Chain(BatchNorm(), ReLU(), back(4), BatchNorm(), ReLU(), back(1))
    assert mirror(chain, SHAPE) == Chain(back(4), BatchNorm(), ReLU(), back(1, bias=True))


def test_a_norm_has_the_channels_of_where_it_now_stands():
    decoder = Autoencoder(Chain(conv(4), BatchNorm(), ReLU(), conv(8)), SHAPE).decoder
    assert [type(module).__name__ for module in decoder] == [
        "ConvTranspose2d",
        "BatchNorm2d",
        "ReLU",
        "ConvTranspose2d",
    ]
    assert decoder[1].num_features == 4


def test_stages_keep_their_activations():
    stages = Chain(Chain(conv(4), BatchNorm(), ReLU()), Chain(conv(8), BatchNorm(), ReLU()))
    assert mirror(stages, SHAPE) == Chain(Chain(back(4)), Chain(BatchNorm(), ReLU(), back(1, bias=True)))
    flat = Chain(*leaves(stages))
    assert leaves(mirror(stages, SHAPE)) == leaves(mirror(flat, SHAPE))


@pytest.mark.parametrize(
    "stages",
    [
        Chain(conv(4), BatchNorm(), Chain(ReLU(), conv(8)), Dropout()),
        Chain(Chain(conv(4), BatchNorm()), ReLU(), Chain(conv(8)), Chain(Chain(Dropout()))),
        Chain(Chain(Chain(conv(4)), Chain(BatchNorm())), Chain(Chain(ReLU()), Chain(conv(8)), Dropout())),
    ],
    ids=str,
)
def test_a_run_goes_through_nested_chains(stages):
    assert leaves(stages.mirror(SHAPE)) == [Dropout(), back(4), BatchNorm(), ReLU(), back(1)]
    assert leaves(mirror(stages, SHAPE)) == [back(4), BatchNorm(), ReLU(), back(1, bias=True)]


def test_nothing_pointwise_stands_in_front_of_a_decoder_or_at_its_end():
    chain = Chain(Dropout(), Chain(BatchNorm(), conv(4)), ReLU(), conv(8), Tanh(), Chain(Dropout()))
    decoder = leaves(mirror(chain, SHAPE))
    assert decoder == [back(4), ReLU(), back(1, bias=True)]
    model = Autoencoder(chain, SHAPE, output=Sigmoid())
    assert [type(module) for module in model.decoder.modules() if not list(module.children())][-1] is nn.Sigmoid


def test_if_nothing_is_left_it_is_the_identity():
    for chain in (Chain(ReLU()), Chain(Chain(BatchNorm()), Dropout()), ReLU()):
        assert mirror(chain, SHAPE) == Identity()
    model = Autoencoder(Chain(Chain(ReLU()), Tanh()), SHAPE)
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(*model(x))


def test_bodies_keep_their_activations():
    body = Chain(Conv(4, 3, padding=1), BatchNorm(), ReLU())
    turned = Chain(BatchNorm(), ReLU(), ConvTranspose(4, 3, padding=1))
    assert mirror(Residual(body), (4, 9, 9)) == Residual(turned)
    assert mirror(Parallel(body, Conv(4, 1)), (4, 9, 9)) == Parallel(turned, ConvTranspose(4, 1))
    assert mirror(Chain(Residual(body)), (4, 9, 9)) == Chain(Residual(turned))


@pytest.mark.parametrize(
    ("encoder", "last"),
    [
        (Chain(conv(4), BatchNorm()), back(1, bias=True)),
        (Chain(Chain(Chain(conv(4))), Chain(BatchNorm(), conv(8))), back(1, bias=True)),
        (Chain(Flatten(), Linear(3, bias=False)), Linear(81)),
        (Chain(Conv(4, 4, padding="same", bias=False)), ConvTranspose(1, 4)),
        (Chain(Pad((0, 1)), conv(4)), back(1, bias=True)),
        (Chain(MaxPool(1), conv(4)), back(1, bias=True)),
    ],
    ids=str,
)
def test_the_last_layer_of_a_decoder_has_a_bias(encoder, last):
    assert any(layer.bias is False for layer in leaves(encoder.mirror(SHAPE)) if hasattr(layer, "bias"))
    layers = [layer for layer in leaves(mirror(encoder, SHAPE)) if hasattr(layer, "bias")]
    expected = last if not isinstance(last, ConvTranspose) else type(layers[-1])
    assert layers[-1].bias
    assert layers[-1] == expected or isinstance(layers[-1], ConvTranspose)
    assert all(layer.bias is False for layer in layers[:-1] if not isinstance(layer, Unflatten))
    names = [name for name, _ in Autoencoder(encoder, SHAPE).decoder.named_parameters()]
    assert names[-1].endswith("bias")


def test_only_the_last_layer_is_given_one():
    decoder = leaves(mirror(Chain(conv(4), conv(8)), SHAPE))
    assert decoder == [back(4), back(1, bias=True)]
    assert leaves(Chain(conv(4), conv(8)).mirror(SHAPE)) == [back(4), back(1)]
