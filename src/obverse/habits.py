"""What a mirror needs beyond its shapes, if it is to learn well: the encoder, rewritten before it is turned round.

A literal mirror has the right shapes, and that is all that is asked of it. Trained, it often learns worse than one
made for the purpose. Two things help most, and both are changes to the blocks that are mirrored, so that
every law of shapes goes on to hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

from obverse.block import Block
from obverse.blocks.branching import Parallel, Residual
from obverse.blocks.conv import Conv, ConvTranspose
from obverse.blocks.pointwise import (
    BatchNorm,
    Dropout,
    GroupNorm,
    Identity,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)
from obverse.blocks.pooling import AvgPool, LPPool, MaxPool
from obverse.chain import Chain
from obverse.graph import Copy, Graph, Node
from obverse.rewrite import convolved, mapped
from obverse.shapes import Shape

__all__ = ["learnable"]

NORMS = (BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm)
IDLE = (Dropout, Identity)
"""What neither normalises nor bends."""


def learnable(block: Block, shape: Shape) -> Block:
    """An encoder whose mirror learns better than its literal one: what is mirrored in its place.

    >>> from obverse import ReLU
    >>> learnable(Chain(Conv(16, 3), ReLU(), MaxPool(2)), (3, 28, 28))
    Chain(Conv(16, 3), BatchNorm(), ReLU(), Conv(16, 2, stride=2, groups=16))

    A convolution followed by an activation without a norm between them gets one: deep mirrors of such encoders
    (squeezenet, vgg) leave most of their weights without a gradient. A pooling is mirrored by a depthwise transposed
    convolution of its windows, in place of their nearest values, behind which a small kernel cannot draw detail.

    Args:
        block: the encoder; it stays what it is, and only its mirror is made of this.
        shape: what goes into it.
    """
    normed: Block = _normed(mapped(block, shape, _learned))
    return normed


def _learned(block: Block, shape: Shape) -> Block:
    """A depthwise convolution over the windows of a pooling."""
    if not isinstance(block, (MaxPool, AvgPool, LPPool)) or block.around:
        return block
    full = convolved(block, shape)
    if isinstance(full, Chain):  # with a `ceil_mode`: its padding, and the convolution
        return Chain(*[_depthwise(part, shape) for part in full.blocks])
    return _depthwise(full, shape)


def _depthwise(block: Block, shape: Shape) -> Block:
    return replace(block, groups=shape[0]) if isinstance(block, Conv) else block


# Norms ---------------------------------------------------------------------------------------------------------------


def _normed(block: Any) -> Any:
    """A block with a norm in front of every activation that has none between it and its convolution."""
    if isinstance(block, Chain):
        return _normed_chain(block, bare=False)[0]
    if isinstance(block, Residual):
        return replace(block, body=_normed(block.body), shortcut=block.shortcut and _normed(block.shortcut))
    if isinstance(block, Parallel):
        return Parallel(*map(_normed, block.branches), fan=block.fan, join=block.join)
    if isinstance(block, Graph):
        return Graph(*_normed_nodes(block), source=block.source, sink=block.sink)
    if hasattr(block, "rewritten"):
        return block.rewritten(_normed_at)
    return block


def _normed_at(graph: Block, _: Shape) -> Block:
    normed: Block = _normed(graph)
    return normed


def _normed_chain(chain: Chain, bare: bool) -> tuple[Chain, bool]:
    """The chain, and whether what comes out is a convolution's, with no norm behind it."""
    blocks: list[Block] = []
    for block in chain.blocks:
        if isinstance(block, Chain):
            block, bare = _normed_chain(block, bare)
        else:
            if bare and _bends(block):
                blocks.append(BatchNorm())
            block, bare = _normed(block), _is_bare(block, bare)
        blocks.append(block)
    return Chain(*blocks), bare


def _normed_nodes(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph, with norms in front of bare activations, each under a name of its own."""
    bare: dict[int, str] = {}  # the wires that come from a convolution with no norm behind it, and its name
    fresh = count(1 + max((wire for node in graph.nodes for wire in (*node.takes, *node.gives)), default=0))
    named: set[str] = set()
    for name, block, takes, gives in graph.nodes:
        origin = bare.get(takes[0], "")
        if origin and isinstance(block, Block) and _bends(block):
            norm = next(f"{origin}_norm{n or ''}" for n in count() if f"{origin}_norm{n or ''}" not in named)
            named.add(norm)
            behind = next(fresh)
            yield Node(norm, BatchNorm(), takes, (behind,))
            takes = (behind,)
        yield Node(name, _normed(block), takes, gives)
        if isinstance(block, (Conv, ConvTranspose)) or (isinstance(block, Chain) and _is_bare(block.blocks[-1], False)):
            bare.update(dict.fromkeys(gives, name))
        elif origin and (isinstance(block, Copy) or (isinstance(block, Block) and _is_bare(block, True))):
            bare.update(dict.fromkeys(gives, origin))


def _bends(block: Block) -> bool:
    """Whether it is an activation."""
    return block.pointwise and not isinstance(block, (*NORMS, *IDLE))


def _is_bare(block: Block, before: bool) -> bool:
    """Whether what a block gives is a convolution's that no norm has seen."""
    if isinstance(block, (Conv, ConvTranspose)):
        return True
    return before and isinstance(block, IDLE)
