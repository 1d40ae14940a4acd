"""The fifteen relationships of Dumoulin & Visin (arXiv:1603.07285), each against PyTorch and obverse.arithmetic.

On the left the formula as the guide has it, written out anew here; on the right what the layer and the library give.
"""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn

from obverse import arithmetic

PAGE = Path(__file__).parents[1] / "docs/arithmetic.md"

sizes, kernels, strides, paddings = st.integers(1, 24), st.integers(1, 7), st.integers(2, 5), st.integers(0, 4)
odd_kernels = st.integers(0, 3).map(lambda n: 2 * n + 1)


def after(layer, size):
    """The size that a layer of PyTorch gives, on its device without numbers."""
    return layer.to("meta")(torch.empty(1, 1, size, device="meta")).shape[2]


def assert_convolution(size, expected, kernel, stride=1, padding=0, dilation=1):
    assert arithmetic.conv_output_size(size, kernel, stride, padding, dilation) == expected
    assert after(nn.Conv1d(1, 1, kernel, stride, padding, dilation, device="meta"), size) == expected


def assert_transposed(size, expected, kernel, stride=1, padding=0, output_padding=0):
    """A transposed convolution gives it, and the convolution that it turns round takes it back."""
    assert arithmetic.conv_transpose_output_size(size, kernel, stride, padding, output_padding) == expected
    layer = nn.ConvTranspose1d(1, 1, kernel, stride, padding, output_padding, device="meta")
    assert after(layer, size) == expected
    assert arithmetic.conv_output_size(expected, kernel, stride, padding) == size
    assert arithmetic.remainder(expected, kernel, stride, padding) == output_padding


@given(sizes, kernels)
def test_relationship_01_no_padding_unit_stride(i, k):
    assume(i >= k)
    assert_convolution(i, (i - k) + 1, k)


@given(sizes, kernels, paddings)
def test_relationship_02_padding_unit_stride(i, k, p):
    assume(i + 2 * p >= k)
    assert_convolution(i, (i - k) + 2 * p + 1, k, padding=p)


@given(sizes, odd_kernels)
def test_relationship_03_half_padding_keeps_the_size(i, k):
    assert arithmetic.same_padding(k) == (k // 2, k // 2)
    assert_convolution(i, i, k, padding=k // 2)


@given(sizes, kernels)
def test_relationship_04_full_padding(i, k):
    assert_convolution(i, i + (k - 1), k, padding=k - 1)


@given(sizes, kernels, strides)
def test_relationship_05_no_padding_strides(i, k, s):
    assume(i >= k)
    assert_convolution(i, (i - k) // s + 1, k, s)


@given(sizes, kernels, strides, paddings)
@example(28, 3, 2, 1)
@example(27, 3, 2, 1)
def test_relationship_06_padding_and_strides(i, k, s, p):
    assume(i + 2 * p >= k)
    assert_convolution(i, (i + 2 * p - k) // s + 1, k, s, p)


@given(sizes, kernels, st.integers(1, 5))
def test_relationship_07_pooling(i, k, s):
    assume(i >= k)
    assert arithmetic.pool_output_size(i, k, s) == (i - k) // s + 1
    for layer in (nn.MaxPool1d(k, s), nn.AvgPool1d(k, s)):
        assert layer(torch.zeros(1, 1, i)).shape[2] == (i - k) // s + 1


@given(sizes, kernels)
def test_relationship_08_transposed_no_padding_unit_stride(i, k):
    assert_transposed(i, i + (k - 1), k)


@given(sizes, kernels, paddings)
def test_relationship_09_transposed_padding_unit_stride(i, k, p):
    assume(i + (k - 1) - 2 * p >= 1)
    assert_transposed(i, i + (k - 1) - 2 * p, k, padding=p)


@given(sizes, odd_kernels)
def test_relationship_10_transposed_half_padding_keeps_the_size(i, k):
    assert_transposed(i, i, k, padding=k // 2)


@given(sizes, kernels)
def test_relationship_11_transposed_full_padding(i, k):
    assume(i - (k - 1) >= 1)
    assert_transposed(i, i - (k - 1), k, padding=k - 1)


@given(sizes, kernels, strides)
def test_relationship_12_transposed_no_padding_strides(i, k, s):
    assert_transposed(i, s * (i - 1) + k, k, s)


@given(sizes, kernels, strides, paddings)
def test_relationship_13_transposed_padding_and_strides(i, k, s, p):
    assume(s * (i - 1) + k - 2 * p >= 1)
    assert_transposed(i, s * (i - 1) + k - 2 * p, k, s, p)


@given(sizes, kernels, strides, paddings)
@example(28, 3, 2, 1)
def test_relationship_14_transposed_told_the_remainder_restores_every_size(n, k, s, p):
    assume(n + 2 * p >= k)
    i, a = (n + 2 * p - k) // s + 1, (n + 2 * p - k) % s
    assert s * (i - 1) + a + k - 2 * p == n
    assert_transposed(i, n, k, s, p, a)


@given(sizes, kernels, st.integers(1, 5), paddings, st.integers(1, 4))
def test_relationship_15_dilated(i, k, s, p, d):
    assume(i + 2 * p >= k + (k - 1) * (d - 1))
    assert_convolution(i, (i + 2 * p - k - (k - 1) * (d - 1)) // s + 1, k, s, p, d)


@pytest.mark.parametrize("number", range(1, 16))
def test_the_chapter_names_the_test_of_every_relationship(number):
    named = re.findall(rf"`(test_relationship_{number:02}_\w+)`", PAGE.read_text())
    assert len(named) == 1
    assert named[0] in globals()
