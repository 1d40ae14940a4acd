"""Which numbers an output can give, and whether they are those that it is to give back."""

from __future__ import annotations

import sys
import warnings
from math import inf
from typing import Any

import torch
from torch import Tensor

from obverse.block import Block
from obverse.blocks.pointwise import Pointwise, ReLU, Sigmoid, Softplus, Tanh
from obverse.chain import Chain

__all__ = ["RangeWarning", "range_of", "repair_of", "warn_if_out_of_reach"]

Range = tuple[float, float]


class RangeWarning(UserWarning):
    """What a model is given in training is far from what its output can give.

    >>> from obverse import Autoencoder, Conv
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     _ = Autoencoder(Conv(4, 3), (1, 8, 8), output=Sigmoid())(torch.linspace(0, 255, 64).view(1, 1, 8, 8))
    >>> caught[0].category.__name__, str(caught[0].message).splitlines()[1]
    ('RangeWarning', 'Give x / 255.')

    It is given once, on the first batch in training. If other targets are meant than what goes in, turn it off:
    `warnings.simplefilter("ignore", RangeWarning)`.
    """


RANGES: dict[type, Range] = {Sigmoid: (0, 1), Tanh: (-1, 1), ReLU: (0, inf), Softplus: (0, inf)}
BY_NAME: dict[str, Range] = {"Hardsigmoid": (0, 1), "Softsign": (-1, 1), "ReLU6": (0, 6), "LogSigmoid": (-inf, 0)}


def range_of(output: Block | None) -> Range | None:
    """The least and the largest number that an output gives; `None` where there is no bound.

    >>> range_of(Sigmoid()), range_of(Pointwise("Hardtanh", max_val=3.0)), range_of(None)
    ((0, 1), (-1.0, 3.0), None)
    """
    if isinstance(output, Chain):
        return range_of(output.blocks[-1])
    if isinstance(output, Pointwise) and output.name == "Hardtanh":
        given = dict(output.arguments)
        return given.get("min_val", -1.0), given.get("max_val", 1.0)
    return BY_NAME.get(output.name) if isinstance(output, Pointwise) else RANGES.get(type(output))


def repair_of(reach: Range, least: float, most: float) -> str:
    """What to do with numbers of which some are out of reach.

    >>> repair_of((0, 1), 0, 255), repair_of((-1, 1), 0, 255)
    ('Give x / 255.', 'Give x / 127.5 - 1.')
    """
    if least >= 0 and 1 < most <= 255 and reach in ((0, 1), (-1, 1)):
        return "Give x / 255." if reach[0] == 0 else "Give x / 127.5 - 1."
    wanted = f"from {reach[0]:g} to {reach[1]:g}" if inf not in (-reach[0], reach[1]) else "within it"
    return (
        f"Leave output out, which gives any number; or give numbers {wanted}, and normalise inside of the encoder, "
        "as its first layer."
    )


@torch.no_grad()
def warn_if_out_of_reach(output: Block | None, x: Tensor) -> None:
    """Warn where much of a batch is well outside of what the output gives.

    More than a tenth of the numbers, by more than a quarter of the range: so the noise that a denoising autoencoder is
    given does not count, and images that were normalised, or that go up to 255, do.

    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn_if_out_of_reach(Tanh(), torch.linspace(0, 255, 100))
    >>> print(caught[0].message)
    output=Tanh() gives -1 to 1, and 99 % of the numbers in this batch, 0 to 255, are far out of its reach: they \
cannot be given back.
    Give x / 127.5 - 1.
    """
    reach = range_of(output)
    if reach is None or x.is_meta or not x.numel():
        return
    margin = 0.25 * (reach[1] - reach[0]) if inf not in (-reach[0], reach[1]) else 0.25
    try:
        share = float(((x < reach[0] - margin) | (x > reach[1] + margin)).float().mean())
        least, most = float(x.min()), float(x.max())
    except RuntimeError:  # numbers that cannot be looked at: under torch.func.vmap, or of a fake tensor
        return
    if share > 0.1:
        said = (
            f"output={output!r} gives {reach[0]:g} to {reach[1]:g}, and {100 * share:.0f} % of the numbers in this "
            f"batch, {least:.3g} to {most:.3g}, are far out of its reach: they cannot be given back."
        )
        warnings.warn(f"{said}\n{repair_of(reach, least, most)}", RangeWarning, stacklevel=_level())


def _level() -> int:
    """How far up the code is that called the model."""
    level, frame = 1, sys._getframe(1)
    while _is_inside(frame) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def _is_inside(frame: Any) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name.split(".")[0] in ("obverse", "torch", "accelerate")
