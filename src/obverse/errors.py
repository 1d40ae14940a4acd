"""What can go wrong, as a tree.

    ObverseError
    ├── ShapeError     a size, a shape or an argument that cannot be (also a ValueError)
    ├── MirrorError    a block that has no mirror (also a TypeError)
    ├── ConfigError    a config that describes no block (also a ValueError)
    └── RegistryError  a block's name that is unknown, or taken twice (also a LookupError)

Each says what was asked, what was given, why it cannot be, and what to change.
"""

from __future__ import annotations

from collections.abc import Callable


class ObverseError(Exception):
    """The root of everything that obverse raises on purpose.

    >>> try:
    ...     raise ObverseError("the kernel spans 5 cells, and only 4 are left.", "Give it padding=1.")
    ... except ObverseError as error:
    ...     print(error)
    the kernel spans 5 cells, and only 4 are left.
    Give it padding=1.
    """

    def __init__(self, reason: str, repair: str = "") -> None:
        super().__init__(reason, repair)

    @property
    def reason(self) -> str:
        """What was asked, what was given, and why it cannot be."""
        return str(self.args[0])

    @property
    def repair(self) -> str:
        """What to change, ready to paste; empty where nothing can be advised."""
        return str(self.args[1])

    def __str__(self) -> str:
        return f"{self.reason}\n{self.repair}" if self.repair else self.reason


class ShapeError(ObverseError, ValueError):
    """A size, a shape or an argument that cannot be.

    >>> from obverse import Conv
    >>> Conv(16, 5).output_shape((3, 4, 9))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: Conv(16, 5) at 3×4×9: the kernel spans 5 cells, and only 4 are left along H.
    Give it padding=1, or an input of at least 5×9.

    Advice costs a search for sizes that would do, and most refusals are read by nobody, since one size is tried after
    another. So it is worked out when it is first read.

    Args:
        reason: what was given, and why it cannot be; or a function that gives the whole error when it is read.
        repair: what to change about the block, ready to paste.
        nearest: what to change about the input: the nearest sizes that would do.
        where: the block and the shape at which it was asked, or the chain and the place in it.
    """

    def __init__(
        self, reason: str | Callable[[], ShapeError], repair: str = "", nearest: str = "", where: str = ""
    ) -> None:
        super().__init__("", repair)
        self.args = (reason, repair, nearest, where)  # all four, so that a pickled error says the same

    def _read(self) -> tuple[str, str, str, str]:
        if callable(self.args[0]):
            self.args = self.args[0]()._read()
        return self.args

    @property
    def reason(self) -> str:
        """What was given, and why it cannot be."""
        return self._read()[0]

    @property
    def repair(self) -> str:
        """What to change about the block, ready to paste."""
        return self._read()[1]

    @property
    def nearest(self) -> str:
        """What to change about the input: the nearest sizes that would do."""
        return self._read()[2]

    @property
    def where(self) -> str:
        """The block and the shape at which it was asked, or the chain and the place in it."""
        return self._read()[3]

    def __reduce__(self) -> tuple[type[ShapeError], tuple[str, str, str, str]]:
        return ShapeError, self._read()

    def advice(self) -> str:
        """What to change: the block, or else the input."""
        if not self.nearest:
            return self.repair
        if not self.repair:
            return f"Give it {self.nearest}."
        return f"{self.repair.removesuffix('.')}, or {self.nearest}."

    def __str__(self) -> str:
        said = f"{self.where}: {self.reason}" if self.where else self.reason
        advice = self.advice()
        return f"{said}\n{advice}" if advice else said


class MirrorError(ObverseError, TypeError):
    """A block that has no mirror.

    >>> issubclass(MirrorError, ObverseError)
    True
    """


class ConfigError(ObverseError, ValueError):
    """A config that describes no block.

    >>> issubclass(ConfigError, ObverseError)
    True
    """


class RegistryError(ObverseError, LookupError):
    """A block's name that is unknown, or that two packages claim.

    >>> from obverse.registry import block_class
    >>> block_class("Convv")
    Traceback (most recent call last):
        ...
    obverse.errors.RegistryError: no block is called 'Convv'.
    Did you mean 'Conv'?
    """
