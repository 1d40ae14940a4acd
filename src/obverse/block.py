"""The contract that every block keeps: the one page to read before writing a block of your own.

A block is a value. It holds settings, no weights, and knows three things:

* `output_shape(shape)`: the shape that comes out, by arithmetic;
* `mirror(shape)`: the block that takes that shape back;
* `build(shape)`: its `torch.nn.Module`.

A *shape* is what one example has, without the batch: `(C, *spatial)`, such as `(1, 28, 28)`. Channels and the number of
dimensions are never written into a block, since the shape tells them. Write a block as one frozen dataclass.

**One that keeps every shape** says so, and builds its module:

```python
from dataclasses import dataclass
from obverse import Block

@dataclass(frozen=True, repr=False)
class Clamp(Block):    # numbers kept between two bounds
    least: float = 0.0
    most: float = 1.0

    pointwise = True

    def __post_init__(self):
        if not self.least < self.most:
            raise ValueError(f"least={self.least} is not below most={self.most}.")

    def build(self, shape):
        from torch import nn

        return nn.Hardtanh(self.least, self.most)
```

**One that changes shapes** says how, and what takes them back, often another block in one line:

```python
from obverse import Crop

@dataclass(frozen=True, repr=False)
class Border(Block):    # zeros around every spatial axis
    width: int = 1

    adjoint = True

    def output_shape(self, shape):
        return (shape[0], *(size + 2 * self.width for size in shape[1:]))

    def mirror(self, shape):
        return Crop(self.width)

    def build(self, shape):
        from torch import nn

        pads = {2: nn.ZeroPad1d, 3: nn.ZeroPad2d, 4: nn.ZeroPad3d}
        return pads[len(shape)](self.width)
```

That is all that a block needs in order to be composed, planned, mirrored, drawn, saved and built. The other methods of
`Block` have a default, and are there to say more: what it costs (`parameter_shapes`, `multiply_adds`), what a cell sees
(`windows`), what a reader of a plan should know (`notes`), what it hands round the code (`around`, `numbers_around`).

**Refuse** a shape that the module cannot take: `raise self.refuse(shape, "an odd size.", "Put Pad((0, 1)) in front.")`.

**Devices and dtypes** need nothing: whoever builds a model builds each block under `torch.device(...)` and casts it.
Make tensors in `build` with torch's own functions, and in `forward` from the input. A `build` that makes large weights
can take `device=None` and `dtype=None` as keywords, as the built-in ones do.

**Any size.** One built model runs at every size, so its modules keep no size from `build`. Where the size that comes
out is not settled by the input, as in a mirror that must be told whether 27 or 28 cells went in,
`forward(x, size=None)` takes the spatial sizes to give; without them it gives the planned ones.

**Several inputs.** A block has one input and one output. Where values meet or part, a `Junction` stands (`Sum`,
`Concat`, `Copy`, `Split`), and a `Graph` wires blocks and junctions together; a graph is a block. See `obverse.graph`.

When the class is made it is looked at: one that is not `pointwise` and lacks `output_shape` or `mirror` is refused. All
else is tried by `obverse.testing.check_block(Border)`: every law, on small shapes that the block takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from functools import wraps
from inspect import get_annotations
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from obverse.errors import ConfigError, ShapeError
from obverse.shapes import Shape, as_shape, shape_text
from obverse.sight import ITSELF, Sight

if TYPE_CHECKING:
    from torch import nn

    from obverse.chain import Chain

__all__ = ["Block", "Limit", "blocks_in", "brief", "keywords", "passing", "takes", "variadic"]


class Limit(NamedTuple):
    """What cannot be done with a module outside of Python.

    >>> from obverse import AdaptiveAvgPool
    >>> [limit.way for limit in AdaptiveAvgPool(3).limits((8, 28, 28))], AdaptiveAvgPool(1).limits((8, 28, 28))
    (['onnx'], ())

    Attributes:
        way: what fails: `"onnx"`, or `"export"`, which is `torch.export` and with it ONNX.
        reason: a sentence, with what to do instead.
    """

    way: Literal["export", "onnx"]
    reason: str


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
        idle: the block does nothing in evaluation, as dropout does.
        around: how its module uses what goes round the code: it `"gives"` (an encoder's part), `"takes"` (its
            mirror's part), or neither. Such a module has `forward(x, around=None)`, a list to append to or to pop from.
        adjoint: the block is linear apart from its bias, and its mirror with the same weights is its transpose.
        opens: nobody can read off the block what is in it, so a plan shows that: `graph(shape)`, a method that it has.
        flags: names of the arguments that are true or false; read from the annotations.
    """

    pointwise: ClassVar[bool] = False
    idle: bool = False
    adjoint: bool = False
    around: Literal["", "gives", "takes"] = ""
    opens: ClassVar[bool] = False
    flags: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # read once: blocks are made while the compiler looks on, which cannot follow dataclasses.fields
        annotated = get_annotations(cls)
        cls.flags = (*cls.flags, *[name for name, kind in annotated.items() if kind in ("bool", bool)])
        if "__init__" in vars(cls):
            separate = {name: each.metadata for name, each in vars(cls).items() if isinstance(each, Field)}
            cls.__init__ = _by_name(cls.__init__, separate)  # type: ignore[method-assign]
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

    def remainders(self, shape: Shape) -> tuple[int, ...]:
        """The cells that its strides left over, which its mirror must be told: one number for every stride in it."""
        return ()

    def notes(self, shape: Shape) -> tuple[str, ...]:
        """What a plan says about it under its table, a sentence each."""
        return ()

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        """What PyTorch cannot do with its module outside of Python, or does wrongly; a plan says it with the notes."""
        return ()

    def numbers_around(self, shape: Shape) -> int:
        """How many numbers it hands round the code for one example."""
        return 0

    def parameters(self, shape: Shape) -> int:
        """How many numbers the module learns."""
        return sum([prod(size) for size in self.parameter_shapes(shape).values()])

    def refuse(self, shape: Shape, reason: str, repair: str = "", nearest: str = "") -> ShapeError:
        """The error to raise for a shape: it names the block and the shape before the reason."""
        return ShapeError(reason, repair, nearest, where=f"{brief(self)} at {shape_text(shape)}")

    def to_config(self) -> dict[str, Any]:
        """The block as plain values, for JSON and TOML; see `obverse.config.to_config`."""
        from obverse.config import to_config

        return to_config(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, plugins: Collection[str] | None = None) -> Self:
        """The block that a config describes, one of this class; see `obverse.config.from_config`.

        Raises:
            ConfigError: for anything else.
        """
        from obverse.config import from_config

        block = from_config(config, plugins=plugins)
        if isinstance(block, cls):
            return block
        raise ConfigError(f"the config describes {block!r:.80}, no {cls.__name__}.", "Read it with Block.from_config.")

    def __rshift__(self, other: Block) -> Chain:
        """`a >> b` composes as `Chain(a, b)` does, without nesting what is already a chain."""
        from obverse.chain import Chain

        if not isinstance(other, Block):
            return NotImplemented
        return Chain(*_links(self), *_links(other))

    def __repr__(self) -> str:
        """Source that makes an equal block: required arguments by position, the rest by keyword, defaults left out."""
        return f"{type(self).__name__}({', '.join(_arguments(self, repr))})"

    def _brief(self) -> str:
        if type(self).__repr__ is not Block.__repr__:
            return repr(self)
        return f"{type(self).__name__}({', '.join(_arguments(self, brief))})"


def brief(value: Any) -> str:
    """A block in passing, as tables and errors name it: its `repr`, but of a graph how large it is.

    >>> from obverse import Chain, Conv, Residual
    >>> graph = Residual(Conv(8, 3, padding=1)).graph((8, 9, 9))
    >>> brief(Chain(Conv(8, 3), graph)), len(repr(graph))
    ('Chain(Conv(8, 3), Graph of 4 nodes)', 282)

    Args:
        value: a block, or an argument of one.
    """
    return value._brief() if isinstance(value, Block) else repr(value)


def _links(block: Block) -> tuple[Block, ...]:
    from obverse.chain import Chain

    return block.blocks if isinstance(block, Chain) else (block,)


def variadic() -> Any:
    """A field of a block that is written as separate positional arguments, as a chain's blocks are.

    Its name does as well, and so `dataclasses.replace` and `copy.replace` know what to do:

    >>> from dataclasses import replace
    >>> from obverse import Chain, Conv, ReLU
    >>> chain = Chain(Conv(16, 3), ReLU())
    >>> replace(chain, blocks=[*chain, Conv(8, 3)])
    Chain(Conv(16, 3), ReLU(), Conv(8, 3))
    """
    return field(metadata={"variadic": True})


def keywords() -> Any:
    """A field of a block that is written as separate keyword arguments: sorted pairs of names and values.

    Its name does as well, for pairs or a table of them.
    """
    return field(default=(), metadata={"keywords": True})


def _by_name(init: Callable[..., None], arguments: Mapping[str, Mapping[str, Any]]) -> Callable[..., None]:
    """A constructor that takes its separate arguments by the name of their field, too."""
    variadic = [name for name, metadata in arguments.items() if metadata.get("variadic")]
    keywords = [name for name, metadata in arguments.items() if metadata.get("keywords")]
    if not variadic and not keywords:
        return init

    @wraps(init)
    def made(self: Block, *args: Any, **named: Any) -> None:
        for name in variadic:
            if name in named and not args:
                args = tuple(named.pop(name))
        for name in keywords:
            if isinstance(named.get(name), (tuple, list, dict)):  # else one of them has that name
                named |= dict(named.pop(name))
        init(self, *args, **named)

    return made


def _arguments(block: Block, text: Callable[[Any], str]) -> Iterable[str]:
    for argument in fields(block):  # type: ignore[arg-type]    # every block is a dataclass
        value = getattr(block, argument.name)
        if argument.metadata.get("variadic"):
            yield from map(text, value)
        elif argument.metadata.get("keywords"):
            yield from (f"{name}={text(each)}" for name, each in value)
        elif is_required(argument):
            yield text(value)
        elif value != default_of(argument):
            yield f"{argument.name}={text(value)}"


def is_required(argument: Field[Any]) -> bool:
    """Whether an argument has no default."""
    return argument.default is MISSING and argument.default_factory is MISSING


def default_of(argument: Field[Any]) -> Any:
    """The default of an argument."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def passing(blocks: Iterable[Block]) -> Literal["", "gives", "takes"]:
    """What several blocks do with what goes round the code.

    Blocks that give, followed by their mirrors, keep it among themselves.
    """
    ways = {block.around for block in blocks} - {""}
    return ways.pop() if len(ways) == 1 else ""


def takes(block: Block, shape: Shape) -> bool:
    """Whether a block takes a shape."""
    try:
        block.output_shape(shape)
    except ShapeError:
        return False
    return True


def blocks_in(part: Any) -> int:
    """How many blocks there are in a block, itself included: what it costs to ask for a shape.

    >>> from obverse import Chain, Conv, ReLU, Residual
    >>> blocks_in(Residual(Chain(Conv(8, 3), ReLU())))
    4
    """
    if isinstance(part, Block):
        inside = [getattr(part, argument.name) for argument in fields(part)]  # type: ignore[arg-type]
        return 1 + sum(map(blocks_in, inside))
    return sum(map(blocks_in, part)) if isinstance(part, tuple) else 0
