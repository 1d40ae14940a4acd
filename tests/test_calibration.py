"""Running statistics, measured anew: evaluation then gives what training gave."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from obverse import Autoencoder, BatchNorm, Chain, Conv, Dropout, ReLU, ShapeError
from obverse.training import calibrate, train

IMAGES = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def deep(depth=6, momentum=0.1):
    """A code of 2×2 cells behind many norms, where what sets the two modes apart multiplies."""
    torch.manual_seed(0)
    stages = [Chain(Conv(16, 3, stride=2, padding=1), BatchNorm(momentum=momentum), ReLU()) for _ in range(3)]
    same = [Chain(Conv(16, 3, padding=1), BatchNorm(momentum=momentum), ReLU()) for _ in range(depth)]
    return Autoencoder(Chain(*stages, *same), IMAGES.shape[1:])


def gap(model, images):
    with torch.no_grad():
        frozen = {name: value.clone() for name, value in model.state_dict().items()}
        training = model.train()(images)[0]
        model.load_state_dict(frozen)  # training moved the running statistics
        return float((training - model.eval()(images)[0]).abs().max() / training.std())


@pytest.mark.parametrize("momentum", [0.1, 0.0003])
def test_evaluation_gives_what_training_gave(momentum):
    model = deep(momentum=momentum)
    train(model, IMAGES, epochs=5, batch_size=32, progress=False)
    assert gap(model, IMAGES) > 0.1
    calibrate(model, IMAGES)
    assert gap(model, IMAGES) < 1e-4


def test_over_several_batches_the_statistics_are_those_of_all_images():
    norm = nn.BatchNorm2d(3)
    calibrate(norm, IMAGES, batch_size=5)
    assert torch.allclose(norm.running_mean, IMAGES.mean((0, 2, 3)))
    assert torch.allclose(norm.running_var, IMAGES.var((0, 2, 3), correction=0))


def test_modes_and_what_is_frozen_stay():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    model = nn.Sequential(Frozen(3), nn.Dropout(), nn.BatchNorm2d(3)).eval()
    model[1].training = True
    before = {name: value.clone() for name, value in model[0].state_dict().items()}
    calibrate(model, IMAGES)
    assert [module.training for module in model] == [False, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model[0].state_dict().items())
    assert torch.allclose(model[2].running_mean, model[0](IMAGES).mean((0, 2, 3)), atol=1e-6)  # no dropout meanwhile


def test_an_error_leaves_no_hook_and_no_other_mode():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(4, 3, 1)).eval()
    with pytest.raises(RuntimeError):
        calibrate(model, IMAGES)
    assert not model.training
    assert not model[0].training
    assert not model[0]._forward_pre_hooks


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="channels"):
        calibrate(Autoencoder(Chain(Conv(4, 3), BatchNorm(), Dropout()), (3, 16, 16)), torch.rand(8, 1, 16, 16))
