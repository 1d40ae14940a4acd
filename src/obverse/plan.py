"""A chain held against one input shape, step by step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from textwrap import fill, wrap
from typing import Any, NamedTuple

from obverse.block import Block
from obverse.chain import Chain
from obverse.shapes import Shape, shape_text
from obverse.sight import Seen, halved, through_all
from obverse.symbols import formula_text, is_symbolic, plain

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
        sight: for each axis of the plan's input, the first and the last of its cells that each cell sees, those of the
            padding counted; `None` where every cell sees everything.
    """

    place: str
    block: Block
    input_shape: Shape
    output_shape: Shape
    parameters: int
    multiply_adds: int
    sight: tuple[Seen, ...] | None
    seen_from: Shape

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """How many cells lie from the first to the last that one cell sees, at most, along every axis."""
        return self.seen_from[1:] if self.sight is None else tuple([seen.size for seen in self.sight])

    @property
    def jump(self) -> tuple[Number, ...]:
        """How far what two neighbours see lies apart; a fraction where a decoder has grown past the input.

        0 where every cell sees everything.
        """
        return (0,) * (len(self.seen_from) - 1) if self.sight is None else tuple([seen.stride for seen in self.sight])

    @property
    def start(self) -> tuple[Number, ...]:
        """Where the middle of the first cell's sight lies, the first cell of the input being 0."""
        if self.sight is None:
            return tuple([halved(size - 1) for size in self.seen_from[1:]])
        return tuple([seen.start for seen in self.sight])

    @property
    def activations(self) -> int:
        """Numbers that come out for one example; a float32 has 4 bytes, a float16 2."""
        return prod(self.output_shape)


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

    A size may be a letter, and the plan is then made of formulas (`pip install "obverse[symbols]"`):

    >>> print(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)).plan((1, "H", "W")))
       block                             shape out
                                         1 × H × W
    0  Conv(16, 3, stride=2, padding=1)  16 × (H + 1)//2 × (W + 1)//2
    1  ReLU()                            16 × (H + 1)//2 × (W + 1)//2
    2  Conv(12, 7)                       12 × (H - 11)//2 × (W - 11)//2

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
    def compression(self) -> Any:
        """Numbers in for each number out.

        >>> from obverse import Chain, Conv
        >>> Chain(Conv(12, 28)).plan((1, 28, 28)).compression
        Fraction(196, 3)
        """
        inside, outside = prod(self.input_shape), prod(self.output_shape)
        return inside / outside if is_symbolic(inside) or is_symbolic(outside) else Fraction(inside, outside)

    @property
    def activations(self) -> int:
        """Numbers that come out of all steps for one example: what training keeps, four bytes each in float32.

        >>> from obverse import Chain, Conv, ReLU
        >>> plan = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)).plan((1, 28, 28))
        >>> plan.activations, 4 * plan.activations, 4 * plan.steps[-1].activations    # bytes; of the code
        (7040, 28160, 3072)
        """
        return sum(step.activations for step in self.steps)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each step, of plain values: for tables of your own."""
        return [
            {
                "place": step.place,
                "block": repr(step.block),
                "input_shape": _plain(step.input_shape),
                "output_shape": _plain(step.output_shape),
                "parameters": _plain(step.parameters),
                "multiply_adds": _plain(step.multiply_adds),
                "activations": _plain(step.activations),
                "receptive_field": _plain(step.receptive_field),
                "jump": _plain(step.jump),
                "start": _plain(step.start),
            }
            for step in self.steps
        ]

    def json(self) -> str:
        """The plan as JSON: shapes and totals, and a row for each step; fractions and formulas as text.

        >>> import json
        >>> from obverse import Chain, Conv
        >>> json.loads(Chain(Conv(12, 7)).plan((1, 28, 28)).json())["steps"][0]["output_shape"]
        [12, 22, 22]
        """
        totals = {
            "input_shape": _plain(self.input_shape),
            "output_shape": _plain(self.output_shape),
            "parameters": _plain(self.parameters),
            "multiply_adds": _plain(self.multiply_adds),
            "activations": _plain(self.activations),
            "compression": _plain(self.compression),
            "steps": self.rows(),
            "notes": list(self.notes),
        }
        return json.dumps(totals, indent=2, ensure_ascii=False)

    def markdown(self) -> str:
        """The plan as a table in Markdown.

        >>> from obverse import Chain, Conv
        >>> print(Chain(Conv(12, 7)).plan((1, 28, 28)).markdown())
        | | block | shape out | parameters | multiply-adds | sees |
        |---|---|--:|--:|--:|--:|
        | | | 1×28×28 | | | |
        | 0 | `Conv(12, 7)` | 12×22×22 | 600 | 284,592 | 7×7 |
        | | 1×28×28 → 12×22×22 | 1 to 7.4 | 600 | 284,592 | |
        """
        head, *rows = self.cells()
        body = [[f"`{cell}`" if at == 1 and row[0] else cell for at, cell in enumerate(row)] for row in rows]
        lines = [f"| {' | '.join(row)} |".replace("  ", " ").replace("  ", " ") for row in [list(head), *body]]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join(
            [lines[0], "|---|---" + "|--:" * (len(head) - 2) + "|", *lines[1:], *([""] if notes else []), *notes]
        )

    def _repr_html_(self) -> str:
        """The plan as a picture and a table, for notebooks."""
        from obverse.sketches import page  # which stands on plans

        return page(self)

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text: its head, what goes in, a row for each step, and the sum."""
        rows = [
            (
                step.place,
                repr(step.block),
                shape_text(step.output_shape),
                _count(step.parameters),
                _count(step.multiply_adds),
                shape_text(step.receptive_field) if step.receptive_field else "",
            )
            for step in self.steps
        ]
        path = f"{shape_text(self.input_shape)} → {shape_text(self.output_shape)}"
        total = ("", path, _ratio(self.compression), _count(self.parameters), _count(self.multiply_adds), "")
        head = ("", "block", "shape out", "parameters", "multiply-adds", "sees")
        return [head, ("", "", shape_text(self.input_shape), "", "", ""), *rows, total]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the blocks have to say, each with its place, and what PyTorch cannot export of them."""
        limits = self.chain.limits(self.input_shape)
        return (*self.chain.notes(self.input_shape), *[limit.reason for limit in limits])

    def __str__(self) -> str:
        notes = [fill(note, WIDTH, subsequent_indent=" " * (note.index(":") + 2)) for note in self.notes]
        return "\n".join([*_table(self), *([""] if notes else []), *notes])


def _steps(plan: Plan) -> Iterator[Step]:
    shapes = plan.shapes
    links = list(zip(plan.chain.links, shapes, shapes[1:], strict=False))
    try:
        sights = list(through_all([(block, before, after) for (_, block), before, after in links], len(shapes[0]) - 1))
    except TypeError:  # windows that depend on a size of which only the letter is known
        sights = [None] * len(links)
    lettered = any(map(is_symbolic, shapes[0]))
    for ((place, block), before, after), sight in zip(links, sights, strict=True):
        if plan.borrowed:
            learned = block.parameter_shapes(before).items()
            own = sum([prod(size) for name, size in learned if f"{place}.{name}" not in plan.borrowed])
        else:
            own = block.parameters(before)
        cost = block.multiply_adds(before)
        if lettered:
            own, cost = plain(own), plain(cost)
        yield Step(place, block, before, after, own, cost, sight, shapes[0])


WIDTH = 80
"""Columns of a terminal that everybody has."""


def _table(plan: Plan) -> Iterator[str]:
    rows = plan.cells()
    if any(map(is_symbolic, plan.input_shape)):
        yield from _formulas(rows)
        return
    at, *others = [max(len(row[column]) for row in rows) for column in (0, 2, 3, 4, 5)]
    room = max(WIDTH - at - sum(others) - 2 * 5, 12)
    room = min(room, max(len(row[1]) for row in rows))
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[2:], others, strict=True))
        yield "  ".join([f"{row[0]:<{at}}", f"{_shortened(row[1], room):<{room}}", *cells]).rstrip()


def _formulas(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Blocks with the shapes that come out, as formulas: beside them where there is room, else below."""
    at = max(len(row[0]) for row in rows)
    room = min(max(len(row[1]) for row in rows[:-1]), WIDTH // 2)
    for place, block, shape, *_ in rows[:-1]:
        line = f"{place:<{at}}  {_shortened(block, room):<{room}}  {shape}"
        if len(line) <= WIDTH:
            yield line.rstrip()
        else:
            yield f"{place:<{at}}  {_shortened(block, WIDTH - at - 2)}"
            yield from wrap(shape, WIDTH, initial_indent=" " * (at + 4), subsequent_indent=" " * (at + 6))


def _count(number: Any) -> str:
    return formula_text(number) if is_symbolic(number) else f"{number:,}"


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value if isinstance(value, int) else formula_text(value)


def _ratio(compression: Any) -> str:
    if is_symbolic(compression):
        return ""
    return f"{float(compression):.1f} to 1" if compression >= 1 else f"1 to {float(1 / compression):.1f}"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
