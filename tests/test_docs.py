"""What the pages say: their blocks are found, their lists are complete, their numbers hold."""

import ast
import inspect
import pydoc
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from sybil import Example, Sybil
from sybil.example import SybilFailure
from torch import nn

import obverse.drawing
import obverse.testing
import obverse.testing.checks
import obverse.testing.strategies
import obverse.training
from obverse import Autoencoder, Chain, Conv, ReLU, Sigmoid

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
DOORS = [obverse, obverse.arithmetic, obverse.training, obverse.drawing, obverse.testing]
DOORS += [obverse.testing.checks, obverse.testing.strategies]
PUBLIC = [
    f"{door.__name__}.{name}" for door in DOORS for name in door.__all__ if not inspect.ismodule(getattr(door, name))
]


@pytest.mark.parametrize(("page", "least"), [("README.md", 3), ("CONTRIBUTING.md", 1), ("docs/quickstart.md", 8)])
def test_the_blocks_of_a_page_are_found(pages: Sybil, page: str, least: int) -> None:
    assert len(list(pages.parse(ROOT / page).examples())) >= least


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_every_page_is_tried_or_excused(pages: Sybil, page: Path) -> None:
    fences = re.findall(r"^ *```\w", page.read_text(), re.MULTILINE)
    assert pages.should_parse(page)
    assert len(list(pages.parse(page).examples())) >= len(fences)


@pytest.fixture
def blocks(pages: Sybil, tmp_path: Path) -> Callable[[str], list[Example]]:
    """The blocks of a page that says this."""

    def parse(text: str) -> list[Example]:
        (tmp_path / "page.md").write_text(text)
        return list(pages.parse(tmp_path / "page.md").examples())

    return parse


def test_a_block_that_nothing_tries_is_refused(blocks: Callable[[str], list[Example]]) -> None:
    with pytest.raises(SybilFailure, match="not run: the reason"):
        blocks("```toml\na = 1\n```\n")[0].evaluate()


def test_what_a_page_shows_is_held_against_what_is_printed(blocks: Callable[[str], list[Example]]) -> None:
    printing, shown = blocks("```python\nprint(27)\n```\n\n```text\n28\n```\n")
    printing.evaluate()
    with pytest.raises(SybilFailure, match=r"-28\n\+27"):
        shown.evaluate()


def test_a_command_is_run_and_what_it_says_compared(blocks: Callable[[str], list[Example]]) -> None:
    asking, shown = blocks("```sh\nobverse mirror 'Conv(8, 3)' 1x9x9\n```\n\n```text\nConvTranspose(2, 3)\n```\n")
    asking.evaluate()
    with pytest.raises(SybilFailure, match=r"-ConvTranspose\(2, 3\)\n\+ConvTranspose\(1, 3\)"):
        shown.evaluate()


def test_an_excuse_is_for_the_block_right_below_it(blocks: Callable[[str], list[Example]]) -> None:
    excused, refused = blocks("<!-- not run: no shell -->\n```sh\nrm x\n```\n\n```sh\nrm y\n```\n")
    excused.evaluate()
    with pytest.raises(SybilFailure):
        refused.evaluate()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_stands_on_exactly_one_page_of_the_reference(name: str) -> None:
    said = Counter(re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE))
    assert said[name] == 1, f"put `::: {name}` on one page under docs/api"


NAMED = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
SHOWN_TOGETHER = "obverse.testing.checks.check_"
"""One doctest above all of them shows what a check does; each by itself would show nothing more."""


@pytest.mark.parametrize("name", [name for name in NAMED if not name.startswith(SHOWN_TOGETHER)])
def test_a_public_name_is_there_and_shows_what_it_does(name: str) -> None:
    thing = pydoc.locate(name)
    assert thing is not None, "no such name"
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert re.search(r">>> |```python", thing.__doc__ or ""), f"give {name} a doctest"


def test_the_map_draws_no_room_that_is_not_there() -> None:
    there = {path.stem for path in (ROOT / "src/obverse").iterdir()}
    assert [room for room in rooms() if room.removeprefix("obverse.") not in there] == []


def test_the_readme_counts_right() -> None:
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    model = Autoencoder(encoder, (1, 28, 28), output=Sigmoid()).eval()
    by_hand = written_by_hand()
    returned = dict.fromkeys(("model", "by hand"), 0)
    for sizes in product(range(27, 36), repeat=2):
        images = torch.zeros(1, 1, *sizes)
        returned["model"] += model(images)[0].shape == images.shape
        returned["by hand"] += by_hand(images).shape == images.shape
    said = (ROOT / "README.md").read_text()
    assert f"returns all {returned['model']} sizes from 27×27 to 35×35" in said
    assert f"the same layers return {returned['by hand']} of them" in said


def written_by_hand() -> nn.Sequential:
    """The same layers as in many tutorials."""
    down = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 12, 7)]
    up = [nn.ConvTranspose2d(12, 32, 7), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU()]
    return nn.Sequential(*down, *up, nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid())


def test_the_readme_is_one_screen_and_its_first_program_ten_lines() -> None:
    said = (ROOT / "README.md").read_text()
    assert len(said.splitlines()) <= 70
    assert len(re.search(r"```python\n(.*?)```", said, re.DOTALL)[1].split("\n\n", 1)[1].splitlines()) <= 10  # type: ignore[index]


def rooms() -> list[str]:
    """The rooms that docs/design.md draws, from the top down, as module names."""
    drawn = re.findall(r"^  (\w+)(?:\.py|/)  ", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    return [f"obverse.{room}" for room in drawn if room != "__init__"]


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(file: Path) -> Iterator[str]:
    """The rooms that a file imports when it is itself imported."""
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.module.startswith("obverse."):
            yield room_of(statement.module)


@pytest.mark.parametrize("file", sorted((ROOT / "src/obverse").rglob("*.py")), ids=lambda file: file.stem)
def test_a_file_imports_only_from_rooms_above_it(file: Path) -> None:
    room = room_of(".".join(file.relative_to(ROOT / "src").with_suffix("").parts))
    if room == "obverse.__init__":
        return
    assert room in rooms(), f"draw {room} in docs/design.md"
    allowed = [*rooms()[: rooms().index(room)], room]
    assert [other for other in imports(file) if other not in allowed] == []


def test_the_names_of_pytorch_that_signatures_link_to_are_there() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    import torch_inventory

    assert torch_inventory.TARGET.read_bytes() == torch_inventory.inventory(), "run: python tools/torch_inventory.py"
