"""Modules that are imported when they are first used, so that the upper half needs no torch until a block is built."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """A module that is imported when something of it is first asked for.

    >>> fractions = Later("fractions")
    >>> fractions.Fraction(1, 2)
    Fraction(1, 2)

    Unlike a stub in `sys.modules`, it is not run by those who look through all modules, as `inspect.stack` does: where
    torch is missing that would fail, and where it is there it would be imported for nothing.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
