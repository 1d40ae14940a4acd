"""Rules that others add: what they give is looked at, so that a slip is told where it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from obverse.block import Block
from obverse.errors import MirrorError, ShapeError
from obverse.graph import Junction
from obverse.lifting.kept import Kept
from obverse.lifting.recording import Call
from obverse.lifting.steps import Recorded, Step
from obverse.shapes import Shape, shape_text

__all__ = ["either", "of_function", "of_module", "refuse_no_block"]

Rule = Callable[..., Any]


def of_module(rule: Rule) -> Rule:
    """A rule for a type of modules, that refuses what is no block of the module, and no mirror."""

    def checked(module: nn.Module, shape: Shape) -> Block | None:
        block, name = rule(module, shape), type(module).__name__
        if block is not None:
            refuse_no_block(block, f"the rule for {name}")
            _check(name, block, getattr(block, "turned", None), shape, _given(module, shape))
        return block  # type: ignore[no-any-return]

    return checked


def of_function(rule: Rule) -> Rule:
    """A rule for a function of torch, that refuses what does not stand for the call, and no mirror of it."""

    def checked(call: Call) -> Any:
        found = rule(call)
        hub = found.hub if isinstance(found, Step) else found
        if found is not None and not isinstance(hub, Junction):
            refuse_no_block(hub, f"the rule for {call.name}()")
            if isinstance(hub, Recorded) and hub.turned is not None:
                _check(f"{call.name}()", hub, hub.turned, hub.before, hub.after)
            elif not isinstance(found, Step):
                _check(f"{call.name}()", hub, None, call.input_shape, call.output_shape)
        return found

    return checked


def either(first: Rule | None, second: Rule) -> Rule:
    """One rule of two: the second is asked where the first does not hold."""
    if first is None:
        return second

    def rule(*given: Any) -> Any:
        found = first(*given)
        return second(*given) if found is None else found

    return rule


def refuse_no_block(given: Any, who: str) -> None:
    """Refuse what is no block.

    Raises:
        MirrorError: naming who gave it.
    """
    if not isinstance(given, Block):
        raise MirrorError(
            f"{who} gives {given!r:.60}, a {type(given).__name__}, and no block.",
            "Give a block, such as Conv(16, 3), or None where the rule does not hold.",
        )


def _given(module: nn.Module, shape: Shape) -> Shape | None:
    try:
        return Kept.of(module).output_shape(shape)
    except ShapeError:  # it is called with more than its input
        return None


def _check(name: str, block: Block, turned: Block | None, before: Shape, after: Shape | None) -> None:
    if after is None:
        return
    said = _shape_after(block, before)
    if said != after:
        raise MirrorError(
            f"the rule for {name} gives {block!r:.60}, which takes {shape_text(before)} to {_text(said)}; "
            f"{name} takes it to {shape_text(after)}.",
            "Keep it as it is, and give its mirror: lift.kept(module, mirror), or lift.followed(call, mirror).",
        )
    restored = before if turned is None else _shape_after(turned, after)
    if restored != before:
        raise MirrorError(
            f"the rule for {name} has {turned!r:.60} as its mirror, which takes {shape_text(after)} to "
            f"{_text(restored)}; {name} was given {shape_text(before)}.",
            "Give one that restores that shape, such as Upsample(size=shape[1:]) where the channels stay.",
        )


def _shape_after(block: Block, shape: Shape) -> Shape | None:
    try:
        return block.output_shape(shape)
    except ShapeError:
        return None


def _text(shape: Shape | None) -> str:
    return "nothing, since it refuses that" if shape is None else shape_text(shape)
