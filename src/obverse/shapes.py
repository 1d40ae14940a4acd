"""Shapes: what one example has, without the batch, `(C, *spatial)`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from obverse.arithmetic import whole
from obverse.errors import ShapeError
from obverse.symbols import formula_text, is_symbolic, symbol

__all__ = ["Shape", "as_shape", "at_axes", "shape_text"]

Shape = tuple[int, ...]


def as_shape(shape: Any) -> Shape:
    """The shape of one example as a tuple of integers.

    >>> as_shape([1, 28, 28]), as_shape((1, "H", "W"))    # a letter stands for any size, as a symbol of sympy
    ((1, 28, 28), (1, H, W))

    Raises:
        ShapeError: for anything else: a size below 1, a bool, a float, the batch as `None` or -1.
    """
    if type(shape) is tuple and shape and all(type(size) is int and size > 0 for size in shape):
        return shape
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Iterable):
        raise ShapeError(
            f"a shape is a tuple of integers; {shape!r} was given.", "Give (C, *spatial), as in (1, 28, 28)."
        )
    sizes = tuple(shape)
    if not sizes:
        raise ShapeError("a shape has at least its channels; () was given.", "Give (C, *spatial), as in (1, 28, 28).")
    if sizes[0] is None or (type(sizes[0]) is int and sizes[0] == -1):
        rest = ", ".join(map(str, sizes[1:]))
        raise ShapeError(
            f"a shape is that of one example, without the batch; {sizes!r} begins with {sizes[0]}.",
            f"Leave the batch out: ({rest}{',' * (len(sizes) == 2)}).",
        )
    return tuple([_size(axis, size, sizes) for axis, size in enumerate(sizes)])


def _size(axis: int, size: Any, sizes: tuple[Any, ...]) -> Any:
    if isinstance(size, str) and size.isidentifier():
        if axis:
            return symbol(size)
        raise ShapeError(
            f"the channels of the shape {sizes!r} are {size!r}, and only sizes can be letters.",
            "Give a number of channels, as in (1, 'H', 'W').",
        )
    try:
        return whole("size", size, 1)
    except ShapeError:
        what = "below 1" if type(size) is int else f"a {type(size).__name__}"
        raise ShapeError(
            f"axis {axis} of the shape {sizes!r} is {size!r}, {what}.",
            "Give whole numbers from 1 up, as in (1, 28, 28).",
        ) from None


def shape_text(shape: Iterable[Any]) -> str:
    """A shape as people write it.

    >>> shape_text((1, 28, 28))
    '1×28×28'
    """
    try:
        sizes = tuple(shape)
        if any(is_symbolic(size) for size in sizes):
            return " × ".join(map(formula_text, sizes))
        return "×".join(map(str, sizes)) or "()"
    except TypeError:
        return repr(shape)


_AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def at_axes(shape: Shape, axes: Iterable[int]) -> str:
    """Where in a shape something happens, by the letters that PyTorch uses.

    >>> at_axes((1, 28, 28), [0, 1]), at_axes((2, 16000), [0])
    ('along H and W', 'along L')
    """
    letters = _AXES.get(len(shape) - 1) or tuple(f"axis {axis + 1}" for axis in range(len(shape) - 1))
    return "along " + " and ".join(letters[axis] for axis in axes)


def axis_letter(axes: int, axis: int) -> str:
    """The letter of an axis of a shape, the channels being axis 0."""
    letters = _AXES.get(axes - 1)
    return letters[axis - 1] if letters else f"axis {axis}"


def beginners_batch(shape: Shape) -> str:
    """A hint where a shape that was refused looks as if it had the batch in it, else nothing."""
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] > shape[1]:
        return f"If {shape[0]} is the batch, leave it out: {tuple(shape[1:])}."
    return ""
