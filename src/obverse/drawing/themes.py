"""The colours of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from obverse.errors import ObverseError

__all__ = ["Colours", "Theme", "colours_of"]

Theme = Literal["light", "dark"]


@dataclass(frozen=True)
class Colours:
    """What the parts of a picture are painted with.

    Attributes:
        paper: the ground.
        ink: what is read first.
        quiet: what is read second.
        line: grids and rules.
        first: the encoder, the originals, the training loss.
        second: the decoder, the reconstructions, the held-out loss.
        waist: the code.
    """

    paper: str
    ink: str
    quiet: str
    line: str
    first: str
    second: str
    waist: str

    def faint(self, colour: str, part: float = 0.25) -> str:
        """A colour thinned with the paper, so that nothing need be transparent.

        >>> colours_of("light").faint("#000000", 0.5)
        '#808080'
        """
        pairs = [(int(colour[at : at + 2], 16), int(self.paper[at : at + 2], 16)) for at in (1, 3, 5)]
        return "#" + "".join(f"{round(part * one + (1 - part) * other + 1e-9):02x}" for one, other in pairs)


_THEMES = {
    "light": Colours("#ffffff", "#1d2430", "#6a7382", "#dfe3e8", "#2f6db3", "#d1782a", "#7b3f98"),
    "dark": Colours("#14181f", "#e7eaee", "#97a1af", "#333b47", "#6aa5e6", "#eda35c", "#c38be0"),
}


def colours_of(theme: Theme) -> Colours:
    """Give the colours of a theme.

    >>> colours_of("light").paper, colours_of("dark").paper
    ('#ffffff', '#14181f')

    Raises:
        ObverseError: there is no such theme.
    """
    if theme not in _THEMES:
        raise ObverseError(f"theme={theme!r} is unknown.", f"Give one of {', '.join(map(repr, _THEMES))}.")
    return _THEMES[theme]
