"""A chain held against one input shape, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from textwrap import fill
from typing import NamedTuple

from obverse.block import Block
from obverse.chain import Chain
from obverse.shapes import Shape, shape_text
from obverse.sight import Sight, Window, composed, halved

__all__ = ["Plan", "Step"]

Number = int | Fraction


class Step(NamedTuple):
    """One block of a plan.

    >>> from obverse import Chain, Conv
    >>> step = Chain(Conv(16, 3, stride=2, padding=1), Conv(12, 7)).plan((1, 28, 28)).steps[1]
    >>> step.place, step.receptive_field, step.jump
    ('1', (15, 15), (2, 2))

    Attributes:
        place: where the block stands: `"1"`, or `"1.0"` in a nested chain.
        block: the block.
        input_shape: what goes in.
        output_shape: what comes out.
        parameters: numbers that are learned.
        multiply_adds: multiplications with a weight, for one example.
        receptive_field: for each axis of the plan's input, how many of its cells one cell sees at most, cells of the
            padding counted.
        jump: how many cells of the input lie between what two neighbours see; a fraction where a decoder has grown
            past the input, 0 where every cell sees everything.
        start: where the middle of the first cell's sight lies, the first cell of the input being 0.
    """

    place: str
    block: Block
    input_shape: Shape
    output_shape: Shape
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int, ...]
    jump: tuple[Number, ...]
    start: tuple[Number, ...]


@dataclass(frozen=True)
class Plan:
    """A chain held against one input shape: every step with its shapes, costs and receptive field.

    >>> from obverse import Chain, Conv, ReLU
    >>> print(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)).plan((1, 28, 28)))
       block                             shape out  parameters  multiply-adds   sees
                                           1×28×28
    0  Conv(16, 3, stride=2, padding=1)   16×14×14         160         28,224    3×3
    1  ReLU()                             16×14×14           0              0    3×3
    2  Conv(12, 7)                          12×8×8       9,420        602,112  15×15
       1×28×28 → 12×8×8                   1.0 to 1       9,580        630,336

    The last line sums up: `1.0 to 1` says that the code has about as many numbers as the input. Under the table stands
    what the blocks have to say:

    >>> from obverse import ConvTranspose
    >>> print(Chain(ConvTranspose(1, 3, stride=2, padding=1)).plan((8, 14, 14)))
       block                              shape out  parameters  multiply-adds  sees
                                            8×14×14
    0  ConvTranspose(1, 3, stride=2, pa…    1×27×27          73         14,112   2×2
       8×14×14 → 1×27×27                   2.2 to 1          73         14,112
    <BLANKLINE>
    0: 1 and 2 windows overlap by turns along H and W, since stride=2 does not
       divide kernel_size=3. upsampling="resize" has no such checkerboard.

    Attributes:
        chain: the chain.
        input_shape: what goes in.
        steps: the steps of the chain and of nested chains, in order.
        borrowed: names of parameters that are another's, and are not counted.
    """

    chain: Chain
    input_shape: Shape
    shapes: tuple[Shape, ...]
    borrowed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, block: Block, shape: Shape, borrowed: Iterable[str] = ()) -> Plan:
        """The plan of a chain, or of a single block.

        Args:
            block: the block.
            shape: what goes in.
            borrowed: parameters that are another's, such as `"0.weight"`, and are not counted here.

        Raises:
            ShapeError: where a block refuses the shape that reaches it.
        """
        chain = block if isinstance(block, Chain) else Chain(block)
        shapes = chain.shapes(shape)
        return cls(chain, shapes[0], tuple(shapes), frozenset(borrowed))

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(_steps(self))

    @property
    def output_shape(self) -> Shape:
        """What comes out at the end."""
        return self.shapes[-1]

    @property
    def parameters(self) -> int:
        """Numbers that are learned, of all steps."""
        return sum(step.parameters for step in self.steps)

    @property
    def multiply_adds(self) -> int:
        """Multiplications with a weight for one example, of all steps."""
        return sum(step.multiply_adds for step in self.steps)

    @property
    def compression(self) -> Fraction:
        """Numbers in for each number out.

        >>> from obverse import Chain, Conv
        >>> Chain(Conv(12, 28)).plan((1, 28, 28)).compression
        Fraction(196, 3)
        """
        return Fraction(prod(self.input_shape), prod(self.output_shape))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the blocks have to say, each with its place, and what PyTorch cannot export of them."""
        limits = self.chain.limits(self.input_shape)
        return (*self.chain.notes(self.input_shape), *[limit.reason for limit in limits])

    def __str__(self) -> str:
        notes = [fill(note, WIDTH, subsequent_indent=" " * (note.index(":") + 2)) for note in self.notes]
        return "\n".join([*_table(self), *([""] if notes else []), *notes])


def _steps(plan: Plan) -> Iterator[Step]:
    sight: Sight = (Window(),) * (len(plan.input_shape) - 1)
    whole = tuple([Window(size, 0, halved(size - 1)) for size in plan.input_shape[1:]])
    for (place, block), before, after in zip(plan.chain.links, plan.shapes, plan.shapes[1:], strict=False):
        sight = composed(sight, block.windows(before))
        seen = whole if sight is None else sight
        field, jump, start = zip(*seen, strict=True) if seen else ((), (), ())
        learned = block.parameter_shapes(before).items()
        own = sum(prod(size) for name, size in learned if f"{place}.{name}" not in plan.borrowed)
        costs = (own if plan.borrowed else block.parameters(before), block.multiply_adds(before))
        yield Step(place, block, before, after, *costs, field, jump, start)


WIDTH = 80
"""Columns of a terminal that everybody has."""


def _table(plan: Plan) -> Iterator[str]:
    places = [step.place for step in plan.steps]
    at = max(map(len, places))
    rows = [("", "", shape_text(plan.input_shape), "", "", "")]
    rows += [
        (
            step.place,
            repr(step.block),
            shape_text(step.output_shape),
            f"{step.parameters:,}",
            f"{step.multiply_adds:,}",
            shape_text(step.receptive_field) if step.receptive_field else "",
        )
        for step in plan.steps
    ]
    path = f"{shape_text(plan.input_shape)} → {shape_text(plan.output_shape)}"
    ratio = _ratio(plan.compression)
    rows += [("", path, ratio, f"{plan.parameters:,}", f"{plan.multiply_adds:,}", "")]
    head = ("", "block", "shape out", "parameters", "multiply-adds", "sees")
    others = [max(len(row[column]) for row in [head, *rows]) for column in (2, 3, 4, 5)]
    room = max(WIDTH - at - sum(others) - 2 * 5, 12)
    room = min(room, max(len(row[1]) for row in [head, *rows]))
    for row in [head, *rows]:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[2:], others, strict=True))
        yield "  ".join([f"{row[0]:<{at}}", f"{_shortened(row[1], room):<{room}}", *cells]).rstrip()


def _ratio(compression: Fraction) -> str:
    return f"{float(compression):.1f} to 1" if compression >= 1 else f"1 to {float(1 / compression):.1f}"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
