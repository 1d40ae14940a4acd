"""Blocks that keep every shape: norms, dropout, activations, and any other of PyTorch's by name."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from obverse.block import Block, keywords
from obverse.errors import ShapeError
from obverse.later import Later
from obverse.settings import check_flags, check_number, settle, spatial_rank
from obverse.shapes import Shape
from obverse.sight import Sight

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse import modules
else:
    torch = Later("torch")
    modules = Later("obverse.modules")

__all__ = [
    "ELU",
    "GELU",
    "BatchNorm",
    "Dropout",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "LayerNorm",
    "LeakyReLU",
    "Mish",
    "Pointwise",
    "RMSNorm",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]


@dataclass(frozen=True, repr=False)
class BatchNorm(Block):
    """Normalisation of every channel over the batch: `torch.nn.BatchNorm1d`, `BatchNorm2d` or `BatchNorm3d`.

    >>> BatchNorm().parameter_shapes((16, 14, 14))    # the channels come from the shape
    {'weight': (16,), 'bias': (16,)}

    Shapes: any with up to three spatial axes; `C` alone, too.

    Args:
        eps: added to the variance, against division by zero.
        momentum: how much of the running statistics each batch replaces; `None` averages over all batches.
        affine: whether a channel has a learned scale and offset.
        track_running_stats: whether statistics are kept for evaluation.

    Source: Ioffe & Szegedy, arXiv:1502.03167.
    """

    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True

    pointwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_flags(self)
        check_number(self, "eps", 0)
        if self.momentum is not None:
            check_number(self, "momentum", 0, 1)

    def output_shape(self, shape: Shape) -> Shape:
        spatial_rank(self, shape, least=0)
        return shape

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        rank = spatial_rank(self, shape, least=0)
        layers = (torch.nn.BatchNorm1d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
        return layers[rank](
            shape[0],
            self.eps,
            self.momentum,
            self.affine,
            self.track_running_stats,
            device=device,
            dtype=dtype,
        )

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": shape[:1], "bias": shape[:1]} if self.affine else {}

    def windows(self, shape: Shape) -> Sight:
        # without statistics of its own it takes those of the batch at hand, over all of space
        return super().windows(shape) if self.track_running_stats else None


@dataclass(frozen=True, repr=False)
class GroupNorm(Block):
    """Normalisation of groups of channels over one example: `torch.nn.GroupNorm`.

    >>> GroupNorm(5).output_shape((16, 14, 14))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: GroupNorm(5) at 16×14×14: 5 groups do not divide 16 channels.
    Give it num_groups=4.

    Args:
        num_groups: groups of channels; divides the channels.
        eps: added to the variance, against division by zero.
        affine: whether a channel has a learned scale and offset.

    Source: Wu & He, arXiv:1803.08494.

    Raises:
        ShapeError: for groups that do not divide the channels.
    """

    num_groups: int
    eps: float = 1e-5
    affine: bool = True

    pointwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        settle(self, num_groups=1)
        check_number(self, "eps", 0)

    def output_shape(self, shape: Shape) -> Shape:
        if (shape[0] % self.num_groups != 0) is True:
            most = min(self.num_groups - 1, shape[0])
            fits = next((groups for groups in range(most, max(most - 5_000, 0), -1) if shape[0] % groups == 0), 1)
            raise self.refuse(
                shape, f"{self.num_groups} groups do not divide {shape[0]} channels.", f"Give it num_groups={fits}."
            )
        return shape

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        return torch.nn.GroupNorm(self.num_groups, shape[0], self.eps, self.affine, device=device, dtype=dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": shape[:1], "bias": shape[:1]} if self.affine else {}

    def windows(self, shape: Shape) -> Sight:
        return None  # the mean and variance are over all of space


@dataclass(frozen=True, repr=False)
class InstanceNorm(Block):
    """Normalisation of every channel of every example: `torch.nn.InstanceNorm1d`, `InstanceNorm2d`, `InstanceNorm3d`.

    >>> InstanceNorm().output_shape((16, 1, 1))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: InstanceNorm() at 16×1×1: a single cell has no variance.
    Put GroupNorm(1) in its place.

    Args:
        eps: added to the variance, against division by zero.
        momentum: how much of the running statistics each batch replaces, if they are tracked.
        affine: whether a channel has a learned scale and offset.
        track_running_stats: whether statistics are kept for evaluation.

    Source: Ulyanov et al., arXiv:1607.08022.

    Raises:
        ShapeError: for a single cell, as PyTorch does in training.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = False
    track_running_stats: bool = False

    pointwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_flags(self)
        check_number(self, "eps", 0)
        check_number(self, "momentum", 0, 1)

    def output_shape(self, shape: Shape) -> Shape:
        spatial_rank(self, shape)
        if (prod(shape[1:]) < 2) is True:
            raise self.refuse(shape, "a single cell has no variance.", "Put GroupNorm(1) in its place.")
        return shape

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        self.output_shape(shape)
        layers = (torch.nn.InstanceNorm1d, torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)
        settings = (self.eps, self.momentum, self.affine, self.track_running_stats)
        return layers[len(shape) - 2](shape[0], *settings, device=device, dtype=dtype)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": shape[:1], "bias": shape[:1]} if self.affine else {}

    def windows(self, shape: Shape) -> Sight:
        return None  # the mean and variance are over all of space


class _ChannelNorm(Block):
    """A norm over the channels of every position, or over the last axis, whichever holds the features."""

    pointwise: ClassVar[bool] = True

    eps: float | None
    elementwise_affine: bool
    channels: Literal["first", "last"]

    def __post_init__(self) -> None:
        check_flags(self)
        if self.eps is not None:
            check_number(self, "eps", 0)
        if self.channels not in ("first", "last"):
            raise ShapeError(
                f"channels={self.channels!r} is neither 'first' nor 'last'.",
                "Leave channels out.",
                where=type(self).__name__,
            )

    def features(self, shape: Shape) -> int:
        """How many numbers are normalised together."""
        return shape[0] if self.channels == "first" else shape[-1]

    def layer(self, name: str) -> Any:
        """The class of the module: PyTorch's own, one for channels that come first, or one for any last axis."""
        if self.channels == "first":
            return getattr(modules, name)
        return getattr(torch.nn, name) if self.elementwise_affine else getattr(modules, f"Free{name}")

    def windows(self, shape: Shape) -> Sight:
        # along the last axis it mixes cells, unless that is the only one
        return super().windows(shape) if self.channels == "first" or len(shape) == 1 else None


@dataclass(frozen=True, repr=False)
class LayerNorm(_ChannelNorm):
    """Normalisation over the features of every position: `torch.nn.LayerNorm`.

    >>> LayerNorm().parameter_shapes((96, 14, 14)), LayerNorm(channels="last").parameter_shapes((196, 96))
    ({'weight': (96,), 'bias': (96,)}, {'weight': (96,), 'bias': (96,)})

    Args:
        eps: added to the variance, against division by zero.
        elementwise_affine: whether a feature has a learned scale.
        bias: and a learned offset.
        channels: `"first"` normalises the channels of every position, as ConvNeXt does; `"last"` the last axis, as
            PyTorch's own does, for tokens.

    Source: Ba et al., arXiv:1607.06450.
    """

    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True
    channels: Literal["first", "last"] = "first"

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        settings = (self.eps, self.elementwise_affine, self.bias)
        layer: nn.Module = self.layer("LayerNorm")(self.features(shape), *settings, device=device, dtype=dtype)
        return layer

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        names = ("weight", "bias") if self.bias else ("weight",)
        return dict.fromkeys(names, (self.features(shape),)) if self.elementwise_affine else {}


@dataclass(frozen=True, repr=False)
class RMSNorm(_ChannelNorm):
    """Division by the root mean square of the features of every position: `torch.nn.RMSNorm`.

    >>> RMSNorm().parameter_shapes((96, 14, 14))
    {'weight': (96,)}

    Args:
        eps: added to the mean square; `None` is the smallest step of the dtype.
        elementwise_affine: whether a feature has a learned scale.
        channels: `"first"` or `"last"`, as for `LayerNorm`.

    Source: Zhang & Sennrich, arXiv:1910.07467.
    """

    eps: float | None = None
    elementwise_affine: bool = True
    channels: Literal["first", "last"] = "first"

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        settings = (self.eps, self.elementwise_affine)
        layer: nn.Module = self.layer("RMSNorm")(self.features(shape), *settings, device=device, dtype=dtype)
        return layer

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": (self.features(shape),)} if self.elementwise_affine else {}


class _Layer(Block):
    """A layer of PyTorch's that has the block's name and arguments, and no parameters."""

    pointwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_flags(self)

    def mirror(self, shape: Shape) -> Block:
        # in the decoder a value may be shared with the code that the caller holds, so nothing there works in place
        return replace(self, inplace=False) if getattr(self, "inplace", False) else self  # type: ignore[type-var]

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        layer: nn.Module = getattr(torch.nn, type(self).__name__)(**arguments)
        return layer


@dataclass(frozen=True, repr=False)
class Dropout(_Layer):
    """Numbers set to zero at random while training: `torch.nn.Dropout`.

    >>> Dropout(0.2).output_shape((16, 7, 7))
    (16, 7, 7)

    Args:
        p: how likely a number is dropped, 0 to 1.
        inplace: overwrite the input; never in a mirror.

    Source: Srivastava et al., JMLR 15 (2014).
    """

    p: float = 0.5
    inplace: bool = False

    idle = True

    def __post_init__(self) -> None:
        check_flags(self)
        check_number(self, "p", 0, 1)


@dataclass(frozen=True, repr=False)
class Identity(_Layer):
    """Nothing at all: `torch.nn.Identity`; what a decoder is when nothing is left to do.

    >>> Identity().output_shape((16, 7, 7))
    (16, 7, 7)
    """

    idle = True


@dataclass(frozen=True, repr=False)
class ReLU(_Layer):
    """`max(x, 0)`: `torch.nn.ReLU`.

    >>> ReLU().mirror((16, 7, 7))
    ReLU()

    Args:
        inplace: overwrite the input; never in a mirror.
    """

    inplace: bool = False


@dataclass(frozen=True, repr=False)
class LeakyReLU(_Layer):
    """`max(x, 0)`, and a little of what is below: `torch.nn.LeakyReLU`.

    >>> LeakyReLU(0.2)
    LeakyReLU(negative_slope=0.2)

    Args:
        negative_slope: what is left of a number below 0.
        inplace: overwrite the input; never in a mirror.
    """

    negative_slope: float = 0.01
    inplace: bool = False

    def __post_init__(self) -> None:
        check_flags(self)
        check_number(self, "negative_slope")


@dataclass(frozen=True, repr=False)
class ELU(_Layer):
    """`x` above 0, `alpha (exp(x) - 1)` below: `torch.nn.ELU`.

    >>> ELU().output_shape((16, 7, 7))
    (16, 7, 7)

    Args:
        alpha: the limit below.
        inplace: overwrite the input; never in a mirror.

    Source: Clevert et al., arXiv:1511.07289.
    """

    alpha: float = 1.0
    inplace: bool = False

    def __post_init__(self) -> None:
        check_flags(self)
        check_number(self, "alpha")


@dataclass(frozen=True, repr=False)
class GELU(_Layer):
    """`x` times the normal distribution's share below it: `torch.nn.GELU`.

    >>> GELU(approximate="tanh")
    GELU(approximate='tanh')

    Args:
        approximate: `"none"`, or `"tanh"` for the faster form.

    Source: Hendrycks & Gimpel, arXiv:1606.08415.
    """

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ShapeError(
                f"approximate={self.approximate!r} is neither 'none' nor 'tanh'.", "Leave it out.", where="GELU"
            )


@dataclass(frozen=True, repr=False)
class SiLU(_Layer):
    """`x` times its sigmoid, also called swish: `torch.nn.SiLU`.

    >>> SiLU().output_shape((16, 7, 7))
    (16, 7, 7)

    Args:
        inplace: overwrite the input; never in a mirror.
    """

    inplace: bool = False


@dataclass(frozen=True, repr=False)
class Mish(_Layer):
    """`x` times the tanh of its softplus: `torch.nn.Mish`.

    >>> Mish().output_shape((16, 7, 7))
    (16, 7, 7)

    Args:
        inplace: overwrite the input; never in a mirror.
    """

    inplace: bool = False


@dataclass(frozen=True, repr=False)
class Tanh(_Layer):
    """The hyperbolic tangent, for outputs between -1 and 1: `torch.nn.Tanh`.

    >>> Tanh().output_shape((1, 28, 28))
    (1, 28, 28)
    """


@dataclass(frozen=True, repr=False)
class Sigmoid(_Layer):
    """The logistic function, for outputs between 0 and 1: `torch.nn.Sigmoid`.

    >>> Sigmoid().output_shape((1, 28, 28))
    (1, 28, 28)
    """


@dataclass(frozen=True, repr=False)
class Softplus(_Layer):
    """A smooth ReLU, for outputs above 0: `torch.nn.Softplus`.

    >>> Softplus(beta=2.0)
    Softplus(beta=2.0)

    Args:
        beta: how sharp the bend is.
        threshold: where it becomes a straight line, against overflow.
    """

    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        check_number(self, "beta")
        check_number(self, "threshold")


# Layers of torch.nn that keep every shape and learn nothing, with their arguments. A list, and not `getattr`, so that a
# name in a config reaches nothing else.
LAYERS: dict[str, tuple[str, ...]] = {
    "AlphaDropout": ("p",),
    "CELU": ("alpha",),
    "ELU": ("alpha",),
    "GELU": ("approximate",),
    "Hardshrink": ("lambd",),
    "Hardsigmoid": (),
    "Hardswish": (),
    "Hardtanh": ("min_val", "max_val"),
    "LeakyReLU": ("negative_slope",),
    "LogSigmoid": (),
    "Mish": (),
    "RReLU": ("lower", "upper"),
    "ReLU": (),
    "ReLU6": (),
    "SELU": (),
    "SiLU": (),
    "Sigmoid": (),
    "Softplus": ("beta", "threshold"),
    "Softshrink": ("lambd",),
    "Softsign": (),
    "Tanh": (),
    "Tanhshrink": (),
}


@dataclass(frozen=True, repr=False, init=False)
class Pointwise(Block):
    """A layer of `torch.nn` that keeps every shape and learns nothing, by its name.

    >>> Pointwise("Hardtanh", min_val=-2.0)
    Pointwise('Hardtanh', min_val=-2.0)
    >>> Pointwise("Hardswich")
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: Pointwise: 'Hardswich' is no layer of torch.nn that keeps every shape.
    Give it 'Hardswish', or write a block of your own.

    Args:
        name: one of `Pointwise.names()`; the class itself will do, an instance not, since it would be shared.
        **arguments: what the class takes, as plain numbers or text; `inplace` is left out, since mirrors share values.

    Raises:
        ShapeError: for another name, an instance, or arguments that the layer has not.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...] = keywords()

    pointwise: ClassVar[bool] = True

    def __init__(self, name: Any, **arguments: Any) -> None:
        object.__setattr__(self, "name", _layer_name(name))
        object.__setattr__(self, "arguments", tuple(sorted(arguments.items())))
        unknown = sorted(set(arguments) - set(LAYERS[self.name]))
        if unknown:
            known = ", ".join(LAYERS[self.name]) or "no arguments"
            raise ShapeError(
                f"{self.name} has no argument {unknown[0]!r} here.", f"It takes {known}.", where="Pointwise"
            )
        for argument, value in self.arguments:
            if not isinstance(value, (int, float, str)) or isinstance(value, bool):
                raise ShapeError(f"{argument}={value!r} is no plain value.", "Give a number.", where="Pointwise")

    @property
    def idle(self) -> bool:  # type: ignore[override]
        """Dropout of another kind does nothing in evaluation, either."""
        return "Dropout" in self.name

    @staticmethod
    def names() -> tuple[str, ...]:
        """The layers that can be named.

        >>> "Hardswish" in Pointwise.names()
        True
        """
        return tuple(LAYERS)

    def build(
        self, shape: Shape, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> nn.Module:
        layer: nn.Module = getattr(torch.nn, self.name)(**dict(self.arguments))
        return layer


def _layer_name(given: Any) -> str:
    named = given.__name__ if isinstance(given, type) and given.__module__.startswith("torch.nn.") else given
    if isinstance(named, str) and named in LAYERS:
        return named
    if not isinstance(named, str):
        what = f"{type(given).__name__} object" if not isinstance(given, type) else f"class {given.__qualname__}"
        raise ShapeError(
            f"it takes a layer's name, not the {what}: a block holds settings, and an instance would be shared.",
            f"Give it {type(given).__name__!r}." if type(given).__name__ in LAYERS else "Write a block of your own.",
            where="Pointwise",
        )
    lowered = {name.lower(): name for name in LAYERS}
    near = [lowered[name] for name in get_close_matches(named.lower(), lowered, n=1)]
    raise ShapeError(
        f"{named!r} is no layer of torch.nn that keeps every shape.",
        f"Give it {near[0]!r}, or write a block of your own." if near else "Write a block of your own.",
        where="Pointwise",
    )
