"""The pictures: what they say is right, nothing lies on anything else, and matplotlib is left as it was."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from obverse import (
    Autoencoder,
    BatchNorm,
    Chain,
    Conv,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool,
    ObverseError,
    ReLU,
    ShapeError,
    Sigmoid,
    Skip,
)
from obverse.drawing import (
    code_walk,
    convolution,
    convolution_film,
    hourglass,
    loss_curves,
    overlap_map,
    pictures,
    receptive_fields,
    reconstructions,
    remainder_fan,
    size_ladder,
    transposed_convolution,
)
from obverse.training import Epoch, History

TUTORIAL = Chain(
    Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7)
)  # fmt: skip
STAGE = (Conv(64, 3, padding=1, bias=False), BatchNorm(), LeakyReLU(0.2), Dropout(0.1))
ENCODERS = {
    "tutorial": (TUTORIAL, (1, 28, 28)),
    "vectors": (Chain(Linear(128), ReLU(), Linear(32)), (784,)),
    "one block": (Linear(3), (20,)),
    "sound": (Chain(*[Conv(64, 9, stride=4, padding=4), ReLU()] * 4, Conv(8, 9)), (2, 16000)),
    "volume": (
        Chain(BatchNorm(), Conv(8, (3, 5, 3), stride=(2, 1, 2), padding=1, dilation=(1, 2, 1))),
        (1, 20, 31, 64),
    ),
    "thirty layers": (Chain(*[*STAGE * 4, MaxPool(2)] * 6, Flatten(), Linear(32)), (3, 256, 192)),
}


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes_of(figure, dpi):
    """The extent of every piece of text, in pixels, by text."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    unseen = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in unseen_labels(axis)}
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip() and text not in unseen]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]


def unseen_labels(axis):
    """Labels of ticks beyond the axes, or of axes turned off, which matplotlib keeps and never draws."""
    low, high = sorted(axis.get_view_interval()) if axis.axes.axison else (0, -1)
    return [
        label for label, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True) if not low <= at <= high
    ]


def assert_legible(figure, dpi=150):
    boxes = boxes_of(figure, dpi)
    for (one, box), (other, another) in itertools.combinations(boxes, 2):
        width = min(box.x1, another.x1) - max(box.x0, another.x0)
        height = min(box.y1, another.y1) - max(box.y0, another.y0)
        assert width <= 1 or height <= 1, f"{one!r} and {other!r} overlap by {width:.0f}×{height:.0f} pixels"
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{text!r} leaves the page"
    return len(boxes)


def autoencoder(name, **settings):
    encoder, shape = ENCODERS[name]
    return Autoencoder(encoder, shape, device="meta", **settings)


# ---------------------------------------------------------------------------------------------------- the hourglass


@pytest.mark.parametrize("name", ENCODERS)
def test_every_word_of_an_hourglass_can_be_read(name):
    assert assert_legible(hourglass(autoencoder(name))) > 6


def test_the_tutorials_sizes_are_seen_and_written():
    figure = hourglass(autoencoder("tutorial", output=Sigmoid()))
    slabs = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    widest = slabs[0].get_width()
    assert [round(28 * slab.get_width() / widest, 6) for slab in slabs] == [28, 14, 7, 1, 7, 14, 28]
    assert [slab.get_y() for slab in slabs] == sorted((slab.get_y() for slab in slabs), reverse=True)
    half = [slab.get_height() for slab in slabs[:4]]
    assert half == pytest.approx([slab.get_height() for slab in slabs[:2:-1]])
    assert half[0] < half[3] < half[1] < half[2]  # 1, 12, 16, 32 channels
    shapes = [text for text in texts_of(figure) if text[0].isdigit() and text.count("×") == 2]
    assert shapes == ["1×28×28", "16×14×14", "32×7×7", "12×1×1", "32×7×7", "16×14×14", "1×28×28"]
    assert "code: 12 numbers for 784, 65 to 1" in texts_of(figure)


def test_what_keeps_the_shape_stands_behind_its_layer():
    texts = texts_of(hourglass(autoencoder("tutorial", output=Sigmoid())))
    place = texts.index("Conv(16, 3, stride=2, padding=1)")
    assert texts[place + 1 : place + 3] == [" · ReLU", "160"]
    place = texts.index("ConvTranspose(1, 3, stride=2, padding=1, output_padding=1)")
    assert texts[place + 1 : place + 3] == [" · Sigmoid", "145"]
    assert texts_of(hourglass(autoencoder("volume"))).count("BatchNorm") == 1  # in front of every layer: its own row


def test_vectors_are_as_wide_as_they_are_long():
    slabs = [p for p in hourglass(autoencoder("vectors")).axes[0].patches if isinstance(p, Rectangle)]
    assert [round(784 * slab.get_width() / slabs[0].get_width()) for slab in slabs] == [784, 128, 32, 128, 784]


def test_bent_widths_are_announced():
    assert "widths are square roots" in texts_of(hourglass(autoencoder("sound")))
    assert "widths are square roots" not in texts_of(hourglass(autoencoder("tutorial")))


def test_what_an_encoders_cells_see_is_written_and_what_goes_round_the_code_is_drawn():
    stage = (Conv(8, 3, stride=2, padding=1), Skip())
    model = Autoencoder(Chain(*stage, *stage, *stage, Conv(4, 3)), (1, 28, 29), device="meta")
    figure = hourglass(model)
    assert_legible(figure)
    texts = texts_of(figure)
    for step in model.encoder.plan.steps:
        assert f"{step.receptive_field[0]}×{step.receptive_field[1]}" in texts
    ways = [line for line in figure.axes[0].lines if line.get_gid() == "round"]
    given = [step for step in model.encoder.plan.steps if step.block.around == "gives"]
    assert len(ways) == len(given) == 3
    assert [f"{step.block.numbers_around(step.input_shape):,}" in texts for step in given] == [True] * len(given)
    spans = sorted((max(way.get_ydata()), min(way.get_ydata()), min(way.get_xdata())) for way in ways)
    for (high, low, x), (outer_high, outer_low, outer_x) in itertools.pairwise(spans):
        assert outer_low < low < high < outer_high  # one within the other, each further out
        assert outer_x < x


def test_two_plans_are_as_good_as_a_model():
    model = autoencoder("tutorial")
    assert texts_of(hourglass(model.encoder.plan, model.decoder.plan)) == texts_of(hourglass(model))


def test_no_plans_no_hourglass():
    with pytest.raises(ObverseError, match="Linear gives none") as caught:
        hourglass(torch.nn.Linear(2, 3))
    assert "hourglass(encoder.plan(shape), model.decoder.plan)" in caught.value.repair


# --------------------------------------------------------------------------------------------------------- the loss


def history_of(train, held_out):
    epochs = itertools.zip_longest(train, held_out)
    return History(tuple(Epoch(n, loss, other, 1e-3, 4500, 0.9) for n, (loss, other) in enumerate(epochs, start=1)))


@pytest.mark.parametrize(
    ("train", "held_out"),
    [([0.2, 0.05, 0.012], [0.1, 0.04, 0.015]), ([0.2], [0.1]), ([0.2, 0.1], [0.2, 0.1]), ([0.3, -0.5], [])],
    ids=["usual", "one epoch", "on top of each other", "below zero, none held out"],
)
def test_the_last_losses_are_written_where_they_can_be_read(train, held_out):
    figure = loss_curves(history_of(train, held_out))
    wanted = [f"training {train[-1]:.4f}"] + [f"held out {loss:.4f}" for loss in held_out[-1:]]
    assert sorted(texts_of(figure)) == sorted(wanted)
    assert assert_legible(figure) >= 4
    drawn = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == len(train)]
    assert any(np.array_equal(line, train) for line in drawn)


def test_an_interrupted_training_says_so():
    history = History(history_of([0.2, 0.1], []).epochs, interrupted=True)
    assert loss_curves(history).axes[0].get_title(loc="left") == "Loss, interrupted in epoch 2"
    assert texts_of(loss_curves(History(interrupted=True))) == ["no epoch yet"]


# --------------------------------------------------------------------------------------------------- reconstructions


def test_originals_stand_above_what_came_back_with_the_error_below():
    originals = torch.rand(12, 1, 28, 20)
    back = originals.clone()
    back[1] = originals[1] * 0.5
    figure = reconstructions(originals, back.requires_grad_(), labels="abcdefghij")
    upper, lower = figure.axes[:10], figure.axes[10:]
    assert len(lower) == 10
    for index in range(10):
        np.testing.assert_allclose(upper[index].images[0].get_array(), originals[index, 0])
        np.testing.assert_allclose(lower[index].images[0].get_array(), back[index, 0].detach())
        assert upper[index].get_position().y0 >= lower[index].get_position().y1
    error = (originals[1] - back[1]).square().mean().item()
    assert [axes.get_xlabel() for axes in lower[:2]] == [".0000", f"{error:.4f}".lstrip("0")]
    assert [axes.get_title() for axes in upper] == list("abcdefghij")
    assert assert_legible(figure) == 10 + 10 + 3


def test_pixels_to_255_and_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    figure = reconstructions(pixels, pixels / 255)
    assert [axes.get_xlabel() for axes in figure.axes[3:]] == [".0000"] * 3
    assert figure.axes[0].images[0].get_array().shape == (8, 8, 3)
    assert assert_legible(reconstructions(pixels[:1], pixels[:1]))


@pytest.mark.parametrize("shape", [(4, 28, 28), (4, 2, 28, 28), (0, 1, 28, 28), (4, 784)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ShapeError, match=r"no pictures .*\nGive N×1×H×W"):
        reconstructions(torch.zeros(shape), torch.zeros(shape))


def test_rows_of_different_pictures_are_refused():
    with pytest.raises(ShapeError, match="differ: 4×28×28×1 and 4×27×28×1"):
        reconstructions(torch.zeros(4, 1, 28, 28), torch.zeros(4, 1, 27, 28))


# -------------------------------------------------------------------------------------------------- in every picture

PICTURES = {
    "hourglass": lambda **how: hourglass(autoencoder("tutorial"), **how),
    "loss": lambda **how: loss_curves(history_of([0.2, 0.1], [0.3, 0.2]), **how),
    "reconstructions": lambda **how: reconstructions(torch.rand(10, 1, 9, 9), torch.rand(10, 1, 9, 9), **how),
    "skips": lambda **how: hourglass(autoencoder("tutorial", skips="concat"), **how),
    "convolution": lambda **how: convolution((6, 5), (3, 2), 2, (1, 0), **how),
    "row": lambda **how: convolution(11, 3, 3, 1, 2, **how),
    "transposed": lambda **how: transposed_convolution((3, 3), 3, 2, 1, 1, **how),
    "film": lambda **how: convolution_film((5, 5), 3, 2, **how).figure,
    "fan": lambda **how: remainder_fan(14, 3, 2, 1, **how),
    "map": lambda **how: overlap_map((5, 5), 3, 2, 1, **how),
    "fields": lambda **how: receptive_fields(TUTORIAL.plan((1, 28, 28)), **how),
    "ladder": lambda **how: size_ladder(TUTORIAL, (1, 27, 31), (1, 28, 28), **how),
    "pictures": lambda **how: pictures(torch.rand(5, 3, 8, 9), columns=3, labels="abcde", **how),
    "walk": lambda **how: code_walk(tiny(), torch.rand(2, 1, 9, 9), torch.rand(2, 1, 9, 9), **how),
}


def tiny():
    return Autoencoder(Chain(Conv(2, 3, stride=2)), (1, 9, 9), output=Sigmoid())


def luminance(colour):
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_words_stand_out_from_their_ground(name, theme):
    """A contrast of 3 at least (WCAG 2.2, for large and for bold text); what is plain and small has 4.5."""
    figure = PICTURES[name](theme=theme)
    paper = luminance(figure.get_facecolor())
    assert (paper > 0.5) == (theme == "light")
    for text in figure.findobj(mpl.text.Text):
        if text.get_text():
            ground = luminance(mpl.colors.to_rgb(text.get_gid())) if text.get_gid() else paper  # text on a painted cell
            light, dark = sorted((luminance(mpl.colors.to_rgb(text.get_color())), ground), reverse=True)
            bold = text.get_fontweight() == "bold"
            assert (light + 0.05) / (dark + 0.05) >= (3 if bold else 4.5), (text.get_text(), text.get_color())


@pytest.mark.parametrize("name", sorted(set(PICTURES) - {"loss", "film"}))
def test_every_word_of_every_picture_can_be_read(name):
    assert_legible(PICTURES[name]())


@pytest.mark.parametrize("name", PICTURES)
def test_a_theme_that_does_not_exist(name):
    with pytest.raises(ObverseError, match=r"theme='sepia' is unknown.\nGive one of 'light', 'dark'"):
        PICTURES[name](theme="sepia")


@pytest.mark.parametrize("name", PICTURES)
def test_settings_of_matplotlib_stay(name, tmp_path):
    before = dict(mpl.rcParams)
    figure = PICTURES[name]()
    figure.savefig(tmp_path / "picture.png")
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_never_loaded():
    script = "import sys, obverse.drawing; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", script], timeout=60).returncode == 0


def test_a_missing_matplotlib_is_named_with_its_remedy(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("obverse.drawing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'needs the package matplotlib.\nInstall .*pip install "obverse\[drawing\]"'):
        importlib.import_module("obverse.drawing")
