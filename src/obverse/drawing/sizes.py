"""Sizes that share an output, and cells that are reached unevenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from obverse.arithmetic import input_sizes, overlap_by_turns, overlaps
from obverse.drawing.cells import WIDE, check_drawable, crosses, page, settings_text, squares, write
from obverse.drawing.slides import Slide, sliding
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ShapeError

__all__ = ["overlap_map", "remainder_fan"]

SHOWN = 9  # cells of a row: where there are more, the last ones, since the end is where sizes differ


def remainder_fan(
    output_size: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    *,
    theme: Theme = "light",
) -> Figure:
    """Draw all sizes that a convolution takes to one output size, with the remainder that tells them apart.

    As many as the stride: this fan is what `output_padding` is for.

    >>> figure = remainder_fan(14, 3, stride=2, padding=1)
    >>> [text.get_text() for text in figure.axes[0].texts if text.get_text().startswith("output_padding")]
    ['output_padding=0', 'output_padding=1']

    Args:
        output_size: cells that come out.
        kernel_size: cells of the kernel.
        stride: cells between two windows.
        padding: zeros on either side.
        dilation: distance between the kernel's cells.
        theme: "light" or "dark".

    Returns:
        A figure with a row for each size; of long rows the end is drawn.

    Raises:
        ShapeError: for settings that no convolution has, and for an output size that none gives.
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    sizes = input_sizes(output_size, kernel_size, stride, padding, dilation)
    if not sizes:
        raise ShapeError(
            f"padding={padding} alone gives more than {output_size} cells, whatever goes in.", "Give less padding."
        )
    check_drawable("a fan", len(sizes), "Give a smaller stride.")
    rows = [sliding(size, kernel_size, stride, padding, dilation) for size in sizes]
    shown = min(SHOWN, max(len(row.span) - row.remainder for row in rows))
    unit = min(0.26, 2.2 / (shown + len(rows) - 1))
    pitch, left, end = 0.37 / unit, 0.55 / unit, shown + len(rows) - 1.5
    told_at = end + 0.12 / unit
    way = (told_at + 1.12 / unit, told_at + 1.7 / unit)
    target_x, target_y = way[1] + 0.28 / unit, pitch * (len(rows) - 1) / 2
    top, bottom = -0.62 / unit, pitch * (len(rows) - 1) + max(0.35, 0.43 - 0.185 * (len(rows) - 1)) / unit
    figure, axes = page(-left, target_x + 0.4 / unit, top, bottom, unit, colours)
    settings = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    write(axes, 0.16 / unit - left, top + 0.22 / unit, settings_text(settings), colours.ink, fontweight="bold")
    squares(axes, [(target_x, target_y)], "output", side=0.52 / unit, facecolor=colours.second)
    how = {"ha": "center", "fontsize": 12, "fontweight": "bold", "gid": colours.second}
    write(axes, target_x, target_y, str(output_size), _ink_on(colours.second, colours), **how)
    for number, row in enumerate(rows):
        y = pitch * number
        _draw_end(figure, row, shown, y, colours)
        at = -0.5 - 0.08 / unit
        write(axes, at, y, str(row.input_size), colours.first, ha="right", fontweight="bold", fontsize=11)
        colour = colours.waist if row.remainder else colours.quiet
        write(axes, told_at, y, f"output_padding={row.remainder}", colour, fontsize=8.5)
        middle = sum(way) / 2
        curve = Path([(way[0], y), (middle, y), (middle, target_y), (way[1], target_y)], [1, 4, 4, 4])
        axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=colours.quiet, linewidth=0.9, gid="way"))
    return figure


def _draw_end(figure: Figure, row: Slide, shown: int, y: float, colours: Colours) -> None:
    """Draw the last cells of a row; what the windows reach ends in the same place for all."""
    axes = figure.axes[0]
    span = row.span
    hidden = max(0, len(span) - row.remainder - shown)
    positions = span[hidden:]
    places = {position: (float(at), y) for at, position in enumerate(positions)}
    if hidden:
        gone = positions[:2]
        for at, position in enumerate(gone):
            x, _ = places.pop(position)
            squares(axes, [(x, y)], "more", side=0.16 + 0.2 * at, facecolor=colours.faint(colours.first, 0.5))
    kinds = {kind: [place for at, place in places.items() if row.kind(at) == kind] for kind in ("input", "padding")}
    squares(axes, kinds["input"], "input", facecolor=colours.faint(colours.first, 0.45))
    outline = {"facecolor": "none", "edgecolor": colours.quiet, "linewidth": 0.7, "linestyle": (0, (1.6, 1.6))}
    squares(axes, kinds["padding"], "padding", side=0.8, **outline)
    crosses(axes, [place for at, place in places.items() if row.beyond(at)], "remainder", colours.waist)


def overlap_map(
    input_size: int | tuple[int, ...],
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
    *,
    theme: Theme = "light",
) -> Figure:
    """Draw how many cells reach each cell that a transposed convolution gives: the checkerboard before any training.

    >>> figure = overlap_map((5, 5), 3, stride=2, padding=1)
    >>> [text.get_text() for text in figure.axes[0].texts][:2]
    ['kernel 3, stride 2, padding 1', '1 and 2 windows overlap by turns along each axis']
    >>> overlap_map((5, 5), 4, stride=2, padding=1).axes[0].texts[1].get_text()
    'even: 2 windows overlap along each axis'

    Args:
        input_size: cells along the axis, or along both.
        kernel_size: cells of the kernel, along every axis, as are the others.
        stride: cells that the kernel moves for every cell that goes in.
        padding: cells taken away on either side.
        output_padding: cells added behind.
        dilation: distance between the kernel's cells.
        theme: "light" or "dark".

    Returns:
        A figure with a square for each cell that comes out, the darker the more cells reach it, with their number.

    Raises:
        ShapeError: where the transposed convolution cannot be, for more than two axes, for more cells than can be told
            apart.
        ObverseError: there is no such theme.

    Source: Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016.
    """
    colours = colours_of(theme)
    sizes = (input_size,) if isinstance(input_size, int) else tuple(input_size)
    if len(sizes) not in (1, 2):
        raise ShapeError(f"{len(sizes)} axes cannot be drawn on a page.", "Draw one or two of them.")
    settings = (kernel_size, stride, padding, output_padding, dilation)
    along = [np.array(overlaps(size, *settings)) for size in sizes]
    for size, counts in zip(sizes, along, strict=True):
        check_drawable(f"an input of {size}", len(counts), "Draw a smaller one: the pattern repeats.")
    table = along[0][None, :] if len(along) == 1 else np.outer(*along)
    unit = min(0.4, (WIDE - 0.3) / max(table.shape[1], 9))
    margin = 0.16 / unit
    right = max(table.shape[1] - 0.5, 3.9 / unit) + margin
    figure, axes = page(-0.5 - margin, right, -0.5 - 0.62 / unit, table.shape[0] - 0.5 + margin, unit, colours)
    names = ("kernel", "stride", "padding", "output_padding", "dilation")
    title = settings_text(dict(zip(names, settings, strict=True)))
    write(axes, -0.5, -0.5 - 0.44 / unit, title, colours.ink, fontweight="bold")
    write(axes, -0.5, -0.5 - 0.19 / unit, _turns(overlap_by_turns(kernel_size, stride, dilation)), colours.quiet)
    _paint(figure, table, colours, unit)
    return figure


def _turns(counts: Sequence[int]) -> str:
    kinds = sorted(set(counts))
    if len(kinds) == 1:
        return f"even: {kinds[0]} {'window overlaps' if kinds[0] == 1 else 'windows overlap'} along each axis"
    return f"{' and '.join(map(str, kinds))} windows overlap by turns along each axis"


def _paint(figure: Figure, table: NDArray[np.int_], colours: Colours, unit: float) -> None:
    axes, most = figure.axes[0], max(int(table.max()), 1)
    for count in sorted(set(table.flat)):
        places = [(float(x), float(y)) for y, x in zip(*np.nonzero(table == count), strict=True)]
        shade = colours.faint(colours.second, 0.1 + 0.9 * count / most)
        squares(axes, places, f"reached-{count}", side=0.96, facecolor=shade)
        if unit >= 0.19:
            ink = _ink_on(shade, colours)
            for x, y in places:
                write(axes, x, y, str(count), ink, ha="center", fontsize=8.5, fontweight="bold", gid=shade)


def _ink_on(paint: str, colours: Colours) -> str:
    """Ink or paper, whichever stands out more from the paint."""
    ground = _luminance(paint) + 0.05
    contrast = {ink: (_luminance(ink) + 0.05) / ground for ink in (colours.ink, colours.paper)}
    return max(contrast, key=lambda ink: max(contrast[ink], 1 / contrast[ink]))


def _luminance(colour: str) -> float:
    """How bright a colour is to the eye, as WCAG 2.2 has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
