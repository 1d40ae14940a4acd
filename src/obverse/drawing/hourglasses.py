"""An encoder and its mirror, drawn as an hourglass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from obverse.block import shape_text
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ObverseError

__all__ = ["hourglass"]

LETTER = 0.602 * 9 / 72  # inches that a letter of the labels is wide: DejaVu Sans Mono, 9 points
LONGEST = 76  # letters of a label; what is longer ends in …
GLASS = 4.2  # inches that the widest size is wide
GAP = 0.3  # inches between the columns


class Step(Protocol):
    """What is drawn of a plan's step."""

    @property
    def block(self) -> Any:
        """Its `repr` is the label; `pointwise` says whether it belongs to the layer before."""

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


@dataclass(frozen=True)
class _Sheet:
    """Where things stand, in inches: the glass around x = 0, the first slab at y = 0, the others below."""

    axes: Axes
    colours: Colours
    pitch: float
    bend: float
    widest: int
    channels: int

    def half_width(self, shape: tuple[int, ...]) -> float:
        return max(0.03, GLASS / 2 * (_size(shape) / self.widest) ** self.bend)

    def half_thickness(self, shape: tuple[int, ...]) -> float:
        return self.pitch * (0.05 + 0.17 * math.log1p(shape[0]) / math.log1p(self.channels))

    def write(self, x: float, y: float, text: str, colour: str, **how: Any) -> None:
        how = {"va": "center", "fontsize": 9, "family": "DejaVu Sans Mono"} | how
        self.axes.text(x, y, text, color=colour, **how)


def hourglass(model: Any, decoder_plan: PlanLike | None = None, *, theme: Theme = "light") -> Figure:
    """Draw an encoder, its code and its mirror from top to bottom, every size written beside it.

    A slab is a shape: as wide as its longest spatial axis, as thick as the logarithm of its channels. Between two
    slabs stands the block that leads from one to the other, with the activations and norms that follow it.

    >>> from obverse import Autoencoder, Chain, Conv
    >>> model = Autoencoder(Chain(Conv(16, 3, stride=2, padding=1), Conv(12, 14)), (1, 28, 28))
    >>> texts = [text.get_text() for text in hourglass(model).axes[0].texts]
    >>> [text for text in texts if "×" in text]
    ['1×28×28', '16×14×14', '12×1×1', '16×14×14', '1×28×28']

    Args:
        model: anything with a `plan` and a `decoder_plan`, as an `obverse.Autoencoder`; or the encoder's plan, with the
            decoder's as the second argument.
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
    first, second = list(_rows(encoder)), list(_rows(decoder))
    rows = [_Row(encoder.input_shape), *first, *second]
    figure, sheet = _sheet(rows, colours)
    for number, row in enumerate(rows):
        colour = colours.waist if number == len(first) else colours.first if number < len(first) else colours.second
        if number:
            _draw_layer(sheet, number, rows[number - 1], row, colours.first if number <= len(first) else colours.second)
        _draw_slab(sheet, number, row, colour)
    _write_code(sheet, len(first), rows)
    return figure


def _plans(model: Any, decoder_plan: PlanLike | None) -> tuple[PlanLike, PlanLike]:
    encoder, decoder = model, decoder_plan
    if decoder_plan is None:
        encoder, decoder = getattr(model, "plan", None), getattr(model, "decoder_plan", None)
    if not (hasattr(encoder, "steps") and hasattr(decoder, "steps")):
        raise ObverseError(
            f"an hourglass needs two plans; {type(model).__name__} gives none.",
            "Give an Autoencoder, or two plans: hourglass(encoder.plan(shape), model.decoder_plan).",
        )
    return encoder, decoder  # type: ignore[return-value]    # the two lines above


def _rows(plan: PlanLike) -> Iterator[_Row]:
    """Put every pointwise block to the layer before it; in front of the first layer it is a row of its own."""
    row: _Row | None = None
    for step in plan.steps:
        name = repr(step.block).removesuffix("()")
        if row is not None and getattr(step.block, "pointwise", False):
            row = replace(row, followers=f"{row.followers} · {name}", parameters=row.parameters + step.parameters)
            continue
        if row is not None:
            yield row
        row = _Row(tuple(step.output_shape), name, "", step.parameters)
    if row is not None:
        yield row


def _sheet(rows: Sequence[_Row], colours: Colours) -> tuple[Figure, _Sheet]:
    """Make the page: sizes, the glass, blocks and parameters from left to right."""
    sizes = [_size(row.shape) for row in rows]
    pitch = 0.62 if len(rows) <= 16 else max(0.3, 0.62 * 16 / len(rows))
    left = GLASS / 2 + GAP + LETTER * max(len(shape_text(row.shape)) for row in rows) + GAP
    labels = LETTER * max(8, *(min(LONGEST, len(row.layer + row.followers)) for row in rows))
    right = GLASS / 2 + GAP + labels + GAP + LETTER * 10 + GAP
    below, above = (len(rows) - 1) * pitch + 0.45, 0.85
    figure = Figure(figsize=(left + right, above + below), facecolor=colours.paper)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-left, right), ylim=(-below, above))
    bent = max(sizes) > 64 * min(sizes)
    sheet = _Sheet(axes, colours, pitch, 0.5 if bent else 1.0, max(sizes), max(row.shape[0] for row in rows))
    heading = {"fontsize": 8, "family": "DejaVu Sans"}
    sheet.write(-GLASS / 2 - GAP, above - 0.3, "shape", colours.quiet, ha="right", **heading)
    sheet.write(GLASS / 2 + GAP, above - 0.3, "block", colours.quiet, **heading)
    sheet.write(right - GAP, above - 0.3, "parameters", colours.quiet, ha="right", **heading)
    if bent:
        sheet.write(0, above - 0.3, "widths are square roots", colours.quiet, ha="center", **heading)
    return figure, sheet


def _draw_slab(sheet: _Sheet, number: int, row: _Row, colour: str) -> None:
    y, half, thick = -number * sheet.pitch, sheet.half_width(row.shape), sheet.half_thickness(row.shape)
    sheet.axes.add_patch(Rectangle((-half, y - thick), 2 * half, 2 * thick, facecolor=colour, edgecolor="none"))
    sheet.axes.plot((-GLASS / 2 - GAP * 0.7, -half - 0.06), (y, y), color=sheet.colours.line, linewidth=0.8)
    sheet.write(-GLASS / 2 - GAP, y, shape_text(row.shape), colour, ha="right", fontweight="bold")


def _draw_layer(sheet: _Sheet, number: int, before: _Row, row: _Row, colour: str) -> None:
    top = (1 - number) * sheet.pitch - sheet.half_thickness(before.shape)
    bottom = -number * sheet.pitch + sheet.half_thickness(row.shape)
    wide, narrow = sheet.half_width(before.shape), sheet.half_width(row.shape)
    corners = [(-wide, top), (wide, top), (narrow, bottom), (-narrow, bottom)]
    sheet.axes.add_patch(Polygon(corners, facecolor=colour, alpha=0.22, edgecolor="none"))
    y, x = (top + bottom) / 2, GLASS / 2 + GAP
    sheet.axes.plot(((wide + narrow) / 2 + 0.06, x - GAP * 0.3), (y, y), color=sheet.colours.line, linewidth=0.8)
    label = _shortened(row.layer + row.followers)
    sheet.write(x, y, label[: len(row.layer)], sheet.colours.ink)
    sheet.write(x + LETTER * len(row.layer), y, label[len(row.layer) :], sheet.colours.quiet)
    if row.parameters:
        sheet.write(sheet.axes.get_xlim()[1] - GAP, y, f"{row.parameters:,}", sheet.colours.quiet, ha="right")


def _write_code(sheet: _Sheet, number: int, rows: Sequence[_Row]) -> None:
    given, kept = math.prod(rows[0].shape), math.prod(rows[number].shape)
    text = f"code: {kept:,} numbers for {given:,}, {given / kept:.3g} to 1"
    sheet.write(GLASS / 2 + GAP, -number * sheet.pitch, text, sheet.colours.waist, fontweight="bold")


def _size(shape: tuple[int, ...]) -> int:
    return max(shape[1:], default=1)


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"
