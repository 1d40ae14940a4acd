"""Blocks and models as plain values: every one comes back as it was, and whatever else is given is refused."""

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obverse import (
    AdaptiveAvgPool,
    BatchNorm,
    Block,
    Chain,
    ConfigError,
    Conv,
    Identity,
    Parallel,
    Pointwise,
    Rearrange,
    ReLU,
    Residual,
    Sigmoid,
    register,
    registry,
)
from obverse.config import (
    AutoencoderConfig,
    _hints,
    from_config,
    from_json,
    from_toml,
    to_config,
    to_json,
    to_toml,
)
from obverse.graph import Concat, Copy, Graph, Node
from obverse.testing.strategies import ROWS, blocks_with_shapes, chains_with_shapes, graphs, shapes

HEAD = {"obverse": 1}
CONV = {"block": "Conv", "out_channels": 16, "kernel_size": 3}


def returned(block):
    """A block, written and read as JSON and as TOML."""
    config = to_config(block)
    assert from_config(config) == block
    by_toml = from_toml(to_toml(config))
    assert by_toml == config
    assert from_config(by_toml) == block
    return from_config(json.loads(json.dumps(config)))


# The law ------------------------------------------------------------------------------------------------------------


@given(blocks_with_shapes([*ROWS]))
@example((AdaptiveAvgPool((None, 3)), (1, 4, 4)))
@example((BatchNorm(momentum=None), (1, 4, 4)))
@example((AdaptiveAvgPool(None), (1, 4, 4)))
def test_every_block_comes_back(drawn):
    block, shape = drawn
    assert returned(block) == block
    assert returned(block.mirror(shape)) == block.mirror(shape)


@pytest.mark.parametrize("name", ROWS)
def test_every_kind_of_block_comes_back(name):
    @given(blocks_with_shapes([name]))
    def law(drawn):
        assert returned(drawn[0]) == drawn[0]

    law()


@given(chains_with_shapes())
def test_every_chain_comes_back(drawn):
    chain, shape = drawn
    assert returned(chain) == chain
    assert returned(chain.mirror(shape)) == chain.mirror(shape)


@given(st.data())
def test_every_graph_comes_back(data):
    shape = data.draw(shapes())
    block = data.draw(graphs(shape))
    assert returned(block) == block
    if hasattr(block, "graph"):
        graph = block.graph(shape)
        assert returned(graph) == graph
        assert returned(graph.mirror(shape)) == graph.mirror(shape)


@given(
    chains_with_shapes(),
    st.none() | st.just(Sigmoid()),
    st.sampled_from([None, "concat", "add", ("0", "1.0"), {"2": "add"}, {}]),
    st.booleans(),
    st.sampled_from(["transpose", "resize", "subpixel"]),
)
def test_every_description_of_a_model_comes_back(drawn, output, skips, tied, upsampling):
    described = AutoencoderConfig(*drawn, output, skips, tied, upsampling)
    config = to_config(described)
    assert AutoencoderConfig.read(json.loads(json.dumps(config))) == described
    assert AutoencoderConfig.read(from_toml(to_toml(config))) == described


def test_a_config_is_what_the_constructor_was_given():
    block = Chain(
        Conv(16, 3, stride=2),
        Residual(Chain(Conv(16, 3, padding=1), ReLU())),
        Pointwise("Hardtanh", min_val=-2.0),
        Rearrange("c (h p) w -> (c p) h w", p=2),
        Graph(Node("fan", Copy(2), (0,), (1, 2)), Node("join", Concat(), (1, 2), (3,))),
        Parallel(Identity(), Identity(), fan=(48, 16), join="concat"),
    )
    assert to_config(block) == {
        "obverse": 1,
        "block": "Chain",
        "blocks": [
            {"block": "Conv", "out_channels": 16, "kernel_size": 3, "stride": 2},
            {
                "block": "Residual",
                "body": {
                    "block": "Chain",
                    "blocks": [
                        {"block": "Conv", "out_channels": 16, "kernel_size": 3, "padding": 1},
                        {"block": "ReLU"},
                    ],
                },
            },
            {"block": "Pointwise", "name": "Hardtanh", "arguments": {"min_val": -2.0}},
            {"block": "Rearrange", "pattern": "c (h p) w -> (c p) h w", "lengths": {"p": 2}},
            {
                "block": "Graph",
                "nodes": [
                    {"node": "fan", "block": {"junction": "Copy", "number": 2}, "takes": [0], "gives": [1, 2]},
                    {"node": "join", "block": {"junction": "Concat"}, "takes": [1, 2], "gives": [3]},
                ],
                "sink": 3,
            },
            {
                "block": "Parallel",
                "branches": [{"block": "Identity"}, {"block": "Identity"}],
                "fan": [48, 16],
                "join": "concat",
            },
        ],
    }
    assert returned(block) == block


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_types_of_every_built_ins_arguments_are_known(name):
    assert _hints(registry.block_class(name))


# Blocks of others ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})

    def made(check=None, **fields):
        space = {"__annotations__": {name: type(value) for name, value in fields.items()}, "pointwise": True, **fields}
        space |= {"__post_init__": check} if check else {}
        return register(dataclass(frozen=True, repr=False)(type("Mine", (Block,), space)))

    return made


def test_a_block_of_ones_own_joins_by_its_name(mine):
    cls = mine(level=1, gains=(1.0, 2.0))
    block = Chain(cls(level=3, gains=(0.5,)), Conv(3, 3))
    assert to_config(block)["blocks"][0] == {"block": "Mine", "level": 3, "gains": [0.5]}
    assert returned(block) == block
    with pytest.raises(ConfigError, match="Mine takes an integer for level; 'deep' was given"):
        from_config({**HEAD, "block": "Mine", "level": "deep"})


def test_what_a_blocks_own_check_raises_becomes_a_config_error(mine):
    mine(lambda self: 1 / 0 if self.level == 2 else None, level=1)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        from_config({**HEAD, "block": "Mine", "level": 2})


def test_a_block_that_holds_what_is_no_plain_value_says_so(mine):
    from torch import nn

    cls = mine(module=None)
    with pytest.raises(ConfigError, match=r"blocks\[1\]\.module: it holds a ReLU of torch.*no config can hold"):
        Chain(Conv(3, 3), cls(nn.ReLU())).to_config()


def test_a_block_without_a_name_says_how_to_get_one():
    @dataclass(frozen=True, repr=False)
    class Nameless(Block):
        pointwise = True

    with pytest.raises(ConfigError, match=r"blocks\[0\]: the class .*Nameless.* has no name\.\nPut @register"):
        Chain(Nameless()).to_config()


def test_an_argument_with_a_name_that_configs_use_is_refused(mine):
    with pytest.raises(ConfigError, match="'node'"):
        mine(node=1)(2).to_config()


def test_what_is_too_deep_to_be_read_is_not_written():
    deep = Conv(1, 1)
    for _ in range(40):
        deep = Chain(deep)
    with pytest.raises(ConfigError, match="nested too deep"):
        deep.to_config()


def test_from_config_of_a_class_gives_that_class():
    assert Conv.from_config(Conv(3, 3).to_config()) == Block.from_config(Conv(3, 3).to_config()) == Conv(3, 3)
    with pytest.raises(ConfigError, match=r"describes Conv\(3, 3\), no Chain"):
        Chain.from_config(Conv(3, 3).to_config())


# Hostile configs ----------------------------------------------------------------------------------------------------


def nested(levels, inner):
    for _ in range(levels):
        inner = {"block": "Chain", "blocks": [inner]}
    return inner


REFUSED: list[tuple[Any, str]] = [
    ([], "a list was given"),
    (None, "a NoneType was given"),
    ({}, "does not say its version"),
    (CONV, "does not say its version"),
    ({**CONV, "obverse": 2}, r"version 2, and this obverse reads version 1\.\nUpdate obverse"),
    ({**CONV, "obverse": True}, "version True"),
    ({**CONV, "obverse": "1"}, "version '1'"),
    (HEAD, "has no 'block'"),
    ({**HEAD, "blocks": []}, "has no 'block', but 'blocks'"),
    ({**HEAD, "model": "Autoencoder"}, r"describes a model, not a block\.\nRead it with Autoencoder\.from_config"),
    ({**HEAD, "block": "Convv"}, r"no block is called 'Convv'\.\nDid you mean 'Conv'"),
    ({**HEAD, "block": "os.system"}, "no block is called 'os.system'"),
    ({**HEAD, "block": "obverse.blocks.conv.Conv"}, "no block is called"),
    ({**HEAD, "block": "__class__"}, "no block is called"),
    ({**HEAD, "block": 3}, "is no name of a block"),
    ({**HEAD, "block": None}, "is no name of a block"),
    ({**HEAD, "block": ["Conv"]}, "is no name of a block"),
    ({**HEAD, "block": "Conv", "kernel_size": 3}, "Conv needs out_channels"),
    ({**HEAD, **CONV, "strid": 2}, r"no argument 'strid'\.\nDid you mean 'stride'"),
    ({**HEAD, **CONV, "__init__": 2}, "no argument '__init__'"),
    ({**HEAD, **CONV, "out_channels": 10**12}, "out_channels: 1,000,000,000,000 is too large"),
    ({**HEAD, **CONV, "out_channels": 10**9999}, r"more than 2\*\*"),
    ({**HEAD, **CONV, "out_channels": 3.0}, "takes an integer for out_channels; 3.0 was given"),
    ({**HEAD, **CONV, "out_channels": True}, "takes an integer for out_channels; True was given"),
    ({**HEAD, **CONV, "out_channels": "3"}, "takes an integer"),
    ({**HEAD, **CONV, "out_channels": None}, "takes an integer"),
    ({**HEAD, **CONV, "out_channels": CONV}, "takes an integer"),
    ({**HEAD, **CONV, "kernel_size": []}, "kernel_size is empty"),
    ({**HEAD, **CONV, "kernel_size": [[3]]}, "takes an integer or a list"),
    ({**HEAD, **CONV, "out_channels": -1}, "out_channels"),
    ({**HEAD, **CONV, "bias": 1}, "takes true or false for bias"),
    ({**HEAD, **CONV, "bias": "no"}, "takes true or false for bias"),
    ({**HEAD, **CONV, "padding_mode": "mirror"}, "takes 'zeros' or 'reflect'"),
    ({**HEAD, **CONV, 3: 4}, "3 is no key"),
    ({**HEAD, "block": "Dropout", "p": float("nan")}, "p: nan is no number"),
    ({**HEAD, "block": "Dropout", "p": float("-inf")}, "-inf is no number"),
    ({**HEAD, "block": "Dropout", "p": {1, 2}}, "a set is no plain value"),
    ({**HEAD, "block": "Dropout", "p": 2}, "p is a number from 0 to 1"),
    ({**HEAD, "block": "Pointwise", "name": "x" * 20_000}, "20,000 letters"),
    ({**HEAD, "block": "Pointwise", "name": "Module"}, "no layer of torch.nn"),
    ({**HEAD, "block": "Pointwise", "name": "Tanh", "arguments": {"name": 3}}, "takes a table"),
    ({**HEAD, "block": "Pointwise", "name": "Tanh", "arguments": [1]}, "takes a table of names"),
    ({**HEAD, "block": "Pointwise", "name": "Tanh", "arguments": {"a b": 1}}, "takes a table of names"),
    ({**HEAD, "block": "Chain", "blocks": []}, "at least one block"),
    ({**HEAD, "block": "Chain", "blocks": "Conv"}, "takes a list"),
    ({**HEAD, "block": "Chain", "blocks": [3]}, "takes a list"),
    ({**HEAD, "block": "Chain", "blocks": [CONV, {"block": "Conv"}]}, r"blocks\[1\]: Conv needs out_channels"),
    ({**HEAD, "block": "Chain", "blocks": [{"junction": "Copy", "number": 2}]}, "takes a list"),
    ({**HEAD, **nested(40, CONV)}, "nests deeper than 64"),
    ({**HEAD, **nested(10_000, CONV)}, "nests deeper than 64"),
    ({**HEAD, "block": "Chain", "blocks": [{"block": "ReLU"}] * 60_000}, "more than 100,000 values"),
    ({**HEAD, "block": "Graph", "nodes": [{"node": "a"}]}, "a node needs block"),
    ({**HEAD, "block": "Graph", "nodes": [{"node": "a", "blok": 3}]}, r"no 'blok'\.\nDid you mean 'block'"),
    ({**HEAD, "block": "Graph", "nodes": []}, "takes an integer|Graph|cannot be made"),
]
NODE = {"node": "fan", "block": {"junction": "Copy", "number": 2}, "takes": [0], "gives": [1, 2]}
REFUSED += [
    ({**HEAD, "block": "Graph", "nodes": [{**NODE, **change}]}, said)
    for change, said in [
        ({"block": {"junction": "Copi", "number": 2}}, r"no junction is called 'Copi'\.\nDid you mean 'Copy'"),
        ({"block": {"junction": "Copy", "number": 2**31}}, "takes 1 wires and gives 2"),
        ({"block": {"junction": "Copy", "number": "2"}}, "Copy takes an integer for number"),
        ({"block": {"junction": "Sum"}}, "Sum needs number"),
        ({"block": CONV}, "takes 1 wires and gives 2"),
        ({"takes": [], "gives": [1]}, "takes 0 wires"),
        ({"takes": 0}, "a node takes a list"),
        ({"node": 3}, "a node takes a text for name"),
        ({"node": "a.b"}, "node 'a.b'"),
    ]
]


@pytest.mark.parametrize(("config", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_config_is_refused(config, said):
    with pytest.raises(ConfigError, match=said) as refused:
        from_config(config)
    assert len(str(refused.value)) < 1000


def test_a_list_that_holds_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ConfigError, match="nests deeper"):
        from_config({**HEAD, "block": "Chain", "blocks": endless})


names_ = st.sampled_from([*ROWS, "Chain", "Graph", "Convv"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.integers(-2, 2**31)
words = st.sampled_from(
    ["concat", "add", "same", "copy", "nearest", "c h w -> h c w", "Hardswish", "Copy", "body", "2"]
)
arguments = {field for name in ROWS for field in registry.block_class(name).__dataclass_fields__}
others = {"blocks", "nodes", "node", "junction", "takes", "gives", "number", "sizes", "source", "sink"}
keys = st.sampled_from(sorted(arguments | others))


def tables(inner):
    given_to = st.dictionaries(keys, inner, max_size=4)
    named = st.builds(lambda name, rest: {"block": name, **rest}, names_, given_to)
    junctions = st.builds(lambda name, rest: {"junction": name, **rest}, words, given_to)
    others = st.dictionaries(keys | st.text(max_size=3), inner, max_size=4)
    return named | junctions | st.lists(inner, max_size=3) | others


anything = st.recursive(scalars | words, tables, max_leaves=12)


@given(anything, st.sampled_from(["block", "model"]))
def test_anything_is_a_block_or_a_config_error(value, kind):
    began = time.perf_counter()
    whole = {**HEAD, **value} if isinstance(value, dict) else value
    try:
        block = from_config(whole)
    except ConfigError as error:
        assert str(error)  # noqa: PT017    # an error is one of two right answers
    else:
        assert returned(block) == block
    assert time.perf_counter() - began < 2


SIZES = st.integers(1, 4) | st.sampled_from([2**20 + 7, 2**31 - 1, 2**31, 65_536])


@st.composite
def mangled(draw):
    """A model's config with some of its numbers replaced by larger ones."""
    chain, shape = draw(chains_with_shapes())
    config = to_config(AutoencoderConfig(Chain(Residual(chain), chain), shape, tied=draw(st.booleans())))

    def change(value):
        if isinstance(value, dict):
            return {key: change(each) for key, each in value.items()}
        if isinstance(value, list):
            return [change(each) for each in value]
        return draw(SIZES) if type(value) is int and draw(st.integers(0, 2)) == 0 else value

    return {**change(config), "obverse": 1}


@given(mangled())
def test_a_model_of_absurd_sizes_is_counted_or_refused_in_a_moment(config):
    began = time.process_time()  # others may use the machine, too
    try:
        described = AutoencoderConfig.read(config)
        described.check_size()
    except ConfigError as error:
        assert str(error)  # noqa: PT017    # an error is one of two right answers
    else:
        assert described.parameters() <= 10**9
    assert time.process_time() - began < 2


MODEL = {**HEAD, "model": "Autoencoder", "encoder": CONV, "input_shape": [1, 28, 28]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "Autoencodr"}, "no model 'Autoencodr'"),
        ({"model": 3}, "no model 3"),
        ({"input_shape": [1, 28.0, 28]}, "takes a list .* for input_shape"),
        ({"input_shape": 28}, "takes a list"),
        ({"encodr": CONV}, r"no argument 'encodr'\.\nDid you mean 'encoder'"),
        ({"encoder": None}, "takes a block for encoder"),
        ({"encoder": {"block": "Conv"}}, "encoder: Conv needs out_channels"),
        ({"tied": 1}, "takes true or false for tied"),
        ({"skips": {"0": 3}}, "for skips"),
        ({"upsampling": "nearest"}, "'transpose' or 'resize'"),
    ],
)
def test_what_describes_no_model_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        AutoencoderConfig.read({**MODEL, **change})


def test_a_model_is_counted_on_paper():
    described = AutoencoderConfig.read(
        {**MODEL, "encoder": {"block": "Linear", "out_features": 10**6}, "input_shape": [10**6]}
    )
    with pytest.raises(
        ConfigError,
        match=r"2,000,002,000,000 parameters, and at most 1,000,000,000 are taken.*\n"
        r".*max_parameters=2_000_002_000_000",
    ):
        described.check_size()
    described.check_size(max_parameters=2_000_002_000_000)


# Text ---------------------------------------------------------------------------------------------------------------

JSON = [
    ("", "no JSON"),
    ("[]", "a list was given"),
    ("{", "no JSON"),
    ('{"obverse": 1, "obverse": 1}', "'obverse' is there twice"),
    ('{"a": {"b": 1, "b": 1}}', "'b' is there twice"),
    ('{"a": NaN}', "NaN is no number"),
    ('{"a": -Infinity}', "-Infinity is no number"),
    ("[" * 100_000, "nests too deep"),
    ('{"a":' * 100_000, "nests too deep"),
    ('{"a": ' + "9" * 10_000 + "}", "no JSON"),
]
TOML = [
    ("a = ", "no TOML"),
    ("a = 1\na = 2", "no TOML"),
    ("a = nan", "nan is no number"),
    ("a = 1979-05-27", "a date is no plain value"),
    ("a = " + "[" * 100_000, "nests too deep"),
    ("a" + ".a" * 1_000_000 + " = 1", "nests too deep"),
    ("[a" + ".a" * 1_000_000 + "]", "nests too deep"),
    ("a = " + "9" * 10_000, "no TOML"),
]


@pytest.mark.parametrize(
    ("read", "text", "said"), [(from_json, *case) for case in JSON] + [(from_toml, *c) for c in TOML]
)
def test_text_that_is_no_config_is_refused(read, text, said):
    with pytest.raises(ConfigError, match=said):
        read(text)


def test_a_number_beyond_floats_is_refused_with_its_place():
    with pytest.raises(ConfigError, match="p: inf is no number"):
        from_config(from_json('{"obverse": 1, "block": "Dropout", "p": 1e999}'))


@given(st.text() | st.sampled_from([to_toml(to_config(Conv(3, 3))), to_json(to_config(Conv(3, 3)))]))
def test_any_text_is_a_table_or_a_config_error(text):
    for read in (from_json, from_toml):
        try:
            assert isinstance(read(text), dict)
        except ConfigError as error:
            assert str(error)  # noqa: PT017


def test_nothing_is_imported_before_all_names_are_known(tmp_path, monkeypatch):
    (tmp_path / "obverse_tardy-1.dist-info").mkdir()
    (tmp_path / "obverse_tardy-1.dist-info" / "METADATA").write_text("Name: obverse-tardy\nVersion: 1\n")
    (tmp_path / "obverse_tardy-1.dist-info" / "entry_points.txt").write_text(
        "[obverse.blocks]\nlate = obverse_tardy:Late\n"
    )
    (tmp_path / "obverse_tardy.py").write_text("from obverse import ReLU\nclass Late(ReLU): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    late = {"block": "late"}
    for more in ({"block": "Convv"}, {"block": "Dropout", "p": 2**40}, nested(50, CONV)):
        with pytest.raises(ConfigError):
            from_config({**HEAD, "block": "Chain", "blocks": [late, more]})
    with pytest.raises(ConfigError, match=r"blocks\[0\]: the block 'late' is a plugin's.*\n.*plugins=\['late'\]"):
        from_config({**HEAD, "block": "Chain", "blocks": [late]}, plugins=["other"])
    assert "obverse_tardy" not in sys.modules
    assert from_config({**HEAD, "block": "Chain", "blocks": [late]}, plugins=["late"]).to_config()["blocks"] == [late]
    del sys.modules["obverse_tardy"]
