"""What is drawn of convolutions is what PyTorch does: cells that are drawn as seen are those that have a gradient."""

from __future__ import annotations

import re
from itertools import product
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from obverse import Chain, Conv, Linear, MaxPool, ObverseError, ReLU, ShapeError, arithmetic
from obverse.drawing import (
    code_walk,
    convolution,
    convolution_film,
    overlap_map,
    pictures,
    receptive_fields,
    remainder_fan,
    size_ladder,
    transposed_convolution,
    transposed_convolution_film,
)

FEWER = settings(max_examples=max(settings().max_examples // 2, 20))  # each example draws a figure
CONV = (functional.conv1d, functional.conv2d)
CONV_TRANSPOSE = (functional.conv_transpose1d, functional.conv_transpose2d)


def middles(figure, name):
    """The middles of the squares that are drawn under a name, as (row, column); rows and columns are x and y."""
    patches = [patch for patch in figure.axes[0].patches if patch.get_gid() == name]
    squares = [square for patch in patches for square in patch.get_path().vertices.reshape(-1, 5, 2)]
    return {tuple(float(at) for at in np.round(square[:4].mean(0)[::-1], 6)) for square in squares}


def cells(figure, name, rank):
    """The positions of the input that are drawn under a name."""
    return {(int(column),) if rank == 1 else (int(row), int(column)) for row, column in middles(figure, name)}


def footprint(operation, sizes, kernel, cell, **settings):
    """The input cells that an output cell depends on, and the output's sizes."""
    image = torch.rand(1, 1, *sizes, requires_grad=True)
    made = operation[len(sizes) - 1](image, torch.ones(1, 1, *kernel), **settings)
    made[(0, 0, *cell)].backward()
    return {tuple(map(int, at)) for at in image.grad[0, 0].nonzero()}, tuple(made.shape[2:])


@st.composite
def drawn_settings(draw, transposed=False):
    """Sizes and settings for one axis or two, with an output cell."""
    rank = draw(st.integers(1, 2))
    axes = []
    for _ in range(rank):
        size, kernel, stride = (
            draw(st.integers(1, 5 if transposed else 9)),
            draw(st.integers(1, 4)),
            draw(st.integers(1, 3)),
        )
        padding, dilation = draw(st.integers(0, 3)), draw(st.integers(1, 3))
        more = (draw(st.integers(0, max(stride, dilation) - 1)),) if transposed else ()
        after = arithmetic.conv_transpose_output_size if transposed else arithmetic.conv_output_size
        try:
            made = after(size, kernel, stride, padding, *more, dilation)
        except ShapeError:
            assume(False)
        axes.append((size, kernel, stride, padding, *more, dilation, draw(st.integers(0, made - 1))))
    return tuple(zip(*axes, strict=True))


@given(drawn_settings())
@example(((6, 6), (3, 3), (2, 2), (1, 1), (1, 1), (1, 2)))
def test_what_a_convolution_is_drawn_to_see_has_a_gradient(drawn):
    size, kernel, stride, padding, dilation, cell = drawn
    rank = len(size)
    figure = convolution(size, kernel, stride, padding, dilation, cell=cell)
    seen, made = footprint(CONV, size, kernel, cell, stride=stride, padding=padding, dilation=dilation)
    assert cells(figure, "seen", rank) == seen
    assert cells(figure, "input", rank) == set(product(*map(range, size)))
    assert len(middles(figure, "output")) == np.prod(made)
    read = seen | cells(figure, "nothing", rank)
    assert len(read) == np.prod(kernel)
    hatched = {round(float(x)) for x in _hatched(figure)}
    remainder = arithmetic.remainder(size[-1], kernel[-1], stride[-1], padding[-1], dilation[-1])
    last = size[-1] + padding[-1]
    if rank == 1:
        assert hatched == set(range(last - remainder, last))


@given(drawn_settings(transposed=True))
@example(((3, 3), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1), (4, 4)))
@example(((4,), (2,), (1,), (2,), (0,), (1,), (0,)))  # the padding cuts cells off
def test_what_a_transposed_convolution_is_drawn_to_see_has_a_gradient(drawn):
    size, kernel, stride, padding, more, dilation, cell = drawn
    rank = len(size)
    figure = transposed_convolution(size, kernel, stride, padding, more, dilation, cell=cell)
    how = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation}
    seen, made = footprint(CONV_TRANSPOSE, size, kernel, cell, **how)
    spread = {tuple(at * s for at, s in zip(place, stride, strict=True)) for place in seen}
    assert cells(figure, "seen", rank) == spread
    assert len(middles(figure, "output")) == np.prod(made)
    everywhere = set(product(*(range(0, s * n, s) for n, s in zip(size, stride, strict=True))))
    assert cells(figure, "input", rank) | cells(figure, "cut", rank) >= everywhere
    assert len(cells(figure, "seen", rank) | cells(figure, "nothing", rank)) == np.prod(kernel)


def _hatched(figure):
    """Columns of hatched cells; each has three strokes, of which the longest runs through its middle."""
    for patch in figure.axes[0].patches:
        if patch.get_gid() == "remainder":
            yield from patch.get_path().vertices.reshape(-1, 6, 2)[:, 2:4, 0].mean(1)


def test_the_cell_that_is_marked_is_the_one_that_was_asked_for():
    figure = convolution((5, 6), 3, cell=(1, 2))
    places = sorted(middles(figure, "output"))
    assert middles(figure, "cell") == {places[1 * 4 + 2]}
    row = convolution(9, 3, stride=2, cell=3)
    assert middles(row, "cell") == {sorted(middles(row, "output"))[3]} == {(-2.4, 7.0)}  # over its window's middle


def test_a_films_frames_are_the_stills_in_order(tmp_path):
    film = transposed_convolution_film((2, 2), 2, stride=2, output_padding=1)
    assert len(film) == 25
    for number, cell in enumerate(product(range(5), repeat=2)):
        still = transposed_convolution((2, 2), 2, stride=2, output_padding=1, cell=cell)
        assert middles(film.figure, f"frame-{number}-seen") == middles(still, "seen")
        assert middles(film.figure, f"frame-{number}-cell") == middles(still, "cell")
    film.save(tmp_path / "film.gif", seconds=0.5, dpi=40)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 25
        assert gif.info["duration"] == 500
        assert gif.info["loop"] == 0
    assert all(artist.get_visible() for frame in film.frames for artist in frame)


def test_each_frame_of_a_gif_shows_its_own_window(tmp_path):
    film = convolution_film(4, 2)
    images = [np.asarray(image.convert("RGB")) for image in film.images(dpi=60)]
    blue = [np.argwhere(abs(image.astype(int) - (0x2F, 0x6D, 0xB3)).sum(2) < 40).mean(0)[1] for image in images]
    assert len(blue) == 3
    assert blue == sorted(blue)
    assert blue[2] - blue[0] > 20


def test_an_animated_svg_shows_one_frame_at_a_time():
    svg = convolution_film((4, 4), 3, padding=1).svg(seconds=0.5)
    root = ElementTree.fromstring(svg)
    ids = {int(found[1]) for element in root.iter() if (found := re.match(r"frame-(\d+)-", element.get("id", "")))}
    assert ids == set(range(16))
    delays = dict(re.findall(r'\[id\^="frame-(\d+)-"\]\{animation-delay:([\d.]+)s\}', svg))
    assert {int(frame): float(delay) for frame, delay in delays.items()} == {frame: frame / 2 for frame in range(16)}
    assert "shown 8s step-end infinite" in svg
    assert "6.25%{visibility:hidden}" in svg
    assert "prefers-reduced-motion" in svg
    assert len(svg) < 40_000
    assert "<script" not in svg


def test_a_film_is_written_as_its_name_says(tmp_path):
    film = convolution_film(4, 2)
    film.save(tmp_path / "film.svg")
    assert (tmp_path / "film.svg").read_text() == film.svg()
    assert film.svg() == convolution_film(4, 2).svg()  # the same bytes each time
    assert "base64" in film._repr_html_()
    with pytest.raises(ObverseError, match=r"no .mp4.\nName it .gif or .svg"):
        film.save(tmp_path / "film.mp4")


@pytest.mark.parametrize(
    ("draw", "reason", "repair"),
    [
        (lambda: convolution((1, 2, 3), 1), "3 axes", "one or two"),
        (lambda: convolution((5, 5), (3, 3, 3)), "3 numbers, and the input 2", "one for each axis"),
        (lambda: convolution(5, 7), "the kernel spans 7", "padding=1"),
        (lambda: convolution(224, 3, 2, 1), "226 cells", "Draw a smaller one: 4 shows"),
        (lambda: transposed_convolution(100, 3), "104 cells", "3 shows"),
        (lambda: convolution((5, 5), 3, cell=(3, 0)), "none of the 3×3", r"up to \(2, 2\)"),
        (lambda: convolution(5, 3, cell=-1), "none of the 3", "up to 2"),
        (lambda: convolution_film((20, 20), 3), "324 cells", "smaller input"),
        (lambda: remainder_fan(1, 1, padding=3), "padding=3", "less padding"),
        (lambda: overlap_map((1, 2, 3), 2), "3 axes", "one or two"),
        (lambda: overlap_map(40, 3, 2), "81 cells", "pattern repeats"),
        (lambda: receptive_fields(Chain(Linear(3)).plan((9,))), "no spatial axis", "no receptive field"),
        (lambda: receptive_fields(Chain(Conv(3, 1)).plan((1, 9)), axis=1), "axis 1", "below 1"),
        (lambda: code_walk(None, torch.rand(1, 1, 4, 4), torch.rand(2, 1, 4, 4)), "differ", "as many"),
        (lambda: code_walk(None, torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), steps=1), "at least 2", "steps=2"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_what_can(draw, reason, repair):
    with pytest.raises(ShapeError, match=f"(?s){reason}.*\n.*{repair}"):
        draw()


def test_the_advice_of_a_smaller_input_is_one_that_can_be_drawn_and_has_the_same_remainder():
    for size in (223, 224):
        with pytest.raises(ShapeError) as caught:
            convolution(size, 3, 2, 1)
        smaller = int(re.search(r"smaller one: (\d+)", str(caught.value))[1])
        assert convolution(smaller, 3, 2, 1)
        assert arithmetic.remainder(smaller, 3, 2, 1) == arithmetic.remainder(size, 3, 2, 1)


# ---------------------------------------------------------------------------------------------- sizes, sight, images


@FEWER
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2), st.integers(1, 2))
def test_a_fan_has_every_size_with_its_remainder(output, kernel, stride, padding, dilation):
    sizes = arithmetic.input_sizes(output, kernel, stride, padding, dilation)
    assume(sizes)
    figure = remainder_fan(output, kernel, stride, padding, dilation)
    texts = [text.get_text() for text in figure.axes[0].texts]
    told = [int(text.removeprefix("output_padding=")) for text in texts if text.startswith("output_padding=")]
    assert told == [arithmetic.remainder(size, kernel, stride, padding, dilation) for size in sizes]
    assert [int(text) for text in texts if text.isdigit()] == [output, *sizes]
    hatched = [
        patch.get_path().vertices.reshape(-1, 6, 2)
        for patch in figure.axes[0].patches
        if patch.get_gid() == "remainder"
    ]
    assert sorted(map(len, hatched)) == [remainder for remainder in sorted(told) if remainder]


@FEWER
@given(drawn_settings(transposed=True))
def test_an_overlap_map_counts_what_ones_through_ones_count(drawn):
    size, (kernel, *_), (stride, *_), (padding, *_), (more, *_), (dilation, *_), _ = drawn
    assume(more < max(stride, dilation))
    how = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation}
    try:
        figure = overlap_map(size, kernel, **how)
    except ShapeError:
        assume(False)
    ones = torch.ones(1, 1, *size)
    counts = CONV_TRANSPOSE[len(size) - 1](ones, torch.ones(1, 1, *(kernel,) * len(size)), **how)[0, 0]
    counts = counts.reshape(-1, counts.shape[-1]).round().int()
    for count in counts.unique().tolist():
        assert middles(figure, f"reached-{count}") == {tuple(map(float, at)) for at in (counts == count).nonzero()}


def test_receptive_fields_are_those_of_the_plan_in_their_place():
    plan = Chain(Conv(4, 3, stride=2), ReLU(), MaxPool(2), Conv(4, 5, padding=2)).plan((1, 40, 28))
    figure = receptive_fields(plan)
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_text().startswith("sees")]
    assert texts == ["sees 3 of 40", "sees 5 of 40", "sees 21 of 40"]
    drawn = [patch for patch in figure.axes[0].patches if patch.get_gid() == "sees"]
    for patch, (place, step) in zip(drawn, [(9, plan.steps[0]), (4, plan.steps[2]), (4, plan.steps[3])], strict=True):
        image = torch.zeros(1, 1, 40, 28, requires_grad=True)
        network = plan.chain[: int(step.place) + 1].build((1, 40, 28))
        torch.nn.init.ones_(network[0].weight)
        network(image + torch.rand(40, 28))[0, :, place].sum().backward()
        rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
        assert patch.get_x() <= rows.min() - 0.5
        assert patch.get_x() + patch.get_width() >= rows.max() + 0.5
        assert patch.get_width() <= step.receptive_field[0]


def test_a_ladder_shows_where_a_fixed_decoder_drifts():
    conv = Conv(4, 3, stride=2, padding=1)
    figure = size_ladder(Chain(conv, ReLU(), conv), (1, 29, 28), planned=(1, 28, 28))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:3] == ["encoder", "mirror", "fixed for 28×28"]
    assert texts[3:] == ["29×28", "= 29×28", "≠ 32×28", "15×14", "= 15×14", "≠ 16×14", "8×7", "8×7", "8×7"]
    model = torch.nn.Sequential(*[torch.nn.ConvTranspose2d(4, 4, 3, 2, 1, 1) for _ in range(2)])
    assert model(torch.rand(1, 4, 8, 7)).shape[2:] == (32, 28)


def test_a_ladder_through_an_unpooling_for_another_size_ends_there():
    texts = [
        text.get_text() for text in size_ladder(Chain(Conv(4, 3), MaxPool(2)), (1, 30, 30), (1, 9, 9)).axes[0].texts
    ]
    assert "refused" in texts or any("≠" in text for text in texts)


def test_a_walk_goes_straight_from_code_to_code_and_leaves_the_model_as_it_was():
    sizes = set()

    class Model:
        def encode(self, images):
            return images.mean((1, 2, 3), keepdim=True)

        def decode(self, code, size):
            sizes.add(tuple(size))
            return code.expand(-1, 1, *size)

    start, end = torch.full((2, 1, 5, 6), 0.2), torch.full((2, 1, 5, 6), 1.0)
    figure = code_walk(Model(), start, end, steps=5)
    means = [axes.images[0].get_array().mean() for axes in figure.axes]
    assert means == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0] * 2)
    assert sizes == {(5, 6)}


def test_a_model_that_was_training_goes_on():
    class Model(torch.nn.Module):
        def encode(self, images):
            assert not self.training
            return images

        def decode(self, code, size):
            return code

    model = Model()
    code_walk(model, torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), steps=2)
    assert model.training


def test_a_grid_has_rows_and_labels():
    figure = pictures(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), columns=2, labels="abcde")
    assert [axes.get_title() for axes in figure.axes] == list("abcde")
    assert [float(axes.images[0].get_array().item() * 255) for axes in figure.axes] == pytest.approx(list(range(5)))
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes}) == 3
