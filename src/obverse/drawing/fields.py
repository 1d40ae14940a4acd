"""What a cell sees, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from obverse.block import brief
from obverse.drawing.cells import WIDE, dots, page, segments, write
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ShapeError
from obverse.plan import Plan
from obverse.shapes import shape_text

__all__ = ["receptive_fields"]

ROW = 0.46  # inches of a step: its name, and its bar below
LETTERS = 44  # of a block's name


class _Field(NamedTuple):
    """What a step's middle cell sees, along the axis that is drawn."""

    name: str
    size: int
    low: float
    high: float
    centres: list[float]
    output_size: int


def receptive_fields(plan: Plan, *, axis: int = 0, theme: Theme = "light") -> Figure:
    """Draw how the sight of a cell grows from step to step of a plan, over the input's cells.

    A bar is what the middle cell after a step sees; where it reaches past the input it sees padding. The ticks below it
    are the middles of what all its neighbours see: their distance is the jump.

    >>> from obverse import Chain, Conv
    >>> plan = Chain(Conv(16, 3, stride=2, padding=1), Conv(12, 5)).plan((1, 28, 28))
    >>> [text.get_text() for text in receptive_fields(plan).axes[0].texts if "sees" in text.get_text()]
    ['sees 3 of 28', 'sees 11 of 28']

    Args:
        plan: a plan of an encoder, a decoder, or of both in one chain. Steps that change neither sight nor shape, such
            as activations, are left out.
        axis: which spatial axis, the first by default.
        theme: "light" or "dark".

    Raises:
        ShapeError: for an input without that axis.
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    sizes = plan.input_shape[1:]
    if not 0 <= axis < len(sizes):
        raise ShapeError(
            f"{shape_text(plan.input_shape)} has no spatial axis {axis}.",
            f"Give one below {len(sizes)}." if sizes else "Vectors have no receptive field.",
        )
    fields, size = list(_fields(plan, axis)), sizes[axis]
    low = min([-0.5, *(max(field.low, -0.35 * size) for field in fields)])
    high = max([size - 0.5, *(min(field.high, 1.35 * size) for field in fields)])
    unit = (WIDE - 0.32) / (high - low)
    row, margin = ROW / unit, 0.16 / unit
    top, bottom = -0.62 / unit, row * len(fields) + 0.1 / unit
    figure, axes = page(low - margin, high + margin, top, bottom, unit, colours)
    y = top + 0.2 / unit
    write(axes, low, y, f"input {shape_text(plan.input_shape)}", colours.first, fontweight="bold")
    _bar(axes, (-0.5, size - 0.5), y + 0.24 / unit, 0.1 / unit, colours.faint(colours.first, 0.45), "input")
    for number, field in enumerate(fields):
        _draw_field(axes, field, row * number, (low, high), size, unit, colours)
    return figure


def _fields(plan: Plan, axis: int) -> Iterator[_Field]:
    before = None
    for step in plan.steps:
        if len(step.output_shape) != len(plan.input_shape):
            size, cells, jump, start = plan.input_shape[1 + axis], 1, 0.0, (plan.input_shape[1 + axis] - 1) / 2
        else:
            size, cells = step.receptive_field[axis], step.output_shape[1 + axis]
            jump, start = float(step.jump[axis]), float(step.start[axis])
        if (size, jump, start, cells) == before or step.block.pointwise:
            continue
        before = (size, jump, start, cells)
        centres = [start + jump * cell for cell in range(cells)]
        middle = centres[(cells - 1) // 2]
        yield _Field(brief(step.block), size, middle - size / 2, middle + size / 2, centres, cells)


def _draw_field(
    axes: Axes, field: _Field, y: float, ends: tuple[float, float], size: int, unit: float, colours: Colours
) -> None:
    low, high = ends
    name = field.name if len(field.name) <= LETTERS else field.name[: LETTERS - 1] + "…"
    write(axes, low, y + 0.1 / unit, name, colours.ink, fontsize=8, family="DejaVu Sans Mono")
    sees = f"sees {field.size} of {size}"
    write(axes, high, y + 0.1 / unit, sees, colours.second, ha="right", fontsize=8.5, fontweight="bold")
    bar, thick = y + 0.25 / unit, 0.12 / unit
    _bar(axes, (max(field.low, low), min(field.high, high)), bar, thick, colours.faint(colours.second, 0.4), "padding")
    inside = (max(field.low, -0.5), min(field.high, size - 0.5))
    if inside[1] > inside[0]:
        _bar(axes, inside, bar, thick, colours.second, "sees")
    ends_of_input = [((edge, bar - 0.06 / unit), (edge, bar + 0.16 / unit)) for edge in (-0.5, size - 0.5)]
    segments(axes, ends_of_input, "edges", colours.line, linewidth=0.8, zorder=0)
    centres = [x for x in field.centres if low <= x <= high]
    if len(centres) <= 120:
        dots(axes, [(x, bar + 0.13 / unit) for x in centres], "centres", 0.028 / unit, facecolor=colours.quiet)


def _bar(axes: Axes, ends: tuple[float, float], y: float, thick: float, colour: str, name: str) -> None:
    low, high = ends
    axes.add_patch(Rectangle((low, y - thick / 2), high - low, thick, facecolor=colour, linewidth=0, gid=name))
