"""An encoder and its mirror, drawn as an hourglass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from obverse.block import brief
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ObverseError
from obverse.shapes import shape_text

__all__ = ["hourglass"]

LETTER = 0.08  # inches that a letter of the labels is wide, at most: DejaVu Sans Mono, 9 points
LONGEST = 90  # letters of a label; what is longer ends in …
GLASS = 4.2  # inches that the widest size is wide
LANE = 0.34  # inches from one way round the code to the next
GAP = 0.3  # inches between the columns
PITCH = 0.62  # inches from one slab to the next, where there are few; always those beside the code, which has a label
FONT: dict[str, Any] = {"fontsize": 9, "family": "DejaVu Sans Mono"}


class Step(Protocol):
    """What is drawn of a plan's step."""

    @property
    def block(self) -> Any:
        """Its `repr` is the label; `pointwise` says whether it belongs to the layer before."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What goes in."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The next slab."""

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""


class PlanLike(Protocol):
    """What is drawn of a plan."""

    @property
    def steps(self) -> Sequence[Step]:
        """In the order of the data."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The first slab."""


@dataclass(frozen=True)
class _Row:
    """A slab, and what led to it: a layer with the activations and norms that follow it."""

    shape: tuple[int, ...]
    layer: str = ""
    followers: str = ""
    parameters: int = 0
    sees: str = ""
    around: str = ""
    numbers_around: int = 0


class _Sizes:
    """From shapes to parts of the widest and the thickest. Vectors alone are as wide as they are long."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.vectors = all(len(shape) == 1 for shape in shapes)
        spans = [self.span(shape) for shape in shapes]
        self.widest = max(spans)
        self.bent = self.widest > 64 * min(spans)
        self.most_channels = max(self.channels(shape) for shape in shapes)

    def span(self, shape: tuple[int, ...]) -> int:
        return shape[0] if self.vectors else max(shape[1:], default=1)

    def channels(self, shape: tuple[int, ...]) -> int:
        return 1 if self.vectors else shape[0]

    def width(self, shape: tuple[int, ...]) -> float:
        return math.pow(self.span(shape) / self.widest, 0.5 if self.bent else 1)

    def thickness(self, shape: tuple[int, ...]) -> float:
        return math.log1p(self.channels(shape)) / math.log1p(self.most_channels)


@dataclass(frozen=True)
class _Sheet:
    """Where things stand, in inches: the glass around x = 0, the first slab at y = 0, the others below."""

    axes: Axes
    colours: Colours
    heights: Sequence[float]
    sizes: _Sizes
    shapes_start: float
    parameters_end: float

    def half_width(self, row: _Row) -> float:
        return max(0.03, GLASS / 2 * self.sizes.width(row.shape))

    def half_thickness(self, row: _Row) -> float:
        pitch = self.heights[0] - self.heights[1]
        return pitch * (0.05 + 0.17 * self.sizes.thickness(row.shape))

    def write(self, x: float, y: float, text: str, colour: str, **how: Any) -> None:
        self.axes.text(x, y, text, color=colour, **({"va": "center"} | FONT | how))


def hourglass(model: Any, decoder_plan: PlanLike | None = None, *, theme: Theme = "light") -> Figure:
    """Draw an encoder, its code and its mirror from top to bottom, every size written beside it.

    A slab is a shape: as wide as its longest spatial axis, as thick as the logarithm of its channels (vectors alone:
    as wide as they are long). Between two slabs stands the block that leads from one to the other, with the names of
    the activations and norms that follow it, and what a cell of the encoder sees of the input. What goes round the code
    (skips, the places of the largest values) goes round on the left, with how many numbers that are.

    >>> from obverse import Autoencoder, Chain, Conv
    >>> model = Autoencoder(Chain(Conv(16, 3, stride=2, padding=1), Conv(12, 14)), (1, 28, 28))
    >>> texts = [text.get_text() for text in hourglass(model).axes[0].texts]
    >>> [text for text in texts if text.count("×") == 2]
    ['1×28×28', '16×14×14', '12×1×1', '16×14×14', '1×28×28']

    Args:
        model: an `obverse.Autoencoder`, or anything whose `encoder` and `decoder` have a `plan`; or the encoder's plan,
            with the decoder's as the second argument.
        decoder_plan: the decoder's plan, if `model` is the encoder's.
        theme: "light" or "dark".

    Returns:
        A figure that grows with the number of layers and the longest label. Where the largest size is more than 64
        times the smallest, widths are drawn as square roots, and the picture says so.

    Raises:
        ObverseError: there are no two plans, or no such theme.
    """
    colours = colours_of(theme)
    encoder, decoder = _plans(model, decoder_plan)
    first = list(_rows(encoder))
    second = [replace(row, sees="") for row in _rows(decoder)]  # cells of the code, which are not those of the input
    rows, waist = [_Row(encoder.input_shape), *first, *second], len(first)
    code = _code_text(rows[0].shape, rows[waist].shape)
    figure, sheet = _sheet(rows, waist, code, colours)
    for number, row in enumerate(rows):
        if number:
            _draw_layer(sheet, number, rows[number - 1], row, colours.first if number <= waist else colours.second)
        _draw_slab(sheet, number, row, _colour(number, waist, colours))
    sheet.write(GLASS / 2 + GAP, sheet.heights[waist], code, colours.waist, fontweight="bold")
    for lane, (start, end) in enumerate(_ways_round(rows)):
        _draw_way_round(sheet, lane, start, end, rows[start].numbers_around)
    return figure


def _plans(model: Any, decoder_plan: PlanLike | None) -> tuple[PlanLike, PlanLike]:
    encoder, decoder = model, decoder_plan
    if decoder_plan is None:
        encoder, decoder = (getattr(getattr(model, part, None), "plan", None) for part in ("encoder", "decoder"))
    if not (hasattr(encoder, "steps") and hasattr(decoder, "steps")):
        raise ObverseError(
            f"an hourglass needs two plans; {type(model).__name__} gives none.",
            "Give an Autoencoder, or two plans: hourglass(encoder.plan(shape), model.decoder.plan).",
        )
    return encoder, decoder  # type: ignore[return-value]    # the two lines above


def _rows(plan: PlanLike) -> Iterator[_Row]:
    """Put every pointwise block to the layer before it; in front of the first layer it is a row of its own."""
    row: _Row | None = None
    for step in plan.steps:
        if row is not None and getattr(step.block, "pointwise", False):
            followers = f"{row.followers} · {type(step.block).__name__}"
            row = replace(row, followers=followers, parameters=row.parameters + step.parameters)
            continue
        if row is not None:
            yield row
        sees = shape_text(getattr(step, "receptive_field", None) or ())
        around = getattr(step.block, "around", "")
        count = step.block.numbers_around(step.input_shape) if around == "gives" else 0
        label = brief(step.block).removesuffix("()")
        row = _Row(tuple(step.output_shape), label, "", step.parameters, sees.removeprefix("()"), around, count)
    if row is not None:
        yield row


def _sheet(rows: Sequence[_Row], waist: int, code: str, colours: Colours) -> tuple[Figure, _Sheet]:
    """Make the page: shapes, the glass, blocks and parameters from left to right."""
    around = list(_ways_round(rows))
    shapes = GLASS / 2 + GAP + LETTER * max(len(shape_text(row.shape)) for row in rows)
    counts = LETTER * max((len(f"{rows[start].numbers_around:,}") for start, _ in around), default=0)
    left = shapes + GAP + max(LANE * len(around), counts)
    labels = LETTER * max(len(code), *(min(LONGEST, len(row.layer + row.followers)) for row in rows))
    sees = max(5, *(len(row.sees) for row in rows))
    right = GLASS / 2 + GAP + labels + GAP + LETTER * 10 + GAP + LETTER * sees + GAP
    heights, above = _heights(len(rows), waist), 0.75
    below = 0.45 - heights[-1]
    figure = Figure(figsize=(left + right, above + below), facecolor=colours.paper)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-left, right), ylim=(-below, above))
    sheet = _Sheet(
        axes, colours, heights, _Sizes([row.shape for row in rows]), -shapes, right - 2 * GAP - LETTER * sees
    )
    _write_headings(sheet, above - 0.3, right)
    return figure, sheet


def _heights(count: int, waist: int) -> list[float]:
    """Where the slabs stand: closer together where there are many, but never beside the code."""
    close = PITCH if count <= 16 else max(0.3, PITCH * 16 / count)
    heights = [0.0]
    for number in range(1, count):
        heights.append(heights[-1] - (PITCH if number in (waist, waist + 1) else close))
    return heights


def _write_headings(sheet: _Sheet, y: float, right: float) -> None:
    quiet = sheet.colours.quiet
    how: dict[str, Any] = {"fontsize": 8, "family": "DejaVu Sans"}
    sheet.write(-GLASS / 2 - GAP, y, "shape", quiet, ha="right", **how)
    sheet.write(GLASS / 2 + GAP, y, "block", quiet, **how)
    sheet.write(sheet.parameters_end, y, "parameters", quiet, ha="right", **how)
    sheet.write(right - GAP, y, "sees", quiet, ha="right", **how)
    if sheet.sizes.bent:
        sheet.write(0, y, "widths are square roots", quiet, ha="center", **how)


def _draw_slab(sheet: _Sheet, number: int, row: _Row, colour: str) -> None:
    y, half, thick = sheet.heights[number], sheet.half_width(row), sheet.half_thickness(row)
    sheet.axes.add_patch(Rectangle((-half, y - thick), 2 * half, 2 * thick, facecolor=colour, edgecolor="none"))
    sheet.axes.plot((-GLASS / 2 - GAP * 0.7, -half - 0.06), (y, y), color=sheet.colours.line, linewidth=0.8)
    sheet.write(-GLASS / 2 - GAP, y, shape_text(row.shape), colour, ha="right", fontweight="bold")


def _draw_layer(sheet: _Sheet, number: int, before: _Row, row: _Row, colour: str) -> None:
    top = sheet.heights[number - 1] - sheet.half_thickness(before)
    bottom = sheet.heights[number] + sheet.half_thickness(row)
    wide, narrow = sheet.half_width(before), sheet.half_width(row)
    corners = [(-wide, top), (wide, top), (narrow, bottom), (-narrow, bottom)]
    sheet.axes.add_patch(Polygon(corners, facecolor=colour, alpha=0.22, edgecolor="none"))
    y, x = (top + bottom) / 2, GLASS / 2 + GAP
    sheet.axes.plot(((wide + narrow) / 2 + 0.06, x - GAP * 0.3), (y, y), color=sheet.colours.line, linewidth=0.8)
    _write_label(sheet, x, y, row)
    if row.parameters:
        sheet.write(sheet.parameters_end, y, f"{row.parameters:,}", sheet.colours.quiet, ha="right")
    if row.sees:
        sheet.write(sheet.axes.get_xlim()[1] - GAP, y, row.sees, sheet.colours.quiet, ha="right")


def _ways_round(rows: Sequence[_Row]) -> Iterator[tuple[int, int]]:
    """From which row to which something goes round the code, the innermost first: the last given is the first taken."""
    given: list[int] = []
    for number, row in enumerate(rows):
        if row.around == "gives":
            given.append(number)
        elif row.around == "takes" and given:
            yield given.pop(), number


def _draw_way_round(sheet: _Sheet, lane: int, start: int, end: int, numbers: int) -> None:
    """A bracket to the left of the shapes."""
    near = sheet.shapes_start - GAP / 3
    far = near - LANE * (lane + 1)
    high, low = sheet.heights[start], sheet.heights[end]
    how: dict[str, Any] = {"color": sheet.colours.waist, "linewidth": 1.2, "linestyle": (0, (4, 2))}
    sheet.axes.plot((near, far, far, near), (high, high, low, low), gid="round", **how)
    sheet.write(near, high + 0.04, f"{numbers:,}", sheet.colours.waist, ha="right", va="bottom", fontsize=8)


def _write_label(sheet: _Sheet, x: float, y: float, row: _Row) -> None:
    """Write a layer, and behind it, wherever that ends at the picture's resolution, its followers."""
    label = _shortened(row.layer + row.followers)
    layer, followers = label[: len(row.layer)], label[len(row.layer) :]
    text = sheet.axes.text(x, y, layer, color=sheet.colours.ink, va="center", **FONT)
    if followers:
        how: dict[str, Any] = {"xy": (1, 0), "xycoords": text, "va": "bottom", "annotation_clip": False}
        sheet.axes.annotate(followers, color=sheet.colours.quiet, **how, **FONT)


def _colour(number: int, waist: int, colours: Colours) -> str:
    if number == waist:
        return colours.waist
    return colours.first if number < waist else colours.second


def _code_text(given: tuple[int, ...], code: tuple[int, ...]) -> str:
    before, after = math.prod(given), math.prod(code)
    ratio = before / after
    return f"code: {after:,} numbers for {before:,}, {ratio:,.{0 if ratio >= 10 else 1}f} to 1"


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
