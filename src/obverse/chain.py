"""Blocks in order: the plainest graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from obverse.acceptance import Acceptance, accepts, nearest_taken
from obverse.block import Block, Limit, brief, passing, takes, variadic
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.shapes import Shape, as_shape, beginners_batch, shape_text
from obverse.sight import Sight, through_all
from obverse.symbols import is_symbolic, plain

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
    from obverse.plan import Plan
else:
    modules = Later("obverse.modules")

__all__ = ["Chain"]


class Link(NamedTuple):
    """A block of a chain that is no chain itself, with its place: `"2"`, or `"1.0"` in a nested chain."""

    place: str
    block: Block


@dataclass(frozen=True, repr=False, init=False)
class Chain(Block):
    """Blocks in order; itself a block, so chains nest.

    >>> from obverse import Conv, Flatten, Linear, ReLU
    >>> encoder = Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Flatten(), Linear(10))
    >>> encoder.output_shape((1, 28, 28))
    (10,)
    >>> encoder.mirror((1, 28, 28))    # what a Linear forgot, 8×14×14, is written into its mirror
    Chain(Linear(1568), Unflatten(1, (8, 14, 14)), ReLU(), ConvTranspose(1, 3, stride=2, padding=1, output_padding=1))

    Args:
        *blocks: at least one.

    Mirror: the mirrors in reverse order. A run of pointwise blocks (norm, activation, dropout) is turned round as a
    whole and keeps its order inside, also where it runs through nested chains: a network written flat and the same one
    written in stages have mirrors with the same leaves in the same order.

    The built module is a `torch.nn.Sequential`, so the keys of its `state_dict` are the places, `"0.weight"`.

    Raises:
        ShapeError: names the block that refused, by its place and its `repr`, with the shapes so far and the nearest
            sizes that would do.
    """

    blocks: tuple[Block, ...] = variadic()

    def __init__(self, *blocks: Block) -> None:
        if not blocks:
            raise ShapeError("a chain has at least one block.", "Give it blocks, or write Identity().", where="Chain()")
        for place, block in enumerate(blocks):
            if not isinstance(block, Block):
                raise ShapeError(_not_a_block(block), _how_to_chain(block), where=f"Chain, block {place}")
        object.__setattr__(self, "blocks", tuple(blocks))
        object.__setattr__(self, "_links", tuple(_flat(blocks)))

    @property
    def links(self) -> tuple[Link, ...]:
        """Every block that is no chain itself, through nested chains, in order."""
        return self._links  # type: ignore[attr-defined, no-any-return]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __getitem__(self, place: int | slice) -> Any:
        return Chain(*self.blocks[place]) if isinstance(place, slice) else self.blocks[place]

    def shapes(self, shape: Shape) -> list[Shape]:
        """The shape that goes in, and the one after every link.

        Raises:
            ShapeError: where a link refuses the shape that reaches it.
        """
        shape = as_shape(shape)
        shapes = [shape]
        if any(map(is_symbolic, shape)):
            return self._formulas(shape)
        try:
            for _, block in self.links:
                shape = block.output_shape(shape)
                shapes.append(shape)
        except ShapeError as error:
            refused = error
        else:
            return shapes
        raise ShapeError(lambda: _explained(self, shapes, refused))

    def _formulas(self, shape: Shape) -> list[Shape]:
        """The shapes as formulas, each made plain before the next is made of it."""
        shapes = [shape]
        for place, block in self.links:
            try:
                shapes.append(tuple(map(plain, block.output_shape(shapes[-1]))))
            except TypeError:
                raise ShapeError(
                    f"block {place}, {brief(block)}, gives a size that is no formula of whole numbers.", "Give numbers."
                ) from None
        return shapes

    def output_shape(self, shape: Shape) -> Shape:
        return self.shapes(shape)[-1]

    def _repr_html_(self) -> str | None:
        """The chain at an example's shape, as a picture and a table, for notebooks."""
        from obverse.sketches import example_of  # which stands on plans

        return example_of(self)

    def mirror(self, shape: Shape) -> Chain:
        runs: list[list[Block]] = []
        inside = False  # a run of pointwise blocks; any other block stands alone
        for (_, block), at in zip(self.links, self.shapes(shape), strict=False):
            if inside and block.pointwise:
                runs[-1].append(block.mirror(at))
            else:
                runs.append([block.mirror(at)])
            inside = block.pointwise
        return _nested(self, iter([block for run in reversed(runs) for block in run]))

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        return modules.Steps(modules.grow_all(self, shape, device, dtype))

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        links = zip(self.links, self.shapes(shape), strict=False)
        named = (
            (f"{place}.{name}", size)
            for (place, block), shape in links
            for name, size in block.parameter_shapes(shape).items()
        )
        return dict(named)

    def multiply_adds(self, shape: Shape) -> int:
        return sum(block.multiply_adds(at) for (_, block), at in zip(self.links, self.shapes(shape), strict=False))

    def windows(self, shape: Shape) -> Sight:
        shapes = self.shapes(shape)
        steps = ((block, at, after) for (_, block), at, after in zip(self.links, shapes, shapes[1:], strict=False))
        return list(through_all(steps, len(shape) - 1))[-1]

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        """A product of linear blocks is linear, and its transpose theirs in reverse order."""
        return all(block.adjoint for _, block in self.links)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What its blocks do; a chain that gives and takes keeps that to itself."""
        return passing([block for _, block in self.links])

    def numbers_around(self, shape: Shape) -> int:
        return sum(block.numbers_around(at) for (_, block), at in zip(self.links, self.shapes(shape), strict=False))

    def remainders(self, shape: Shape) -> tuple[int, ...]:
        links = zip(self.links, self.shapes(shape), strict=False)
        return tuple([cells for (_, block), at in links for cells in block.remainders(at)])

    def notes(self, shape: Shape) -> tuple[str, ...]:
        links = zip(self.links, self.shapes(shape), strict=False)
        return tuple(f"{place}: {note}" for (place, block), at in links for note in block.notes(at))

    def accepts(self, shape: Sequence[int | None]) -> Acceptance:
        """Which sizes it takes along the axes that are `None`, which leave no remainder, and which share a code.

        >>> from obverse import Conv, PixelUnshuffle
        >>> accepted = Chain(Conv(8, 4), PixelUnshuffle(2)).accepts((1, None, 29))
        >>> print(accepted.axes[0].accepted)
        n ≡ 1 mod 2, n ≥ 5

        For all sizes at once, and exactly: as ranges and congruences.

        Raises:
            ShapeError: where it cannot be said so, since one axis goes into the size of another.
        """
        return accepts(self, shape)

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        links = zip(self.links, self.shapes(shape), strict=False)
        return tuple(
            Limit(way, f"{place}: {reason}") for (place, block), at in links for way, reason in block.limits(at)
        )

    def all_convolutional(self, input_shape: Shape | None = None) -> Chain:
        """The chain with every pooling replaced by a strided convolution of the same arithmetic, so that shapes stay.

        >>> from obverse import Conv, MaxPool
        >>> Chain(Conv(16, 3, padding=1), MaxPool(2)).all_convolutional()
        Chain(Conv(16, 3, padding=1), Conv(16, 2, stride=2))

        Args:
            input_shape: needed only where the channels at a pooling are those of the input.

        Source: Springenberg et al., arXiv:1412.6806.

        Raises:
            ShapeError: where the channels at a pooling are not known without the shape.
        """
        from obverse.rewrite import all_convolutional

        return all_convolutional(self, input_shape)

    def plan(self, shape: Shape) -> Plan:
        """The chain held against an input shape, step by step.

        >>> from obverse import Conv
        >>> [step.output_shape for step in Chain(Conv(16, 3, stride=2, padding=1), Conv(12, 7)).plan((1, 28, 28)).steps]
        [(16, 14, 14), (12, 8, 8)]
        """
        from obverse.plan import Plan

        return Plan.of(self, shape)


def _flat(blocks: tuple[Block, ...]) -> Iterator[Link]:
    for place, block in enumerate(blocks):
        if isinstance(block, Chain):
            for inner, link in block.links:
                yield Link(f"{place}.{inner}", link)
        else:
            yield Link(f"{place}", block)


def _nested(chain: Chain, mirrors: Iterator[Block]) -> Chain:
    """The mirrors of a chain's links, nested as the chain is, back to front."""
    blocks: list[Block] = []
    for block in reversed(chain.blocks):
        blocks.append(_nested(block, mirrors) if isinstance(block, Chain) else next(mirrors))
    return Chain(*blocks)


def _not_a_block(given: object) -> str:
    kind = type(given)
    whose = "torch.nn." * kind.__module__.startswith("torch.nn")
    return f"{whose}{kind.__name__} is no block: {given!r}"[:200] + "."


def _how_to_chain(given: object) -> str:
    if isinstance(given, (list, tuple)):
        return "Give the blocks one by one: Chain(*blocks)."
    if isinstance(given, type) and issubclass(given, Block):
        return f"Give an instance: {given.__name__}(...)."
    if type(given).__module__.startswith("torch.nn"):
        return "Give obverse's block of that name, less the channels in: Conv(16, 3) for Conv2d(1, 16, 3)."
    return "Give blocks such as Conv(16, 3)."


MOST_SHOWN = 6
"""Blocks and shapes that an error shows in front of the one that refused: enough to find it by, few enough to read."""


def _explained(chain: Chain, shapes: list[Shape], error: ShapeError) -> ShapeError:
    """The error of a link, with the chain around it, and with what else is wrong further on."""
    at = len(shapes) - 1
    first = max(at - MOST_SHOWN + 1, 0)
    path = ("… → " if first else "") + " → ".join(map(shape_text, shapes[first:]))
    near = _nearest(chain, shapes[0], at)
    advice = ShapeError("", error.repair, near).advice() or error.advice()
    lines = [f"shapes so far: {path} → ?", *_fault(chain.links[at], shapes[-1], error, advice)]
    for link, shape, later in _further_faults(chain, at, shapes[-1]):
        lines += _fault(link, shape, later, later.repair)
    lines += filter(None, [beginners_batch(shapes[0])])
    return ShapeError("\n  ".join([_listed(chain), *lines]), where=f"Chain at {shape_text(shapes[0])}")


def _fault(link: Link, shape: Shape, error: ShapeError, advice: str) -> list[str]:
    inner = error.where.removeprefix(f"{brief(link.block)} at {shape_text(shape)}").lstrip()
    reason = f"{inner}: {error.reason}" if inner else error.reason
    lines = [f"block {link.place}, {brief(link.block)}: {reason}", *advice.splitlines()]
    return [line for line in lines if line]


GENEROUS = 5040
"""A size that no kernel spans and every number up to 10 divides: a block that refuses it objects to the channels."""


def _further_faults(chain: Chain, failed: int, shape: Shape) -> Iterator[tuple[Link, Shape, ShapeError]]:
    """What is wrong behind the link that failed, whatever sizes come out of it.

    Sizes are not known there, but channels are, as long as no block turns sizes into channels.
    """
    channels, rank = shape[0], len(shape) - 1
    if rank > 3:  # to which every block objects
        return
    for at, link in enumerate(chain.links[failed:], start=failed):
        generous = (channels, *(GENEROUS,) * rank)
        try:
            after = link.block.output_shape(generous)
            if not rank or (not link.block.pointwise and link.block.windows(generous) is None):
                return
            channels = after[0]
        except ShapeError as error:
            if at > failed:
                yield link, generous, error
            channels = getattr(link.block, "out_channels", channels)


def _listed(chain: Chain) -> str:
    shown = ", ".join(brief(block) for block in chain.blocks[:MOST_SHOWN])
    rest = len(chain.blocks) - MOST_SHOWN
    return f"{shown}, … ({rest} more)" if rest > 0 else shown


def _nearest(chain: Chain, shape: Shape, failed: int) -> str:
    """The nearest larger input that passes the link that failed, and that passes the whole chain."""
    blocks = [block for _, block in chain.links]
    passing = _larger(Chain(*blocks[: failed + 1]), shape)
    if passing is None:
        return ""
    whole = _larger(Chain(*blocks), passing[0])
    beyond = f" ({shape_text(whole[0][1:])} for the whole chain)" if whole and whole[0] != passing[0] else ""
    all_larger = passing[1] and (whole is None or whole[1])
    return f"an input of {'at least ' * all_larger}{shape_text(passing[0][1:])}{beyond}"


def _larger(chain: Chain, shape: Shape) -> tuple[Shape, bool] | None:
    """The nearest larger shape that a chain takes, and whether it takes all that are larger still."""
    if len(shape) == 1:
        return None
    found = nearest_taken(chain, shape, max(TRIES // len(chain), 100))
    if found is not None and takes(chain, found[0]):
        return found
    grown = _grown(chain, shape)  # sizes that depend on each other are tried together
    return None if grown is None else (grown, False)


TRIES = 5_000
"""Blocks asked at most in search of a size that would do: a refusal need not take longer than a tenth of a second."""


def _grown(chain: Chain, shape: Shape) -> Shape | None:
    tries = range(max(TRIES // len(chain), 1))
    channels, sizes = shape[0], shape[1:]
    larger = (tuple(size + more for size in sizes) for more in tries)
    found = next((candidate for candidate in larger if takes(chain, (channels, *candidate))), None)
    if found is None or not sizes:
        return None
    for axis, size in enumerate(sizes):  # not every axis was too small
        options = ((*found[:axis], smaller, *found[axis + 1 :]) for smaller in range(size, found[axis] + 1))
        found = next(option for option in options if takes(chain, (channels, *option)))
    return (channels, *found)
