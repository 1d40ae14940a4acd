"""What carries information round the code, for everybody to see: Skip and Rejoin."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Literal

from obverse.block import Block
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import spatial_rank
from obverse.shapes import Shape
from obverse.sight import Sight, Window

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    modules = Later("obverse.modules")

__all__ = ["Rejoin", "Skip"]


@dataclass(frozen=True, repr=False)
class _Passing(Block):
    """What both ends of a skip share: the way in which it is joined."""

    join: Literal["concat", "add"] = "concat"

    def __post_init__(self) -> None:
        if self.join not in ("concat", "add"):
            raise ShapeError(
                f"join={self.join!r} is neither 'concat' nor 'add'.", "Leave it out.", where=type(self).__name__
            )

    def output_shape(self, shape: Shape) -> Shape:
        if self.join == "concat":  # which ends in a convolution
            spatial_rank(self, shape)
        return shape

    def mirror(self, shape: Shape) -> Block:
        raise NotImplementedError

    def windows(self, shape: Shape) -> Sight:
        return (Window(),) * (len(shape) - 1)  # through the code; what goes round it is seen by who joins it


@dataclass(frozen=True, repr=False)
class Skip(_Passing):
    """What passes here goes on, and is handed round the code to the mirror as well.

    >>> from obverse import Chain, Conv, ReLU
    >>> encoder = Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Skip(), Conv(16, 3, stride=2, padding=1))
    >>> encoder.mirror((1, 27, 27))    # the skip is aligned, since each mirror gives back its counterpart's shape
    Chain(ConvTranspose(8, 3, stride=2, padding=1, output_padding=1), Rejoin(), ReLU(), \
ConvTranspose(1, 3, stride=2, padding=1))

    Args:
        join: how the mirror joins it: `"concat"`, and a 1×1 convolution to as many channels as there were; or `"add"`.

    Mirror: `Rejoin`.

    Raises:
        ShapeError: for a concatenation without spatial axes, which its mirror could not fuse.

    Source: Ronneberger et al., arXiv:1505.04597.
    """

    around = "gives"

    def mirror(self, shape: Shape) -> Block:
        return Rejoin(self.join)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        return modules.Keep()

    def numbers_around(self, shape: Shape) -> int:
        return prod(shape)


@dataclass(frozen=True, repr=False)
class Rejoin(_Passing):
    """What a `Skip` handed round the code, joined to what came through it.

    >>> Rejoin().parameter_shapes((8, 14, 14)), Rejoin("add").parameter_shapes((8, 14, 14))
    ({'weight': (8, 16, 1, 1), 'bias': (8,)}, {})

    Args:
        join: `"concat"`, and a 1×1 convolution to as many channels as there were; or `"add"`.

    Mirror: `Skip`.

    Raises:
        ShapeError: for a concatenation without spatial axes; from the module, where nothing was handed round.
    """

    around = "takes"

    def mirror(self, shape: Shape) -> Block:
        return Skip(self.join)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        if self.join == "add":
            return modules.Add()
        self.output_shape(shape)
        fuse: nn.Module = modules.FUSES[len(shape) - 1](2 * shape[0], shape[0], 1, device=device, dtype=dtype)
        return fuse

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        if self.join == "add":
            return {}
        return {"weight": (shape[0], 2 * shape[0], *(1,) * (len(shape) - 1)), "bias": shape[:1]}

    def multiply_adds(self, shape: Shape) -> int:
        return 0 if self.join == "add" else 2 * shape[0] * prod(shape)
