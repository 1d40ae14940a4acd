"""Running statistics, measured anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from obverse.training.checks import fitting_images
from obverse.training.images import Images

__all__ = ["calibrate"]


def calibrate(model: nn.Module, data: Tensor | Images, *, batch_size: int = 500) -> None:
    """Set the running statistics of every BatchNorm to those of the data, as the weights stand now.

    >>> norm = nn.BatchNorm2d(3)
    >>> images = torch.rand(100, 3, 9, 9) + 5
    >>> calibrate(norm, images)
    >>> bool(torch.allclose(norm.eval()(images), norm.train()(images), atol=1e-4))
    True

    While training, a BatchNorm normalises by the batch that it sees; afterwards, in evaluation mode, by running
    statistics. Three things set the two apart, and through tens of layers they multiply: running statistics trail
    behind the weights, by ten steps with PyTorch's momentum of 0.1 and by thousands with the 0.0003 of some published
    networks; they are of training batches, each with a weight that fades; and they count the variance with n − 1 where
    a batch is normalised with n, which at a code of 2×2 cells is a few per cent a layer. A pass over the data, without
    gradients, puts all three right: mean and variance are those of the whole data.

    Args:
        model: changed in place; its mode is left as it was. Only BatchNorms that `model.train()` would set to training
            are measured, so a frozen encoder stays as it is. Dropout is off meanwhile.
        data: N×C×*spatial, uint8 or floats, as `train` takes them: what the model was trained on, or a part of it.
        batch_size: images at a time. Within a batch a norm sees what those in front of it make of the same batch, as in
            training, so batches should be of the size that was trained with, or larger.

    Raises:
        ShapeError: the images do not fit the model.

    Source: Wu and Johnson, *Rethinking "Batch" in BatchNorm* (arXiv:2105.07576), section 3, "PreciseBN".
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    images = fitting_images(model, data, "data", device)
    with _measuring(model) as moments, torch.no_grad():
        for share in images.shares(batch_size):
            model(share.images)
    for norm, seen in moments:
        seen.tell(norm)


@contextmanager
def _measuring(model: nn.Module) -> Iterator[list[tuple[_BatchNorm, _Moments]]]:
    """Everything in evaluation mode but the norms that training would change, with what reaches each of them."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    model.eval()
    moments = [(norm, _Moments()) for norm in norms]
    hooks = [norm.register_forward_pre_hook(seen.take) for norm, seen in moments]
    try:
        for norm in norms:
            norm.training = True
        yield moments
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode


@dataclass
class _Moments:
    """What reached a norm: how many cells a channel, their sum and the sum of their squares, in float64."""

    cells: int = 0
    sums: Any = 0
    squares: Any = 0

    def take(self, norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        channels = given[0].detach().transpose(0, 1).flatten(1).double()
        self.cells += channels.shape[1]
        self.sums = self.sums + channels.sum(1)
        self.squares = self.squares + channels.square().sum(1)

    def tell(self, norm: _BatchNorm) -> None:
        if self.cells and norm.running_mean is not None and norm.running_var is not None:
            mean = self.sums / self.cells
            norm.running_mean.copy_(mean)
            norm.running_var.copy_((self.squares / self.cells - mean.square()).clamp(min=0))
