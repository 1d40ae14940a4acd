"""From sizes to layers: the plainest encoder that has the shapes one wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, pairwise, product
from math import prod
from typing import Any

from obverse.arithmetic import ConvSettings, conv_output_size, remainder, solve_conv, whole
from obverse.blocks.conv import Conv
from obverse.blocks.pointwise import ReLU
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.plan import Plan
from obverse.settings import collapsed
from obverse.shapes import Shape, as_shape, at_axes, shape_text

__all__ = ["from_shapes", "solve"]

KERNELS = tuple(range(1, 8))
"""Kernels that are tried: up to 7, the largest of the common backbones."""
STRIDES = (1, 2, 3, 4)
PLAIN = (1, 2)
"""Strides that are tried before any other."""


def from_shapes(shapes: Sequence[Shape], *, kernel_size: int | None = None, activation: Any = None) -> Chain:
    """The plainest chain of convolutions that goes through the given shapes.

    >>> from_shapes([(1, 28, 28), (16, 14, 14), (32, 7, 7), (12, 1, 1)])
    Chain(Conv(16, 2, stride=2), ReLU(), Conv(32, 2, stride=2), ReLU(), Conv(12, 7))
    >>> from_shapes([(1, 28, 28), (16, 14, 14), (32, 7, 7), (12, 1, 1)], kernel_size=3)
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: no convolution with a kernel of 3 takes 7 cells to 1 along H and W.
    Give 2 in place of 1, or kernel_size=7.

    Args:
        shapes: what goes in, and what shall come out of each stage.
        kernel_size: of every stage; by default the plainest that does it, as `solve_conv` orders them.
        activation: the block between two stages; `ReLU()` by default.

    Raises:
        ShapeError: where no convolution does it, with the nearest size and the kernel that can.
    """
    known = [as_shape(shape) for shape in shapes]
    if len(known) < 2 or len({len(shape) for shape in known}) > 1 or not 2 <= len(known[0]) <= 4:
        raise ShapeError(
            f"the shapes {[shape_text(shape) for shape in known]} are not those of stages with the same axes.",
            "Give what goes in and what comes out of each stage, as in [(1, 28, 28), (16, 14, 14)].",
        )
    blocks: list[Any] = []
    for before, after in pairwise(known):
        axes = [_settings(before, after, axis, kernel_size) for axis in range(1, len(before))]
        blocks += [_conv(after[0], axes), ReLU() if activation is None else activation]
    chain = Chain(*blocks[:-1])
    assert chain.output_shape(known[0]) == known[-1]
    return chain


def _settings(before: Shape, after: Shape, axis: int, kernel_size: int | None) -> ConvSettings:
    kernels = KERNELS if kernel_size is None else (whole("kernel_size", kernel_size, 1),)
    found = _solved(before[axis], after[axis], kernels)
    if found:
        return found[0]
    given = "" if kernel_size is None else f" with a kernel of {kernel_size}"
    alike = [other for other in range(1, len(before)) if (before[other], after[other]) == (before[axis], after[axis])]
    where = at_axes(before, [other - 1 for other in alike])
    raise ShapeError(
        f"no convolution{given} takes {before[axis]} cells to {after[axis]} {where}.",
        _what_can(before[axis], after[axis], kernels),
    )


@lru_cache(maxsize=1024)
def _solved(size: int, after: int, kernels: tuple[int, ...]) -> list[ConvSettings]:
    """What takes a size to another; larger kernels and strides are tried only where the usual ones do not do it."""
    usual = solve_conv(size, after, kernel_sizes=kernels, strides=STRIDES)
    found = [settings for settings in usual if settings.stride <= settings.kernel_size]
    if found or len(kernels) == 1:
        natural = 1 if after == 1 else max(size // after, 1)  # the stride that the sizes ask for
        return sorted(found, key=lambda s: (abs(s.stride - natural), remainder(size, *s), s.kernel_size, s.padding))
    if after == 1:
        return [ConvSettings(size)]
    stride = size // after
    return solve_conv(size, after, kernel_sizes=(stride, stride + 1), strides=(stride,)) if stride > 1 else []


def _what_can(size: int, after: int, kernels: tuple[int, ...]) -> str:
    """The nearest size that can be had, and a kernel that does what was asked."""
    can = [near for near in range(1, 2 * size + 1) if solve_conv(size, near, kernel_sizes=kernels, strides=STRIDES)]
    nearest = min(can, key=lambda near: (abs(near - after), near), default=None)
    other = _solved(size, after, KERNELS) if len(kernels) == 1 else []
    ways = [] if nearest is None else [f"{nearest} in place of {after}"]
    ways += [f"kernel_size={other[0].kernel_size}"] if other else []
    return f"Give {', or '.join(ways)}." if ways else ""


def _conv(channels: int, axes: Sequence[ConvSettings]) -> Conv:
    kernel_size, stride, padding, _ = (collapsed(values) for values in zip(*axes, strict=True))
    return Conv(channels, kernel_size, stride=stride, padding=padding)


def solve(
    input_shape: Shape,
    code: int | Shape | None = None,
    *,
    stages: int | None = None,
    shrink: int | None = None,
    kernel_size: int | None = None,
    receptive_field: int = 1,
    channels: Sequence[int] | None = None,
    activation: Any = None,
    answers: int = 5,
) -> list[Chain]:
    """Encoders that do what is asked, plainest first.

    >>> solve((1, 28, 28), 12, stages=3)[0]    # a code of 12 numbers
    Chain(Conv(16, 2, stride=2), ReLU(), Conv(32, 2, stride=2), ReLU(), Conv(12, 7))
    >>> solve((3, 64, 64), shrink=16, kernel_size=3)[0].output_shape((3, 64, 64))
    (128, 4, 4)
    >>> solve((1, 27), shrink=2)    # halve 27 exactly
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: 27 cells along L cannot be divided by 2 exactly.
    Give an input of 28, or code=(16, 14), which is the nearest.
    >>> chain = solve((1, 128), shrink=4, receptive_field=64)[0]
    >>> chain.plan((1, 128)).steps[-1].receptive_field
    (67,)

    Plainest means: fewest stages; then no remainder; then the smallest kernels and strides that are alike. Every answer
    is held against what was asked by its own plan. Of answers that go through the same shapes with as many parameters
    and see as much, only the plainest is given: a stride beside a single cell makes no other encoder.

    Args:
        input_shape: `(C, *spatial)`, what goes in.
        code: the shape of the code; or how many numbers, as channels of a single cell.
        stages: how many convolutions; by default as few as do it.
        shrink: by how much every axis shall get smaller, exactly, in place of a code.
        kernel_size: of every stage; the last one before a single cell spans what is left where it must.
        receptive_field: how many cells of the input a cell of the code shall see at least.
        channels: what comes out of every stage; by default 16, doubled from stage to stage, and the code's at the end.
        activation: the block between two stages; `ReLU()` by default.
        answers: how many to give at most.

    Raises:
        ShapeError: for what cannot be done, with the nearest that can.
    """
    shape = as_shape(input_shape)
    wanted = _wanted(shape, code, shrink)
    whole("answers", answers, 1)
    least = 1 if stages is None else whole("stages", stages, 1)
    most = MOST_STAGES if stages is None else least
    found: dict[tuple[Any, ...], Chain] = {}
    for strides, number in product((PLAIN, STRIDES), range(least, most + 1)):
        asked = _Asked(number, kernel_size, receptive_field, shrink, strides)
        axes = [_ways(shape[axis], wanted[axis], asked) for axis in range(1, len(shape))]
        widths = _widths(number, wanted[0], channels)
        for way in islice(_together(axes), 4 * answers):
            plan = _chained(way, widths, activation).plan(shape)
            if _proven(plan, wanted, receptive_field):
                found.setdefault((plan.shapes, plan.parameters, plan.steps[-1].receptive_field), plan.chain)
        if len(found) >= answers or (found and stages is None):
            break
    if found:
        return list(found.values())[:answers]
    raise _cannot(shape, wanted, _Asked(stages, kernel_size, receptive_field, shrink, STRIDES))


@dataclass(frozen=True)
class _Asked:
    """What is asked of the stages along every axis."""

    stages: int | None
    kernel_size: int | None
    sees: int
    jump: int | None
    strides: tuple[int, ...]


MOST_STAGES = 8
"""Stages that are tried where none are asked for: enough for 1/256."""


def _wanted(shape: Shape, code: int | Shape | None, shrink: int | None) -> tuple[Any, ...]:
    if (code is None) == (shrink is None):
        raise ShapeError(
            f"it takes a code or shrink; {'neither' if code is None else 'both'} was given.", "Give shrink=4."
        )
    if shrink is None and isinstance(code, int):
        return (code, *(1,) * (len(shape) - 1))
    if shrink is None:
        wanted = as_shape(code)
        if len(wanted) != len(shape):
            raise ShapeError(
                f"a code of {shape_text(wanted)} has other axes than the input, {shape_text(shape)}.",
                f"Give code={(wanted[0], *(1,) * (len(shape) - 1))}, or how many numbers it has.",
            )
        return wanted
    whole("shrink", shrink, 1)
    undivided = [axis for axis in range(1, len(shape)) if shape[axis] % shrink]
    if undivided:
        axis = undivided[0]
        larger = tuple(-(-size // shrink) * shrink for size in shape[1:])
        nearest = tuple(-(-size // shrink) for size in shape[1:])
        raise ShapeError(
            f"{shape[axis]} cells {at_axes(shape, [axis - 1])} cannot be divided by {shrink} exactly.",
            f"Give an input of {shape_text(larger)}, or code={(16, *nearest)}, which is the nearest.",
        )
    return (None, *[size // shrink for size in shape[1:]])


def _widths(number: int, code: int | None, channels: Sequence[int] | None) -> list[int]:
    if channels is not None:
        given = list(channels)
        if len(given) not in (number, number - 1):
            return [*given[: number - 1], *[given[-1]] * (number - len(given))]
        return given if len(given) == number else [*given, code or given[-1]]
    widths = [min(16 * 2**stage, 512) for stage in range(number)]
    return [*widths[:-1], code or widths[-1]]


def _ways(size: int, wanted: int, asked: _Asked) -> list[list[ConvSettings]]:
    """Settings of the stages along one axis, plainest first."""
    return sorted(_searched(size, wanted, asked), key=lambda way: _plainness(size, way))


def _plainness(size: int, way: list[ConvSettings]) -> tuple[Any, ...]:
    left = 0
    for settings in way:
        left += remainder(size, *settings) > 0
        size = conv_output_size(size, *settings)
    cells = sum(settings.kernel_size for settings in way)
    return cells + 2 * left, len(set(way)), sum(settings.padding for settings in way), way


def _searched(size: int, wanted: int, asked: _Asked) -> Iterator[list[ConvSettings]]:
    """Stages that are alike, and at the end what keeps the size, or one that takes what is left."""
    stages, tried = asked.stages or 1, set()
    for common in _commons(asked):
        for repeated in range(stages + 1):
            left = _run(size, [common] * repeated)
            if left is None or left < wanted:
                break
            for end in _ends(left, wanted, stages - repeated, common, asked):
                way = (*[common] * repeated, *end)
                if way not in tried and _sees(way) >= asked.sees and asked.jump in (None, _jump(way)):
                    tried.add(way)
                    yield list(way)


def _commons(asked: _Asked) -> Iterator[ConvSettings]:
    for kernel in KERNELS if asked.kernel_size is None else (asked.kernel_size,):
        for stride in asked.strides:
            if stride <= kernel:
                for padding in range(kernel // 2 + 1):
                    yield ConvSettings(kernel, stride, padding)


def _run(size: int, way: Sequence[ConvSettings]) -> int | None:
    try:
        for settings in way:
            size = conv_output_size(size, *settings)
    except ShapeError:
        return None
    return size


def _ends(left: int, wanted: int, rest: int, common: ConvSettings, asked: _Asked) -> list[list[ConvSettings]]:
    if rest == 0 or (rest > 1 and (left != wanted or not common.kernel_size % 2)):
        return [[]] if rest == 0 and left == wanted else []
    if rest > 1:
        return [[ConvSettings(common.kernel_size, 1, common.kernel_size // 2)] * rest]
    kernels = KERNELS if asked.kernel_size is None else (asked.kernel_size,)
    last = [settings for settings in _solved(left, wanted, kernels) if settings.stride in asked.strides]
    return [[settings] for settings in last] or ([[ConvSettings(left)]] if wanted == 1 else [])


def _jump(way: Sequence[ConvSettings]) -> int:
    return prod(settings.stride for settings in way)


def _sees(way: Sequence[ConvSettings]) -> int:
    sees, jump = 1, 1
    for kernel_size, stride, _, dilation in way:
        sees += dilation * (kernel_size - 1) * jump
        jump *= stride
    return sees


def _together(axes: list[list[list[ConvSettings]]]) -> Iterator[list[tuple[ConvSettings, ...]]]:
    """The plainest way along every axis, the second plainest along every axis, and so on."""
    if not all(axes):
        return
    for at in range(max(map(len, axes))):
        yield list(zip(*[ways[min(at, len(ways) - 1)] for ways in axes], strict=True))


def _chained(way: list[tuple[ConvSettings, ...]], widths: list[int], activation: Any) -> Chain:
    blocks: list[Any] = []
    for settings, channels in zip(way, widths, strict=True):
        blocks += [_conv(channels, settings), ReLU() if activation is None else activation]
    return Chain(*blocks[:-1])


def _proven(plan: Plan, wanted: tuple[Any, ...], sees: int) -> bool:
    """Whether a plan says that its chain does what was asked."""
    fits = plan.output_shape[1:] == wanted[1:] and wanted[0] in (None, plan.output_shape[0])
    return fits and all(field >= sees for field in plan.steps[-1].receptive_field)


def _cannot(shape: Shape, wanted: tuple[Any, ...], asked: _Asked) -> ShapeError:
    """What was asked, and the nearest that can be done: other stages, another kernel, a smaller field, another size."""
    stages, kernel_size, sees = asked.stages, asked.kernel_size, asked.sees
    said = [f"{shape_text(shape[1:])} to {shape_text(wanted[1:])}"]
    said += [f"in {stages} stage{'s' * (stages != 1)}"] if stages else []
    said += [f"with kernels of {kernel_size}"] if kernel_size else []
    said += [f"with a receptive field of at least {sees}"] if sees > 1 else []
    counts = [stages] if stages else list(range(1, MOST_STAGES + 1))

    def can(numbers: Sequence[int], size: tuple[Any, ...] = wanted, **other: Any) -> bool:
        tried = [replace(asked, **other, stages=number) for number in numbers]
        return any(all(_ways(shape[axis], size[axis], one) for axis in range(1, len(shape))) for one in tried)

    others = sorted(range(1, MOST_STAGES + 1), key=lambda number: abs(number - (stages or 1)))
    ways = [f"stages={number}" for number in others if stages and number != stages and can([number])][:1]
    kernels = sorted(KERNELS, key=lambda kernel: abs(kernel - (kernel_size or 0)))
    ways += [f"kernel_size={k}" for k in kernels if kernel_size and k != kernel_size and can(counts, kernel_size=k)][:1]
    if sees > 1:
        fields = [_most_seen(shape, wanted, replace(asked, sees=1, stages=number)) for number in counts]
        ways += [f"receptive_field={max(fields)}"] if any(fields) else []
    if not ways:
        spatial = sorted(range(1, 2 * max(shape[1:])), key=lambda size: abs(size - wanted[1]))[:64]
        sizes = [(wanted[0] or 16, *(size,) * (len(shape) - 1)) for size in spatial]
        ways += [f"code={size}" for size in sizes if can(counts, size, jump=None)][:1]
    return ShapeError(
        f"no chain of convolutions takes {' '.join(said)}.", f"Give {', or '.join(ways)}." if ways else ""
    )


def _most_seen(shape: Shape, wanted: tuple[Any, ...], asked: _Asked) -> int:
    """How much can be seen along every axis; 0 where the stages cannot do it along one of them."""
    axes = [_ways(shape[axis], wanted[axis], asked) for axis in range(1, len(shape))]
    return min(max(map(_sees, ways), default=0) for ways in axes)
