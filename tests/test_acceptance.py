"""Which sizes a chain takes, leaves no remainder of, and gives one code: held against trying them one by one."""

import re
from itertools import islice, product

import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from obverse import (
    AdaptiveAvgPool,
    Chain,
    Conv,
    ConvTranspose,
    Flatten,
    InstanceNorm,
    Linear,
    MaxPool,
    NearestUnpool,
    Pad,
    Parallel,
    PixelUnshuffle,
    Rearrange,
    ReLU,
    Residual,
    ShapeError,
    Unflatten,
    Upsample,
)
from obverse.sizes import Sizes
from obverse.testing.strategies import chains_with_shapes, sizes
from running import leaves, outcome

TRIED = range(1, 50)


@st.composite
def with_an_open_axis(draw):
    chain, shape = draw(chains_with_shapes())
    axis = draw(st.integers(1, len(shape) - 1))
    return chain, shape, axis


def told(chain, shape, axis):
    opened = (*shape[:axis], None, *shape[axis + 1 :])
    try:
        return chain.accepts(opened).axes[0]
    except ShapeError as error:
        if "cannot be said" not in str(error):
            raise
        event("cannot be said")
        return None


def at(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


@given(with_an_open_axis())
@example((Chain(Conv(2, 4), PixelUnshuffle(2), Conv(1, 3, stride=3, padding="same")), (1, 9, 9), 1))
@example((Chain(MaxPool(3, stride=2, ceil_mode=True), Pad(2, mode="reflect"), Conv(1, 5)), (1, 9), 1))
@example((Chain(Upsample(scale_factor=1.5), Conv(1, 4, stride=3)), (1, 9), 1))
@example((Chain(NearestUnpool((9, 9), 2), Conv(1, 3)), (1, 4, 4), 2))
@example((Chain(AdaptiveAvgPool(3), Flatten(), Linear(3)), (1, 4, 4), 2))
@example((Chain(Conv(1, 1, stride=2), Rearrange("c (h p) w -> (c p) h w", p=3)), (1, 6, 4), 1))
@example((Chain(Flatten(2), Conv(1, 5, stride=2)), (1, 3, 4), 2))
@example((Chain(Flatten(), Unflatten(1, (3, -1))), (1, 3, 4), 2))
@example((Chain(Residual(Conv(2, 3, stride=2, padding=1)), Parallel(Conv(1, 3), Conv(1, 3))), (1, 9), 1))
@example((Chain(ConvTranspose(1, 2, stride=2, padding=3), Conv(1, 3, stride=4)), (1, 9), 1))
def test_what_is_accepted_and_shares_a_code_is_what_trying_them_all_shows(drawn):
    chain, shape, axis = drawn
    answer = told(chain, shape, axis)
    assume(answer is not None)
    codes = {size: outcome(chain.output_shape, at(shape, axis, size)) for size in TRIED}
    taken = [size for size in TRIED if codes[size] is not None]
    assert [size for size in TRIED if size in answer.accepted] == taken
    for size in taken[:: max(len(taken) // 4, 1)]:
        assert [n for n in TRIED if n in answer.sharing(size)] == [n for n in TRIED if codes[n] == codes[size]]
    assert str(answer.accepted)


@given(chains_with_shapes(ranks=[1, 2]), st.data())
@example((Chain(Conv(1, 3, stride=2), PixelUnshuffle(2)), (1, 9, 9)), None)
@example((Chain(Rearrange("c h w -> c w h"), Conv(1, 3, stride=2)), (1, 9, 9)), None)
@example((Chain(AdaptiveAvgPool(3), Conv(1, 2)), (1, 9, 9)), None)
@example((Chain(Flatten(2)), (1, 3, 4)), None)
@example((Chain(InstanceNorm()), (1, 3, 4)), None)
def test_sizes_with_a_code_are_what_trying_all_of_them_together_shows(drawn, data):
    chain, shape = drawn
    codes = {
        size: outcome(chain.output_shape, (shape[0], *size)) for size in product(range(1, 13), repeat=len(shape) - 1)
    }
    seen = sorted({code for code in codes.values() if code is not None})
    asked = seen[:3] + seen[-1:] if data is None else [data.draw(st.sampled_from(seen))] if seen else []
    asked += [tuple(entry + 1 for entry in code) for code in asked[:1]]
    try:
        answer = chain.accepts((shape[0], *(None for _ in shape[1:])))
        told = {code: answer.with_code(code) for code in asked}
    except ShapeError:
        event("cannot be said")
        told = {}
    for code, axes in told.items():
        for size, actual in codes.items():
            said = all(n in along for n, along in zip(size, axes, strict=True))
            assert said == (actual == code) or (said and actual is None and not answer.independent)


def test_a_code_that_is_made_of_several_axes_is_not_said_axis_by_axis():
    answer = Chain(Conv(1, 3), Flatten()).accepts((1, None, None))
    assert str(answer) == "H: n ≥ 3\n   no remainder: n ≥ 3\n   one code: made of several axes together\nW: as H"
    with pytest.raises(ShapeError, match="Give numbers along the other axes"):
        answer.axes[0].sharing(28)
    (along,) = Chain(Conv(1, 3), Flatten()).accepts((1, None, 28)).axes
    assert str(along.sharing(28)) == "28"


GROWING = ("Conv", "MaxPool", "AvgPool", "LPPool", "ConvTranspose", "Pad", "PixelShuffle", "ReLU", "Residual")


@given(chains_with_shapes(["Conv"], ranks=[1]) | chains_with_shapes(GROWING, ranks=[1]))
@example((Chain(Conv(1, 3, stride=2, padding=1), Conv(1, 2, stride=2)), (1, 9)))
@example((Chain(Conv(1, 1, stride=4, padding=1)), (1, 9)))
@example((Chain(Conv(1, 3, stride=2, padding="same")), (1, 9)))
@example((Chain(MaxPool(2, ceil_mode=True)), (1, 9)))
def test_what_leaves_no_remainder_is_what_its_mirror_need_not_be_told(drawn):
    chain, shape = drawn
    answer = told(chain, shape, 1)
    assume(answer is not None)
    taken = [size for size in TRIED if outcome(chain.output_shape, at(shape, 1, size))]
    left = {size: chain.remainders(at(shape, 1, size)) for size in taken}
    assert [size for size in taken if size in answer.without_remainder] == [n for n in taken if not any(left[n])]
    if all(isinstance(link.block, Conv) for link in chain.links):
        event("told by output_padding")
        for size in taken:
            mirror = chain.mirror(at(shape, 1, size))
            told_ = any(getattr(link.block, "output_padding", 0) not in (0, (0,)) for link in mirror.links)
            assert told_ == any(left[size])


@given(chains_with_shapes(ranks=[2]))
@example((Chain(InstanceNorm()), (1, 2, 2)))
@example((Chain(Conv(1, 3, stride=2), ReLU(), PixelUnshuffle(2)), (1, 5, 9)))
def test_axes_that_are_independent_are_taken_in_every_combination(drawn):
    chain, shape = drawn
    try:
        answer = chain.accepts((shape[0], None, None))
    except ShapeError:
        assume(False)
    rows, columns = answer.axes
    for height, width in product(range(1, 10), repeat=2):
        taken = outcome(chain.output_shape, (shape[0], height, width)) is not None
        each = height in rows.accepted and width in columns.accepted
        assert taken == each or (not answer.independent and each)
    event("independent" if answer.independent else "dependent")


def test_a_norm_over_space_wants_two_cells_somewhere():
    answer = Chain(InstanceNorm()).accepts((3, None, None))
    assert not answer.independent
    assert str(answer).endswith("what is said of one axis holds while others are large")


def test_the_tutorial_says_its_sizes():
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    rows, columns = encoder.accepts((1, None, None)).axes
    assert rows.accepted == columns.accepted == Sizes((), 25, 1, (0,))
    assert list(islice(rows.without_remainder, 3)) == [25, 29, 33]
    assert list(rows.sharing(28)) == [25, 26, 27, 28]
    with pytest.raises(ShapeError, match=r"it does not take 24.\nGive 25."):
        rows.sharing(24)


def test_large_kernels_and_many_strides_are_followed_quickly():
    stages = [block for _ in range(8) for block in (Conv(2, 5, stride=2, padding=2), ReLU())]
    answer = Chain(Conv(2, 2_001), *stages).accepts((1, None)).axes[0]
    assert (2_001 in answer.accepted, 2_000 in answer.accepted) == (True, False)
    assert answer.without_remainder.at_least(2_002) == 2_001 + 256


@pytest.mark.parametrize("shape", [(1, 28, 28), (None, 28, 28), ()])
def test_without_an_open_axis_there_is_nothing_to_ask(shape):
    with pytest.raises(ShapeError, match=r"as in accepts\(\(1, None, None\)\)"):
        Chain(Conv(1, 3)).accepts(shape)


@given(st.sets(st.integers(1, 30)), st.integers(1, 12), st.integers(1, 8), st.sets(st.integers(0, 7)))
def test_a_set_of_sizes_is_the_set_that_was_meant(few, start, step, cycle):
    def holds(size):
        return size % step in cycle if size >= start else size in few

    found = Sizes.of(holds, start, step)
    expected = [size for size in range(1, 130) if holds(size)]
    assert [size for size in range(1, 130) if size in found] == expected
    assert list(islice(found, 10)) == expected[:10]
    assert found.is_finite == (not any(residue < step for residue in cycle))
    for size in range(1, 40):
        assert found.at_least(size) == next((n for n in expected if n >= size), None)
    assert found == Sizes.of(holds, start + 3, step * 2)
    if found.is_all_from is not None:
        assert expected == list(range(found.is_all_from, 130))


NEAREST = re.compile(r"input of (?:at least )?([\d×]+)(?: \(([\d×]+) for the whole chain\))?")


REFUSING = (
    *("Conv", "ConvTranspose", "MaxPool", "AvgPool", "LPPool", "NearestUnpool", "Upsample", "Pad", "Crop"),
    *("PixelUnshuffle", "Unflatten", "Rearrange", "InstanceNorm", "Flatten"),
)


@st.composite
def refused(draw):
    chain, shape = draw(chains_with_shapes(REFUSING, most=3))
    other = (shape[0], *(draw(sizes(most=3) | sizes(most=9)) for _ in shape[1:]))
    assume(outcome(chain.output_shape, other) is None)
    return chain, other


@given(refused())
@example((Chain(Conv(1, 2), PixelUnshuffle(2)), (1, 4, 4)))
@example((Chain(Conv(1, 2), PixelUnshuffle(2), Conv(1, 4)), (1, 4, 3)))
@example((Chain(Unflatten(2, (3, -1))), (1, 4)))
@example((Chain(InstanceNorm()), (1, 1, 1)))
@example((Chain(Conv(1, 2_000)), (1, 3)))
def test_every_refusal_tells_the_nearest_larger_size(drawn):
    chain, shape = drawn
    with pytest.raises(ShapeError) as refusal:
        chain.output_shape(shape)
    said = str(refusal.value)
    found = NEAREST.search(said)
    larger = [n for n in range(80) if outcome(chain.output_shape, (shape[0], *(size + n for size in shape[1:])))]
    if not larger and found is None:
        return
    assert found, "there is a larger size, and it is told"
    place = re.search(r"\n  block ([\d.]+), ", said)[1]
    failed = [link.place for link in chain.links].index(place)
    told = [(found[1], Chain(*leaves(chain)[: failed + 1])), (found[2] or (larger and found[1]), chain)]
    for text, part in told:
        if text:
            _is_nearest(part, shape, tuple(map(int, text.split("×"))), all_larger="at least" in found[0])


def _is_nearest(chain, shape, advised, all_larger):
    assert outcome(chain.output_shape, (shape[0], *advised))
    assert all(new >= old for new, old in zip(advised, shape[1:], strict=True))
    for axis, (new, old) in enumerate(zip(advised, shape[1:], strict=True)):
        for smaller in range(old, new):
            others = (*advised[:axis], smaller, *advised[axis + 1 :])
            assert outcome(chain.output_shape, (shape[0], *others)) is None, "nothing nearer is taken"
    for more in range(4 * all_larger):
        assert outcome(chain.output_shape, (shape[0], *(size + more for size in advised)))
