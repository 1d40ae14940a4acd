"""Names and the classes they stand for: built-ins, registered ones, and plugins of packages that are installed."""

import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest

from obverse import Block, Conv, RegistryError, register, registry
from obverse.plugins import Group, PluginWarning
from obverse.registry import Entry, block_class, entries, name_of, names

WAVELET = """
from dataclasses import dataclass
from obverse import Block

@dataclass(frozen=True, repr=False)
class Wavelet(Block):
    level: int = 1
    pointwise = True

    def build(self, shape):
        from torch import nn
        return nn.Identity()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package on the path, with the entry points that it has."""
    before = set(sys.modules)

    def installed(package, points, source="", *, version="0.1", group="obverse.blocks", metadata=True):
        module = package.replace("-", "_")
        site = tmp_path / package
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = points if isinstance(points, str) else "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        monkeypatch.syspath_prepend(site)
        return module

    monkeypatch.setattr(registry, "PLUGINS", Group("obverse.blocks", registry._objection))
    monkeypatch.setattr(registry, "_registered", {})
    yield installed
    for name in set(sys.modules) - before:
        if name.startswith(("obverse_", "fake_")):
            del sys.modules[name]


def state_of(name, **options):
    return [entry.state for entry in entries(**options) if entry.name == name]


# Plugins that work ---------------------------------------------------------------------------------------------------


def test_a_plugin_is_a_block_like_any_other_and_imported_when_its_name_is_looked_up(install):
    module = install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    assert "wavelet" in names()
    assert Entry("wavelet", "obverse-wavelet 0.1", "not loaded yet") in entries()
    assert module not in sys.modules
    cls = block_class("wavelet")
    assert cls.__name__ == "Wavelet"
    assert block_class("wavelet") is cls
    assert name_of(cls) == "wavelet"
    assert Entry("wavelet", "obverse-wavelet 0.1", "loaded") in entries()


def test_a_class_of_one_package_has_the_name_that_another_gives_it_once_that_was_looked_up(install):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, "from fake_inner import Wavelet")
    install("fake-inner", {"broken": "fake_inner.again:Wavelet"}, WAVELET)
    inner = __import__("fake_inner").Wavelet
    with pytest.warns(PluginWarning, match=r"fake_inner\.again"), pytest.raises(RegistryError, match="has no name"):
        name_of(inner)
    assert block_class("wavelet") is inner
    assert name_of(inner) == "wavelet"


def test_a_package_installed_meanwhile_is_found(install):
    with pytest.raises(RegistryError, match="no block is called 'wavelet'"):
        block_class("wavelet")
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    assert block_class("wavelet").__name__ == "Wavelet"


def test_plugins_can_be_switched_off(install, monkeypatch):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    for said in ("0", "off", "OFF"):
        monkeypatch.setenv("OBVERSE_PLUGINS", said)
        assert "wavelet" not in names()
        with pytest.raises(RegistryError, match="no block is called"):
            block_class("wavelet")
    monkeypatch.setenv("OBVERSE_PLUGINS", "1")
    assert "wavelet" in names()


def test_only_plugins_that_are_named_are_imported_where_names_are_given(install):
    module = install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    with pytest.raises(RegistryError, match=r"If you trust it, name it: plugins=\['wavelet'\]"):
        block_class("wavelet", plugins=[])
    assert module not in sys.modules
    assert block_class("Conv", plugins=[]) is Conv
    assert block_class("wavelet", plugins=["wavelet"]).__name__ == "Wavelet"


def test_another_groups_entry_points_are_read_by_the_same_means(install):
    install("fake-rules", {"one": "fake_rules:one", "two": "fake_rules:two"}, "one = 1", group="obverse.lifting")
    rules = Group("obverse.lifting")
    with pytest.warns(PluginWarning, match="'two'.*AttributeError") as told:
        assert [(plugin.name, found) for plugin, found in rules.loaded()] == [("one", 1)]
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(rules.loaded())) == 1


# Plugins that do not -------------------------------------------------------------------------------------------------

BROKEN = [
    ("import fake_missing", "ModuleNotFoundError: No module named 'fake_missing'"),
    ("1 / 0", "ZeroDivisionError"),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("class Wavelet", "SyntaxError"),
    ("Wavelett = 1", "AttributeError"),
    ("class Wavelet: pass", "it is the class Wavelet, and no subclass of obverse.Block"),
    ("Wavelet = 3", "it is a int, and no subclass"),
]


@pytest.mark.parametrize(("source", "cause"), BROKEN, ids=[cause.split(":")[0] for _, cause in BROKEN])
def test_a_broken_plugin_is_named_with_its_cause_once_and_breaks_nothing_else(install, source, cause):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, source)
    install("obverse-other", {"other": "obverse_other:Wavelet"}, WAVELET)
    with (
        pytest.warns(PluginWarning, match=r"'wavelet' \(obverse_wavelet:Wavelet\) of obverse-wavelet 0\.1") as told,
        pytest.raises(RegistryError) as refused,
    ):
        block_class("wavelet")
    assert len(told) == 1
    assert cause in str(told[0].message)
    assert cause in str(refused.value)
    with pytest.raises(RegistryError, match="cannot be loaded"):  # and no warning, which would be an error
        block_class("wavelet")
    assert block_class("other").__name__ == "Wavelet"
    assert name_of(block_class("other")) == "other"
    assert state_of("wavelet") == [f"broken: {refused.value.reason.split(' cannot be loaded: ')[1]}"]
    assert state_of("Conv") == ["loaded"]


def test_a_listing_that_loads_says_which_are_broken(install):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, "1 / 0")
    install("obverse-other", {"other": "obverse_other:Wavelet"}, WAVELET)
    with pytest.warns(PluginWarning):
        assert state_of("wavelet", load=True) == ["broken: ZeroDivisionError: division by zero"]
    assert state_of("other", load=True) == ["loaded"]


def test_two_plugins_of_one_name_are_both_named_in_the_error(install):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    install("fake-wavelet", {"wavelet": "fake_wavelet:Wavelet", "fine": "fake_wavelet:Wavelet"}, WAVELET, version="2")
    with pytest.raises(RegistryError, match=r"fake-wavelet 2 .* and obverse-wavelet 0\.1 .*\n.*Uninstall"):
        block_class("wavelet")
    assert len(state_of("wavelet", load=True)) == 2
    assert "claimed by fake-wavelet 2, too" in state_of("wavelet")[1]
    assert block_class("fine").__name__ == "Wavelet"


def test_a_plugin_with_the_name_of_a_built_in_is_refused(install):
    install("obverse-conv", {"Conv": "obverse_conv:Wavelet"}, WAVELET)
    with pytest.warns(PluginWarning, match="'Conv' is a built-in's name"):
        names()
    assert block_class("Conv") is Conv
    assert state_of("Conv") == ["loaded", "broken: 'Conv' is a built-in's name."]


def test_a_list_of_entry_points_that_cannot_be_read_hides_no_others(install):
    install("fake-nonsense", "this is no line\n")
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    assert block_class("wavelet").__name__ == "Wavelet"


def test_a_distribution_without_metadata_is_told_of(install):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET, metadata=False)
    assert "wavelet" in names()
    assert block_class("wavelet").__name__ == "Wavelet"


# Registered ----------------------------------------------------------------------------------------------------------


def test_a_class_is_registered_once_more_by_a_notebooks_cell_but_not_another(install):
    def cell():
        @register
        @dataclass(frozen=True, repr=False)
        class Halve(Block):
            pointwise = True

        return Halve

    first, second = cell(), cell()
    assert block_class("Halve") is second
    assert name_of(first) == name_of(second) == "Halve"
    with pytest.raises(RegistryError, match=r"'Halve' is taken, by tests?.*\n.*@register\('MyHalve'\)"):
        register("Halve")(Conv)
    with pytest.raises(RegistryError, match=r"'Conv' is taken, by obverse\.blocks\.conv"):
        register("Conv")(first)


def test_what_is_no_block_cannot_be_registered(install):
    with pytest.raises(RegistryError, match="no subclass"):
        register(int)


def test_a_plugins_name_is_taken(install):
    install("obverse-wavelet", {"wavelet": "obverse_wavelet:Wavelet"}, WAVELET)
    with pytest.raises(RegistryError, match=r"taken, by obverse-wavelet 0\.1"):
        register("wavelet")(Conv)


def test_a_plugin_may_register_itself(install):
    install(
        "obverse-wavelet",
        {"wavelet": "obverse_wavelet:Wavelet"},
        f"{WAVELET}\nfrom obverse import register\nregister('wavelet')(Wavelet)",
    )
    assert name_of(block_class("wavelet")) == "wavelet"


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_built_in_has_its_name(name):
    assert name_of(block_class(name)) == name


@pytest.mark.parametrize(("given", "meant"), [("Convv", "Conv"), ("conv", "Conv"), ("batchnorm", "BatchNorm")])
def test_an_unknown_name_lists_near_misses(given, meant):
    with pytest.raises(RegistryError, match=f"Did you mean '{meant}'"):
        block_class(given)


def test_a_class_without_a_name_is_told_how_to_get_one():
    @dataclass(frozen=True, repr=False)
    class Conv(Block):  # a built-in's name is not enough
        pointwise = True

    with pytest.raises(RegistryError, match="Put @register above it"):
        name_of(Conv)
    register("MyConv")(Conv)
    assert name_of(Conv) == "MyConv"
    del registry._registered["MyConv"]


def test_asking_for_built_ins_reads_no_entry_points():
    asking = "from obverse.registry import block_class; block_class('Conv')"
    program = f"import sys; {asking}; print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
