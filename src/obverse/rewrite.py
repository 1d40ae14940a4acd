"""Chains made from chains: skips put in, poolings turned into convolutions, styles of upsampling said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from obverse.arithmetic import extent_of
from obverse.block import Block, brief, takes
from obverse.blocks.branching import Drawn, Parallel, Residual
from obverse.blocks.conv import Conv, Style, check_style
from obverse.blocks.pooling import AvgPool, LPPool, MaxPool, pool_axes
from obverse.blocks.reshaping import Pad
from obverse.blocks.skips import Skip
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Graph, Junction
from obverse.settings import collapsed
from obverse.shapes import Shape

__all__ = ["all_convolutional", "convolved", "mapped", "with_skips", "with_upsampling"]

Skips = str | Iterable[str] | Mapping[str, str] | None


def with_skips(chain: Chain, shape: Shape, skips: Skips) -> Chain:
    """A chain with a `Skip` in front of the given places, or of every block with a stride above 1.

    >>> from obverse import Conv, ReLU
    >>> encoder = Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Conv(16, 3, stride=2, padding=1))
    >>> with_skips(encoder, (1, 28, 28), "add")
    Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Skip(join='add'), Conv(16, 3, stride=2, padding=1))

    The input itself never skips by itself: a model that is handed its input has nothing to learn.

    Args:
        chain: the encoder.
        shape: what goes into it.
        skips: `"concat"` or `"add"` for all; or the places, as in `("2", "4")`; or how at each place,
            `{"2": "add"}`. `None` for none.

    Raises:
        ShapeError: for a place that the chain has not, with those that it has.
    """
    if skips is None:
        return chain
    if isinstance(skips, (str, bool)) and skips not in ("concat", "add"):
        raise ShapeError(
            f"skips={skips!r} is neither 'concat' nor 'add'.",
            "For a single place give a tuple: skips=('2',).",
            where="skips",
        )
    if isinstance(skips, str):
        chosen = dict.fromkeys(_shrinking(chain, shape), skips)
    else:
        chosen = dict(skips) if isinstance(skips, Mapping) else dict.fromkeys(skips, "concat")
    places = [place for place, _ in chain.links]
    unknown = [place for place in chosen if place not in places]
    if unknown:
        raise ShapeError(
            f"there is no block at place {unknown[0]!r} to skip from.",
            f"The places are {', '.join(places)}.",
            where="skips",
        )
    joins: dict[str, Any] = dict(chosen)
    return _inserted(chain, "", {place: Skip(join) for place, join in joins.items()})


def _shrinking(chain: Chain, shape: Shape) -> list[str]:
    """The places of the blocks with a stride above 1, the one at the input left out."""
    shapes = chain.shapes(shape)
    solid = [at for at, (_, block) in enumerate(chain.links) if not block.pointwise]
    return [
        chain.links[at].place
        for at in solid[1:]
        if any(window.stride > 1 for window in chain.links[at].block.windows(shapes[at]) or ())
    ]


def _inserted(chain: Chain, prefix: str, at: Mapping[str, Block]) -> Chain:
    blocks: list[Block] = []
    for number, block in enumerate(chain.blocks):
        place = f"{prefix}{number}"
        if place in at:
            blocks.append(at[place])
        blocks.append(_inserted(block, f"{place}.", at) if isinstance(block, Chain) else block)
    return Chain(*blocks)


def all_convolutional(chain: Chain, shape: Shape | None = None) -> Chain:
    """The chain with every pooling replaced by a strided convolution of the same arithmetic, so that shapes stay.

    >>> from obverse import Conv, ReLU
    >>> all_convolutional(Chain(Conv(16, 3, padding=1), ReLU(), MaxPool(2)))
    Chain(Conv(16, 3, padding=1), ReLU(), Conv(16, 2, stride=2))

    Adaptive pooling stays: its windows depend on the size, and no convolution's do.

    Args:
        chain: the encoder.
        shape: what goes into it; needed only where the channels at a pooling are those of the input.

    Source: Springenberg et al., arXiv:1412.6806.

    Raises:
        ShapeError: where the channels at a pooling are not known without the shape.
    """
    if shape is not None:
        known: Chain = mapped(chain, shape, convolved)
        return known
    answers: set[Chain] = {mapped(chain, tried, convolved) for tried in _accepted(chain)}
    if len(answers) != 1:
        raise ShapeError(
            "how many channels reach a pooling depends on the input.",
            "Give the input's shape: all_convolutional((3, 224, 224)).",
            where=brief(chain)[:80],
        )
    return answers.pop()


def _accepted(chain: Chain) -> Iterable[Shape]:
    """Shapes that a chain takes, with two channel counts where there are two."""
    found: list[Shape] = []
    for rank in (2, 1, 3):
        for size in (32, 64, 256):
            for channels in (1, 3, 2, 4, 6, 8, 12, 16, 32, 64):
                tried = (channels, *(size,) * rank)
                if takes(chain, tried):
                    found.append(tried)
            if found:
                return found[:2]
    return found


def mapped(block: Any, shape: Shape, change: Callable[[Block, Shape], Block]) -> Any:
    """A block with `change` applied to every block in it that holds no others."""
    if isinstance(block, Chain):
        blocks = []
        for inner in block.blocks:
            blocks.append(mapped(inner, shape, change))
            shape = inner.output_shape(shape)
        return Chain(*blocks)
    if isinstance(block, Residual):
        way = block.shortcut_at(shape)
        shortcut = mapped(way, shape, change)
        said = block.shortcut if shortcut == way else shortcut  # one that is worked out stays so
        return replace(block, body=mapped(block.body, shape, change), shortcut=said)
    if isinstance(block, Parallel):
        fan = block.graph(shape).wires(shape)
        branches = [mapped(branch, fan[at], change) for at, branch in enumerate(block.branches, start=1)]
        return replace(block, branches=tuple(branches))
    if isinstance(block, Graph):
        wires = block.wires(shape)
        nodes = [
            node
            if isinstance(node.block, Junction)
            else node._replace(block=mapped(node.block, wires[node.takes[0]], change))
            for node in block.nodes
        ]
        return replace(block, nodes=tuple(nodes))
    return Redrawn(block, change) if isinstance(block, Drawn) else change(block, shape)


@dataclass(frozen=True, repr=False)
class Redrawn(Drawn):
    """A block that is drawn anew for every shape, with its graph changed each time: what is mirrored in its place.

    Attributes:
        block: what draws the graph.
        change: what is done to every block in it.
    """

    block: Drawn
    change: Callable[[Block, Shape], Block]

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What the block does."""
        return self.block.around

    def output_shape(self, shape: Shape) -> Shape:
        return self.block.output_shape(shape)

    def graph(self, shape: Shape) -> Graph:
        graph: Graph = mapped(self.block.graph(shape), shape, self.change)
        return graph


def with_upsampling(block: Block, shape: Shape, style: Style) -> Block:
    """A block in which every strided convolution that says no style of upsampling says this one.

    >>> with_upsampling(Chain(Conv(8, 3, stride=2), Conv(8, 3)), (1, 28, 28), "resize")
    Chain(Conv(8, 3, stride=2, upsampling='resize'), Conv(8, 3))

    A way around a residual that is worked out is written out, so that it says so too.

    Args:
        block: the encoder.
        shape: what goes into it.
        style: `"transpose"`, `"resize"` or `"subpixel"`.

    Raises:
        ShapeError: for another style.
    """
    check_style(style, "mirror")
    styled: Block = block if style == "transpose" else mapped(block, shape, _Styled(style))
    return styled


@dataclass(frozen=True)
class _Styled:
    style: Style

    def __call__(self, block: Block, _: Shape) -> Block:
        if isinstance(block, Conv) and block.is_strided and block.upsampling is None:
            return replace(block, upsampling=self.style)
        return block


def convolved(block: Block, shape: Shape) -> Block:
    """A pooling as a convolution of its windows; any other block as it is."""
    if not isinstance(block, (MaxPool, AvgPool, LPPool)):
        return block
    pool: Any = block
    stride = pool.kernel_size if pool.stride is None else pool.stride
    padding, dilation = getattr(pool, "padding", 0), getattr(pool, "dilation", 1)
    if not pool.ceil_mode:
        return Conv(shape[0], pool.kernel_size, stride, padding, dilation)
    # a last window may be partly outside, yet none may start there: hence the smaller of the two
    axes = pool_axes(pool, len(shape) - 1)
    pads = [(p, min(p + s - 1, extent_of(k, d) - 1)) for k, s, p, d, _ in axes]
    return Chain(Pad(collapsed(pads)), Conv(shape[0], pool.kernel_size, stride, 0, dilation))
