"""Blocks that move, add or drop cells and compute nothing: Flatten, Unflatten, Pad, Crop."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from obverse.arithmetic import check_border, differ, whole
from obverse.block import Block, variadic
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import by_axis, settle
from obverse.shapes import Shape, shape_text
from obverse.sight import Sight, Window

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    torch = Later("torch")
    modules = Later("obverse.modules")

__all__ = ["Crop", "Flatten", "Pad", "Unflatten"]


@dataclass(frozen=True, repr=False)
class Flatten(Block):
    """Axes laid end to end: `torch.nn.Flatten`.

    >>> Flatten().output_shape((12, 7, 7))
    (588,)
    >>> Flatten(2).output_shape((12, 7, 7)), Flatten(2).mirror((12, 7, 7))
    ((12, 49), Unflatten(2, (7, 7)))

    Args:
        start_dim: the first axis, counted as PyTorch does: 0 is the batch, 1 the channels.
        end_dim: the last axis; -1 is the last there is.

    Mirror: the `Unflatten` to the lengths that the shape had.

    Raises:
        ShapeError: for axes that the shape has not, or the batch among them.
    """

    start_dim: int = 1
    end_dim: int = -1

    adjoint = True

    def __post_init__(self) -> None:
        settle(self, start_dim=None, end_dim=None)

    def _span(self, shape: Shape) -> tuple[int, int]:
        """First and last axis of the shape, which has no batch."""
        start, end = (_axis(self, name, shape) for name in ("start_dim", "end_dim"))
        if start > end:
            raise self.refuse(shape, f"it starts at axis {start + 1} and ends at axis {end + 1}.", "Give end_dim=-1.")
        return start, end

    def output_shape(self, shape: Shape) -> Shape:
        start, end = self._span(shape)
        return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])

    def mirror(self, shape: Shape) -> Block:
        start, end = self._span(shape)
        return Unflatten(start + 1, tuple(shape[start : end + 1]))

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return torch.nn.Flatten(self.start_dim, self.end_dim)


@dataclass(frozen=True, repr=False)
class Unflatten(Block):
    """One axis folded into several: `torch.nn.Unflatten`.

    >>> Unflatten(1, (12, 7, 7)).output_shape((588,))
    (12, 7, 7)

    Args:
        dim: the axis to fold, counted as PyTorch does: 0 is the batch, 1 the channels.
        unflattened_size: the lengths to fold it into; one of them may be -1, what the others leave.

    The built module takes `forward(x, size=None)`, since a flattened map does not tell its height and width.

    Mirror: the `Flatten` of the axes that came of it.

    Raises:
        ShapeError: where the lengths do not multiply to the axis.
    """

    dim: int
    unflattened_size: tuple[int, ...]

    adjoint = True

    def __post_init__(self) -> None:
        settle(self, dim=None, unflattened_size=-1)
        sizes = self.unflattened_size
        if not isinstance(sizes, tuple) or not sizes or sizes.count(-1) > 1 or 0 in sizes:
            raise ShapeError(
                f"unflattened_size is a tuple of lengths, at most one of them -1; {sizes!r} was given.",
                "Give it as in Unflatten(1, (12, 7, 7)).",
                where="Unflatten",
            )

    def _lengths(self, shape: Shape) -> tuple[int, tuple[int, ...]]:
        axis = _axis(self, "dim", shape)
        known = prod([size for size in self.unflattened_size if size != -1])  # a list: Dynamo follows no generator here
        open_ended = -1 in self.unflattened_size
        if differ(shape[axis] % known, 0) if open_ended else differ(shape[axis], known):
            takes = f"{shape_text(self.unflattened_size)}, which takes {'multiples of ' * open_ended}{known}"
            raise self.refuse(
                shape,
                f"the {shape[axis]} cells of axis {axis + 1} cannot be folded into {takes}.",
                f"Put Linear({known}) in front of it."
                if axis == len(shape) - 1
                else f"Give it lengths that multiply to {shape[axis]}.",
            )
        return axis, tuple(shape[axis] // known if size == -1 else size for size in self.unflattened_size)

    def output_shape(self, shape: Shape) -> Shape:
        axis, lengths = self._lengths(shape)
        return (*shape[:axis], *lengths, *shape[axis + 1 :])

    def mirror(self, shape: Shape) -> Block:
        axis, lengths = self._lengths(shape)
        last = axis + len(lengths)
        return Flatten(axis + 1, -1 if axis == len(shape) - 1 else last)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        axis, _ = self._lengths(shape)
        return modules.Unflatten(axis + 1, self.unflattened_size)  # a -1 in it holds at other sizes too


def _axis(block: Block, name: str, shape: Shape) -> int:
    """An axis of a shape without batch, from one that is counted with it."""
    dim: int = getattr(block, name)
    axis = dim + len(shape) if dim < 0 else dim - 1
    if not 0 <= axis < len(shape):
        what = "the batch" if dim in (0, -len(shape) - 1) else f"no axis of {shape_text(shape)}"
        raise block.refuse(
            shape, f"{name}={dim} is {what}: axes count from 1, the channels.", f"Give {name} from 1 to {len(shape)}."
        )
    return axis


@dataclass(frozen=True, repr=False, init=False)
class Pad(Block):
    """Cells added around: `torch.nn.functional.pad`, in any number of dimensions.

    >>> Pad(1).output_shape((3, 28, 28)), Pad((0, 1), (2, 2)).output_shape((3, 28, 28))
    ((3, 30, 30), (3, 29, 32))
    >>> Pad((0, 1)).mirror((3, 28, 28))
    Crop((0, 1))

    Args:
        *padding: `(before, after)` for each spatial axis, in the order of the shape (PyTorch's own goes backwards);
            one pair, or one number, holds for all axes. A negative amount crops.
        mode: what the new cells hold: `"constant"`, `"reflect"`, `"replicate"` or `"circular"`.
        value: the constant.

    Mirror: the `Crop` of the same amounts.

    Raises:
        ShapeError: where nothing is left, and where PyTorch cannot reflect that many cells.
    """

    padding: tuple[tuple[int, int], ...] = variadic()
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float = 0.0

    def __init__(self, *padding: Any, mode: Any = "constant", value: float = 0.0) -> None:
        object.__setattr__(self, "padding", _pairs("Pad", padding))
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "value", value)
        if mode not in ("constant", "reflect", "replicate", "circular"):
            raise ShapeError(
                f"mode={mode!r} is none of 'constant', 'reflect', 'replicate', 'circular'.",
                "Give mode='constant'.",
                where="Pad",
            )
        if mode != "constant" and any(amount < 0 for pair in self.padding for amount in pair):
            raise ShapeError(
                "only constant padding can be negative.", "Give mode='constant', or use Crop.", where="Pad"
            )

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        """Padding with zeros is linear, and cropping its transpose."""
        return self.mode == "constant" and self.value == 0

    def _size_after(self, size: Any, before: int, after: int) -> Any:
        check_border(self.mode, size, before, after)
        return _size_padded(size, before, after)

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *by_axis(self, shape, self._size_after, _pairs_for(self, self.padding, shape)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return Crop(*self.padding)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return modules.Pad(_pairs_for(self, self.padding, shape), self.mode, self.value)

    def windows(self, shape: Shape) -> Sight:
        if self.mode == "circular" and any(amount for pair in self.padding for amount in pair):
            return None  # a cell at one end sees those at the other
        return tuple(Window(centre=-before) for before, _ in _pairs_for(self, self.padding, shape))


@dataclass(frozen=True, repr=False, init=False)
class Crop(Block):
    """Cells dropped at the borders; a crop of 0 stays a crop.

    >>> Crop((0, 1)).output_shape((3, 29, 29)), Crop((0, 1)).mirror((3, 29, 29))
    ((3, 28, 28), Pad((0, 1)))

    Args:
        *cropping: `(before, after)` for each spatial axis, in the order of the shape; one pair, or one number, holds
            for all axes. A negative amount adds zeros.

    Mirror: the `Pad` of the same amounts, with zeros.

    Raises:
        ShapeError: where nothing is left.
    """

    cropping: tuple[tuple[int, int], ...] = variadic()

    adjoint = True

    def __init__(self, *cropping: Any) -> None:
        object.__setattr__(self, "cropping", _pairs("Crop", cropping))

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], *by_axis(self, shape, _size_cropped, _pairs_for(self, self.cropping, shape)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        return Pad(*self.cropping)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return modules.Pad([(-before, -after) for before, after in _pairs_for(self, self.cropping, shape)])

    def windows(self, shape: Shape) -> tuple[Window, ...]:
        return tuple(Window(centre=before) for before, _ in _pairs_for(self, self.cropping, shape))


def _size_cropped(size: Any, before: int, after: int) -> Any:
    return _size_padded(size, -before, -after)


def _size_padded(size: Any, before: int, after: int) -> Any:
    kept = size + min(before, 0) + min(after, 0)  # PyTorch drops cells first, of those that are there
    if (kept < 0) is True or (size + before + after < 1) is True:
        raise ShapeError(f"{min(kept, size + before + after)} cells would be left.")
    return size + before + after


def _pairs(block: str, amounts: tuple[Any, ...]) -> tuple[tuple[int, int], ...]:
    """Amounts as given, each as a pair."""
    if (
        len(amounts) == 1
        and isinstance(amounts[0], (list, tuple))
        and any(isinstance(a, (list, tuple)) for a in amounts[0])
    ):
        amounts = tuple(amounts[0])  # the pairs as one tuple
    if not amounts:
        raise ShapeError("it needs an amount.", f"Give {block}(1), or {block}((0, 1)).", where=block)
    try:
        return tuple(_pair(amount) for amount in amounts)
    except ShapeError as error:
        raise ShapeError(error.reason, error.repair, where=block) from None


def _pair(amount: Any) -> tuple[int, int]:
    if not isinstance(amount, (list, tuple)):
        amount = (amount, amount)
    if len(amount) != 2:
        raise ShapeError(f"(before, after) is a pair; {amount!r} was given.", "Give one pair an axis.")
    return whole("before", amount[0]), whole("after", amount[1])


def _pairs_for(block: Block, pairs: tuple[tuple[int, int], ...], shape: Shape) -> tuple[tuple[int, int], ...]:
    rank = len(shape) - 1
    if not rank or len(pairs) not in (1, rank):
        raise block.refuse(
            shape,
            f"{len(pairs)} pairs are given, and the shape has {rank} spatial axes."
            if rank
            else "this shape has no spatial axes.",
            f"Give one pair for all, or {rank} pairs." if rank else "Put Unflatten in front of it.",
        )
    return pairs * rank if len(pairs) == 1 else pairs
