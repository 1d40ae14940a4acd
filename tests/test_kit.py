"""The kit: every built-in passes it, and a block that is broken in one way fails in that way and no other."""

import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import Phase, find, settings
from hypothesis import strategies as st

import obverse
from broken import BROKEN, SOUND, Border, OneMoreRow, Scale, Shifted
from mutants import CAUGHT_BY, MUTANTS, mutated
from obverse import BatchNorm, Block, Chain, Conv, Crop, Flatten, Linear, MaxPool, ReLU, Residual
from obverse.graph import Concat, Copy, Graph, Node
from obverse.registry import BUILT_IN, block_class
from obverse.testing import check_block, parametrize_with_checks
from obverse.testing.arguments import blocks_of
from obverse.testing.checks import CHECKS, NotAsked, check_adjoint
from obverse.testing.kit import ask, cases_of, main
from obverse.testing.strategies import autoencoders, blocks, chains, graphs, shapes

ROOT = Path(__file__).parent.parent
QUICKLY = settings(max_examples=10, derandomize=True)
PROVED = settings(max_examples=25, derandomize=True)

# Every built-in ------------------------------------------------------------------------------------------------------

CHAINS = (
    Chain(Conv(4, 3, stride=2, padding=1), BatchNorm(), ReLU(), MaxPool(2)),
    Chain(Conv(2, 4, padding="same"), Chain(Crop((0, 1)), Flatten()), Linear(3)),
    Graph(
        Node("fan", Copy(2), (0,), (1, 2)),
        Node("body", Conv(4, 3, padding=1), (1,), (3,)),
        Node("join", Concat(), (3, 2), (4,)),
    ),
)


@parametrize_with_checks(
    [*(block_class(name) for name in BUILT_IN if name not in ("Chain", "Graph")), *CHAINS],
    min_checks=10,
    settings=QUICKLY,
)
def test_every_built_in_keeps_the_contract(check):
    check()


@parametrize_with_checks(
    [block_class(name) for name in BUILT_IN if name not in ("Chain", "Graph")],
    checks=["compile", "export"],
    slow=True,
    settings=settings(max_examples=1, derandomize=True),
)
def test_every_built_in_can_be_traced(check):
    check()


# The kit, proved -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", SOUND, ids=lambda block: block.__name__)
def test_sound_blocks_pass(block):
    assert check_block(block, settings=QUICKLY, slow=True).checks >= 15


@pytest.mark.parametrize("block", BROKEN, ids=lambda block: block.__name__)
def test_a_block_that_is_broken_in_one_way_fails_in_that_way_and_no_other(block):
    broken_law = block.__doc__.split(":")[0]
    slowly = CHECKS[broken_law].slow
    failed = {name for name, check in CHECKS.items() if (slowly or not check.slow) and _fails(block, name)}
    assert failed == {broken_law}


def _fails(block, name):
    try:
        check_block(block, checks=[name], settings=PROVED)
    except AssertionError as error:
        assert str(error).startswith(f"{block.__name__} breaks a law, {name}: {CHECKS[name].law}\n  case: ")  # noqa: PT017
        assert str(error).endswith(CHECKS[name].change)  # noqa: PT017
        return True
    return False


def test_every_check_has_a_block_that_breaks_it():
    assert sorted(block.__doc__.split(":")[0] for block in BROKEN) == sorted(CHECKS)


SEARCHING = settings(max_examples=300, derandomize=True, phases=[Phase.generate], database=None)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_a_shape_rule_is_caught(mutant):
    """`pytest tests/test_kit.py -k mistake -v` is the list of what was caught; `CAUGHT_BY` says by which check."""
    check = CHECKS[CAUGHT_BY.get(mutant.name, "promise")]
    with mutated(mutant), pytest.raises(AssertionError, match=f"breaks a law, {check.name}"):
        ask(check, cases_of(mutant.block), SEARCHING, mutant.block)


# What it says --------------------------------------------------------------------------------------------------------


def test_a_failure_says_law_case_shapes_and_what_to_change():
    with pytest.raises(AssertionError) as broken:
        check_block(OneMoreRow)
    assert str(broken.value) == (
        "OneMoreRow breaks a law, promise: The module gives the shape that was predicted.\n"
        "  case: OneMoreRow() at 1×1\n"
        "  expected 2×1×3, found 2×1×4: what the module gives for a batch of two.\n"
        "  Make output_shape(shape) and the module of build(shape) agree; "
        "the module is tried with a batch of two, training."
    )


def test_a_report_says_how_many_checks_ran():
    report = check_block(Border, settings=QUICKLY)
    assert report.checks == sum(1 for one in report.asked if one.examples) >= 15
    assert str(report).startswith(f"Border: {report.checks} checks hold, in {report.examples:,} examples\n  promise")
    assert "– it hands nothing round the code" in str(report)
    with pytest.raises(AssertionError, match=r"1 checks of Border .* at least 2 shall"):
        check_block(Border, checks=["promise"], min_checks=2, settings=QUICKLY)


def test_an_expected_failure_that_passes_is_a_failure():
    report = check_block(
        Shifted, checks=["mirror", "adjoint"], expected_failures={"adjoint": "padded behind"}, settings=QUICKLY
    )
    assert (report.checks, "fails, as expected: padded behind" in str(report)) == (1, True)
    with pytest.raises(AssertionError, match=r"expected to break adjoint .* and keeps it"):
        check_block(Border, expected_failures={"adjoint": "padded behind"}, settings=QUICKLY)


def test_names_that_are_not_there_are_refused_with_near_misses():
    with pytest.raises(ValueError, match="Did you mean 'promise'"):
        check_block(Border, checks=["promises"])
    with pytest.raises(ValueError, match="expected_failures names 'Bordr'"):
        parametrize_with_checks([Border], expected_failures={"Bordr": {"promise": "why"}})
    with pytest.raises(TypeError, match="Border has no argument 'width'"):
        check_block(Border, width=3)
    with pytest.raises(TypeError, match="a block, or a class of blocks"):
        check_block(3)


def test_a_block_that_no_small_shape_suits_is_checked_where_it_is_told():
    wide = obverse.PixelShuffle(13)
    with pytest.raises(ValueError, match=r"shapes=\[\(1, 64, 64\)\]"):
        check_block(wide)
    assert check_block(wide, shapes=[(169, 2, 3)], checks=["mirror"], settings=QUICKLY).checks == 1
    assert check_block(wide, shapes=st.just((338, 2, 1)), checks=["mirror"], settings=QUICKLY).checks == 1


def test_a_check_with_nothing_to_look_at_says_so():
    with pytest.raises(NotAsked, match="linear"):
        check_adjoint(ReLU(), (1, 3))


def test_the_command_line_reports_and_fails():
    said = []
    assert main("broken:OneMoreRow", say=said.append) == 1
    assert said[0].startswith("OneMoreRow breaks a law, promise")
    with pytest.raises(obverse.RegistryError, match="cannot be imported"):
        main("broken:OneLessRow")


# Arguments and strategies --------------------------------------------------------------------------------------------


RELU = ReLU()


@dataclass(frozen=True, repr=False)
class Varied(Block):
    count: int
    kind: Literal["a", "b"] = "a"
    factor: float = 2.0
    flag: bool = False
    pair: tuple[int, bool] = (0, True)
    many: tuple[int, ...] = ()
    either: int | None = None
    body: Block = RELU
    unknown: complex = 1j

    pointwise = True


def test_arguments_are_found_from_the_fields_of_a_dataclass():
    drawn = blocks_of(Varied)
    for wanted in (
        *(lambda block: block.count == 4, lambda block: block.kind == "b", lambda block: block.flag),
        *(
            lambda block: block.factor == 0.5,
            lambda block: block.pair == (3, False),
            lambda block: len(block.many) == 2,
        ),
        *(
            lambda block: block.either == 2,
            lambda block: isinstance(block.body, Conv),
            lambda block: block.unknown == 1j,
        ),
    ):
        assert find(drawn, wanted)
    assert find(blocks_of(Varied, count=st.integers(7, 9), factor=3.0), lambda block: True).count == 7


def test_an_argument_of_which_nothing_is_known_must_be_given():
    @dataclass(frozen=True, repr=False)
    class Needy(Block):
        table: complex

        pointwise = True

    with pytest.raises(TypeError, match=r"check_block\(Needy, table=...\)"):
        check_block(Needy)


@pytest.mark.parametrize("extra", [[Border], [st.just(Border())]])
def test_strategies_take_blocks_of_ones_own(extra):
    for drawn in (chains((2, 5), extra=extra), graphs((2, 5), extra=extra), blocks((2, 5), extra=extra)):
        assert find(drawn, lambda block: "Border()" in repr(block))
    assert find(autoencoders(extra=extra), lambda model: Border() in model.encoder.block.blocks).input_shape == (1, 1)


def test_strategies_shrink_to_the_plainest():
    assert find(chains((1, 5), extra=[Border]), lambda chain: Border() in chain.blocks) == Chain(Border())
    assert find(graphs((2, 6), extra=[Scale]), lambda block: isinstance(block, Residual)).body is not None
    assert find(shapes(), lambda shape: len(shape) == 3) == (1, 1, 1)


# A package of somebody else's ----------------------------------------------------------------------------------------

PLUGIN = ROOT / "examples/plugin"
QUICK_PROFILE = """
from hypothesis import settings
settings.register_profile("quick", max_examples=10)
settings.load_profile("quick")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A fresh environment with the plugin in it, and of this one what both stand on."""
    place = tmp_path_factory.mktemp("elsewhere")
    venv.create(place, with_pip=False)
    python = place / "bin/python"
    packages = next(place.glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", f"--target={packages}", PLUGIN], check=True)
    paths = [str(ROOT / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "quickly.py").write_text(QUICK_PROFILE)
    (packages / "beneath.pth").write_text("\n".join(paths))
    return python


def ran(python, *arguments):
    done = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        cwd=PLUGIN.parent,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_plugin_is_a_block_like_ours(elsewhere):
    program = """
import sys
from obverse import Chain, Conv, mirror
from obverse.config import from_config, to_config
from obverse.registry import block_class, entries
Haar = block_class("Haar")
encoder = Chain(Conv(4, 3), Haar(), Conv(2, 3, stride=2))
print(encoder.plan((1, 28, 27)))
assert mirror(encoder, (1, 28, 27)).output_shape(encoder.output_shape((1, 28, 27))) == (1, 28, 27)
assert from_config(to_config(encoder)) == encoder
print([(entry.name, entry.origin) for entry in entries() if entry.name.endswith("Haar")])
assert "torch" not in sys.modules, "plans, mirrors and configs do without"
"""
    said = ran(elsewhere, "-c", program)
    assert "Haar()" in said
    assert "obverse-haar" in said


def test_the_three_lines_of_the_plugins_test_pass(elsewhere):
    said = ran(
        elsewhere,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "quickly",
        "-c",
        "plugin/pyproject.toml",
        "plugin/tests",
    )
    passed = int(re.search(r"(\d+) passed", said)[1])
    assert passed >= 36


PAGE = (ROOT / "docs/plugins.md").read_text()


@pytest.mark.parametrize("file", [*sorted(PLUGIN.rglob("*.py")), PLUGIN / "pyproject.toml"], ids=lambda file: file.name)
def test_the_page_shows_the_files_of_the_plugin(file):
    assert f"```{'toml' if file.suffix == '.toml' else 'python'}\n{file.read_text()}```" in PAGE
