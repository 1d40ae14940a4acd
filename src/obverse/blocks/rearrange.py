"""Axes moved, split and merged by a pattern."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from einops import EinopsError
from einops.parsing import ParsedExpression

from obverse.arithmetic import differ, whole
from obverse.block import Block, keywords
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.shapes import Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    modules = Later("obverse.modules")

__all__ = ["Rearrange"]


@dataclass(frozen=True, repr=False, init=False)
class Rearrange(Block):
    """Axes moved, split and merged: `einops.rearrange`, for the shape of one example.

    >>> patches = Rearrange("c (h p) (w q) -> (c p q) h w", p=2, q=2)
    >>> patches.output_shape((3, 28, 32)), patches.mirror((3, 28, 32))
    ((12, 14, 16), Rearrange('(c p q) h w -> c (h p) (w q)', p=2, q=2))
    >>> Rearrange("c h w -> (h w) c").mirror((3, 28, 32))    # what the pattern alone does not say, the shape fixed
    Rearrange('(h w) c -> c h w', w=32)

    Args:
        pattern: as einops has it, without the batch.
        **lengths: of axes that the pattern leaves open.

    Mirror: the arrow turned round, with the lengths that the shape fixed.

    Raises:
        ShapeError: for a pattern that einops refuses or that loses an axis, and for shapes that do not fit it.

    Source: Rogozhnikov, "Einops", ICLR 2022.
    """

    pattern: str
    lengths: tuple[tuple[str, int], ...] = keywords()

    adjoint = True

    def __init__(self, pattern: str, **lengths: int) -> None:
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "_sides", _parsed(pattern))
        inside, _ = self._groups
        for name, length in lengths.items():
            if not any(name in group for group in inside):
                raise ShapeError(f"{pattern!r} has no axis {name!r}.", f"Leave {name} out.", where="Rearrange")
            lengths[name] = whole(name, length, 1)
        object.__setattr__(self, "lengths", tuple(sorted(lengths.items())))

    @property
    def _groups(self) -> tuple[list[list[str]], list[list[str]]]:
        """The elementary axes of every axis, on either side of the arrow."""
        return self._sides  # type: ignore[attr-defined, no-any-return]

    def _solved(self, shape: Shape) -> dict[str, Any]:
        """The length of every elementary axis."""
        inside, _ = self._groups
        if len(shape) != len(inside):
            raise self.refuse(shape, f"the pattern has {len(inside)} axes, and the shape has {len(shape)}.")
        solved: dict[str, Any] = dict(self.lengths)
        for group, size in zip(inside, shape, strict=True):
            known = prod([solved[name] for name in group if name in solved])
            unknown = [name for name in group if name not in solved]
            if len(unknown) > 1:
                raise self.refuse(
                    shape,
                    f"the {size} cells of ({' '.join(group)}) can be split in many ways.",
                    f"Give it the length of {' and '.join(unknown[1:])}.",
                )
            if differ(size % known if unknown else size - known, 0):
                raise self.refuse(shape, f"the {size} cells of ({' '.join(group)}) are no multiple of {known}.")
            if unknown:
                solved[unknown[0]] = size // known
        return solved

    def output_shape(self, shape: Shape) -> Shape:
        solved = self._solved(shape)
        return tuple([prod([solved[name] for name in group]) for group in self._groups[1]])

    def mirror(self, shape: Shape) -> Block:
        solved, given = self._solved(shape), dict(self.lengths)
        before, after = self.pattern.split("->")
        lengths: dict[str, Any] = {}
        for group in self._groups[1]:
            if len(group) > 1:  # of what was not given, all but one must be told
                told = [name for name in group if name in given] + [name for name in group if name not in given][1:]
                lengths |= {name: solved[name] for name in told}
        return Rearrange(f"{after.strip()} -> {before.strip()}", **lengths)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return modules.Rearrange(self)


def _parsed(pattern: Any) -> tuple[list[list[str]], list[list[str]]]:
    if not isinstance(pattern, str) or pattern.count("->") != 1:
        raise ShapeError(
            f"a pattern has one arrow; {pattern!r} was given.", "Give it as in 'c h w -> (h w) c'.", where="Rearrange"
        )
    try:
        before, after = (ParsedExpression(side) for side in pattern.split("->"))
    except EinopsError as error:
        raise ShapeError(f"{pattern!r}: {error}", "", where="Rearrange") from None
    if before.has_ellipsis or after.has_ellipsis:
        raise ShapeError(f"{pattern!r} has an ellipsis.", "Name every axis.", where="Rearrange")
    if before.has_non_unitary_anonymous_axes or after.has_non_unitary_anonymous_axes:
        raise ShapeError(f"{pattern!r} has an axis without a name.", "Name it, and give its length.", where="Rearrange")
    lost = sorted(before.identifiers ^ after.identifiers)
    if lost:
        raise ShapeError(
            f"{pattern!r} has {lost[0]!r} on one side of the arrow only.", "Put it on both.", where="Rearrange"
        )
    return [list(group) for group in before.composition], [list(group) for group in after.composition]
