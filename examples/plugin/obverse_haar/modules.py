"""The modules of the Haar wavelet, apart from its blocks: plans and mirrors do not import torch."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

__all__ = ["Haar", "InverseHaar"]

ROOT = 2**0.5


class Haar(nn.Module):
    """Sums and differences of neighbours, axis by axis; an odd size gets a zero behind."""

    def forward(self, x):
        for axis in range(2, x.ndim):
            x = x.movedim(axis, -1)
            first, second = x[..., ::2], F.pad(x, [0, 1])[..., 1::2]  # equally many, whether the size is odd or even
            x = torch.cat([first + second, first - second], dim=1).movedim(-1, axis) / ROOT
        return x


class InverseHaar(nn.Module):
    """The neighbours, from their sums and differences; `size` tells another model's size than the one built for."""

    def __init__(self, dropped):
        super().__init__()
        self.dropped = tuple(dropped)

    def forward(self, x, size=None):
        if size is None:
            size = [2 * n - drop for n, drop in zip(x.shape[2:], self.dropped, strict=True)]
        for axis in range(x.ndim - 1, 1, -1):
            total, gap = x.unflatten(1, (2, -1)).unbind(1)
            x = torch.stack([total + gap, total - gap], dim=axis + 1).flatten(axis, axis + 1) / ROOT
            x = F.pad(x.movedim(axis, -1), [0, size[axis - 2] - x.shape[axis]]).movedim(-1, axis)
        return x
