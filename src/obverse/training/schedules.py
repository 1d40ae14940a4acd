"""How the learning rate moves: functions from the part of all steps that has been taken to a factor."""

from __future__ import annotations

import math

__all__ = ["constant", "one_cycle"]


def constant(progress: float) -> float:
    """Keep the learning rate as it is: 1 at every `progress`.

    >>> constant(0.0), constant(0.5)
    (1.0, 1.0)
    """
    return 1.0


def one_cycle(progress: float) -> float:
    """Raise the learning rate from a twenty-fifth over the first 15 % of the steps, then let it fall to 0.

    Both ways along a cosine, after Smith & Topin, *Super-convergence* (arXiv:1708.07120). It stands a learning rate
    three times higher than a constant one, and ends where the steps are small.

    >>> [round(one_cycle(progress), 2) for progress in (0, 0.15, 0.5, 1)]
    [0.04, 1.0, 0.64, 0.0]

    Args:
        progress: the part of all steps that has been taken, 0..1.

    Returns:
        The factor of the learning rate, 0..1.
    """
    start, top = 1 / 25, 0.15
    if progress < top:
        return 1 - (1 - start) * _cosine(progress / top)
    return _cosine((progress - top) / (1 - top))


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
