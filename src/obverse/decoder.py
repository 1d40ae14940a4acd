"""The whole decoder: a mirror with its ends put right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from obverse.block import Block, brief
from obverse.blocks.conv import Conv, ConvTranspose, ResizeConv, Style, SubpixelConv
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import Identity
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Graph, Node
from obverse.habits import learnable
from obverse.rewrite import with_upsampling
from obverse.shapes import Shape, as_shape

if TYPE_CHECKING:
    from torch import nn

__all__ = ["counterparts", "mirror"]


@overload
def mirror(block: Block, input_shape: Shape, *, upsampling: Style = ..., literal: bool = ...) -> Block: ...
@overload
def mirror(
    block: nn.Module,
    input_shape: Shape,
    *,
    upsampling: Style = ...,
    until: str | nn.Module | None = ...,
    approximate: bool = ...,
    literal: bool = ...,
) -> nn.Module: ...
def mirror(
    block: Block | nn.Module,
    input_shape: Shape,
    *,
    upsampling: Style = "transpose",
    until: str | nn.Module | None = None,
    approximate: bool = False,
    literal: bool = True,
) -> Block | nn.Module:
    """The decoder of an encoder: the block that takes its output back to `input_shape`.

    >>> from obverse import BatchNorm, Chain, Conv, ReLU
    >>> stage = Chain(Conv(8, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU())
    >>> stage.mirror((1, 27, 27))
    Chain(BatchNorm(), ReLU(), ConvTranspose(1, 3, stride=2, padding=1, bias=False))
    >>> mirror(stage, (1, 27, 27))    # nothing pointwise in front of a decoder, and a bias at its end
    Chain(ConvTranspose(1, 3, stride=2, padding=1))

    It differs from `block.mirror` at both its ends. The run of pointwise blocks (norm, activation, dropout) that would
    stand in front of it is dropped, since the code is what the encoder says it is; so is one behind its last layer,
    where only an output activation belongs. And that last layer has a bias, even where a norm had made it needless in
    the encoder.

    Of a module it is a module: the decoder of an encoder that is there already, on its device and in its dtype.

    Args:
        block: a chain, any block, or a module.
        input_shape: `(C, *spatial)`, what goes into the encoder.
        upsampling: how the mirrors of strided convolutions make sizes larger. `"transpose"` is the adjoint; `"resize"`
            and `"subpixel"` (`ResizeConv`, `SubpixelConv`) restore the same shapes without a checkerboard. A block that
            says its own, `Conv(..., upsampling="resize")`, keeps it.
        until: of a module the part whose output is the code, by its path or itself.
        approximate: of a module, whether a step without an exact mirror may be followed along its main path only.
        literal: whether it is the mirror and no more. Otherwise it has what helps a decoder to learn, in place of what
            does not: see `obverse.habits.learnable`.

    >>> mirror(Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Conv(16, 3)), (1, 28, 28), upsampling="subpixel")
    Chain(ConvTranspose(8, 3), ReLU(), SubpixelConv(1, 3, stride=2, padding=1, output_padding=1))

    Raises:
        ShapeError: for a shape that the encoder does not take, and a style that there is not.
    """
    shape = as_shape(input_shape)
    if not isinstance(block, Block):
        if isinstance(block, type) or not hasattr(block, "named_modules"):
            as_block: Any = block
            Chain(as_block)  # which refuses what is no block
        from obverse.lifting.model import decoder_of_module

        return decoder_of_module(
            block, shape, until=until, approximate=approximate, upsampling=upsampling, literal=literal
        )
    if until is not None or approximate:
        raise ShapeError(
            f"{'until' if until is not None else 'approximate'} is for a module; {type(block).__name__} is a block.",
            "Leave it out; a part of a chain is chain[:2].",
            where="mirror",
        )
    block = with_upsampling(block, shape, upsampling)
    block = block if literal else learnable(block, shape)
    chain = block if isinstance(block, Chain) else Chain(block)
    stripped = _without_ends(chain.mirror(shape))
    stripped = stripped and _with_open_ends(stripped)
    if stripped is None:
        return Identity()
    decoder = _with_bias(stripped)
    return decoder if isinstance(block, Chain) or len(decoder) > 1 else decoder.blocks[0]


def _without_ends(chain: Chain) -> Chain | None:
    """A chain without the pointwise runs at its ends, through nested chains; `None` if nothing is left."""
    kept = [place for place, block in chain.links if not block.pointwise]
    if not kept:
        return None
    places = [place for place, _ in chain.links]
    inside = set(places[places.index(kept[0]) : places.index(kept[-1]) + 1])
    return _only(chain, "", inside)


def _only(chain: Chain, prefix: str, places: set[str]) -> Chain | None:
    blocks: list[Block] = []
    for at, block in enumerate(chain.blocks):
        place = f"{prefix}{at}"
        if isinstance(block, Chain):
            inner = _only(block, f"{place}.", places)
            blocks += [] if inner is None else [inner]
        elif place in places:
            blocks.append(block)
    return Chain(*blocks) if blocks else None


def _with_open_ends(chain: Chain) -> Chain | None:
    """A chain whose first and last blocks, where they are graphs, have nothing pointwise at their own ends."""
    blocks: list[Block] = list(chain.blocks)
    for at, is_first in ((0, True), (-1, False)):
        end = blocks[at]
        if isinstance(end, Graph):
            nodes, source, sink = list(end.nodes), end.source, end.sink
            while (node := _pointwise_end(nodes, source if is_first else sink, is_first)) is not None:
                nodes.remove(node)
                source, sink = (node.gives[0], sink) if is_first else (source, node.takes[0])
            blocks[at : at + 1 or None] = [Graph(*nodes, source=source, sink=sink)] if nodes else []
            if not blocks:
                return None
    return Chain(*blocks)


def _pointwise_end(nodes: list[Node], wire: int, is_first: bool) -> Node | None:
    ends = (node for node in nodes if wire in (node.takes if is_first else node.gives))
    return next((node for node in ends if isinstance(node.block, Block) and node.block.pointwise), None)


def _with_bias(chain: Chain) -> Chain:
    """A chain whose last layer has a bias: the last block that may have one, if only cells are moved behind it."""
    last = next(
        (block for _, block in reversed(chain.links) if hasattr(block, "bias") or isinstance(block, Graph)), None
    )
    if last is None:
        return chain
    biased = _graph_with_bias(last) if isinstance(last, Graph) else _biased(last)
    return chain if biased is last else _replaced(chain, last, biased)


def _biased(block: Any) -> Any:
    return block if block.bias else replace(block, bias=True)


def _graph_with_bias(graph: Graph) -> Graph:
    for at in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[at]
        block: Any = node.block
        if isinstance(block, Chain):
            block = _with_bias(block)
        elif isinstance(block, (Conv, ConvTranspose, ResizeConv, SubpixelConv, Linear)):
            block = _biased(block)
        else:
            continue
        nodes = (*graph.nodes[:at], node._replace(block=block), *graph.nodes[at + 1 :])
        return Graph(*nodes, source=graph.source, sink=graph.sink)
    return graph


def _replaced(chain: Chain, last: Block, biased: Block) -> Chain:
    for at in range(len(chain) - 1, -1, -1):
        block = chain.blocks[at]
        if block is last:
            new: Block = biased
        elif isinstance(block, Chain) and any(link.block is last for link in block.links):
            new = _replaced(block, last, biased)
        else:
            continue
        return Chain(*chain.blocks[:at], new, *chain.blocks[at + 1 :])
    return chain


def counterparts(encoder: Block, decoder: Block, shape: Shape) -> Iterator[tuple[str, str]]:
    """The places of the layers in an encoder, and in its decoder, that have the same weight where the two are tied.

    >>> from obverse import Conv, Flatten, Linear, ReLU, Residual
    >>> encoder = Chain(Conv(8, 4, padding="same"), ReLU(), Residual(Conv(8, 3, padding=1)), Flatten(), Linear(10))
    >>> decoder = mirror(encoder, (1, 9, 9))
    >>> list(counterparts(encoder, decoder, (1, 9, 9)))    # the first, padded unevenly, is mirrored by two blocks
    [('4', '0'), ('2.body', '2.body'), ('0', '4.0')]

    They are paired as the mirror was made: block by block from the end, branch by branch, however chains nest. What is
    pointwise learns for itself, and so do the fresh gates of a product.

    Args:
        encoder: a block.
        decoder: what `mirror` made of it; further blocks may follow.
        shape: what goes into the encoder.

    Raises:
        ShapeError: for a layer whose mirror has no such weight: `ResizeConv`, `SubpixelConv`.
    """
    shapes = encoder.shapes(shape) if isinstance(encoder, Chain) else [shape]
    mirrors = iter([(place, block) for place, block in _leaves(decoder) if not block.pointwise])
    for (place, block), at in reversed(list(zip(_leaves(encoder), shapes, strict=False))):
        if not block.pointwise:
            number = sum(not leaf.pointwise for _, leaf in _leaves(block.mirror(at)))
            yield from _paired(place, block, at, list(islice(mirrors, number)))


def _leaves(block: Block) -> list[tuple[str, Block]]:
    return [(place, leaf) for place, leaf in block.links] if isinstance(block, Chain) else [("", block)]


def _paired(place: str, block: Any, shape: Shape, mirrors: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """The pairs of a block of an encoder and of the blocks that mirror it."""
    for leaf in (block, *[leaf for _, leaf in mirrors]):
        if isinstance(leaf, (ResizeConv, SubpixelConv)):
            raise ShapeError(
                f"a {type(leaf).__name__} has no weight in common with its counterpart, so they cannot be tied.",
                "Give it upsampling='transpose', or leave tied out.",
                where=f"block {place}, {brief(block)}",
            )
    if isinstance(block, (Conv, ConvTranspose, Linear)):
        yield place, next(there for there, leaf in mirrors if isinstance(leaf, (Conv, ConvTranspose, Linear)))
    elif hasattr(block, "graph"):
        ((there, turned),) = mirrors
        nodes = {node.name: node.block for node in turned.graph(block.output_shape(shape)).nodes}
        graph = block.graph(shape)
        wires = graph.wires(shape)
        gates = {node.name for node in graph.nodes[2:]} if getattr(block, "join", None) == "multiply" else set()
        for name, inner, takes, _ in graph.nodes:
            if isinstance(inner, Block) and name not in gates:
                for one, other in counterparts(inner, nodes[name], wires[takes[0]]):
                    yield _within(place, name, one), _within(there, name, other)


def _within(*names: str) -> str:
    return ".".join(filter(None, names))
