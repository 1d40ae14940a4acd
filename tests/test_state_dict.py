"""A composed model is the hand-written one that it replaces: the same keys, the same numbers."""

import pytest
import torch
from torch import nn

from obverse import (
    Autoencoder,
    BatchNorm,
    Chain,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Parallel,
    ReLU,
    Residual,
    Sigmoid,
    mirror,
)


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 12, 7))
        )
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(12, 32, 7), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid()),
        )

    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code), code


ENCODER = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))


@pytest.fixture
def tutorial():
    return Tutorial(), Autoencoder(ENCODER, (1, 28, 28), output=Sigmoid())


def test_the_keys_and_shapes_of_the_tutorials_model(tutorial):
    by_hand, composed = ({name: tuple(value.shape) for name, value in model.state_dict().items()} for model in tutorial)
    assert list(composed.items()) == list(by_hand.items())
    assert list(composed) == [
        *("encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias"),
        *("encoder.4.weight", "encoder.4.bias", "decoder.0.weight", "decoder.0.bias"),
        *("decoder.2.weight", "decoder.2.bias", "decoder.4.weight", "decoder.4.bias"),
    ]


def test_the_numbers_of_the_tutorials_model_forwards_and_back(tutorial):
    by_hand, composed = tutorial
    composed.load_state_dict(by_hand.state_dict(), strict=True)
    x = torch.rand(5, 1, 28, 28)
    outcomes = []
    for model in tutorial:
        reconstruction, code = model(x)
        (reconstruction - x).square().mean().backward()
        outcomes.append((reconstruction, code, [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


def test_weights_of_the_composed_model_load_into_the_one_by_hand(tutorial):
    by_hand, composed = tutorial
    by_hand.load_state_dict(composed.state_dict(), strict=True)
    x = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(by_hand(x), composed(x), rtol=0, atol=0)


def test_the_same_seed_makes_the_same_weights():
    torch.manual_seed(1)
    by_hand = Tutorial()
    torch.manual_seed(1)
    composed = Autoencoder(ENCODER, (1, 28, 28), output=Sigmoid())
    torch.testing.assert_close(dict(composed.state_dict()), dict(by_hand.state_dict()), rtol=0, atol=0)


def test_the_modules_are_those_of_pytorch(tutorial):
    by_hand, composed = tutorial
    for theirs, ours in zip([*by_hand.encoder, *by_hand.decoder], [*composed.encoder, *composed.decoder], strict=True):
        assert isinstance(ours, type(theirs))
    assert isinstance(composed.encoder, nn.Sequential)
    assert isinstance(composed.decoder, nn.Sequential)


def test_keys_are_the_places_that_a_plan_shows():
    encoder = Chain(
        Chain(Conv(8, 3, padding=1, bias=False), BatchNorm(), ReLU()),
        Residual(Chain(Conv(8, 3, padding=1), ReLU())),
        Parallel(Conv(4, 1), Conv(2, 1), join="concat"),
        MaxPool(2),
        Flatten(),
        Linear(5),
    )
    keys = list(Autoencoder(encoder, (1, 4, 4)).state_dict())
    assert [key for key in keys if key.startswith("encoder.")] == [
        "encoder.0.0.weight",
        *(f"encoder.0.1.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *("encoder.1.body.0.weight", "encoder.1.body.0.bias"),
        *("encoder.2.0.weight", "encoder.2.0.bias", "encoder.2.1.weight", "encoder.2.1.bias"),
        *("encoder.5.weight", "encoder.5.bias"),
    ]
    assert [key for key in keys if key.startswith("decoder.")] == [
        *("decoder.0.weight", "decoder.0.bias"),
        *("decoder.3.0.weight", "decoder.3.0.bias", "decoder.3.1.weight", "decoder.3.1.bias"),
        *("decoder.4.body.1.weight", "decoder.4.body.1.bias"),
        *(f"decoder.5.0.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *("decoder.5.2.weight", "decoder.5.2.bias"),
    ]
    named = {key for key, _ in Autoencoder(encoder, (1, 4, 4)).encoder.named_parameters()}
    assert named == set(encoder.parameter_shapes((1, 4, 4)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_is_built_where_and_as_it_is_asked(device, dtype):
    encoder = Chain(Conv(8, 4, padding="same"), BatchNorm(), ReLU(), Residual(Conv(8, 1)), Flatten(), Linear(5))
    model = Autoencoder(encoder, (1, 4, 4), device=device, dtype=dtype)
    assert {value.device.type for value in model.state_dict().values()} == {device}
    assert {value.dtype for value in model.parameters()} == {dtype}


def test_a_mirror_of_a_single_block_is_a_block():
    assert mirror(Conv(4, 3), (1, 5)).build((4, 3)).state_dict().keys() == {"weight", "bias"}
