"""The index for language models names every page of the navigation, and nothing that is not there."""

import importlib.util
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("llms", ROOT / "tools/llms.py")
llms = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(llms)
INDEX = (ROOT / "docs/llms.txt").read_text()


def files(nav):
    for entry in nav if isinstance(nav, list) else nav.values():
        yield from [entry] if isinstance(entry, str) else files(entry)


def test_every_page_of_the_navigation_is_in_the_index_once_and_in_order():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", INDEX, re.MULTILINE) == [
        llms.address(page) for page in files(nav)
    ]


def test_every_page_of_the_docs_is_in_the_navigation():
    nav = set(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")} == nav


def test_the_index_is_not_stale():
    assert llms.text() == INDEX, "run: python tools/llms.py"
    assert "](http" not in INDEX
