"""What is done to every part of an example: modules fold windows or patches into the batch, and unfold them later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from obverse.block import Block
from obverse.graph import Concat, Junction, Split
from obverse.lifting.recording import BATCH, Call, Value
from obverse.lifting.steps import Step
from obverse.modules import call as call_module
from obverse.modules import needs_of
from obverse.shapes import Shape, shape_text

__all__ = ["Each", "for_each", "of_one_part"]


@dataclass(frozen=True, repr=False)
class Each(Block):
    """A block on every part of an example, as if each were an example of its own.

    >>> from obverse import Conv
    >>> Each(Conv(8, 3)).output_shape((4, 3, 7, 7)), Each(Conv(8, 3)).mirror((4, 3, 7, 7))
    ((4, 8, 5, 5), Each(ConvTranspose(3, 3)))

    The parts come first in the shape. They share the block's weights, as examples do, so that what is built is the
    block's own module.

    Args:
        block: what is done to one part.

    Mirror: that of the block, on every part.

    Raises:
        ShapeError: for a shape of a single axis, in which there are no parts.
    """

    block: Block

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        return self.block.adjoint

    @property
    def pointwise(self) -> bool:  # type: ignore[override]
        return self.block.pointwise

    @property
    def form(self) -> Block:
        """What it is for a network that is built: the same as its block, whose module serves both."""
        return self.block

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise self.refuse(shape, f"{shape_text(shape)} has no parts.")
        return (shape[0], *self.block.output_shape(shape[1:]))

    def mirror(self, shape: Shape) -> Block:
        return Each(self.block.mirror(shape[1:]))

    def build(self, shape: Shape) -> nn.Module:
        return self.block.build(shape[1:])

    def invoke(self, module: nn.Module, x: Tensor) -> Tensor:
        """What the block's module gives, with the parts as examples."""
        parts = x.flatten(0, 1)
        if hasattr(self.block, "invoke"):
            given = self.block.invoke(module, parts)
        else:
            given = call_module(module, needs_of(module), parts, (self.block, tuple(parts.shape[1:])), None)
        result: Tensor = given.unflatten(0, (-1, x.shape[1]))
        return result

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return self.block.parameter_shapes(shape[1:])

    def multiply_adds(self, shape: Shape) -> int:
        return shape[0] * self.block.multiply_adds(shape[1:])

    def windows(self, shape: Shape) -> None:
        return None

    def __repr__(self) -> str:
        return f"Each({self.block!r})"


def of_one_part(call: Call) -> Call | None:
    """The call as it is on a single part; `None` if it does not keep parts apart, as all its values tell."""
    values = [*call.inputs, *call.outputs]
    parts = {value.parts for value in values}
    if len(parts) > 1 or parts == {1} or not all(value.has_batch for value in values):
        return None
    inner = {value: Value((BATCH, *value.sizes[1:])) for value in values}

    def replaced(tree: Any) -> Any:
        return tree_map(lambda leaf: inner.get(leaf, leaf) if isinstance(leaf, Value) else leaf, tree)

    args, kwargs = replaced((call.args, call.kwargs))
    return replace(call, args=args, kwargs=kwargs, outputs=[inner[value] for value in call.outputs])


def for_each(step: Step) -> Step:
    """A step on one part as a step on all of them."""
    hub = step.hub
    if isinstance(hub, Concat):
        hub = Concat(hub.axis + 1)
    elif isinstance(hub, Split):
        hub = Split(hub.sizes, hub.axis + 1)
    elif not isinstance(hub, Junction):
        hub = Each(hub)
    before, after = (tuple([block and Each(block) for block in blocks]) for blocks in (step.before, step.after))
    return replace(step, hub=hub, before=before, after=after)
