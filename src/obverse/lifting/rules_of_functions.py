"""Rules by the name of a function of torch: what stands for it in a graph, and so what takes it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse.block import Block
from obverse.blocks.conv import Conv
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import (
    ELU,
    GELU,
    BatchNorm,
    Dropout,
    GroupNorm,
    Identity,
    LayerNorm,
    LeakyReLU,
    Mish,
    Pointwise,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from obverse.blocks.pooling import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool, NearestUnpool
from obverse.blocks.resampling import PixelShuffle, PixelUnshuffle, Upsample
from obverse.chain import Chain
from obverse.graph import Concat, Junction, Split, Sum
from obverse.lifting.operations import Border, Expand, Mean, Permute, Reshape, Roll, Scale, Shift, Slice, Unslice
from obverse.lifting.recording import RESHAPES, Call, Constant, Value
from obverse.lifting.steps import Applied, FunctionRule, Recorded, Step
from obverse.settings import collapsed
from obverse.shapes import Shape

__all__ = ["FUNCTIONS", "applied", "rule"]

FUNCTIONS: dict[str, FunctionRule] = {}
"""The rule of each function, by its plain name."""

Result = Block | Junction | Step | None


def rule(*names: str) -> Callable[[FunctionRule], FunctionRule]:
    """Make a function the rule of some functions of torch."""

    def add(function: FunctionRule) -> FunctionRule:
        FUNCTIONS.update(dict.fromkeys(names, function))
        return function

    return add


def axis_of(call: Call, dim: Any) -> int | None:
    """An axis of the example, from one that is counted with the batch; `None` for the batch."""
    rank = len(call.inputs[0].sizes)
    axis: int = (dim + rank if dim < 0 else dim) - 1
    return axis if axis >= 0 else None


def whole_spans(shape: Shape) -> list[tuple[int, int, int]]:
    return [(0, n, 1) for n in shape]


def chained(*blocks: Block | None) -> Block:
    """Blocks in order, those that do nothing left out."""
    real = [block for block in blocks if block is not None]
    return Chain(*real) if len(real) > 1 else real[0] if real else Identity()


def reshaped(before: Shape, after: Shape) -> Block | None:
    """The reshape between two shapes, if there is something to do."""
    return None if before == after else Reshape(after)


# Nothing happens, or one number at a time ----------------------------------------------------------------------------


@rule("contiguous", "clone", "detach", "to", "float", "half", "double", "bfloat16", "type", "type_as", "cpu", "cuda")
def nothing(call: Call) -> Result:
    return Identity()


def applied(call: Call) -> Block:
    """The function as it was, as its own mirror."""
    function = getattr(torch, call.name, None) or getattr(F, call.name, None) or getattr(torch.Tensor, call.name)
    kwargs = {name: value for name, value in call.kwargs.items() if name not in ("inplace", "out")}
    return Applied(call.name, function, call.args, kwargs)


@rule("neg", "abs", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "square", "sin", "cos", "erf", "sign")
@rule("clamp", "clip", "clamp_min", "clamp_max", "pow", "softmax", "log_softmax", "normalize", "flip", "nan_to_num")
@rule("softsign", "logsigmoid", "tanhshrink", "hardshrink", "softshrink", "threshold", "rrelu", "alpha_dropout")
@rule("dropout1d", "dropout2d", "dropout3d", "feature_dropout", "local_response_norm", "instance_norm", "fliplr")
def kept(call: Call) -> Result:
    alone = len(call.inputs) == 1 and not constants(call)
    return Step(applied(call), manner="kept") if alone else None


def constants(call: Call) -> list[Constant]:
    found: list[Constant] = []
    for given in (*call.args, *call.kwargs.values()):
        if isinstance(given, Constant):
            found.append(given)
        elif isinstance(given, (list, tuple)):
            found += [inner for inner in given if isinstance(inner, Constant)]
    return found


ACTIVATIONS: dict[str, Callable[[Call], Block]] = {
    "relu": lambda call: ReLU(),
    "silu": lambda call: SiLU(),
    "mish": lambda call: Mish(),
    "tanh": lambda call: Tanh(),
    "sigmoid": lambda call: Sigmoid(),
    "gelu": lambda call: GELU(call.argument(1, "approximate", "none")),
    "elu": lambda call: ELU(call.argument(1, "alpha", 1.0)),
    "leaky_relu": lambda call: LeakyReLU(call.argument(1, "negative_slope", 0.01)),
    "softplus": lambda call: Softplus(call.argument(1, "beta", 1.0), call.argument(2, "threshold", 20.0)),
    "relu6": lambda call: Pointwise("ReLU6"),
    "hardswish": lambda call: Pointwise("Hardswish"),
    "hardsigmoid": lambda call: Pointwise("Hardsigmoid"),
    "selu": lambda call: Pointwise("SELU"),
    "celu": lambda call: Pointwise("CELU", alpha=call.argument(1, "alpha", 1.0)),
    "hardtanh": lambda call: Pointwise(
        "Hardtanh", min_val=call.argument(1, "min_val", -1.0), max_val=call.argument(2, "max_val", 1.0)
    ),
    "dropout": lambda call: Dropout(call.argument(1, "p", 0.5)),
}


@rule(*ACTIVATIONS)
def activation(call: Call) -> Result:
    return ACTIVATIONS[call.name](call)


# Arithmetic ----------------------------------------------------------------------------------------------------------


@rule("add", "sub")
def add(call: Call) -> Result:
    values, others = call.inputs, constants(call)
    if call.kwargs.get("alpha", 1) != 1:
        return None
    if len(values) == 1:
        return Step(applied(call), manner="kept") if not others else with_parameter(call, others[0], Shift, (0.0, 0.02))
    minus: Block | None = Applied("neg", torch.neg, (values[0],), {}) if call.name == "sub" else None
    ways = [stretched(value.shape, call.output_shape) for value in values]
    before = tuple(
        [chained(way, minus if at else None) if way or (at and minus) else None for at, way in enumerate(ways)]
    )
    return Step(Sum(len(values)), before=before)


def stretched(shape: Shape, after: Shape) -> Block | None:
    """What an addition does to a value of fewer cells."""
    if shape == after:
        return None
    full = (1,) * (len(after) - len(shape)) + shape
    return chained(reshaped(shape, full), Expand(after))


def with_parameter(call: Call, constant: Constant, kind: Any, start: tuple[float, float]) -> Result:
    """A parameter that is added or multiplied with has a counterpart of its own."""
    if not constant.parameter or prod(constant.sizes) == 0 or call.input_shape != call.output_shape:
        return with_constant(call)
    short = len(constant.sizes) - len(call.output_shape)
    block: Block = kind(constant.sizes[max(short, 0) :], start)
    return block


def with_constant(call: Call) -> Result:
    """What is added has no part in the transpose; what is multiplied with is multiplied with there as well."""
    before, after = call.input_shape, call.output_shape
    if before == after and call.name not in ("add", "sub"):
        return None  # and so it is kept as it is
    return Recorded(call.name, before, after, shrunk(before, after))


def shrunk(before: Shape, after: Shape) -> Block:
    way = stretched(before, after)
    return Identity() if way is None else way.mirror(before)


@rule("mul", "div")
def mul(call: Call) -> Result:
    values, others = call.inputs, constants(call)
    if len(values) > 1:
        return None
    if not others:
        first = call.args[0] if call.args else None
        inverse = call.name == "div" and not isinstance(first, Value)  # 1 / x
        return None if inverse else Step(applied(call), manner="kept")
    return with_parameter(call, others[0], Scale, (1.0, 0.0))


@rule("rsub")
def negative(call: Call) -> Result:
    return Step(applied(call), manner="kept") if len(call.inputs) == 1 and not constants(call) else None


# Axes ----------------------------------------------------------------------------------------------------------------


@rule(*RESHAPES)
def reshape(call: Call) -> Result:
    return Step(Reshape(call.output_shape), uses=(0,))


def ordered(call: Call, order: Sequence[int]) -> Result:
    order = [axis + len(order) if axis < 0 else axis for axis in order]
    return Permute(tuple([axis - 1 for axis in order[1:]])) if order[0] == 0 else None


def listed(call: Call, at: int, name: str) -> list[int]:
    """Numbers given one by one, or as one tuple."""
    given = call.args[at:] or (call.kwargs.get(name, ()),)
    return list(given[0]) if len(given) == 1 and isinstance(given[0], (list, tuple)) else list(given)


@rule("permute")
def permute(call: Call) -> Result:
    return ordered(call, listed(call, 1, "dims"))


@rule("transpose", "swapaxes", "swapdims", "mT")
def transpose(call: Call) -> Result:
    rank = len(call.inputs[0].sizes)
    one, other = (call.argument(at, name, -at) for at, name in ((1, "dim0"), (2, "dim1")))
    order = list(range(rank))
    order[one], order[other] = order[other], order[one]
    return ordered(call, order)


@rule("movedim", "moveaxis")
def movedim(call: Call) -> Result:
    rank, moved = len(call.inputs[0].sizes), []
    pairs = [call.argument(1, "source"), call.argument(2, "destination")]
    sources, targets = ([place] if isinstance(place, int) else list(place) for place in pairs)
    moved = [axis % rank for axis in range(rank) if axis not in {source % rank for source in sources}]
    for target, source in sorted(zip([t % rank for t in targets], sources, strict=True)):
        moved.insert(target, source % rank)
    return ordered(call, moved)


@rule("roll")
def roll(call: Call) -> Result:
    shifts, dims = (_many(call.argument(at, name)) for at, name in ((1, "shifts"), (2, "dims")))
    moved = [0] * len(call.input_shape)
    for shift, dim in zip(shifts, dims, strict=False):
        axis = axis_of(call, dim)
        if axis is None:
            return None
        moved[axis] += shift
    return Roll(tuple(moved)) if dims else None


def _many(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


@rule("expand", "expand_as", "broadcast_to")
def expand(call: Call) -> Result:
    return stretched(call.input_shape, call.output_shape)


# Parts ---------------------------------------------------------------------------------------------------------------


@rule("getitem")
def getitem(call: Call) -> Result:
    given = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    full = indexed(given, len(call.inputs[0].sizes))
    if full is None or full[0] != slice(None):
        return None
    spans: list[tuple[int, int, int]] = []
    sizes = iter(call.input_shape)
    for index in full[1:]:
        if index is None:
            continue
        size = next(sizes)
        if isinstance(index, int):
            spans.append((index % size, index % size + 1, 1))
        else:
            spans.append(index.indices(size))
    if any(step < 1 for *_, step in spans):
        return None
    cut = Slice(tuple(spans))
    some = cut if tuple(spans) != tuple(whole_spans(call.input_shape)) else None
    return chained(some, reshaped(cut.output_shape(call.input_shape), call.output_shape))


def indexed(given: tuple[Any, ...], rank: int) -> list[Any] | None:
    """An index for every axis, without an ellipsis; `None` for an index that is a tensor or a list."""
    if any(not isinstance(index, (int, slice, type(None), type(...))) or isinstance(index, bool) for index in given):
        return None
    missing = rank - sum(index is not None and index is not ... for index in given)
    at = next((place for place, index in enumerate(given) if index is ...), len(given))
    rest = [index for index in given[at:] if index is not ...]
    return [*given[:at], *[slice(None)] * missing, *rest]


@rule("narrow", "select")
def narrow(call: Call) -> Result:
    axis = axis_of(call, call.argument(1, "dim"))
    if axis is None:
        return None
    shape = call.input_shape
    start: int = call.argument(2, "start" if call.name == "narrow" else "index") % shape[axis]
    spans = whole_spans(shape)
    spans[axis] = (start, start + (call.argument(3, "length") if call.name == "narrow" else 1), 1)
    cut = Slice(tuple(spans))
    return chained(cut, reshaped(cut.output_shape(shape), call.output_shape))


@rule("chunk", "split", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split", "unbind")
def split(call: Call) -> Result:
    dim = call.argument(1, "dim", 0) if call.name == "unbind" else call.argument(2, "dim", 0)
    axis = axis_of(call, dim)
    if axis is None:
        return None
    if call.name == "unbind":
        n = len(call.outputs)
        return Step(Split((1,) * n, axis), after=(Reshape(call.output_shape),) * n)
    return Split(tuple([value.shape[axis] for value in call.outputs]), axis)


@rule("cat")
def cat(call: Call) -> Result:
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0))
    axis = axis_of(call, dim)
    parts = call.args[0] if call.args else call.kwargs["tensors"]
    if axis is None:
        return None
    if all(isinstance(part, Value) for part in parts):
        return Concat(axis) if len(parts) > 1 else Identity()
    before, at = [], 0
    for part in parts:
        size = part.sizes[dim]
        if isinstance(part, Value):
            spans = whole_spans(part.shape)
            spans[axis] = (at, at + size, 1)
            before.append(Unslice(tuple(spans), call.output_shape))
        at += size
    # what else is joined is nobody's but the module's: the mirror drops it
    first = Recorded("cat", call.inputs[0].shape, call.output_shape, before[0].mirror(call.inputs[0].shape))
    return first if len(before) == 1 else Step(Sum(len(before)), before=(first, *before[1:]))


@rule("stack")
def stack(call: Call) -> Result:
    dim = call.argument(1, "dim", 0)
    axis = (dim + len(call.outputs[0].sizes) if dim < 0 else dim) - 1
    if axis < 0 or constants(call) or len(call.inputs) < 2:
        return None
    shape = call.input_shape
    return Step(Concat(axis), before=(Reshape((*shape[:axis], 1, *shape[axis:])),) * len(call.inputs))


@rule("pad")
def pad(call: Call) -> Result:
    amounts = list(call.argument(1, "pad"))
    pairs = [(amounts[at], amounts[at + 1]) for at in range(0, len(amounts), 2)]
    if len(pairs) > len(call.input_shape):
        return None
    full = [(0, 0)] * (len(call.input_shape) - len(pairs)) + pairs[::-1]
    return Border(tuple(full))


# Means and poolings --------------------------------------------------------------------------------------------------


@rule("mean", "sum", "amax", "amin", "logsumexp", "max", "min", "norm", "var", "std")
def mean(call: Call) -> Result:
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if dims is None or len(call.outputs) > 2 or len(call.inputs) > 1 or isinstance(dims, (Value, Constant)):
        return None
    axes = [axis_of(call, dim) for dim in _many(dims)]
    if any(axis is None for axis in axes):
        return None
    means = Mean(tuple(sorted(axis for axis in axes if axis is not None)))
    kept = means.output_shape(call.input_shape)
    block = chained(means, reshaped(kept, call.output_shape))
    if call.name == "mean":
        return block
    return Recorded(call.name, call.input_shape, call.output_shape, block.mirror(call.input_shape))


def checked(call: Call, block: Block, otherwise: Block | None = None) -> Result:
    """A block if it gives the shape that was recorded, or else what takes that back."""
    if block.output_shape(call.input_shape) == call.output_shape:
        return block
    return None if otherwise is None else Recorded(call.name, call.input_shape, call.output_shape, otherwise)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def adaptive_avg_pool(call: Call) -> Result:
    return AdaptiveAvgPool(collapsed(call.output_shape[1:]))


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(call: Call) -> Result:
    return AdaptiveMaxPool(collapsed(call.output_shape[1:]))


def _number(given: Any) -> Any:
    return collapsed(given) if isinstance(given, (list, tuple)) and given else None if given == [] else given


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(call: Call) -> Result:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1))
    settings: Any = [_number(call.argument(at, name, default)) for at, (name, default) in enumerate(names, start=1)]
    rest: Any = (False, bool(call.argument(5, "ceil_mode", False)))
    pool = MaxPool(*settings, *rest)
    return checked(call, pool, NearestUnpool(call.input_shape[1:]))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(call: Call) -> Result:
    names = (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False), ("count_include_pad", True))
    settings: Any = [_number(call.argument(at, name, default)) for at, (name, default) in enumerate(names, start=1)]
    return checked(call, AvgPool(*settings), NearestUnpool(call.input_shape[1:]))


@rule("interpolate", "upsample")
def interpolate(call: Call) -> Result:
    mode = call.argument(3, "mode", "nearest")
    align = call.argument(4, "align_corners") if mode not in ("nearest", "nearest-exact", "area") else None
    return Upsample(tuple(call.output_shape[1:]), None, mode, align)


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Result:
    return PixelShuffle(call.argument(1, "upscale_factor"))


@rule("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Result:
    return PixelUnshuffle(call.argument(1, "downscale_factor"))


# Layers as functions -------------------------------------------------------------------------------------------------


@rule("linear", "matmul", "mm")
def linear(call: Call) -> Result:
    if len(call.inputs) > 1 or not isinstance(call.args[0], Value) or call.input_shape[:-1] != call.output_shape[:-1]:
        return None
    return Linear(call.output_shape[-1], call.name == "linear" and call.argument(2, "bias") is not None)


@rule("conv1d", "conv2d", "conv3d")
def conv(call: Call) -> Result:
    weight = call.argument(1, "weight")
    if not isinstance(weight, Constant):
        return None
    names = (("stride", 1), ("padding", 0), ("dilation", 1))
    settings: Any = [_number(call.argument(at, name, default)) for at, (name, default) in enumerate(names, start=3)]
    rest: Any = (call.argument(6, "groups", 1), call.argument(2, "bias") is not None)
    return checked(call, Conv(weight.sizes[0], collapsed(weight.sizes[2:]), *settings, *rest))


@rule("batch_norm")
def batch_norm(call: Call) -> Result:
    return BatchNorm(call.argument(7, "eps", 1e-5))


@rule("group_norm")
def group_norm(call: Call) -> Result:
    return GroupNorm(call.argument(1, "num_groups"), call.argument(4, "eps", 1e-5))


@rule("layer_norm")
def layer_norm(call: Call) -> Result:
    if len(call.argument(1, "normalized_shape")) != 1:
        return None
    weighs, eps = call.argument(2, "weight") is not None, call.argument(4, "eps", 1e-5)
    return LayerNorm(eps, weighs, not weighs or call.argument(3, "bias") is not None, "last")


@rule("rms_norm")
def rms_norm(call: Call) -> Result:
    if len(call.argument(1, "normalized_shape")) != 1:
        return None
    return RMSNorm(call.argument(3, "eps"), call.argument(2, "weight") is not None, "last")
