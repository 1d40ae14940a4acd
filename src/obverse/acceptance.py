"""Which sizes a block takes, which of them it forgets nothing of, and which share a code: for all sizes, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from obverse.block import Block, blocks_in, brief
from obverse.errors import ShapeError
from obverse.shapes import Shape, at_axes, axis_letter, shape_text
from obverse.sizes import MOST_TRIED, Course, Growing, Sizes, Unknown, Untold, first_of, followed, sizes_where

__all__ = ["Acceptance", "AxisSizes", "accepts", "nearest_taken"]


@dataclass(frozen=True)
class AxisSizes:
    """What a block takes along one axis.

    >>> from obverse import Chain, Conv
    >>> (along,) = Chain(Conv(4, 5, stride=2)).accepts((1, None)).axes
    >>> print(along.accepted, along.without_remainder, sep="; ")
    n ≥ 5; n ≡ 1 mod 2, n ≥ 5

    Attributes:
        axis: which one, the channels being 0.
        accepted: the sizes that it takes.
        without_remainder: those of them that leave nothing over at any stride, so that the mirror need be told nothing.
    """

    axis: int
    accepted: Sizes
    without_remainder: Sizes
    courses: tuple[Course, ...] = field(repr=False, compare=False)

    def sharing(self, size: int) -> Sizes:
        """The sizes that have the code that a size has.

        >>> from obverse import Chain, Conv
        >>> rows, columns = Chain(Conv(4, 3, stride=2), Conv(4, 3, stride=2)).accepts((1, None, None)).axes
        >>> print(rows.sharing(28))
        27..30

        Raises:
            ShapeError: for a size that is not taken.
        """
        code = next((_at(course, size) for course in self.courses if _is_in(course, size)), None)
        if code is None:
            near = self.accepted.at_least(size)
            raise ShapeError(f"it does not take {size}.", "" if near is None else f"Give {near}.")
        return self.with_code(code)

    @property
    def is_alone(self) -> bool:
        """Whether every size of the code is made of this axis without the others, or of the others without this one."""
        codes = [course.outcome.code for course in self.courses if course.outcome is not None]
        return not any(isinstance(entry, Unknown) and entry.met for code in codes for entry in code)

    def with_code(self, code: Sequence[int | None]) -> Sizes:
        """The sizes that have a certain code, as far as this axis settles it; `None` stands for the rest.

        Raises:
            ShapeError: where the code is made of this axis and another one together, as by `Flatten`.
        """
        if not self.is_alone:
            raise ShapeError(
                "which sizes share a code cannot be said axis by axis: it is made of several axes together.",
                "Give numbers along the other axes.",
            )
        code = tuple(code)
        members = {size for course in self.courses for size in _with_code(course, code)}
        endless = [course for course in self.courses if course.step and _is_constant(course, code)]
        if not endless:
            return Sizes.of(lambda size: size in members, max(members, default=0) + 1, 1)
        cycle = {course.first % course.step for course in endless}
        start, step = max([course.first for course in self.courses]), endless[0].step
        return Sizes.of(lambda size: size in members or (size >= start and size % step in cycle), start, step)

    def groups(self, number: int) -> list[tuple[Sizes, tuple[Any, ...]]]:
        """The first few sets of sizes that share a code, each with its code."""
        found: list[tuple[Sizes, tuple[Any, ...]]] = []
        for size in first_of(self.accepted, 4 * number * max(course.step or 1 for course in self.courses)):
            if not any(size in sizes for sizes, _ in found):
                code = next(_at(course, size) for course in self.courses if _is_in(course, size))
                found.append((self.with_code(code or ()), code or ()))
            if len(found) == number:
                break
        return found


def _is_in(course: Course, size: int) -> bool:
    ahead = size - course.first
    return ahead >= 0 and ahead % course.step == 0 if course.step else ahead == 0


def _at(course: Course, size: int) -> tuple[Any, ...] | None:
    """The code of one size of a class."""
    if course.outcome is None:
        return None
    steps = (size - course.first) // course.step if course.step else 0
    return tuple([_number(entry, steps) for entry in course.outcome.code])


def _number(entry: Any, steps: int) -> Any:
    if isinstance(entry, Growing):
        return entry.least + entry.step * steps
    return None if isinstance(entry, Unknown) else entry


def _has_code(course: Course, size: int, code: tuple[Any, ...]) -> bool:
    """Whether one size of a class has a code, as far as the axis settles it."""
    own = _at(course, size)
    return own is not None and len(own) == len(code) and all(map(_fits, own, code))


def _fits(entry: Any, wanted: Any) -> bool:
    return entry is None or entry == wanted


def _with_code(course: Course, code: tuple[Any, ...]) -> list[int]:
    """The members of a class with a code; of a class that all have it the first one."""
    if course.outcome is None or len(course.outcome.code) != len(code):
        return []
    steps = 0
    for entry, wanted in zip(course.outcome.code, code, strict=True):
        if isinstance(entry, Growing) and entry.step:
            steps = max((wanted - entry.least) // entry.step, 0) if isinstance(wanted, int) else steps
    size = course.first + course.step * steps
    return [size] if (course.step or not steps) and _has_code(course, size, code) else []


def _is_constant(course: Course, code: tuple[Any, ...]) -> bool:
    if not _has_code(course, course.first, code):
        return False
    return not any(isinstance(entry, Growing) and entry.step for entry in course.outcome.code)


@dataclass(frozen=True)
class Acceptance:
    """Which sizes a block takes, along every axis that was left open.

    >>> from obverse import Chain, Conv, ReLU
    >>> encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    >>> print(encoder.accepts((1, None, None)))    # 28 is the fourth of four: its mirror is told a remainder, twice
    H: n ≥ 25
       no remainder: n ≡ 1 mod 4, n ≥ 25
       one code: 25..28 → 1, 29..32 → 2, 33..36 → 3, ...
    W: as H

    Attributes:
        shape: what was asked, with `None` along the open axes.
        axes: what is taken along each of the open axes.
        independent: whether sizes that are taken along each axis are taken together. Where they are not (a norm over
            space wants two cells somewhere), what is said of an axis holds while the others are large enough.
    """

    shape: tuple[int | None, ...]
    axes: tuple[AxisSizes, ...]
    independent: bool = True

    def with_code(self, code: Sequence[int]) -> tuple[Sizes, ...]:
        """Along every open axis, the sizes that have a code of a certain shape.

        >>> from obverse import Conv, PixelUnshuffle
        >>> encoder = Conv(4, 3, stride=2) >> PixelUnshuffle(2)
        >>> [str(sizes) for sizes in encoder.accepts((1, None, None)).with_code((16, 7, 5))]
        ['29..30', '21..22']

        Raises:
            ShapeError: where the code is made of several axes together, as by `Flatten`.
        """
        return tuple([axis.with_code(code) for axis in self.axes])

    def __str__(self) -> str:
        lines: list[str] = []
        said: dict[tuple[Any, ...], str] = {}
        for axis in self.axes:
            letter = axis_letter(len(self.shape), axis.axis)
            text = [str(axis.accepted)]
            if axis.accepted:
                text.append(f"no remainder: {axis.without_remainder}")
                text.append(f"one code: {_groups_text(axis)}")
            same = said.setdefault(tuple(text), letter)
            text = text if same == letter else [f"as {same}"]
            lines += [f"{letter}: {text[0]}", *[f"   {line}" for line in text[1:]]]
        return "\n".join(
            [*lines, *([] if self.independent else ["what is said of one axis holds while others are large"])]
        )


def _groups_text(axis: AxisSizes) -> str:
    if not axis.is_alone:
        return "made of several axes together"
    groups = axis.groups(4)
    if len(groups) == 1:
        return "all have the same"
    changing = [at for at in range(len(groups[0][1])) if len({code[at : at + 1] for _, code in groups}) > 1]
    shown = [f"{sizes} → {shape_text([code[at] for at in changing if at < len(code)])}" for sizes, code in groups[:3]]
    return ", ".join([*shown, *(["..."] if len(groups) > 3 else [])])


@dataclass(frozen=True)
class _Taken:
    """What is known of a class of sizes that a block takes."""

    code: tuple[Any, ...]
    leaves: bool


def accepts(block: Block, shape: Sequence[int | None]) -> Acceptance:
    """Which sizes a block takes along the axes that are `None`.

    Raises:
        ShapeError: for a shape without an open axis, and where the answer along one axis is made of the size of
            another, or of numbers that are no simple fractions.
    """
    asked = tuple(shape)
    open_axes = [axis for axis, size in enumerate(asked) if size is None]
    if not open_axes or 0 in open_axes:
        raise ShapeError(
            f"the open axes of {asked!r} are {'none' if not open_axes else 'the channels'}.",
            "Give None for the sizes to ask about, as in accepts((1, None, None)).",
        )
    met: list[Unknown] = []
    return Acceptance(asked, tuple([_along(block, asked, axis, met) for axis in open_axes]), independent=not met)


def _along(block: Block, shape: tuple[int | None, ...], axis: int, met: list[Unknown]) -> AxisSizes:
    try:
        courses = _courses(block, shape, axis, met)
    except Untold as error:
        raise block_refusal(block, shape, axis, error) from None
    return AxisSizes(
        axis,
        sizes_where(courses, lambda taken: taken is not None),
        sizes_where(courses, lambda taken: taken is not None and not taken.leaves),
        tuple(courses),
    )


def block_refusal(block: Block, shape: Sequence[Any], axis: int, error: Untold) -> ShapeError:
    """The error for a question that has no answer in ranges and congruences."""
    wheres = at_axes(tuple(shape), [axis - 1])
    return ShapeError(
        f"which sizes are taken {wheres} cannot be said for all at once: {error.reason}",
        "Give numbers along the other axes, or try the sizes one by one.",
        where=brief(block)[:80],
    )


def _courses(
    block: Block, shape: tuple[int | None, ...], axis: int, met: list[Unknown], most: int = MOST_TRIED
) -> list[Course]:
    def formula(size: Any) -> _Taken:
        sizes: Any = tuple([Unknown(met) if size is None else size for size in shape])
        at = (*sizes[:axis], size, *sizes[axis + 1 :])
        code = block.output_shape(at)
        left = [cells for cells in block.remainders(at) if isinstance(cells, Growing)]
        return _Taken(code, any(bool(cells != 0) for cells in left))

    return followed(formula, most, blocks_in(block))


def nearest_taken(block: Block, shape: Shape, most: int = MOST_TRIED) -> tuple[Shape, bool] | None:
    """The nearest larger shape that a block takes, and whether it takes every larger one too.

    >>> from obverse import Conv, PixelUnshuffle
    >>> nearest_taken(Conv(4, 7) >> Conv(4, 3), (1, 5, 28)), nearest_taken(PixelUnshuffle(4), (1, 5, 28))
    (((1, 9, 28), True), ((1, 8, 28), False))

    `None` where there is none, where it depends on several axes at once, or cannot be said for all sizes at once.
    """
    met: list[Unknown] = []
    nearest, all_larger = list(shape), True
    for axis in range(1, len(shape)):
        opened = (shape[0], *[None] * (len(shape) - 1))
        try:
            courses = _courses(block, opened, axis, met, most)
        except Untold:
            return None
        sizes = sizes_where(courses, lambda taken: taken is not None)
        found = sizes.at_least(shape[axis])
        if found is None or met:
            return None
        nearest[axis] = found
        all_larger = all_larger and sizes.is_all_from is not None
    return tuple(nearest), all_larger
