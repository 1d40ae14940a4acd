"""An encoder and its mirror as an SVG, written by hand: for notebooks, web pages and the command line.

`obverse.drawing` draws the same with matplotlib, for paper. This one needs nothing but the plans, so that it runs where
plans run, in a browser too, and its colours follow the reader's: dark on light, or light on dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from math import log1p, prod, sqrt
from typing import NamedTuple

from obverse.block import Block, brief
from obverse.errors import ObverseError
from obverse.plan import Plan
from obverse.shapes import Shape, shape_text
from obverse.symbols import is_symbolic

__all__ = ["example_of", "hourglass", "page"]

GLASS = 220  # units that the widest shape is wide; a unit is a pixel on a screen
LEFT = 110  # where the glass begins: room for the shapes in front
PITCH = 44  # from one shape to the next
TOP = 30  # room for the headings
LETTER = 6.7  # units that a letter of the labels is wide, at most
LONGEST = 72  # letters of a label; what is longer ends in …

LIGHT = "--ink:#1d2430;--quiet:#5d6675;--line:#c9cfd8;--first:#2f6db3;--second:#b65f14;--waist:#7b3f98"
DARK = "--ink:#e7eaee;--quiet:#a4adba;--line:#465060;--first:#6aa5e6;--second:#eda35c;--waist:#c38be0"
STYLE = f"""
.obverse{{{LIGHT};font:11px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
@media (prefers-color-scheme:dark){{.obverse{{{DARK}}}}}
.obverse text{{fill:var(--ink)}}.obverse .quiet{{fill:var(--quiet)}}.obverse .bold{{font-weight:bold}}
.obverse .first{{fill:var(--first)}}.obverse .second{{fill:var(--second)}}.obverse .waist{{fill:var(--waist)}}
.obverse .end{{text-anchor:end}}.obverse path{{fill-opacity:.22}}.obverse line{{stroke:var(--line)}}
""".strip().replace("\n", "")  # fmt: skip


class _Row(NamedTuple):
    """A shape, the layer that led to it, with the activations and norms that follow, and what it learns."""

    shape: Shape
    label: str = ""
    parameters: int = 0
    half: str = "first"


def hourglass(encoder: Plan, decoder: Plan | None = None) -> str:
    """The hourglass of an encoder and its decoder: every shape as wide as its longest axis, its block beside it.

    >>> from obverse import Chain, Conv, ReLU, mirror
    >>> chain = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 14))
    >>> picture = hourglass(chain.plan((1, 28, 28)), mirror(chain, (1, 28, 28)).plan((12, 1, 1)))
    >>> picture[:4], "Conv(16, 3, stride=2, padding=1) · ReLU" in picture
    ('<svg', True)

    Args:
        encoder: the encoder's plan.
        decoder: the plan of its mirror; without it half an hourglass is drawn.

    Returns:
        The source of an SVG, complete in itself. Its colours are the variables `--ink`, `--quiet`, `--line`, `--first`,
        `--second` and `--waist` of the class `obverse`, for a page that has its own.
    """
    rows = [_Row(encoder.input_shape), *_rows(encoder, "first"), *(_rows(decoder, "second") if decoder else ())]
    waist = sum(row.half == "first" for row in rows) - 1
    rows[waist] = rows[waist]._replace(half="waist")
    right = LEFT + GLASS + 24
    labels = [_code_text(rows[0].shape, rows[waist].shape), *[_shortened(row.label) for row in rows]]
    width, height = round(right + max(map(len, labels)) * LETTER) + 84, TOP + PITCH * (len(rows) - 1) + 24
    ends = [rows[0], rows[waist], *([rows[-1]] if decoder else [])]
    title = " → ".join(shape_text(row.shape) for row in ends)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="obverse" {size} role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        *_body(rows, waist, right, width),
    ]
    return "\n".join([*parts, "</svg>"])


def _rows(plan: Plan, half: str) -> Iterator[_Row]:
    """A row for every block that is not pointwise; what is pointwise stands behind the one before it."""
    row: _Row | None = None
    for step in plan.steps:
        if row is not None and step.block.pointwise:
            label = f"{row.label} · {type(step.block).__name__}"
            row = row._replace(label=label, parameters=row.parameters + step.parameters)
            continue
        if row is not None:
            yield row
        row = _Row(step.output_shape, brief(step.block).removesuffix("()"), step.parameters, half)
    if row is not None:
        yield row


def _body(rows: list[_Row], waist: int, right: int, width: int) -> Iterator[str]:
    widths = _widths([row.shape for row in rows])
    most = max(row.shape[0] for row in rows)
    middle = LEFT + GLASS / 2
    yield _text(LEFT - 12, 12, "shape", "quiet end")
    yield _text(right, 12, "block", "quiet")
    yield _text(width - 6, 12, "parameters", "quiet end")
    before = 0.0
    for number, (row, wide) in enumerate(zip(rows, widths, strict=True)):
        y = TOP + PITCH * number
        thick = 3 + 11 * log1p(row.shape[0]) / log1p(most) if len(row.shape) > 1 else 6
        if number:
            top, bottom, half = y - PITCH, y, "first" if number <= waist else "second"
            path = (
                f"M{middle - before:.1f} {top}H{middle + before:.1f}L{middle + wide:.1f} {bottom}H{middle - wide:.1f}Z"
            )
            yield f'<path class="{half}" d="{path}"/>'
            yield f'<line x1="{middle + (before + wide) / 2 + 4:.1f}" y1="{y - 22}" x2="{right - 5}" y2="{y - 22}"/>'
            yield _text(right, y - 18, _shortened(row.label), "")
            if row.parameters:
                yield _text(width - 6, y - 18, f"{row.parameters:,}", "quiet end")
        yield f'<line x1="{LEFT - 8}" y1="{y}" x2="{middle - wide - 4:.1f}" y2="{y}"/>'
        slab = f'x="{middle - wide:.1f}" y="{y - thick / 2:.1f}" width="{2 * wide:.1f}" height="{thick:.1f}"'
        yield f'<rect class="{row.half}" {slab}/>'
        yield _text(LEFT - 12, y + 4, shape_text(row.shape), f"{row.half} end bold")
        before = wide
    yield _text(right, TOP + PITCH * waist + 4, _code_text(rows[0].shape, rows[waist].shape), "waist bold")


def _widths(shapes: list[Shape]) -> list[float]:
    """Half the width of every shape; as square roots where the largest is more than 64 times the smallest."""
    vectors = all(len(shape) == 1 for shape in shapes)
    spans = [shape[0] if vectors else max(shape[1:], default=1) for shape in shapes]
    most, bent = max(spans), max(spans) > 64 * min(spans)
    parts = [sqrt(span / most) if bent else span / most for span in spans]
    return [max(GLASS / 2 * part, 2) for part in parts]


def _text(x: float, y: float, text: str, how: str) -> str:
    named = f' class="{how}"' if how else ""
    return f'<text x="{x}" y="{y}"{named}>{escape(text)}</text>'


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def _code_text(given: Shape, code: Shape) -> str:
    ratio = prod(given) / prod(code)
    return f"code: {prod(code):,} numbers for {prod(given):,}, {ratio:,.{0 if ratio >= 10 else 1}f} to 1"


# In notebooks --------------------------------------------------------------------------------------------------------

INK = "--ink:currentColor;--quiet:currentColor;--line:#8889;--first:#3f7fc9;--second:#c2711d;--waist:#9a5cb8"
"""Colours for a page that does not say whether it is light or dark: its own for words, and middling ones."""

MOST_ROWS = 60
"""Steps of a plan that are drawn in a notebook: a picture of more is longer than anybody scrolls."""

SIZES = (28, 64, 224, 1024)
EXAMPLES = [(channels, *(size,) * axes) for axes in (2, 1, 3) for size in SIZES[: 5 - axes] for channels in (1, 3, 16)]
"""Shapes at which a chain is drawn that was asked at none: images first."""


def page(encoder: Plan, decoder: Plan | None = None) -> str:
    """What a notebook shows of a plan, or of a model's two: the picture, and under it the table.

    >>> from obverse import Chain, Conv
    >>> shown = page(Chain(Conv(16, 3, stride=2)).plan((1, 28, 28)))
    >>> shown.count("<svg"), shown.count("<tr>"), "16×13×13" in shown
    (1, 4, True)

    A plan made of formulas has a table only.
    """
    plans = [encoder] if decoder is None else [encoder, decoder]
    drawn = not any(map(is_symbolic, encoder.input_shape)) and sum(len(plan.steps) for plan in plans) <= MOST_ROWS
    picture = hourglass(encoder, decoder) if drawn else ""
    own = f'<svg style="{INK};max-width:100%;height:auto"'
    return "".join([picture.replace("<svg", own, 1), *map(_table, plans)])


def example_of(block: Block) -> str | None:
    """What a notebook shows of a block by itself: its plan at the first of a few usual shapes that it takes.

    >>> from obverse import Chain, Conv
    >>> example_of(Chain(Conv(16, 3, stride=2)))[:57]
    '<p>At 1×28×28, for example; <code>plan(shape)</code> says'
    """
    for shape in EXAMPLES:
        try:
            plan = Plan.of(block, shape)
        except ObverseError:
            continue
        said = f"At {shape_text(shape)}, for example; <code>plan(shape)</code> says it for yours."
        return f"<p>{said}</p>{page(plan)}"
    return None


def _table(plan: Plan) -> str:
    head, *rows = plan.cells()
    lines = [_html_row(head, "th"), *[_html_row(row, "td") for row in rows]]
    notes = "".join(f"<p>{escape(note)}</p>" for note in plan.notes)
    return f"<table>{''.join(lines)}</table>{notes}"


def _html_row(cells: Iterable[str], tag: str) -> str:
    aligned = [f'<{tag} style="text-align: {"left" if at < 2 else "right"}">' for at in range(6)]
    return f"<tr>{''.join(f'{begin}{escape(cell)}</{tag}>' for begin, cell in zip(aligned, cells, strict=True))}</tr>"
