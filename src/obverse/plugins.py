"""What other packages bring: entry points, read when they are asked for, imported when they are used, guarded.

A plugin may fail, the host may not. One that cannot be loaded is named once, in a warning with its cause, and
everything else goes on. `OBVERSE_PLUGINS=0` in the environment switches all of them off.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from obverse.errors import RegistryError

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Group", "Plugin", "PluginWarning"]


class PluginWarning(UserWarning):
    """A plugin cannot be used, and why; everything else goes on.

    >>> issubclass(PluginWarning, UserWarning)
    True
    """


@dataclass(frozen=True, order=True)
class Plugin:
    """An object of another package, as its entry point names it.

    >>> Plugin("wavelet", "obverse_wavelet:Wavelet", "obverse-wavelet", "0.1").origin
    'obverse-wavelet 0.1'

    Attributes:
        name: the entry point's.
        value: where the object is, `"package.module:Object"`.
        package: the distribution that brings it.
        version: of the distribution.
    """

    name: str
    value: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """Package and version."""
        return f"{self.package} {self.version}".strip()


def _anything(found: Any) -> str:
    return ""


@dataclass(frozen=True)
class Group:
    """The entry points of one group, loaded one by one.

    >>> Group("obverse.blocks").plugins()    # here nothing is installed that has any
    ()

    Args:
        name: the group, `"obverse.blocks"`.
        objection: what is wrong with an object that was loaded, a sentence; `""` if nothing is.
    """

    name: str
    objection: Callable[[Any], str] = _anything
    _found: dict[Plugin, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _broken: dict[Plugin, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def plugins(self) -> tuple[Plugin, ...]:
        """Every entry point of the group, by name; nothing is imported.

        They are read anew each time, since a notebook may have installed a package meanwhile.
        """
        if os.environ.get("OBVERSE_PLUGINS", "").lower() in ("0", "off"):
            return ()
        return tuple(sorted({_plugin(entry) for entry in _entry_points(self.name)}))

    def load(self, plugin: Plugin) -> Any:
        """The object itself, imported when it is first asked for.

        Raises:
            RegistryError: if it cannot be loaded, with the cause; the first time there is a `PluginWarning`, too.
        """
        if plugin not in self._found and plugin not in self._broken:
            try:
                found = _imported(plugin.value)
            except (Exception, SystemExit) as error:  # whatever it is, it is the plugin's
                self.refuse(plugin, f"{type(error).__name__}: {error}")
            else:
                reason = self.objection(found)
                if reason:
                    self.refuse(plugin, reason)
                else:
                    self._found[plugin] = found
        if plugin in self._found:
            return self._found[plugin]
        raise RegistryError(
            f"the plugin {plugin.name!r} ({plugin.value}) of {plugin.origin} cannot be loaded: {self._broken[plugin]}",
            f"Mend or uninstall {plugin.package}; OBVERSE_PLUGINS=0 in the environment does without any plugin.",
        )

    def loaded(self) -> Iterator[tuple[Plugin, Any]]:
        """Every plugin that can be loaded, with its object; those that cannot are named in a warning each, once."""
        for plugin in self.plugins():
            try:
                found = self.load(plugin)
            except RegistryError:  # of which the warning told
                continue
            yield plugin, found

    def refuse(self, plugin: Plugin, why: str) -> None:
        """Note that a plugin cannot be used; the first time there is a `PluginWarning`."""
        if plugin in self._broken:
            return
        self._broken[plugin] = why
        _warn(f"the plugin {plugin.name!r} ({plugin.value}) of {plugin.origin} is left out: {why}")

    def state(self, plugin: Plugin) -> str:
        """`"not loaded yet"`, `"loaded"`, or `"broken: "` and why."""
        if plugin in self._broken:
            return f"broken: {self._broken[plugin]}"
        return "loaded" if plugin in self._found else "not loaded yet"


def _warn(what: str) -> None:
    warnings.warn(what, PluginWarning, stacklevel=4)


def _imported(value: str) -> Any:
    module, _, attributes = value.partition(":")
    found = import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found


def _plugin(entry: EntryPoint) -> Plugin:
    value = entry.value.partition("[")[0].replace(" ", "")  # extras, an old form, name what else to install
    package, version = _said_by(entry.dist)
    return Plugin(entry.name, value, package, version)


def _said_by(distribution: Distribution | None) -> tuple[str, str]:
    try:
        return str(distribution.name), str(distribution.version)  # type: ignore[union-attr]
    except Exception:  # a distribution without metadata is still to be told of
        return "a package without metadata", ""


def _entry_points(group: str) -> Iterable[EntryPoint]:
    from importlib.metadata import distributions, entry_points  # takes a while, which plans need not wait for

    try:
        return entry_points(group=group)
    except Exception:  # one distribution's list cannot be read: read the others' one by one
        return [entry for distribution in distributions() for entry in _listed(distribution, group)]


def _listed(distribution: Distribution, group: str) -> Iterable[EntryPoint]:
    try:
        return list(distribution.entry_points.select(group=group))
    except Exception:
        return ()
