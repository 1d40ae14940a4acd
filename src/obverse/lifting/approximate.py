"""Mirrors that follow the main path of an operation and drop the rest: only where somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from obverse.block import Block
from obverse.blocks.conv import Conv
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import Identity
from obverse.lifting.operations import Resampled, Reshape
from obverse.lifting.recording import Call, Value
from obverse.lifting.rules_of_functions import chained
from obverse.lifting.steps import Recorded, Step
from obverse.shapes import Shape

__all__ = ["APPROXIMATE", "followed", "learned", "resized"]

APPROXIMATE: dict[str, Callable[[Call], Step | None]] = {}
"""The main path through functions of several values that have no transpose."""


def rule(*names: str) -> Callable[[Callable[[Call], Step | None]], Callable[[Call], Step | None]]:
    """Make a function the approximate rule of some functions of torch."""

    def add(function: Callable[[Call], Step | None]) -> Callable[[Call], Step | None]:
        APPROXIMATE.update(dict.fromkeys(names, function))
        return function

    return add


def followed(call: Call, at: int) -> Step:
    """The call as a step from one of its values; what others did to it is dropped."""
    before, after = call.inputs[at].shape, call.output_shape
    turned = resized(after, before)
    return Step(Recorded(call.name, before, after, turned), uses=(at,), manner="approximate")


def resized(shape: Shape, after: Shape) -> Block:
    """A shape brought to another: by lengths where the axes are as many, else by way of a single axis."""
    if shape == after:
        return Identity()
    if len(shape) == len(after):
        return Resampled(after)
    return chained(Reshape((prod(shape),)), Resampled((prod(after),)), Reshape(after))


def learned(shape: Shape, after: Shape) -> Block:
    """A shape brought to another, with a layer where the number of features changes.

    >>> learned((512, 8, 8), (256, 16, 16)), learned((49, 96), (196, 48))
    (Chain(Conv(256, 1), Resampled((256, 16, 16))), Chain(Linear(48), Resampled((196, 48))))
    """
    if len(shape) != len(after) or len(shape) == 1:
        return chained(Reshape((prod(shape),)), Linear(prod(after)), Reshape(after))
    if len(shape) == 2 or (shape[0] != after[0] and shape[-1] == after[-1]):
        return chained(Linear(after[-1]), Resampled(after))
    return chained(Conv(after[0], 1), Resampled(after))


GATES = {"sigmoid", "hardsigmoid", "Sigmoid", "Hardsigmoid", "softmax", "Softmax", "tanh", "Tanh"}


@rule("mul", "div")
def gated(call: Call) -> Step | None:
    """The value that has the shape of the product, and was not made by a gate."""
    whole = [at for at, value in enumerate(call.inputs) if value.shape == call.output_shape]
    plain = [at for at in whole if not _is_gate(call.inputs[at])]
    return followed(call, (plain or whole or [0])[0])


def _is_gate(value: Value, depth: int = 4) -> bool:
    maker = value.maker
    if maker is None:
        return False
    return maker.name in GATES or (depth > 0 and len(maker.inputs) == 1 and _is_gate(maker.inputs[0], depth - 1))


@rule("matmul", "bmm", "einsum", "baddbmm")
def weighed(call: Call) -> Step | None:
    """Attention follows its values, the last of what is multiplied."""
    return followed(call, len(call.inputs) - 1)


@rule("scaled_dot_product_attention")
def attended(call: Call) -> Step | None:
    """Attention follows its values."""
    return followed(call, min(2, len(call.inputs) - 1))


@rule("MultiheadAttention", "multi_head_attention_forward")
def attended_by_many(call: Call) -> Step | None:
    """Attention follows its values."""
    return followed(call, min(2, len(call.inputs) - 1))
