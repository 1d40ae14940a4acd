"""Sets of sizes, written as ranges and congruences; and which sizes a formula takes, for all sizes at once.

A size formula made of floors repeats itself: a period further on, everything has grown by a fixed amount. So a formula
is followed for a whole class of sizes at a time, `n = first + step t`, where every number on the way is linear in `t`
and every comparison has one answer for all `t`. Where one has not, the class is made finer, or begins later, and the
few sizes in front of it are tried one by one. What comes out is proven for every size there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby, islice
from math import gcd
from typing import Any, NamedTuple

from obverse.errors import ObverseError, ShapeError

__all__ = ["Sizes"]


@dataclass(frozen=True)
class Sizes:
    """A set of sizes: a few, and from some size on those with certain remainders.

    >>> odd = Sizes.of(lambda size: size % 2 == 1 and size >= 25, start=25, step=2)
    >>> print(odd)
    n ≡ 1 mod 2, n ≥ 25
    >>> 27 in odd, odd.at_least(28)
    (True, 29)

    Attributes:
        few: those below `start`, in order.
        start: where the rest begins.
        step: after how many sizes the rest repeats.
        residues: the remainders, divided by `step`, of the rest.
    """

    few: tuple[int, ...]
    start: int
    step: int
    residues: tuple[int, ...]

    @classmethod
    def of(cls, holds: Callable[[int], bool], start: int, step: int) -> Sizes:
        """The sizes from 1 up for which something holds, if from `start` on it repeats after `step`; plainly.

        Args:
            holds: asked for the sizes below `start + step`.
            start: where it begins to repeat.
            step: after how many sizes.
        """
        members = {size for size in range(1, start + step) if holds(size)}
        cycle = {size % step for size in range(start, start + step) if size in members}
        step, residues = _shortest(step, cycle)
        while start > 1 and ((start - 1) in members) == ((start - 1) % step in residues):
            start -= 1
        few = tuple(sorted(size for size in members if size < start))
        return cls(few, start, step, tuple(sorted(residues)))

    def __contains__(self, size: object) -> bool:
        if not isinstance(size, int):
            return False
        return size % self.step in self.residues if size >= self.start else size in self.few

    def __iter__(self) -> Iterator[int]:
        """In order; without end, where there is none."""
        yield from self.few
        if self.residues:
            yield from (size for size in count(self.start) if size % self.step in self.residues)

    def __bool__(self) -> bool:
        return bool(self.few or self.residues)

    @property
    def is_finite(self) -> bool:
        """Whether there is a largest one."""
        return not self.residues

    @property
    def is_all_from(self) -> int | None:
        """The size from which on all are in it, where nothing else is; `None` where some are missing in between."""
        return self.start if self.residues and self.step == 1 and not self.few else None

    def at_least(self, size: int) -> int | None:
        """The smallest that is no smaller than a size; `None` where there is none."""
        found: int | None = next((member for member in self.few if member >= size), None)
        if found is not None or not self.residues:
            return found
        first = max(size, self.start)
        larger: Iterator[int] = (
            member for member in range(first, first + self.step) if member % self.step in self.residues
        )
        return next(larger, None)

    def __str__(self) -> str:
        few, rest = _as_ranges(self.few), self._rest()
        return " and ".join(filter(None, [few, rest])) or "none"

    def _rest(self) -> str:
        if not self.residues:
            return ""
        first = next(size for size in range(self.start, self.start + self.step) if size % self.step in self.residues)
        if self.step == 1:
            return "every size" if first == 1 else f"n ≥ {first}"
        said = f"n ≡ {' or '.join(map(str, self.residues))} mod {self.step}"
        least = min(residue or self.step for residue in self.residues)
        return said if first == least else f"{said}, n ≥ {first}"


def _shortest(step: int, cycle: set[int]) -> tuple[int, set[int]]:
    """The shortest period of a pattern of remainders, and the pattern for it."""
    for shorter in range(1, step):
        if step % shorter == 0 and all((residue + shorter) % step in cycle for residue in cycle):
            return shorter, {residue % shorter for residue in cycle}
    return step, cycle


def _as_ranges(sizes: Iterable[int]) -> str:
    runs = [[size for _, size in run] for _, run in groupby(enumerate(sizes), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


# All sizes at once ---------------------------------------------------------------------------------------------------


class Finer(Exception):  # noqa: N818    # no error: a question
    """A class of sizes must be split into this many."""

    def __init__(self, parts: int) -> None:
        self.parts = parts


class Beyond(Exception):  # noqa: N818
    """A class of sizes must begin this many steps further on."""

    def __init__(self, steps: int) -> None:
        self.steps = steps


class Untold(ObverseError):  # noqa: N818    # no mistake: a question without an answer
    """A formula that cannot be followed for all sizes at once."""


class Growing:
    """The numbers `least + step t`, for all whole `t ≥ 0` at once.

    >>> size = Growing(1, 4)
    >>> (size + 3) // 2, size % 2, size > 0
    (Growing(2, 2), Growing(1, 0), True)
    """

    __slots__ = ("least", "step")

    def __init__(self, least: int, step: int) -> None:
        self.least, self.step = least, step

    def __repr__(self) -> str:
        return f"Growing({self.least}, {self.step})"

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Growing):
            return Growing(self.least + other.least, self.step + other.step)
        return Growing(self.least + other, self.step) if isinstance(other, int) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> Growing:
        return Growing(-self.least, -self.step)

    def __sub__(self, other: Any) -> Any:
        return self + -other if isinstance(other, (int, Growing)) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other if isinstance(other, int) else NotImplemented

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Growing):
            if self.step and other.step:
                raise Untold("two sizes that both grow are multiplied.")
            return other * self.least if other.step else self * other.least
        if isinstance(other, int):
            return Growing(self.least * other, self.step * other)
        if isinstance(other, float) and not self.step:
            return self.least * other
        return NotImplemented

    __rmul__ = __mul__

    def _parted(self, other: Any) -> int:
        """The divisor, if it divides the step; else the class is too coarse."""
        divisor = other.least if isinstance(other, Growing) and not other.step else other
        if not isinstance(divisor, int):
            raise Untold("a size is divided by one that grows.")
        if self.step % divisor:
            raise Finer(abs(divisor) // gcd(self.step, divisor))
        return divisor

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, Unknown):
            return NotImplemented
        divisor = self._parted(other)
        return Growing(self.least // divisor, self.step // divisor)

    def __mod__(self, other: Any) -> Any:
        if isinstance(other, Unknown):
            return NotImplemented
        return Growing(self.least % self._parted(other), 0)

    def _sign(self, other: Any) -> int | None:
        """Whether it is below (-1), equal (0) or above (1), for all `t` alike."""
        gap = self - other if isinstance(other, (int, Growing)) else None
        if gap is None:
            return None
        if gap.step and (not gap.least or (gap.least > 0) != (gap.step > 0)):
            raise Beyond(abs(gap.least) // abs(gap.step) + 1)
        least: int = gap.least
        return (least > 0) - (least < 0)

    def __lt__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign < 0

    def __le__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign <= 0

    def __gt__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign > 0

    def __ge__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign >= 0

    def __eq__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign == 0

    def __ne__(self, other: Any) -> Any:
        sign = self._sign(other)
        return NotImplemented if sign is None else sign != 0

    __hash__ = object.__hash__


class Unknown:
    """A size along another axis, of which nothing is known but that it is there.

    Attributes:
        met: whether it has met the size that is followed.
        asked: where it is noted that something depends on both.
    """

    __slots__ = ("asked", "met")

    def __init__(self, asked: list[Unknown], met: bool = False) -> None:
        self.asked, self.met = asked, met

    def _with(self, other: Any) -> Unknown:
        met = self.met or isinstance(other, Growing) or (isinstance(other, Unknown) and other.met)
        return Unknown(self.asked, met)

    def _divided(self, other: Any) -> Unknown:
        self._compared(other)
        return self._with(other)

    def _compared(self, other: Any) -> None:
        if self._with(other).met:
            self.asked.append(self)

    def __neg__(self) -> Unknown:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _with
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _divided
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _compared  # type: ignore[assignment]    # neither true nor false
    __hash__ = object.__hash__


class Course(NamedTuple):
    """What a formula makes of the sizes `first, first + step, ...`; of the first alone, where `step` is 0.

    Attributes:
        first: the smallest of the sizes.
        step: how far the next one is.
        outcome: what the formula gives, numbers that grow as `Growing`; `None` where it refuses.
    """

    first: int
    step: int
    outcome: Any


MOST_TRIED = 20_000
"""Sizes and classes tried at most before a formula is given up: a second, for a chain of fifty blocks."""


def followed(formula: Callable[[Any], Any], most: int = MOST_TRIED) -> list[Course]:
    """What a formula makes of all sizes, class by class.

    >>> [course.first for course in followed(lambda size: (size + 1) // 2)]
    [1, 2]

    Args:
        formula: from a size to anything made of numbers; raises `ShapeError` where it refuses.
        most: how often it is asked at most.

    Raises:
        Untold: for a formula that is not made of sums, multiples and divisions by whole numbers, or takes too long.
    """
    period, asked = 1, count(1)

    def tried(size: Growing) -> Any:
        if next(asked) > most:
            raise Untold("it takes too long to follow.")
        try:
            return formula(size)
        except ShapeError:
            return None

    while True:
        try:
            return [course for first in range(1, period + 1) for course in _class(tried, first, period)]
        except Finer as question:
            period *= question.parts
        except TypeError as error:
            raise Untold(f"it cannot be followed: {error}.") from None


def _class(tried: Callable[[Growing], Any], first: int, period: int) -> Iterator[Course]:
    start = first
    while True:
        try:
            outcome = tried(Growing(start, period))
            break
        except Beyond as question:
            start += question.steps * period
    yield from (Course(size, 0, tried(Growing(size, 0))) for size in range(first, start, period))
    yield Course(start, period, outcome)


def sizes_where(courses: Iterable[Course], holds: Callable[[Any], bool]) -> Sizes:
    """The sizes whose outcome is as asked.

    >>> print(sizes_where(followed(lambda size: size % 3), lambda outcome: outcome.least == 2))
    n ≡ 2 mod 3
    """
    courses = list(courses)
    period = max(course.step for course in courses)
    start = max(course.first for course in courses if course.step)
    singles = {course.first: holds(course.outcome) for course in courses if not course.step}
    classes = {course.first % period: holds(course.outcome) for course in courses if course.step}
    return Sizes.of(lambda size: singles[size] if size in singles else classes[size % period], start, period)


def sizes_taken(formula: Callable[[Any], Any]) -> Sizes:
    """The sizes that a formula takes.

    >>> from obverse.arithmetic import conv_output_size
    >>> print(sizes_taken(lambda size: conv_output_size(size, 5, stride=2)))
    n ≥ 5

    Raises:
        Untold: as `followed` does.
    """
    return sizes_where(followed(formula), lambda outcome: outcome is not None)


def first_of(sizes: Sizes, number: int) -> list[int]:
    """The first few of a set."""
    return list(islice(sizes, number))
