"""A module tried on the meta device: whether it takes a shape, and what to say of the part that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from obverse.errors import MirrorError, ObverseError, ShapeError
from obverse.lifting.cutting import run_until
from obverse.lifting.make import Make, dtype_of, uncompiled
from obverse.shapes import Shape, beginners_batch, shape_text

__all__ = ["Asked", "output_shape", "refusal"]

Asked = tuple[str, nn.Module, list[Shape]]
"""A part that was called: its path, itself, the sizes of what it was given."""


def output_shape(make: Make, shape: Shape, until: str = "") -> Shape:
    """The shape of one example that a module gives, or a part of it.

    >>> output_shape(Make(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())), (3, 9, 9))
    (392,)
    >>> output_shape(Make(nn.Sequential(nn.Flatten(), nn.Linear(100, 8))), (3, 9, 9))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: Sequential refuses 3×9×9: '1' in it, a Linear(in_features=100, out_features=8, \
bias=True), was given N×243: RuntimeError: a and b must have same reduction dim, but got [N, 243] X [100, 8].
    Give a shape of one example that the module takes: (C, *spatial), without the batch.

    Raises:
        ShapeError: where it refuses the shape.
    """
    asked: list[Asked] = []
    module, was = make.module, make.module.training
    with torch.no_grad(), uncompiled(), _noting(module, asked):
        x = torch.empty(2, *shape, device="meta", dtype=dtype_of(module))
        try:
            given = run_until(module.eval(), until, x)
        except ObverseError:
            raise
        except Exception as error:
            raise refusal(make, shape, error, asked) from error
        finally:
            module.train(was)
    return tuple(given.shape[1:])


@contextmanager
def _noting(module: nn.Module, asked: list[Asked]) -> Iterator[None]:
    """Keep a list of the parts that run at a time, the innermost last."""

    def enter(path: str) -> Any:
        def note(part: nn.Module, args: Any, kwargs: Any) -> None:
            sizes = [tuple(leaf.shape) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            asked.append((path, part, sizes))

        return note

    def leave(*_: Any) -> None:
        asked.pop()

    parts = list(module.named_modules())
    handles = [part.register_forward_pre_hook(enter(path), prepend=True, with_kwargs=True) for path, part in parts]
    handles += [part.register_forward_hook(leave) for _, part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


NUMBERS_ASKED = ("meta tensor", "meta device type", "data-dependent", "data-independent", "_local_scalar_dense")
"""What PyTorch says where a number is asked of a tensor that has none."""


def refusal(make: Make, shape: Shape, error: Exception, asked: list[Asked]) -> ObverseError:
    """What to say where a module fails, with the innermost part that was asked and what it was given."""
    path, part, given = asked[-1] if asked else ("", make.module, [])
    kind = type(make.module).__name__ if path else _brief(make.module)
    said = f"{type(error).__name__}: {error}".rstrip(". \n")
    for sizes in given:  # whatever batch it was tried with is nobody's business
        said = said.replace(str(list(sizes)), f"[N, {', '.join(map(str, sizes[1:]))}]")
    shapes = " and ".join(f"N×{shape_text(sizes[1:])}" for sizes in given)
    said = f"{path!r} in it, a {_brief(part)}, was given {shapes}: {said}" if path and given else said
    if any(sign in said for sign in NUMBERS_ASKED):
        return MirrorError(
            f"{kind} at {shape_text(shape)}: what happens depends on the numbers in the input, and a mirror is made "
            f"from shapes alone. {said}.",
            "Cut in front of it with until='...', or write it so that the same is done to every input.",
        )
    advice = "Give a shape of one example that the module takes: (C, *spatial), without the batch."
    return ShapeError(f"{kind} refuses {shape_text(shape)}: {said}.", _advice(error, part, given, shape) or advice)


def _advice(error: Exception, part: Any, given: list[Shape], shape: Shape) -> str:
    """What to give instead, where that can be told."""
    if isinstance(error, TypeError) and "missing" in str(error) and "argument" in str(error):
        return "What is mirrored takes one tensor: wrap the module in one that has a forward(self, x)."
    channels = getattr(part, "in_channels", None)
    first = [sizes[1:] for sizes in given] == [shape] and len(shape) > 1
    if first and isinstance(channels, int) and channels != shape[0]:
        return beginners_batch(shape) or f"Give it {channels} channels: {(channels, *shape[1:])}."
    return beginners_batch(shape)


def _brief(part: nn.Module) -> str:
    """Its `repr` if that is one short line, or else its kind."""
    text = repr(part)
    return text if "\n" not in text and len(text) <= 120 else type(part).__name__
