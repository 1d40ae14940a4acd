"""Blocks and models as plain dictionaries, for JSON and TOML, and back.

What is written is what the constructor was given: a name from the registry, and the arguments that are not their
defaults. So a config is short, stable, and read by people; a block of a plugin has one without saying anything.

What is read may come from anywhere. Nothing is imported or made before all of it was looked at: a config has a version,
only names that the registry knows, no more values than `MOST_VALUES`, none of them deeper than `MOST_DEPTH` or larger
than `MOST_NUMBER`. A model is counted on paper before it is built. Whatever is wrong is a `ConfigError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, fields
from functools import lru_cache
from math import isfinite
from numbers import Real
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from obverse import graph
from obverse.block import Block, default_of, is_required
from obverse.blocks.conv import Style
from obverse.chain import Chain
from obverse.decoder import counterparts, mirror
from obverse.errors import ConfigError, ObverseError, RegistryError, ShapeError
from obverse.graph import Junction, Node
from obverse.plan import Plan
from obverse.registry import block_class, is_at_hand, name_of, names, near_misses
from obverse.rewrite import with_skips, with_upsampling
from obverse.shapes import as_shape
from obverse.sizes import Untold, bounded

__all__ = ["AutoencoderConfig", "from_config", "from_json", "from_toml", "to_config", "to_json", "to_toml"]

Config = dict[str, Any]
Plugins = Collection[str] | None

VERSION = 1
"""Of the form of configs; said in each, under the key `"obverse"`."""
MOST_NUMBER = 2**31
"""The largest integer: no layer has more channels, and no axis more cells."""
MOST_VALUES = 100_000
"""Numbers, texts, lists and tables in one config."""
MOST_DEPTH = 64
"""How deep lists and tables nest: chains in chains, thirty times."""
MOST_LETTERS = 10_000
"""Of one text in a config, or of a key."""
MOST_TEXT = 10_000_000
"""Letters of a file."""
MOST_PARAMETERS = 10**9
"""Numbers that a model of a config may hold, if nothing else is said: 4 GB."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """What an `Autoencoder` was made from, as a value: it needs no torch.

    >>> from obverse import Chain, Conv
    >>> described = AutoencoderConfig(Chain(Conv(12, 7)), (1, 28, 28))
    >>> to_config(described)["encoder"]
    {'block': 'Chain', 'blocks': [{'block': 'Conv', 'out_channels': 12, 'kernel_size': 7}]}
    >>> AutoencoderConfig.read(to_config(described)) == described
    True

    Attributes:
        encoder: as it was given, like what follows: skips and styles of upsampling are put in by the model.
        input_shape: of one example.
        output: the block at the end.
        skips: `"concat"`, `"add"`, places, or how at each place.
        tied: whether the decoder uses the encoder's weights.
        upsampling: the style of the whole model.
        literal: whether the decoder is the mirror and no more; see `Autoencoder`.
    """

    encoder: Block
    input_shape: tuple[int, ...]
    output: Block | None = None
    skips: Literal["concat", "add"] | tuple[str, ...] | dict[str, str] | None = None
    tied: bool = False
    upsampling: Style = "transpose"
    literal: bool = True

    @classmethod
    def read(cls, config: Mapping[str, Any], plugins: Plugins = None) -> AutoencoderConfig:
        """The description that a config holds.

        Raises:
            ConfigError: for a config that holds none.
        """
        _check(config, "model", plugins)
        if config["model"] != "Autoencoder":
            raise ConfigError(f"there is no model {config['model']!r:.80}.", 'Give "model": "Autoencoder".')
        given = {key: value for key, value in config.items() if key not in ("obverse", "model")}
        described: AutoencoderConfig = _made(cls, given, "Autoencoder", "", plugins)
        return described

    def parameters(self) -> int:
        """How many numbers the model will learn, counted on paper.

        Raises:
            ShapeError: where the blocks refuse the shape.
        """
        shape = as_shape(self.input_shape)
        chain = with_skips(_chain(self.encoder), shape, self.skips)
        styled = _chain(with_upsampling(chain, shape, self.upsampling))
        decoder = _chain(mirror(styled, shape, literal=self.literal))
        whole = Chain(styled, decoder) if self.output is None else Chain(styled, decoder, self.output)
        pairs = counterparts(chain, decoder, shape) if self.tied else ()
        return Plan.of(whole, shape, [f"1.{place}.weight" for _, place in pairs]).parameters

    def check_size(self, max_parameters: int = MOST_PARAMETERS) -> None:
        """Refuse a model that is too large, or that cannot be, before anything is allocated.

        Raises:
            ConfigError: with the number of parameters, or what the blocks say.
        """
        try:
            with bounded():
                number = self.parameters()
        except (Exception, RecursionError) as error:  # of arithmetic on absurd sizes, and of plugins' own rules
            _refuse_in_time(error)
        check_number(number, max_parameters)


def _refuse_in_time(error: BaseException) -> NoReturn:
    """Say what is wrong, with the advice that can be worked out in reasonable time."""
    try:
        with bounded():
            _refuse("", error)
    except Untold as untold:
        _refuse("", untold)


def check_number(number: int, most: int) -> None:
    """Refuse a model that would hold more numbers than it may.

    Raises:
        ConfigError: with both numbers.
    """
    if number > most:
        raise ConfigError(
            f"the model has {_written(number)} parameters, and at most {most:,} are taken.",
            f"If you want it all the same, give max_parameters={_written(number).replace(',', '_')}.",
        )


def _written(number: int) -> str:
    return f"{number:,}" if number.bit_length() < 1000 else f"more than 2**{number.bit_length() - 1}"


def _chain(block: Block) -> Chain:
    return block if isinstance(block, Chain) else Chain(block)


# Writing ------------------------------------------------------------------------------------------------------------


def to_config(block: Block | AutoencoderConfig) -> Config:
    """A block as plain values: dictionaries, lists, texts, numbers, `None`.

    >>> from obverse import Chain, Conv, ReLU
    >>> to_config(Conv(16, 3, stride=(2, 1)))
    {'obverse': 1, 'block': 'Conv', 'out_channels': 16, 'kernel_size': 3, 'stride': [2, 1]}
    >>> to_config(Chain(Conv(16, 3), ReLU()))["blocks"][1]
    {'block': 'ReLU'}

    Args:
        block: any block; or what a model was made from, which `Autoencoder.to_config()` gives.

    Raises:
        ConfigError: for a block that cannot be written: its class has no name in the registry, or it holds what is no
            plain value, such as a module.
    """
    if isinstance(block, AutoencoderConfig):
        described: Config = {"model": "Autoencoder", **_arguments(block, "", 0)}
    elif isinstance(block, Block):
        described = _written_block(block, "", 0)
    else:
        raise ConfigError(f"a {type(block).__name__} has no config.", "Give a block.")
    config = {"obverse": VERSION, **described}
    _check_bounds(config)
    return config


def _written_block(block: Block, place: str, depth: int) -> Config:
    try:
        arguments = _arguments(block, place, depth)  # first: it says more of a module kept whole than its name does
        return {"block": name_of(type(block)), **arguments}
    except RegistryError as error:
        raise ConfigError(f"{_at(place)}{error.reason}", error.repair) from None


def _arguments(given: Any, place: str, depth: int) -> Config:
    """The arguments of a dataclass that are not their defaults."""
    written: Config = {}
    for argument in _fields(type(given), place):
        value = getattr(given, argument.name)
        if argument.metadata.get("keywords"):
            value = dict(value)
        if is_required(argument) or value != default_of(argument):
            written[argument.name] = _plain(value, _within(place, argument.name), depth + 1)
    return written


def _plain(value: Any, place: str, depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise ConfigError(f"{_at(place[:80])}blocks are nested too deep.", f"Nest at most {MOST_DEPTH // 2}.")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Block):
        return _written_block(value, place, depth)
    if isinstance(value, Junction):
        return {"junction": _junction_name(value, place), **_arguments(value, place, depth)}
    if isinstance(value, Node):
        rest = {key: _plain(each, _within(place, key), depth + 1) for key, each in value._asdict().items()}
        return {"node": rest.pop("name"), **rest}
    if isinstance(value, (tuple, list)):
        return [_plain(each, f"{place}[{at}]", depth + 1) for at, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _plain(each, _within(place, key), depth + 1) for key, each in value.items()}
    if isinstance(value, Real):
        return value if isinstance(value, int) else float(value)
    kind = type(value)
    raise ConfigError(
        f"{_at(place)}it holds a {kind.__qualname__} of {kind.__module__}, which no config can hold.",
        "Save its weights with torch.save, or write a block of your own that says in plain values how to build it.",
    )


def _junction_name(junction: Junction, place: str) -> str:
    name, known = type(junction).__name__, _junctions()
    if known.get(name) is not type(junction):
        raise ConfigError(f"{_at(place)}the junction {junction!r} has no name.", f"There are {', '.join(known)}.")
    return name


@lru_cache
def _junctions() -> dict[str, type[Junction]]:
    return {
        name: kind
        for name, kind in vars(graph).items()
        if isinstance(kind, type) and issubclass(kind, Junction) and kind is not Junction
    }


# Reading ------------------------------------------------------------------------------------------------------------


def from_config(config: Mapping[str, Any], *, plugins: Plugins = None) -> Block:
    """The block that a config describes.

    >>> from_config({"obverse": 1, "block": "Conv", "out_channels": 16, "kernel_size": 3})
    Conv(16, 3)
    >>> from_config({"obverse": 1, "block": "Conv", "out_channels": 16, "kernel_sise": 3})
    Traceback (most recent call last):
        ...
    obverse.errors.ConfigError: Conv has no argument 'kernel_sise'.
    Did you mean 'kernel_size'?

    Args:
        config: as `to_config` gives it.
        plugins: names of the plugins that may be imported; by default all that are installed. Give them for a config
            that came from elsewhere.

    Raises:
        ConfigError: for anything else: unknown names and keys, with near misses; wrong types; numbers, depths and
            lengths out of bounds; what the block itself refuses.
    """
    _check(config, "block", plugins)
    block: Block = _decoded({key: value for key, value in config.items() if key != "obverse"}, "", plugins)
    return block


def _check(config: Any, kind: str, plugins: Plugins) -> None:
    """Look at all of a config before anything is imported or made."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"a config is a table; a {type(config).__name__} was given.", "Give what to_config() gave.")
    _check_bounds(config)
    version = config.get("obverse")
    if version is None:
        raise ConfigError("the config does not say its version.", f'Give it "obverse": {VERSION}.')
    if type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise ConfigError(
            f"the config is of version {version!r:.80}, and this obverse reads version {VERSION}.",
            "Update obverse: pip install -U obverse." if newer else f'Give it "obverse": {VERSION}.',
        )
    if kind not in config:
        other = {"block": "model", "model": "block"}[kind]
        if other in config:
            reader = {"block": "obverse.config.from_config", "model": "Autoencoder.from_config"}[other]
            raise ConfigError(f"the config describes a {other}, not a {kind}.", f"Read it with {reader}(config).")
        raise ConfigError(
            f"the config has no {kind!r}{_near(kind, config)}.", f"Give {kind!r}: and a name, as to_config() does."
        )
    _check_names(config, plugins)


def _check_bounds(config: Any) -> None:
    """Refuse what is no plain value, and what is too large, too deep or too long; without recursion."""
    left: list[tuple[Any, str, int]] = [(config, "", 0)]
    count = 0
    while left:
        value, place, depth = left.pop()
        count += 1
        if count > MOST_VALUES:
            raise ConfigError(f"the config has more than {MOST_VALUES:,} values.", "Give less.")
        if depth > MOST_DEPTH:
            raise ConfigError(f"the config nests deeper than {MOST_DEPTH} lists and tables.", "Nest less.")
        if isinstance(value, (Mapping, list, tuple)):
            if len(value) + len(left) > MOST_VALUES:
                raise ConfigError(f"the config has more than {MOST_VALUES:,} values.", "Give less.")
            inner = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, each in inner:
                left.append((each, _key_within(place, key, isinstance(value, Mapping)), depth + 1))
        else:
            _check_scalar(value, place)


def _key_within(place: str, key: Any, named: bool) -> str:
    if not named:
        return f"{place}[{key}]"
    if type(key) is not str or len(key) > MOST_LETTERS:
        raise ConfigError(f"{_at(place)}{key!r:.80} is no key.", "Keys are texts.")
    return _within(place, key[:80])


def _check_scalar(value: Any, place: str) -> None:
    if value is None or type(value) is bool:
        return
    if type(value) is int:
        if abs(value) <= MOST_NUMBER:
            return
        reason, repair = f"{_written(value)} is too large", f"Give a number up to {MOST_NUMBER:,}"
    elif type(value) is float:
        if isfinite(value):
            return
        reason, repair = f"{value} is no number", "Give a finite one"
    elif type(value) is str:
        if len(value) <= MOST_LETTERS:
            return
        reason, repair = f"a text of {len(value):,} letters is too long", f"Give at most {MOST_LETTERS:,}"
    else:
        reason, repair = f"a {type(value).__name__} is no plain value", "Give a number, a text, a list or a table"
    raise ConfigError(f"{_at(place)}{reason}.", f"{repair}.")


def _check_names(config: Mapping[str, Any], plugins: Plugins) -> None:
    """Refuse names that the registry does not know, before the first plugin is imported."""
    known: tuple[str, ...] | None = None
    left: list[tuple[Any, str]] = [(config, "")]
    while left:
        value, place = left.pop()
        if isinstance(value, (list, tuple)):
            left += [(each, f"{place}[{at}]") for at, each in enumerate(value)]
        elif isinstance(value, Mapping):
            left += [(each, _within(place, key)) for key, each in value.items()]
            name = value.get("block")
            if isinstance(name, str) and not is_at_hand(name):
                known = known or names()
                if name not in known:
                    raise _unknown(_at(place) + f"no block is called {name!r:.80}", name, known, "See names().")


def _unknown(reason: str, given: str, known: Collection[str], otherwise: str) -> ConfigError:
    near = " or ".join(map(repr, near_misses(given, known)))
    return ConfigError(f"{reason}.", f"Did you mean {near}?" if near else otherwise)


def _near(wanted: str, given: Mapping[str, Any]) -> str:
    near = near_misses(wanted, list(given)[:100])
    return f", but {near[0]!r:.80}" if near else ""


def _decoded(value: Any, place: str, plugins: Plugins) -> Any:
    """A plain value as what it stands for."""
    if isinstance(value, (list, tuple)):
        return tuple([_decoded(each, f"{place}[{at}]", plugins) for at, each in enumerate(value)])
    if not isinstance(value, Mapping):
        return value
    if "node" in value:
        return _node(value, place, plugins)
    for key, look_up in (("block", _block_class), ("junction", _junction_class)):
        if key in value:
            name = value[key]
            if not isinstance(name, str):
                raise ConfigError(f"{_at(place)}{name!r:.80} is no name of a {key}.", 'Give one, such as "Conv".')
            given = {argument: each for argument, each in value.items() if argument != key}
            return _made(look_up(name, place, plugins), given, name, place, plugins)
    return {key: _decoded(each, _within(place, key), plugins) for key, each in value.items()}


def _block_class(name: str, place: str, plugins: Plugins) -> type:
    try:
        return block_class(name, plugins)
    except RegistryError as error:
        raise ConfigError(f"{_at(place)}{error.reason}", error.repair) from error


def _junction_class(name: str, place: str, plugins: Plugins) -> type:
    if name not in _junctions():
        known = tuple(_junctions())
        raise _unknown(f"{_at(place)}no junction is called {name!r:.80}", name, known, f"Give one of {known}.")
    return _junctions()[name]


def _made(kind: type, given: Mapping[str, Any], name: str, place: str, plugins: Plugins) -> Any:
    """A block, junction or description, from the arguments in a config."""
    listed = _fields(kind, place)
    arguments = {argument.name: argument for argument in listed}
    for key in given:
        if key not in arguments:
            takes = f"It takes {', '.join(arguments)}." if arguments else "It takes none."
            raise _unknown(f"{_at(place)}{name} has no argument {key!r:.80}", key, arguments, takes)
    hints = _hints(kind)
    named: dict[str, Any] = {}
    for key, argument in arguments.items():
        if key not in given:
            if is_required(argument):
                raise ConfigError(f"{_at(place)}{name} needs {key}.", f"Give it {key!r}.")
            continue
        value = _decoded(given[key], _within(place, key), plugins)
        if argument.metadata.get("keywords"):
            named |= _keywords(value, name, arguments, place)
            continue
        if not _fits(value, hints.get(key, Any)):
            raise ConfigError(
                f"{_at(place)}{name} takes {_wanted(hints[key])} for {key}; {given[key]!r:.80} was given.",
                f"See obverse.{name}.",
            )
        named[key] = value
    try:
        return kind(**named)
    except Exception as error:  # whatever a plugin's own checks raise
        _refuse(place, error)


def _refuse(place: str, error: BaseException) -> NoReturn:
    if isinstance(error, ShapeError):
        where = f"{error.where}: " if error.where else ""
        raise ConfigError(f"{_at(place)}{where}{error.reason}", error.advice()) from None
    if isinstance(error, ObverseError):
        raise ConfigError(f"{_at(place)}{error.reason}", error.repair) from None
    raise ConfigError(f"{_at(place)}it cannot be made: {type(error).__name__}: {str(error)[:200]}") from error


def _keywords(value: Any, name: str, arguments: Collection[str], place: str) -> Config:
    if not isinstance(value, dict) or not all(each.isidentifier() and each not in arguments for each in value):
        raise ConfigError(f"{_at(place)}{name} takes a table of names and values; {value!r:.80} was given.")
    return value


def _node(given: Mapping[str, Any], place: str, plugins: Plugins) -> Node:
    """A node of a graph. Graphs trust their nodes, so all of it is looked at here."""
    rest = {"name": given["node"], **{key: value for key, value in given.items() if key != "node"}}
    for key in rest:
        if key not in Node._fields:
            raise _unknown(f"{_at(place)}a node has no {key!r:.80}", key, Node._fields, "Leave it out.")
    for key, hint in get_type_hints(Node).items():
        if key not in rest:
            raise ConfigError(f"{_at(place)}a node needs {key}.", f"Give it {key!r}.")
        value = rest[key]
        rest[key] = _decoded(value, _within(place, key), plugins)
        if not _fits(rest[key], hint):
            raise ConfigError(f"{_at(place)}a node takes {_wanted(hint)} for {key}; {value!r:.80} was given.")
    node = Node(**rest)
    number = getattr(node.block, "number", None)
    if isinstance(node.block, Block):
        fits = len(node.takes) == len(node.gives) == 1
    else:
        fits = bool(node.takes and node.gives) and number in (None, len(node.takes), len(node.gives))
    if not fits or not node.name or "." in node.name:
        raise ConfigError(
            f"{_at(place)}node {node.name!r:.80} takes {len(node.takes)} wires and gives "
            f"{len(node.gives)}, which {node.block!r:.80} does not.",
            "Give it its wires.",
        )
    return node


# Types --------------------------------------------------------------------------------------------------------------


def _fields(kind: type, place: str) -> tuple[Field[Any], ...]:
    try:
        listed = tuple(argument for argument in fields(kind) if argument.init)
    except TypeError:
        raise ConfigError(f"{_at(place)}{kind.__name__} is no dataclass.", "Put @dataclass(frozen=True).") from None
    reserved = [argument.name for argument in listed if argument.name in ("block", "junction", "node", "obverse")]
    if reserved:
        reason = f"{kind.__name__} has an argument {reserved[0]!r}, a name that configs use themselves."
        raise ConfigError(_at(place) + reason, "Rename it.")
    return listed


@lru_cache(maxsize=1024)
def _hints(kind: type) -> dict[str, Any]:
    """The types of a class's arguments; of a plugin that names types which are not there, none."""
    try:
        return get_type_hints(kind)
    except Exception:
        return {}


_PLAIN: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    str: ((str,), "a text"),
    NoneType: ((NoneType,), "nothing"),
}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as the type is one that configs know."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return type(value) in _PLAIN[hint][0]
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if kind is tuple and type(value) is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(each, inner[0]) for each in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is dict and type(value) is dict:
        return all(_fits(key, inner[0]) and _fits(each, inner[1]) for key, each in value.items())
    if kind in (tuple, dict):
        return False
    return isinstance(value, hint) if hint in (Block, Junction, Node) else True


def _wanted(hint: Any) -> str:
    """A type, as people say it."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint][1]
    if kind in (Union, UnionType):
        return " or ".join(map(_wanted, inner))
    if kind is Literal:
        return " or ".join(map(repr, inner))
    if kind is tuple:
        return f"a list ({', '.join('...' if each is Ellipsis else _wanted(each) for each in inner)})"
    if kind is dict:
        return "a table"
    return f"a {hint.__name__.lower()}" if isinstance(hint, type) else "another value"


def _within(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _at(place: str) -> str:
    """Where in a config something is wrong, in front of what is wrong."""
    return f"{place if len(place) < 200 else place[:100] + '…' + place[-100:]}: " if place else ""


# Text ---------------------------------------------------------------------------------------------------------------


def to_json(config: Mapping[str, Any]) -> str:
    """A config as JSON.

    >>> from obverse import ReLU
    >>> print(to_json(to_config(ReLU())), end="")
    {
      "obverse": 1,
      "block": "ReLU"
    }
    """
    return json.dumps(config, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def from_json(text: str) -> Config:
    """A config from JSON.

    >>> from_json('{"obverse": 1, "obverse": 2}')
    Traceback (most recent call last):
        ...
    obverse.errors.ConfigError: the key 'obverse' is there twice.
    Leave one out.

    Raises:
        ConfigError: for text that is no JSON, for a key that is there twice, and for NaN.
    """
    return _parsed("JSON", text, _loaded_json)


def _loaded_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)


def _unique(pairs: list[tuple[str, Any]]) -> Config:
    table: Config = {}
    for key, value in pairs:
        if key in table:
            raise ConfigError(f"the key {key!r:.80} is there twice.", "Leave one out.")
        table[key] = value
    return table


def _no_number(text: str) -> NoReturn:
    raise ConfigError(f"{text} is no number.", "Give a finite one.")


def to_toml(config: Mapping[str, Any]) -> str:
    """A config as TOML, which has no null: `None` is written `{none = true}`.

    >>> from obverse import BatchNorm
    >>> print(to_toml(to_config(BatchNorm(1e-3))), end="")
    obverse = 1
    block = "BatchNorm"
    eps = 0.001

    Raises:
        ImportError: if tomli_w is not installed: `pip install "obverse[toml]"`.
    """
    try:
        import tomli_w
    except ImportError as error:
        raise ImportError('TOML is written by tomli_w: pip install "obverse[toml]"') from error
    return tomli_w.dumps(_without_none(config))


NONE = {"none": True}


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_none(each) for each in value]
    return dict(NONE) if value is None else value


def from_toml(text: str) -> Config:
    r"""A config from TOML.

    >>> from_config(from_toml('obverse = 1\nblock = "BatchNorm"\nmomentum = {none = true}'))
    BatchNorm(momentum=None)

    Raises:
        ConfigError: for text that is no TOML.
    """
    return _parsed("TOML", text, _loaded_toml)


def _loaded_toml(text: str) -> Any:
    import tomllib

    # tomllib takes a time that grows with the square of a dotted key's length
    longest = max((piece.count(".") for piece in re.split(r"[\n,={}\[\]]", text)), default=0)
    if longest > MOST_DEPTH:
        raise ConfigError(f"a key of {longest + 1:,} parts nests too deep.", "Nest less.")
    table = tomllib.loads(text)
    _check_bounds(table)
    return _with_none(table)


def _with_none(value: Any) -> Any:
    if value == NONE:
        return None
    if isinstance(value, dict):
        return {key: _with_none(each) for key, each in value.items()}
    return [_with_none(each) for each in value] if isinstance(value, list) else value


def _parsed(form: str, text: str, parse: Callable[[str], Any]) -> Config:
    if not isinstance(text, str):
        raise ConfigError(f"{form} is a text; a {type(text).__name__} was given.", "Give its text.")
    if len(text) > MOST_TEXT:
        raise ConfigError(f"{len(text):,} letters are too many.", f"Give at most {MOST_TEXT:,}.")
    try:
        found = parse(text)
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError("the text nests too deep.", f"Nest at most {MOST_DEPTH} lists and tables.") from None
    except ValueError as error:
        raise ConfigError(f"this is no {form}: {error}.", "See the place it names.") from None
    if not isinstance(found, dict):
        raise ConfigError(f"a config is a table; a {type(found).__name__} was given.", "Give what to_config() gave.")
    return found
