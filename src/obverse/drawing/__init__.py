"""Pictures: the mirror as an hourglass, the loss, originals above their reconstructions.

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

from obverse.drawing.hourglasses import hourglass
from obverse.drawing.losses import loss_curves
from obverse.drawing.pictures import reconstructions

__all__ = ["hourglass", "loss_curves", "reconstructions"]
