"""Write docs/llms.txt, the index of the docs for language models, from the navigation: `python tools/llms.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs/llms.txt"

HEAD = """# obverse

> A Python library for composing autoencoders in PyTorch. You describe an encoder once; obverse works out every size by
> integer arithmetic and gives the decoder that returns exactly the shape that went in: any kernel, stride, padding and
> dilation, odd and non-square sizes, one to three dimensions.

- Write `Autoencoder(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7)), (1, 28, 28), output=Sigmoid())`: an
  ordinary `nn.Module` whose `forward` returns `(reconstruction, code)`.
- A shape is that of one example, without the batch: `(C, *spatial)`. Channels in and the number of dimensions are never
  written; blocks take the other arguments of the `torch.nn` class of their name.
- Sizes as integers: `obverse.arithmetic.conv_output_size(28, 3, stride=2, padding=1)`.
  No torch is imported for sizes, plans and mirrors.
"""


def pages(nav: list[Any], theme: str = "") -> Iterator[tuple[str, str, str]]:
    """Theme, title and file of every page, in the order of the navigation."""
    for entry in nav:
        if isinstance(entry, str):
            yield theme, _title(entry), entry
            continue
        ((title, target),) = entry.items()
        if isinstance(target, str):
            yield theme, title, target
        else:
            yield from pages(target, title)


def text() -> str:
    """The whole index."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    lines, last = [HEAD], None
    for theme, title, page in pages(nav):
        if (theme or "More") != last:
            lines.append(f"## {theme or 'More'}\n" if last is None else f"\n## {theme or 'More'}\n")
            last = theme or "More"
        lines.append(f"- [{title}]({address(page)}): {_first_sentence(page)}")
    return "\n".join(lines) + "\n"


def address(page: str) -> str:
    """Where a page is, seen from the index.

    >>> address("quickstart.md"), address("api/index.md"), address("index.md")
    ('quickstart/', 'api/', './')
    """
    return f"{page.removesuffix('.md').removesuffix('index')}/".replace("//", "/").removeprefix("/") or "./"


def _title(page: str) -> str:
    found = re.search(r"^# (.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else page


def _first_sentence(page: str) -> str:
    """The first sentence of a page that is prose; of a page of the reference, the names that it documents."""
    source = (ROOT / "docs" / page).read_text(encoding="utf-8")
    names = [name.rsplit(".", 1)[-1] for name in re.findall(r"^::: (\S+)$", source, re.MULTILINE)]
    if names:
        return ", ".join(f"`{name}`" for name in names)
    prose = re.split(r"\n\s*\n", re.sub(r"```.*?```|<!--.*?-->|^#[^\n]*$", "", source, flags=re.DOTALL | re.MULTILINE))
    paragraph = next((part for part in map(str.strip, prose) if re.match(r"[A-Z*`\[]", part)), _title(page))
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[.?!]) ", plain, maxsplit=1)[0].rstrip(":")


if __name__ == "__main__":
    INDEX.write_text(text(), encoding="utf-8")
