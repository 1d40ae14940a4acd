"""The modules that PyTorch lacks: layers that can be told the size to give out, and the chain that tells them.

A module whose output's size is not settled by its input has `forward(x, size=None)`. Without a size it gives the one it
was built for, as cheaply as PyTorch's own layer; with one it gives that, by arithmetic on sizes only, never by
comparing them, so that `torch.export` and `torch.compile` follow it with free sizes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from inspect import signature
from itertools import accumulate, count
from math import gcd, prod
from typing import Any, NamedTuple

import einops
import torch
from einops.layers.torch import Rearrange as EinopsRearrange
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse.arithmetic import pool_output_size, strided_same_padding
from obverse.block import Block
from obverse.chain import Chain
from obverse.errors import ShapeError
from obverse.graph import Graph, Junction
from obverse.graph import Split as SplitJunction
from obverse.shapes import Shape

__all__ = ["CONVOLUTIONS", "SAME", "TRANSPOSED", "TRANSPOSED_SAME", "NearestUnpool", "Pad", "Steps", "Unflatten"]

Place = torch.device | str | None
At = tuple[Block, Shape]
"""A block, and the shape at which its module shall run."""
Around = list[Tensor]
"""What goes round the code: an encoder's parts append to it, and their mirrors, in reverse order, pop from it."""


def grow(block: Block, shape: Shape, device: Place, dtype: torch.dtype | None) -> nn.Module:
    """The module of a block, on a device and in a dtype, also of a block whose `build` takes neither."""
    try:
        with torch.device(device) if device is not None else nullcontext():
            module = block.build(shape)
        return module if dtype is None else module.to(dtype)
    except (RuntimeError, MemoryError):
        number = block.parameters(shape)
        if number < ENORMOUS:
            raise
        raise block.refuse(
            shape, f"it has {number:,} parameters, {number * 4 / 1e9:,.0f} GB, for which there is no room here."
        ) from None


ENORMOUS = 2**30
"""Parameters (4 GB of them) from which on a failure to build is a lack of memory."""


def grow_all(chain: Chain, shape: Shape, device: Place, dtype: torch.dtype | None) -> Iterator[nn.Module]:
    """The modules of a chain's blocks, in order; a nested chain's as one."""
    chain.shapes(shape)  # a refusal is that of the whole chain, with the shapes so far
    for block in chain.blocks:
        yield grow(block, shape, device, dtype)
        shape = block.output_shape(shape)


def needs_of(module: nn.Module) -> frozenset[str]:
    """Which of `size`, `at` and `around` the module's `forward` takes."""
    return frozenset(signature(module.forward).parameters) & {"size", "at", "around"}


def call(module: nn.Module, needs: frozenset[str], x: Tensor, at: At | None, around: Around | None) -> Tensor:
    """Run a module with what it needs to know: the shape it runs at, or the size to give out, and what goes round."""
    told: dict[str, Any] = {}
    if around is not None and "around" in needs:
        told["around"] = around
    if at is not None and "at" in needs:
        told["at"] = at
    elif at is not None and "size" in needs:
        told["size"] = at[0].output_shape(at[1])[1:]
    result: Tensor = module(x, **told)
    return result


class Steps(nn.Sequential):
    """The module of a chain: a `torch.nn.Sequential` that can be run at another size than it was built for."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__(*modules)
        self._needs = tuple(map(needs_of, self))

    def forward(self, x: Tensor, at: At | None = None, around: Around | None = None) -> Tensor:
        """Run the steps; with `at`, as the given chain of blocks says at the given shape."""
        if at is None:
            if around is None:
                return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
            for module, needs in zip(self, self._needs, strict=True):
                x = call(module, needs, x, None, around)
            return x
        chain, shape = at
        assert isinstance(chain, Chain)
        for module, needs, block in zip(self, self._needs, chain.blocks, strict=True):
            x = call(module, needs, x, (block, shape), around)
            shape = block.output_shape(shape)
        return x

    def __getitem__(self, idx: slice | int) -> Any:
        if isinstance(idx, slice):  # a plain Sequential: subclasses are not built from modules
            return nn.Sequential(OrderedDict(list(self._modules.items())[idx]))
        return super().__getitem__(idx)


def drawn(block: Any, shape: Shape) -> Graph:
    """The graph of a block that stands on one."""
    graph: Graph = block.graph(shape)
    return graph


class Wired(nn.Module):
    """The module of a graph: its nodes by their names, run in order."""

    def __init__(self, graph: Graph, shape: Shape, device: Place, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.graph = graph
        self._parts: dict[str, Part] = {}
        wires = graph.wires(shape)
        for name, block, takes, _ in graph.nodes:
            if name in self._parts:  # one module, used once more
                continue
            module = block.build() if isinstance(block, Junction) else grow(block, wires[takes[0]], device, dtype)
            path = tuple(name.split("."))
            room(self, path[:-1]).add_module(path[-1], module)
            self._parts[name] = Part(path, block, needs_of(module), wires[takes[0]])

    def forward(self, x: Tensor, at: At | None = None, around: Around | None = None) -> Tensor:
        """Run the nodes; with `at`, as the given block says at the given shape."""
        graph, shapes = self.graph, None
        if at is not None:
            graph = drawn(*at)
            shapes = graph.wires(at[1])
        values = {graph.source: x}
        for name, block, takes, gives in graph.nodes:
            part = self._parts.get(name)
            if isinstance(block, Junction):
                joined = self._joined(block, part, [values.pop(wire) for wire in takes])
                values.update(zip(gives, joined, strict=True))
                continue
            if part is not None and hasattr(block, "invoke"):  # a module that is called in a way of its own
                values[gives[0]] = block.invoke(self._at(part.path), values.pop(takes[0]))
                continue
            here = None if shapes is None else (block, shapes[takes[0]])
            if part is None or _form(block) != _form(part.block):  # at this size something else is done here
                shape = tuple(values[takes[0]].shape[1:])
                module = _unlearned(block, shape)
                values[gives[0]] = call(module, needs_of(module), values.pop(takes[0]), (block, shape), around)
                continue
            if here is None and block is not part.block and block != part.block:  # a module used at another size
                here = (block, tuple(values[takes[0]].shape[1:]))
            values[gives[0]] = call(self._at(part.path), part.needs, values.pop(takes[0]), here, around)
        return values[graph.sink]

    def _joined(self, block: Junction, part: Part | None, values: list[Tensor]) -> tuple[Tensor, ...]:
        """What a junction gives; it learns nothing, so one that is not there at the planned size is made."""
        module: Any = None if part is None else self._at(part.path)
        if isinstance(module, Split) and isinstance(block, SplitJunction) and block.axis + 1 == module.dim:
            return module(*values, sizes=block.sizes)  # type: ignore[no-any-return]    # sizes may be symbols: told, not compared
        if part is None or block != part.block:
            module = block.build()
        return module(*values)  # type: ignore[no-any-return]

    def part(self, name: str) -> nn.Module:
        """The module of a node."""
        return self._at(self._parts[name].path)

    def _at(self, path: tuple[str, ...]) -> nn.Module:
        module: Any = self
        for name in path:
            module = module._modules[name]
        found: nn.Module = module
        return found


class Part(NamedTuple):
    """Where the module of a node is, the block that it was built for, what it needs to be told, and its input."""

    path: tuple[str, ...]
    block: Block | Junction
    needs: frozenset[str]
    shape: Shape


def _form(block: Any) -> Any:
    """What kind of block it is, whatever its sizes: a module built for one serves another of the same form."""
    block = getattr(block, "form", block)
    return tuple([_form(inner) for inner in block.blocks]) if isinstance(block, Chain) else type(block)


def _unlearned(block: Block, shape: Shape) -> nn.Module:
    """A module for a step that is not there at the planned size.

    Raises:
        ShapeError: if it has parameters.
    """
    if block.parameter_shapes(shape):
        raise block.refuse(shape, "it learns, and is not there at the planned size.", "Build the model for this size.")
    return block.build(shape)


def room(module: nn.Module, path: tuple[str, ...]) -> nn.Module:
    """The module at a path, with empty ones made on the way."""
    for name in path:
        if name not in module._modules:
            module.add_module(name, nn.Module())
        module = module.get_submodule(name)
    return module


class Copy(nn.Module):
    """One tensor, several times."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) * self.number


class Sum(nn.Module):
    """Tensors, added."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        # PyTorch would stretch a size of 1; while tracing no size is compared
        if not torch.compiler.is_compiling() and any(other.shape != tensors[0].shape for other in tensors):
            raise ShapeError(f"shapes that differ cannot be added: {[tuple(tensor.shape) for tensor in tensors]}.")
        return (sum(tensors[1:], start=tensors[0]),)


class Concat(nn.Module):
    """Tensors, joined along an axis."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        return (torch.cat(tensors, dim=self.dim),)


class Product(nn.Module):
    """A tensor, multiplied by others."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        product, *gates = tensors
        for gate in gates:
            product = product * gate
        return (product,)


class Split(nn.Module):
    """A tensor, cut along an axis."""

    def __init__(self, sizes: Sequence[int], dim: int = 1) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.dim = dim

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """The parts; with `sizes`, of so many channels: what was flattened has more where a map is larger."""
        sizes = self.sizes if sizes is None else sizes
        # one by one: what torch.split gives cannot be changed in place, as a ReLU(inplace=True) in a branch would
        starts = accumulate(sizes, initial=0)
        return tuple([x.narrow(self.dim, start, size) for start, size in zip(starts, sizes, strict=False)])


class _Told(nn.Module):
    """A transposed convolution that restores any size that its convolution maps to the input's."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        if size is None:
            return super().forward(x)  # type: ignore[no-any-return]
        return self._cropped(x, size, self.padding, [0] * len(self.stride))

    def _cropped(self, x: Tensor, size: Sequence[int], padding: Sequence[int], before: Sequence[int]) -> Tensor:
        # the largest size that has this many windows, then a crop of what is too much: of the ways to do it the one
        # that torch.export with free sizes and ONNX both take
        most = tuple(stride - 1 for stride in self.stride)
        full: Tensor = self._convolve(x, padding, most)
        amounts = [(-b, n + b - m) for b, n, m in zip(before, size, full.shape[2:], strict=True)]
        return F.pad(full, _backwards(amounts))

    def _convolve(self, x: Tensor, padding: Sequence[int], output_padding: Sequence[int]) -> Tensor:
        convolve: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.stride) - 1]
        weight, bias, groups = self.weight, self.bias, self.groups
        result: Tensor = convolve(x, weight, bias, self.stride, padding, output_padding, groups, self.dilation)
        return result


class ConvTranspose1d(_Told, nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d` that can be told its output's length."""


class ConvTranspose2d(_Told, nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` that can be told its output's size."""


class ConvTranspose3d(_Told, nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` that can be told its output's size."""


class _ToldSame(_Told):
    """The transpose of a convolution with uneven "same" padding, which depends on the size."""

    output_padding: tuple[int, ...]

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        if size is None:  # as `ConvTranspose(padding="same")` says
            told = zip(x.shape[2:], self.stride, self.output_padding, strict=True)
            size = [(n - 1) * s + 1 + a for n, s, a in told]
        axes = zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
        before = [strided_same_padding(*axis)[0] for axis in axes]
        return self._cropped(x, size, [0] * len(size), before)


class ConvTransposeSame1d(_ToldSame, nn.ConvTranspose1d):
    """The transpose of a one-dimensional convolution with uneven "same" padding."""


class ConvTransposeSame2d(_ToldSame, nn.ConvTranspose2d):
    """The transpose of a two-dimensional convolution with uneven "same" padding."""


class ConvTransposeSame3d(_ToldSame, nn.ConvTranspose3d):
    """The transpose of a three-dimensional convolution with uneven "same" padding."""


class _Same(nn.Module):
    """A convolution padded so that ⌈n / stride⌉ windows fit, unevenly where it must be."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding_mode: Any

    def forward(self, x: Tensor) -> Tensor:
        axes = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        pads = [strided_same_padding(*axis) for axis in axes]
        if self.padding_mode == "zeros" or not torch.compiler.is_compiling():
            x = F.pad(x, _backwards(pads), mode="constant" if self.padding_mode == "zeros" else self.padding_mode)
        else:
            x = _bordered(x, pads, self.padding_mode)
        convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        result: Tensor = convolve(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return result

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, padding=same"


class ConvSame1d(_Same, nn.Conv1d):
    """A one-dimensional convolution with uneven "same" padding."""


class ConvSame2d(_Same, nn.Conv2d):
    """A two-dimensional convolution with uneven "same" padding."""


class ConvSame3d(_Same, nn.Conv3d):
    """A three-dimensional convolution with uneven "same" padding."""


CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}
TRANSPOSED_SAME: dict[int, Any] = {1: ConvTransposeSame1d, 2: ConvTransposeSame2d, 3: ConvTransposeSame3d}
SAME: dict[int, Any] = {1: ConvSame1d, 2: ConvSame2d, 3: ConvSame3d}


class Pad(nn.Module):
    """Cells added, or with negative amounts dropped, at the borders of every spatial axis."""

    def __init__(self, amounts: Iterable[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> None:
        super().__init__()
        self.amounts = tuple(amounts)
        self.mode = mode
        self.value = value
        self._backwards = _backwards(self.amounts)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self._backwards, self.mode, self.value if self.mode == "constant" else None)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.amounts)) + (f", mode={self.mode!r}" if self.mode != "constant" else "")


def _bordered(x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """What `torch.nn.functional.pad` gives, which cannot be traced with amounts that depend on the size.

    Of circular padding it asks for the sign of each amount, of a reflection whether there are cells enough.
    """
    for dim, (before, after) in enumerate(amounts, start=2):
        last = x.shape[dim] - 1
        place = torch.arange(before + x.shape[dim] + after, device=x.device) - before
        if mode == "reflect":
            place = last - (last - place.abs()).abs()
        elif mode == "circular":  # ONNX has no remainder of a free size
            place = torch.where(place < 0, place + last + 1, place)
            place = torch.where(place > last, place - last - 1, place)
        x = x.index_select(dim, place.clamp(min=0, max=last) if mode == "replicate" else place)
    return x


def _backwards(amounts: Sequence[tuple[int, int]]) -> list[int]:
    """Amounts in the order of `torch.nn.functional.pad`: the last axis first."""
    return [amount for pair in reversed(amounts) for amount in pair]


class Unflatten(nn.Module):
    """One axis folded into several, whose spatial sizes can be told."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        lengths = self.unflattened_size
        if size is not None:  # of spatial axes; what is left are the channels, which may have been sizes further up
            channels = lengths[: max(2 - self.dim, 0)]
            if not torch.compiler.is_compiling():  # where a size that is left over would be compared
                channels = (-1,) * len(channels)
            told = (*channels, *size[max(self.dim - 2, 0) :])
            lengths = told[: len(lengths)]
        folded: Tensor = torch.unflatten(x, self.dim, lengths)
        return folded

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Upsample(nn.Module):
    """Every axis resized, to a size that can be told where it was given as one."""

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        told: Any = self.size if self.size is None or size is None else tuple(size)
        if torch.compiler.is_compiling() and told is not None and self.mode.startswith("nearest"):
            return self._gathered(x, told if isinstance(told, tuple) else (told,) * (x.ndim - 2))
        if torch.compiler.is_compiling() and self.mode == "area" and x.ndim == 3:  # whose length PyTorch's own fixes
            size, factor = (None if by is None else (1, *_listed(by)) for by in (told, self.scale_factor))
            return F.interpolate(x.unsqueeze(2), size, factor, "area").squeeze(2)
        return F.interpolate(x, told, self.scale_factor, self.mode, self.align_corners)

    def _gathered(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Cell by cell what PyTorch computes, in its precision: ONNX divides elsewhere, and takes other cells."""
        middle = 0.5 if self.mode == "nearest-exact" else 0.0
        for dim, size in enumerate(sizes, start=2):
            cells = torch.arange(size, device=x.device, dtype=torch.float32) + middle
            scale = torch.ones((), device=x.device) * x.shape[dim] / size
            x = x.index_select(dim, (cells * scale).to(torch.int64).clamp(max=x.shape[dim] - 1))
        return x

    def extra_repr(self) -> str:
        how = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{how}, mode={self.mode!r}"


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


class _ToldAverage(nn.Module):
    """An adaptive average whose sizes can be told: as the mirror of an unpooling it gives back what went in there."""

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        if size is None:
            return super().forward(x)  # type: ignore[no-any-return]
        if x.ndim == 3 and torch.compiler.is_compiling():  # PyTorch's own fixes the length
            return F.adaptive_avg_pool2d(x.unsqueeze(2), (1, size[0])).squeeze(2)
        averages: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
        result: Tensor = averages[x.ndim - 3](x, tuple(size))
        return result


class AdaptiveAvgPool1d(_ToldAverage, nn.AdaptiveAvgPool1d):
    """`torch.nn.AdaptiveAvgPool1d` that can be told its output's length."""


class AdaptiveAvgPool2d(_ToldAverage, nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d` that can be told its output's size."""


class AdaptiveAvgPool3d(_ToldAverage, nn.AdaptiveAvgPool3d):
    """`torch.nn.AdaptiveAvgPool3d` that can be told its output's size."""


class NearestUnpool(nn.Module):
    """The mirror of pooling: every cell takes the value of the last window that covers it."""

    def __init__(self, size: Sequence[int], axes: Sequence[tuple[int, int, int, int] | None]) -> None:
        super().__init__()
        self.size = tuple(size)
        self.axes = tuple(axes)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        # PyTorch's gather forgets where the channels lie in memory, its own upsampling does not
        last = not torch.compiler.is_compiling() and x.ndim == 4 and _is_channels_last(x)
        told = zip(self.size if size is None else size, self.axes, strict=True)
        for dim, (cells, axis) in enumerate(told, start=2):
            if axis is None:  # adaptive pooling: window j covers cells from ⌊j n / o⌋
                place = torch.div(torch.arange(cells, device=x.device) * x.shape[dim], cells, rounding_mode="floor")
            else:
                place = _windows(cells, x.shape[dim], *axis, device=x.device)
            x = x.index_select(dim, place)
        return x if not last else x.contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation")
        axes = [axis for axis in self.axes if axis is not None]
        settings = zip(names, zip(*axes, strict=True), strict=True) if axes else ()
        return ", ".join([f"size={self.size}", *(f"{name}={values}" for name, values in settings)])


def _is_channels_last(x: Tensor) -> bool:
    # by its strides, since a batch of torch.func.vmap cannot be asked
    return x.shape[1] > 1 and x.stride(1) == 1 and x.stride(3) == x.shape[1]


def _windows(
    cells: int, windows: int, kernel_size: int, stride: int, padding: int, dilation: int, device: torch.device
) -> Tensor:
    """For every cell the window that it takes its value from: `arithmetic.window_of`, all cells at once."""
    place = torch.arange(cells, device=device) + padding
    last = torch.clamp(torch.div(place, stride, rounding_mode="floor"), max=windows - 1)
    if dilation == 1:
        return last
    chosen = last
    for back in reversed(range(dilation // gcd(stride, dilation))):
        window = last - back
        offset = place - window * stride
        covers = (window >= 0) & (offset % dilation == 0) & (offset <= dilation * (kernel_size - 1))
        chosen = torch.where(covers, window, chosen)
    return chosen


MAX_POOLS: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGES: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


class MaxPool(nn.Module):
    """`torch.nn.MaxPool1d` to `3d`, which can be traced with free sizes and hands its indices round if asked to.

    Traced, PyTorch's own refuses `ceil_mode` and fixes the length in one dimension. There what `ceil_mode` adds is
    padded with -∞ instead, and the windows that start too late are cropped.
    """

    def __init__(self, axes: Sequence[tuple[int, int, int, int, bool]], return_indices: bool) -> None:
        super().__init__()
        *settings, ceil_modes = zip(*axes, strict=True)
        self.kernel_size, self.stride, self.padding, self.dilation = settings
        self.ceil_mode = any(ceil_modes)
        self.axes = tuple(axes)
        self.return_indices = return_indices

    def forward(self, x: Tensor, around: Around | None = None) -> Tensor:
        traced = torch.compiler.is_compiling() and (self.ceil_mode or len(self.axes) == 1)
        pooled = self._traced(x) if traced else self._pool(x, self.padding, self.ceil_mode)
        if not self.return_indices:
            return pooled  # type: ignore[no-any-return]
        values, places = pooled
        if around is not None:
            around.append(places)
        return values  # type: ignore[no-any-return]

    def _traced(self, x: Tensor) -> Any:
        extra = [s - 1 if self.ceil_mode else 0 for s in self.stride]
        pads = [(p, p + more) for p, more in zip(self.padding, extra, strict=True)]
        padded = F.pad(x, _backwards(pads), value=-torch.inf)
        pooled = self._pool(padded, (0,) * len(pads), False)
        if not self.return_indices:
            return _cut(pooled, x.shape[2:], self.axes)
        values, places = (_cut(part, x.shape[2:], self.axes) for part in pooled)
        return values, self._unpadded(places, x.shape[2:], padded.shape[2:])

    def _unpadded(self, places: Tensor, sizes: Sequence[int], padded: Sequence[int]) -> Tensor:
        """Places in a map, from places in the padded one; behind the last cell where they are in the padding."""
        rest, place, cells = places, torch.zeros_like(places), 1
        inside = torch.ones_like(places, dtype=torch.bool)
        for size, wide, before in reversed(list(zip(sizes, padded, self.padding, strict=True))):
            lines = torch.div(rest, wide, rounding_mode="floor")
            along = rest - lines * wide - before  # ONNX has no remainder of a free size
            rest = lines
            inside = inside & (along >= 0) & (along < size)
            place = place + along * cells
            cells = cells * size
        return torch.where(inside, place, cells)

    def _pool(self, x: Tensor, padding: Sequence[int], ceil_mode: bool) -> Any:
        indices = self.return_indices
        if len(self.axes) == 1 and torch.compiler.is_compiling():
            settings = [(1, self.kernel_size[0]), (1, self.stride[0]), (0, padding[0]), (1, self.dilation[0])]
            pooled: Any = MAX_POOLS[1](x.unsqueeze(2), *settings, ceil_mode=ceil_mode, return_indices=indices)
            return tuple([part.squeeze(2) for part in pooled]) if indices else pooled.squeeze(2)
        pool = MAX_POOLS[len(self.axes) - 1]
        return pool(x, self.kernel_size, self.stride, padding, self.dilation, ceil_mode, indices)

    def extra_repr(self) -> str:
        return _pooling_repr(self)


class AvgPool(nn.Module):
    """`torch.nn.AvgPool1d` to `3d`, which can be traced with free sizes.

    Traced, PyTorch's own refuses `ceil_mode`, and ONNX forgets `divisor_override`. There what `ceil_mode` adds is
    padded with zeros, and the sum is divided by the divisor, or by how many cells each window has, which is the same
    pooling of ones.
    """

    def __init__(
        self, axes: Sequence[tuple[int, int, int, int, bool]], count_include_pad: bool, divisor_override: int | None
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding, _, ceil_modes = zip(*axes, strict=True)
        self.ceil_mode = any(ceil_modes)
        self.axes = tuple(axes)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() or not (self.ceil_mode or self.divisor_override):
            override = () if self.divisor_override is None else (self.divisor_override,)
            pool = AVERAGES[len(self.axes) - 1]
            settings = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
            return pool(x, *settings, *override)  # type: ignore[no-any-return]
        sums = self._summed(F.pad(x, _backwards([(p, p) for p in self.padding])), x.shape[2:])
        if self.divisor_override is not None:
            return sums / self.divisor_override
        counted = 1.0 if self.count_include_pad else 0.0
        ones = F.pad(torch.ones_like(x[:1, :1]), _backwards([(p, p) for p in self.padding]), value=counted)
        return sums / self._summed(ones, x.shape[2:])

    def _summed(self, x: Tensor, size: Sequence[int]) -> Tensor:
        behind = F.pad(x, _backwards([(0, s - 1) for s in self.stride]))
        means: Tensor = AVERAGES[len(self.axes) - 1](behind, self.kernel_size, self.stride)
        cells: int = prod(self.kernel_size)
        return _cut(means, size, self.axes) * cells

    def extra_repr(self) -> str:
        return _pooling_repr(self)


class LPPool(nn.Module):
    """`torch.nn.LPPool1d` to `3d`, by the same steps, on an average that can be traced with free sizes."""

    def __init__(self, norm_type: float, cells: int, average: nn.Module) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.cells = cells
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.average(x.pow(self.norm_type))
        return (torch.sign(mean) * F.relu(mean.abs())).mul(self.cells).pow(1.0 / self.norm_type)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}"


def _cut(x: Tensor, size: Sequence[int], axes: Sequence[tuple[int, int, int, int, bool]]) -> Tensor:
    """The windows that pooling a map of the given size keeps."""
    kept = [pool_output_size(n, *axis) for n, axis in zip(size, axes, strict=True)]
    return F.pad(x, _backwards([(0, m - n) for n, m in zip(x.shape[2:], kept, strict=True)]))


def _pooling_repr(pool: Any) -> str:
    said = [f"kernel_size={pool.kernel_size}, stride={pool.stride}, padding={pool.padding}"]
    dilation = getattr(pool, "dilation", ())
    said += [f"dilation={dilation}"] * any(d > 1 for d in dilation) + ["ceil_mode=True"] * pool.ceil_mode
    return ", ".join(said)


def taken(around: Around | None, what: str) -> Tensor:
    """What was handed round the code last.

    Raises:
        ShapeError: if nothing was.
    """
    if not around:
        raise ShapeError(
            f"{what} went round the code, and none came with it.",
            "Keep them: code = model.encode(x, around=kept), with kept = []; then model.decode(code, around=kept).",
        )
    return around.pop()


class MaxUnpool(nn.Module):
    """Values put back where a pooling had found them, at any size that is told."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor, size: Sequence[int] | None = None, around: Around | None = None) -> Tensor:
        places = taken(around, "the places of the largest values")
        sizes = tuple(self.size if size is None else size)
        cells = prod(sizes)
        # one cell more, for windows that a dilation let miss every cell: PyTorch gives them a place that is none
        flat = x.new_zeros((*x.shape[:2], cells + 1))
        filled = flat.scatter(2, places.flatten(2).clamp(max=cells), x.flatten(2))
        return F.pad(filled, [0, -1]).reshape(*x.shape[:2], *sizes)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class Rearrange(nn.Module):
    """Axes moved, split and merged, by the lengths that the block of this size has."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block
        names = {name for group in block._groups[0] for name in group}
        self.batch = next(name for name in (f"batch{i}" for i in count()) if name not in names)
        before, after = block.pattern.split("->")
        self.pattern = f"{self.batch} {before.strip()} -> {self.batch} {after.strip()}"

    def forward(self, x: Tensor, at: At | None = None) -> Tensor:
        block: Any = self.block if at is None else at[0]
        return einops.rearrange(x, self.pattern, **dict(block.lengths))

    def extra_repr(self) -> str:
        return repr(self.block.pattern)


class _ChannelsFirst(nn.Module):
    """A norm over the channels of every position, where the channels come first.

    Written out, since PyTorch's own looks at how its input lies in memory, and a traced program then no longer takes
    every size.
    """

    weight: Any
    eps: Any

    def forward(self, x: Tensor) -> Tensor:
        spread = (-1, *(1,) * (x.ndim - 2))
        normed = self._normed(x)
        scaled = normed if self.weight is None else normed * self.weight.view(spread)
        bias = getattr(self, "bias", None)
        return scaled if bias is None else scaled + bias.view(spread)

    def _normed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class LayerNorm(_ChannelsFirst, nn.LayerNorm):
    """`torch.nn.LayerNorm` over channels that come first."""

    def _normed(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps)


class RMSNorm(_ChannelsFirst, nn.RMSNorm):
    """`torch.nn.RMSNorm` over channels that come first."""

    def _normed(self, x: Tensor) -> Tensor:
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + eps)


class FreeLayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over a last axis of whatever length, since it learns nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], None, None, self.eps)


class FreeRMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` over a last axis of whatever length, since it learns nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], None, self.eps)


def shuffle(factor: int, rank: int, pattern: str) -> nn.Module:
    """PixelShuffle or its inverse in one or three dimensions, which PyTorch lacks; channels in PyTorch's order."""
    cells = " ".join(f"r{axis}" for axis in range(rank))
    fine = " ".join(f"(x{axis} r{axis})" for axis in range(rank))
    coarse = " ".join(f"x{axis}" for axis in range(rank))
    packed, spread = f"b (c {cells}) {coarse}", f"b c {fine}"
    sides = (packed, spread) if pattern == "shuffle" else (spread, packed)
    return EinopsRearrange(" -> ".join(sides), **{f"r{axis}": factor for axis in range(rank)})


class Keep(nn.Module):
    """What passes here is also handed round the code."""

    def forward(self, x: Tensor, around: Around | None = None) -> Tensor:
        if around is not None:
            around.append(x)
        return x


class Add(nn.Module):
    """What was handed round the code, added."""

    def forward(self, x: Tensor, around: Around | None = None) -> Tensor:
        return x + taken(around, "a skip")


class _Fuse(nn.Module):
    """What was handed round the code, concatenated, and fused to as many channels as there were."""

    def forward(self, x: Tensor, around: Around | None = None) -> Tensor:
        fused: Tensor = super().forward(torch.cat([x, taken(around, "a skip")], dim=1))
        return fused


class Fuse1d(_Fuse, nn.Conv1d):
    """A skip in one dimension, concatenated and fused."""


class Fuse2d(_Fuse, nn.Conv2d):
    """A skip in two dimensions, concatenated and fused."""


class Fuse3d(_Fuse, nn.Conv3d):
    """A skip in three dimensions, concatenated and fused."""


FUSES: dict[int, Any] = {1: Fuse1d, 2: Fuse2d, 3: Fuse3d}
