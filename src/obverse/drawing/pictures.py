"""Originals above what came back."""

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

__all__ = ["reconstructions"]

CELL, LEFT, RIGHT, TOP, BOTTOM, BELOW = 0.9, 1.45, 0.2, 0.4, 0.35, 0.2  # inches

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
