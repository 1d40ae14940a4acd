"""The kit: every check, asked of a block or of all the blocks of a class, at shapes that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as Settings  # noqa: N812    # a class, whatever it is called there
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from obverse.block import Block
from obverse.errors import RegistryError
from obverse.registry import block_class
from obverse.shapes import Shape, as_shape
from obverse.testing.arguments import blocks_of
from obverse.testing.checks import CHECKS, Check, NotAsked
from obverse.testing.running import accepts
from obverse.testing.strategies import ROWS, blocks_with_shapes, sizes

if TYPE_CHECKING:
    import pytest

__all__ = ["Report", "check_block", "main", "parametrize_with_checks"]

Target = Block | type[Block]
Shapes = st.SearchStrategy[Shape] | Iterable[Shape]


class Asked(NamedTuple):
    """What one check was asked: of how many examples; of none, for a reason, or in vain, as expected."""

    name: str
    examples: int
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Report:
    """What was checked.

    >>> from obverse import Crop
    >>> report = check_block(Crop((1, 2)), checks=["mirror", "adjoint", "gradients"])
    >>> report.checks, report.examples > 25
    (3, True)

    Attributes:
        block: what was checked, by its name.
        asked: what every check was asked.
    """

    block: str
    asked: tuple[Asked, ...] = field(repr=False)

    @property
    def checks(self) -> int:
        """How many checks had something to look at, and held."""
        return sum(1 for one in self.asked if one.examples and not one.failed)

    @property
    def examples(self) -> int:
        """How many examples they saw, all together."""
        return sum(one.examples for one in self.asked if not one.failed)

    def __str__(self) -> str:
        width = max(len(one.name) for one in self.asked)
        return "\n".join(
            [
                f"{self.block}: {self.checks} checks hold, in {self.examples:,} examples",
                *(f"  {one.name:{width}}  {_told(one)}" for one in self.asked),
            ]
        )


def _told(one: Asked) -> str:
    if one.failed:
        return f"fails, as expected: {one.reason}"
    return f"{one.examples:5,}" if one.examples else f"    – {one.reason}"


def check_block(
    block: Target,
    *,
    shapes: Shapes | None = None,
    checks: Iterable[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    min_checks: int = 0,
    slow: bool = False,
    settings: Settings | None = None,
    **arguments: Any,
) -> Report:
    """Ask a block, or a class of blocks, for everything that a block must keep.

    >>> from obverse import Pad
    >>> few = Settings(max_examples=20)
    >>> print(check_block(Pad((1, 2), (0, 1)), checks=["promise", "mirror", "adjoint", "around"], settings=few))
    Pad((1, 2), (0, 1)): 3 checks hold, in 60 examples
      promise     20
      mirror      20
      around       – it hands nothing round the code
      adjoint     20

    Of a class, blocks are drawn: arguments are found from its fields, or given as strategies,
    `check_block(Wavelet, levels=st.integers(1, 3))`. Shapes that it takes are found among some 2,000 small ones.

    Args:
        block: a block, or a class of blocks.
        shapes: where to try it, if no small shape will do: a strategy, or shapes.
        checks: the names of those to ask; by default all.
        expected_failures: the names of checks that must fail, each with the reason why that is right.
        min_checks: how many checks must at least have had something to look at.
        slow: whether to ask those, too, that take about a second an example: `compile` and `export`.
        settings: hypothesis' settings, such as `settings(max_examples=20)`; by default the profile's.
        **arguments: for fields of the class a strategy, or a value.

    Raises:
        AssertionError: for the first law that is broken: which, the smallest case, what was expected and found, and
            what to change; for an expected failure that does not fail; for too few checks.
        TypeError: for arguments that cannot be guessed.
        ValueError: for a check, or expected failure, that there is not, and where no legal shape is found.
    """
    chosen = _chosen(checks, slow)
    expected = dict(expected_failures or {})
    _check_names(expected)
    cases = cases_of(block, shapes, **arguments)
    asked = []
    for check in chosen:
        one = (
            ask(check, cases, settings, block)
            if check.name not in expected
            else _ask_in_vain(check, cases, settings, block, expected[check.name])
        )
        asked.append(one)
    report = Report(_label(block), tuple(asked))
    if report.checks < min_checks:
        raise AssertionError(
            f"{report.checks} checks of {report.block} had something to look at, and at least {min_checks} shall.\n"
            f"{report}"
        )
    return report


def _chosen(names: Iterable[str] | None, slow: bool) -> list[Check]:
    if names is None:
        return [check for check in CHECKS.values() if slow or not check.slow]
    names = list(names)
    _check_names(names)
    return [check for check in CHECKS.values() if check.name in names]


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name not in CHECKS:
            near = get_close_matches(name, CHECKS, n=1)
            raise ValueError(
                f"no check is called {name!r}. "
                + (f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(CHECKS)}.")
            )


def _label(block: Target) -> str:
    return block.__name__ if isinstance(block, type) else repr(block)


# Cases ---------------------------------------------------------------------------------------------------------------

Case = tuple[Block, Shape, Shape]
"""A block, a shape that it takes, and another of the same rank and channels, that it may take."""


def cases_of(block: Target, shapes: Shapes | None = None, **arguments: Any) -> st.SearchStrategy[Case]:
    """Blocks with shapes that they take.

    Raises:
        TypeError: for arguments that cannot be guessed, and for what is no block.
    """
    if not isinstance(block, Block) and not (isinstance(block, type) and issubclass(block, Block)):
        raise TypeError(f"a block, or a class of blocks, is checked; {block!r} was given.")
    if isinstance(block, Block) and arguments:
        raise TypeError(f"{block!r} is a block already; arguments are for a class: {type(block).__name__}.")
    if isinstance(block, type) and shapes is None and not arguments and (row := _row_of(block)):
        return blocks_with_shapes([row], ranks=(0, 1, 2, 3)).flatmap(lambda drawn: _beside(*drawn))
    drawn = st.just(block) if isinstance(block, Block) else blocks_of(block, **arguments)
    at = shapes if shapes is None or isinstance(shapes, st.SearchStrategy) else tuple(map(as_shape, shapes))
    return _cases(drawn, at)


def _row_of(cls: type[Block]) -> str | None:
    """The row of the strategies that draws a class: a built-in's, or one that its author entered."""
    try:
        return cls.__name__ if cls.__name__ in ROWS and block_class(cls.__name__) is cls else None
    except RegistryError:
        return None


@st.composite
def _cases(
    draw: Any, blocks: st.SearchStrategy[Block], at: st.SearchStrategy[Shape] | tuple[Shape, ...] | None
) -> Case:
    block: Block = draw(blocks)
    if isinstance(at, st.SearchStrategy):
        shape = draw(at.filter(lambda shape: accepts(block, shape)))
    else:
        taken = legal(block) if at is None else [shape for shape in at if accepts(block, shape)]
        shape = draw(st.sampled_from(taken) if taken else st.nothing())
    return draw(_beside(block, shape))  # type: ignore[no-any-return]


@st.composite
def _beside(draw: Any, block: Block, shape: Shape) -> Case:
    """With another shape; mostly a smaller one, where refusals are."""
    other = [
        draw(sizes(most=3) | sizes(most=6 if len(shape) == 4 else 14))
        if n <= 16
        else draw(st.integers(n - 3, n + 3) | sizes(most=n))
        for n in shape[1:]
    ]
    return block, shape, (shape[0], *other)


GRID = sorted(
    [
        *((n,) for n in range(1, 17)),
        *product(range(1, 13), range(1, 17)),
        *product((1, 2, 3, 4, 6, 8, 9), range(1, 10), range(1, 10)),
        *product((1, 2, 3, 8, 27), range(1, 6), range(1, 6), range(1, 6)),
    ],
    key=lambda shape: (prod(shape), shape),
)
"""Small shapes, of all ranks, plainest first: where legal ones are looked for."""


@lru_cache(maxsize=4096)
def legal(block: Block) -> list[Shape]:
    """The shapes of the grid that a block takes."""
    return [shape for shape in GRID if accepts(block, shape)]


# Asking --------------------------------------------------------------------------------------------------------------

FEW = 2
"""Examples that a slow check sees."""


def ask(check: Check, cases: st.SearchStrategy[Case], settings: Settings | None, block: Target) -> Asked:
    """Ask one check of many cases; the smallest that fails is told.

    Raises:
        AssertionError: where the law is broken.
    """
    seen = 0
    reason = ""

    def asked(case: Case) -> None:
        nonlocal seen, reason
        block, *at = case
        try:
            check.function(block, *at[: check.shapes])
        except NotAsked as nothing:
            reason = str(nothing)
        else:
            seen += 1

    profile = settings or Settings()
    try:
        Settings(
            profile,
            max_examples=min(profile.max_examples, FEW) if check.slow else profile.max_examples,
            deadline=None,
            derandomize=profile.derandomize or settings is None,
            database=None,
            report_multiple_bugs=False,
            print_blob=False,
            phases=set(profile.phases) - {Phase.explain},
            suppress_health_check=list(HealthCheck),
        )(given(cases)(asked))()
    except AssertionError as broken:  # without what hypothesis notes: the case is told already
        raise AssertionError(str(broken)) from broken.__cause__
    except Unsatisfiable:
        raise ValueError(
            f"none of {len(GRID):,} small shapes is taken by {_label(block)}: give some, shapes=[(1, 64, 64)]."
        ) from None
    return Asked(check.name, seen, reason)


def _ask_in_vain(
    check: Check, cases: st.SearchStrategy[Case], settings: Settings | None, block: Target, reason: str
) -> Asked:
    try:
        ask(check, cases, settings, block)
    except AssertionError:
        return Asked(check.name, 1, reason, failed=True)
    raise AssertionError(_holds_after_all(_label(block), check.name, reason))


def _holds_after_all(label: str, name: str, reason: str) -> str:
    return f"{label} was expected to break {name} ({reason}), and keeps it.\nTake {name!r} out of expected_failures."


# For pytest, and the command line ------------------------------------------------------------------------------------


def parametrize_with_checks(
    blocks: Sequence[Target | tuple[type[Block], Mapping[str, Any]]],
    *,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
    min_checks: int = 0,
    checks: Iterable[str] | None = None,
    slow: bool = False,
    settings: Settings | None = None,
) -> pytest.MarkDecorator:
    """A pytest decorator: one test a block and check, and one that counts them.

    ```python
    from obverse import Crop, Pad
    from obverse.testing import parametrize_with_checks

    @parametrize_with_checks([Pad, Crop], min_checks=15)
    def test_my_blocks(check):
        check()
    ```

    A check that has nothing to look at is skipped, and says why, so that what pytest calls passed was looked at. An
    expected failure that passes is a failure.

    Args:
        blocks: blocks, classes, or classes with arguments, `(Wavelet, {"levels": st.integers(1, 3)})`.
        expected_failures: for a class by its name, or a block by its repr, the checks that must fail, with reasons.
        min_checks: how many checks must have something to look at for every block, failures expected included.
        checks: the names of those to ask; by default all.
        slow: whether to ask those, too, that take about a second an example.
        settings: hypothesis' settings; by default the profile's.

    Raises:
        ValueError: for expected failures of blocks or checks that are not there.
    """
    import pytest

    expected = expected_failures or {}
    targets = [(one[0], dict(one[1])) if isinstance(one, tuple) else (one, {}) for one in blocks]
    labels = [_label(block) for block, _ in targets]
    for label, names in expected.items():
        if label not in labels:
            raise ValueError(f"expected_failures names {label!r}, and there are {', '.join(labels)}.")
        _check_names(names)
    chosen = list(checks) if checks is not None else None
    tests = []
    for (block, arguments), label in zip(targets, labels, strict=True):
        reasons = expected.get(label, {})
        for check in _chosen(chosen, slow):
            reason = reasons.get(check.name)
            marks = [pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)] if reason else []
            test = _Test(block, arguments, check.name, settings, slow)
            tests.append(pytest.param(test, id=f"{label}-{check.name}", marks=marks))
        if min_checks:
            few = _Floor(block, arguments, chosen, slow, reasons, min_checks)
            tests.append(pytest.param(few, id=f"{label}-at least {min_checks} checks"))
    return pytest.mark.parametrize("check", tests)


@dataclass(frozen=True)
class _Test:
    """One check of one block, as pytest calls it."""

    block: Target
    arguments: Mapping[str, Any]
    check: str
    settings: Settings | None
    slow: bool

    def __call__(self) -> None:
        import pytest

        one = ask(CHECKS[self.check], cases_of(self.block, **self.arguments), self.settings, self.block)
        if not one.examples:
            pytest.skip(one.reason)


@dataclass(frozen=True)
class _Floor:
    """That enough checks have something to look at, as pytest calls it: a few examples tell."""

    block: Target
    arguments: Mapping[str, Any]
    checks: Sequence[str] | None
    slow: bool
    expected: Mapping[str, str]
    least: int

    def __call__(self) -> None:
        quick = [check for check in _chosen(self.checks, self.slow) if check.name not in self.expected]
        asked = [name for check in quick if (name := self._asked(check))]
        ran = len(asked) + len(self.expected)
        assert ran >= self.least, (
            f"{ran} checks of {_label(self.block)} have something to look at, and at least {self.least} shall: "
            f"{', '.join([*asked, *self.expected])}."
        )

    def _asked(self, check: Check) -> str:
        try:
            one = ask(check, cases_of(self.block, **self.arguments), Settings(max_examples=3), self.block)
        except AssertionError:  # which its own test tells
            return check.name
        return check.name if one.examples else ""


def main(target: str, *, slow: bool = False, say: Callable[[str], object] = print) -> int:
    """Check what `package.module:Block` names, or a registered name; 0 if all holds, 1 if a law is broken.

    >>> main("obverse:Flatten", say=lambda text: None)
    0
    """
    found = _looked_up(target)
    try:
        report = check_block(found, slow=slow)
    except AssertionError as error:
        say(str(error))
        return 1
    say(str(report))
    return 0


def _looked_up(target: str) -> Target:
    module, _, name = target.partition(":")
    if not name:
        return block_class(module)
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RegistryError(
            f"{target} cannot be imported: {error}.", "Write package.module:Block, of a package that is installed."
        ) from error
    return found  # type: ignore[no-any-return]    # what is no block is refused where it is checked
