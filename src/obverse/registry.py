"""Names and the block classes they stand for: built-ins and plugins through the same door."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TypeVar, overload

from obverse.block import Block
from obverse.errors import RegistryError

__all__ = ["block_class", "names", "register"]

BlockClass = TypeVar("BlockClass", bound=type[Block])

BUILT_IN: Mapping[str, str] = {
    name: family
    for family, members in {
        "obverse.chain": ("Chain",),
        "obverse.blocks.conv": ("Conv", "ConvTranspose", "ResizeConv", "SubpixelConv"),
        "obverse.blocks.pooling": (
            *("MaxPool", "AvgPool", "LPPool", "AdaptiveMaxPool", "AdaptiveAvgPool", "MaxUnpool", "NearestUnpool"),
        ),
        "obverse.blocks.resampling": ("Upsample", "PixelShuffle", "PixelUnshuffle"),
        "obverse.blocks.rearrange": ("Rearrange",),
        "obverse.blocks.branching": ("Residual", "Parallel"),
        "obverse.blocks.skips": ("Skip", "Rejoin"),
        "obverse.blocks.dense": ("Linear",),
        "obverse.blocks.reshaping": ("Flatten", "Unflatten", "Pad", "Crop"),
        "obverse.blocks.pointwise": (
            *("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm", "Dropout", "Identity", "Pointwise"),
            *("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softplus"),
        ),
    }.items()
    for name in members
}
"""Where each built-in block lives; imported when its name is first looked up."""

_registered: dict[str, type[Block]] = {}


@overload
def register(block: BlockClass) -> BlockClass: ...
@overload
def register(block: str) -> Callable[[BlockClass], BlockClass]: ...
def register(block: BlockClass | str) -> BlockClass | Callable[[BlockClass], BlockClass]:
    """Give a block class a name, for scripts and notebooks; a decorator.

    >>> from dataclasses import dataclass
    >>> @register
    ... @dataclass(frozen=True, repr=False)
    ... class Halve(Block):
    ...     pointwise = True
    ...     def build(self, shape): ...
    >>> block_class("Halve") is Halve
    True

    Args:
        block: the class, named as it is; or the name to give it, as in `@register("halve")`.

    Raises:
        RegistryError: if the name is taken by another class.
    """
    if isinstance(block, str):
        name = block
        return lambda cls: _register(name, cls)
    return _register(block.__name__, block)


def _register(name: str, cls: BlockClass) -> BlockClass:
    known = _registered.get(name)
    same = known is not None and (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
    if name in BUILT_IN or (known is not None and not same):  # a notebook's cell may be run again
        owner = BUILT_IN.get(name) or (known.__module__ if known is not None else "")
        raise RegistryError(f"the name {name!r} is taken, by {owner}.", f"Give another: @register('My{name}').")
    _registered[name] = cls
    return cls


def names() -> tuple[str, ...]:
    """Every block's name.

    >>> "Conv" in names()
    True
    """
    return (*BUILT_IN, *_registered)


def block_class(name: str) -> type[Block]:
    """The class of a block, by its name.

    >>> block_class("Conv").__name__
    'Conv'

    Raises:
        RegistryError: for an unknown name, with the near misses.
    """
    if name in BUILT_IN:
        cls: type[Block] = getattr(import_module(BUILT_IN[name]), name)
        return cls
    if name in _registered:
        return _registered[name]
    near = " or ".join(map(repr, get_close_matches(name, names(), n=3)))
    raise RegistryError(f"no block is called {name!r}.", f"Did you mean {near}?" if near else "See names().")
