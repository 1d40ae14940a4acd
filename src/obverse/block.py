"""The contract that every block keeps: the one page to read before writing a block of your own.

A block is a value. It holds settings, no weights, and knows three things:

* `output_shape(shape)`: the shape that comes out, by arithmetic;
* `mirror(shape)`: the block that takes that shape back;
* `build(shape)`: its `torch.nn.Module`.

A *shape* is what one example has, without the batch: `(C, *spatial)`, such as `(1, 28, 28)`. Channels and the number of
dimensions are never written into a block, since the shape tells them.

Write a block as one frozen dataclass:

```python
from dataclasses import dataclass
from obverse import Block

@dataclass(frozen=True, repr=False)
class Double(Block):
    pointwise = True    # every shape stays, so there is nothing else to say

    def build(self, shape):
        from torch import nn

        class Doubled(nn.Module):
            def forward(self, x):
                return 2 * x

        return Doubled()
```
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, field, fields, replace
from fractions import Fraction
from math import prod
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from obverse.arithmetic import whole
from obverse.errors import ShapeError

if TYPE_CHECKING:
    from torch import nn

    from obverse.chain import Chain

__all__ = ["Block", "Shape", "Sight", "Window", "as_shape", "at_axes", "composed", "shape_text", "united"]

Shape = tuple[int, ...]


def variadic() -> Any:
    """A field of a block that is written as separate positional arguments, as a chain's blocks are."""
    return field(metadata={"variadic": True})


class Window(NamedTuple):
    """What one cell that a block gives out sees of the cells that went in, along one axis.

    >>> Window(3, stride=2, centre=0)      # Conv(…, 3, stride=2, padding=1)
    Window(size=3, stride=2, centre=0)

    Attributes:
        size: how many cells it sees, at most.
        stride: how far the window moves from one cell to the next; a fraction where sizes grow.
        centre: where the first window's middle is, the middle of the first cell being 0.
    """

    size: int = 1
    stride: int | Fraction = 1
    centre: int | Fraction = 0


ITSELF = Window()
"""A cell sees the cell in its own place."""

Sight = tuple[Window, ...] | None
"""Windows along every axis; `None` where a cell sees everything, or axes are mixed."""


def composed(first: Sight, then: Sight) -> Sight:
    """What is seen through two blocks, one after the other.

    Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equations 1 to 4, with
    middles in place of left ends.

    >>> conv = (Window(3, stride=2, centre=0),)
    >>> composed(conv, conv)
    (Window(size=7, stride=4, centre=0),)
    """
    if first is None or then is None or len(first) != len(then):
        return None
    return tuple([_through(a, b) for a, b in zip(first, then, strict=True)])


def _through(first: Window, then: Window) -> Window:
    if then is ITSELF:
        return first
    size, stride, centre = first
    further, step, offset = then
    moved, middle = stride * step, centre + offset * stride
    if type(moved) is type(middle) is int:
        return Window(int(size + (further - 1) * stride), moved, middle)
    return Window(int(size + (further - 1) * stride), _plain(moved), _plain(middle))


def united(first: Sight, second: Sight) -> Sight:
    """What is seen by either of two ways.

    >>> united((Window(3, 1, 0),), (Window(1, 1, 0),))
    (Window(size=3, stride=1, centre=0),)
    """
    if first is None or second is None or len(first) != len(second):
        return None
    if any(a.stride != b.stride for a, b in zip(first, second, strict=True)):
        return None
    return tuple([_hull(a, b) for a, b in zip(first, second, strict=True)])


def _hull(a: Window, b: Window) -> Window:
    if a == b:
        return a
    low = min(2 * a.centre - a.size, 2 * b.centre - b.size)
    high = max(2 * a.centre + a.size, 2 * b.centre + b.size)
    return Window(int(Fraction(high - low, 2)), a.stride, _plain(Fraction(high + low, 4)))


def _plain(number: int | Fraction) -> int | Fraction:
    """An integer where the number is one."""
    return number if type(number) is int else int(number) if number.denominator == 1 else number


class Block:
    """A value that knows its output shape, its mirror, and how to build its module.

    >>> from obverse import Conv
    >>> block = Conv(16, 3, stride=2, padding=1)
    >>> block.output_shape((1, 28, 28)), block.output_shape((1, 27, 27))    # the same: the mirror must be told which
    ((16, 14, 14), (16, 14, 14))
    >>> block.mirror((1, 28, 28))
    ConvTranspose(1, 3, stride=2, padding=1, output_padding=1)
    >>> block.mirror((1, 27, 27))
    ConvTranspose(1, 3, stride=2, padding=1)

    Subclasses are frozen dataclasses. They define `build`, and either `output_shape` and `mirror` or
    `pointwise = True`.

    Attributes:
        pointwise: the block keeps every shape and acts on values only (activation, norm, dropout). A run of such
            blocks is mirrored as a whole and keeps its order inside.
        around: how its module uses what goes round the code: it `"gives"` (an encoder's part), `"takes"` (its
            mirror's part), or neither. Such a module has `forward(x, around=None)`, a list to append to or to pop from.
        adjoint: the block is linear apart from its bias, and its mirror with the same weights is its transpose.
    """

    pointwise: ClassVar[bool] = False
    adjoint: bool = False
    around: Literal["", "gives", "takes"] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.pointwise:
            return
        missing = [name for name in ("output_shape", "mirror") if getattr(cls, name) is getattr(Block, name)]
        if missing:
            raise TypeError(
                f"{cls.__name__} is a Block without {' and '.join(missing)}. "
                f"Define {'it' if len(missing) == 1 else 'them'}, or set pointwise = True if every shape stays."
            )

    def output_shape(self, shape: Shape) -> Shape:
        """The shape that comes out, by arithmetic.

        Raises:
            ShapeError: for exactly the shapes that the built module refuses.
        """
        return as_shape(shape)

    def mirror(self, shape: Shape) -> Block:
        """The block that takes `output_shape(shape)` back to `shape`."""
        return self

    def build(self, shape: Shape) -> nn.Module:
        """The module, for inputs of the given shape.

        If its output's size is not settled by its input (a transposed convolution that must be told the remainder),
        its `forward(x, size=None)` takes the spatial sizes to give out; without them it gives the planned ones.
        """
        raise NotImplementedError(f"{type(self).__name__} has no build(shape)")

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Name and shape of every parameter of the module, as its `named_parameters()` will give them."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiplications with a weight that one example costs."""
        return 0

    def windows(self, shape: Shape) -> Sight:
        """For every spatial axis what one cell sees; `None` if a cell sees everything, or axes are mixed."""
        return (ITSELF,) * (len(shape) - 1) if self.pointwise else None

    def notes(self, shape: Shape) -> tuple[str, ...]:
        """What a plan says about it under its table, a sentence each."""
        return ()

    def numbers_around(self, shape: Shape) -> int:
        """How many numbers it hands round the code for one example."""
        return 0

    def parameters(self, shape: Shape) -> int:
        """How many numbers the module learns."""
        return sum([prod(size) for size in self.parameter_shapes(shape).values()])

    def refuse(self, shape: Shape, reason: str, repair: str = "", nearest: str = "") -> ShapeError:
        """The error to raise for a shape: it names the block and the shape before the reason."""
        return ShapeError(reason, repair, nearest, where=f"{self!r} at {shape_text(shape)}")

    def __rshift__(self, other: Block) -> Chain:
        """`a >> b` composes as `Chain(a, b)` does, without nesting what is already a chain."""
        from obverse.chain import Chain

        if not isinstance(other, Block):
            return NotImplemented
        return Chain(*_links(self), *_links(other))

    def __repr__(self) -> str:
        """Source that makes an equal block: required arguments by position, the rest by keyword, defaults left out."""
        return f"{type(self).__name__}({', '.join(_arguments(self))})"


def _links(block: Block) -> tuple[Block, ...]:
    from obverse.chain import Chain

    return block.blocks if isinstance(block, Chain) else (block,)


def _arguments(block: Block) -> Iterable[str]:
    for argument in fields(block):  # type: ignore[arg-type]    # every block is a dataclass
        value = getattr(block, argument.name)
        if argument.metadata.get("variadic"):
            yield from map(repr, value)
        elif is_required(argument):
            yield repr(value)
        elif value != default_of(argument):
            yield f"{argument.name}={value!r}"


def is_required(argument: Field[Any]) -> bool:
    """Whether an argument has no default."""
    return argument.default is MISSING and argument.default_factory is MISSING


def default_of(argument: Field[Any]) -> Any:
    """The default of an argument."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def shape_text(shape: Iterable[Any]) -> str:
    """A shape as people write it.

    >>> shape_text((1, 28, 28))
    '1×28×28'
    """
    try:
        return "×".join(map(str, shape)) or "()"
    except TypeError:
        return repr(shape)


def as_shape(shape: Any) -> Shape:
    """The shape of one example as a tuple of integers.

    >>> as_shape([1, 28, 28])
    (1, 28, 28)

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
    try:
        return whole("size", size, 1)
    except ShapeError:
        what = "below 1" if type(size) is int else f"a {type(size).__name__}"
        raise ShapeError(
            f"axis {axis} of the shape {sizes!r} is {size!r}, {what}.",
            "Give whole numbers from 1 up, as in (1, 28, 28).",
        ) from None


_AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def at_axes(shape: Shape, axes: Iterable[int]) -> str:
    """Where in a shape something happens, by the letters that PyTorch uses.

    >>> at_axes((1, 28, 28), [0, 1]), at_axes((2, 16000), [0])
    ('along H and W', 'along L')
    """
    letters = _AXES.get(len(shape) - 1) or tuple(f"axis {axis + 1}" for axis in range(len(shape) - 1))
    return "along " + " and ".join(letters[axis] for axis in axes)


def settle(block: Block, **minima: int | None) -> None:
    """Make the named arguments of a new block plain: an integer, or a tuple of integers, one an axis.

    Called from `__post_init__` with the least value that each may have. `None` stays where it is the default.

    Raises:
        ShapeError: for booleans, floats, text, and values below the minimum.
    """
    for name, minimum in minima.items():
        value = getattr(block, name)
        if type(value) is int and (minimum is None or value >= minimum):
            continue
        if value is None and type(block).__dataclass_fields__[name].default is None:  # type: ignore[attr-defined]
            continue
        if value in ((), []) and name != "size":
            raise ShapeError(f"{name} is empty.", f"Give {name}=1.", where=type(block).__name__)
        try:
            settled = (
                tuple(whole(name, v, minimum) for v in value) if _is_listed(value) else whole(name, value, minimum)
            )
        except ShapeError as error:
            raise ShapeError(error.reason, error.repair, where=type(block).__name__) from None
        object.__setattr__(block, name, settled)


def _is_listed(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def along(block: Block, names: tuple[str, ...], rank: int) -> tuple[tuple[Any, ...], ...]:
    """For each of `rank` axes the values of the named arguments, which are one for all axes or one an axis.

    Raises:
        ShapeError: if an argument was given for another number of axes.
    """
    known: dict[int, tuple[tuple[Any, ...], ...]] | None = block.__dict__.get("_along")
    if known is None or rank not in known:
        known = block.__dict__.setdefault("_along", {})
        known[rank] = _for_each(block, names, rank)
    return known[rank]


def _for_each(block: Block, names: tuple[str, ...], rank: int) -> tuple[tuple[Any, ...], ...]:
    values = tuple([getattr(block, name) for name in names])
    if not any(type(value) is tuple for value in values):
        return (values,) * rank
    return tuple(zip(*[_spread(block, name, rank) for name in names], strict=True))


def _spread(block: Block, name: str, rank: int) -> tuple[Any, ...]:
    value = getattr(block, name)
    if not isinstance(value, tuple):
        return (value,) * rank
    if len(value) != rank:
        raise ShapeError(
            f"{name}={value} is for {len(value)} axes, and the shape has {rank}.",
            f"Give {rank} number{'s' * (rank > 1)}, or one for all: {name}={value[0] if value else 1}.",
            where=repr(block),
        )
    return value


def by_axis(
    block: Block, shape: Shape, size_after: Callable[..., Any], settings: Iterable[tuple[Any, ...]]
) -> list[Any]:
    """The size after a block along every axis, `size_after(size, *setting)`; all axes that fail are told at once.

    Raises:
        ShapeError: with the axes, and the nearest input that would do, where `size_after` refuses a size.
    """
    settings = settings if type(settings) is tuple else tuple(settings)
    try:
        return [size_after(size, *setting) for size, setting in zip(shape[1:], settings, strict=True)]
    except ShapeError:
        as_shape(shape)  # which says it better, if the shape is none at all
        raise ShapeError(lambda: _refuse_axes(block, shape, size_after, settings)) from None


def _refuse_axes(block: Block, shape: Shape, size_after: Callable[..., Any], settings: tuple[Any, ...]) -> ShapeError:
    reasons: dict[str, list[int]] = {}
    repairs: list[str] = []
    nearest: list[int | None] = list(shape[1:])
    for axis, (size, setting) in enumerate(zip(shape[1:], settings, strict=True)):
        error = _refusal(size_after, size, setting)
        if error is None:
            continue
        reasons.setdefault(error.reason.removesuffix("."), []).append(axis)
        repairs.append(error.repair)
        grown = (larger for larger in range(size + 1, size + FARTHEST) if _refusal(size_after, larger, setting) is None)
        nearest[axis] = next(grown, None)
    reason = "; ".join(f"{reason} {at_axes(shape, axes)}" for reason, axes in reasons.items())
    near = "" if None in nearest else f"an input of at least {shape_text(nearest)}"
    repair = max(repairs, key=lambda repair: (len(repair), repair))
    return block.refuse(shape, f"{reason}.", repair if _helps(repair, block, shape) else "", near)


FARTHEST = 1024
"""How many sizes beyond the one given are tried in search of one that a block takes: past that, advice is no help."""


def _helps(repair: str, block: Block, shape: Shape) -> bool:
    """Whether a repair that names an argument makes a block take the shape: one axis may need what another refuses."""
    advised = re.match(r"Give(?: it)? (\w+)=(\d+)", repair)
    if advised is None:
        return True
    try:
        replace(block, **{advised[1]: int(advised[2])}).output_shape(shape)  # type: ignore[type-var]
    except ShapeError:
        return False
    return True


def _refusal(size_after: Callable[..., Any], size: Any, setting: tuple[Any, ...]) -> ShapeError | None:
    try:
        size_after(size, *setting)
    except ShapeError as error:
        return error
    return None


def collapsed(values: Iterable[Any]) -> Any:
    """One number where all axes agree, else the tuple: `(1, 1)` becomes `1`.

    Symbols that are not known to agree stay apart.
    """
    values = tuple(values)
    return (
        values[0] if values and all(value is values[0] or (value == values[0]) is True for value in values) else values
    )


def spatial_rank(block: Block, shape: Shape, least: int = 1) -> int:
    """How many spatial axes a shape has, for a block that PyTorch has in one to three dimensions.

    Raises:
        ShapeError: for fewer than `least` or more than three; it says if the batch seems to be in the shape.
    """
    rank = len(shape if type(shape) is tuple else as_shape(shape)) - 1
    if least <= rank <= 3:
        return rank
    if rank > 3:
        raise block.refuse(
            shape,
            f"this shape has {rank} spatial axes, and PyTorch has {type(block).__name__} for up to 3.",
            f"A shape is that of one example: leave the batch out, {tuple(shape[1:])}.",
        )
    raise block.refuse(
        shape,
        f"{type(block).__name__} acts along spatial axes, and this shape has {'none' if rank == 0 else 'too few'}.",
        "Put Unflatten in front of it, or Linear in its place.",
    )


def beginners_batch(shape: Shape) -> str:
    """A hint where a shape that was refused looks as if it had the batch in it, else nothing."""
    if len(shape) == 4 and shape[1] in (1, 3) and shape[2] > shape[1]:
        return f"If {shape[0]} is the batch, leave it out: {tuple(shape[1:])}."
    return ""


def passing(blocks: Iterable[Block]) -> Literal["", "gives", "takes"]:
    """What several blocks do with what goes round the code.

    Blocks that give, followed by their mirrors, keep it among themselves.
    """
    ways = {block.around for block in blocks} - {""}
    return ways.pop() if len(ways) == 1 else ""


def check_number(block: Block, name: str, least: float | None = None, most: float | None = None) -> None:
    """Refuse an argument that is no plain number, or outside its bounds.

    Raises:
        ShapeError: with the bounds.
    """
    value = getattr(block, name)
    plain = isinstance(value, Real) and not isinstance(value, bool) and value == value
    if plain and (least is None or value >= least) and (most is None or value <= most):
        return
    bounds = {(True, True): "", (False, True): f" of at least {least}", (False, False): f" from {least} to {most}"}
    raise ShapeError(
        f"{name} is a number{bounds[least is None, most is None]}; {value!r} was given.",
        f"Give {name}={least if least is not None else 1}.",
        where=type(block).__name__,
    )


def halved(cells: int) -> int | Fraction:
    """Half of a number of cells, as an integer where it is one."""
    return cells // 2 if cells % 2 == 0 else Fraction(cells, 2)


def transposed_window(reach: int, stride: int, padding: int) -> Window:
    """What a cell sees through a transposed window that spans `reach` cells beyond its first.

    Cell j came from the cells i with j = i s - p + t and 0 <= t <= reach, so i runs from (j + p - reach) / s to
    (j + p) / s.
    """
    return Window(reach // stride + 1, Fraction(1, stride), Fraction(2 * padding - reach, 2 * stride))
