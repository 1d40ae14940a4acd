"""Cells on a page: squares of one kind drawn as one path, in a picture measured in cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from obverse.drawing.themes import Colours
from obverse.errors import ShapeError
from obverse.shapes import shape_text

__all__ = ["Place", "check_drawable", "crosses", "dots", "page", "segments", "settings_text", "squares", "write"]

Place = tuple[float, float]
"""x and y of a cell's middle; y grows downwards, as rows do."""

WIDE = 5.2  # inches of a picture: at the width of a phone its letters are as large as a caption's
MOST = 40  # cells that can be told apart at that width
SIDE = 0.84  # of a cell is filled; the rest parts it from its neighbours


def check_drawable(what: str, cells: int, smaller: str) -> None:
    """Refuse what would be too small to see.

    Raises:
        ShapeError: with a smaller one that shows the same.
    """
    if cells > MOST:
        raise ShapeError(f"{what} takes {cells} cells along an axis, and at most {MOST} can be told apart.", smaller)


def settings_text(settings: Mapping[str, int | tuple[int, ...]]) -> str:
    """Settings as a title, without those that are what they always are.

    >>> settings_text({"kernel": (3, 5), "stride": 2, "padding": 0, "dilation": 1})
    'kernel 3×5, stride 2'
    """
    plain = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    texts = {name: shape_text(size) if isinstance(size, tuple) else str(size) for name, size in settings.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items() if text != str(plain.get(name)))


def page(left: float, right: float, top: float, bottom: float, unit: float, colours: Colours) -> tuple[Figure, Axes]:
    """A figure whose one pair of axes is all of it, measured in cells of `unit` inches, y downwards."""
    figure = Figure(figsize=((right - left) * unit, (bottom - top) * unit), facecolor=colours.paper)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return figure, axes


def squares(axes: Axes, places: Iterable[Place], name: str, *, side: float = SIDE, **how: Any) -> PathPatch | None:
    """Draw squares around the places, as one path that has a name."""
    half = side / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half), (-half, -half)])
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return _drawn(axes, [corners + place for place in sorted(places)], codes, name, **({"linewidth": 0} | how))


def dots(axes: Axes, places: Iterable[Place], name: str, radius: float = 0.07, **how: Any) -> PathPatch | None:
    """Draw small squares on their tips: the sign for a zero."""
    corners = np.array([(0, -radius), (radius, 0), (0, radius), (-radius, 0), (0, -radius)])
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return _drawn(axes, [corners + place for place in sorted(places)], codes, name, linewidth=0, **how)


def crosses(axes: Axes, places: Iterable[Place], name: str, colour: str, side: float = SIDE) -> PathPatch | None:
    """Hatch cells with three strokes each: the sign for what no stride reached."""
    half = side / 2
    strokes = np.array([(-half, 0), (0, -half), (-half, half), (half, -half), (0, half), (half, 0)])
    codes = [Path.MOVETO, Path.LINETO] * 3
    drawn = [strokes + place for place in sorted(places)]
    return _drawn(axes, drawn, codes, name, facecolor="none", edgecolor=colour, linewidth=0.9)


def segments(axes: Axes, pairs: Sequence[tuple[Place, Place]], name: str, colour: str, **how: Any) -> PathPatch | None:
    """Draw straight lines, as one path."""
    drawn = [np.array(pair) for pair in pairs]
    return _drawn(axes, drawn, [Path.MOVETO, Path.LINETO], name, facecolor="none", edgecolor=colour, **how)


def write(axes: Axes, x: float, y: float, text: str, colour: str, **how: Any) -> None:
    """Write text at a place."""
    settled: dict[str, Any] = {"fontsize": 9, "va": "center", "family": "DejaVu Sans"} | how
    axes.text(x, y, text, color=colour, **settled)


def _drawn(axes: Axes, pieces: Sequence[Any], codes: Sequence[Any], name: str, **how: Any) -> PathPatch | None:
    if not pieces:
        return None
    patch = PathPatch(Path(np.concatenate(pieces), list(codes) * len(pieces)), clip_on=False, gid=name, **how)
    axes.add_patch(patch)
    return patch
