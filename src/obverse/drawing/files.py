"""Small SVGs: text as text, numbers no longer than they need be, the same bytes each time."""

from __future__ import annotations

import re
from io import StringIO

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["svg_of"]

NUMBER = re.compile(r"-?\d+\.\d{3,}")
SQUARE = re.compile(r"M (\S+) (\S+) L (\S+) \2 L \3 (\S+) L \1 \4 z ?")


def svg_of(figure: Figure) -> str:
    """A figure as an SVG: its words can be searched, and it scales to whatever holds it.

    >>> from obverse.drawing import convolution
    >>> svg = svg_of(convolution((5, 5), 3))
    >>> "input 5×5</text>" in svg, len(svg) < 12_000
    (True, True)
    """
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "obverse"}), StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</defs>", "", text, count=1, flags=re.DOTALL)
    for measure in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {measure}="[^"]*"', r"\1", text, count=1)
    text = NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), text)
    return re.sub(r' d="([^"]*)"', _short, re.sub(r"\s*\n\s*", "\n", text))


def _short(path: re.Match[str]) -> str:
    """A path on one line, its squares by their edges."""
    line = " ".join(path[1].split())
    return ' d="' + SQUARE.sub(r"M\1 \2H\3V\4H\1z", line) + '"'
