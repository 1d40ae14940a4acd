"""The loss, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from obverse.drawing.themes import Colours, Theme, colours_of

if TYPE_CHECKING:
    from obverse.training import History

__all__ = ["loss_curves"]

GAP = 0.07  # between two labels, as a part of the axes' height


@dataclass(frozen=True)
class _Curve:
    name: str
    colour: str
    epochs: Sequence[int]
    losses: Sequence[float]


def loss_curves(history: History, *, theme: Theme = "light") -> Figure:
    """Draw training and held-out loss against the epochs, the last value of each written at its end.

    >>> from obverse.training import Epoch, History
    >>> epochs = (Epoch(1, 0.05, 0.03, 1e-3, 4500, 0.9), Epoch(2, 0.02, 0.021, 1e-3, 4500, 0.9))
    >>> [text.get_text() for text in loss_curves(History(epochs)).axes[0].texts]
    ['training 0.0200', 'held out 0.0210']

    Args:
        history: what `obverse.training.train` gave. Its training loss is measured while the weights move, so it lies
            above the held-out loss where a model learns fast.
        theme: "light" or "dark".

    Returns:
        A figure with one pair of axes; losses above 0 on a logarithmic scale, since what is left to gain gets smaller.

    Raises:
        ObverseError: there is no such theme.
    """
    colours = colours_of(theme)
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(7, 4.2), facecolor=colours.paper, layout=layout)
    axes = figure.add_subplot()
    title = f"Loss, interrupted in epoch {len(history)}" if history.interrupted else "Loss"
    axes.set_title(title, color=colours.ink, loc="left", fontsize=12, fontweight="bold", pad=12)
    _paint(axes, colours)
    curves = [curve for curve in _curves(history, colours) if curve.losses]
    if not curves:
        axes.text(0.5, 0.5, "no epoch yet", color=colours.quiet, ha="center", transform=axes.transAxes)
        return figure
    _scale(axes, curves)
    for curve in curves:
        axes.plot(curve.epochs, curve.losses, color=curve.colour, linewidth=1.8, solid_capstyle="round")
        axes.plot(curve.epochs[-1], curve.losses[-1], "o", color=curve.colour, markersize=5, clip_on=False)
    _write_ends(axes, curves)
    return figure


def _curves(history: History, colours: Colours) -> list[_Curve]:
    measured = [(epoch.number, epoch.held_out_loss) for epoch in history if epoch.held_out_loss is not None]
    return [
        _Curve("training", colours.first, [e.number for e in history], [e.train_loss for e in history]),
        _Curve("held out", colours.second, [number for number, _ in measured], [loss for _, loss in measured]),
    ]


def _paint(axes: Axes, colours: Colours) -> None:
    axes.set_facecolor(colours.paper)
    axes.set_xlabel("epoch", color=colours.quiet)
    axes.tick_params(colors=colours.quiet, which="both", length=0)
    axes.grid(axis="y", color=colours.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours.line)


def _scale(axes: Axes, curves: Sequence[_Curve]) -> None:
    losses = [loss for curve in curves for loss in curve.losses]
    low, high = min(losses), max(losses)
    if low > 0:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 6, 8)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    first, last = min(curve.epochs[0] for curve in curves), max(curve.epochs[-1] for curve in curves)
    axes.set_xlim(first if last > first else first - 1, last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _write_ends(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Write each curve's name and last loss beside its end, the labels moved apart where the ends are close."""
    lowest = -math.inf
    for curve in sorted(curves, key=lambda curve: curve.losses[-1]):
        height = max(_height(axes, curve.losses[-1]), lowest + GAP)
        text = f"{curve.name} {curve.losses[-1]:.4f}"
        axes.text(1.02, height, text, color=curve.colour, va="center", fontweight="bold", transform=axes.transAxes)
        lowest = height


def _height(axes: Axes, loss: float) -> float:
    """Where a loss stands, as a part of the axes' height."""
    scaled = axes.transScale.transform([(1, value) for value in (*axes.get_ylim(), loss)])[:, 1]
    return float((scaled[2] - scaled[0]) / (scaled[1] - scaled[0]))
