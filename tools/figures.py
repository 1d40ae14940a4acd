"""Draw the figures of the docs, light and dark: `python tools/figures.py`; with names, only those.

Each file carries a digest of what is drawn on it, which tests/test_figures.py compares with what would be drawn now.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image

from obverse import Chain, Conv, ReLU, Sigmoid, mirror, sketches
from obverse.drawing import (
    Film,
    convolution,
    convolution_film,
    overlap_map,
    receptive_fields,
    remainder_fan,
    size_ladder,
    transposed_convolution,
    transposed_convolution_film,
)
from obverse.drawing.files import svg_of

IMAGES = Path(__file__).parents[1] / "docs/images"
THEMES = ("light", "dark")

TUTORIAL = Chain(
    Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7)
)  # fmt: skip
HALVED = Chain(*[Conv(8, 3, stride=2, padding=1), ReLU()] * 3)


def sketched(theme: str) -> str:
    """The hourglass of the front page, in the colours of a theme, whatever the reader's system prefers."""
    decoder = Chain(*mirror(TUTORIAL, (1, 28, 28)), Sigmoid())
    picture = sketches.hourglass(TUTORIAL.plan((1, 28, 28)), decoder.plan((12, 1, 1)))
    return picture.replace("<svg", f'<svg style="{sketches.DARK if theme == "dark" else sketches.LIGHT}"', 1)


FIGURES: dict[str, Callable[..., Figure | Film | str]] = {
    "hourglass.svg": sketched,
    "relationship-01.svg": lambda theme: convolution((4, 4), 3, cell=(0, 1), theme=theme),
    "relationship-02.svg": lambda theme: convolution((5, 5), 4, padding=2, cell=(0, 0), theme=theme),
    "relationship-03.svg": lambda theme: convolution((5, 5), 3, padding=1, cell=(0, 1), theme=theme),
    "relationship-04.svg": lambda theme: convolution((5, 5), 3, padding=2, cell=(0, 0), theme=theme),
    "relationship-05.svg": lambda theme: convolution((5, 5), 3, 2, cell=(0, 1), theme=theme),
    "relationship-06.svg": lambda theme: convolution_film((6, 6), 3, 2, 1, theme=theme),
    "relationship-07.svg": lambda theme: convolution((5, 5), 2, 2, cell=(1, 1), theme=theme),
    "relationship-08.svg": lambda theme: transposed_convolution((2, 2), 3, cell=(0, 1), theme=theme),
    "relationship-09.svg": lambda theme: transposed_convolution((6, 6), 4, 1, 2, cell=(0, 0), theme=theme),
    "relationship-10.svg": lambda theme: transposed_convolution((5, 5), 3, 1, 1, cell=(0, 1), theme=theme),
    "relationship-11.svg": lambda theme: transposed_convolution((7, 7), 3, 1, 2, cell=(0, 0), theme=theme),
    "relationship-12.svg": lambda theme: transposed_convolution((2, 2), 3, 2, cell=(2, 2), theme=theme),
    "relationship-13.svg": lambda theme: transposed_convolution((3, 3), 3, 2, 1, cell=(1, 1), theme=theme),
    "relationship-14.svg": lambda theme: transposed_convolution_film((2, 2), 3, 2, 1, 1, theme=theme),
    "relationship-15.svg": lambda theme: convolution_film((7, 7), 3, dilation=2, theme=theme),
    "row.svg": lambda theme: convolution(11, 3, 3, 1, 2, theme=theme),
    "remainder-fan.svg": lambda theme: remainder_fan(3, 4, 4, theme=theme),
    "overlap-odd.svg": lambda theme: overlap_map((5, 5), 3, 2, 1, theme=theme),
    "overlap-even.svg": lambda theme: overlap_map((5, 5), 4, 2, 1, theme=theme),
    "receptive-fields.svg": lambda theme: receptive_fields(TUTORIAL.plan((1, 28, 28)), theme=theme),
    "size-ladder.svg": lambda theme: size_ladder(HALVED, (1, 27, 31), (1, 32, 32), theme=theme),
}


def path_of(name: str, theme: str) -> Path:
    """Where a figure lies."""
    stem, kind = name.split(".")
    return IMAGES / f"{stem}-{theme}.{kind}"


def digest(picture: Figure | Film | str) -> str:
    """What is drawn, in 16 letters: shapes, colours and words, whatever backend writes them."""
    if isinstance(picture, str):
        return hashlib.sha256(picture.encode()).hexdigest()[:16]
    figure = picture.figure if isinstance(picture, Film) else picture
    return hashlib.sha256("\n".join(_drawn(figure)).encode()).hexdigest()[:16]


def _drawn(figure: Figure) -> Iterator[str]:
    yield f"{np.round(figure.get_size_inches(), 2).tolist()} {to_hex(figure.get_facecolor())}"
    for axes in figure.axes:
        yield f"{np.round([*axes.get_xlim(), *axes.get_ylim()], 2).tolist()}"
    for artist in figure.findobj():
        if isinstance(artist, Text) and artist.get_text():
            yield f"{artist.get_text()} {_short(artist.get_position())} {artist.get_color()} {artist.get_fontsize()}"
        elif isinstance(artist, Line2D):
            yield f"line {_short(artist.get_xydata())} {artist.get_color()}"
        elif isinstance(artist, Patch):
            colours = f"{to_hex(artist.get_facecolor(), True)} {to_hex(artist.get_edgecolor(), True)}"
            yield f"{artist.get_gid()} {_short(artist.get_path().vertices)} {colours} {artist.get_linewidth()}"
        elif isinstance(artist, AxesImage):
            yield f"image {_short(artist.get_array())}"


def _short(numbers: object) -> str:
    return str((np.round(np.asarray(numbers, dtype=float), 2) + 0.0).tolist())


def digest_in(path: Path) -> str:
    """The digest that a file carries; empty where there is none."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            return str(image.info.get("drawn", ""))
    found = re.search(r"<!-- drawn: (\w+) -->", path.read_text(encoding="utf-8"))
    return found[1] if found else ""


def save(name: str, theme: str) -> Path:
    """Draw a figure and write it."""
    picture, path = FIGURES[name](theme=theme), path_of(name, theme)
    drawn = digest(picture)
    if isinstance(picture, Figure) and path.suffix == ".png":
        picture.savefig(path, dpi=110, metadata={"drawn": drawn, "Software": None})
        Image.open(path).convert("RGB").quantize(64).save(path, optimize=True, pnginfo=_note(drawn))
    else:
        text = picture.svg() if isinstance(picture, Film) else picture if isinstance(picture, str) else svg_of(picture)
        path.write_text(f"{text}<!-- drawn: {drawn} -->\n", encoding="utf-8")
    return path


def _note(drawn: str) -> object:
    from PIL.PngImagePlugin import PngInfo

    note = PngInfo()
    note.add_text("drawn", drawn)
    return note


if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        for theme in THEMES:
            path = save(name, theme)
            sys.stdout.write(f"{path.relative_to(IMAGES.parent)}  {path.stat().st_size / 1000:.1f} kB\n")
