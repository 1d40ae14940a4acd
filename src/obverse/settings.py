"""The arguments of a block: made plain when it is made, spread over the axes of a shape when it is used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from numbers import Real
from typing import Any

from obverse.arithmetic import whole
from obverse.block import Block, takes
from obverse.errors import ShapeError
from obverse.shapes import Shape, as_shape, at_axes, shape_text
from obverse.sizes import Untold, sizes_taken, spend

__all__ = ["along", "by_axis", "check_flags", "check_number", "collapsed", "for_each", "settle", "spatial_rank"]


def settle(block: Block, **minima: int | None) -> None:
    """Make the named arguments of a new block plain: an integer, or a tuple of integers, one an axis.

    Called from `__post_init__` with the least value that each may have. `None` stays where it is the default.

    Raises:
        ShapeError: for booleans, floats, text, and values below the minimum; and for flags that are none.
    """
    check_flags(block)
    for name, minimum in minima.items():
        value = getattr(block, name)
        if type(value) is int and (minimum is None or value >= minimum):
            continue
        if value is None and type(block).__dataclass_fields__[name].default is None:  # type: ignore[attr-defined]
            continue
        if value in ((), []) and name != "size":
            raise ShapeError(f"{name} is empty.", f"Give {name}=1.", where=type(block).__name__)
        try:
            settled = (
                tuple(whole(name, v, minimum) for v in value) if _is_listed(value) else whole(name, value, minimum)
            )
        except ShapeError as error:
            raise ShapeError(error.reason, error.repair, where=type(block).__name__) from None
        object.__setattr__(block, name, settled)


def check_flags(block: Block) -> None:
    """Refuse what is neither true nor false where a block's argument is a flag.

    Raises:
        ShapeError: for text and numbers, which Python would take for true.
    """
    for name in block.flags:
        value = getattr(block, name)
        if value is not True and value is not False:
            raise ShapeError(
                f"{name} is True or False; {value!r} was given.",
                f"Give {name}=True or {name}=False.",
                where=type(block).__name__,
            )


def _is_listed(value: Any) -> bool:
    return isinstance(value, (tuple, list))


Axes = tuple[tuple[Any, ...], ...]
"""For each axis the values of some arguments."""


def for_each(block: Block, names: tuple[str, ...], rank: int) -> Axes:
    """For each of `rank` axes the values of the named arguments, which are one for all axes or one an axis.

    Raises:
        ShapeError: if an argument was given for another number of axes.
    """
    values = tuple([getattr(block, name) for name in names])
    if not any(type(value) is tuple for value in values):
        return (values,) * rank
    return tuple(zip(*[_spread(block, name, rank) for name in names], strict=True))


def along(
    block: Block, names: tuple[str, ...], rank: int, find: Callable[[Block, tuple[str, ...], int], Axes] = for_each
) -> Axes:
    """What `for_each` gives, or another that `find`s it; remembered, since a block is asked again and again."""
    known: dict[int, Axes] | None = block.__dict__.get("_along")
    if known is None or rank not in known:
        known = block.__dict__.setdefault("_along", {})
        known[rank] = find(block, names, rank)
    return known[rank]


def _spread(block: Block, name: str, rank: int) -> tuple[Any, ...]:
    value = getattr(block, name)
    if not isinstance(value, tuple):
        return (value,) * rank
    if len(value) != rank:
        raise ShapeError(
            f"{name}={value} is for {len(value)} axes, and the shape has {rank}.",
            f"Give {rank} number{'s' * (rank > 1)}, or one for all: {name}={value[0] if value else 1}.",
            where=repr(block),
        )
    return value


def by_axis(
    block: Block, shape: Shape, size_after: Callable[..., Any], settings: Iterable[tuple[Any, ...]]
) -> list[Any]:
    """The size after a block along every axis, `size_after(size, *setting)`; all axes that fail are told at once.

    Raises:
        ShapeError: with the axes, and the nearest input that would do, where `size_after` refuses a size.
    """
    settings = settings if type(settings) is tuple else tuple(settings)
    try:
        return [size_after(size, *setting) for size, setting in zip(shape[1:], settings, strict=True)]
    except ShapeError:
        as_shape(shape)  # which says it better, if the shape is none at all
        raise ShapeError(lambda: _refuse_axes(block, shape, size_after, settings)) from None


def _refuse_axes(block: Block, shape: Shape, size_after: Callable[..., Any], settings: tuple[Any, ...]) -> ShapeError:
    reasons: dict[str, list[int]] = {}
    repairs: list[str] = []
    nearest: list[int | None] = list(shape[1:])
    all_larger = True
    for axis, (size, setting) in enumerate(zip(shape[1:], settings, strict=True)):
        error = _refusal(size_after, size, setting)
        if error is None:
            continue
        reasons.setdefault(error.reason.removesuffix("."), []).append(axis)
        repairs.append(error.repair)
        nearest[axis], from_there = _larger(size_after, size, setting)
        all_larger = all_larger and from_there
    reason = "; ".join(f"{reason} {at_axes(shape, axes)}" for reason, axes in reasons.items())
    near = "" if None in nearest else f"an input of {'at least ' * all_larger}{shape_text(nearest)}"
    repair = max(repairs, key=lambda repair: (len(repair), repair))
    return block.refuse(shape, f"{reason}.", repair if _helps(repair, block, shape) else "", near)


def _larger(size_after: Callable[..., Any], size: Any, setting: tuple[Any, ...]) -> tuple[int | None, bool]:
    """The nearest larger size that is taken, and whether all larger ones are."""
    try:
        sizes = sizes_taken(lambda larger: size_after(larger, *setting))
    except Untold:  # a factor that is no simple fraction
        spend(FARTHEST)
        larger = (more for more in range(size, size + FARTHEST) if _refusal(size_after, more, setting) is None)
        return next(larger, None), True
    return sizes.at_least(size), sizes.is_all_from is not None


FARTHEST = 1024
"""How many sizes beyond the one given are tried, one by one, in search of one that a block takes."""


def _helps(repair: str, block: Block, shape: Shape) -> bool:
    """Whether a repair that names an argument makes a block take the shape: one axis may need what another refuses."""
    advised = re.match(r"Give(?: it)? (\w+)=(\d+)", repair)
    if advised is None:
        return True
    try:
        mended = replace(block, **{advised[1]: int(advised[2])})  # type: ignore[type-var]
    except ShapeError:
        return False
    return takes(mended, shape)


def _refusal(size_after: Callable[..., Any], size: Any, setting: tuple[Any, ...]) -> ShapeError | None:
    try:
        size_after(size, *setting)
    except ShapeError as error:
        return error
    return None


def collapsed(values: Iterable[Any]) -> Any:
    """One number where all axes agree, else the tuple: `(1, 1)` becomes `1`.

    Symbols that are not known to agree stay apart.
    """
    values = tuple(values)
    return (
        values[0] if values and all(value is values[0] or (value == values[0]) is True for value in values) else values
    )


def spatial_rank(block: Block, shape: Shape, least: int = 1) -> int:
    """How many spatial axes a shape has, for a block that PyTorch has in one to three dimensions.

    Raises:
        ShapeError: for fewer than `least` or more than three; it says if the batch seems to be in the shape.
    """
    rank = len(shape if type(shape) is tuple else as_shape(shape)) - 1
    if least <= rank <= 3:
        return rank
    if rank > 3:
        raise block.refuse(
            shape,
            f"this shape has {rank} spatial axes, and PyTorch has {type(block).__name__} for up to 3.",
            f"A shape is that of one example: leave the batch out, {tuple(shape[1:])}.",
        )
    raise block.refuse(
        shape,
        f"{type(block).__name__} acts along spatial axes, and this shape has {'none' if rank == 0 else 'too few'}.",
        "Put Unflatten in front of it, or Linear in its place.",
    )


def check_number(block: Block, name: str, least: float | None = None, most: float | None = None) -> None:
    """Refuse an argument that is no plain number, or outside its bounds.

    Raises:
        ShapeError: with the bounds.
    """
    value = getattr(block, name)
    plain = isinstance(value, Real) and not isinstance(value, bool) and value == value
    if plain and (least is None or value >= least) and (most is None or value <= most):
        return
    bounds = {(True, True): "", (False, True): f" of at least {least}", (False, False): f" from {least} to {most}"}
    raise ShapeError(
        f"{name} is a number{bounds[least is None, most is None]}; {value!r} was given.",
        f"Give {name}={least if least is not None else 1}.",
        where=type(block).__name__,
    )
