"""Images in memory, and the batches that several processes share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from obverse.errors import ShapeError

__all__ = ["Images", "Share"]


@dataclass(frozen=True)
class Share:
    """One process's part of a batch.

    >>> share = next(iter(Images(torch.rand(9, 1, 28, 28)).shares(4)))
    >>> share.images.shape, share.size, share.of
    (torch.Size([3, 1, 28, 28]), 3, 3)

    Attributes:
        images: N×C×*spatial, floats.
        size: how many of them count: N, or 0 where a batch is too small to give every process one. (Such a process
            still computes an image, since the others wait for it.)
        of: the size of the whole batch, over all processes.
    """

    images: Tensor
    size: int
    of: int


class Images:
    """Images that stay on one device as they came, and leave it as batches of floats.

    An epoch is cut into equal batches, to within one image: 9 images in batches of 4 make three threes, where 4, 4
    and 1 would give the last image four times the weight (and BatchNorm a batch of one, which it refuses).

    >>> images = Images(torch.full((9, 1, 28, 28), 255, dtype=torch.uint8))
    >>> [share.size for share in images.shares(4)]
    [3, 3, 3]
    >>> next(images.shares(4)).images.max()
    tensor(1.)

    Two processes share every batch; what they see together is what one sees with `batch_size=4`:

    >>> [share.size for share in images.shares(2, process=0, processes=2)]
    [2, 2, 2]
    >>> [share.size for share in images.shares(2, process=1, processes=2)]
    [1, 1, 1]

    Args:
        pixels: N×C×*spatial; uint8 (0..255, a quarter of the memory of floats, the default choice for pictures) or
            floating point, which is taken as it is.
        device: where they are kept; None leaves them where they are.

    Raises:
        ShapeError: there is no image, or the pixels are neither uint8 nor floating point.
    """

    def __init__(self, pixels: Tensor, device: torch.device | str | None = None) -> None:
        pixels = torch.as_tensor(pixels)
        _check_pixels(pixels)
        self.pixels = pixels.to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, `(C, *spatial)`."""
        return tuple(self.pixels.shape[1:])

    def at(self, indices: Tensor) -> Tensor:
        """Give the images at `indices` as floats: uint8 divided by 255, floats as they are."""
        chosen = self.pixels[indices.to(self.pixels.device)]
        return chosen.float().div_(255) if chosen.dtype == torch.uint8 else chosen.float()

    def batches(self, batch_size: int, processes: int = 1) -> int:
        """How many batches an epoch has: as few as `batch_size` images for each process allow."""
        return math.ceil(len(self) / (batch_size * processes))

    def shares(
        self, batch_size: int, generator: torch.Generator | None = None, *, process: int = 0, processes: int = 1
    ) -> Iterator[Share]:
        """Give every image once, over all processes.

        Args:
            batch_size: images of one process in one batch, at most.
            generator: shuffles the images; it must be in the same state in every process. None keeps their order.
            process: which process this is, counted from 0.
            processes: how many there are.

        Yields:
            This process's share of each batch.
        """
        count = len(self)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        for batch in order.tensor_split(self.batches(batch_size, processes)):
            share = batch.tensor_split(processes)[process]
            yield Share(self.at(share if len(share) else batch[:1]), len(share), len(batch))


def _check_pixels(pixels: Tensor) -> None:
    if pixels.ndim == 0 or len(pixels) == 0:
        raise ShapeError(f"there are no images in a tensor of shape {tuple(pixels.shape)}.", "Give N×C×H×W, N ≥ 1.")
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise ShapeError(
            f"images of {pixels.dtype} could mean 0..255 or 0..1.",
            "Give uint8 for 0..255 (images.to(torch.uint8)) or floats for 0..1 (images.float()).",
        )
