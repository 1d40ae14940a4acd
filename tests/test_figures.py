"""The figures of the docs are there, small, and show what would be drawn now."""

import importlib.util
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from obverse import arithmetic
from obverse.drawing import Film, convolution

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("figures", ROOT / "tools/figures.py")
figures = importlib.util.module_from_spec(SPEC)
sys.modules["figures"] = figures
SPEC.loader.exec_module(figures)


@pytest.mark.parametrize("theme", figures.THEMES)
@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_is_there_small_and_not_stale(name, theme):
    path = figures.path_of(name, theme)
    assert path.exists(), f"run: python tools/figures.py {name}"
    assert path.stat().st_size < 60_000
    drawn = figures.digest(figures.FIGURES[name](theme=theme))
    assert figures.digest_in(path) == drawn, f"it is stale; run: python tools/figures.py {name}"
    if path.suffix == ".svg":
        ElementTree.parse(path)


def test_a_digest_tells_figures_apart():
    one = figures.digest(convolution((5, 5), 3, cell=(0, 0)))
    assert one == figures.digest(convolution((5, 5), 3, cell=(0, 0)))
    others = [convolution((5, 5), 3, cell=(0, 1)), convolution((5, 5), 3, cell=(0, 0), theme="dark"), convolution(5, 3)]
    assert one not in map(figures.digest, others)


@pytest.mark.parametrize("theme", figures.THEMES)
def test_every_figure_of_the_pages_is_drawn_here_and_every_drawn_one_is_shown(theme):
    pages = "\n".join(page.read_text() for page in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
    shown = set(re.findall(rf"images/([\w-]+-{theme}\.(?:svg|png))", pages))
    assert {figures.path_of(name, theme).name for name in figures.FIGURES} <= shown
    assert shown <= {path.name for path in figures.IMAGES.iterdir()}


def test_the_style_of_the_pages_leaves_it_to_the_theme_which_of_two_figures_is_seen():
    rules = re.findall(
        r"([^{}]*)\{([^}]*)\}", re.sub(r"/\*.*?\*/", "", (ROOT / "docs/stylesheets/extra.css").read_text())
    )
    assert [selector for selector, rule in rules if "img" in selector and "display" in rule] == []
    assert any("relationship-" in selector for selector, _ in rules)


@pytest.mark.parametrize("number", range(1, 16))
def test_the_figure_of_a_relationship_shows_sizes_that_follow_from_it(number):
    """What the relationship in the guide's own words gives for the sizes that are written in the figure."""
    picture = figures.FIGURES[f"relationship-{number:02}.svg"](theme="light")
    figure = picture.figure if isinstance(picture, Film) else picture
    texts = [text.get_text() for text in figure.axes[0].texts]
    told = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", texts[0])}
    size, out = (int(re.search(r"(\d+)×\1", text)[1]) for text in texts[1:3])
    plain = {"kernel": 0, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    k, s, p, a, d = ({**plain, **told}[name] for name in plain)
    if 8 <= number <= 14:
        assert out == arithmetic.conv_transpose_output_size(size, k, s, p, a, d)
        assert arithmetic.conv_output_size(out, k, s, p, d) == size
    else:
        assert out == arithmetic.conv_output_size(size, k, s, p, d)
    conditions = {
        1: (s, p, d) == (1, 0, 1), 2: s == d == 1, 3: s == d == 1 and p == k // 2, 4: s == d == 1 and p == k - 1,
        5: p == 0 and d == 1 and s > 1, 6: d == 1 and s > 1 and p > 0, 7: p == 0 and d == 1,
        8: (s, p, a) == (1, 0, 0), 9: s == 1, 10: s == 1 and p == k // 2, 11: s == 1 and p == k - 1,
        12: s > 1 and p == a == 0, 13: s > 1 and p > 0 and a == 0, 14: s > 1 and a > 0, 15: d > 1,
    }  # fmt: skip
    assert conditions[number]
