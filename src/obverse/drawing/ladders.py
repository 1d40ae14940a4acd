"""The ladder of sizes: down an encoder, up its mirror, and up a decoder whose output_padding was fixed elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from obverse.block import Block
from obverse.chain import Chain
from obverse.drawing.cells import WIDE, page, write
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ShapeError
from obverse.shapes import Shape, as_shape, shape_text

__all__ = ["size_ladder"]

RUNG = 0.5  # inches from one size to the next
COLUMNS = (1.0, 2.62, 4.25)  # inches from the left to the middle of each column


class _Ladder(NamedTuple):
    """Shapes at each rung from the top down: of the encoder, of the mirror, of the decoder that was fixed."""

    encoder: list[Shape]
    mirror: list[Shape | None]
    fixed: list[Shape | None]


def size_ladder(encoder: Block, input_shape: Shape, planned: Shape, *, theme: Theme = "light") -> Figure:
    """Draw the sizes down an encoder and up again: by its mirror, and by a decoder that was written for another size.

    On every rung the mirror has the encoder's size, so that a skip would fit. A decoder whose `output_padding` was
    chosen for the planned size drifts away, rung by rung.

    >>> from obverse import Chain, Conv, ReLU
    >>> conv = Conv(8, 3, stride=2, padding=1)
    >>> figure = size_ladder(Chain(conv, ReLU(), conv, ReLU(), conv), (1, 27, 27), planned=(1, 32, 32))
    >>> [text.get_text() for text in figure.axes[0].texts if "≠" in text.get_text()]
    ['≠ 32×32', '≠ 16×16', '≠ 8×8']

    Args:
        encoder: a chain, or any block.
        input_shape: what goes in.
        planned: the shape for which the fixed decoder was written.
        theme: "light" or "dark".

    Raises:
        ShapeError: where the encoder refuses one of the shapes.
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    ladder = _ladder(encoder, as_shape(input_shape), as_shape(planned))
    rungs = len(ladder.encoder)
    figure, axes = page(0, WIDE, -0.75, RUNG * (rungs - 1) + 0.38, 1, colours)
    heads = ("encoder", "mirror", f"fixed for {_size(as_shape(planned))}")
    paints = (colours.first, colours.second, colours.quiet)
    for x, head, colour in zip(COLUMNS, heads, paints, strict=True):
        write(axes, x, -0.48, head, colour, ha="center", fontweight="bold")
    for rung, shape in enumerate(ladder.encoder):
        y = RUNG * rung
        axes.plot((0.2, WIDE - 0.2), (y, y), color=colours.line, linewidth=0.8, zorder=0)
        colour = colours.first if rung < rungs - 1 else colours.waist
        _write_size(axes, COLUMNS[0], y, _size(shape), colour, colours)
        for x, column in ((COLUMNS[1], ladder.mirror), (COLUMNS[2], ladder.fixed)):
            _write_rung(axes, x, y, shape, column[rung], rung == rungs - 1, colours)
    for x, upwards in zip(COLUMNS, (False, True, True), strict=True):
        _draw_arrows(axes, x - 0.62, rungs, upwards, colours)
    return figure


def _ladder(encoder: Block, shape: Shape, planned: Shape) -> _Ladder:
    chain = encoder if isinstance(encoder, Chain) else Chain(encoder)
    down, at_planned = chain.shapes(shape), chain.shapes(planned)
    kept = [at for at, (_, block) in enumerate(chain.links) if not block.pointwise]
    blocks = [chain.links[at].block for at in kept]
    mirrors = [block.mirror(down[at]) for block, at in zip(blocks, kept, strict=True)]
    fixed = [block.mirror(at_planned[at]) for block, at in zip(blocks, kept, strict=True)]
    rungs = [down[at] for at in kept] + [down[-1]]
    return _Ladder(rungs, _climbed(mirrors, down[-1]), _climbed(fixed, down[-1]))


def _climbed(mirrors: list[Block], code: Shape) -> list[Shape | None]:
    """The shapes from the top down, of a way that goes up from the code; None above a mirror that refuses."""
    shapes: list[Shape | None] = [code]
    for mirror in reversed(mirrors):
        below = shapes[0]
        try:
            shapes.insert(0, None if below is None else mirror.output_shape(below))
        except ShapeError:
            shapes.insert(0, None)
    return shapes


def _size(shape: Shape) -> str:
    return shape_text(shape[1:] or shape)


def _write_rung(
    axes: Axes, x: float, y: float, wanted: Shape, given: Shape | None, code: bool, colours: Colours
) -> None:
    if code:
        _write_size(axes, x, y, _size(wanted), colours.waist, colours)
    elif given is None:
        _write_size(axes, x, y, "refused", colours.quiet, colours)
    elif given[1:] == wanted[1:]:
        _write_size(axes, x, y, f"= {_size(given)}", colours.second, colours)
    else:
        _write_size(axes, x, y, f"≠ {_size(given)}", colours.ink, colours)


def _write_size(axes: Axes, x: float, y: float, text: str, colour: str, colours: Colours) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": colours.paper, "edgecolor": colour, "linewidth": 1.2}
    if text.startswith("≠") or text == "refused":
        box |= {"linestyle": (0, (2, 1.5))}
    write(axes, x, y, text, colour, ha="center", fontweight="bold", bbox=box)


def _draw_arrows(axes: Axes, x: float, rungs: int, upwards: bool, colours: Colours) -> None:
    for rung in range(rungs - 1):
        low, high = RUNG * rung + 0.1, RUNG * (rung + 1) - 0.1
        ends = ((x, high), (x, low)) if upwards else ((x, low), (x, high))
        arrow = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=7, color=colours.quiet, linewidth=0.9)
        axes.add_patch(arrow)
