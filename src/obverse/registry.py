"""Names and the block classes they stand for: built-ins and plugins through the same door.

A package brings a block by one line of its `pyproject.toml`; the name in configs is the entry point's:

<!-- not run: a line of a plugin's pyproject.toml -->
```toml
[project.entry-points."obverse.blocks"]
wavelet = "obverse_wavelet:Wavelet"
```
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar, overload

from obverse.block import Block
from obverse.errors import RegistryError
from obverse.plugins import Group, Plugin

__all__ = ["Entry", "block_class", "entries", "name_of", "names", "register"]

BlockClass = TypeVar("BlockClass", bound=type[Block])

BUILT_IN: Mapping[str, str] = {
    name: family
    for family, members in {
        "obverse.chain": ("Chain",),
        "obverse.graph": ("Graph",),
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


def _objection(found: Any) -> str:
    if isinstance(found, type) and issubclass(found, Block):
        return ""
    kind = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
    return f"it is {kind}, and no subclass of obverse.Block."


PLUGINS = Group("obverse.blocks", _objection)
"""The blocks of other packages."""


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
    >>> block_class("Halve") is Halve, name_of(Halve)
    (True, 'Halve')

    A package has an entry point instead, so that nobody need import it first.

    Args:
        block: the class, named as it is; or the name to give it, as in `@register("halve")`.

    Raises:
        RegistryError: if the name is taken by another class: a built-in, an installed plugin, or one registered before.
    """
    if isinstance(block, str):
        name = block
        return lambda cls: _register(name, cls)
    return _register(block.__name__, block)


def _register(name: str, cls: BlockClass) -> BlockClass:
    reason = _objection(cls)
    if reason:
        raise RegistryError(f"{cls!r} cannot be registered: {reason}", "Register a class: @register above `class`.")
    owner = _owner(name, cls)
    if owner:
        raise RegistryError(f"the name {name!r} is taken, by {owner}.", f"Give another: @register('My{name}').")
    _registered[name] = cls
    return cls


def _owner(name: str, cls: type[Block]) -> str:
    """Who else has a name; nobody if it is the same class, since a notebook's cell may be run again."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = _registered.get(name)
    if known is not None:
        same = (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__)
        return "" if same else known.__module__
    return next((plugin.origin for plugin in PLUGINS.plugins() if plugin.name == name and not _same(plugin, cls)), "")


def _same(plugin: Plugin, cls: type[Block]) -> bool:
    module, _, attribute = plugin.value.partition(":")
    return attribute == cls.__qualname__ and module.split(".")[0] == cls.__module__.split(".")[0]


def _claims() -> dict[str, list[Plugin]]:
    """The plugins by name, less those that claim a built-in's or a registered one's, of which a warning tells."""
    claims: dict[str, list[Plugin]] = {}
    for plugin in PLUGINS.plugins():
        if plugin.name in BUILT_IN:
            PLUGINS.refuse(plugin, f"{plugin.name!r} is a built-in's name.")
        else:
            claims.setdefault(plugin.name, []).append(plugin)
    return claims


def names() -> tuple[str, ...]:
    """Every block's name: the built-in ones, those registered, those of plugins, which are not imported for it.

    >>> "Conv" in names()
    True
    """
    return tuple(dict.fromkeys((*BUILT_IN, *_registered, *_claims())))


def is_at_hand(name: str) -> bool:
    """Whether a name is a built-in's or a registered one's: no list of installed packages need be read to know it.

    >>> is_at_hand("Conv"), is_at_hand("Convv")
    (True, False)
    """
    return name in BUILT_IN or name in _registered


def block_class(name: str, plugins: Container[str] | None = None) -> type[Block]:
    """The class of a block, by its name.

    >>> block_class("Conv").__name__
    'Conv'

    Args:
        name: of the block.
        plugins: the names of the plugins that may be imported; `None` for all that are installed.

    Raises:
        RegistryError: for an unknown name, with the near misses; for one that two packages claim; for a plugin that
            cannot be loaded, with the cause, or that may not be.
    """
    if name in BUILT_IN:
        cls: type[Block] = getattr(import_module(BUILT_IN[name]), name)
        return cls
    if name in _registered:
        return _registered[name]
    claims = _claims().get(name, [])
    if len(claims) == 1:
        if plugins is not None and name not in plugins:
            raise RegistryError(
                f"the block {name!r} is a plugin's, of {claims[0].origin}, and would be imported.",
                f"If you trust it, name it: plugins=[{name!r}].",
            )
        found: type[Block] = PLUGINS.load(claims[0])
        return found
    if claims:
        owners = " and ".join(f"{plugin.origin} ({plugin.value})" for plugin in claims)
        raise RegistryError(
            f"two plugins are called {name!r}: {owners}.", f"Uninstall {' or '.join(p.package for p in claims)}."
        )
    near = " or ".join(map(repr, near_misses(name, names())))
    raise RegistryError(f"no block is called {name!r}.", f"Did you mean {near}?" if near else "See names().")


def near_misses(name: str, known: Iterable[str]) -> list[str]:
    """What somebody may have meant, case aside.

    >>> near_misses("conv", ["Conv", "ConvTranspose"])
    ['Conv']
    """
    lowered = {each.lower(): each for each in known}
    return [lowered[each] for each in get_close_matches(name[:LONGEST].lower(), lowered, n=3)]


LONGEST = 100
"""Letters of a name that are compared: nobody means a longer one."""


def name_of(cls: type[Block]) -> str:
    """The name of a block's class; the other way round of `block_class`.

    >>> from obverse import Conv
    >>> name_of(Conv)
    'Conv'

    Raises:
        RegistryError: for a class that has none, or one that another class claims as well.
    """
    if BUILT_IN.get(cls.__name__) == cls.__module__:
        return cls.__name__
    home = (cls.__module__, cls.__qualname__)
    named = (name for name, known in _registered.items() if (known.__module__, known.__qualname__) == home)
    name = next(named, None) or _plugin_name(cls)
    if name is None:
        raise RegistryError(
            f"the class {cls.__qualname__} of {cls.__module__} has no name.",
            "Put @register above it, or give its package an entry point in the group 'obverse.blocks'.",
        )
    return name


def _plugin_name(cls: type[Block]) -> str | None:
    for name, claims in _claims().items():
        if any(_gives(plugin, cls) for plugin in claims):
            block_class(name)  # which refuses a name that two claim
            return name
    return None


def _gives(plugin: Plugin, cls: type[Block]) -> bool:
    """Whether a class is a plugin's; to find out, only the class's own package is imported."""
    package = plugin.value.partition(":")[0].partition(".")[0]
    if PLUGINS.state(plugin) != "loaded" and package != cls.__module__.partition(".")[0]:
        return False
    try:
        return PLUGINS.load(plugin) is cls
    except RegistryError:
        return False


@dataclass(frozen=True)
class Entry:
    """A name in the registry: where its class comes from, and whether it is there.

    >>> next(entry for entry in entries() if entry.name == "Conv")
    Entry(name='Conv', origin='built-in', state='loaded')

    Attributes:
        name: of the block.
        origin: `"built-in"`, `"registered in …"` a module, or package and version of a plugin.
        state: `"not loaded yet"`, `"loaded"`, or `"broken: "` and why.
    """

    name: str
    origin: str
    state: str


def entries(*, load: bool = False) -> tuple[Entry, ...]:
    """Everything that the registry knows, for people to read.

    >>> entries()[0]
    Entry(name='Chain', origin='built-in', state='loaded')

    Args:
        load: import every plugin first, to see which are broken; without it nothing is imported.
    """
    return tuple(_entries(load))


def _entries(load: bool) -> Iterator[Entry]:
    for name, module in BUILT_IN.items():
        yield Entry(name, "built-in", "loaded" if module in sys.modules else "not loaded yet")
    for name, cls in _registered.items():
        yield Entry(name, f"registered in {cls.__module__}", "loaded")
    claims = _claims()
    for plugin in PLUGINS.plugins():
        rivals = [other.origin for other in claims.get(plugin.name, []) if other != plugin]
        if load and not rivals and plugin.name in claims:
            with suppress(RegistryError):  # its state tells
                PLUGINS.load(plugin)
        taken = f"broken: the name is claimed by {' and '.join(rivals)}, too." if rivals else ""
        yield Entry(plugin.name, plugin.origin, taken or PLUGINS.state(plugin))
