"""The command line: what it answers is what the library says, and every mistake is explained."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from obverse import Chain, Conv, MaxPool, ReLU, mirror
from obverse.arithmetic import solve_conv
from obverse.cli import main
from obverse.config import AutoencoderConfig, to_config, to_json, to_toml
from obverse.expressions import parse
from obverse.registry import names
from obverse.solving import solve

TUTORIAL = "Conv(16, 3, stride=2, padding=1) >> ReLU() >> Conv(32, 3, stride=2, padding=1) >> ReLU() >> Conv(12, 7)"
ENCODER = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))


@pytest.fixture
def say(capsys):
    """Run a command: its exit code, what it says, what it complains of."""

    def run(*arguments):
        try:
            code = main(arguments)
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def started(*arguments, **how):
    command = [sys.executable, "-W", "error", "-m", "obverse", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


# Answers


@pytest.mark.parametrize("shape", ["1x28x28", "1×28×28", "1,28,28", "(1, 28, 28)", "[1, 28, 28]", " 1 X 28 X 28 "])
def test_plan_says_the_plan(say, shape):
    assert say("plan", TUTORIAL, shape) == (0, f"{ENCODER.plan((1, 28, 28))}\n", "")


@pytest.mark.parametrize("shape", ["1xHxW", "1×H×W", "1,H,W", '(1, "H", "W")', "1 H W"])
def test_plan_takes_letters(say, shape):
    assert say("plan", TUTORIAL, shape) == (0, f"{ENCODER.plan((1, 'H', 'W'))}\n", "")


def test_plan_of_letters_in_json_and_markdown_is_the_plans(say):
    plan = ENCODER.plan((1, "height", 28))
    assert say("plan", TUTORIAL, "1,height,28", "--json")[1] == f"{plan.json()}\n"
    assert say("plan", TUTORIAL, "1,height,28", "--markdown")[1] == f"{plan.markdown()}\n"


def test_plan_in_json_is_the_plan(say):
    code, said, _ = say("plan", TUTORIAL, "1x28x27", "--json", "--mirror")
    plan = ENCODER.plan((1, 28, 27))
    data = json.loads(said)
    assert code == 0
    assert [tuple(step["output_shape"]) for step in data["steps"]] == [step.output_shape for step in plan.steps]
    assert data["parameters"] == plan.parameters
    assert [step["block"] for step in data["steps"]] == [repr(step.block) for step in plan.steps]
    assert parse(data["mirror"]["decoder"]) == mirror(ENCODER, (1, 28, 27))
    assert data["mirror"]["plan"]["output_shape"] == [1, 28, 27]


def test_plan_with_its_mirror_says_both(say):
    decoder = mirror(ENCODER, (1, 28, 28)).plan((12, 1, 1))
    assert say("plan", TUTORIAL, "1x28x28", "--mirror")[1] == f"{ENCODER.plan((1, 28, 28))}\n\n{decoder}\n"


@pytest.mark.parametrize("upsampling", ["transpose", "resize", "subpixel"])
def test_mirror_can_be_pasted_back(say, upsampling):
    code, said, _ = say("mirror", TUTORIAL, "1x28x27", "--upsampling", upsampling)
    assert code == 0
    assert parse(said) == mirror(ENCODER, (1, 28, 27), upsampling=upsampling)


def test_mirror_as_pytorch_runs(say):
    code, said, _ = say("mirror", TUTORIAL, "1x28x27", "--torch")
    names = {}
    exec(said, names)
    assert code == 0
    assert names["Autoencoder"]().decoder[-1].output_padding == (1, 0)


def test_mirror_in_json(say):
    assert json.loads(say("mirror", "Conv(8, 3)", "1x28x28", "--json")[1])["decoder"] == "ConvTranspose(1, 3)"
    assert "nn.ConvTranspose2d" in json.loads(say("mirror", "Conv(8, 3)", "1x9x9", "--json", "--torch")[1])["pytorch"]


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_draw_writes_a_picture(say, tmp_path, name, begins):
    code, said, _ = say("draw", TUTORIAL, "1x28x28", "-o", str(tmp_path / name), "--theme", "dark")
    assert code == 0
    assert name in said
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_solve_lists_the_settings_plainest_first(say):
    code, said, _ = say("solve", "28", "14", "--kernel-sizes", "3,5", "--json")
    found = solve_conv(28, 14, kernel_sizes=[3, 5])
    assert code == 0
    assert [tuple(row.values())[:4] for row in json.loads(said)] == found
    first = say("solve", "28", "14", "--kernel-sizes", "3,5", "--most", "1")[1].splitlines()
    assert first[1].split() == ["3", "2", "1", "1", "1"]
    assert first[2] == f"{len(found) - 1} more; --most {len(found)} shows all."


def test_solve_says_when_there_is_none(say):
    code, said, complained = say("solve", "28", "100")
    assert (code, said) == (1, "")
    assert "no convolution" in complained
    assert say("solve", "28", "0")[0] == 1


WHOLE = {
    ("1x28x28", "12", "--stages", "3"): ((1, 28, 28), {"code": 12, "stages": 3}),
    ("3x64x64", "--shrink", "16", "--kernel-size", "3"): ((3, 64, 64), {"shrink": 16, "kernel_size": 3}),
    ("1x128", "--shrink", "4", "--receptive-field", "64"): ((1, 128), {"shrink": 4, "receptive_field": 64}),
    ("1x9x64", "8x3x16", "--channels", "5", "--most", "2"): (
        (1, 9, 64),
        {"code": (8, 3, 16), "channels": [5], "answers": 2},
    ),
}


@pytest.mark.parametrize("arguments", WHOLE, ids=" ".join)
def test_solve_of_whole_shapes_says_what_the_library_says_and_can_be_pasted(say, arguments):
    shape, asked = WHOLE[arguments]
    chains = solve(shape, **asked)
    code, said, _ = say("solve", *arguments)
    assert code == 0
    assert max(map(len, said.splitlines())) <= 80
    pasted = [re.split(r"^  \S", text, maxsplit=1, flags=re.MULTILINE)[0] for text in said.split("\n\n")]
    assert [parse(text) for text in pasted] == chains
    rows = json.loads(say("solve", *arguments, "--json")[1])
    assert [parse(row["encoder"]) for row in rows] == chains
    assert [row["steps"][-1]["receptive_field"] for row in rows] == [
        list(chain.plan(shape).steps[-1].receptive_field) for chain in chains
    ]


def test_solve_goes_through_a_shape_a_stage(say):
    shapes = ["1x28x28", "16x14x14", "32x7x7", "12x1x1"]
    code, said, _ = say("solve", *shapes)
    assert code == 0
    assert " → ".join(shapes).replace("x", "×") in said
    assert "Conv(12, 7)" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("1x27", "--shrink", "2"),
        ("1x28x28", "16x14x14", "12x1x1", "--kernel-size", "3"),
        ("1x64x64", "9x5x5", "--stages", "1", "--kernel-size", "2"),
        ("1x28", "16x4x4"),
    ],
    ids=" ".join,
)
def test_what_solve_advises_can_be_typed_and_works(say, arguments):
    code, _, complained = say("solve", *arguments)
    assert code == 1
    advised = re.search(r"the code ([\dx]+)", complained)
    option = re.search(r"(--[a-z-]+) (\d+)", complained)
    assert advised or option
    if advised:
        assert say("solve", arguments[0], advised[1])[0] == 0
    if option:
        kept = list(arguments)
        if option[1] in kept:
            kept[kept.index(option[1]) + 1] = option[2]
        assert say("solve", *kept, *([] if option[1] in kept else option.groups()))[0] == 0


def test_a_plan_in_markdown_is_the_plans(say):
    said = say("plan", TUTORIAL, "1x28x28", "--markdown", "--mirror")[1]
    decoder = mirror(ENCODER, (1, 28, 28)).plan((12, 1, 1))
    assert said == f"{ENCODER.plan((1, 28, 28)).markdown()}\n\n{decoder.markdown()}\n"


def test_blocks_lists_them_all_in_80_columns(say):
    code, said, _ = say("blocks")
    assert code == 0
    assert {line.split()[0] for line in said.splitlines()[1:-2]} >= set(names())
    assert max(map(len, said.splitlines())) <= 80
    assert {row["name"] for row in json.loads(say("blocks", "--json")[1])} >= set(names())


@pytest.mark.parametrize("name", names())
def test_blocks_says_all_about_one(say, name):
    code, said, _ = say("blocks", name)
    assert code == 0
    assert said.startswith(f"{name}(")
    assert json.loads(say("blocks", name, "--json")[1])["name"] == name


def test_an_encoder_comes_by_the_pipe():
    done = started("mirror", "-", "1x28x28", input="Conv(8, 3)\n  >> ReLU()\n")
    assert (done.returncode, done.stdout) == (0, "Chain(\n    ConvTranspose(1, 3),\n)\n")


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_an_encoder_comes_from_a_config_file(say, tmp_path, kind):
    write = {"json": to_json, "toml": to_toml}[kind]
    path = tmp_path / f"encoder.{kind}"
    path.write_text(write(to_config(ENCODER)))
    assert say("plan", str(path), "1x28x28")[1] == f"{ENCODER.plan((1, 28, 28))}\n"
    path.write_text(write(to_config(AutoencoderConfig(ENCODER, (1, 28, 28)))))  # of a model its encoder
    assert say("plan", str(path), "1x28x27")[1] == f"{ENCODER.plan((1, 28, 27))}\n"
    path.write_text(path.read_text().replace('"Conv"', '"Convv"'))
    code, _, complained = say("plan", str(path), "1x28x28")
    assert code == 2
    assert f"{path}: " in complained
    assert "Did you mean 'Conv'" in complained


def test_an_encoder_comes_from_the_folder_of_a_saved_model(say, tmp_path):
    config = to_config(AutoencoderConfig(ENCODER, (1, 28, 28)))
    (tmp_path / "config.json").write_text(to_json(config))
    assert say("plan", str(tmp_path), "1x28x28")[1] == f"{ENCODER.plan((1, 28, 28))}\n"


def test_check_asks_the_kit(say, tmp_path, monkeypatch):
    (tmp_path / "mine_on_the_command_line.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code, said, _ = say("check", "mine_on_the_command_line:Sound", "--examples", "2")
    assert code == 0
    assert said.startswith("Sound: ")
    code, said, complained = say("check", "mine_on_the_command_line:Broken", "--examples", "2")
    assert (code, said) == (1, "")
    assert "Broken breaks a law, promise" in complained


MINE = """
from dataclasses import dataclass
from torch import nn
from obverse import Block

@dataclass(frozen=True, repr=False)
class Sound(Block):
    pointwise = True

    def build(self, shape):
        return nn.Softsign()

@dataclass(frozen=True, repr=False)
class Broken(Sound):
    def build(self, shape):
        return nn.Flatten()
"""


# Mistakes


MISTAKES = {
    ("plan",): (2, "required: encoder, shape"),
    ("plann",): (2, "Did you mean plan?"),
    (): (2, "required: command"),
    ("plan", TUTORIAL): (2, "required: shape"),
    ("plan", "1x28x28", TUTORIAL): (2, "the encoder comes first"),
    ("plan", "Convv(3)", "1x28x28"): (2, "  Convv(3)\n  ^\nDid you mean 'Conv'?"),
    ("plan", TUTORIAL, "28by28"): (2, "Write it as in 1x28x28"),
    ("plan", TUTORIAL, "0x28x28"): (2, "below 1"),
    ("plan", TUTORIAL, "CxHxW"): (2, "Give a number of channels, as in (1, 'H', 'W')"),
    ("plan", TUTORIAL, "NxCxHxW"): (2, "Leave the batch out: (C, H, W)"),
    ("plan", "1xHxW", TUTORIAL): (2, "the encoder comes first"),
    ("plan", TUTORIAL, "1xHxW", "--mirror"): (2, "H in '1xHxW' is no number"),
    ("mirror", TUTORIAL, "1x28xW"): (2, "letters are for a plan of the encoder alone.\nWrite it as in 1x28x28"),
    ("draw", TUTORIAL, "1xHxW", "-o", "x.svg"): (2, "letters are for a plan"),
    ("plan", TUTORIAL, "Nx1x28x28"): (2, "Leave the batch out: (1, 28, 28)"),
    ("plan", TUTORIAL, "64x1x28x28"): (1, "If 64 is the batch, leave it out: (1, 28, 28)"),
    ("plan", TUTORIAL, "1x3x3"): (1, "an input of at least 25×25"),
    ("plan", "nothere.json", "1x28x28"): (2, "there is no file 'nothere.json'"),
    ("mirror", TUTORIAL, "1x28x28", "--upsampling", "resized"): (2, "Did you mean resize?"),
    ("draw", TUTORIAL, "1x28x28", "-o", "x.jpg"): (2, "ends in .svg, .png or .pdf"),
    ("draw", TUTORIAL, "1x28x28", "-o", "/not/there/x.svg"): (2, "cannot be written"),
    ("solve", "28", "x"): (2, "'x' is no shape"),
    ("solve", "28"): (2, "Write them as in 28 14"),
    ("solve", "28", "1x14"): (2, "Write it as in 1x28x28"),
    ("solve", "28", "14", "--stages", "2"): (2, "--stages is for a whole shape"),
    ("solve", "28", "14", "--most", "0"): (2, "0 is below 1"),
    ("solve", "1x28x28"): (1, "Give --shrink 4"),
    ("solve", "1x28x28", "12", "--strides", "2"): (2, "--strides is for sizes along one axis"),
    ("solve", "1x28x28", "12", "--kernel-sizes", "3,5"): (2, "--kernel-size 3"),
    ("solve", "1x28x28", "8x9x9", "8x4x4", "--stages", "2"): (2, "every stage is given"),
    ("solve", "1x28x28", "12x3"): (1, "Give the code 12x1x1"),
    ("plan", TUTORIAL, "1x28x28", "--json", "--markdown"): (2, "not allowed with"),
    ("solve", "28", "14", "--strides", "a"): (2, "--strides"),
    ("blocks", "Convv"): (2, "Did you mean 'Conv'"),
    ("check", "obverse.Conv"): (2, "Write it as in package.module:Block"),
    ("check", "not.there:Block"): (2, "not.there cannot be imported"),
    ("check", "obverse:Convv"): (2, "obverse has no 'Convv'"),
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_explained(say, arguments):
    code, words = MISTAKES[arguments]
    given, said, complained = say(*arguments)
    assert (given, said) == (code, "")
    assert words in complained
    assert "Traceback" not in complained


def test_in_json_a_mistake_is_json(say):
    code, said, _ = say("plan", TUTORIAL, "1x3x3", "--json")
    assert code == 1
    assert "the kernel spans 7 cells" in json.loads(said)["wrong"]


def test_what_is_refused_is_refused_by_the_mirror_as_well(say):
    gate = "Parallel(MaxPool(2), Conv(1, 2, stride=2), join='multiply')"
    code, _, complained = say("mirror", gate, "1x8x8")
    assert code == 1
    assert "Gate behind it" in complained


# Around it


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", TUTORIAL, "1x28x28", "--mirror", "--json"),
        ("mirror", TUTORIAL, "1x28x28"),
        ("mirror", TUTORIAL, "1x28x28", "--torch"),
        ("draw", TUTORIAL, "1x28x28", "-o", "x.svg"),
        ("solve", "28", "14"),
        ("solve", "1x28x28", "12"),
        ("plan", TUTORIAL, "1x28x28", "--markdown"),
        ("blocks",),
        ("blocks", "Conv"),
    ],
    ids=" ".join,
)
def test_answers_do_not_import_torch(arguments, tmp_path):
    program = (
        "import sys; from obverse.cli import main; code = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'matplotlib', 'hypothesis') if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr.endswith("[]\n"), done.stderr


def on_a_terminal(*arguments, columns=80):
    """What a command says to a terminal of so many columns."""
    primary, secondary = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", "obverse", *arguments], stdout=secondary, stderr=secondary, env=environment
    )
    os.close(secondary)
    said = b""
    while True:
        try:
            part = os.read(primary, 4096)
        except OSError:  # Linux, when the other end is closed
            break
        if not part:
            break
        said += part
    os.close(primary)
    assert process.wait() == 0
    return said.decode().replace("\r", "")


def test_on_a_terminal_it_is_styled_within_80_columns():
    said = on_a_terminal("plan", TUTORIAL, "1x28x28", columns=200)
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert said != plain
    assert [line.rstrip() for line in plain.strip("\n").split("\n")] == str(ENCODER.plan((1, 28, 28))).split("\n")
    letters = on_a_terminal("plan", TUTORIAL, "1xHxW", columns=200)
    assert letters.strip("\n") == str(ENCODER.plan((1, "H", "W")))
    listed = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal("blocks", columns=200))
    assert max(map(len, listed.split("\n"))) <= 80


def test_colours_are_those_of_the_terminal():
    # the sixteen that a theme sets, or none: so that it can be read on light and on dark
    said = on_a_terminal("plan", TUTORIAL, "1x28x28") + on_a_terminal("solve", "28", "14")
    assert set(re.findall(r"\x1b\[([\d;]*)m", said)) <= {"0", "1", "2"}


def test_a_reader_that_has_seen_enough_is_no_failure():
    command = f"{sys.executable} -m obverse blocks | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_knows_no_signs_is_answered():
    done = started("plan", TUTORIAL, "1x28x28", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "16?14?14" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_learns_to_complete(say, shell):
    code, script, _ = say("--print-completion", shell)
    assert code == 0
    assert all(command in script for command in ("plan", "mirror", "draw", "solve", "blocks", "check"))
    if shell == "bash":
        asked = f"{script}\nCOMP_WORDS=(obverse mi); COMP_CWORD=1; _shtab_obverse; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["mirror"]


def test_help_is_80_columns_wide_and_names_every_command(say, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["plan"], ["mirror"], ["draw"], ["solve"], ["blocks"], ["check"]):
        code, said, _ = say(*command, "--help")
        assert code == 0
        assert max(map(len, said.splitlines())) <= 82  # of the examples one is as long as people write


def test_it_is_installed_under_its_name():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"obverse": "obverse.cli:main"}
    assert started("--version").stdout.startswith("obverse ")


def test_a_pool_mirrors_on_the_command_line_too(say):
    assert say("mirror", "MaxPool(2)", "1x27x27")[1] == f"{MaxPool(2).mirror((1, 27, 27))}\n"
