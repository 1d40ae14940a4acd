"""Convolution arithmetic for any numbers: what the window reads, cell by cell, still and moving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obverse.arithmetic import extent_of, whole
from obverse.drawing.cells import (
    WIDE,
    Place,
    check_drawable,
    crosses,
    dots,
    page,
    segments,
    settings_text,
    squares,
    write,
)
from obverse.drawing.films import Film
from obverse.drawing.slides import Slide, sliding, sliding_transposed
from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ShapeError
from obverse.shapes import shape_text

__all__ = ["convolution", "convolution_film", "transposed_convolution", "transposed_convolution_film"]

Size = int | tuple[int, ...]
Cell = tuple[int, ...]

GAP = 2.4  # cells between what goes in and what comes out
LINE = 0.235  # inches from one line of text to the next
MOST_FRAMES = 200  # of a film: more would take minutes to look at


def convolution(
    input_size: Size,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    *,
    cell: Size | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw a convolution, or a pooling: what goes in, the cells that one window reads, what comes out.

    Cells that no window reaches are hatched: the remainder, which the mirror must be told.

    >>> figure = convolution((6, 6), 3, stride=2, padding=1)
    >>> [text.get_text() for text in figure.axes[0].texts][:4]
    ['kernel 3, stride 2, padding 1', 'input 6×6', 'output 3×3', '⌊(6 + 2·1 − 3) / 2⌋ + 1 = 3']
    >>> convolution(7, 3, dilation=2).axes[0].texts[1].get_text()    # one axis: a row above a row
    'input 7'

    Args:
        input_size: cells along the axis, or along both.
        kernel_size: cells of the kernel; like the others, one number for both axes or one an axis.
        stride: cells between two windows.
        padding: zeros on either side.
        dilation: distance between the kernel's cells.
        cell: the output cell whose window is drawn; by default one in the middle.
        theme: "light" or "dark".

    Returns:
        A figure of about 5 inches.

    Raises:
        ShapeError: where the convolution cannot be, for more than two axes, and for more cells than can be told apart.
        ObverseError: there is no such theme.
    """
    return _still(_convolution(input_size, kernel_size, stride, padding, dilation), cell, colours_of(theme))


def transposed_convolution(
    input_size: Size,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    *,
    cell: Size | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw a transposed convolution: the input spread apart by zeros, a border of zeros, and a window of stride 1.

    The zeros that `output_padding` adds behind are hatched, as the remainder of the convolution is that they restore.

    >>> figure = transposed_convolution((3, 3), 3, stride=2, padding=1, output_padding=1)
    >>> figure.axes[0].texts[3].get_text()
    '2·(3 − 1) + 1 + 3 − 2·1 = 6'

    Args:
        input_size: cells along the axis, or along both.
        kernel_size: cells of the kernel; like the others, one number for both axes or one an axis.
        stride: the distance between two cells of the input, once zeros are inserted.
        padding: the padding of the convolution that is turned round; the larger it is, the thinner the border.
        output_padding: zeros added behind.
        dilation: distance between the kernel's cells.
        cell: the output cell whose window is drawn; by default one in the middle.
        theme: "light" or "dark".

    Raises:
        ShapeError: where the transposed convolution cannot be, for more than two axes, and for more cells than can be
            told apart.
        ObverseError: there is no such theme.
    """
    drawing = _transposed(input_size, kernel_size, stride, padding, output_padding, dilation)
    return _still(drawing, cell, colours_of(theme))


def convolution_film(
    input_size: Size,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    *,
    theme: Theme = "light",
) -> Film:
    """`convolution` with its window moving from cell to cell.

    >>> film = convolution_film((6, 6), 3, stride=2, padding=1)
    >>> len(film), film.svg().count("@keyframes")
    (9, 1)

    `film.save("sliding.gif")` and `film.save("sliding.svg")` write it; a notebook plays it.

    Args:
        input_size: as the others, what `convolution` takes.
        kernel_size: cells of the kernel.
        stride: cells between two windows.
        padding: zeros on either side.
        dilation: distance between the kernel's cells.
        theme: "light" or "dark".

    Raises:
        ShapeError: where `convolution` does, and for more than 200 output cells.
        ObverseError: there is no such theme.
    """
    return _film(_convolution(input_size, kernel_size, stride, padding, dilation), colours_of(theme))


def transposed_convolution_film(
    input_size: Size,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    *,
    theme: Theme = "light",
) -> Film:
    """`transposed_convolution` with its window moving from cell to cell.

    >>> len(transposed_convolution_film((2, 2), 3, stride=2, padding=1, output_padding=1))
    16

    Args:
        input_size: as the others, what `transposed_convolution` takes.
        kernel_size: cells of the kernel.
        stride: the distance between two cells of the input, once zeros are inserted.
        padding: the padding of the convolution that is turned round.
        output_padding: zeros added behind.
        dilation: distance between the kernel's cells.
        theme: "light" or "dark".

    Raises:
        ShapeError: where `transposed_convolution` does, and for more than 200 output cells.
        ObverseError: there is no such theme.
    """
    return _film(_transposed(input_size, kernel_size, stride, padding, output_padding, dilation), colours_of(theme))


@dataclass(frozen=True)
class _Drawing:
    """What is drawn: an axis or two, and what is written about them."""

    slides: tuple[Slide, ...]
    settings: str
    formulas: tuple[str, ...]
    transposed: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(slide.input_size for slide in self.slides)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(len(slide.starts) for slide in self.slides)

    @property
    def cells(self) -> list[Cell]:
        """The output cells in the order of a film: row by row."""
        return list(product(*map(range, self.outputs)))


def _convolution(input_size: Size, kernel_size: Size, stride: Size, padding: Size, dilation: Size) -> _Drawing:
    names = {"kernel": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    axes = _along(input_size, **names)
    slides = tuple(sliding(*axis) for axis in axes)
    for (n, k, s, p, d), slide in zip(axes, slides, strict=True):
        smaller = max(extent_of(k, d) - 2 * p + s, 1) + slide.remainder
        check_drawable(f"an input of {n}", len(slide.span), f"Draw a smaller one: {smaller} shows the same.")
    formulas = [_conv_formula(axis, len(slide.starts)) for axis, slide in zip(axes, slides, strict=True)]
    return _Drawing(slides, settings_text(names), _formulas(formulas))


def _transposed(
    input_size: Size, kernel_size: Size, stride: Size, padding: Size, output_padding: Size, dilation: Size
) -> _Drawing:
    names = {
        "kernel": kernel_size,
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
    }
    axes = _along(input_size, **names)
    slides = tuple(sliding_transposed(*axis) for axis in axes)
    for (n, *_), slide in zip(axes, slides, strict=True):
        longest = max(len(slide.span), len(slide.starts))
        check_drawable(f"an input of {n}", longest, "Draw a smaller one: 3 shows the same.")
    formulas = [_transposed_formula(axis, len(slide.starts)) for axis, slide in zip(axes, slides, strict=True)]
    return _Drawing(slides, f"transposed: {settings_text(names)}", _formulas(formulas), transposed=True)


def _along(input_size: Size, **settings: Size) -> list[tuple[int, ...]]:
    """For each axis the size that goes in and the settings, plain integers all.

    Raises:
        ShapeError: for three axes or more, and for settings that have another number of axes.
    """
    given = {"input_size": input_size, **settings}
    many = {name: tuple(value) for name, value in given.items() if isinstance(value, (tuple, list))}
    rank = len(many.get("input_size", (1,)))
    if rank not in (1, 2):
        raise ShapeError(
            f"{rank} axes cannot be drawn on a page.", "Axes do not touch each other: draw one or two of them."
        )
    for name, value in many.items():
        if len(value) != rank:
            raise ShapeError(
                f"{name}={value} has {len(value)} numbers, and the input {rank}.", "Give one for each axis."
            )
    spread = [many.get(name, (value,) * rank) for name, value in given.items()]
    return [
        tuple(whole(name, number) for name, number in zip(given, axis, strict=True))
        for axis in zip(*spread, strict=True)
    ]


def _formulas(formulas: Sequence[str]) -> tuple[str, ...]:
    if len(set(formulas)) == 1:
        return (formulas[0],)
    return tuple(f"{letter}: {formula}" for letter, formula in zip("HW", formulas, strict=True))


def _conv_formula(axis: tuple[int, ...], o: int) -> str:
    """Relationship 15 in numbers, without the parts that do nothing."""
    n, k, s, p, d = axis
    above = f"{n}{f' + 2·{p}' if p else ''} − {_extent_formula(k, d)}"
    return f"⌊({above}) / {s}⌋ + 1 = {o}" if s > 1 else f"{above} + 1 = {o}"


def _transposed_formula(axis: tuple[int, ...], o: int) -> str:
    """Relationship 14 in numbers, without the parts that do nothing."""
    n, k, s, p, a, d = axis
    spread = f"{s}·({n} − 1)" if s > 1 else f"({n} − 1)"
    return f"{spread}{f' + {a}' if a else ''} + {_extent_formula(k, d, '+')}{f' − 2·{p}' if p else ''} = {o}"


def _extent_formula(k: int, d: int, sign: str = "−") -> str:
    return f"{k}" if d == 1 else f"{d}·({k} − 1) {sign} 1"


# ------------------------------------------------------------------------------------------------------- on the page


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in cells: the row or board that is read with its first input cell at (0, 0)."""

    drawing: _Drawing
    axes: Axes
    colours: Colours
    output: Place

    @property
    def flat(self) -> bool:
        return len(self.drawing.slides) == 1

    def place(self, position: Cell) -> Place:
        """Where a position of the input stands."""
        return (float(position[-1]), 0.0 if self.flat else float(position[0]))

    def output_place(self, cell: Cell) -> Place:
        """Where an output cell stands; in a row, over the middle of its window."""
        x, y = self.output
        if self.flat:
            slide = self.drawing.slides[0]
            return (slide.starts[cell[0]] + slide.taps[-1] / 2, y)
        return (x + cell[1], y + cell[0])


def _still(drawing: _Drawing, cell: Size | None, colours: Colours) -> Figure:
    layout, figure = _stage(drawing, colours)
    _draw_window(layout, _chosen(drawing, cell), "")
    return figure


def _film(drawing: _Drawing, colours: Colours) -> Film:
    cells = drawing.cells
    if len(cells) > MOST_FRAMES:
        raise ShapeError(
            f"{len(cells)} cells come out, and a film has at most {MOST_FRAMES} frames.", "Draw a smaller input."
        )
    layout, figure = _stage(drawing, colours)
    frames = tuple(_draw_window(layout, cell, f"frame-{number}-") for number, cell in enumerate(cells))
    return Film(figure, frames)


def _chosen(drawing: _Drawing, cell: Size | None) -> Cell:
    if cell is None:
        return tuple((size - 1) // 2 for size in drawing.outputs)
    chosen = (cell,) * len(drawing.outputs) if isinstance(cell, int) else tuple(cell)
    inside = len(chosen) == len(drawing.outputs) and all(
        0 <= at < size for at, size in zip(chosen, drawing.outputs, strict=True)
    )
    if not inside:
        last = tuple(size - 1 for size in drawing.outputs)
        raise ShapeError(
            f"cell={cell!r} is none of the {shape_text(drawing.outputs)} output cells.",
            f"Give one up to {last if len(last) > 1 else last[0]}.",
        )
    return chosen


def _stage(drawing: _Drawing, colours: Colours) -> tuple[_Layout, Figure]:
    """The page with all that stands still: cells, captions, legend."""
    spans = [slide.span for slide in drawing.slides]
    across = spans[-1]
    columns: float
    if len(spans) == 1:
        reach = drawing.slides[0]
        low, high = min(across[0], reach.starts[0]), max(across[-1], reach.starts[-1] + reach.taps[-1])
        columns, output, rows = high - low + 1, (0.0, -GAP), (-GAP, 0.0)
    else:
        low, tall = across[0], max(len(spans[0]), drawing.outputs[0])
        middle = spans[0][0] + (len(spans[0]) - 1) / 2
        columns = len(across) + GAP + drawing.outputs[1]
        output = (across[-1] + 1 + GAP, middle - (drawing.outputs[0] - 1) / 2)
        rows = (middle - (tall - 1) / 2, middle + (tall - 1) / 2)
    unit = min((WIDE - 0.3) / columns, 0.4)
    legend = _legend(drawing)
    line, margin = LINE / unit, 0.16 / unit
    left, right = low - 0.5 - margin, low - 0.5 + columns + margin
    right = max(right, left + _wide(drawing, legend) / unit)
    top = rows[0] - 0.5 - margin - 1.3 * line
    bottom = rows[1] + 0.5 + 1.3 * line + line * (len(drawing.formulas) + bool(legend)) + margin
    figure, axes = page(left, right, top, bottom, unit, colours)
    layout = _Layout(drawing, axes, colours, output)
    _draw_cells(layout)
    _write_captions(layout, rows, line, margin)
    _write_legend(layout, legend, left + margin, bottom - margin - line / 2, unit)
    return layout, figure


def _wide(drawing: _Drawing, legend: Sequence[tuple[str, str]]) -> float:
    """Inches that the lines of text need at least."""
    letters = max(map(len, (drawing.settings, *drawing.formulas)))
    return max(0.3 + 0.085 * letters, 0.3 + sum(0.38 + 0.075 * len(text) for _, text in legend), 2.6)


def _legend(drawing: _Drawing) -> list[tuple[str, str]]:
    """The kinds of cells that need a word, with it."""
    kinds = {slide.kind(at) for slide in drawing.slides for at in slide.span}
    spread = any(slide.spread > 1 for slide in drawing.slides)
    remainders = [slide.remainder for slide in drawing.slides]
    told = shape_text(remainders) if len(set(remainders)) > 1 else str(remainders[0])
    words = {
        "padding": "border of zeros" if drawing.transposed else "padding",
        "zero": "inserted zeros" if spread else "",
        "cut": "cut off",
        "remainder": f"{'output_padding' if drawing.transposed else 'remainder'} {told}",
    }
    there = {*map(str, kinds), *(["remainder"] if any(remainders) else [])}
    return [(kind, text) for kind, text in words.items() if kind in there]


def _draw_cells(layout: _Layout) -> None:
    """Draw the row or board that is read, kind by kind, and the one that is written."""
    colours, axes, drawing = layout.colours, layout.axes, layout.drawing
    kinds: dict[str, list[Place]] = {}
    for position in product(*(slide.span for slide in drawing.slides)):
        kinds.setdefault(_kind(drawing, position), []).append(layout.place(position))
        if _beyond(drawing, position):
            kinds.setdefault("remainder", []).append(layout.place(position))
    for kind in ("input", "padding", "zero", "cut", "remainder"):
        _draw_kind(axes, colours, kind, kinds.get(kind, []))
    outputs = [layout.output_place(cell) for cell in drawing.cells]
    squares(axes, outputs, "output", facecolor=colours.faint(colours.second, 0.32))


def _kind(drawing: _Drawing, position: Cell) -> str:
    kinds = {slide.kind(at) for slide, at in zip(drawing.slides, position, strict=True)}
    return next(kind for kind in ("cut", "padding", "zero", "input") if kind in kinds)


def _beyond(drawing: _Drawing, position: Cell) -> bool:
    pairs = list(zip(drawing.slides, position, strict=True))
    return any(slide.beyond(at) for slide, at in pairs) and _kind(drawing, position) != "cut"


def _draw_kind(axes: Axes, colours: Colours, kind: str, places: Sequence[Place]) -> None:
    outlined: dict[str, Any] = {"facecolor": "none", "edgecolor": colours.quiet, "linewidth": 0.7}
    if kind == "input":
        squares(axes, places, kind, facecolor=colours.faint(colours.first, 0.32))
    elif kind == "padding":
        squares(axes, places, kind, side=0.8, linestyle=(0, (1.6, 1.6)), **outlined)
    elif kind == "zero":
        squares(axes, places, kind, facecolor=colours.line)
        dots(axes, places, "zero-sign", facecolor=colours.quiet)
    elif kind == "cut":
        squares(axes, places, kind, side=0.3, facecolor=colours.line)
    else:
        crosses(axes, places, kind, colours.waist)


def _draw_window(layout: _Layout, cell: Cell, prefix: str) -> tuple[Artist, ...]:
    """Draw a window, what it reads, and the cell that comes of it: all that a frame of a film shows."""
    axes, colours, slides = layout.axes, layout.colours, layout.drawing.slides
    read = list(product(*(slide.read(at) for slide, at in zip(slides, cell, strict=True))))
    seen = [layout.place(at) for at in read if _kind(layout.drawing, at) == "input"]
    nothing = [layout.place(at) for at in read if _kind(layout.drawing, at) != "input"]
    target = layout.output_place(cell)
    lines, pale = _sight_lines(layout, cell, target), colours.faint(colours.first, 0.16)
    drawn = [
        segments(axes, lines, f"{prefix}sight", colours.quiet, linewidth=0.7),
        squares(axes, seen, f"{prefix}seen", facecolor=colours.first),
        squares(axes, nothing, f"{prefix}nothing", side=0.8, facecolor=pale, edgecolor=colours.first, linewidth=1),
        dots(axes, nothing, f"{prefix}nothing-sign", facecolor=colours.first),
        squares(axes, [target], f"{prefix}cell", facecolor=colours.second),
    ]
    return tuple(artist for artist in drawn if artist)


def _sight_lines(layout: _Layout, cell: Cell, target: Place) -> list[tuple[Place, Place]]:
    """The window's outline, and lines from it to the cell that it makes."""
    reads = [slide.read(at) for slide, at in zip(layout.drawing.slides, cell, strict=True)]
    left, right = reads[-1][0] - 0.5, reads[-1][-1] + 0.5
    x, y = target
    box: tuple[float, ...]
    if layout.flat:
        box = (left, right, -0.5, 0.5)
        rays = [((left, -0.5), (x - 0.42, y + 0.42)), ((right, -0.5), (x + 0.42, y + 0.42))]
    else:
        top, bottom = reads[0][0] - 0.5, reads[0][-1] + 0.5
        box = (left, right, top, bottom)
        rays = [((right, top), (x - 0.42, y - 0.42)), ((right, bottom), (x - 0.42, y + 0.42))]
    x0, x1, y0, y1 = box
    outline = [((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))]
    return [*outline, *rays]


def _write_captions(layout: _Layout, rows: tuple[float, float], line: float, margin: float) -> None:
    axes, colours, drawing = layout.axes, layout.colours, layout.drawing
    left = axes.get_xlim()[0] + margin
    write(axes, left, rows[0] - 0.5 - 0.9 * line, drawing.settings, colours.ink, fontweight="bold")
    bold: dict[str, Any] = {"fontweight": "bold"}
    given, made = f"input {shape_text(drawing.sizes)}", f"output {shape_text(drawing.outputs)}"
    below = rows[1] + 0.5 + 0.75 * line
    if layout.flat:
        write(axes, left, below, given, colours.first, **bold)
        right = axes.get_xlim()[1] - margin
        write(axes, right, rows[0] - 0.5 - 0.9 * line, made, colours.second, ha="right", **bold)
    else:
        write(axes, left, below, given, colours.first, **bold)
        write(axes, layout.output[0] - 0.42, below, made, colours.second, **bold)
    for number, formula in enumerate(drawing.formulas):
        write(axes, left, below + line * (1.05 + number), formula, colours.ink, family="DejaVu Sans")


def _write_legend(layout: _Layout, legend: Sequence[tuple[str, str]], x: float, y: float, unit: float) -> None:
    axes, colours = layout.axes, layout.colours
    scale = 0.14 / unit
    for kind, text in legend:
        _draw_sign(axes, colours, kind, (x + scale / 2, y), scale)
        write(axes, x + scale * 1.5, y, text, colours.quiet, fontsize=8.5)
        x += (0.38 + 0.075 * len(text)) / unit


def _draw_sign(axes: Axes, colours: Colours, kind: str, place: Place, side: float) -> None:
    outlined: dict[str, Any] = {"facecolor": "none", "edgecolor": colours.quiet, "linewidth": 0.7}
    signs: dict[str, Callable[[], Any]] = {
        "padding": lambda: squares(axes, [place], "sign", side=side, linestyle=(0, (1.6, 1.6)), **outlined),
        "zero": lambda: squares(axes, [place], "sign", side=side, facecolor=colours.line),
        "cut": lambda: squares(axes, [place], "sign", side=side / 2, facecolor=colours.line),
        "remainder": lambda: crosses(axes, [place], "sign", colours.waist, side),
    }
    signs[kind]()
