"""Blocks read from text: every repr reads back, nothing is evaluated, and what is wrong is pointed at."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obverse import Block, Chain, ConfigError, Conv, Flatten, Identity, MaxPool, Pointwise, ReLU, Residual
from obverse.expressions import DEEPEST, LONGEST, parse
from obverse.graph import Concat, Copy, Graph, Node, Product, Split, Sum
from obverse.registry import names
from obverse.testing.strategies import ROWS, blocks_with_shapes, chains_with_shapes, graphs, shapes


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
def test_every_block_and_its_mirror_are_read_back_from_their_reprs(name, data):
    block, shape = data.draw(blocks_with_shapes([name]))
    assert parse(repr(block)) == block
    mirror = block.mirror(shape)
    assert parse(repr(mirror)) == mirror


@given(chains_with_shapes())
def test_chains_are_read_back(drawn):
    chain, shape = drawn
    assert parse(repr(chain)) == chain
    assert parse(repr(chain.mirror(shape))) == chain.mirror(shape)


@given(shapes().flatmap(lambda shape: st.tuples(graphs(shape), st.just(shape))))
def test_so_are_blocks_with_branches_and_the_graphs_that_they_draw(drawn):
    block, shape = drawn
    assert parse(repr(block)) == block
    if hasattr(block, "graph"):
        assert parse(repr(block.graph(shape))) == block.graph(shape)


def test_every_junction_is_read_back():
    graph = Graph(
        Node("fan", Copy(2), (0,), (1, 2)),
        Node("gate", Product(), (1, 2), (3,)),
        Node("cut", Split((3, 5)), (3,), (4, 5)),
        Node("both", Concat(), (4, 5), (6,)),
        Node("again", Copy(2), (6,), (7, 8)),
        Node("sum", Sum(2), (7, 8), (9,)),
    )
    assert parse(repr(graph)) == graph


@given(chains_with_shapes(most=4))
def test_joined_by_arrows_it_is_what_python_would_join(drawn):
    blocks = drawn[0].blocks
    joined = blocks[0]
    for block in blocks[1:]:
        joined = joined >> block
    assert parse(" >> ".join(map(repr, blocks))) == joined


@given(chains_with_shapes(most=4))
def test_lines_and_comments_change_nothing(drawn):
    text = "  # first\n  >> ".join(map(repr, drawn[0].blocks))
    assert parse(f"\n{text}\n# last") == parse(" >> ".join(map(repr, drawn[0].blocks)))


def test_lists_become_tuples():
    assert parse("Conv(8, [3, 5], padding=[1, 2])") == Conv(8, (3, 5), padding=(1, 2))


def test_brackets_group_and_blocks_are_arguments():
    assert parse("Residual(Conv(8, 3, padding=1) >> ReLU()) >> (MaxPool(2) >> Flatten())") == Chain(
        Residual(Chain(Conv(8, 3, padding=1), ReLU())), MaxPool(2), Flatten()
    )


REFUSED = {
    "Conv(16, 3, strides=2)": ("no argument 'strides'", 12, "stride"),
    "ReLU() >> Convv(16, 3)": ("no block is called 'Convv'", 10, "Did you mean 'Conv'"),
    "relu()": ("no block is called 'relu'", 0, "'ReLU'"),
    "Conv2d(1, 16, 3)": ("no block is called 'Conv2d'", 0, "Write Conv:"),
    "nn.ReLU()": ("nn.ReLU is no block's name", 0, r"Write ReLU\("),
    "ReLU() >> ReLU": ("ReLU is a block's name", 10, r"Write ReLU\(\)"),
    "Conv(16)": ("Conv needs kernel_size", 0, "It takes out_channels, kernel_size"),
    "Sigmoid(1)": ("Sigmoid takes no arguments", 8, "It takes none"),
    "MaxPool(2, kernel_size=2)": ("given kernel_size twice", 11, "once"),
    "Conv(16, 3": ("never closed", 4, "Conv"),
    "Conv(16, 3), ReLU()": ("joined by >>, not by a comma", 13, ">>"),
    "ReLU() >> 3": ("3 is no block", 10, "Give a block"),
    "Conv(2 + 3, 3)": ("sums are not worked out", 5, ""),
    "Conv(n, 3)": ("n is no plain value", 5, "Give a number"),
    "Conv(0, 3)": ("out_channels is at least 1; 0 was given", 0, "out_channels=1"),
    "ReLU() >> Pointwise('Hardswich')": ("'Hardswich' is no layer", 10, "'Hardswish'"),
    "Conv(16, 3, bias=not True)": ("neither a plain value nor a block", 17, "number"),
    "Conv(*sizes)": ("stars", 5, "out"),
    "Conv(**sizes)": ("stars", 5, "out"),
    "'é' >> Convv(3)": ("'é' is no block", 0, ""),
    "Pad('é', ReLU)": ("ReLU is a block's name", 9, ""),
    "f'{3}'": ("neither", 0, "number"),
    "[Conv(1, 1) for _ in range(3)]": ("neither", 0, "number"),
    "(lambda: 3)()": ("no block's name", 1, "Conv"),
    "12": ("12 is no block", 0, "Begin with one"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_is_said_and_pointed_at(text):
    said, column, advice = REFUSED[text]
    with pytest.raises(ConfigError, match=said) as caught:
        parse(text)
    *_, line, caret = caught.value.reason.splitlines()
    assert line == f"  {text}"
    assert caret == f"{' ' * (2 + column)}^"
    assert caught.match(advice)


def test_on_several_lines_the_line_is_shown():
    with pytest.raises(ConfigError) as caught:
        parse("Conv(16, 3)\n>> ReLU(\n  inplaces=True)")
    assert caught.value.reason.splitlines()[1:] == ["    inplaces=True)", "    ^"]
    with pytest.raises(ConfigError) as caught:
        parse("Convv(16, 3)\n>> ReLU()")
    assert caught.value.reason.splitlines()[1:] == ["  Convv(16, 3)", "  ^"]
    with pytest.raises(ConfigError, match="not by a comma"):
        parse("ReLU(),\nReLU()")


def test_a_long_line_is_shown_around_the_caret():
    with pytest.raises(ConfigError) as caught:
        parse(" >> ".join(["Conv(16, 3)"] * 40 + ["Convv(12)"] + ["ReLU()"] * 40))
    _, line, caret = caught.value.reason.splitlines()
    assert len(line) <= 80
    assert line[caret.index("^") :].startswith("Convv(12)")


@pytest.mark.parametrize("text", ["", "  \n ", "ReLU()) >> (\nReLU()", "Conv(16, 3\n>> ReLU()", "ReLU()\0", "\ud800"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ConfigError):
        parse(text)


@pytest.mark.parametrize("what", [None, 3, b"ReLU()", ["ReLU()"], Identity()])
def test_what_is_no_text_is_refused(what):
    with pytest.raises(ConfigError, match="is text"):
        parse(what)


def test_it_is_bounded():
    with pytest.raises(ConfigError, match="characters"):
        parse("ReLU() >> " * (LONGEST // 10) + "ReLU()")
    with pytest.raises(ConfigError, match="deep"):
        parse("Chain(" * (DEEPEST + 1) + "ReLU()" + ")" * (DEEPEST + 1))
    with pytest.raises(ConfigError):
        parse("(" * 10_000 + "ReLU()" + ")" * 10_000)
    with pytest.raises(ConfigError, match=r"Chain\(a, b, c\)"):
        parse(" >> ".join(["ReLU()"] * 9_000))
    assert len(parse(f"Chain({', '.join(['ReLU()'] * 9_000)})").blocks) == 9_000
    assert len(parse(" >> ".join(["ReLU()"] * 400)).blocks) == 400


SIGNS = "(3 | ( | ) | , | >> | = | 1 | -2 | 0.5 | 'c h -> h c' | kernel_size | stride | True | None | [ | ] | * | . | :"
WORDS = [*names(), "Graph", "Node", "Copy", "Sum", *SIGNS.split(" | ")]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40))
@example("ReLU\x0c()")
def test_anything_is_a_block_or_an_explained_refusal(text):
    try:
        assert isinstance(parse(text), Block)
    except ConfigError as error:
        assert error.reason  # noqa: PT017    # either is right


EVIL = [
    "__import__('os').system('touch evil')",
    "Conv.__init__.__globals__['__builtins__']",
    "Pointwise(name='Tanh', **{'a': open('evil', 'w')})",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "Chain(ReLU(), eval('1'))",
    "Later('os')",
    "register('Conv')",
    "(x := ReLU())",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_is_evaluated(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        parse(text)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_no_torch():
    program = (
        "import sys; from obverse.expressions import parse; parse('ReLU() >> ReLU()'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_layer_by_its_name():
    assert parse("Pointwise('Hardtanh', min_val=-2.0)") == Pointwise("Hardtanh", min_val=-2.0)
    assert parse("ReLU(inplace=True)") == ReLU(inplace=True)
