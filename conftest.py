"""Run the blocks of code in README.md, in docs/ and in docstrings.

What a fenced block is, its language says:

* `python` is run, the blocks of a page one after another in one namespace.
* `pycon` is a session, tried as a doctest.
* `text` is what the block above it printed.
* `sh` holds `make` commands, which are rehearsed, or `obverse` commands, which are run.

A block of any other kind, or one that cannot be run, has a comment above it: `<!-- not run: the reason -->`.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from difflib import unified_diff
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.document import PythonDocStringDocument
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.example import SybilFailure
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parent
NOT_RUN = re.compile(r"<!-- not run: \w.*? -->\s*\Z", re.DOTALL)

lex = FencedCodeBlockLexer("[^\n]*")
doctests = DocTestStringParser(DocTestEvaluator())
run = PythonEvaluator()


def fences(document: Document) -> Iterator[Region]:
    """Every fenced block of a page, with the function that tries it."""
    for fence in lex(document):
        language, source = fence.lexemes["language"].strip(), fence.lexemes["source"]
        excused = NOT_RUN.search(document.text[: fence.start])
        if excused is None and language == "pycon":
            for example in doctests(source, document.path):
                example.adjust(fence, source)
                yield example
            continue
        fence.parsed = source
        fence.evaluator = excuse if excused else TRIALS.get(language, refuse)
        yield fence


def excuse(example: Example) -> None:
    """Leave a block alone, for the reason above it."""


def run_printing(example: Example) -> None:
    """Run a block and keep what it prints."""
    with redirect_stdout(StringIO()) as printed:
        run(example)
    example.namespace["_printed"] = printed.getvalue()


def compare(example: Example) -> str:
    """Hold a block against what the one above it printed."""
    printed, shown = (
        [line.rstrip() for line in text.strip("\n").splitlines()]
        for text in (example.namespace.pop("_printed", ""), str(example.parsed))
    )
    return "\n".join(unified_diff(shown, printed, "on the page", "printed", lineterm=""))


def rehearse(example: Example) -> str:
    """Let make say what it would do; run obverse, and keep what it says."""
    if str(example.parsed).startswith("obverse "):
        example.namespace["_printed"] = answered(str(example.parsed))
        return ""
    for command in str(example.parsed).split("\n"):
        line, *_ = command.split("#")
        if line.strip() and not line.startswith("make"):
            return refuse(example)
        if line.strip():
            subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)
    return ""


def answered(command: str) -> str:
    """What one `obverse` command says and complains of, in a folder of its own."""
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=folder,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return done.stdout


def refuse(example: Example) -> str:
    """Say what a block that nothing tries must have."""
    return f"nothing runs this block; put <!-- not run: the reason --> above it\n{example.parsed}"


TRIALS = {"python": run_printing, "text": compare, "sh": rehearse}

PAGES = Sybil(parsers=[fences], patterns=["README.md", "CONTRIBUTING.md", "docs/*.md", "docs/**/*.md"])
DOCSTRINGS = Sybil(parsers=[fences], path="src", pattern="*.py", document_types={".py": PythonDocStringDocument})


class Page(pytest.File):
    """A page with blocks."""

    def collect(self) -> Iterator[pytest.Item]:
        """One test a page, since its blocks share a namespace: pytest-xdist would part them."""
        yield Blocks.from_parent(self, name="blocks")


class Blocks(pytest.Item):
    """The blocks of a page, tried in order."""

    def runtest(self) -> None:
        """Try every block; the first that fails ends the page."""
        for example in examples(self.path):
            example.evaluate()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What the block says, or its traceback."""
        wrong = isinstance(excinfo.value, SybilFailure)
        return str(excinfo.value) if wrong else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The headline of a failure."""
        return self.path, 0, f"the blocks of {self.path.name}"


def examples(page: Path) -> list[Example]:
    """The blocks of a page, or of a file's docstrings."""
    finder = next((finder for finder in (PAGES, DOCSTRINGS) if finder.should_parse(page)), None)
    return list(finder.parse(page).examples()) if finder else []


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the pages, and the docstrings that have blocks."""
    return Page.from_parent(parent, path=file_path) if examples(file_path) else None


@pytest.fixture(scope="session")
def pages() -> Sybil:
    """What finds the pages and their blocks."""
    return PAGES
