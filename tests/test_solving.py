"""From sizes to layers: every answer does what was asked, and what cannot be done names what can."""

import re

import pytest
import torch
from hypothesis import event, example, given
from hypothesis import strategies as st

from obverse import Autoencoder, Chain, Conv, ReLU, ShapeError, Tanh
from obverse.solving import from_shapes, solve

shapes = st.integers(1, 2).flatmap(lambda rank: st.tuples(st.integers(1, 3), *[st.integers(4, 64)] * rank))


@st.composite
def questions(draw):
    shape = draw(shapes)
    asked = {"stages": draw(st.none() | st.integers(1, 4)), "kernel_size": draw(st.none() | st.integers(1, 5))}
    if draw(st.booleans()):
        asked["shrink"] = draw(st.sampled_from([2, 3, 4, 8]))
    else:
        asked["code"] = draw(st.just(12) | st.tuples(st.just(12), *[st.integers(1, size) for size in shape[1:]]))
    asked["receptive_field"] = draw(st.sampled_from([1, 1, 9, 33]))
    return shape, asked


@given(questions())
@example(((1, 27), {"shrink": 2}))
@example(((1, 128), {"shrink": 4, "receptive_field": 64}))
@example(((3, 64, 64), {"shrink": 16, "kernel_size": 3}))
@example(((1, 28, 28), {"code": 12, "stages": 3}))
@example(((1, 10), {"code": (8, 40)}))
@example(((1, 20), {"code": (8, 19), "kernel_size": 5}))
@example(((1, 7, 24), {"code": (12, 4, 2), "kernel_size": 2, "receptive_field": 9}))
def test_every_answer_does_what_was_asked(drawn):
    shape, asked = drawn
    try:
        answers = solve(shape, **asked)
    except ShapeError as error:
        event("refused")
        _advice_works(shape, asked, error.repair)
        return
    event("solved")
    assert 1 <= len(answers) <= 5
    plans = [chain.plan(shape) for chain in answers]
    seen = {(plan.shapes, plan.parameters, plan.steps[-1].receptive_field) for plan in plans}
    assert len(seen) == len(answers), "no two answers are told alike"
    for chain, plan in zip(answers, plans, strict=True):
        convs = [block for block in chain if isinstance(block, Conv)]
        if "shrink" in asked:
            assert plan.output_shape[1:] == tuple(size // asked["shrink"] for size in shape[1:])
            assert plan.steps[-1].jump == (asked["shrink"],) * (len(shape) - 1)
        else:
            code = asked["code"]
            assert plan.output_shape == ((12, *(1,) * (len(shape) - 1)) if code == 12 else code)
        assert asked.get("stages") in (None, len(convs))
        if asked.get("kernel_size"):
            assert all(conv.kernel_size == asked["kernel_size"] for conv in convs[:-1])
        assert min(plan.steps[-1].receptive_field) >= asked.get("receptive_field", 1)


def _advice_works(shape, asked, repair):
    advised = re.findall(r"(stages|kernel_size|receptive_field|code)=(\([\d, ]+\)|\d+)", repair)
    if "an input of" in repair:
        sizes = tuple(map(int, re.search(r"input of ([\d×]+)", repair)[1].split("×")))
        assert all(size % asked["shrink"] == 0 for size in sizes)
        advised = []
    for name, value in advised:
        rest = {key: said for key, said in asked.items() if name != "code" or key not in ("code", "shrink")}
        assert solve(shape, **{**rest, name: eval(value)})


def test_the_plainest_comes_first():
    assert solve((1, 28, 28), 12, stages=3)[0] == Chain(
        Conv(16, 2, stride=2), ReLU(), Conv(32, 2, stride=2), ReLU(), Conv(12, 7)
    )
    assert solve((1, 28), shrink=2)[0] == Chain(Conv(16, 2, stride=2))
    assert solve((1, 27), (16, 13))[0] == Chain(Conv(16, 3, stride=2))
    fields = [
        chain.plan((1, 128)).steps[-1].receptive_field[0] for chain in solve((1, 128), shrink=4, receptive_field=64)
    ]
    assert min(fields) >= 64
    widths = solve((1, 64), shrink=4, channels=(5, 7), activation=Tanh())[0]
    assert [block.out_channels for block in widths if isinstance(block, Conv)] == [5, 7]
    assert Tanh() in widths.blocks


def test_a_stride_or_a_padding_that_changes_nothing_is_no_other_answer():
    single = solve((1, 28, 28), 12, stages=3, answers=20)
    last = [chain[-1] for chain in single if chain[:-1] == single[0][:-1]]
    assert last == [Conv(12, 7), Conv(12, 6, stride=2)]  # but not Conv(12, 7, stride=2)
    wide = solve((3, 64, 64), shrink=4, stages=4, answers=20)
    assert Conv(128, 4, stride=4) in [chain[-1] for chain in wide]
    assert Conv(128, 4, stride=4, padding=1) not in [chain[-1] for chain in wide if Conv(64, 1) in chain]


def test_halving_27_exactly_is_refused_with_what_can_be_done():
    with pytest.raises(ShapeError, match=r"27 cells along L cannot be divided by 2 exactly.\nGive an input of 28"):
        solve((1, 27), shrink=2)
    assert solve((1, 28), shrink=2)
    assert solve((1, 27), (16, 14))[0].mirror((1, 27)).output_shape((16, 14)) == (1, 27)


def test_both_or_neither_of_code_and_shrink_are_refused():
    for asked in ({}, {"code": 3, "shrink": 2}):
        with pytest.raises(ShapeError, match="a code or shrink"):
            solve((1, 28), **asked)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=4))
def test_a_chain_goes_through_the_shapes_that_are_given(sizes):
    sizes = sorted(sizes, reverse=True)
    given_ = [(3, size) for size in sizes]
    try:
        chain = from_shapes(given_)
    except ShapeError as error:
        event("refused")
        can, cannot = map(int, re.search(r"Give (\d+) in place of (\d+)", error.repair).groups())
        at = next(at for at in range(1, len(sizes)) if f"takes {sizes[at - 1]} cells to {cannot}" in str(error))
        assert from_shapes([(3, sizes[at - 1]), (3, can)])
        return
    stages = [
        shape for shape, (_, block) in zip(chain.shapes(given_[0])[1:], chain.links, strict=True) if block != ReLU()
    ]
    assert stages == given_[1:]


def test_a_model_is_made_from_shapes():
    model = Autoencoder.from_shapes([(1, 28, 28), (16, 14, 14), (32, 7, 7), (12, 1, 1)], tied=True)
    images = torch.rand(2, 1, 28, 28)
    reconstruction, code = model(images)
    assert (reconstruction.shape, code.shape) == (images.shape, (2, 12, 1, 1))
    with pytest.raises(ShapeError, match="same axes"):
        Autoencoder.from_shapes([(1, 28, 28), (16, 14)])
