"""Where the weights of a learnable mirror start."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import nn

from obverse.graph import Sum
from obverse.modules import Wired

__all__ = ["start"]

NORMS: tuple[Any, ...] = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
LAYERS: tuple[Any, ...] = (nn.Linear, nn.modules.conv._ConvNd)
SMALL = 0.1
"""The standard deviation of what the last layer gives at the start, for inputs of unit variance: images that are
normalised have 1, so training begins near the mean and not with large errors of the wrong sign."""


@torch.no_grad()
def start(decoder: nn.Module) -> None:
    """Set the weights from which a mirror learns well.

    >>> decoder = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(64, 3, 3))
    >>> start(decoder)
    >>> bool(decoder(torch.randn(8, 64, 9, 9)).std() < 0.2)    # images begin near their mean
    True

    A norm that ends a branch starts at zero, so that a sum of branches begins as the plain way through (Goyal et al.,
    arXiv:1706.02677, section 5.1). In an encoder that normalises in front of its branches every mirrored branch ends
    so, and without it the sum grows from branch to branch. The last layer gives small numbers.

    Args:
        decoder: what was built of a mirror; changed in place.
    """
    for module in decoder.modules():
        if isinstance(module, Wired):
            for norm in _ends(module):
                norm.weight.zero_()
    last = _last_layer(decoder)
    if last is not None:
        _shrink(last)


def _ends(wired: Wired) -> Iterator[Any]:
    """The norms whose values go into a sum, as long as another value goes into it."""
    makers = {wire: node for node in wired.graph.nodes for wire in node.gives}
    for node in wired.graph.nodes:
        if not isinstance(node.block, Sum):
            continue
        ends = [_last(wired.part(makers[wire].name)) if wire in makers else None for wire in node.takes]
        norms = [module for module in ends if isinstance(module, NORMS) and getattr(module, "weight", None) is not None]
        yield from norms if len(norms) < len(ends) else norms[1:]


def _last(module: nn.Module) -> nn.Module:
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def _last_layer(module: nn.Module) -> Any:
    """The layer with weights that runs last."""
    if isinstance(module, LAYERS):
        return module
    if isinstance(module, Wired):
        parts = [module.part(node.name) for node in reversed(module.graph.nodes)]
    else:
        parts = list(module.children())[::-1]
    return next(filter(None, map(_last_layer, parts)), None)


def _shrink(layer: Any) -> None:
    """Scale a layer so that inputs of unit variance come out with `SMALL`."""
    weight = layer.weight
    terms = weight.shape[0] * prod(weight.shape[2:]) / prod(layer.stride) if getattr(layer, "transposed", False) else 0
    terms = terms / layer.groups if terms else prod(weight.shape[1:])
    spread = weight.float().square().mean().mul(terms).sqrt()
    if not weight.is_meta and spread > 0:
        weight.mul_(SMALL / spread)
        if layer.bias is not None:
            layer.bias.zero_()
