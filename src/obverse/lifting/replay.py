"""What lies between two values of one shape, run again: calls that were recorded, with parameters of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from obverse.block import Block
from obverse.errors import MirrorError
from obverse.lifting.make import Make, dtype_of
from obverse.lifting.recording import BATCH, Call, Constant, Value, constants_in
from obverse.modules import room
from obverse.shapes import Shape

__all__ = ["Replay", "replay_of"]


@dataclass(frozen=True)
class Register:
    """A tensor that an instruction gave."""

    number: int


@dataclass(frozen=True)
class Held:
    """A tensor that the module holds: a parameter, or a buffer."""

    name: str


@dataclass(frozen=True, eq=False)
class Instruction:
    """One call, as it is run again.

    Attributes:
        function: what is called; `None` for a module.
        path: of the module.
        args: with a `Register` or a `Held` for every tensor.
        kwargs: likewise.
        gives: the registers of what comes out, in order.
        overwrites: whether it overwrites its first argument.
    """

    function: Callable[..., Any] | None
    path: str
    args: Any
    kwargs: Any
    gives: tuple[int, ...]
    overwrites: bool


@dataclass(frozen=True, repr=False, eq=False)
class Replay(Block):
    """Calls that were recorded, from one value to another of the same shape; its mirror is itself.

    What is built has parameters of its own, of the same make as those that the calls use. Tensors that were computed
    from no input, masks and tables of positions, are computed anew, for the device that it runs on. Functions are
    called as in evaluation, since they were recorded in it; layers as they are.

    Attributes:
        make: what the module is made of.
        instructions: the calls.
        shape: that of one example, before and after.
        parts: how many of what it takes make one example of the recording.
        sink: the register of what comes out.
        inside: the path of the module around it, which the names of its own parts leave away.
        name: what it is in a drawing.
    """

    make: Make
    instructions: tuple[Instruction, ...]
    shape: Shape
    parts: int
    sink: int
    inside: str = ""
    name: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """What was recorded in: where a call names it, the dtype that there is stands in its place."""
        return dtype_of(self.make.module)

    def output_shape(self, shape: Shape) -> Shape:
        if shape != self.shape:
            raise self.refuse(shape, "it was recorded at another shape.")
        return shape

    def mirror(self, shape: Shape) -> Block:
        return self

    def build(self, shape: Shape) -> nn.Module:
        return Replayed(self)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        with torch.device("meta"):
            named = self.build(shape).named_parameters()
        return {name: tuple(parameter.shape) for name, parameter in named}

    @property
    def paths(self) -> list[str]:
        """The modules that it calls, outer ones first."""
        return sorted({step.path for step in self.instructions if step.function is None})

    @property
    def tensors(self) -> list[str]:
        """The tensors that it uses besides."""
        leaves = tree_leaves([(step.args, step.kwargs) for step in self.instructions])
        return sorted({leaf.name for leaf in leaves if isinstance(leaf, Held)})

    def invoke(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run the calls with the parts of its module."""
        assert isinstance(module, Replayed)
        batch = x.shape[0] // self.parts
        recorded = self.dtype
        held: dict[int, Tensor] = {0: x.clone() if any(step.overwrites for step in self.instructions) else x}

        def now(leaf: Any) -> Any:
            if isinstance(leaf, Register):
                return held[leaf.number]
            if isinstance(leaf, Held):
                return module.tensor(leaf.name)
            if isinstance(leaf, torch.device):
                return x.device
            return x.dtype if leaf is recorded else _with_batch(leaf, batch)

        for step in self.instructions:
            args, kwargs = tree_map(now, (step.args, step.kwargs))
            given = (step.function or module.part(step.path))(*args, **kwargs)
            tensors = [leaf for leaf in tree_leaves(args[0] if given is None else given) if isinstance(leaf, Tensor)]
            held.update(zip(step.gives, tensors, strict=True))
        return held[self.sink]

    def __repr__(self) -> str:
        return f"Replay({self.name})"


def _with_batch(leaf: Any, batch: int) -> Any:
    """A number that was recorded, with the batch that there is in place of the one that was recorded with."""
    if isinstance(leaf, int) and leaf and leaf % BATCH == 0:
        return leaf // BATCH * batch
    if isinstance(leaf, torch.Size):
        return tuple([_with_batch(n, batch) for n in leaf])
    if isinstance(leaf, slice):
        return slice(*[_with_batch(n, batch) for n in (leaf.start, leaf.stop, leaf.step)])
    return leaf


class Replayed(nn.Module):
    """The module of a replay: the parts of the recorded module that it uses, as new ones."""

    def __init__(self, block: Replay) -> None:
        super().__init__()
        self.block = block
        self.places: dict[str, str] = {}
        for name in (*block.paths, *block.tensors):
            inside = f"{block.inside}."
            self.places[name] = name.removeprefix(inside) if block.inside else name
            *path, last = self.places[name].split(".")
            around = room(self, tuple(path))
            if not hasattr(around, last):  # it may have come with a module around it
                _put(around, last, block.make.fresh(name) if name in block.paths else block.make.fresh_tensor(name))

    def part(self, path: str) -> nn.Module:
        return self.get_submodule(self._place(path))

    def tensor(self, name: str) -> Tensor:
        path, _, last = self._place(name).rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(path), last)
        return tensor

    def _place(self, name: str) -> str:
        if name not in self.places:
            raise MirrorError(
                f"{self.block!r} has no {name!r} at the size for which it was built.", "Build it for this size."
            )
        return self.places[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.block.invoke(self, x)


def _put(module: nn.Module, name: str, made: nn.Module | Tensor) -> None:
    if isinstance(made, nn.Module):
        module.add_module(name, made)
    elif isinstance(made, nn.Parameter):
        module.register_parameter(name, made)
    else:
        module.register_buffer(name, made, persistent=False)


def replay_of(make: Make, calls: Iterable[Call], source: Value, sink: Value) -> Replay | None:
    """The replay of some calls; `None` if they need a tensor of which nobody knows how it was made.

    Args:
        make: of the module.
        calls: all that lead from the source to the sink; a call of a whole module has its path.
        source: what goes in.
        sink: what comes out.
    """
    calls = sorted(calls, key=lambda call: call.number)
    constants = _computed(calls)
    if constants is None:
        return None
    numbers: dict[Value | Constant, int] = {source: 0}
    instructions: list[Instruction] = []
    for call in sorted((*constants, *calls), key=lambda call: call.number):
        args, kwargs = tree_map(lambda leaf: _read(leaf, numbers), (call.args, call.kwargs))
        for value in call.outputs:
            numbers[value] = len(numbers)
        gives = tuple([numbers[value] for value in call.outputs])
        function = None if call.module is not None else call.function
        instructions.append(Instruction(function, call.path, args, kwargs, gives, call.overwrites))
    name = calls[0].name if len(calls) == 1 else f"{calls[0].name} … {calls[-1].name}"
    inside = _around(calls)
    return Replay(make, tuple(instructions), sink.sizes[1:], source.parts, numbers[sink], inside, name)


def _read(leaf: Any, numbers: Mapping[Value | Constant, int]) -> Any:
    if not isinstance(leaf, (Value, Constant)):
        return leaf
    return Held(leaf.place) if isinstance(leaf, Constant) and leaf.place else Register(numbers[leaf])


def _computed(calls: Sequence[Call]) -> list[Call] | None:
    """The calls that gave the constants which some calls use; `None` if one is unknown."""
    found: dict[Call, None] = {}
    ahead = list(calls)
    while ahead:
        for constant in constants_in(ahead.pop()):
            if not constant.place and constant.maker is None:
                return None
            if constant.maker is not None and constant.maker not in found:
                found[constant.maker] = None
                ahead.append(constant.maker)
    return list(found)


def _around(calls: Sequence[Call]) -> str:
    """The path of the innermost module in which all calls happened."""
    paths = [[scope.path for scope in call.scopes] for call in calls]
    shared = [path for path, *others in zip(*paths, strict=False) if all(other == path for other in others)]
    return shared[-1] if shared else ""
