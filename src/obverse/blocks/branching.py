"""Blocks side by side: Residual and Parallel, which are graphs drawn for you."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from obverse.arithmetic import differ, whole
from obverse.block import Block, Limit, brief, passing, variadic
from obverse.blocks.conv import Conv
from obverse.blocks.pointwise import Identity
from obverse.blocks.resampling import Upsample
from obverse.chain import Chain
from obverse.errors import MirrorError, ShapeError
from obverse.graph import Concat, Copy, Graph, Junction, Node, Product, Split, Sum
from obverse.later import Later
from obverse.settings import collapsed
from obverse.shapes import Shape, shape_text
from obverse.sight import Sight
from obverse.sizes import Course, Growing, Unknown, Untold, bounded, followed, is_over

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    modules = Later("obverse.modules")

__all__ = ["Drawn", "Parallel", "Residual"]


class Drawn(Block):
    """A block that stands on a graph, which it draws for a shape."""

    opens = True

    def graph(self, shape: Shape) -> Graph:
        """The graph that does the work."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        return self.graph(shape).output_shape(shape)

    def mirror(self, shape: Shape) -> Block:
        return self.graph(shape).mirror(shape)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return modules.Wired(self.graph(shape), shape, device, dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return self.graph(shape).parameter_shapes(shape)

    def multiply_adds(self, shape: Shape) -> int:
        return self.graph(shape).multiply_adds(shape)

    def windows(self, shape: Shape) -> Sight:
        return self.graph(shape).windows(shape)

    def remainders(self, shape: Shape) -> tuple[int, ...]:
        return self.graph(shape).remainders(shape)

    def notes(self, shape: Shape) -> tuple[str, ...]:
        return self.graph(shape).notes(shape)

    def limits(self, shape: Shape) -> tuple[Limit, ...]:
        return self.graph(shape).limits(shape)

    def numbers_around(self, shape: Shape) -> int:
        return self.graph(shape).numbers_around(shape)


@dataclass(frozen=True, repr=False, init=False)
class Parallel(Drawn):
    """Blocks side by side on the same input, or on shares of it.

    >>> from obverse import AdaptiveAvgPool, Chain, Conv, Identity, ReLU, Sigmoid
    >>> inception = Parallel(Conv(8, 1), Conv(16, 3, padding=1), join="concat")
    >>> inception.output_shape((3, 28, 28))
    (24, 28, 28)
    >>> inception.mirror((3, 28, 28))    # a concatenation mirrors to a split, a copy to a sum
    Parallel(ConvTranspose(3, 1), ConvTranspose(3, 3, padding=1), fan=(8, 16))

    >>> gate = Chain(AdaptiveAvgPool(1), Conv(4, 1), ReLU(), Conv(16, 1), Sigmoid())
    >>> squeeze_excitation = Parallel(Identity(), gate, join="multiply")
    >>> squeeze_excitation.mirror((16, 28, 28)) == squeeze_excitation
    True

    Args:
        *branches: at least one block.
        fan: `"copy"` gives every branch the whole input; sizes give each its share of the channels.
        join: `"add"`, or `"concat"` along the channels; `"multiply"` gates the first branch with the others, which give
            its shape, or a single cell where they shall hold for a whole axis.

    Mirror: the branches' mirrors, with fan and join exchanged. A product is not linear and has no transpose: the mirror
    gates the first branch's mirror with fresh gates of the same make.

    Raises:
        ShapeError: for branches whose shapes cannot be joined, or sizes that do not add up to the channels.
        MirrorError: for a gated branch that changes its shape; gate behind it instead.
    """

    opens = False

    branches: tuple[Block, ...] = variadic()
    fan: Literal["copy"] | tuple[int, ...] = "copy"
    join: Literal["add", "concat", "multiply"] = "add"

    def __init__(self, *branches: Block, fan: Any = "copy", join: Any = "add") -> None:
        object.__setattr__(self, "branches", Chain(*branches).blocks if branches else ())
        object.__setattr__(self, "fan", tuple(fan) if isinstance(fan, list) else fan)
        object.__setattr__(self, "join", join)
        _check_parallel(self)

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        """Copies and sums, splits and concatenations are each other's transposes."""
        return self.join != "multiply" and all(branch.adjoint for branch in self.branches)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What the branches do."""
        return passing(self.branches)

    def graph(self, shape: Shape) -> Graph:
        """Fan, branches, join."""
        number = len(self.branches)
        fan: Junction = Copy(number) if self.fan == "copy" else Split(self.fan)
        join: Junction = {"add": Sum(number), "concat": Concat(), "multiply": Product()}[self.join]
        inside, outside = tuple(range(1, number + 1)), tuple(range(number + 1, 2 * number + 1))
        branches = [Node(str(at), branch, (inside[at],), (outside[at],)) for at, branch in enumerate(self.branches)]
        if self.around == "takes":  # what was given last is taken first
            branches.reverse()
        return Graph(Node("fan", fan, (0,), inside), *branches, Node("join", join, outside, (2 * number + 1,)))

    def mirror(self, shape: Shape) -> Block:
        graph = self.graph(shape)
        wires = graph.wires(shape)
        at = {int(node.name): wires[node.takes[0]] for node in graph.nodes[1:-1]}
        after = [wires[wire] for wire in graph.nodes[-1].takes]
        if self.join == "multiply":
            return self._gated_mirror(shape, after[0])
        return Parallel(
            *[branch.mirror(at[place]) for place, branch in enumerate(self.branches)],
            fan="copy" if self.join == "add" else tuple([out[0] for out in after]),
            join="add" if self.fan == "copy" else "concat",
        )

    def _gated_mirror(self, shape: Shape, after: Shape) -> Block:
        main, *gates = self.branches
        if self.fan != "copy" or (len(after) != len(shape) or any(map(differ, after, shape))):
            raise MirrorError(
                f"{brief(self)} gates a branch that takes {shape_text(shape)} to {shape_text(after)}, so that its "
                "mirror would need gates of another shape.",
                f"Gate behind it: Chain({main!r}, Parallel(Identity(), ..., join='multiply')).",
            )
        return Parallel(main.mirror(shape), *gates, join="multiply")


def _check_parallel(block: Parallel) -> None:
    if not block.branches:
        raise ShapeError("it has at least one branch.", "Give it blocks, or write Identity().", where="Parallel()")
    if block.join not in ("add", "concat", "multiply"):
        raise ShapeError(
            f"join={block.join!r} is none of 'add', 'concat', 'multiply'.", "Give join='add'.", where="Parallel"
        )
    if block.fan == "copy":
        return
    if not isinstance(block.fan, tuple) or not all(map(_is_size, block.fan)) or len(block.fan) != len(block.branches):
        raise ShapeError(
            f"fan is 'copy', or a number of channels for each of {len(block.branches)} branches; "
            f"{block.fan!r} was given.",
            "Give fan='copy'.",
            where="Parallel",
        )


def _is_size(size: Any) -> bool:
    """Whether it is a number of channels: an integer, or the symbol of one, while a program is traced."""
    try:
        whole("fan", size, 1)
    except ShapeError:
        return False
    return True


@dataclass(frozen=True, repr=False)
class Residual(Drawn):
    """A block and a way around it, added: He et al., arXiv:1512.03385.

    >>> from obverse import Chain, Conv, ReLU
    >>> Residual(Chain(Conv(8, 3, padding=1), ReLU())).mirror((8, 28, 28))    # the activation survives
    Residual(Chain(ReLU(), ConvTranspose(8, 3, padding=1)))

    Where the body changes the shape, the way around is worked out, if one fits at every size:

    >>> Residual(Conv(16, 3, stride=2, padding=1)).shortcut_at((8, 28, 28))
    Conv(16, 1, stride=2)
    >>> Residual(Conv(16, 3, stride=2)).output_shape((8, 28, 28))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: Residual(Conv(16, 3, stride=2)) at 8×28×28: the body gives 16×13×13, \
which no 1×1 convolution gives at every size.
    Give it shortcut=Conv(16, 3, stride=2).

    Args:
        body: what is learned.
        shortcut: the way around. `None` means: nothing at all if the body keeps every shape; otherwise
            `Conv(channels, 1, stride=…)` if that has the body's sizes, at every size and not only here.

    Mirror: the mirrors of body and shortcut, added.

    Raises:
        ShapeError: where body and shortcut cannot be added, with a shortcut to paste.
    """

    opens = False

    body: Block
    shortcut: Block | None = None

    def __post_init__(self) -> None:
        for part in (self.body, self.shortcut):
            if part is not None:
                Chain(part)  # which refuses what is no block

    @property
    def adjoint(self) -> bool:  # type: ignore[override]
        """A sum of two ways is as linear as they are."""
        return self.body.adjoint and (self.shortcut is None or self.shortcut.adjoint)

    @property
    def around(self) -> Literal["", "gives", "takes"]:  # type: ignore[override]
        """What body and shortcut do."""
        return passing([self.body, *([] if self.shortcut is None else [self.shortcut])])

    def shortcut_at(self, shape: Shape) -> Block:
        """The way around, as given or as worked out.

        Raises:
            ShapeError: where none was given and none can be worked out, with one to paste.
        """
        if self.shortcut is not None:
            return self.shortcut
        known: dict[tuple[Any, int], Block | Untold | None] = self.__dict__.setdefault("_known", {})
        key = (shape[0], len(shape))
        if key not in known:  # channels and rank settle it: the tree must not depend on the size
            known[key] = _answer(self.body, *key, shape)
        found = known[key]
        if isinstance(found, Block):
            return found
        raise ShapeError(lambda: self._without_shortcut(shape, found))

    def _without_shortcut(self, shape: Shape, untold: Untold | None) -> ShapeError:
        try:
            after = self.body.output_shape(shape)
        except ShapeError as error:  # which a shortcut would not mend
            return ShapeError(error.reason, error.repair, error.nearest, f"body: {error.where}")
        why = "which no 1×1 convolution gives at every size"
        if untold is not None:
            why = f"and whether a 1×1 convolution gives that at every size cannot be worked out: {untold.reason[:-1]}"
        fits = _fitting(self.body, shape, after, everywhere=untold is None)
        repair = "a shortcut of its own, that gives this" if fits is None else f"shortcut={fits!r}"
        return self.refuse(shape, f"the body gives {shape_text(after)}, {why}.", f"Give it {repair}.")

    def graph(self, shape: Shape) -> Graph:
        """A copy, two ways, a sum."""
        ways = [Node("body", self.body, (1,), (3,)), Node("shortcut", self.shortcut_at(shape), (2,), (4,))]
        if self.around == "takes":  # what was given last is taken first
            ways.reverse()
        return Graph(Node("fan", Copy(2), (0,), (1, 2)), *ways, Node("join", Sum(2), (3, 4), (5,)))

    def mirror(self, shape: Shape) -> Block:
        self.output_shape(shape)
        shortcut = self.shortcut_at(shape)
        if self.shortcut is not None or shortcut != Identity():
            return Residual(self.body.mirror(shape), shortcut.mirror(shape))
        mirror = Residual(self.body.mirror(shape))
        # the mirror of a body that keeps every shape keeps it, too: known, and not to be worked out again
        mirror.__dict__["_known"] = {(shape[0], len(shape)): shortcut}
        return mirror


def _answer(body: Block, channels: Any, rank: int, shape: Shape) -> Block | Untold | None:
    """The way around a body; `None` if there is none, and `Untold` if that is not settled in reasonable time.

    Raises:
        Untold: where a question around this one has no time left: then nothing is known of this one.
    """
    try:
        with bounded():
            return _worked_out(body, channels, rank, shape)
    except Untold as error:
        if is_over():
            raise
        return error


def _worked_out(body: Block, channels: Any, rank: int, shape: Shape) -> Block | None:
    if rank == 1:
        return Identity() if body.output_shape(shape) == shape else None
    if _agree(body, Identity(), channels, rank):
        return Identity()
    ways = [_way(body, channels, rank, axis) for axis in range(1, rank)]
    if None in ways or len({out for out, _ in ways if out is not None}) != 1:
        return None
    (out, _), *_ = ways
    projection = Conv(out, 1, stride=collapsed(stride for _, stride in ways))
    return projection if _agree(body, projection, channels, rank) else None


def _way(body: Block, channels: Any, rank: int, axis: int) -> Any:
    """The channels that a body gives, and after how many cells along an axis it gives one more."""
    for course in _followed(lambda shape: body.output_shape(shape), channels, rank, axis):
        if course.step and course.outcome is not None and len(course.outcome) == rank:
            out, grown = course.outcome[0], course.outcome[axis]
            if type(out) is int and isinstance(grown, Growing) and grown.step and course.step % grown.step == 0:
                return out, course.step // grown.step
    return None


class _Differs(Exception):  # noqa: N818    # no error: an answer
    """Two blocks give different shapes somewhere, which settles it."""


def _agree(body: Block, other: Block, channels: Any, rank: int) -> bool:
    """Whether another block gives the shape that a body gives, for every size along every axis that the body takes."""

    def same(shape: Shape) -> None:
        after = body.output_shape(shape)
        if not _is_here(other, shape, after):
            raise _Differs

    try:
        for axis in range(1, rank):
            _followed(same, channels, rank, axis)
    except _Differs:
        return False
    return True


def _is_here(way: Block, shape: Shape, after: Shape) -> bool:
    """Whether a way around gives what a body gives, for one shape, or for a class of them."""
    try:
        expected = way.output_shape(shape)
    except ShapeError:
        return False
    return len(after) == len(expected) and not any(map(differ, after, expected))


def _followed(formula: Callable[[Shape], Any], channels: Any, rank: int, axis: int) -> list[Course]:
    """What a formula makes of all shapes, along one axis."""

    def along(size: Any) -> Any:
        sizes: list[Any] = [Unknown([]) for _ in range(1, rank)]
        sizes[axis - 1] = size
        return formula((channels, *sizes))

    return followed(along)


def _jumps(body: Block, shape: Shape) -> tuple[Any, ...]:
    blocks = [body] if not isinstance(body, Chain) else [block for _, block in body.links if not block.pointwise]
    sight = Chain(*blocks).windows(shape) if blocks else None  # a norm sees everything, and moves nothing
    return tuple([window.stride for window in sight or ()])


LARGEST_SHORTCUT = 15
"""The largest kernel of a shortcut that is advised."""


def _fitting(body: Block, shape: Shape, after: Shape, everywhere: bool) -> Block | None:
    """The plainest shortcut that gives what a body gives; `None` if none is found in reasonable time."""
    try:
        with bounded():
            for way in _candidates(body, shape, after):
                if _is_here(way, shape, after) and not (everywhere and not _agree(body, way, shape[0], len(shape))):
                    return way
    except Untold:
        pass
    return None


def _candidates(body: Block, shape: Shape, after: Shape) -> Iterator[Block]:
    """Shortcuts worth trying, plainest first."""
    jumps = _jumps(body, shape)
    if len(after) != len(shape) or not jumps:
        return
    if len(set(jumps)) == 1 and jumps[0] < 1:
        yield Chain(Upsample(scale_factor=int(1 / jumps[0])), Conv(after[0], 1))
    if all(type(jump) is int and jump > 0 for jump in jumps):
        stride = jumps[0] if len(set(jumps)) == 1 else jumps
        seen = [window.seen.size for window in body.windows(shape) or ()]
        for kernel_size in range(1, min(max(seen, default=LARGEST_SHORTCUT), LARGEST_SHORTCUT) + 1):
            for padding in range(kernel_size // 2 + 1):
                yield Conv(after[0], kernel_size, stride=stride, padding=padding)
