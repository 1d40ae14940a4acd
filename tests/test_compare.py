"""The comparison says what is measured: its rows that need no other package are measured again."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("compare", ROOT / "tools/compare.py")
compare = importlib.util.module_from_spec(SPEC)
sys.modules["compare"] = compare
SPEC.loader.exec_module(compare)
OURS = [name for name, (_, package) in compare.MODELS.items() if not package]


@pytest.mark.parametrize("name", OURS)
def test_a_row_of_the_table_is_what_is_measured(name):
    row = compare.measure(name, compare.MODELS[name][0]())
    page = (ROOT / "docs/compare.md").read_text()
    assert f"| {name} | {row.square} | {row.oblong} | {row.otherwise} |" in page


def test_every_model_that_can_be_measured_has_a_row():
    named = re.findall(r"^\| (.+?)(?: [\d.]+)? \| \d \|", (ROOT / "docs/compare.md").read_text(), re.MULTILINE)
    assert named == list(compare.MODELS)


def test_a_model_that_raises_is_counted_and_its_words_are_kept():
    def run(x):
        if x.shape[2] % 2:
            raise RuntimeError("odd\nand more")
        return x

    row = compare.measure("even", run)
    assert (row.square, row.oblong) == (4, 4 * 8)
    assert row.otherwise == "27×27: odd"
    assert compare.measure("smaller", lambda x: torch.zeros(1, 1, 2, 2)).otherwise == "27×27 → 2×2"
