"""Pictures: the mirror as an hourglass, convolution arithmetic, what cells see, losses, reconstructions.

Each function gives a `matplotlib.figure.Figure` and leaves matplotlib's global state (pyplot, its settings) alone, so
the pictures come out the same on a server without a screen. `theme="dark"` gives light lines on a dark ground.

    hourglass(model).savefig("hourglass.png", dpi=150)
"""

try:
    import matplotlib as _matplotlib  # noqa: F401  asked for here, so that one message serves every file
except ImportError as error:
    raise ImportError(
        f'obverse.drawing needs the package {error.name}.\nInstall it with: pip install "obverse[drawing]"',
        name=error.name,
    ) from None

from obverse.drawing.convolutions import (
    convolution,
    convolution_film,
    transposed_convolution,
    transposed_convolution_film,
)
from obverse.drawing.fields import receptive_fields
from obverse.drawing.films import Film
from obverse.drawing.hourglasses import hourglass
from obverse.drawing.images import code_walk, pictures, reconstructions
from obverse.drawing.ladders import size_ladder
from obverse.drawing.losses import loss_curves
from obverse.drawing.sizes import overlap_map, remainder_fan

__all__ = [
    "Film",
    "code_walk",
    "convolution",
    "convolution_film",
    "hourglass",
    "loss_curves",
    "overlap_map",
    "pictures",
    "receptive_fields",
    "reconstructions",
    "remainder_fan",
    "size_ladder",
    "transposed_convolution",
    "transposed_convolution_film",
]
