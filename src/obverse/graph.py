"""Blocks wired together, and the graph turned round: what Residual and Parallel stand on.

A graph is drawn with wires. Every wire is given by one node and taken by one; where a value is needed twice, a `Copy`
gives it twice. So the mirror of a graph is the same drawing read backwards: each node's mirror takes what the node gave
and gives what it took. A copy mirrors to a sum and a sum to a copy, a concatenation to a split and a split to a
concatenation, as in reverse-mode differentiation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from obverse.arithmetic import differ
from obverse.block import Block, Limit, passing, variadic
from obverse.errors import MirrorError, ShapeError
from obverse.later import Later
from obverse.shapes import Shape, shape_text
from obverse.sight import Sight, Window, alike, composed, united

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    modules = Later("obverse.modules")

__all__ = ["Concat", "Copy", "Graph", "Junction", "Node", "Product", "Split", "Sum"]


class Junction:
    """A point where wires meet: several values in, or several out, and nothing learned.

    Subclasses are frozen dataclasses.
    """

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """The shapes that come out, one a wire."""
        raise NotImplementedError

    def mirror(self, *shapes: Shape) -> Junction:
        """The junction that takes those shapes back."""
        raise NotImplementedError

    def build(self) -> nn.Module:
        """The module, from tensors to a tuple of tensors."""
        raise NotImplementedError


@dataclass(frozen=True)
class Copy(Junction):
    """One value on several wires.

    >>> Copy(2).output_shapes((8, 5)), Copy(2).mirror((8, 5))
    (((8, 5), (8, 5)), Sum(number=2))
    """

    number: int

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return shapes * self.number

    def mirror(self, *shapes: Shape) -> Junction:
        return Sum(self.number)

    def build(self) -> nn.Module:
        return modules.Copy(self.number)


@dataclass(frozen=True)
class Sum(Junction):
    """Values of one shape, added.

    >>> Sum(2).output_shapes((8, 5), (8, 5))
    ((8, 5),)
    >>> Sum(2).output_shapes((8, 5), (8, 4))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: shapes that differ cannot be added: 8×5 and 8×4.
    """

    number: int

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        if any(_unlike(shape, shapes[0]) for shape in shapes[1:]):
            raise ShapeError(f"shapes that differ cannot be added: {' and '.join(map(shape_text, shapes))}.")
        return shapes[:1]

    def mirror(self, *shapes: Shape) -> Junction:
        return Copy(self.number)

    def build(self) -> nn.Module:
        return modules.Sum()


@dataclass(frozen=True)
class Concat(Junction):
    """Values joined along their channels, or along another axis.

    >>> Concat().output_shapes((8, 5), (4, 5)), Concat().mirror((8, 5), (4, 5))
    (((12, 5),), Split(sizes=(8, 4), axis=0))
    """

    axis: int = 0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        at = self.axis
        others = [(*shape[:at], *shape[at + 1 :]) for shape in shapes]
        if any(_unlike(other, others[0]) for other in others[1:]):
            listed = " and ".join(map(shape_text, shapes))
            along = f"axis {at}" if at else "their channels"
            raise ShapeError(f"shapes that differ beyond {along} cannot be concatenated: {listed}.")
        return ((*shapes[0][:at], sum(shape[at] for shape in shapes), *shapes[0][at + 1 :]),)

    def mirror(self, *shapes: Shape) -> Junction:
        return Split(tuple(shape[self.axis] for shape in shapes), self.axis)

    def build(self) -> nn.Module:
        return modules.Concat(self.axis + 1)


@dataclass(frozen=True)
class Split(Junction):
    """A value cut along its channels, or along another axis.

    >>> Split((8, 4)).output_shapes((12, 5)), Split((2, 3), axis=1).output_shapes((12, 5))
    (((8, 5), (4, 5)), ((12, 2), (12, 3)))
    """

    sizes: tuple[int, ...]
    axis: int = 0

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        (shape,), at = shapes, self.axis
        if differ(shape[at], sum(self.sizes)):
            what = f"cells of axis {at}" if at else "channels"
            raise ShapeError(
                f"{' + '.join(map(str, self.sizes))} {what} are {sum(self.sizes)}, and there are {shape[at]}.",
                f"Give sizes that add up to {shape[at]}.",
            )
        return tuple((*shape[:at], size, *shape[at + 1 :]) for size in self.sizes)

    def mirror(self, *shapes: Shape) -> Junction:
        return Concat(self.axis)

    def build(self) -> nn.Module:
        return modules.Split(self.sizes, self.axis + 1)


@dataclass(frozen=True)
class Product(Junction):
    """A value, multiplied by others that have its shape, or a single cell along some axes: a gate.

    >>> Product().output_shapes((8, 5, 5), (8, 1, 1))
    ((8, 5, 5),)
    """

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        first = shapes[0]
        for shape in shapes[1:]:
            sizes = zip(shape, first, strict=False)
            if len(shape) != len(first) or any(differ(size, 1) and differ(size, full) for size, full in sizes):
                raise ShapeError(
                    f"{shape_text(shape)} cannot gate {shape_text(first)}.", "Let it end in the same shape."
                )
        return shapes[:1]

    def mirror(self, *shapes: Shape) -> Junction:
        raise MirrorError("a product is not linear, and has no transpose.", "Gate with Parallel(..., join='multiply').")

    def build(self) -> nn.Module:
        return modules.Product()


def _unlike(one: Shape, other: Shape) -> bool:
    """Whether two shapes certainly differ."""
    return one != other and (len(one) != len(other) or any(map(differ, one, other)))


class Node(NamedTuple):
    """A block or junction in a graph, with the wires that it takes and gives.

    >>> Node("fan", Copy(2), takes=(0,), gives=(1, 2)).gives
    (1, 2)
    """

    name: str
    block: Block | Junction
    takes: tuple[int, ...]
    gives: tuple[int, ...]

    def output_shapes(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """The shapes on the wires that it gives.

        Raises:
            ShapeError: with the node's name in front.
        """
        try:
            if isinstance(self.block, Junction):
                return self.block.output_shapes(*shapes)
            return (self.block.output_shape(shapes[0]),)
        except ShapeError as error:
            refused = error
        raise ShapeError(lambda: self._named(refused))

    def _named(self, error: ShapeError) -> ShapeError:
        where = f"{self.name}: {error.where}" if error.where else self.name
        return ShapeError(error.reason, error.repair, error.nearest, where)

    def turned(self, shapes: tuple[Shape, ...]) -> Node:
        """Its mirror: it takes what the node gave, and gives what it took."""
        mirror = self.block.mirror(*shapes)
        return Node(self.name, mirror, takes=self.gives, gives=self.takes)


@dataclass(frozen=True, repr=False, init=False)
class Graph(Block):
    """Nodes wired together, in an order in which they can be run; wire 0 goes in.

    >>> from obverse import Conv, Identity
    >>> graph = Graph(
    ...     Node("fan", Copy(2), (0,), (1, 2)),
    ...     Node("body", Conv(8, 3, padding=1), (1,), (3,)),
    ...     Node("join", Sum(2), (3, 2), (4,)),
    ... )
    >>> graph.output_shape((8, 28, 28))
    (8, 28, 28)
    >>> [node.name for node in graph.mirror((8, 28, 28)).nodes]    # the same drawing, read backwards
    ['join', 'body', 'fan']

    Nodes of one name are one module, used several times. A name with dots is a path: modules nest as it says.

    Args:
        *nodes: in order; each takes wires that an earlier one gave, and each wire is taken once.
        source: the wire that goes in.
        sink: the wire that comes out; by default what the last node gives.

    Raises:
        ShapeError: for wires that are given or taken twice, or never; and where a node refuses its shapes.
    """

    opens = True

    nodes: tuple[Node, ...] = variadic()
    source: int = 0
    sink: int = -1

    def __init__(self, *nodes: Node, source: int = 0, sink: int | None = None) -> None:
        object.__setattr__(self, "nodes", tuple(nodes))
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "sink", nodes[-1].gives[0] if sink is None and nodes else sink)
        _check_wires(self)

    def _brief(self) -> str:
        return f"Graph of {len(self.nodes)} nodes"

    def graph(self, shape: Shape) -> Graph:
        """The graph itself: `Residual` and `Parallel` draw theirs here."""
        return self

    def wires(self, shape: Shape) -> dict[int, Shape]:
        """The shape on every wire.

        Raises:
            ShapeError: where a node refuses what reaches it.
        """
        wires = {self.source: shape}
        for node in self.nodes:
            shapes = node.output_shapes(tuple([wires[wire] for wire in node.takes]))
            for wire, given in zip(node.gives, shapes, strict=True):
                wires[wire] = given
        return wires

    def output_shape(self, shape: Shape) -> Shape:
        return self.wires(shape)[self.sink]

    def mirror(self, shape: Shape) -> Graph:
        wires = self.wires(shape)
        nodes = _with_runs_turned(self.nodes)
        turned = [node.turned(tuple([wires[wire] for wire in node.takes])) for node in reversed(nodes)]
        return Graph(*turned, source=self.sink, sink=self.source)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        return modules.Wired(self, shape, device, dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        wires = self.wires(shape)
        return {
            f"{name}.{parameter}": size
            for name, block, takes, _ in self.nodes
            if isinstance(block, Block)
            for parameter, size in block.parameter_shapes(wires[takes[0]]).items()
        }

    def multiply_adds(self, shape: Shape) -> int:
        wires = self.wires(shape)
        blocks = [(block, takes[0]) for _, block, takes, _ in self.nodes if isinstance(block, Block)]
        return sum(block.multiply_adds(wires[wire]) for block, wire in blocks)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What its blocks do."""
        return passing([block for _, block, *_ in self.nodes if isinstance(block, Block)])

    def numbers_around(self, shape: Shape) -> int:
        wires = self.wires(shape)
        blocks = [(block, takes[0]) for _, block, takes, _ in self.nodes if isinstance(block, Block)]
        return sum(block.numbers_around(wires[wire]) for block, wire in blocks)

    def remainders(self, shape: Shape) -> tuple[int, ...]:
        wires = self.wires(shape)
        blocks = [(block, takes[0]) for _, block, takes, _ in self.nodes if isinstance(block, Block)]
        return tuple([cells for block, wire in blocks for cells in block.remainders(wires[wire])])

    def notes(self, shape: Shape) -> tuple[str, ...]:
        wires = self.wires(shape)
        blocks = [(name, block, takes[0]) for name, block, takes, _ in self.nodes if isinstance(block, Block)]
        return tuple(f"{name}: {note}" for name, block, wire in blocks for note in block.notes(wires[wire]))

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        wires = self.wires(shape)
        blocks = [(name, block, takes[0]) for name, block, takes, _ in self.nodes if isinstance(block, Block)]
        return tuple(
            Limit(way, f"{name}: {reason}") for name, block, wire in blocks for way, reason in block.limits(wires[wire])
        )

    def windows(self, shape: Shape) -> Sight:
        """What a cell sees through any of the ways that lead to it."""
        return self.sights(shape)[self.sink]

    def sights(self, shape: Shape) -> dict[int, Sight]:
        """What is seen of the input on every wire."""
        wires = self.wires(shape)
        seen: dict[int, Sight] = {self.source: (Window(),) * (len(shape) - 1)}
        for _, block, takes, gives in self.nodes:
            after = wires[gives[0]][1:]
            if isinstance(block, Block):
                sight: Sight = composed(seen[takes[0]], block.windows(wires[takes[0]]), after)
            else:
                ways = [_spread(seen[wire], wires[wire][1:], after) for wire in takes]
                sight = ways[0]
                for way in ways[1:]:
                    sight = united(sight, way, after)
            seen.update(dict.fromkeys(gives, sight))
        return seen


def _spread(sight: Sight, before: Shape, after: Shape) -> Sight:
    """What is seen where a single cell holds for a whole axis, as in a gate."""
    if sight is None or before == after:
        return sight
    return tuple([alike(seen) if m == 1 and n != 1 else seen for seen, m, n in zip(sight, before, after, strict=True)])


def _with_runs_turned(nodes: tuple[Node, ...]) -> list[Node]:
    """The nodes with every run of pointwise ones in reverse order, so that read backwards it keeps its order inside."""
    turned = list(nodes)
    taker = {node.takes[0]: at for at, node in enumerate(nodes) if _is_pointwise(node)}
    begun = {nodes[at].gives[0] for at in taker.values()}
    for at in [at for wire, at in taker.items() if wire not in begun]:
        run = [at]
        while (wire := nodes[run[-1]].gives[0]) in taker:
            run.append(taker[wire])
        for place, other in zip(run, reversed(run), strict=True):
            turned[place] = nodes[other]._replace(takes=nodes[place].takes, gives=nodes[place].gives)
    return turned


def _is_pointwise(node: Node) -> bool:
    return isinstance(node.block, Block) and node.block.pointwise


def _check_wires(graph: Graph) -> None:
    given, taken = {graph.source}, set()
    for node in graph.nodes:
        for wire in node.takes:
            if wire not in given or wire in taken:
                why = "nobody gave before it" if wire not in given else "was taken before"
                raise ShapeError(
                    f"node {node.name!r} takes wire {wire}, which {why}.",
                    "Let a Copy give the value on two wires." if wire in taken else "Put the node that gives it first.",
                    where="Graph",
                )
            taken.add(wire)
        if given & set(node.gives):
            raise ShapeError(
                f"node {node.name!r} gives a wire that is there already.", "Number it anew.", where="Graph"
            )
        given |= set(node.gives)
    loose = given - taken - {graph.sink}
    if loose:
        raise ShapeError(f"nobody takes wire {min(loose)}.", "Let a node take it, or do not give it.", where="Graph")
