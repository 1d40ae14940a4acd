"""What a mirror needs beyond its shapes, if it is to learn well: the encoder, rewritten before it is turned round.

A literal mirror has the right shapes, and that is all that is asked of it. Trained, it often learns worse than a
decoder that is made for the purpose. What helps are changes to the blocks that are mirrored, so that every law of
shapes goes on to hold. How much each of them is worth stands in docs/learning.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any, Literal, NamedTuple

from obverse.block import Block, brief
from obverse.blocks.branching import Drawn
from obverse.blocks.conv import Conv, ConvTranspose
from obverse.blocks.pointwise import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    ReLU,
    RMSNorm,
)
from obverse.blocks.pooling import AdaptiveAvgPool, AvgPool, LPPool, MaxPool
from obverse.blocks.rearrange import Rearrange
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Copy, Graph, Node, Product, Sum
from obverse.rewrite import convolved
from obverse.shapes import Shape

__all__ = ["Learnable", "learnable"]

NORMS = (BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm)

WIDEST = 64
"""The most channels from which an image is drawn at full size: 32 left more than twice as much unexplained for some
families, and every channel costs memory for each pixel (docs/learning.md)."""


def learnable(block: Block, shape: Shape) -> Learnable:
    """An encoder whose mirror learns better than its literal one: what is mirrored in its place.

    >>> from obverse import MaxPool, mirror
    >>> encoder = Chain(Conv(16, 3, padding=1), ReLU(), MaxPool(2), Conv(32, 3, padding=1))
    >>> for name, block, *_ in mirror(learnable(encoder, (3, 28, 28)), (3, 28, 28)).nodes:
    ...     print(name, block)
    3_sum Copy(number=2)
    3_way.1 ConvTranspose(16, 1, bias=False)
    3_way.0 NearestUnpool((28, 28))
    3 ConvTranspose(16, 3, padding=1)
    2 ConvTranspose(16, 2, stride=2)
    1_fan Sum(number=2)
    0_norm BatchNorm()
    1 ReLU()
    0 ConvTranspose(32, 3, padding=1)
    image_norm BatchNorm()
    image_activation ReLU()
    image ConvTranspose(3, 3, padding=1)

    1. Dropout and stochastic depth are left out: they are noise against overfitting of classifiers.
    2. A pooling is mirrored by a transposed convolution of its windows: behind their nearest values a small kernel
       cannot draw detail.
    3. A strided depthwise convolution is mirrored by resizing and a convolution.
    4. A convolution followed by an activation gets a norm in between: mirrors that are deep and have none leave most
       of their weights without a gradient.
    5. The image is drawn at full size, from twice as many channels as the encoder's first convolution gives.
    6. Around every stage, which is all between one jump in size and the next, leads a short way: values are
       resized, and mixed by a 1×1 convolution. In a mirror of fifty layers the gradient then has five to go through.

    Args:
        block: the encoder; it stays what it is, and only its mirror is made of this.
        shape: what goes into it. What is done, and where, is settled here, and holds at every size.
    """
    plain = Learnable(block)
    graph, here = plain.graph(shape), plain.taken(shape)
    try:
        there = plain.taken(_doubled(shape))
    except ShapeError:  # it takes no other size, or not that one: what is seen here is all there is to see
        there = {name: _doubled(taken) if taken == shape else taken for name, taken in here.items()}
    steady = {name for name, taken in here.items() if name in there and there[name][:1] == taken[:1]}
    pools = tuple([node.name for node in graph.nodes if node.name in steady and _is_pooling(node.block)])
    whole = {name for name in steady if (here[name][1:], there[name][1:]) == (shape[1:], _doubled(shape)[1:])}
    widened = replace(plain, pools=pools, image=_drawn_from(graph, whole))
    return replace(widened, ways=tuple(_ways(widened, shape)))


def _doubled(shape: Shape) -> Shape:
    return (shape[0], *[2 * size for size in shape[1:]])


class Way(NamedTuple):
    """A short way around a stage, from behind one node to behind another.

    Attributes:
        begin: the node whose value goes in.
        end: the node to whose value it is added.
        last: whether the channels are the last axis there, and not the first.
    """

    begin: str
    end: str
    last: tuple[bool, bool]


@dataclass(frozen=True, repr=False)
class Learnable(Drawn):
    """An encoder as `learnable` rewrites it: its shapes, and a graph of its blocks with what helps the mirror.

    Attributes:
        encoder: what is rewritten.
        pools: the names of the poolings that are taken back by convolutions: those whose channels are no sizes, so
            that the weights are the same at every size.
        image: the name of the convolution that the whole image is widened for; `""` for none.
        ways: the short ways around its stages.
    """

    encoder: Block
    pools: tuple[str, ...] = ()
    image: str = ""
    ways: tuple[Way, ...] = ()

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What the encoder does."""
        return self.encoder.around

    def output_shape(self, shape: Shape) -> Shape:
        return self.encoder.output_shape(shape)

    def graph(self, shape: Shape) -> Graph:
        graph = _normed(_taught(flat(self.encoder, shape), shape, self.pools))
        graph = _widened(graph, self.image) if self.image else graph
        return _with_ways(graph, shape, self.ways)

    def taken(self, shape: Shape) -> dict[str, Shape]:
        """What each node is given, for an input of a shape."""
        graph = self.graph(shape)
        wires = graph.wires(shape)
        return {node.name: wires[node.takes[0]] for node in graph.nodes}

    def _brief(self) -> str:
        return brief(self.encoder)


# One graph of everything ---------------------------------------------------------------------------------------------


def flat(block: Block, shape: Shape) -> Graph:
    """One graph of everything in a block, with chains and graphs inside it taken apart.

    >>> from obverse import Residual
    >>> for name, block, takes, gives in flat(Chain(Conv(8, 3), Residual(Chain(ReLU(), ReLU()))), (8, 9, 9)).nodes:
    ...     print(name, block, takes, gives)
    0 Conv(8, 3) (0,) (1,)
    1.fan Copy(number=2) (1,) (2, 3)
    1.body.0 ReLU() (2,) (4,)
    1.body.1 ReLU() (4,) (5,)
    1.shortcut Identity() (3,) (6,)
    1.join Sum(number=2) (5, 6) (7,)
    """
    nodes: list[Node] = []
    sink = _lay(block, shape, 0, "", count(1), nodes)
    return Graph(*nodes, source=0, sink=sink)


def _lay(block: Block, shape: Shape, wire: int, name: str, fresh: Iterator[int], nodes: list[Node]) -> int:
    """Add the nodes of a block that takes a wire; the wire that it gives."""
    if isinstance(block, Chain):
        for place, inner in enumerate(block.blocks):
            here = name if len(block.blocks) == 1 and isinstance(inner, Drawn | Graph) else _joined(name, str(place))
            wire, shape = _lay(inner, shape, wire, here, fresh, nodes), inner.output_shape(shape)
        return wire
    graph = _graph_of(block, shape)
    if graph is None:
        nodes.append(Node(name or "0", block, (wire,), (next(fresh),)))
        return nodes[-1].gives[0]
    wires, shapes = {graph.source: wire}, graph.wires(shape)
    for node in graph.nodes:
        takes, inside = tuple([wires[taken] for taken in node.takes]), _joined(name, node.name)
        if isinstance(node.block, Block):
            wires[node.gives[0]] = _lay(node.block, shapes[node.takes[0]], takes[0], inside, fresh, nodes)
        else:
            gives = tuple([next(fresh) for _ in node.gives])
            wires.update(zip(node.gives, gives, strict=True))
            nodes.append(Node(inside, node.block, takes, gives))
    return wires[graph.sink]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _graph_of(block: Block, shape: Shape) -> Graph | None:
    """What a block stands on, if its mirror is that graph's mirror: a product has none, and is mirrored by hand."""
    if not isinstance(block, Drawn | Graph):
        return None
    graph = block.graph(shape)
    return None if any(isinstance(node.block, Product) for node in graph.nodes) else graph


# What is done to each block ------------------------------------------------------------------------------------------


def _taught(graph: Graph, shape: Shape, pools: tuple[str, ...]) -> Graph:
    """The graph without noise, with poolings as convolutions, and depthwise convolutions that resize."""
    wires = graph.wires(shape)
    same: dict[int, int] = {}
    nodes = []
    for node in graph.nodes:
        takes = tuple([same.get(wire, wire) for wire in node.takes])
        if isinstance(node.block, Block) and node.block.idle and len(graph.nodes) > 1:
            same[node.gives[0]] = takes[0]
            continue
        block: Any = node.block
        if node.name in pools:
            block = _as_convolution(block, wires[node.takes[0]])
        elif _is_depthwise(block, wires[node.takes[0]]):
            block = replace(block, upsampling="resize")
        nodes.append(node._replace(block=block, takes=takes))
    sink = same.get(graph.sink, graph.sink)
    return Graph(*nodes, source=graph.source, sink=sink) if nodes else graph


def _is_pooling(block: Any) -> bool:
    """Whether a pooling is not undone by what goes round the code."""
    return isinstance(block, (MaxPool, AvgPool, LPPool)) and not block.around


def _is_depthwise(block: Any, shape: Shape) -> bool:
    """Whether a convolution makes sizes smaller, each channel by itself, and does not say how to undo that."""
    strided = isinstance(block, Conv) and block.is_strided and block.upsampling is None
    return strided and block.groups == shape[0] > 1


def _as_convolution(pooling: Block, shape: Shape) -> Block:
    full = convolved(pooling, shape)
    parts = full.blocks if isinstance(full, Chain) else (full,)  # with a `ceil_mode`: padding, and the convolution
    learned = [_as_sparse(part, shape) if isinstance(part, Conv) and not part.is_strided else part for part in parts]
    return learned[0] if len(learned) == 1 else Chain(*learned)


def _as_sparse(convolution: Conv, shape: Shape) -> Block:
    """A pooling that keeps its size only smooths: a convolution of each channel does as much."""
    return replace(convolution, groups=shape[0])


# Norms ---------------------------------------------------------------------------------------------------------------


def _normed(graph: Graph) -> Graph:
    """The graph with a norm in front of every activation that has none between it and its convolution."""
    return Graph(*_normed_nodes(graph), source=graph.source, sink=graph.sink)


def _normed_nodes(graph: Graph) -> Iterator[Node]:
    bare: dict[int, str] = {}  # the wires that come from a convolution with no norm behind it, and its name
    fresh, unused = _fresh(graph), _Unused(graph)
    for node in graph.nodes:
        name, block, takes, gives = node
        origin = bare.get(takes[0], "")
        if origin and isinstance(block, Block) and _bends(block):
            behind = next(fresh)
            yield Node(unused(f"{origin}_norm"), BatchNorm(), takes, (behind,))
            takes = (behind,)
        yield Node(name, block, takes, gives)
        if _is_bare(block):
            bare.update(dict.fromkeys(gives, name))
        elif origin and isinstance(block, Copy):
            bare.update(dict.fromkeys(gives, origin))


def _bends(block: Block) -> bool:
    """Whether it is an activation."""
    return block.pointwise and not block.idle and not isinstance(block, NORMS)


def _is_bare(block: Any) -> bool:
    """Whether what a block gives is a convolution's that no norm has seen."""
    return isinstance(block.blocks[-1] if isinstance(block, Chain) else block, (Conv, ConvTranspose))


# The image, from many channels ---------------------------------------------------------------------------------------


def _drawn_from(graph: Graph, whole: Collection[str]) -> str:
    """The first convolution, if it is given the whole image and used once: where the encoder begins to see.

    Args:
        graph: of the encoder.
        whole: the names of the nodes that are given something of the image's size.
    """
    cuts, names = set(_cuts(graph)), Counter(node.name for node in graph.nodes)
    for name, block, takes, _ in graph.nodes:
        if isinstance(block, Conv) and takes[0] in cuts:
            return name if name in whole and block.groups == 1 == names[name] else ""
    return ""


def _widened(graph: Graph, image: str) -> Graph:
    """The graph with a convolution at full size in front of a node, whose mirror is drawn from many channels."""
    at, node = next((at, node) for at, node in enumerate(graph.nodes) if node.name == image)
    assert isinstance(node.block, Conv)
    channels = min(2 * node.block.out_channels, WIDEST)
    fresh, unused = _fresh(graph), _Unused(graph)
    blocks: list[tuple[str, Block]] = [
        (unused("image"), Conv(channels, 3, padding=1)),
        (unused("image_norm"), BatchNorm()),
        (unused("image_activation"), ReLU()),
    ]
    stem, wire = _in_a_row(blocks, node.takes[0], fresh)
    nodes = [*graph.nodes[:at], *stem, node._replace(takes=(wire,)), *graph.nodes[at + 1 :]]
    return Graph(*nodes, source=graph.source, sink=graph.sink)


# Short ways around the stages ----------------------------------------------------------------------------------------


def _ways(block: Learnable, shape: Shape) -> Iterator[Way]:
    """A way around every stage: from the last node in front of one jump in size to the last in front of the next.

    Which axes are sizes is seen by doubling them; an encoder that refuses that is left alone.
    """
    doubled = _doubled(shape)
    try:
        graph, large = block.graph(shape), block.graph(doubled)
        before, after = graph.wires(shape), large.wires(doubled)
    except ShapeError:
        return
    there = _places(large)
    ends: list[tuple[str, int, Shape]] = []
    for name, wire in _places(graph).items():
        if name in there and (axis := _channels(before[wire], after[there[name]], len(shape))) is not None:
            shape_there = after[there[name]]
            sizes = (*shape_there[:axis], *shape_there[axis + 1 :])
            if ends and not _jumps(ends[-1][2], sizes):
                ends.pop()
            ends.append((name, axis, sizes))
    for (begin, one, larger), (end, other, smaller) in pairwise(ends):
        if all(size <= cells for size, cells in zip(smaller, larger, strict=True)):
            yield Way(begin, end, (one > 0, other > 0))


def _jumps(before: Shape, after: Shape) -> bool:
    """Whether a size falls by a third or more, as by a stride, and not as by the border of a convolution."""
    return any(3 * size <= 2 * cells for cells, size in zip(before, after, strict=True))


def _places(graph: Graph) -> dict[str, int]:
    """The nodes through which every way leads, and what they give; those that run once."""
    names = Counter(node.name for node in graph.nodes)
    cuts = set(_cuts(graph))
    single = [node for node in graph.nodes if len(node.gives) == 1 == names[node.name]]
    return {node.name: node.gives[0] for node in single if node.gives[0] in cuts}


def _channels(before: Shape, after: Shape, rank: int) -> int | None:
    """The axis of the channels, first or last: the only one that stays when the sizes of the input are doubled."""
    stays = [axis for axis, (one, other) in enumerate(zip(before, after, strict=False)) if one == other]
    if len(before) == len(after) == rank and len(stays) == 1 and stays[0] in (0, rank - 1):
        return stays[0]
    return None


def _cuts(graph: Graph) -> Iterator[int]:
    """The wires through which everything goes, in order."""
    live = {graph.source}
    yield graph.source
    for node in graph.nodes:
        live = (live - set(node.takes)) | set(node.gives)
        if len(live) == 1:
            yield node.gives[0]


def _with_ways(graph: Graph, shape: Shape, ways: tuple[Way, ...]) -> Graph:
    """The graph with every way that begins and ends somewhere at this size."""
    shapes = graph.wires(shape) if ways else {}
    given = {node.name: node.gives[0] for node in graph.nodes}
    for begin, end, last in ways:
        if begin in given and end in given:
            blocks = [(f"{end}_way.{at}", block) for at, block in enumerate(_pooled(shapes[given[end]], last))]
            graph = _with_way(graph, given[begin], given[end], blocks)
    return graph


def _with_way(graph: Graph, source: int, sink: int, blocks: list[tuple[str, Block]]) -> Graph:
    """The graph with a copy of what one wire has, taken through blocks and added to what another has."""
    begin, end = (next(at for at, node in enumerate(graph.nodes) if wire in node.gives) for wire in (source, sink))
    fresh, unused = _fresh(graph), _Unused(graph)
    plain, aside, bare = next(fresh), next(fresh), next(fresh)
    row, short = _in_a_row(blocks, aside, fresh)
    stage = [
        node._replace(takes=tuple([plain if wire == source else wire for wire in node.takes]))
        for node in graph.nodes[begin + 1 : end + 1]
    ]
    stage[-1] = stage[-1]._replace(gives=(bare,))
    fan = Node(unused(f"{graph.nodes[begin].name}_fan"), Copy(2), (source,), (plain, aside))
    total = Node(unused(f"{graph.nodes[end].name}_sum"), Sum(2), (bare, short), (sink,))
    nodes = [*graph.nodes[: begin + 1], fan, *stage, *row, total, *graph.nodes[end + 1 :]]
    return Graph(*nodes, source=graph.source, sink=graph.sink)


def _pooled(after: Shape, last: tuple[bool, bool]) -> Iterator[Block]:
    """From one shape to another: means, and a 1×1 convolution, with the channels in front meanwhile."""
    axes = " ".join(f"axis{at}" for at in range(1, len(after)))
    if last[0]:
        yield Rearrange(f"{axes} c -> c {axes}")
    channels, sizes = (after[-1], after[:-1]) if last[1] else (after[0], after[1:])
    yield AdaptiveAvgPool(sizes)
    yield Conv(channels, 1, bias=False)
    if last[1]:
        yield Rearrange(f"c {axes} -> {axes} c")


# Names and wires that are free ---------------------------------------------------------------------------------------


def _in_a_row(blocks: list[tuple[str, Block]], wire: int, fresh: Iterator[int]) -> tuple[list[Node], int]:
    """Nodes one behind the other, and the wire that the last one gives."""
    nodes = []
    for name, block in blocks:
        nodes.append(Node(name, block, (wire,), (next(fresh),)))
        wire = nodes[-1].gives[0]
    return nodes, wire


def _fresh(graph: Graph) -> Iterator[int]:
    return count(1 + max(wire for node in graph.nodes for wire in (*node.takes, *node.gives)))


class _Unused:
    """Names that no node has: the one asked for, or the same with a number."""

    def __init__(self, graph: Graph) -> None:
        self.taken = {node.name for node in graph.nodes}

    def __call__(self, name: str) -> str:
        found = next(f"{name}{n or ''}" for n in count() if f"{name}{n or ''}" not in self.taken)
        self.taken.add(found)
        return found
