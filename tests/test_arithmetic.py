"""Sizes: the fifteen relationships of the guide by their numbers, and every function against PyTorch over a grid."""

from itertools import product

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse import ShapeError
from obverse.arithmetic import (
    ConvSettings,
    conv_output_size,
    conv_transpose_output_size,
    input_sizes,
    pool_output_size,
    remainder,
    same_padding,
    solve_conv,
    strided_same_padding,
    window_of,
)


def cells(n):
    return torch.zeros(1, 1, n)


def conv(n, k, s=1, p=0, d=1):
    return F.conv1d(cells(n), cells(k), None, s, p, d).shape[2]


def transposed(n, k, s=1, p=0, a=0, d=1):
    return F.conv_transpose1d(cells(n), cells(k), None, s, p, a, 1, d).shape[2]


def pooled(n, k, s=None, p=0, d=1, ceil_mode=False):
    return F.max_pool1d(cells(n), k, s, p, d, ceil_mode).shape[2]


def outcome(function, *arguments):
    """The size that a function gives; `None` where it refuses, or leaves nothing."""
    try:
        return function(*arguments) or None
    except (ShapeError, RuntimeError):
        return None


# The relationships of arXiv:1603.07285 ------------------------------------------------------------------------------

sizes, kernels, strides, paddings, dilations = (
    st.integers(*bounds) for bounds in [(1, 30), (1, 7), (1, 4), (0, 4), (1, 4)]
)


@given(sizes, kernels)
def test_relationship_1_no_padding_unit_strides(i, k):
    assume(i >= k)
    assert conv_output_size(i, k) == (i - k) + 1 == conv(i, k)


@given(sizes, kernels, paddings)
def test_relationship_2_zero_padding_unit_strides(i, k, p):
    assume(i + 2 * p >= k)
    assert conv_output_size(i, k, padding=p) == (i - k) + 2 * p + 1 == conv(i, k, p=p)


@given(sizes, st.integers(0, 4))
def test_relationship_3_half_padding_keeps_the_size(i, n):
    k = 2 * n + 1
    assert same_padding(k) == (n, n)
    assert conv_output_size(i, k, padding=k // 2) == i == conv(i, k, p=k // 2)


@given(sizes, kernels)
def test_relationship_4_full_padding_adds_the_kernel(i, k):
    assert conv_output_size(i, k, padding=k - 1) == i + (k - 1) == conv(i, k, p=k - 1)


@given(sizes, kernels, strides)
def test_relationship_5_no_padding_strides(i, k, s):
    assume(i >= k)
    assert conv_output_size(i, k, s) == (i - k) // s + 1 == conv(i, k, s)


@given(sizes, kernels, strides, paddings)
def test_relationship_6_zero_padding_strides(i, k, s, p):
    assume(i + 2 * p >= k)
    assert conv_output_size(i, k, s, p) == (i + 2 * p - k) // s + 1 == conv(i, k, s, p)


@given(sizes, kernels, strides)
def test_relationship_7_pooling(i, k, s):
    assume(i >= k)
    assert pool_output_size(i, k, s) == (i - k) // s + 1 == pooled(i, k, s)


@given(sizes, kernels)
def test_relationship_8_transposed_no_padding_unit_strides(i, k):
    assert conv_transpose_output_size(i, k) == i + (k - 1) == transposed(i, k)
    assert conv_output_size(i, k, padding=k - 1) == i + (k - 1)  # the direct convolution that does the same


@given(sizes, kernels, paddings)
def test_relationship_9_transposed_zero_padding_unit_strides(i, k, p):
    assume(i + (k - 1) - 2 * p >= 1)
    assert conv_transpose_output_size(i, k, padding=p) == i + (k - 1) - 2 * p == transposed(i, k, p=p)


@given(sizes, st.integers(0, 4))
def test_relationship_10_transposed_half_padding_keeps_the_size(i, n):
    k, p = 2 * n + 1, n
    assert conv_transpose_output_size(i, k, padding=p) == i == transposed(i, k, p=p)


@given(sizes, kernels)
def test_relationship_11_transposed_full_padding_takes_the_kernel_away(i, k):
    assume(i > k - 1)
    assert conv_transpose_output_size(i, k, padding=k - 1) == i - (k - 1) == transposed(i, k, p=k - 1)


@given(sizes, kernels, strides)
def test_relationship_12_transposed_no_padding_strides(o, k, s):
    i = s * (o - 1) + k  # so that i - k is a multiple of s
    assert conv_output_size(i, k, s) == o
    assert conv_transpose_output_size(o, k, s) == s * (o - 1) + k == i == transposed(o, k, s)


@given(sizes, kernels, strides, paddings)
def test_relationship_13_transposed_zero_padding_strides(o, k, s, p):
    i = s * (o - 1) + k - 2 * p  # so that i + 2p - k is a multiple of s
    assume(i >= 1)
    assert conv_output_size(i, k, s, p) == o
    assert conv_transpose_output_size(o, k, s, p) == i == transposed(o, k, s, p)


@given(sizes, kernels, strides, paddings)
def test_relationship_14_transposed_with_a_remainder(i, k, s, p):
    assume(i + 2 * p >= k)
    a, o = (i + 2 * p - k) % s, conv(i, k, s, p)
    assert remainder(i, k, s, p) == a
    assert conv_transpose_output_size(o, k, s, p, a) == s * (o - 1) + a + k - 2 * p == i == transposed(o, k, s, p, a)


@given(sizes, kernels, strides, paddings, dilations)
def test_relationship_15_dilation(i, k, s, p, d):
    assume(i + 2 * p >= k + (k - 1) * (d - 1))
    expected = (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1
    assert conv_output_size(i, k, s, p, d) == expected == conv(i, k, s, p, d)


# Against PyTorch, over a grid ---------------------------------------------------------------------------------------
#
# On the CPU: the meta device checks neither dilation nor output_padding. What leaves no cell is refused here.


def test_conv_output_size_is_that_of_pytorch_wherever_it_takes_the_numbers():
    grid = list(product(range(8), range(5), range(4), range(-1, 3), range(4)))
    differing = [numbers for numbers in grid if outcome(conv_output_size, *numbers) != outcome(conv, *numbers)]
    assert not differing


def test_conv_transpose_output_size_is_that_of_pytorch_wherever_it_takes_the_numbers():
    grid = list(product(range(5), range(4), range(4), range(-1, 3), range(-1, 4), range(4)))
    differing = [n for n in grid if outcome(conv_transpose_output_size, *n) != outcome(transposed, *n)]
    assert not differing


def test_pool_output_size_is_that_of_pytorch_wherever_it_takes_the_numbers():
    grid = list(product(range(8), range(5), [None, 0, 1, 2, 3, 5], range(-1, 3), range(4), [False, True]))
    differing = [numbers for numbers in grid if outcome(pool_output_size, *numbers) != outcome(pooled, *numbers)]
    assert not differing


CONVOLUTIONS = list(product(range(1, 6), range(1, 5), range(4), range(1, 4)))
"""Kernel, stride, padding and dilation."""


@pytest.mark.parametrize("setting", CONVOLUTIONS[::7], ids=str)
def test_the_remainder_restores_every_size(setting):
    k, s, p, d = setting
    taken = [n for n in range(1, 30) if n + 2 * p >= d * (k - 1) + 1]
    assert taken
    for n in taken:
        a = remainder(n, *setting)
        assert 0 <= a < s
        assert conv_transpose_output_size(conv_output_size(n, *setting), k, s, p, a, d) == n


def test_input_sizes_are_all_the_sizes_that_give_the_output_and_no_others():
    for setting in CONVOLUTIONS:
        after = {n: outcome(conv_output_size, n, *setting) for n in range(1, 60)}
        for o in range(1, 8):
            found = input_sizes(o, *setting)
            assert list(found) == [n for n in after if after[n] == o]
            assert len(found) <= setting[1]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # which is what is looked into here
@given(st.integers(1, 12), kernels, dilations)
def test_same_padding_is_that_of_pytorch_on_both_sides(n, k, d):
    x, weight = torch.randn(1, 1, n, dtype=torch.double), torch.randn(1, 1, k, dtype=torch.double)
    with_pads = F.conv1d(F.pad(x, same_padding(k, d)), weight, dilation=d)
    torch.testing.assert_close(with_pads, F.conv1d(x, weight, padding="same", dilation=d))


def test_strided_same_padding_is_that_of_tensorflow():
    for n, k, s, d in product(range(1, 20), range(1, 6), range(1, 6), range(1, 4)):
        extent = d * (k - 1) + 1
        total = max((-(-n // s) - 1) * s + extent - n, 0)
        before, after = strided_same_padding(n, k, s, d)
        assert (before, after) == (total // 2, total - total // 2)
        assert (n + total - extent) // s + 1 == -(-n // s)
        assert s > 1 or (before, after) == same_padding(k, d)


def test_window_of_is_the_last_window_that_covers_the_cell():
    for n, k, s, p, d in product(range(1, 14), range(1, 5), range(1, 5), range(3), range(1, 4)):
        windows = outcome(conv_output_size, n, k, s, p, d)
        if windows is None:
            continue
        seen = [{w * s - p + t * d for t in range(k)} for w in range(windows)]
        for cell in range(n):
            covering = [w for w in range(windows) if cell in seen[w]]
            started = [w for w in range(windows) if w * s - p <= cell]
            assert window_of(cell, windows, k, s, p, d) == (covering or started)[-1]


def test_solve_conv_finds_every_setting_and_nothing_else():
    bounds = {"kernel_sizes": range(1, 6), "strides": range(1, 4), "paddings": range(4), "dilations": range(1, 3)}
    for n, o in product([1, 2, 7, 12, 28], [1, 2, 5, 6, 14]):
        found = solve_conv(n, o, **bounds)
        expected = {setting for setting in product(*bounds.values()) if outcome(conv, n, *setting) == o}
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_solve_conv_gives_the_plainest_first():
    assert solve_conv(28, 14)[0] == ConvSettings(2, stride=2)
    assert solve_conv(28, 28)[0] == ConvSettings(1)
    assert solve_conv(27, 13)[0] == ConvSettings(3, stride=2)  # of kernel 2 a cell would be left over
    assert solve_conv(7, 1)[0] == ConvSettings(7)
    for n, o in product(range(1, 30), range(1, 30)):
        skipping = [s.stride > s.kernel_size for s in solve_conv(n, o)]
        assert skipping == sorted(skipping)


def test_solve_conv_keeps_to_its_bounds():
    assert solve_conv(28, 14, paddings=[]) == []
    assert solve_conv(28, 14, kernel_sizes=iter([3]), strides=iter([2]), dilations=iter([1, 2])) == [
        (3, 2, 1, 1),
        (3, 2, 2, 2),
    ]
    assert solve_conv(14, 28) == []
    for bound in ("kernel_sizes", "strides", "dilations"):
        with pytest.raises(ShapeError):
            solve_conv(28, 14, **{bound: [0]})


# What is no integer -------------------------------------------------------------------------------------------------

CALLS = {
    conv_output_size: (9, 3, 2, 1, 2),
    conv_transpose_output_size: (9, 3, 2, 1, 1, 2),
    pool_output_size: (9, 3, 2, 1, 2),
    remainder: (9, 3, 2, 1, 2),
    input_sizes: (9, 3, 2, 1, 2),
    same_padding: (3, 2),
    strided_same_padding: (9, 3, 2, 2),
}
PLACES = [pytest.param(f, at, id=f"{f.__name__}-{at}") for f, numbers in CALLS.items() for at in range(len(numbers))]


@pytest.mark.parametrize(("function", "at"), PLACES)
def test_what_is_no_integer_is_refused(function, at):
    wrong = [True, 2.0, "2", [2], np.float64(2), np.float32(2), np.bool_(True), np.array(2), torch.tensor(2)]
    if (function, at) != (pool_output_size, 2):  # whose stride of None means the kernel
        wrong.append(None)
    for value in wrong:
        numbers = list(CALLS[function])
        numbers[at] = value
        with pytest.raises(ShapeError, match="is an integer"):
            function(*numbers)


@pytest.mark.parametrize(("function", "at"), PLACES)
def test_integers_of_numpy_are_integers(function, at):
    numbers = list(CALLS[function])
    numbers[at] = np.int64(numbers[at])
    given_out, expected = function(*numbers), function(*CALLS[function])
    assert given_out == expected
    if isinstance(expected, int):
        assert type(given_out) is int


@given(sizes, kernels, strides, paddings, dilations)
def test_symbols_give_formulas_that_agree_with_numbers(i, k, s, p, d):
    n = sympy.Symbol("n", integer=True, positive=True)
    functions = [lambda size: conv_output_size(size, k, s, p, d), lambda size: remainder(size, k, s, p, d)]
    if 2 * p <= k:
        functions += [lambda size, c=c: pool_output_size(size, k, s, p, d, ceil_mode=c) for c in (False, True)]
    functions += [lambda size: conv_transpose_output_size(size, k, s, p, 0, d)]
    functions += [lambda size, side=side: strided_same_padding(size, k, s, d)[side] for side in (0, 1)]
    for function in functions:
        number = outcome(lambda size, function=function: function(size) + 1, i)  # which is never 0
        if number is not None:
            assert sympy.sympify(function(n)).subs(n, i) + 1 == number
