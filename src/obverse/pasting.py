"""An encoder and its mirror as plain PyTorch, to paste: `torch.nn` and what PyTorch lacks, without obverse.

It is text, worked out from shapes; writing it needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from textwrap import indent
from typing import Any, NamedTuple

from obverse.arithmetic import extent_of, same_padding, strided_same_padding, window_of
from obverse.block import Block, brief, default_of
from obverse.blocks.branching import Parallel, Residual
from obverse.blocks.conv import Conv, ConvTranspose, ResizeConv, Style, SubpixelConv, cells_behind, subpixel_kernel
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Pointwise, RMSNorm, _Layer
from obverse.blocks.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    LPPool,
    MaxPool,
    MaxUnpool,
    NearestUnpool,
    pool_axes,
)
from obverse.blocks.rearrange import Rearrange
from obverse.blocks.resampling import PixelShuffle, PixelUnshuffle, Upsample
from obverse.blocks.reshaping import Crop, Flatten, Pad, Unflatten
from obverse.blocks.skips import Rejoin, Skip
from obverse.chain import Chain
from obverse.decoder import mirror
from obverse.errors import ConfigError
from obverse.graph import Concat, Copy, Graph, Junction, Product, Split, Sum
from obverse.rewrite import with_upsampling
from obverse.shapes import Shape, as_shape, shape_text

__all__ = ["pytorch_code"]


def pytorch_code(encoder: Block, input_shape: Shape, *, upsampling: Style = "transpose") -> str:
    """An encoder and its decoder as a class of plain PyTorch, for one input shape.

    >>> from obverse import Conv, ReLU
    >>> print(pytorch_code(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(8, 5, stride=3)), (1, 27, 40)))
    from torch import nn
    <BLANKLINE>
    <BLANKLINE>
    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(  # 1×27×40
                nn.Conv2d(1, 16, 3, stride=2, padding=1),  # 16×14×20
                nn.ReLU(),
                nn.Conv2d(16, 8, 5, stride=3),  # 8×4×6
            )
            self.decoder = nn.Sequential(
                nn.ConvTranspose2d(8, 16, 5, stride=3),  # 16×14×20
                nn.ReLU(),
                nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=(0, 1)),  # 1×27×40
            )
    <BLANKLINE>
        def forward(self, x):
            code = self.encoder(x)
            return self.decoder(code), code

    Its numbers are those of `obverse.Autoencoder(encoder, input_shape)`, and so are the keys of its `state_dict`:
    weights go from one to the other. It takes this shape alone. What `torch.nn` lacks stands above it as short classes.

    Args:
        encoder: a chain, or any block.
        input_shape: `(C, *spatial)`, without the batch.
        upsampling: how the mirrors of strided convolutions make sizes larger, as in `mirror`.

    Raises:
        ShapeError: for a shape that the encoder does not take.
        ConfigError: for a block of which no plain writing is known, such as a plugin's.
    """
    shape = as_shape(input_shape)
    block = with_upsampling(_as_chain(encoder), shape, upsampling)
    decoder = _as_chain(mirror(block, shape))
    writer = _Writer()
    halves = {"encoder": writer.chain(_as_chain(block), shape)}
    halves["decoder"] = writer.chain(decoder, block.output_shape(shape))
    keeps = "around" in writer.used
    init = ["super().__init__()", *(["self.around = around = []  # what goes round the code"] if keeps else [])]
    for name, source in halves.items():
        first, *rest = source.split("\n")
        init += [f"self.{name} = {first}{f'  # {shape_text(shape)}' if name == 'encoder' else ''}", *rest]
    forward = [*(["self.around.clear()"] if keeps else []), "code = self.encoder(x)", "return self.decoder(code), code"]
    body = _class("Autoencoder(nn.Module)", {"__init__(self)": init, "forward(self, x)": forward})
    return _page([*writer.classes.values(), body])


def _as_chain(block: Block) -> Chain:
    return block if isinstance(block, Chain) else Chain(block)


def _page(classes: Sequence[str]) -> str:
    source = "\n\n\n".join(classes)
    wanted = {"import torch": "torch.", "from torch import nn": "nn.", "from torch.nn import functional as F": "F."}
    imports = [line for line, sign in wanted.items() if sign in source.replace("torch.nn", "")]
    return "\n".join(imports) + "\n\n\n" + source


def _class(head: str, methods: dict[str, list[str]], doc: str = "") -> str:
    parts = [f'    """{doc}"""'] if doc else []
    for signature, lines in methods.items():
        parts.append(f"    def {signature}:\n" + indent("\n".join(lines), " " * 8))
    return f"class {head}:\n" + "\n\n".join(parts)


class Call(NamedTuple):
    """A call in source: a name, arguments by place, arguments by name; those that are none of the two's defaults."""

    name: str
    arguments: Iterable[Any] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012    # never changed

    def __str__(self) -> str:
        given = [
            *map(_literal, self.arguments),
            *(f"{name}={_literal(value)}" for name, value in self.settings.items()),
        ]
        return f"{self.name}({', '.join(given)})"


class Source(str):
    """An argument that is source already."""


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, Source) else f'"{value}"' if isinstance(value, str) else repr(value)


@dataclass
class _Writer:
    """Source for one block after another, and the classes that it needs."""

    classes: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def source(self, block: Block, shape: Shape) -> str:
        """The expression that makes a block's module."""
        if isinstance(block, Chain):
            return self.chain(block, shape)
        for kind in type(block).__mro__:
            if kind in _WRITERS:
                return str(_WRITERS[kind](self, block, shape))
        raise ConfigError(
            f"{brief(block)} is not written as plain PyTorch: only the blocks that come with obverse are.",
            "Build it: Autoencoder(encoder, input_shape).",
        )

    def chain(self, chain: Chain, shape: Shape) -> str:
        """A `torch.nn.Sequential`, a line a module, with the shape after each that is not pointwise."""
        lines = []
        for block in chain.blocks:
            after = block.output_shape(shape)
            said = f"  # {shape_text(after)}" if not (block.pointwise or isinstance(block, Chain)) else ""
            lines.append(f"{self.source(block, shape)},{said}")
            shape = after
        return "nn.Sequential(\n" + indent("\n".join(lines), "    ") + "\n)"

    def needs(self, name: str) -> str:
        """A class of those that PyTorch lacks, by its name; it then stands above."""
        base, doc, methods = _LACKING[name[:-2] if name[-2:] in ("1d", "2d", "3d") else name]
        rank = name[-2:]
        self.classes[name] = _class(f"{name}({base.format(rank)})", methods, doc)
        return name

    def around(self) -> Source:
        """The list that carries what goes round the code."""
        self.used.add("around")
        return Source("around")

    def graph(self, graph: Graph, shape: Shape) -> str:
        """A class of its own: the nodes as modules, the wires as variables."""
        wires = graph.wires(shape)
        init, forward = ["super().__init__()"], []
        outside = any("around" in self.source(b, wires[t[0]]) for _, b, t, _ in graph.nodes if isinstance(b, Block))
        for name, block, takes, gives in graph.nodes:
            taken, given = [f"x{wire}" for wire in takes], [f"x{wire}" for wire in gives]
            if isinstance(block, Junction):
                forward.append(f"{_given(block, given)} = {_met(block, taken)}")
                continue
            plain = name.isidentifier()
            source = self.source(block, wires[takes[0]])
            init += (f"self.{name} = {source}" if plain else f'self.add_module("{name}", {source})').split("\n")
            called = f"self.{name}" if plain else f'self.get_submodule("{name}")'
            forward.append(f"{given[0]} = {called}({taken[0]})")
        forward.append(f"return x{graph.sink}")
        made = "__init__(self, around)" if outside else "__init__(self)"
        methods = {made: init, f"forward(self, x{graph.source})": forward}
        return f"{self._named(methods)}({'around' if outside else ''})"

    def _named(self, methods: dict[str, list[str]]) -> str:
        """The name of a graph's class; graphs that are alike share it."""
        number = 1 + sum(name.startswith("Graph") for name in self.classes)
        source = _class(f"Graph{number}(nn.Module)", methods)
        for name, known in self.classes.items():
            if name.startswith("Graph") and known.partition(":")[2] == source.partition(":")[2]:
                return name
        self.classes[f"Graph{number}"] = source
        return f"Graph{number}"


def _given(junction: Junction, names: list[str]) -> str:
    return " = ".join(names) if isinstance(junction, Copy) else ", ".join(names)


def _met(junction: Junction, names: list[str]) -> str:
    """What a junction does, as source."""
    match junction:
        case Copy():
            return names[0]
        case Sum():
            return " + ".join(names)
        case Product():
            return " * ".join(names)
        case Concat():
            return f"torch.cat([{', '.join(names)}], dim=1)"
        case Split(sizes):
            return f"{names[0]}.split({list(sizes)}, dim=1)"
    raise ConfigError(f"{junction!r} is not written as plain PyTorch.", "Build it: Autoencoder(encoder, input_shape).")


def _settings(block: Any, *names: str, **others: Any) -> dict[str, Any]:
    """The arguments of a block that are not their defaults, and others that are not `None`."""
    known = type(block).__dataclass_fields__
    kept = {name: getattr(block, name) for name in names if getattr(block, name) != default_of(known[name])}
    return kept | {name: value for name, value in others.items() if value is not None}


def _backwards(pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Pairs as PyTorch pads: the last axis first."""
    return tuple([amount for pair in reversed(list(pairs)) for amount in pair])


def _one(values: Sequence[Any]) -> Any:
    """One number where all axes agree, as people write it."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _rank(shape: Shape) -> str:
    return f"{len(shape) - 1}d"


# Convolutions


def _conv(writer: _Writer, block: Conv, shape: Shape) -> Call:
    arguments = (shape[0], block.out_channels, block.kernel_size)
    rank = _rank(shape)
    names = ("stride", "padding", "dilation", "groups", "bias", "padding_mode")
    if block.padding != "same" or not block.is_strided:  # PyTorch's own "same" knows no strides
        settings = _settings(block, *names)
        if settings.get("padding") == "valid":
            del settings["padding"]
        return Call(f"nn.Conv{rank}", arguments, settings)
    axes = zip(shape[1:], block._axes(len(shape) - 1), strict=True)
    pads = _backwards([strided_same_padding(n, k, s, d) for n, (k, s, _, d) in axes])
    mode = None if block.padding_mode == "zeros" else block.padding_mode
    settings = _settings(block, "stride", "dilation", "groups", "bias", pad=pads, mode=mode)
    return Call(writer.needs(f"PaddedConv{rank}"), arguments, settings)


_TRANSPOSED = ("stride", "padding", "output_padding", "groups", "bias", "dilation")


def _conv_transpose(writer: _Writer, block: ConvTranspose, shape: Shape) -> Call:
    arguments = (shape[0], block.out_channels, block.kernel_size)
    rank = _rank(shape)
    if block.padding != "same":
        return Call(f"nn.ConvTranspose{rank}", arguments, _settings(block, *_TRANSPOSED))
    crops, most = [], []
    sizes = zip(shape[1:], block.output_shape(shape)[1:], block._axes(len(shape) - 1), strict=True)
    for cells, size, (k, s, _, _, d) in sizes:
        before = strided_same_padding(size, k, s, d)[0]
        full = (cells - 1) * s + extent_of(k, d) + s - 1
        crops.append((-before, size + before - full))
        most.append(s - 1)
    settings = _settings(block, "stride", output_padding=_one(most) or None)
    settings |= _settings(block, "groups", "bias", "dilation", crop=_backwards(crops))
    return Call(writer.needs(f"CroppedConvTranspose{rank}"), arguments, settings)


def _before(size: int, kernel_size: int, stride: int, padding: Any, dilation: int) -> int:
    """The cells that a transposed convolution takes away in front."""
    return int(strided_same_padding(size, kernel_size, stride, dilation)[0] if padding == "same" else padding)


def _resize_conv(writer: _Writer, block: ResizeConv, shape: Shape) -> Call:
    cells, pads = [], []
    sizes = zip(shape[1:], block.output_shape(shape)[1:], block._axes(len(shape) - 1), strict=True)
    for there, size, (k, s, p, a, d) in sizes:
        before, after = same_padding(k, d)
        if s > 1:  # as obverse.upsampling has it: the window whose middle is nearest
            offset = 2 * _before(size, k, s, p, d) - extent_of(k, d) + s
            shift = f"2 * i {offset:+}".replace("+", "+ ").replace("-", "- ") if offset else "2 * i"
            cells.append(Source(f"[min(max(({shift}) // {2 * s}, 0), {there - 1}) for i in range({size})]"))
            pads.append((before, after))
        else:
            cells.append(Source(f"range({there})"))
            pads.append((after, before) if p == "same" else (before + after - p, before + after - p + a))
    settings = _settings(block, "dilation", "groups", "bias", pad=_backwards(pads))
    return Call(
        writer.needs(f"ResizeConv{_rank(shape)}"),
        (shape[0], block.out_channels, block.kernel_size),
        settings | {"cells": Source(f"[{', '.join(cells)}]")},
    )


def _subpixel_conv(writer: _Writer, block: SubpixelConv, shape: Shape) -> Call:
    axes = block._axes(len(shape) - 1)
    sizes = block.output_shape(shape)[1:]
    kernel, dilation = zip(*[subpixel_kernel(k, s, d) for k, s, _, _, d in axes], strict=True)
    behind = [cells_behind(*axis) for axis in axes]
    factors, crops = [s for _, s, *_ in axes], []
    for there, size, more, kernel_size, step, (k, s, p, _, d) in zip(
        shape[1:], sizes, behind, kernel, dilation, axes, strict=True
    ):
        before = _before(size, k, s, p, d)
        full = (there + more + step * (kernel_size - 1)) * s
        crops.append((-before, before + size - full))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    channels = block.out_channels * prod(factors)
    settings = {"padding": _one(reach), "dilation": _one(dilation), "groups": block.groups, "bias": block.bias}
    settings = {name: value for name, value in settings.items() if value != _CONV_DEFAULTS[name]}
    settings |= {"factors": tuple(factors), "behind": _backwards([(0, more) for more in behind])}
    settings["crop"] = _backwards(crops)
    return Call(writer.needs(f"SubpixelConv{_rank(shape)}"), (shape[0], channels, _one(kernel)), settings)


_CONV_DEFAULTS = {"padding": 0, "dilation": 1, "groups": 1, "bias": True}


# Pooling


def _max_pool(writer: _Writer, block: MaxPool, shape: Shape) -> Call:
    settings = _settings(block, "stride", "padding", "dilation", "ceil_mode")
    if not block.return_indices:
        return Call(f"nn.MaxPool{_rank(shape)}", (block.kernel_size,), settings)
    return Call(writer.needs(f"KeptMaxPool{_rank(shape)}"), (writer.around(), block.kernel_size), settings)


def _max_unpool(writer: _Writer, block: MaxUnpool, shape: Shape) -> Call:
    return Call(writer.needs("MaxUnpool"), (writer.around(), tuple(block.output_shape(shape)[1:])))


def _avg_pool(_: _Writer, block: AvgPool, shape: Shape) -> Call:
    settings = _settings(block, "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return Call(f"nn.AvgPool{_rank(shape)}", (block.kernel_size,), settings)


def _lp_pool(_: _Writer, block: LPPool, shape: Shape) -> Call:
    settings = _settings(block, "stride", "ceil_mode")
    kernel_size = block.kernel_size
    if len(shape) == 2 and isinstance(kernel_size, tuple):  # which PyTorch's LPPool1d cannot multiply
        (kernel_size,) = kernel_size
    return Call(f"nn.LPPool{_rank(shape)}", (block.norm_type, kernel_size), settings)


def _adaptive_pool(_: _Writer, block: Any, shape: Shape) -> Call:
    return Call(f"nn.{type(block).__name__}{_rank(shape)}", (_one(block.output_shape(shape)[1:]),))


def _nearest_unpool(writer: _Writer, block: NearestUnpool, shape: Shape) -> Call:
    sizes = list(zip(shape[1:], block.size, strict=True))
    if block.kernel_size is None:
        cells = [f"[i * {there} // {size} for i in range({size})]" for there, size in sizes]
        return Call(writer.needs("Take"), tuple(map(Source, cells)))
    axes = pool_axes(block, len(shape) - 1)
    factors = [size // there for there, size in sizes]
    if all(
        p == 0 and size == s * there and s in (1, 2, 4, 8) and d == 1
        for (there, size), (_, s, p, d, _) in zip(sizes, axes, strict=True)
    ):  # a factor that floats halve exactly: PyTorch's own rounds at others
        return Call("nn.Upsample", (), {"scale_factor": _one(factors)})
    cells = []
    for (there, size), (k, s, p, d, _) in zip(sizes, axes, strict=True):
        place = f"(i + {p}) // {s}" if p else f"i // {s}"
        plain = f"[min({place}, {there - 1}) for i in range({size})]"
        cells.append(plain if d == 1 else str([window_of(cell, there, k, s, p, d) for cell in range(size)]))
    return Call(writer.needs("Take"), tuple(map(Source, cells)))


# Resampling and reshaping


def _upsample(_: _Writer, block: Upsample, shape: Shape) -> Call:
    mode = block.mode if block.mode != "linear" else ("linear", "bilinear", "trilinear")[len(shape) - 2]
    settings = _settings(block, "size", "scale_factor", mode=None if mode == "nearest" else mode)
    return Call("nn.Upsample", (), settings | _settings(block, "align_corners"))


def _shuffle(writer: _Writer, block: PixelShuffle, shape: Shape) -> Call:
    factor, rank = block.upscale_factor, len(shape) - 1
    if rank == 2:
        return Call("nn.PixelShuffle", (factor,))
    after = block.output_shape(shape)
    split = (after[0], *(factor,) * rank, *shape[1:])
    order = (1, *[axis for place in range(2, rank + 2) for axis in (place + rank, place)])
    return Call(writer.needs("Rearrange"), (split, order, after))


def _unshuffle(writer: _Writer, block: PixelUnshuffle, shape: Shape) -> Call:
    factor, rank = block.downscale_factor, len(shape) - 1
    if rank == 2:
        return Call("nn.PixelUnshuffle", (factor,))
    after = block.output_shape(shape)
    split = (shape[0], *[length for size in after[1:] for length in (size, factor)])
    order = (1, *range(3, 2 * rank + 2, 2), *range(2, 2 * rank + 2, 2))
    return Call(writer.needs("Rearrange"), (split, order, after))


def _rearrange(writer: _Writer, block: Rearrange, shape: Shape) -> Call:
    solved = block._solved(shape)
    before, after = ([name for group in side for name in group] for side in block._groups)
    split, order = tuple([solved[name] for name in before]), tuple([before.index(name) + 1 for name in after])
    return Call(writer.needs("Rearrange"), (split, order, block.output_shape(shape)))


def _flatten(_: _Writer, block: Flatten, shape: Shape) -> Call:
    return Call("nn.Flatten", (), _settings(block, "start_dim", "end_dim"))


def _unflatten(_: _Writer, block: Unflatten, shape: Shape) -> Call:
    axis, lengths = block._lengths(shape)
    return Call("nn.Unflatten", (axis + 1, lengths))


_PADS = {"reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}


def _pad(writer: _Writer, block: Pad | Crop, shape: Shape) -> Call:
    rank = len(shape) - 1
    amounts = block.padding if isinstance(block, Pad) else [(-before, -after) for before, after in block.cropping]
    backwards = _backwards(list(amounts) * (rank if len(amounts) == 1 else 1))
    mode, value = (block.mode, block.value) if isinstance(block, Pad) else ("constant", 0)
    if rank > 3:
        return Call(writer.needs("Pad"), (backwards, mode, value if mode == "constant" else None))
    if mode == "constant" and value:
        return Call(f"nn.ConstantPad{rank}d", (backwards, value))
    return Call(f"nn.{_PADS.get(mode, 'Zero')}Pad{rank}d", (backwards,))


# Everything else


def _linear(_: _Writer, block: Linear, shape: Shape) -> Call:
    return Call("nn.Linear", (shape[-1], block.out_features), _settings(block, "bias"))


def _norm(_: _Writer, block: Any, shape: Shape) -> Call:
    settings = _settings(block, "eps", "momentum", "affine", "track_running_stats")
    return Call(f"nn.{type(block).__name__}{max(len(shape) - 1, 1)}d", shape[:1], settings)


def _group_norm(_: _Writer, block: GroupNorm, shape: Shape) -> Call:
    return Call("nn.GroupNorm", (block.num_groups, shape[0]), _settings(block, "eps", "affine"))


def _channel_norm(writer: _Writer, block: Any, shape: Shape) -> Call:
    name = type(block).__name__
    settings = _settings(block, "eps", "elementwise_affine", *(["bias"] if name == "LayerNorm" else []))
    plain = block.channels == "last" or len(shape) == 1
    return Call(f"nn.{name}" if plain else writer.needs(f"ChannelsFirst{name}"), (block.features(shape),), settings)


def _layer(_: _Writer, block: Any, shape: Shape) -> Call:
    return Call(f"nn.{type(block).__name__}", (), _settings(block, *type(block).__dataclass_fields__))


def _pointwise(_: _Writer, block: Pointwise, shape: Shape) -> Call:
    return Call(f"nn.{block.name}", (), dict(block.arguments))


def _skip(writer: _Writer, block: Skip, shape: Shape) -> Call:
    return Call(writer.needs("Keep"), (writer.around(),))


def _rejoin(writer: _Writer, block: Rejoin, shape: Shape) -> Call:
    if block.join == "add":
        return Call(writer.needs("Add"), (writer.around(),))
    return Call(writer.needs(f"Fuse{_rank(shape)}"), (writer.around(), 2 * shape[0], shape[0], 1))


def _residual(writer: _Writer, block: Residual, shape: Shape) -> str:
    if block.around == "takes":
        return writer.graph(block.graph(shape), shape)
    parts = [writer.source(part, shape) for part in (block.body, block.shortcut_at(shape))]
    return _nested(writer.needs("Residual"), parts)


def _parallel(writer: _Writer, block: Parallel, shape: Shape) -> str:
    graph = block.graph(shape)
    if block.around == "takes":
        return writer.graph(graph, shape)
    wires = graph.wires(shape)
    parts = [writer.source(branch, wires[at]) for at, branch in enumerate(block.branches, start=1)]
    settings = [f"{name}={_literal(value)}" for name, value in _settings(block, "fan", "join").items()]
    return _nested(writer.needs("Parallel"), [*parts, *settings])


def _nested(name: str, parts: Iterable[str]) -> str:
    return f"{name}(\n" + indent(",\n".join(parts), "    ") + ",\n)"


def _graph(writer: _Writer, block: Graph, shape: Shape) -> str:
    return writer.graph(block, shape)


_WRITERS: dict[type, Callable[[Any, Any, Shape], Call | str]] = {
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    ResizeConv: _resize_conv,
    SubpixelConv: _subpixel_conv,
    MaxPool: _max_pool,
    MaxUnpool: _max_unpool,
    AvgPool: _avg_pool,
    LPPool: _lp_pool,
    AdaptiveAvgPool: _adaptive_pool,
    AdaptiveMaxPool: _adaptive_pool,
    NearestUnpool: _nearest_unpool,
    Upsample: _upsample,
    PixelShuffle: _shuffle,
    PixelUnshuffle: _unshuffle,
    Rearrange: _rearrange,
    Flatten: _flatten,
    Unflatten: _unflatten,
    Pad: _pad,
    Crop: _pad,
    Linear: _linear,
    BatchNorm: _norm,
    InstanceNorm: _norm,
    GroupNorm: _group_norm,
    LayerNorm: _channel_norm,
    RMSNorm: _channel_norm,
    Pointwise: _pointwise,
    _Layer: _layer,
    Skip: _skip,
    Rejoin: _rejoin,
    Residual: _residual,
    Parallel: _parallel,
    Graph: _graph,
}


class Lacking(NamedTuple):
    """A class that PyTorch lacks: what it derives from, what it is, its methods."""

    base: str
    doc: str
    methods: dict[str, list[str]]


def _keeping(*names: str, before: Sequence[str] = (), made: str = "*arguments, {}, **settings") -> dict[str, list[str]]:
    """An `__init__` that hands on what the layer takes and keeps the rest."""
    signature = made.format(", ".join(names))
    kept = [f"self.{name} = {name}" for name in (name.partition("=")[0] for name in names)]
    kept = [line for line in kept if line not in before]
    return {f"__init__(self, {signature})": [*before, "super().__init__(*arguments, **settings)", *kept]}


def _holding(*names: str) -> dict[str, list[str]]:
    """An `__init__` that keeps what it is given."""
    return {f"__init__(self, {', '.join(names)})": ["super().__init__()", *[f"self.{n} = {n}" for n in names]]}


_LACKING: dict[str, Lacking] = {
    "PaddedConv": Lacking(
        "nn.Conv{}",
        "A convolution whose input is padded unevenly first, as F.pad takes it: the last axis in front.",
        _keeping("pad", 'mode="constant"')
        | {"forward(self, x)": ["return super().forward(F.pad(x, self.pad, self.mode))"]},
    ),
    "CroppedConvTranspose": Lacking(
        "nn.ConvTranspose{}",
        "A transposed convolution whose output is cropped unevenly, as F.pad takes it: the last axis in front.",
        _keeping("crop") | {"forward(self, x)": ["return F.pad(super().forward(x), self.crop)"]},
    ),
    "ResizeConv": Lacking(
        "nn.Conv{}",
        "Along every axis the cells with the given numbers, then a convolution: no checkerboard (Odena et al., 2016).",
        _keeping("cells", "pad")
        | {
            "forward(self, x)": [
                "for axis, cells in enumerate(self.cells, start=2):",
                "    x = x.index_select(axis, torch.tensor(list(cells), device=x.device))",
                "return super().forward(F.pad(x, self.pad))",
            ]
        },
    ),
    "SubpixelConv": Lacking(
        "nn.Conv{}",
        "A convolution whose channels are spread out over space (Shi et al., 2016), then cropped.",
        _keeping("factors", "behind", "crop", before=["self.factors = factors"])
        | {
            "reset_parameters(self)": [
                "super().reset_parameters()",
                "cells = torch.Size(self.factors).numel()",
                "with torch.no_grad():  # the channels of a cell start equal (Aitken et al., 2017)",
                "    for parameter in self.parameters(recurse=False):",
                "        parameter.copy_(parameter[::cells].repeat_interleave(cells, dim=0))",
            ],
            "forward(self, x)": [
                "x = super().forward(F.pad(x, self.behind))",
                "batch, _, *sizes = x.shape",
                "rank = len(sizes)",
                "x = x.reshape(batch, -1, *self.factors, *sizes)",
                "x = x.permute(0, 1, *[axis for i in range(rank) for axis in (2 + rank + i, 2 + i)])",
                "x = x.reshape(batch, x.shape[1], *[n * s for n, s in zip(sizes, self.factors)])",
                "return F.pad(x, self.crop)",
            ],
        },
    ),
    "KeptMaxPool": Lacking(
        "nn.MaxPool{}",
        "Max pooling that keeps where the largest values were.",
        _keeping("around", made="{}, *arguments, **settings", before=['settings["return_indices"] = True'])
        | {"forward(self, x)": ["x, places = super().forward(x)", "self.around.append(places)", "return x"]},
    ),
    "MaxUnpool": Lacking(
        "nn.Module",
        "Values put back where a max pooling had found them.",
        _holding("around", "size")
        | {
            "forward(self, x)": [
                "places, cells = self.around.pop(), torch.Size(self.size).numel()",
                "flat = x.new_zeros((*x.shape[:2], cells + 1))  # one more, for a window that missed every cell",
                "filled = flat.scatter(2, places.flatten(2).clamp(max=cells), x.flatten(2))",
                "return filled[..., :cells].reshape(*x.shape[:2], *self.size)",
            ]
        },
    ),
    "Take": Lacking(
        "nn.Module",
        "Along every axis the cells with the given numbers: each cell takes the value of a window that saw it.",
        {
            "__init__(self, *cells)": ["super().__init__()", "self.cells = cells"],
            "forward(self, x)": [
                "for axis, cells in enumerate(self.cells, start=2):",
                "    x = x.index_select(axis, torch.tensor(cells, device=x.device))",
                "return x",
            ],
        },
    ),
    "Rearrange": Lacking(
        "nn.Module",
        "Axes split, moved and merged; the batch, axis 0, stays.",
        _holding("split", "order", "merged")
        | {
            "forward(self, x)": [
                "x = x.reshape(len(x), *self.split).permute(0, *self.order)",
                "return x.reshape(len(x), *self.merged)",
            ]
        },
    ),
    "Pad": Lacking(
        "nn.Module",
        "Cells added around more than three axes.",
        _holding("amounts", "mode", "value")
        | {"forward(self, x)": ["return F.pad(x, self.amounts, self.mode, self.value)"]},
    ),
    "ChannelsFirstLayerNorm": Lacking(
        "nn.LayerNorm",
        "Normalisation over channels that come first.",
        {"forward(self, x)": ["return super().forward(x.movedim(1, -1)).movedim(-1, 1)"]},
    ),
    "ChannelsFirstRMSNorm": Lacking(
        "nn.RMSNorm",
        "Normalisation over channels that come first.",
        {"forward(self, x)": ["return super().forward(x.movedim(1, -1)).movedim(-1, 1)"]},
    ),
    "Keep": Lacking(
        "nn.Module",
        "What passes here is also handed round the code.",
        _holding("around") | {"forward(self, x)": ["self.around.append(x)", "return x"]},
    ),
    "Add": Lacking(
        "nn.Module",
        "What was handed round the code, added.",
        _holding("around") | {"forward(self, x)": ["return x + self.around.pop()"]},
    ),
    "Fuse": Lacking(
        "nn.Conv{}",
        "What was handed round the code, concatenated, and fused to as many channels as there were.",
        _keeping("around", made="{}, *arguments, **settings")
        | {"forward(self, x)": ["return super().forward(torch.cat([x, self.around.pop()], dim=1))"]},
    ),
    "Residual": Lacking(
        "nn.Module",
        "A body and a way around it, added.",
        _holding("body", "shortcut") | {"forward(self, x)": ["return self.body(x) + self.shortcut(x)"]},
    ),
    "Parallel": Lacking(
        "nn.ModuleList",
        "Branches side by side, on the same input or each on its share of the channels.",
        {
            '__init__(self, *branches, fan="copy", join="add")': [
                "super().__init__(branches)",
                "self.fan, self.join = fan, join",
            ],
            "forward(self, x)": [
                'inputs = [x] * len(self) if self.fan == "copy" else x.split(self.fan, dim=1)',
                "first, *others = [branch(share) for branch, share in zip(self, inputs)]",
                'if self.join == "concat":',
                "    return torch.cat([first, *others], dim=1)",
                "for other in others:",
                '    first = first * other if self.join == "multiply" else first + other',
                "return first",
            ],
        },
    ),
}
