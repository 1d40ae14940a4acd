"""What a rule says of a recorded call: the blocks and junctions that stand for it in a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from obverse.block import Block
from obverse.errors import MirrorError
from obverse.graph import Junction
from obverse.lifting.operations import Operation
from obverse.lifting.recording import Call, Value
from obverse.shapes import Shape

__all__ = ["Applied", "Manner", "Placed", "Recorded", "Step"]

Manner = Literal["exact", "kept", "whole", "approximate"]
"""How a step is mirrored: by its counterpart of adjoint shape, by itself, as a whole module, or only about so."""


@dataclass(frozen=True, eq=False)
class Step:
    """A call as a graph has it.

    Attributes:
        hub: the block or junction.
        uses: the places of the values that it takes, among the call's inputs; `None` for all.
        before: a block for each of those values, in front of the hub; `None` where there is nothing to do.
        after: a block behind the hub, for each value that it gives; `None` for nothing.
        manner: how it is mirrored.
    """

    hub: Block | Junction
    uses: tuple[int, ...] | None = None
    before: tuple[Block | None, ...] = ()
    after: tuple[Block | None, ...] = ()
    manner: Manner = "exact"


@dataclass(eq=False)
class Placed:
    """A step in its place.

    Attributes:
        label: its name in a graph.
        step: what stands for it; `None` while no rule is found.
        takes: the values that it takes.
        gives: the values that it gives.
        name: of the function or layer.
        call: what was recorded; `None` for a module that is kept whole.
    """

    label: str
    step: Any
    takes: list[Value]
    gives: list[Value]
    name: str
    call: Call | None


@dataclass(frozen=True, repr=False, eq=False)
class Applied(Operation):
    """A function that keeps the shape, applied as it was; its mirror is itself.

    Attributes:
        call: what was recorded.
    """

    name: str
    function: Callable[..., Any]
    args: Any
    kwargs: Any

    pointwise = True

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def mirror(self, shape: Shape) -> Block:
        return self

    def run(self, x: Tensor) -> Tensor:
        args, kwargs = tree_map(lambda leaf: x if isinstance(leaf, Value) else leaf, (self.args, self.kwargs))
        result: Tensor = self.function(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"Applied({self.name})"


@dataclass(frozen=True, repr=False, eq=False)
class Recorded(Block):
    """A step that was recorded and is described by its shapes alone, with what takes it back.

    It stands in the graph of a module. What is built there is the module itself, so it builds nothing.

    Attributes:
        name: of the function or layer.
        before: the shape that goes in.
        after: the shape that comes out.
        turned: the mirror; `None` where there is none.
        complaint: what to say then.
    """

    name: str
    before: Shape
    after: Shape
    turned: Block | None = None
    complaint: str = ""
    repair: str = ""

    def output_shape(self, shape: Shape) -> Shape:
        if shape != self.before and self.turned is not None:
            raise self.refuse(shape, "it was recorded at another shape.")
        return self.after

    def mirror(self, shape: Shape) -> Block:
        if self.turned is None:
            raise MirrorError(self.complaint, self.repair)
        return self.turned

    def build(self, shape: Shape) -> nn.Module:
        raise MirrorError(f"{self!r} is known by its shapes alone.", "Run the module that was lifted.")

    def __repr__(self) -> str:
        return f"Recorded({self.name})"


FunctionRule = Callable[[Call], Block | Junction | Step | None]
"""From a recorded call to what stands for it; `None` where the rule does not hold."""
