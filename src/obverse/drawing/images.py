"""Images: originals above what came back, grids, and what lies between two codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from obverse.drawing.themes import Colours, Theme, colours_of
from obverse.errors import ShapeError
from obverse.shapes import shape_text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["code_walk", "pictures", "reconstructions"]

CELL, LEFT, RIGHT, TOP, BOTTOM, BELOW = 0.9, 1.45, 0.2, 0.4, 0.35, 0.2  # inches
MARGIN, BETWEEN, TITLE = 0.13, 0.06, 0.22  # inches, of a grid

Pictures = NDArray[np.float64]


def reconstructions(
    originals: Tensor | NDArray[Any],
    reconstructed: Tensor | NDArray[Any] | Mapping[str, Tensor | NDArray[Any]],
    *,
    count: int = 10,
    labels: Sequence[object] | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw the first images in a row, and below each what the autoencoder made of it, with its mean squared error.

    >>> digits = np.zeros((20, 1, 28, 28), dtype=np.uint8)
    >>> figure = reconstructions(digits, digits + 0.1)     # uint8 is divided by 255, floats are not
    >>> len(figure.axes), figure.axes[-1].get_xlabel()
    (20, '.0100')

    Args:
        originals: N×1×H×W (grey) or N×3×H×W (red, green, blue); a tensor on any device, or an array; uint8, or floats
            0..1.
        reconstructed: as `originals`; or those of several models, by their names, each in a row of its own.
        count: how many are drawn, at most; ten fit a page.
        labels: one for each image, written above it; None writes nothing.
        theme: "light" or "dark".

    Returns:
        A figure with a row of axes for the originals and one for each model.

    Raises:
        ShapeError: the two differ in shape, or are not pictures of one or three channels.
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    models = dict(reconstructed) if isinstance(reconstructed, Mapping) else {"reconstructed": reconstructed}
    first = _pictures(originals, count)
    rows = {name: _pictures(images, count) for name, images in models.items()}
    for name, row in rows.items():
        if row.shape != first.shape:
            shapes = f"{shape_text(first.shape)} and {shape_text(row.shape)}"
            raise ShapeError(f"originals and {name} differ: {shapes}.", f"Give model(originals)[0] as {name}.")
    columns, height, width = first.shape[:3]
    tall = CELL * height / width + len(rows) * (CELL * height / width + BELOW) + TOP + BOTTOM - BELOW
    wide = columns * CELL + LEFT + RIGHT
    figure = Figure(figsize=(wide, tall), facecolor=colours.paper)
    grid = figure.subplots(1 + len(rows), columns, squeeze=False)
    gap = 0.06 if len(rows) == 1 else BELOW / (CELL * height / width)
    figure.subplots_adjust(LEFT / wide, BOTTOM / tall, 1 - RIGHT / wide, 1 - TOP / tall, wspace=0.06, hspace=gap)
    for axes, picture in zip(grid.flat, (p for row in (first, *rows.values()) for p in row), strict=True):
        _draw(axes, picture, colours)
    named = {"color": colours.first, "rotation": 0, "ha": "right", "va": "center", "fontweight": "bold", "labelpad": 8}
    grid[0, 0].set_ylabel("original", **named)
    for line, (name, row) in zip(grid[1:], rows.items(), strict=True):
        line[0].set_ylabel(name, **{**named, "color": colours.second})
        for axes, original, other in zip(line, first, row, strict=True):
            axes.set_xlabel(f"{np.square(original - other).mean():.4f}".lstrip("0"), color=colours.quiet, fontsize=8)
    for axes, label in zip(grid[0], labels or (), strict=False):
        axes.set_title(str(label), color=colours.ink, fontsize=9)
    how: dict[str, Any] = {"color": colours.quiet, "fontsize": 8, "ha": "right", "va": "center"}
    figure.text((LEFT - 0.12) / wide, (BOTTOM - 0.105) / tall, "squared error", **how)
    return figure


def _pictures(images: Tensor | NDArray[Any], count: int) -> Pictures:
    """N×H×W×C, floats 0..1, on the CPU."""
    on_cpu = images.detach().cpu() if hasattr(images, "detach") else images
    given = np.asarray(on_cpu)
    if given.ndim != 4 or given.shape[1] not in (1, 3) or len(given) == 0:
        shape = shape_text(given.shape)
        raise ShapeError(
            f"{shape} are no pictures that can be drawn.", "Give N×1×H×W (grey) or N×3×H×W (red, green, blue)."
        )
    scale = 255 if given.dtype == np.uint8 else 1
    return np.moveaxis(given[:count], 1, -1).astype(np.float64) / scale


def _draw(axes: Axes, picture: NDArray[np.float64], colours: Colours) -> None:
    axes.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(colours.line)


def pictures(
    images: Tensor | NDArray[Any],
    *,
    columns: int = 10,
    labels: Sequence[object] | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw images in a grid, such as what a model made of random codes.

    >>> figure = pictures(np.zeros((25, 3, 32, 32)))
    >>> len(figure.axes), figure.get_size_inches().round(2).tolist()
    (25, [9.8, 3.08])

    Args:
        images: N×1×H×W (grey) or N×3×H×W (red, green, blue); a tensor on any device, or an array; uint8, or floats
            0..1.
        columns: how many stand side by side, at most.
        labels: one for each image, written above it; None writes nothing.
        theme: "light" or "dark".

    Raises:
        ShapeError: they are not pictures of one or three channels.
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    grid = _pictures(images, len(images))
    rows = [grid[at : at + columns] for at in range(0, len(grid), columns)]
    figure, lines = _grid(rows, colours, [bool(labels)] * len(rows))
    for axes, label in zip([axes for line in lines for axes in line], labels or (), strict=False):
        axes.set_title(str(label), color=colours.ink, fontsize=9, pad=3)
    return figure


def code_walk(
    model: Any,
    start: Tensor,
    end: Tensor,
    *,
    steps: int = 8,
    theme: Theme = "light",
) -> Figure:
    """Draw what a model makes of the codes between two images: a straight line from one code to the other.

    >>> import torch
    >>> from obverse import Autoencoder, Chain, Conv, Sigmoid
    >>> model = Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 15, 15), output=Sigmoid())
    >>> figure = code_walk(model, torch.rand(2, 1, 15, 15), torch.rand(2, 1, 15, 15), steps=5)
    >>> [axes.get_title() for axes in figure.axes[:7]]
    ['from', '0', '¼', '½', '¾', '1', 'to']

    Args:
        model: an `obverse.Autoencoder`, or anything with `encode(images)` and `decode(code, size=...)`.
        start: N×1×H×W or N×3×H×W; a row is drawn for each.
        end: as many, of the same shape.
        steps: codes along the way, both ends included.
        theme: "light" or "dark".

    Returns:
        A figure with a row for each pair: the first image, what is decoded on the way, the last image.

    Raises:
        ShapeError: the two differ in shape, or are not pictures of one or three channels; fewer than two steps.
        ObverseError: there is no such theme.
    """
    import torch

    colours = colours_of(theme)
    first, last = _pictures(start, len(start)), _pictures(end, len(end))
    if first.shape != last.shape:
        shapes = f"{shape_text(first.shape)} and {shape_text(last.shape)}"
        raise ShapeError(f"start and end differ: {shapes}.", "Give as many of each, in one shape.")
    if steps < 2:
        raise ShapeError(f"a walk has at least 2 steps; {steps} was given.", "Give steps=2 or more.")
    was_training = getattr(model, "training", False)
    try:
        if was_training:
            model.eval()
        with torch.no_grad():
            codes = model.encode(start), model.encode(end)
            parts = [part / (steps - 1) for part in range(steps)]
            between = [model.decode(torch.lerp(*codes, part), size=start.shape[2:]) for part in parts]
    finally:
        if was_training:
            model.train()
    ways = [_pictures(images, len(images)) for images in between]
    rows = [np.stack([first[at], *(way[at] for way in ways), last[at]]) for at in range(len(first))]
    figure, lines = _grid(rows, colours, [True, *[False] * (len(rows) - 1)])
    titles = ["from", *(_part_text(part, steps - 1) for part in range(steps)), "to"]
    for axes, title in zip(lines[0], titles, strict=True):
        colour = colours.first if title in ("from", "to") else colours.second
        axes.set_title(title, color=colour, fontsize=9, fontweight="bold", pad=4)
    return figure


def _part_text(part: int, of: int) -> str:
    known = {0: "0", 1: "1", 0.25: "¼", 0.5: "½", 0.75: "¾"}
    return known.get(part / of) or f".{round(100 * part / of):02d}"


def _grid(
    rows: Sequence[NDArray[np.float64]], colours: Colours, titled: Sequence[bool]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with as many axes as there are pictures, and room for words above the rows that have titles."""
    ratio = rows[0].shape[1] / rows[0].shape[2]
    across = max(len(row) for row in rows)
    heads = [TITLE if title else 0.0 for title in titled]
    wide = 2 * MARGIN + across * CELL + (across - 1) * BETWEEN
    tall = 2 * MARGIN + sum(heads) + len(rows) * CELL * ratio + (len(rows) - 1) * BETWEEN
    figure = Figure(figsize=(wide, tall), facecolor=colours.paper)
    lines: list[list[Axes]] = []
    y = tall - MARGIN
    for row, head in zip(rows, heads, strict=True):
        y -= head + CELL * ratio
        places = [(MARGIN + at * (CELL + BETWEEN), y, CELL, CELL * ratio) for at in range(len(row))]
        lines.append([figure.add_axes((x / wide, y / tall, w / wide, h / tall)) for x, y, w, h in places])
        for axes, picture in zip(lines[-1], row, strict=True):
            _draw(axes, picture, colours)
        y -= BETWEEN
    return figure, lines
