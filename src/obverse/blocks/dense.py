"""Fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from obverse.block import Block
from obverse.later import Later
from obverse.settings import settle
from obverse.shapes import Shape, as_shape

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch = Later("torch")

__all__ = ["Linear"]


@dataclass(frozen=True, repr=False)
class Linear(Block):
    """A fully connected layer along the last axis: `torch.nn.Linear`.

    >>> Linear(10).output_shape((588,)), Linear(10).mirror((588,))
    ((10,), Linear(588))

    The size of the layer after a flatten, which is the question asked most often, is never written down:

    >>> from obverse import Chain, Conv, Flatten
    >>> Chain(Conv(32, 3, stride=2, padding=1), Flatten(), Linear(10)).plan((1, 27, 31)).steps[-1].input_shape
    (7168,)

    Shapes: `…×F` to `…×out_features`. Put `Flatten()` in front of it to connect everything with everything; such a
    layer fixes the size of the input, since its weights depend on it. `AdaptiveAvgPool(1)` in front of the flatten
    frees it again.

    Args:
        out_features: length of the last axis that comes out.
        bias: whether to add a number a feature.

    Mirror: the `Linear` back to as many features as there were.
    """

    out_features: int
    bias: bool = True

    adjoint = True

    def __post_init__(self) -> None:
        settle(self, out_features=1)

    def output_shape(self, shape: Shape) -> Shape:
        return (*as_shape(shape)[:-1], self.out_features)

    def mirror(self, shape: Shape) -> Block:
        return Linear(shape[-1], self.bias)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        return torch.nn.Linear(shape[-1], self.out_features, self.bias, device=device, dtype=dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        weight = (self.out_features, shape[-1])
        return {"weight": weight, "bias": (self.out_features,)} if self.bias else {"weight": weight}

    def multiply_adds(self, shape: Shape) -> int:
        return prod(shape) * self.out_features
