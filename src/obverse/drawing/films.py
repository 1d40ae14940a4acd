"""Pictures that move: one figure, and for each frame what of it is shown."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from obverse.drawing.files import svg_of
from obverse.errors import ObverseError

__all__ = ["Film"]


@dataclass(frozen=True, eq=False)
class Film:
    """A picture that moves: what stands still is drawn once, and each frame shows artists of its own.

    >>> from obverse.drawing import convolution_film
    >>> film = convolution_film(5, 3, stride=2)
    >>> len(film), film.svg(seconds=1).count("frame-1-seen")
    (2, 1)

    Attributes:
        figure: the figure, with the artists of all frames in it.
        frames: what each frame shows; the names of their artists begin with `frame-0-`, `frame-1-` and so on.
    """

    figure: Figure
    frames: tuple[tuple[Artist, ...], ...]

    def __len__(self) -> int:
        return len(self.frames)

    def save(self, path: str | Path, *, seconds: float = 0.6, dpi: int = 150) -> None:
        """Write an animated GIF, or an animated SVG, as the file's name ends.

        Args:
            path: ends in `.gif` or `.svg`.
            seconds: how long a frame stays.
            dpi: pixels an inch, of a GIF.

        Raises:
            ObverseError: for another ending.
        """
        kind = Path(path).suffix.lower()
        if kind == ".svg":
            Path(path).write_text(self.svg(seconds=seconds), encoding="utf-8")
        elif kind == ".gif":
            first, *others = self.images(dpi)
            duration = round(1000 * seconds)
            first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)
        else:
            raise ObverseError(f"a film is no {kind or 'file without an ending'}.", "Name it .gif or .svg.")

    def images(self, dpi: int = 150) -> list[Image.Image]:
        """Every frame in pixels, with one palette for all."""
        self.figure.set_dpi(dpi)
        canvas: Any = FigureCanvasAgg(self.figure)
        shown = []
        try:
            for number in range(len(self)):
                self._show(number)
                canvas.draw()
                shown.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        finally:
            self._show(None)
        palette = shown[0].quantize(128, dither=Image.Dither.NONE)
        return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in shown]

    def svg(self, *, seconds: float = 0.6) -> str:
        """An SVG that moves by its own style, without a script; it stands still for those who ask for less motion."""
        return re.sub(
            r"(<svg[^>]*>)", lambda found: found[1] + _style(len(self), seconds), svg_of(self.figure), count=1
        )

    def _repr_html_(self) -> str:
        encoded = b64encode(self.svg().encode()).decode()
        return f'<img alt="a window that slides" src="data:image/svg+xml;base64,{encoded}">'

    def _show(self, number: int | None) -> None:
        for at, artists in enumerate(self.frames):
            _set_visible(artists, number in (at, None))


def _set_visible(artists: Sequence[Artist], visible: bool) -> None:
    for artist in artists:
        artist.set_visible(visible)


def _style(frames: int, seconds: float) -> str:
    whole = frames * seconds
    share = f"{100 / frames:.4g}%"
    delays = "".join(f'[id^="frame-{at}-"]{{animation-delay:{at * seconds:g}s}}' for at in range(frames))
    return (
        f'<style>[id^="frame-"]{{visibility:hidden;animation:shown {whole:g}s step-end infinite}}{delays}'
        f"@keyframes shown{{0%{{visibility:visible}}{share}{{visibility:hidden}}}}"
        '@media (prefers-reduced-motion:reduce){[id^="frame-"]{animation:none}[id^="frame-0-"]{visibility:visible}}'
        "</style>"
    )
