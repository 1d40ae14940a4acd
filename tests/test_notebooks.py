"""Chains, plans and models draw themselves in notebooks: a picture and a table, each with every shape."""

from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from torch import nn

from obverse import (
    Autoencoder,
    Chain,
    Conv,
    Decoder,
    Encoder,
    Flatten,
    Linear,
    MaxPool,
    PixelUnshuffle,
    ReLU,
    Sigmoid,
    mirror,
)
from obverse.plan import lines
from obverse.shapes import shape_text
from obverse.sketches import EXAMPLES, MOST_ROWS, example_of
from obverse.testing.strategies import chains_with_shapes

TUTORIAL = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
SVG = "{http://www.w3.org/2000/svg}"


def shown(thing):
    """What a notebook shows, as a tree: broken markup is an error here, as it would be a broken page there."""
    return ElementTree.fromstring(f"<div>{thing._repr_html_()}</div>")


def drawn_shapes(tree):
    return [text.text for text in tree.iter(f"{SVG}text") if "bold" in text.get("class", "") and "×" in text.text]


def rows(tree):
    return ["".join(cell.text or "" for cell in row) for row in tree.iter("tr")]


@given(chains_with_shapes())
def test_a_plan_is_a_picture_and_a_table(drawn):
    chain, shape = drawn
    plan = chain.plan(shape)
    tree = shown(plan)
    assert len(list(tree.iter(f"{SVG}svg"))) == 1
    assert len(rows(tree)) == len(plan.steps) + 3
    texts = [text.text for text in tree.iter(f"{SVG}text")]
    assert shape_text(plan.input_shape) in texts
    assert shape_text(plan.output_shape) in texts


@pytest.mark.parametrize("make", [Autoencoder, Encoder, Decoder])
def test_a_model_is_its_hourglass_and_its_plans(make):
    model = make(TUTORIAL, (1, 28, 28))
    down, up = ["1×28×28", "16×14×14", "32×7×7", "12×1×1"], ["12×1×1", "32×7×7", "16×14×14", "1×28×28"]
    wanted = {Autoencoder: [*down, *up[1:]], Encoder: down, Decoder: up}[make]
    tree = shown(model)
    assert drawn_shapes(tree) == wanted
    assert len(list(tree.iter("table"))) == (2 if make is Autoencoder else 1)


def test_so_is_one_whose_encoder_was_there_before():
    module = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2))
    model = Autoencoder(module, (1, 28, 28), output=Sigmoid())
    tree = shown(model)
    # its decoder is a graph: one step of the picture, and a heading with a row for each of its parts in the table
    assert drawn_shapes(tree) == ["1×28×28", "4×13×13", "8×6×6", "1×28×28"]
    assert len(rows(tree)) == 3 + 3 + len(lines(model.decoder.plan)) + 3


def test_what_a_tied_decoder_borrows_is_counted_once():
    model = Autoencoder(TUTORIAL, (1, 28, 28), tied=True)
    (total,) = [row for row in rows(shown(model)) if "12×1×1 → 1×28×28" in row]
    assert "1 to 65.349" in total  # of parameters it has 32 + 16 + 1 biases of its own


@pytest.mark.parametrize(
    ("chain", "at"),
    [
        (TUTORIAL, "1×28×28"),
        (Chain(Conv(8, 3), Flatten(), Linear(3)), "1×28×28"),
        (Chain(Conv(8, (5,), stride=2)), "1×28"),
        (Chain(MaxPool((2, 2, 2))), "1×28×28×28"),
        (Chain(PixelUnshuffle(2), Conv(8, 40)), "1×224×224"),
        (mirror(Chain(Conv(8, 3, groups=1)), (16, 28, 28)), "1×28×28"),
        (Chain(Conv(8, 3, groups=8)), "16×28×28"),
    ],
    ids=str,
)
def test_a_chain_is_drawn_at_a_shape_that_it_takes_and_says_at_which(chain, at):
    tree = shown(chain)
    assert tree.find("p").text.startswith(f"At {at}, for example")
    assert at in drawn_shapes(tree)


def test_a_chain_that_takes_none_of_the_examples_stays_text():
    chain = Chain(Conv(8, 3, groups=7))
    assert example_of(chain) is None
    assert chain._repr_html_() is None
    assert all(shape[0] % 7 for shape in EXAMPLES)


def test_what_is_too_long_to_scroll_past_is_a_table():
    plan = Chain(*[ReLU()] * (MOST_ROWS + 1)).plan((1, 9, 9))
    assert "<svg" not in plan._repr_html_()
    assert "<svg" in Chain(*[ReLU()] * MOST_ROWS).plan((1, 9, 9))._repr_html_()


def test_formulas_are_a_table():
    pytest.importorskip("sympy")
    tree = shown(TUTORIAL.plan((1, "H", "W")))
    assert list(tree.iter(f"{SVG}svg")) == []
    assert any("(H + 1)//2" in row for row in rows(tree))


def test_its_words_have_the_colour_of_the_page():
    (picture,) = shown(TUTORIAL.plan((1, 28, 28))).iter(f"{SVG}svg")
    assert "--ink:currentColor" in picture.get("style")


def test_a_model_that_takes_no_memory_is_drawn_too():
    model = Autoencoder(TUTORIAL, (1, 28, 28), device="meta")
    assert next(model.parameters()).device == torch.device("meta")
    assert "<svg" in model._repr_html_()
