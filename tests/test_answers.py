"""What the command line and the page say: shapes are read as people write them, and pictures hold every shape."""

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from obverse import Autoencoder, Chain, Conv, ObverseError, ReLU, ShapeError, mirror
from obverse.answers import answer, answer_text, obverse_code, read_shape, sizes_data
from obverse.expressions import parse
from obverse.plan import Plan
from obverse.shapes import shape_text
from obverse.sketches import hourglass
from obverse.testing.strategies import chains_with_shapes, graphs, shapes


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=5).map(tuple),
    st.sampled_from(["x", "×", "X", ",", " x ", "*"]),
)
def test_a_shape_is_read_however_it_is_written(shape, between):
    text = between.join(map(str, shape))
    assert read_shape(text) == read_shape(f"({text})") == read_shape(f" [{text}] ") == shape
    assert read_shape(str(shape)) == shape


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "1xx28", "a", "1.5x2", "28 by 28", "0x3", "1x-3", "1x28x28x", "९x३", "9" * 30]
)
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(ShapeError) as caught:
        read_shape(text)
    assert "28" in caught.value.repair


@pytest.mark.parametrize("batch", ["N", "b", "None", "?", "-1", "batch"])
def test_a_batch_is_recognised(batch):
    with pytest.raises(ShapeError, match=r"Leave the batch out: \(1, 28, 28\)"):
        read_shape(f"{batch}x1x28x28")


@given(chains_with_shapes(most=4))
def test_the_code_to_paste_builds_the_model(drawn):
    chain, shape = drawn
    names = {}
    exec(obverse_code(chain, shape).replace("model = Autoencoder(encoder", "asked = (encoder"), names)
    assert names["asked"] == (chain, shape)


def test_it_says_the_style_and_runs():
    names = {}
    exec(obverse_code(Conv(8, 3, stride=2), (1, 9, 9), "resize"), names)
    assert isinstance(names["model"], Autoencoder)
    assert type(names["model"].decoder[0]).__name__ == "ResizeConv2d"


@given(shapes().flatmap(lambda shape: st.tuples(graphs(shape, depth=2), st.just(shape))))
def test_a_graph_to_paste_is_imported_with_all_that_it_is_wired_with(drawn):
    block, shape = drawn
    assume(hasattr(block, "graph"))
    names = {}
    exec(obverse_code(block.graph(shape), shape).replace("model = Autoencoder(encoder", "asked = (encoder"), names)
    assert names["asked"][0] == block.graph(shape)


@given(chains_with_shapes(most=5))
def test_the_sketch_is_sound_xml_and_holds_every_shape(drawn):
    chain, shape = drawn
    plan = chain.plan(shape)
    decoder = Plan.of(mirror(chain, shape), plan.output_shape)
    picture = ElementTree.fromstring(hourglass(plan, decoder))
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    for each in (plan.input_shape, plan.output_shape, decoder.output_shape):
        assert shape_text(each) in texts
    _, _, width, height = map(float, picture.get("viewBox").split())
    for slab in picture.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, wide, high = (float(slab.get(name)) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height


def test_the_sketch_is_drawn_to_scale():
    chain = Chain(Conv(4, 2, stride=2), Conv(8, 2, stride=2))
    picture = ElementTree.fromstring(hourglass(chain.plan((1, 40, 40)), mirror(chain, (1, 40, 40)).plan((8, 10, 10))))
    widths = [float(slab.get("width")) for slab in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == [220, 110, 55, 110, 220]
    halves = [path.get("class") for path in picture.iter("{http://www.w3.org/2000/svg}path")]
    assert halves == ["first", "first", "second", "second"]


def test_what_is_written_in_a_picture_is_text():
    plan = Chain(Conv(4, 3)).plan((1, 9, 9))
    named = type('A<b>&"c"', (ReLU,), {})()
    assert "A&lt;b&gt;&amp;" in hourglass(Chain(Conv(4, 3), named).plan((1, 9, 9)), plan)


@given(chains_with_shapes(most=3))
def test_the_answer_is_plain_and_its_sizes_are_taken(drawn):
    chain, shape = drawn
    said = json.loads(json.dumps(answer(chain, shape)))
    assert parse(said["encoder"]) == chain
    assert tuple(said["mirror"]["plan"]["output_shape"]) == shape
    assert [axis["size"] for axis in said["sizes"]] == list(shape[1:])


def test_sizes_of_the_tutorial():
    encoder = parse("Conv(16, 3, stride=2, padding=1) >> ReLU() >> Conv(32, 3, stride=2, padding=1) >> Conv(12, 7)")
    said = {"size": 28, "takes": "n ≥ 25", "no_remainder": "n ≡ 1 mod 4, n ≥ 25", "same_code": "25..28"}
    assert sizes_data(encoder, (1, 28, 28)) == [{"axis": axis} | said for axis in (1, 2)]


def test_sizes_of_what_is_not_taken_are_left_open():
    assert sizes_data(Conv(3, 9), (1, 5)) == [{"axis": 1, "size": 5, "takes": "", "no_remainder": "", "same_code": ""}]


@pytest.mark.parametrize(
    ("expression", "shape", "at"),
    [("Convv(3)", "1x28x28", "expression"), ("ReLU()", "x", "shape"), ("Conv(3, 9)", "1x5x5", "shape")],
)
def test_the_page_is_told_which_field_is_wrong(expression, shape, at):
    said = json.loads(answer_text(expression, shape))
    assert said["at"] == at
    with pytest.raises(ObverseError) as caught:
        answer(parse(expression), read_shape(shape))
    assert said["wrong"] == str(caught.value)


def test_answers_need_no_torch():
    program = (
        "import sys; sys.modules['torch'] = None; from obverse.answers import answer_text;"
        "assert 'nn.ConvTranspose2d' in answer_text('Conv(8, 3) >> MaxPool(2)', '1x28x28')"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
