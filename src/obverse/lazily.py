"""Modules that are imported when they are first used: how the upper half reaches torch, and only where it builds."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """A module that is imported when something of it is first asked for.

    >>> fractions = Lazily("fractions")
    >>> fractions.Fraction(1, 2)
    Fraction(1, 2)

    `lazy_loader.load` would put a stub into `sys.modules`, for all the program. Whoever walks through that wakes it up:
    `inspect` does, while torch itself is being imported, and then modules that need torch are imported too early.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
