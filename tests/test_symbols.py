"""A plan of letters: every formula, with numbers in place of its letters, is what a plan of numbers says."""

import subprocess
import sys

import pytest
import sympy
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from obverse import (
    Chain,
    Conv,
    ConvTranspose,
    Flatten,
    MaxPool,
    NearestUnpool,
    Pad,
    Parallel,
    PixelUnshuffle,
    ReLU,
    Residual,
    ShapeError,
    Upsample,
    mirror,
)
from obverse.symbols import formula_text, plain, symbol
from obverse.testing.strategies import blocks_with_shapes, chains_with_shapes, sizes
from running import outcome

LETTERS = ("A", "B", "C")


@st.composite
def with_letters(draw):
    chain, shape = draw(blocks_with_shapes() | chains_with_shapes(most=4))
    chain = chain if isinstance(chain, Chain) else Chain(chain)
    other = (shape[0], *(draw(st.just(size) | sizes(most=20)) for size in shape[1:]))
    return chain, (shape[0], *LETTERS[: len(shape) - 1]), other


def number(formula, values):
    return int(sympy.sympify(formula).subs(values))


@given(with_letters())
@example((Chain(Conv(1, 3, stride=2, padding=1), Conv(1, 4, stride=3, padding="same")), (1, "A"), (1, 28)))
@example((Chain(MaxPool(3, stride=2, ceil_mode=True), ConvTranspose(1, 3, stride=2), ReLU()), (1, "A"), (1, 28)))
@example((Chain(NearestUnpool((9,), 2), Upsample(scale_factor=1.5)), (1, "A"), (1, 4)))
@example((Chain(PixelUnshuffle(2), Residual(Conv(4, 3, stride=2, padding=1)), Flatten()), (1, "A", "B"), (1, 6, 8)))
@example((Chain(Pad(2, mode="reflect"), Parallel(Conv(1, 3), Conv(1, 3), join="concat")), (1, "A"), (1, 5)))
@example((Chain(Conv(1, 3, padding="same", stride=2, padding_mode="reflect")), (1, "A"), (1, 5)))
def test_formulas_agree_with_numbers(drawn):
    chain, letters, shape = drawn
    assume(outcome(chain.output_shape, shape) is not None)
    try:
        formulas, numbers = chain.plan(letters), chain.plan(shape)
    except ShapeError as error:
        if "no formula of whole numbers" not in str(error):
            raise
        event("no formula")
        return
    values = {symbol(letter): size for letter, size in zip(letters[1:], shape[1:], strict=True)}
    named = dict(zip(letters[1:], shape[1:], strict=True))
    for formula, plain_ in zip(formulas.steps, numbers.steps, strict=True):
        assert tuple(number(size, values) for size in formula.output_shape) == plain_.output_shape
        assert tuple(eval(formula_text(size), {}, named) for size in formula.output_shape) == plain_.output_shape
        assert number(formula.parameters, values) == plain_.parameters
        assert number(formula.multiply_adds, values) == plain_.multiply_adds
    assert all(len(line) <= 80 for line in str(formulas).splitlines())
    assert formulas.json()


def test_floors_of_floors_become_one():
    n = symbol("n")
    twice = ((n + 1) // 2 + 1) // 2
    assert formula_text(plain(twice)) == "(n + 3)//4"
    encoder = Chain(*[Conv(1, 3, stride=2, padding=1)] * 5)
    assert str(encoder.plan((1, "n")).steps[-1].output_shape[1]) == "floor(n/32 - 1/32) + 1"


def test_a_whole_model_is_planned_in_letters():
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    plan = Chain(encoder, mirror(encoder, (1, 28, 28))).plan((1, "H", 28))
    assert formula_text(plan.output_shape[1]) == "2*((H - 1)//2) + 2"
    assert plan.output_shape[2] == 28


WITHOUT = """
import sys
sys.modules["sympy"] = None
from obverse import Chain, Conv
print(Chain(Conv(1, 3)).plan((1, 28)))
try:
    Chain(Conv(1, 3)).plan((1, "H"))
except Exception as error:
    print(error)
"""


def test_without_sympy_numbers_need_nothing_and_letters_say_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert 'pip install "obverse[symbols]"' in done.stdout
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, obverse; obverse.Conv(1, 3).output_shape((1, 9)); print('sympy' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize("shape", [("C", 28), (1, "2H"), (1, "")])
def test_what_is_no_letter_is_refused(shape):
    with pytest.raises(ShapeError):
        Chain(Conv(1, 3)).plan(shape)
