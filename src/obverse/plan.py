"""A chain held against one input shape, step by step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from math import prod
from textwrap import fill, wrap
from typing import Any, Literal, NamedTuple

from obverse.arithmetic import whole
from obverse.block import Block, brief
from obverse.chain import Chain
from obverse.shapes import Shape, shape_text
from obverse.sight import ITSELF, Seen, composed, halved, through_all
from obverse.symbols import formula_text, is_symbolic, plain

__all__ = ["Line", "Plan", "Step", "lines"]

Number = int | Fraction

Depth = int | Literal["all"] | None
"""How much of a graph's names tells its rows apart; see `Plan.table`."""


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

    def rows(self, depth: Depth = 0) -> list[dict[str, Any]]:
        """A row for each step, of plain values: for tables of your own.

        Args:
            depth: how far graphs are opened; by default not at all. See `table`.
        """
        return [_row(line) for line in lines(self, depth) if not line.is_heading]

    def json(self, depth: Depth = 0) -> str:
        """The plan as JSON: shapes and totals, and a row for each step; fractions and formulas as text.

        >>> import json
        >>> from obverse import Chain, Conv
        >>> json.loads(Chain(Conv(12, 7)).plan((1, 28, 28)).json())["steps"][0]["output_shape"]
        [12, 22, 22]

        Args:
            depth: how far graphs are opened; by default not at all. See `table`.
        """
        totals = {
            "input_shape": _plain(self.input_shape),
            "output_shape": _plain(self.output_shape),
            "parameters": _plain(self.parameters),
            "multiply_adds": _plain(self.multiply_adds),
            "activations": _plain(self.activations),
            "compression": _plain(self.compression),
            "steps": self.rows(depth),
            "notes": list(self.notes),
        }
        return json.dumps(totals, indent=2, ensure_ascii=False)

    def markdown(self, depth: Depth = None) -> str:
        """The plan as a table in Markdown.

        >>> from obverse import Chain, Conv
        >>> print(Chain(Conv(12, 7)).plan((1, 28, 28)).markdown())
        | | block | shape out | parameters | multiply-adds | sees |
        |---|---|--:|--:|--:|--:|
        | | | 1×28×28 | | | |
        | 0 | `Conv(12, 7)` | 12×22×22 | 600 | 284,592 | 7×7 |
        | | 1×28×28 → 12×22×22 | 1 to 7.4 | 600 | 284,592 | |

        Args:
            depth: how far graphs are opened. See `table`.
        """
        head, *rows = self.cells(depth)
        body = [[row[0], f"`{row[1]}`" if row[1].endswith(")") else row[1], *row[2:]] for row in rows]
        lines = [f"| {' | '.join(row)} |".replace("  ", " ").replace("  ", " ") for row in [list(head), *body]]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join(
            [lines[0], "|---|---" + "|--:" * (len(head) - 2) + "|", *lines[1:], *([""] if notes else []), *notes]
        )

    def _repr_html_(self) -> str:
        """The plan as a picture and a table, for notebooks."""
        from obverse.sketches import page  # which stands on plans

        return page(self)

    def table(self, depth: Depth = None, *, width: int = 80) -> str:
        """The plan as text, which is what `print` shows.

        A block that stands on a graph which nobody can read off it (a lifted module, the mirror of one) is a heading,
        and what is in it stands below: a row for all steps whose names begin alike, with what they cost together.

        >>> from obverse import Chain, Conv, ReLU
        >>> from obverse.graph import Graph, Node
        >>> stage = [("conv", Conv(8, 3, padding=1)), ("act", ReLU())]
        >>> names = [(f"{at}.{name}", block) for at in ("low", "high") for name, block in stage]
        >>> graph = Graph(*[Node(name, block, (at,), (at + 1,)) for at, (name, block) in enumerate(names)])
        >>> print(Chain(graph).plan((3, 28, 28)).table(depth=1))
           block              shape out  parameters  multiply-adds  sees
                                3×28×28
        0  Graph of 4 nodes
          low   2 steps         8×28×28         224        169,344   3×3
          high  2 steps         8×28×28         584        451,584   5×5
           3×28×28 → 8×28×28   1 to 2.7         808        620,928

        Args:
            depth: how many parts of a name tell steps apart: with 1, `layer2.0.conv1` stands under `layer2`. `"all"`
                gives every step a row, 0 only those of the chain. `None` goes as deep as leaves each graph 24 rows, a
                screenful.
            width: the columns that it has.

        Raises:
            ShapeError: for another depth.
        """
        lettered = any(map(is_symbolic, self.input_shape))
        return "\n".join((_formulas if lettered else _table)(self.cells(depth), width))

    def cells(self, depth: Depth = None) -> list[tuple[str, ...]]:
        """The table as text: its head, what goes in, a row for each step, and the sum.

        Args:
            depth: how far graphs are opened. See `table`.
        """
        rows = [_cells(line) for line in lines(self, depth)]
        path = f"{shape_text(self.input_shape)} → {shape_text(self.output_shape)}"
        total = ("", path, _ratio(self.compression), _count(self.parameters), _count(self.multiply_adds), "")
        head = ("", "block", "shape out", "parameters", "multiply-adds", "sees")
        return [head, ("", "", shape_text(self.input_shape), "", "", ""), *rows, total]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the blocks have to say, each with its place, and what PyTorch cannot export of them."""
        limits = self.chain.limits(self.input_shape)
        return _said_once([*self.chain.notes(self.input_shape), *[limit.reason for limit in limits]])

    @cached_property
    def _insides(self) -> tuple[tuple[_Part, ...], ...]:
        """For each step what is in it, if it is to be opened."""
        before = [(ITSELF.seen,) * (len(self.input_shape) - 1), *[step.sight for step in self.steps]]
        return tuple(
            [tuple(_inside(step, seen, self.borrowed)) for step, seen in zip(self.steps, before, strict=False)]
        )

    def __str__(self) -> str:
        notes = [fill(note, WIDTH, subsequent_indent=" " * min(note.index(":") + 2, 6)) for note in self.notes]
        return "\n".join([self.table(), *([""] if notes else []), *notes])


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


# What is in a graph --------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """What is in a graph: a step of it, or parameters that none of its steps has."""

    name: str
    step: Step | None
    parameters: int
    text: str = ""


def _inside(link: Step, seen: tuple[Seen, ...] | None, borrowed: frozenset[str]) -> Iterator[_Part]:
    """The parts of a link's graph; none of one that is not to be opened.

    Args:
        link: the step of the plan.
        seen: what the cells that go into it see.
        borrowed: names of parameters that are another's.
    """
    block: Any = link.block
    shape = link.input_shape
    if not block.opens:
        return
    from obverse.graph import Copy, Split  # there by now, and a chain's plan needs none

    graph = block.graph(shape)
    wires, sights = graph.wires(shape), _sights(graph, shape)
    lettered = any(map(is_symbolic, shape))
    shown = [node for node in graph.nodes if not isinstance(node.block, Copy | Split)]  # which hand on what they get
    owned, beside = _owned({node.name for node in shown}, link, borrowed)
    parts: list[_Part] = []
    for name, inner, takes, gives in shown:
        before, after = wires[takes[0]], wires[gives[0]]
        cost = inner.multiply_adds(before) if isinstance(inner, Block) else 0
        own = owned.pop(name, 0)  # a module that is used again is counted where it is used first
        sight = composed(seen, sights[gives[0]], after[1:]) if sights else None
        if lettered:
            before, after, cost = tuple(map(plain, before)), tuple(map(plain, after)), plain(cost)
        either: Any = inner
        step = Step(f"{link.place}.{name}", either, before, after, own, cost, sight, link.seen_from)
        parts.append(_Part(name, step, own))
    for name, (text, number) in beside.items():
        parts.insert(_end_of(name, parts), _Part(name, None, number, text))
    yield from parts


def _sights(graph: Any, shape: Shape) -> Any:
    try:
        return graph.sights(shape)
    except TypeError:  # windows that depend on a size of which only the letter is known
        return None


def _owned(names: set[str], link: Step, borrowed: frozenset[str]) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
    """How many numbers each node learns; and those that none does, with a word about them.

    These are parameters that a module keeps for itself (a class token), and modules that are not run (a classifier
    behind the code).
    """
    within = {part for name in names for part in _paths(name)}
    owned: dict[str, int] = {}
    beside: dict[str, tuple[str, int]] = {}
    for name, size in link.block.parameter_shapes(link.input_shape).items():
        if f"{link.place}.{name}" in borrowed:
            continue
        paths = list(_paths(name))
        owner = next((path for path in reversed(paths) if path in names), None)
        if owner is not None:
            owned[owner] = owned.get(owner, 0) + prod(size)
        else:
            path = next((path for path in paths if path not in within), name)
            text = "a parameter" if path == name else "not run"
            beside[path] = (text, beside.get(path, ("", 0))[1] + prod(size))
    return owned, beside


def _paths(name: str) -> Iterator[str]:
    """`a.b.c`: `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _end_of(name: str, parts: list[_Part]) -> int:
    """Where a part goes that has no place in the order: behind those in the smallest module around it."""
    for path in reversed(list(_paths(name))[:-1]):
        found = [at for at, part in enumerate(parts) if part.name.startswith(f"{path}.")]
        if found:
            return found[-1] + 1
    return len(parts)


# Rows of the table ---------------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """A row of a plan's table.

    Attributes:
        place: where it stands.
        text: the block, or how many steps they are.
        steps: what it sums up; nothing for a heading, and for parameters that no step has.
        parameters: how many; `None` for a heading, whose numbers stand below it.
    """

    place: str
    text: str
    steps: tuple[Step, ...]
    parameters: int | None

    @property
    def is_heading(self) -> bool:
        """Whether what it names is in the rows below."""
        return self.parameters is None

    @property
    def pointwise(self) -> bool:
        """Whether it is a single block that keeps every shape."""
        return len(self.steps) == 1 and getattr(self.steps[0].block, "pointwise", False)


MOST_ROWS = 24
"""Rows for a graph, if nobody says otherwise: a screenful."""


def lines(plan: Plan, depth: Depth = None) -> list[Line]:
    """The rows of a plan's table, without its head and the sum.

    >>> from obverse import Conv
    >>> [line.text for line in lines(Chain(Conv(16, 3)).plan((1, 28, 28)))]
    ['Conv(16, 3)']

    Args:
        plan: the plan.
        depth: how far graphs are opened. See `Plan.table`.

    Raises:
        ShapeError: for what is no depth.
    """
    if depth is not None and depth != "all":
        whole("depth", depth, 0)
    found: list[Line] = []
    for step, parts in zip(plan.steps, plan._insides if depth != 0 else [()] * len(plan.steps), strict=True):
        if parts:
            found += [Line(step.place, brief(step.block), (), None), *_opened(step.place, parts, depth)]
        else:
            found.append(Line(step.place, brief(step.block), (step,), step.parameters))
    return found


def _opened(place: str, parts: tuple[_Part, ...], depth: Depth) -> list[Line]:
    deepest = max([part.name.count(".") for part in parts]) + 1
    if depth is not None:
        return _grouped(place, parts, deepest + 1 if depth == "all" else depth)
    groups = _grouped(place, parts, 1)
    for further in range(2, deepest + 1):
        finer = _grouped(place, parts, further)
        if len(finer) > MOST_ROWS:
            break
        groups = finer
    return groups


def _grouped(place: str, parts: tuple[_Part, ...], depth: int) -> list[Line]:
    """A row for each run of parts whose names begin alike."""
    runs = groupby(parts, key=lambda part: tuple(part.name.split(".")[:depth]))
    return [_line(place, ".".join(path), list(run)) for path, run in runs]


def _line(place: str, path: str, parts: list[_Part]) -> Line:
    steps = tuple([part.step for part in parts if part.step is not None])
    name, text = path, f"{len(steps)} step{'s' * (len(steps) != 1)}"
    if len(parts) == 1:
        name, text = parts[0].name, parts[0].text or brief(steps[0].block)
    return Line(f"{place}.{name}", text, steps, sum([part.parameters for part in parts]))


def _row(line: Line) -> dict[str, Any]:
    """A line as plain values."""
    steps = line.steps
    is_block = len(steps) == 1 and line.text == brief(steps[0].block)
    first, last = (steps[0], steps[-1]) if steps else (None, None)
    return {
        "place": line.place,
        "block": repr(steps[0].block) if is_block else line.text,
        "input_shape": first and _plain(first.input_shape),
        "output_shape": last and _plain(last.output_shape),
        "parameters": _plain(line.parameters),
        "multiply_adds": _plain(sum([step.multiply_adds for step in steps])),
        "activations": _plain(sum([step.activations for step in steps])),
        "receptive_field": last and _plain(last.receptive_field),
        "jump": last and _plain(last.jump),
        "start": last and _plain(last.start),
    }


def _cells(line: Line) -> tuple[str, ...]:
    """A line as text."""
    if line.is_heading:
        return (line.place, line.text, "", "", "", "")
    if not line.steps:
        return (line.place, line.text, "", _count(line.parameters), "", "")
    last = line.steps[-1]
    return (
        line.place,
        line.text,
        shape_text(last.output_shape),
        _count(line.parameters),
        _count(sum([step.multiply_adds for step in line.steps])),
        shape_text(last.receptive_field) if last.receptive_field else "",
    )


# As text -------------------------------------------------------------------------------------------------------------

WIDTH = 80
"""Columns of a terminal that everybody has."""

LEAST = 13
"""Columns for a block, however long the names of places are."""


def _table(rows: list[tuple[str, ...]], width: int) -> Iterator[str]:
    others = [max(len(row[column]) for row in rows) for column in (2, 3, 4, 5)]
    free = max(width - sum(others) - 2 * len(others), LEAST)
    places = _places(rows, max(free - LEAST - 2, LEAST))
    begun = [f"{place}  {row[1]}" for place, row in zip(places, rows, strict=True)]
    room = min(free, max([len(text) for text, row in zip(begun, rows, strict=True) if any(row[2:])]))
    for text, row in zip(begun, rows, strict=True):
        if any(row[2:]):
            numbers = (f"{cell:>{wide}}" for cell, wide in zip(row[2:], others, strict=True))
            yield "  ".join([f"{_shortened(text, room):<{room}}", *numbers]).rstrip()
        else:
            yield _shortened(text, width)


def _formulas(rows: list[tuple[str, ...]], width: int) -> Iterator[str]:
    """Blocks with the shapes that come out, as formulas: beside them where there is room, else below."""
    places = _places(rows, width // 2)
    texts = [f"{place}  {_shortened(row[1], width // 2)}" for place, row in zip(places, rows[:-1], strict=False)]
    room = max([len(text) for text, row in zip(texts, rows, strict=False) if row[2]])
    for place, text, (_, block, shape, *_) in zip(places, texts, rows, strict=False):
        line = f"{text:<{room}}  {shape}"
        if len(line) <= width:
            yield line.rstrip()
        else:
            at = len(place)
            yield f"{place}  {_shortened(block, width - at - 2)}"
            yield from wrap(shape, width, initial_indent=" " * (at + 4), subsequent_indent=" " * (at + 6))


def _places(rows: list[tuple[str, ...]], most: int) -> list[str]:
    """The first column: places, and below a heading the names inside, moved in; each as wide as those beside it."""
    heading, found = "\0", []
    for place, _, *cells in rows:
        if place and not any(cells):
            heading = f"{place}."
        inside = place.startswith(heading)
        name = f"  {place.removeprefix(heading)}" if inside else place
        found.append((heading if inside else "", _shortened_in_front(name, most)))
    wide: dict[str, int] = {}
    for section, name in found:
        wide[section] = max(wide.get(section, 0), len(name))
    return [f"{name:<{wide[section]}}" for section, name in found]


def _said_once(notes: list[str]) -> tuple[str, ...]:
    """Notes that say the same are one, with all their places in front."""
    places: dict[str, list[str]] = {}
    for note in notes:
        found = re.fullmatch(r"((?:[\w.]+: )*)(.*)", note, re.DOTALL)
        assert found is not None  # it takes everything
        places.setdefault(found[2], []).append(found[1].removesuffix(": ").replace(": ", "."))
    return tuple([f"{', '.join(where)}: {text}" for text, where in places.items()])


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


def _shortened_in_front(place: str, room: int) -> str:
    return place if len(place) <= room else f"  …{place[len(place) - room + 3 :]}"
