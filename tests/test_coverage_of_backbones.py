"""The table of backbones that have a mirror: what it says is what is tried."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

TOOLS = Path(__file__).parent.parent / "tools"
PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    import coverage_of_backbones

    return coverage_of_backbones


def test_a_row_says_for_each_size_whether_the_input_is_restored(tool, capsys):
    assert tool.main(["squeezenet1_1"]) == 0
    said = capsys.readouterr().out
    assert "torchvision: 1 of 1 cut before the global pool, 1 of 1 whole." in said
    assert "| squeezenet1_1 | features | yes | yes | yes | yes | yes | yes |" in said
    assert said.count("\n| squeezenet1_1") == 1


def test_what_falls_short_is_listed_with_the_operation(tool):
    class Net(nn.Module):
        def forward(self, x):
            return torch.diff(x)

    with torch.device("meta"):
        result = tool.measured("net", Net(), [(3, 8, 8)], "")
    assert not result.has_mirror
    (line,) = [line for line in tool.troubles([result]) if line.startswith("- ")]
    assert line.startswith("- net: diff(), in the module itself, at test_coverage_of_backbones.py:")


def test_a_size_that_the_encoder_refuses_is_none_of_the_decoders_faults(tool):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).to("meta")
    result = tool.measured("net", net, [(3, 8, 8), (3, 9, 8)], "")
    assert result.has_mirror
    assert list(result.sizes.values()) == ["yes", "–"]


def test_the_page_in_the_docs_has_them_all():
    page = PAGE.read_text()
    assert "torchvision: 80 of 80 cut before the global pool, 80 of 80 whole." in page
    assert "make coverage" in page
    found = re.search(r"^timm: (\d+) of (\d+) \(.*\), (\d+) with approximate mirrors", page, re.MULTILINE)
    strict, architectures, some = map(int, found.groups())
    assert strict >= 0.90 * architectures
    assert some >= 0.98 * architectures
