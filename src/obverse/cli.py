"""The command line: `obverse plan | mirror | draw | solve | blocks | check`.

What is asked is an encoder, as an expression or a config file, and a shape. What is answered is a table for people, or
with `--json` plain data for programs. Only `draw` to a bitmap and `check` import more than the plans need.

Exit codes: 0, all is well; 1, arithmetic refuses, or a check has failed; 2, what was typed cannot be read.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from textwrap import fill, wrap
from typing import Any, NoReturn

from obverse import answers
from obverse.block import Block
from obverse.chain import Chain
from obverse.decoder import mirror
from obverse.errors import ConfigError, ObverseError, RegistryError, ShapeError
from obverse.expressions import parse
from obverse.plan import WIDTH, Plan, lines
from obverse.rewrite import with_upsampling
from obverse.shapes import Shape, shape_text
from obverse.symbols import is_symbolic

__all__ = ["main", "parser"]

REFUSED, UNREADABLE = 1, 2

EXAMPLES = """\
examples:
  obverse plan "Conv(16, 3, stride=2, padding=1) >> ReLU() >> Conv(12, 7)" 1x28x28
  obverse plan "Conv(16, 3, stride=2, padding=1) >> MaxPool(2)" 3xHxW
  obverse mirror encoder.json 3x224x224 --upsampling resize
  obverse mirror "Conv(16, 3, stride=2)" 1x28x28 --torch > model.py
  obverse draw encoder.toml 1x28x28 -o hourglass.svg
  obverse solve 28 14 --kernel-sizes 3,5
  obverse solve 1x28x28 12 --stages 3
  obverse check mypackage.blocks:Wavelet

An encoder is an expression in quotes, a config file, or - for what comes in by
the pipe. A shape is that of one example, without the batch."""


class UnreadableError(Exception):
    """What was typed cannot be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one command; the exit code.

    >>> main(["mirror", "Conv(16, 3, stride=2, padding=1)", "1x28x27"])
    ConvTranspose(1, 3, stride=2, padding=1, output_padding=(1, 0))
    0

    Args:
        arguments: as typed, without the program's name; `None` for those that it was started with.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no × shall not stop the answer
    asked = parser().parse_args(arguments)
    try:
        code: int = asked.answer(asked)
        sys.stdout.flush()
    except UnreadableError as error:
        return _complain(asked, str(error), UNREADABLE)
    except ObverseError as error:
        return _complain(asked, str(error), REFUSED)
    except BrokenPipeError:  # `obverse blocks | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _complain(asked: argparse.Namespace, message: str, code: int) -> int:
    if getattr(asked, "json", False):
        print(json.dumps({"wrong": message}))
    else:
        print(f"obverse {asked.command}: {message}", file=sys.stderr)
    return code


# What can be asked


class _Parser(argparse.ArgumentParser):
    """A parser that says what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, what may have been meant, and where help is."""
        _, _, choices = message.partition("invalid choice: ")
        if choices:
            given, _, known = choices.partition(" (choose from ")
            near = get_close_matches(given.strip("'"), [each.strip("' )") for each in known.split(",")], n=1)
            message += f"\nDid you mean {near[0]}?" if near else ""
        self.exit(UNREADABLE, f"{self.prog}: {message}\nSee {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line.

    >>> parser().parse_args(["plan", "ReLU()", "1x28x28"]).shape
    '1x28x28'
    """
    whole = _Parser(
        prog="obverse",
        description="Shapes, costs and mirrors of encoders, by arithmetic.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="say the version and go")
    _offer_completion(whole)
    commands = whole.add_subparsers(dest="command", metavar="command", required=True)
    for name, answer, said in (
        ("plan", _plan, "shapes, costs and receptive fields, block by block"),
        ("mirror", _mirror, "the decoder that takes the code back to the shape"),
        ("draw", _draw, "an encoder and its mirror, as a picture"),
    ):
        command = _command(commands, name, answer, said)
        encoder = command.add_argument("encoder", help="an expression in quotes, a config file, or -")
        encoder.complete = _FILES  # type: ignore[attr-defined]    # which shtab reads
        letters = "; letters for sizes give formulas: 1xHxW" if name == "plan" else ""
        command.add_argument("shape", help=f"of one example, without the batch: 1x28x28{letters}")
        if name == "draw":
            out = command.add_argument("-o", "--output", required=True, help="a file: .svg, .png or .pdf")
            out.complete = _FILES  # type: ignore[attr-defined]
            command.add_argument("--theme", choices=["light", "dark"], default="light", help="of a .png or .pdf")
        else:
            formats = command.add_mutually_exclusive_group()
            formats.add_argument("--json", action="store_true", help="plain data, for programs")
            if name == "plan":
                formats.add_argument("--markdown", action="store_true", help="a table for a page in Markdown")
        style = ["transpose", "resize", "subpixel"]
        command.add_argument(
            "--upsampling", choices=style, default="transpose", help="how the mirror makes sizes larger"
        )
        if name == "plan":
            command.add_argument("--mirror", action="store_true", help="the mirror's plan as well")
        if name == "mirror":
            command.add_argument(
                "--torch", action="store_true", help="the whole autoencoder as plain PyTorch, to paste"
            )
    _add_solve(commands)
    blocks = _command(commands, "blocks", _blocks, "every block there is, or all about one")
    blocks.add_argument("name", nargs="?", help="of a block, for its arguments and what it does")
    blocks.add_argument("--json", action="store_true", help="plain data, for programs")
    check = _command(commands, "check", _check, "whether a block keeps its promises, by trying many")
    check.add_argument("block", help="a class or a block: package.module:Block")
    check.add_argument("--examples", type=int, default=100, help="how many of each (100)")
    return whole


_FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What shtab completes an argument with that may be a file."""


def _command(commands: Any, name: str, answer: Any, said: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=said, description=f"{said[0].upper()}{said[1:]}.", allow_abbrev=False
    )
    command.set_defaults(answer=answer)
    return command


ALONG_AN_AXIS = {"kernel_sizes": "1 to 7", "strides": "1 to 4", "paddings": "up to half the kernel", "dilations": "1"}
"""What a search along one axis may be bounded by, and what it is bounded by if nothing is said."""

OF_STAGES = {
    "stages": "how many convolutions",
    "shrink": "by how much every axis gets smaller, in place of a code",
    "receptive_field": "cells of the input that a cell of the code sees at least",
}
"""What may be asked of a chain of convolutions."""


def _add_solve(commands: Any) -> None:
    solve = _command(
        commands, "solve", _solve, "the convolutions that take one size to another, or one shape to another"
    )
    solve.add_argument("input", help="cells that go in, along one axis: 28; or a whole shape: 1x28x28")
    solve.add_argument(
        "output", nargs="*", help="cells that shall come out; of a shape the code: 12, or 16x7x7; or a shape a stage"
    )
    for name, default in ALONG_AN_AXIS.items():
        names = [_option(name), *(["--kernel-size"] if name == "kernel_sizes" else [])]
        solve.add_argument(*names, type=_numbers, help=f"to try, as in 3,5 or 1-7 ({default})")
    for name, said in OF_STAGES.items():
        solve.add_argument(_option(name), type=int, help=f"of a whole shape: {said}")
    solve.add_argument("--channels", type=_numbers, help="of a whole shape: after each stage, as in 16,32,64")
    solve.add_argument("--most", type=_at_least_one, help="how many to show, plainest first (12; of a whole shape 5)")
    solve.add_argument("--json", action="store_true", help="plain data, for programs")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _numbers(text: str) -> list[int]:
    """Whole numbers and ranges of them.

    >>> _numbers("3,5-7")
    [3, 5, 6, 7]
    """
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


class _Version(argparse.Action):
    """Says the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Say it and go."""
        from importlib.metadata import version

        print(f"obverse {version('obverse')}")
        parser.exit()


def _offer_completion(whole: argparse.ArgumentParser) -> None:
    class Completion(argparse.Action):
        """Writes a completion script; shtab is imported only then."""

        def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, *_: Any) -> None:
            try:
                shtab = import_module("shtab")
            except ImportError:
                parser.error('completion needs the package shtab: pip install "obverse[cli]"')
            print(shtab.complete(whole, values))
            parser.exit()

    said = 'write a completion script: eval "$(obverse --print-completion bash)"'
    whole.add_argument("--print-completion", action=Completion, choices=["bash", "zsh", "tcsh"], help=said)


# How it is read


def _encoder(text: str) -> Block:
    """The encoder that was typed: an expression, a config file, or what comes in by the pipe."""
    try:
        if text == "-":
            return parse(sys.stdin.read())
        if Path(text).suffix in (".json", ".toml"):
            return _from_file(Path(text))
        if "(" not in text and Path(text, "config.json").is_file():  # a folder, as a model is saved to
            return _from_file(Path(text, "config.json"))
        return parse(text)
    except (ConfigError, RegistryError) as error:
        raise UnreadableError(str(error)) from None


def _from_file(path: Path) -> Block:
    if not path.is_file():
        raise UnreadableError(
            f"there is no file {str(path)!r}.\nGive its path, or an expression such as 'Conv(16, 3)'."
        )
    from obverse.config import AutoencoderConfig, from_config, from_json, from_toml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path} cannot be read: {error}.") from None
    try:
        config = (from_json if path.suffix == ".json" else from_toml)(text)
        return AutoencoderConfig.read(config).encoder if "model" in config else from_config(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.reason}", error.repair) from None


def _asked(asked: argparse.Namespace, letters: bool = False) -> tuple[Block, Shape]:
    try:
        shape = answers.read_shape(asked.shape, letters)
    except ObverseError as error:
        try:
            answers.read_shape(asked.encoder, letters)
        except ObverseError:
            raise UnreadableError(str(error)) from None
        raise UnreadableError(f"the encoder comes first, then the shape: {asked.encoder} is a shape.") from None
    return _encoder(asked.encoder), shape


# Answers


def _plan(asked: argparse.Namespace) -> int:
    encoder, shape = _asked(asked, letters=not asked.mirror)
    plan = Plan.of(encoder, shape)
    if asked.json:
        data = answers.plan_data(plan)
        _say_json(data | ({"mirror": answers.mirror_data(encoder, shape, asked.upsampling)} if asked.mirror else {}))
        return 0
    say = _say_markdown if asked.markdown else _say_plan
    say(plan)
    if asked.mirror:
        _say("")
        say(Plan.of(mirror(encoder, shape, upsampling=asked.upsampling), plan.output_shape))
    return 0


def _mirror(asked: argparse.Namespace) -> int:
    encoder, shape = _asked(asked)
    if asked.torch:
        from obverse.pasting import pytorch_code

        try:
            source = pytorch_code(encoder, shape, upsampling=asked.upsampling)
        except ConfigError as error:
            raise UnreadableError(str(error)) from None
        _say_json({"pytorch": source}) if asked.json else _say(source)
    elif asked.json:
        _say_json(answers.mirror_data(encoder, shape, asked.upsampling))
    else:
        _say(answers.chain_text(mirror(encoder, shape, upsampling=asked.upsampling)))
    return 0


def _draw(asked: argparse.Namespace) -> int:
    encoder, shape = _asked(asked)
    path = Path(asked.output)
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise UnreadableError(
            f"{path.name!r} is no picture that can be written.\nGive a name that ends in .svg, .png or .pdf."
        )
    styled = with_upsampling(encoder, shape, asked.upsampling)
    plan = Plan.of(styled, shape)
    decoder = Plan.of(mirror(styled, shape), plan.output_shape)
    try:
        if path.suffix == ".svg":
            from obverse.sketches import hourglass as sketch

            path.write_text(sketch(plan, decoder), encoding="utf-8")
        else:
            from obverse.drawing import hourglass

            hourglass(plan, decoder, theme=asked.theme).savefig(path, dpi=150)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be written: {error.strerror or error}.") from None
    except ImportError as error:
        raise UnreadableError(f"{error}\nAn .svg needs nothing.") from None
    _say(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def _solve(asked: argparse.Namespace) -> int:
    numbers = [asked.input, *asked.output]
    if all(re.fullmatch(r"-?\d+", number, re.ASCII) for number in numbers):
        _refuse_options(asked, [*OF_STAGES, "channels"], f"a whole shape, such as 1x{asked.input}x{asked.input}")
        if len(numbers) != 2:
            raise UnreadableError(
                "along one axis there are two sizes.\nWrite them as in 28 14, or a shape as in 1x28x28 12."
            )
        return _solve_axis(asked, *map(int, numbers))
    _refuse_options(asked, ["strides", "paddings", "dilations"], "sizes along one axis, such as 28 14")
    try:
        chains = _chains(asked)
    except ShapeError as error:  # whose advice is for those who write Python
        raise ShapeError(error.reason, _as_typed(error.repair)) from None
    plans = [Plan.of(chain, answers.read_shape(asked.input)) for chain in chains]
    if asked.json:
        _say_json([{"encoder": answers.expression(plan.chain), **answers.plan_data(plan)} for plan in plans])
    else:
        _say("\n\n".join(map(_solution, plans)))
    return 0


def _refuse_options(asked: argparse.Namespace, names: Iterable[str], what: str) -> None:
    given = next((name for name in names if getattr(asked, name) is not None), None)
    if given:
        raise UnreadableError(f"{_option(given)} is for {what}.")


def _solve_axis(asked: argparse.Namespace, before: int, after: int) -> int:
    from obverse.arithmetic import remainder, solve_conv

    given = {name: getattr(asked, name) for name in ALONG_AN_AXIS if getattr(asked, name) is not None}
    found = solve_conv(before, after, **given)
    rows = [{**each._asdict(), "remainder": remainder(before, *each)} for each in found]
    most = 12 if asked.most is None else asked.most
    if asked.json:
        _say_json(rows)
    elif rows:
        _say_table(list(rows[0]), [[str(number) for number in row.values()] for row in rows[:most]])
        if len(rows) > most:
            _say(f"{len(rows) - most} more; --most {len(rows)} shows all.")
    else:
        _say(f"no convolution within these bounds takes {before} to {after}.", sys.stderr)
    return 0 if rows else REFUSED


def _chains(asked: argparse.Namespace) -> list[Chain]:
    """The encoders that do what is asked of whole shapes."""
    from obverse.solving import from_shapes, solve

    try:
        first, *rest = [
            int(text) if text.isdecimal() else answers.read_shape(text) for text in (asked.input, *asked.output)
        ]
    except ObverseError as error:
        raise UnreadableError(str(error)) from None
    if isinstance(first, int):
        raise UnreadableError(f"{first} is no shape to begin with.\nWrite it as in 1x{first}x{first}.")
    kernels = asked.kernel_sizes or []
    if len(kernels) > 1:
        raise UnreadableError("of a whole shape all kernels are alike.\nGive one, as in --kernel-size 3.")
    kernel = kernels[0] if kernels else None
    if len(rest) > 1:
        _refuse_options(asked, [*OF_STAGES, "channels"], "a shape and a code, and here every stage is given")
        return [
            from_shapes([first, *[(each,) if isinstance(each, int) else each for each in rest]], kernel_size=kernel)
        ]
    options = {name: getattr(asked, name) for name in ("stages", "shrink", "channels")}
    sees, most = asked.receptive_field, asked.most
    return solve(
        first,
        rest[0] if rest else None,
        kernel_size=kernel,
        receptive_field=1 if sees is None else sees,
        answers=5 if most is None else most,
        **options,
    )


def _as_typed(advice: str) -> str:
    """Advice as one follows it here.

    >>> _as_typed("Give an input of 28, or code=(16, 14), or kernel_size=3.")
    'Give an input of 28, or the code 16x14, or --kernel-size 3.'
    """
    advice = re.sub(r"code=\(([\d, ]+)\)", lambda found: f"the code {found[1].replace(', ', 'x')}", advice)
    return re.sub(r"\b([a-z_]+)=(\d+)", lambda found: f"{_option(found[1])} {found[2]}", advice)


def _solution(plan: Plan) -> str:
    """An encoder to paste behind `obverse plan`, and under it what it does."""
    code = plan.steps[-1]
    layers = [step for step in plan.steps if not step.block.pointwise]
    path = " → ".join(shape_text(shape) for shape in (plan.input_shape, *[step.output_shape for step in layers]))
    told = f"sees {shape_text(code.receptive_field)}, {plan.parameters:,} parameters"
    encoder = fill(answers.expression(plan.chain).replace(", ", ",\0"), WIDTH, break_long_words=False)
    lines = [line for text in (path, told) for line in wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join([encoder.replace("\0", " "), *lines])


def _blocks(asked: argparse.Namespace) -> int:
    from obverse.registry import block_class, entries

    if asked.name:
        try:
            block = block_class(asked.name)
        except RegistryError as error:
            raise UnreadableError(str(error)) from None
        _say_json(_described(asked.name, block)) if asked.json else _say_block(asked.name, block)
        return 0
    listed = [(entry, block_class(entry.name) if entry.origin == "built-in" else None) for entry in entries()]
    rows = [
        {"name": entry.name, "what": _headline(block) if block else entry.state, "from": entry.origin}
        for entry, block in listed
    ]
    if asked.json:
        _say_json(rows)
    else:
        _say_table(["block", "what it is"], [[row["name"], _origin(row)] for row in rows], numbers=False)
        _say("\nobverse blocks NAME says all about one.")
    return 0


def _origin(row: dict[str, str]) -> str:
    return row["what"] if row["from"] == "built-in" else f"{row['from']}: {row['what']}"


def _headline(block: type[Block]) -> str:
    return (block.__doc__ or "").strip().partition("\n")[0].rstrip(".").replace("`", "")


def _described(name: str, block: type[Block]) -> dict[str, str]:
    import inspect

    signature = inspect.signature(block)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    shown = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    return {"name": name, "call": f"{name}{shown}", "text": inspect.getdoc(block) or ""}


def _say_block(name: str, block: type[Block]) -> None:
    said = _described(name, block)
    _say(f"{said['call']}\n\n{said['text']}")


def _check(asked: argparse.Namespace) -> int:
    module, colon, attribute = asked.block.partition(":")
    if not (module and colon and attribute):
        raise UnreadableError(f"{asked.block!r} names no block.\nWrite it as in package.module:Block.")
    sys.path.insert(0, "")  # a module that lies here, as with python -m
    try:
        block = getattr(import_module(module), attribute)
    except ImportError as error:
        raise UnreadableError(f"{module} cannot be imported: {error}.") from None
    except AttributeError:
        raise UnreadableError(f"{module} has no {attribute!r}.") from None
    try:
        from hypothesis import settings

        from obverse.testing import check_block
    except ImportError as error:
        raise UnreadableError(str(error)) from None
    try:
        _say(str(check_block(block, settings=settings(max_examples=asked.examples, deadline=None, database=None))))
    except AssertionError as error:
        _say(str(error), sys.stderr)
        return REFUSED
    except (TypeError, ValueError) as error:
        raise UnreadableError(str(error)) from None
    return 0


# How it is said


def _say(text: str, stream: Any = None) -> None:
    print(text, file=stream)


def _say_json(data: Any) -> None:
    _say(json.dumps(data, indent=2, ensure_ascii=False))


def _console() -> Any:
    """A console of 80 columns for people who have rich and look at a terminal; else nothing."""
    if not sys.stdout.isatty():
        return None
    try:
        console = import_module("rich.console").Console(highlight=False)
    except ImportError:
        return None
    console.width = min(console.width, WIDTH)
    return console


def _say_markdown(plan: Plan) -> None:
    _say(plan.markdown())


def _say_plan(plan: Plan) -> None:
    console = _console()
    if console is None or any(map(is_symbolic, plan.input_shape)):  # formulas take as many lines as they need
        _say(str(plan))
        return
    head, given, *rest = str(plan).split("\n")
    console.print(head, style="dim", no_wrap=True, markup=False)
    quiet = [line.pointwise for line in lines(plan)]
    styles = ["", *["dim" if each else "" for each in quiet], "bold"]
    for line, style in zip_longest([given, *rest], styles, fillvalue=""):
        console.print(line, style=style, no_wrap=True, markup=False, overflow="crop")


def _say_table(head: list[str], rows: Iterable[list[str]], numbers: bool = True) -> None:
    console, rows = _console(), list(rows)
    if console is not None:
        table = import_module("rich.table").Table(box=None, header_style="dim", pad_edge=False)
        for name in head:
            table.add_column(name, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = zip(row, widths, strict=True)
        line = "  ".join(f"{cell:>{wide}}" if numbers else f"{cell:<{wide}}" for cell, wide in cells).rstrip()
        _say(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…")


if __name__ == "__main__":
    sys.exit(main())
