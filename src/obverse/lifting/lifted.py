"""Blocks from an existing module: a chain where it is one, or else a graph that is recorded for every shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import nn

from obverse.block import Block
from obverse.blocks.branching import Drawn
from obverse.blocks.pointwise import Identity
from obverse.chain import Chain
from obverse.errors import MirrorError, ShapeError
from obverse.graph import Graph
from obverse.lifting.cutting import Until
from obverse.lifting.kept import NOISE, Kept
from obverse.lifting.make import Make, copy_of_lazy, has_no_weights_yet, run_once
from obverse.lifting.recording import Call, record
from obverse.lifting.rules_of_functions import FUNCTIONS
from obverse.lifting.rules_of_modules import RULES, is_itself, rule_for
from obverse.lifting.rules_of_others import either, of_function, of_module, refuse_no_block
from obverse.lifting.skipping import SkipPoint, skip_points
from obverse.lifting.steps import Recorded, Step
from obverse.lifting.trying import output_shape, refusal
from obverse.lifting.wiring import Drawing, draw, placed_steps
from obverse.plugins import Group, Plugin
from obverse.rewrite import Skips
from obverse.shapes import Shape, as_shape, shape_text
from obverse.sight import Sight

__all__ = ["Lifted", "lift", "path_of", "ready"]


@dataclass(frozen=True, repr=False)
class Lifted(Drawn):
    """A module that is no plain sequence of layers, as a graph of blocks.

    What is built is a module of the same make, with parameters of its own, under the names that they have there. The
    graph says what it does, and what takes that back. It holds for one shape: it is recorded from one forward pass on
    the meta device, and recorded again for each other shape, so whatever the module does with sizes is followed.

    >>> from torchvision.models import squeezenet1_1
    >>> block = lift(squeezenet1_1(), (3, 64, 64), until="features.4")
    >>> block
    Lifted(SqueezeNet, until='features.4')
    >>> block.output_shape((3, 64, 64)), block.output_shape((3, 71, 90))
    ((128, 15, 15), (128, 17, 22))
    >>> [node.name for node in block.graph((3, 64, 64)).nodes][:6]
    ['features.0', 'features.1', 'features.2', 'features.3.squeeze', 'features.3.squeeze_activation', \
'features.3.squeeze_activation_fan']

    Attributes:
        make: what the module is made of; it holds no weights.
        until: the path of the module whose output is the code; `""` is all.
        approximate: whether a mirror may follow the main path alone where there is no exact one.
        skips: where values are handed round the code.
    """

    make: Make
    until: str = ""
    approximate: bool = False
    skips: tuple[SkipPoint, ...] = ()
    _known: Any = field(default_factory=dict, compare=False)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """With skips it hands them round the code."""
        return "gives" if self.skips else ""

    def with_skips(self, skips: Skips, shape: Shape) -> Lifted:
        """The same, handing values round the code: a U-Net."""
        recording = record(self.make, as_shape(shape), self.until)
        points = skip_points(recording, placed_steps(recording, self.approximate), skips)
        return replace(self, skips=points)

    def drawing(self, shape: Shape) -> Drawing:
        """The graph at a shape, and how each of its steps is mirrored."""
        return _drawn(self, as_shape(shape))

    def graph(self, shape: Shape) -> Graph:
        return self.drawing(shape).graph

    def build(self, shape: Shape, *, device: Any = None, dtype: Any = None) -> nn.Module:
        self.output_shape(shape)
        module = self.make.fresh("").to(device=device, dtype=dtype)
        return Until(module, self.until) if self.until else module

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {name: tuple(parameter.shape) for name, parameter in self.make.module.named_parameters()}

    def windows(self, shape: Shape) -> Sight:
        return self.graph(shape).windows(shape)

    def __repr__(self) -> str:
        until = f", until={self.until!r}" if self.until else ""
        return f"Lifted({type(self.make.module).__name__}{until})"


@lru_cache(maxsize=64)
def _drawn(block: Lifted, shape: Shape) -> Drawing:
    recording = record(block.make, shape, block.until)
    return draw(recording, block.approximate, block.skips)


def path_of(module: nn.Module, until: str | nn.Module | None) -> str:
    """The path of a cut point in a module; `""` for none.

    >>> from torchvision.models import resnet18
    >>> path_of(resnet18(), "layer9")
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: until='layer9' is no module of ResNet.
    Did you mean 'layer2', 'layer3', 'layer4'? Its modules are conv1, bn1, relu, maxpool, layer1, layer2, layer3, \
layer4, avgpool, fc; one inside has the path, such as layer1.0.

    Raises:
        ShapeError: for a name that no module has, with those that there are.
    """
    if until is None or until == "":
        return ""
    paths = {path: part for path, part in module.named_modules(remove_duplicate=False) if path}
    part = until if isinstance(until, nn.Module) else paths.get(until)
    found = "" if part is module else next((path for path, other in paths.items() if other is part), None)
    if found is not None and isinstance(until, str) and found != until:
        raise ShapeError(
            f"until={until!r} is the same module as {found!r}, and the code is what it gives when it first runs.",
            f"Cut at {found!r}, at another part, or give {until!r} a module of its own.",
        )
    if found is not None:
        return found
    theirs = isinstance(until, nn.Module)
    said = f"until, a {type(until).__name__}," if theirs else f"until={until!r}"
    near = [] if theirs else get_close_matches(str(until), paths, n=3)
    children = [name for name, _ in module.named_children()]
    inner = next((path for path in paths if "." in path), "")
    advice = f"Did you mean {', '.join(map(repr, sorted(near)))}? " if near else ""
    deeper = f"; one inside has the path, such as {inner}" if inner else ""
    raise ShapeError(
        f"{said} is no module of {type(module).__name__}.",
        f"{advice}Its modules are {', '.join(children)}{deeper}." if children else "It has no parts: leave until out.",
    )


def _objection(found: Any) -> str:
    return "" if callable(found) else f"it is {found!r}, and rules are added by a function: `def rules(lift): ...`."


GROUP = Group("obverse.lifting", _objection)
"""Rules that other packages bring: functions that are called with `lift`, once, to register them."""

_used: set[Plugin] = set()


def _use_plugins(lift: Lift) -> None:
    for plugin, rules in GROUP.loaded():
        if plugin not in _used:
            _used.add(plugin)
            try:
                rules(lift)
            except Exception as error:  # whatever it is, it is the plugin's
                GROUP.refuse(plugin, f"{type(error).__name__}: {error}")


class Lift:
    """`lift(module, input_shape)`: the block that describes a module. The one instance is `obverse.lift`."""

    def __call__(
        self,
        module: nn.Module,
        input_shape: Shape,
        *,
        until: str | nn.Module | None = None,
        approximate: bool = False,
    ) -> Block:
        """The block that describes a module.

        >>> lift(nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()), (1, 28, 28))
        Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Flatten())

        A layer becomes the block of its name, a `torch.nn.Sequential` a `Chain`, and anything else a graph of blocks,
        `Lifted`, which is recorded from one forward pass. So is a sequence of layers that share their weights. A layer
        that no block describes is kept as it is.

        What is built has the names that the module's weights have, except that a chain counts its blocks: if layers of
        a `Sequential` have names, load its weights by their order,
        `dict(zip(built.state_dict(), module.state_dict().values()))`. Hooks that were put on the module stay there, and
        are not run; those by which `torch.nn.utils` makes weights belong to it. Layers that wait for their first input
        to make their weights (`nn.LazyConv2d`) make them in a copy.

        Args:
            module: the module; it is neither run nor changed.
            input_shape: `(C, *spatial)` of one example.
            until: the module in it whose output is the code, by its path or itself; by default all of it.
            approximate: where a step has no exact mirror and cannot be kept with the module around it, let the mirror
                follow the main path and drop the rest (a gate; attention's weights).

        Raises:
            ShapeError: for a shape that the module refuses, and a cut point that it has not.
        """
        shape = as_shape(input_shape)
        if not isinstance(module, nn.Module):
            what = "a class" if isinstance(module, type) else f"a {type(module).__name__}"
            raise ShapeError(f"{module!r:.80} is {what}, no torch.nn.Module.", "Give the module, such as nn.ReLU().")
        _use_plugins(self)
        path = path_of(module, until)
        module = ready(module, shape)
        plain = not path or (_is_sequence(module) and "." not in path)
        block = _layers(_cut(module, path), shape, approximate) if plain else None
        if block is None:
            block = Lifted(Make(module), path, approximate)
            block.output_shape(shape)
        elif all(type(size) is int for size in shape):  # a block takes any channels, its module those that it has
            _check_alike(module, block, shape, path)
        return block

    def register(self, *types: type, otherwise: bool = False) -> Callable[[Any], Any]:
        """Add a rule for a type of module, and for those made from it; a decorator.

        >>> class Doubled(nn.Module):
        ...     def forward(self, x):
        ...         return x.repeat_interleave(2, dim=1)
        >>> @lift.register(Doubled)
        ... def rule(module, shape):
        ...     return lift.kept(module, Conv(shape[0], 1))
        >>> from obverse import Conv
        >>> lift(Doubled(), (4, 9, 9)).mirror((4, 9, 9))
        Conv(4, 1)

        Args:
            *types: the types of modules.
            otherwise: whether it is only asked where the rule that the type has does not hold.

        The rule takes the module and the shape of one example that reaches it, and gives a block, or `None` where it
        does not hold.

        Raises:
            ShapeError: for what is no type of modules.
        """
        for kind in types:
            if not isinstance(kind, type) or not issubclass(kind, nn.Module):
                raise ShapeError(f"{kind!r:.80} is no type of modules.", "Write @lift.register(TheirLayer).")

        def add(rule: Any) -> Any:
            for kind in types:
                RULES[kind] = either(RULES.get(kind) if otherwise else None, of_module(rule))
            _drawn.cache_clear()
            return rule

        return add

    def function(self, *names: str, otherwise: bool = False) -> Callable[[Any], Any]:
        """Add a rule for a function of torch, by its plain name: `"add"` for `+`, `+=`, `torch.add`; a decorator.

        Args:
            *names: plain names.
            otherwise: whether it is only asked where the rule that the function has does not hold.

        The rule takes the recorded call, with `input_shape`, `output_shape`, `args` and `kwargs`, and gives a block, or
        what `followed` gives.

        Raises:
            ShapeError: for what is no name.
        """
        for name in names:
            if not isinstance(name, str):
                raise ShapeError(f"{name!r:.80} is no name.", 'Write @lift.function("cumsum").')

        def add(rule: Any) -> Any:
            for name in names:
                FUNCTIONS[name] = either(FUNCTIONS.get(name) if otherwise else None, of_function(rule))
            _drawn.cache_clear()
            return rule

        return add

    def kept(self, module: nn.Module, mirror: Block) -> Block:
        """For a rule: the module as it is, with the given mirror."""
        refuse_no_block(mirror, "lift.kept(module, mirror)")
        return Kept.of(module, mirror)

    def followed(self, call: Call, mirror: Block, at: int = 0) -> Step:
        """For a rule: the call as it is, from one of its values, with the given mirror."""
        refuse_no_block(mirror, "lift.followed(call, mirror)")
        shapes = (call.inputs[at].shape, call.output_shape)
        return Step(Recorded(call.name, *shapes, mirror), uses=(at,), manner="approximate" if at else "exact")


lift = Lift()


def ready(module: nn.Module, shape: Shape, *, in_place: bool = False) -> nn.Module:
    """A module that can be recorded: itself, or a copy that has run once if its weights wait for that.

    Args:
        module: the module.
        shape: of one example.
        in_place: whether it runs itself, and no copy of it.

    Raises:
        ShapeError: where its first run fails.
        MirrorError: for one whose inside cannot be looked at.
    """
    compiled = next((path for path, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)), None)
    if compiled is not None:
        raise MirrorError(
            f"{compiled or 'it'} is a module of torch.jit, compiled: what happens inside cannot be recorded.",
            "Give the module that it was made from.",
        )
    if not has_no_weights_yet(module):
        return module
    module = module if in_place else copy_of_lazy(module)
    try:
        run_once(module, shape)
    except Exception as error:
        raise refusal(Make(nn.Module()), shape, error, []) from error
    return module


def _check_alike(module: nn.Module, block: Block, shape: Shape, path: str) -> None:
    taken = output_shape(Make(module), shape, path)
    described = block.output_shape(shape)
    if taken != described:
        raise ShapeError(
            f"{type(module).__name__} takes N×{shape_text(shape)} to N×{shape_text(taken)}, and as a layer for one "
            f"example of {shape_text(shape)} it gives N×{shape_text(described)}: it takes N for one of its own axes.",
            "Give the shape of one example, (C, *spatial), with all its axes.",
        )


def _is_sequence(module: nn.Module) -> bool:
    """Whether it is layers in order, each with weights of its own: a chain has no way to say that two share theirs."""
    if not isinstance(module, nn.Sequential) or not is_itself(module, nn.Sequential) or rule_for(module) is not None:
        return False
    all_named = module.named_parameters(remove_duplicate=False)
    return len(list(all_named)) == len(list(module.named_parameters()))


def _cut(module: Any, path: str) -> nn.Module:
    """A sequence up to one of its layers."""
    return nn.Sequential(*list(module)[: list(module._modules).index(path) + 1]) if path else module


def _layers(module: Any, shape: Shape, approximate: bool, place: str = "") -> Block | None:
    """A layer as its block, a sequence as a chain of them, what holds others as a graph."""
    if _is_sequence(module):
        blocks: list[Block] = []
        for name, part in module._modules.items():  # not its children, which leave out a layer that stands in it twice
            inner = f"{place}.{name}" if place else name
            block = _layers(part, shape, approximate, inner)
            blocks.append(block or Lifted(Make(part, inner), approximate=approximate))
            shape = blocks[-1].output_shape(shape)
        return Chain(*blocks) if blocks else Identity()
    if _gives_several(module):
        return None
    found = rule_for(module)
    if found is not None:
        block = found[1](module, shape)
        if is_itself(module, found[0]):
            return block
        return Kept.of(module, alone=True) if block is not None and block.pointwise else None
    childless = next(module.children(), None) is None
    if type(module).__name__ in NOISE or (childless and type(module).__module__.startswith("torch.nn.")):
        return Kept.of(module)
    return None


def _gives_several(module: nn.Module) -> bool:
    """Whether it is a layer of PyTorch's that gives a tuple, of which a graph follows the first."""
    return isinstance(module, (nn.RNNBase, nn.LSTMCell)) or getattr(module, "return_indices", False) is True
