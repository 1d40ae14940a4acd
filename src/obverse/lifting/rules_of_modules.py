"""Rules by the type of a module: which block describes a layer of PyTorch's, or of somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from einops.layers.torch import Rearrange as EinopsRearrange
from torch import nn

from obverse.block import Block
from obverse.blocks.conv import Conv, ConvTranspose
from obverse.blocks.dense import Linear
from obverse.blocks.pointwise import (
    ELU,
    GELU,
    LAYERS,
    BatchNorm,
    Dropout,
    GroupNorm,
    Identity,
    InstanceNorm,
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
from obverse.blocks.pooling import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, LPPool, MaxPool, NearestUnpool
from obverse.blocks.rearrange import Rearrange
from obverse.blocks.resampling import PixelShuffle, PixelUnshuffle, Upsample
from obverse.blocks.reshaping import Flatten, Pad, Unflatten
from obverse.lifting.kept import Kept
from obverse.lifting.make import makes_weights
from obverse.settings import collapsed
from obverse.shapes import Shape

__all__ = ["RULES", "Rule", "block_of", "rule_for"]

Rule = Callable[[Any, Shape], Block | None]
"""From a module, and the shape that reaches it, to its block; `None` where the rule does not hold."""

RULES: dict[type, Rule] = {}
"""The rule of each type of module; a subclass has that of its nearest ancestor."""


def rule(*types: type) -> Callable[[Rule], Rule]:
    """Make a function the rule of some types."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, function))
        return function

    return add


def rule_for(module: nn.Module) -> tuple[type, Rule] | None:
    """The rule of a module, with the type that has it: the nearest along the order in which methods are looked up."""
    return next(((kind, RULES[kind]) for kind in type(module).__mro__ if kind in RULES), None)


HARMLESS = {"__init__", "__repr__", "extra_repr", "reset_parameters", "_reset_parameters", "train", "eval"}
"""Methods that say nothing about what a layer computes."""


def is_itself(module: nn.Module, kind: type) -> bool:
    """Whether a module computes as the type that has the rule does, with the weights that this has."""
    kinds = type(module).__mro__
    others = {name for between in kinds[: kinds.index(kind)] for name, held in vars(between).items() if callable(held)}
    overridden = {name for name in others - HARMLESS if callable(getattr(kind, name, None))}
    return (
        not overridden
        and "forward" not in vars(module)
        and not any(map(makes_weights, module._forward_pre_hooks.values()))
        and not hasattr(module, "parametrizations")
    )


def block_of(module: nn.Module, shape: Shape) -> Block | None:
    """The block that describes a single layer, or `None` if no rule knows it.

    >>> block_of(nn.Conv2d(3, 16, 3, stride=(2, 2), padding=1, bias=False), (3, 28, 28))
    Conv(16, 3, stride=2, padding=1, bias=False)
    >>> block_of(nn.Hardtanh(-2.0, 2.0), (3, 28, 28))
    Pointwise('Hardtanh', max_val=2.0, min_val=-2.0)

    Args:
        module: the layer.
        shape: what reaches it.
    """
    found = rule_for(module)
    if found is None or not is_itself(module, found[0]):
        return None
    return found[1](module, shape)


def number(value: Any) -> Any:
    """One number where a tuple says the same for every axis."""
    return collapsed(value) if isinstance(value, (tuple, list)) else value


@rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def conv(m: Any, shape: Shape) -> Block:
    padding = m.padding if isinstance(m.padding, str) else number(m.padding)
    settings: Any = (number(m.kernel_size), number(m.stride), padding, number(m.dilation))
    rest: Any = (m.groups, m.bias is not None, m.padding_mode)
    return Conv(m.out_channels, *settings, *rest)


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def conv_transpose(m: Any, shape: Shape) -> Block:
    settings: Any = [number(value) for value in (m.kernel_size, m.stride, m.padding, m.output_padding)]
    rest: Any = (m.groups, m.bias is not None, number(m.dilation))
    return ConvTranspose(m.out_channels, *settings, *rest)


@rule(nn.Linear)
def linear(m: Any, shape: Shape) -> Block:
    return Linear(m.out_features, m.bias is not None)


@rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
def max_pool(m: Any, shape: Shape) -> Block:
    settings: Any = [number(value) for value in (m.kernel_size, _other(m), m.padding, m.dilation)]
    rest: Any = (False, m.ceil_mode)
    return values_of(m, MaxPool(*settings, *rest), shape)


def values_of(m: Any, pool: Block, shape: Shape) -> Block:
    """A pooling; one that gives places as well is kept, since a block gives one value."""
    return Kept.of(m, pool.mirror(shape)) if m.return_indices else pool


@rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def avg_pool(m: Any, shape: Shape) -> Block:
    settings: Any = [number(value) for value in (m.kernel_size, _other(m), m.padding)]
    rest: Any = (m.ceil_mode, m.count_include_pad, getattr(m, "divisor_override", None))
    return AvgPool(*settings, *rest)


@rule(nn.LPPool1d, nn.LPPool2d, nn.LPPool3d)
def lp_pool(m: Any, shape: Shape) -> Block:
    return LPPool(m.norm_type, number(m.kernel_size), _other(m), m.ceil_mode)


def _other(m: Any) -> Any:
    """The stride of a pooling, where it is another than the kernel's size."""
    stride, kernel_size = number(m.stride), number(m.kernel_size)
    return None if stride == kernel_size else stride


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def adaptive_avg_pool(m: Any, shape: Shape) -> Block:
    return AdaptiveAvgPool(number(m.output_size))


@rule(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
def adaptive_max_pool(m: Any, shape: Shape) -> Block:
    return values_of(m, AdaptiveMaxPool(number(m.output_size)), shape)


@rule(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
def fractional_max_pool(m: Any, shape: Shape) -> Block:
    return Kept.of(m, NearestUnpool(tuple(shape[1:])))


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(m: Any, shape: Shape) -> Block:
    return BatchNorm(m.eps, m.momentum, m.affine, m.track_running_stats)


@rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def instance_norm(m: Any, shape: Shape) -> Block:
    return InstanceNorm(m.eps, m.momentum, m.affine, m.track_running_stats)


@rule(nn.GroupNorm)
def group_norm(m: Any, shape: Shape) -> Block:
    return GroupNorm(m.num_groups, m.eps, m.affine)


@rule(nn.LayerNorm)
def layer_norm(m: Any, shape: Shape) -> Block:
    if len(m.normalized_shape) > 1:  # over several axes at once
        return Kept.of(m, alone=True)
    return LayerNorm(m.eps, m.elementwise_affine, m.bias is not None or not m.elementwise_affine, "last")


@rule(nn.RMSNorm)
def rms_norm(m: Any, shape: Shape) -> Block:
    if len(m.normalized_shape) > 1:
        return Kept.of(m, alone=True)
    return RMSNorm(m.eps, m.elementwise_affine, "last")


@rule(nn.Identity)
def identity(m: Any, shape: Shape) -> Block:
    return Identity()


@rule(nn.Dropout)
def dropout(m: Any, shape: Shape) -> Block:
    return Dropout(m.p, m.inplace)


@rule(nn.ReLU)
def relu(m: Any, shape: Shape) -> Block:
    return ReLU(m.inplace)


@rule(nn.LeakyReLU)
def leaky_relu(m: Any, shape: Shape) -> Block:
    return LeakyReLU(m.negative_slope, m.inplace)


@rule(nn.ELU)
def elu(m: Any, shape: Shape) -> Block:
    return ELU(m.alpha)


@rule(nn.GELU)
def gelu(m: Any, shape: Shape) -> Block:
    return GELU(m.approximate)


@rule(nn.SiLU)
def silu(m: Any, shape: Shape) -> Block:
    return SiLU(m.inplace)


@rule(nn.Mish)
def mish(m: Any, shape: Shape) -> Block:
    return Mish(m.inplace)


@rule(nn.Softplus)
def softplus(m: Any, shape: Shape) -> Block:
    return Softplus(m.beta, m.threshold)


@rule(nn.Tanh)
def tanh(m: Any, shape: Shape) -> Block:
    return Tanh()


@rule(nn.Sigmoid)
def sigmoid(m: Any, shape: Shape) -> Block:
    return Sigmoid()


def by_name(m: Any, shape: Shape) -> Block:
    """An activation that has no block of its own: the arguments that are not the layer's defaults are said."""
    name = next(kind.__name__ for kind in type(m).__mro__ if kind.__name__ in LAYERS)
    plain = getattr(nn, name)()
    said = {argument: getattr(m, argument) for argument in LAYERS[name]}
    return Pointwise(name, **{key: value for key, value in said.items() if value != getattr(plain, key)})


for _name in LAYERS:
    RULES.setdefault(getattr(nn, _name), by_name)


def kept_alone(m: Any, shape: Shape) -> Block:
    """Norms, dropouts and activations that no block describes."""
    return Kept.of(m, alone=True)


for _kind in (
    *(nn.PReLU, nn.Threshold, nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.Softmax2d, nn.SyncBatchNorm),
    *(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout, nn.LocalResponseNorm, nn.CrossMapLRN2d),
):
    RULES[_kind] = kept_alone


@rule(nn.Flatten)
def flatten(m: Any, shape: Shape) -> Block:
    return Flatten(m.start_dim, m.end_dim)


@rule(nn.Unflatten)
def unflatten(m: Any, shape: Shape) -> Block:
    return Unflatten(m.dim, tuple(m.unflattened_size))


@rule(nn.Unfold)
def unfold(m: Any, shape: Shape) -> Block:
    turned = nn.Fold(tuple(shape[1:]), m.kernel_size, m.dilation, m.padding, m.stride)
    return Kept.of(m, Kept.of(turned))


@rule(nn.Fold)
def fold(m: Any, shape: Shape) -> Block:
    return Kept.of(m, Kept.of(nn.Unfold(m.kernel_size, m.dilation, m.padding, m.stride)))


@rule(nn.Upsample)
def upsample(m: Any, shape: Shape) -> Block:
    size = number(m.size)
    align_corners = None if m.mode in ("nearest", "nearest-exact", "area") else m.align_corners
    return Upsample(size, None if size is not None else number(m.scale_factor), m.mode, align_corners)


@rule(nn.PixelShuffle)
def pixel_shuffle(m: Any, shape: Shape) -> Block | None:
    return PixelShuffle(m.upscale_factor) if len(shape) == 3 else None


@rule(nn.PixelUnshuffle)
def pixel_unshuffle(m: Any, shape: Shape) -> Block | None:
    return PixelUnshuffle(m.downscale_factor) if len(shape) == 3 else None


@rule(nn.ChannelShuffle)
def channel_shuffle(m: Any, shape: Shape) -> Block:
    axes = " ".join(f"x{axis}" for axis in range(len(shape) - 1))
    return Rearrange(f"(g c) {axes} -> (c g) {axes}".replace("  ", " ").strip(), g=m.groups)


def pad(m: Any, shape: Shape) -> Block:
    """Padding: a block's pairs are in the order of the shape, PyTorch's backwards."""
    amounts = m.padding
    pairs = [(amounts[at], amounts[at + 1]) for at in range(0, len(amounts), 2)][::-1]
    mode = next((mode for kind, mode in MODES.items() if kind in type(m).__mro__[1].__name__.lower()), "constant")
    return Pad(collapsed(pairs), mode=mode) if mode != "constant" else Pad(collapsed(pairs), value=m.value)


MODES = {"reflection": "reflect", "replication": "replicate", "circular": "circular"}

for _pad in ("Constant", "Zero", "Reflection", "Replication", "Circular"):
    RULES.update({getattr(nn, f"{_pad}Pad{rank}d"): pad for rank in (1, 2, 3)})


@rule(EinopsRearrange)
def rearrange(m: Any, shape: Shape) -> Block | None:
    """The pattern without its first axis, if that is the batch on either side and nothing else."""
    before, after = (side.split() for side in m.pattern.split("->"))
    if before[0] != after[0] or not before[0].isidentifier() or "..." in m.pattern:
        return None
    return Rearrange(f"{' '.join(before[1:])} -> {' '.join(after[1:])}", **m.axes_lengths)
