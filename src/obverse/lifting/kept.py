"""What is kept as it is: a module that no block describes, or a step that was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor, nn

from obverse.block import Block
from obverse.errors import MirrorError
from obverse.lifting.cutting import code_in
from obverse.lifting.make import Make, dtype_of, uncompiled
from obverse.shapes import Shape, shape_text
from obverse.sight import ITSELF, Sight

__all__ = ["NOISE", "Arguments", "Kept"]

NOISE = {"StochasticDepth", "DropPath", "DropBlock2d"}
"""Modules that do nothing in evaluation and are not to be lost for that, by the names that libraries give them."""


class _Place(Enum):
    """Where the input stood: an `Enum`, since its one member stays itself when it is copied or pickled."""

    INPUT = "the input"


class Arguments:
    """What a module was called with besides its input, and which of its results was used.

    Attributes:
        args: positional, with `Arguments.INPUT` where the input stood.
        kwargs: by name, likewise.
        result: the place of the result in the tuple that it gives; `None` if it gives a single tensor.
    """

    INPUT = _Place.INPUT

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: int | None = None) -> None:
        self.args, self.kwargs, self.result = args, kwargs, result

    def call(self, module: nn.Module, x: Tensor) -> Tensor:
        """The module's result for another input."""
        args = [x if given is Arguments.INPUT else given for given in self.args]
        kwargs = {name: x if given is Arguments.INPUT else given for name, given in self.kwargs.items()}
        given = module(*args, **kwargs)
        result: Tensor = given if self.result is None else given[self.result]
        return result


@dataclass(frozen=True, repr=False, eq=False)
class Kept(Block):
    """A module as it is: what is built is a new one of the same make, with parameters of its own.

    >>> block = Kept.of(nn.PReLU(8))
    >>> block.output_shape((8, 5, 5)), block.mirror((8, 5, 5)) is block
    ((8, 5, 5), True)

    It holds no weights, only what the module is made of; so it is no plain value and has no config.

    Args:
        make: what the module is made of.
        path: where in it; `""` is all of it.
        turned: the mirror; by default the module is its own, if it keeps the shape.
        arguments: what it is called with.
        alone: whether every number is computed without its neighbours in space, as in norms and activations.
        clones: whether it overwrites its input, and is given a copy.
        manner: `"kept"`, or `"whole"` for a module whose inside has no mirror of its own.

    Raises:
        MirrorError: for the mirror of a module that changes its shape.
    """

    make: Make
    path: str = ""
    turned: Block | None = None
    arguments: Arguments | None = None
    alone: bool = False
    clones: bool = False
    manner: Literal["kept", "whole"] = "kept"
    _shapes: dict[Shape, Shape] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module, turned: Block | None = None, alone: bool = False) -> Kept:
        """The block of a single module."""
        return cls(Make(module), turned=turned, alone=alone)

    @property
    def pointwise(self) -> bool:  # type: ignore[override]
        """Norms and activations of another make than PyTorch's are as pointwise as those."""
        return self.alone

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Stochastic depth, and what else is noise for training only."""
        module = self.make.part(self.path)
        return type(module).__name__ in NOISE or isinstance(module, nn.modules.dropout._DropoutNd)

    def output_shape(self, shape: Shape) -> Shape:
        if shape not in self._shapes:
            self._shapes[shape] = _measured(self, shape)
        return self._shapes[shape]

    def knowing(self, before: Shape, after: Shape) -> Kept:
        """The same, where one answer is known."""
        self._shapes[before] = after
        return self

    def mirror(self, shape: Shape) -> Block:
        after = self.output_shape(shape)
        if self.turned is not None:
            return self.turned
        if after == shape:
            return self
        name = type(self.make.part(self.path)).__name__
        raise MirrorError(
            f"{name} takes {shape_text(shape)} to {shape_text(after)}, and no rule says what takes it back.",
            f"Add one: @lift.register({name}).",
        )

    def build(self, shape: Shape) -> nn.Module:
        return self.make.fresh(self.path)

    def invoke(self, module: nn.Module, x: Tensor) -> Tensor:
        """What its module gives, called as it was when it was recorded."""
        given = x.clone() if self.clones else x
        result: Tensor = module(given) if self.arguments is None else self.arguments.call(module, given)
        return result

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        named = self.make.part(self.path).named_parameters()
        return {name: tuple(parameter.shape) for name, parameter in named}

    def windows(self, shape: Shape) -> Sight:
        return (ITSELF,) * (len(shape) - 1) if self.pointwise else None

    def __repr__(self) -> str:
        return f"Kept({type(self.make.part(self.path)).__name__})"


def _measured(block: Kept, shape: Shape) -> Shape:
    module = block.make.part(block.path)
    was = module.training
    with torch.no_grad(), uncompiled():
        x = torch.empty(2, *shape, device="meta", dtype=dtype_of(module))
        arguments = block.arguments or Arguments((Arguments.INPUT,), {})
        try:
            given = arguments.call(module.eval(), x)
        except Exception as error:
            raise block.refuse(shape, f"the module refuses it: {str(error).rstrip('.')}.") from None
        finally:
            module.train(was)
    return tuple(code_in(given).shape[1:])
