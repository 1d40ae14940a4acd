"""Where a module is written out here, for the sake of tracing, it gives the numbers of PyTorch's own."""

import pytest
import torch
from torch import nn

from obverse import AvgPool, LayerNorm, LPPool, MaxPool, PixelShuffle, PixelUnshuffle, RMSNorm


@pytest.mark.parametrize("spatial", [(), (5,), (5, 4), (3, 4, 2)])
@pytest.mark.parametrize(("block", "theirs"), [(LayerNorm(), nn.LayerNorm(6)), (RMSNorm(), nn.RMSNorm(6))])
def test_a_norm_over_channels_that_come_first(block, theirs, spatial):
    ours = block.build((6, *spatial))
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 6, *spatial)
    torch.testing.assert_close(ours(x), theirs(x.movedim(1, -1)).movedim(-1, 1))


@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize(
    ("block", "theirs"),
    [
        (LPPool(2, 3, stride=2, ceil_mode=True), nn.LPPool1d(2, 3, 2, ceil_mode=True)),
        (LPPool(1, 2), nn.LPPool1d(1, 2)),
        (MaxPool(3, stride=2, padding=1, ceil_mode=True), nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
        (AvgPool(3, stride=2, padding=1, ceil_mode=True), nn.AvgPool1d(3, 2, 1, ceil_mode=True)),
        (AvgPool(3, 2, 1, True, count_include_pad=False), nn.AvgPool1d(3, 2, 1, True, count_include_pad=False)),
    ],
)
def test_a_pool(block, theirs, size):
    x = torch.rand(2, 3, size)
    torch.testing.assert_close(block.build((3, size))(x), theirs(x))


def test_a_shuffle_in_one_and_three_dimensions_orders_channels_as_pytorch_does_in_two():
    x = torch.rand(2, 8, 5)
    torch.testing.assert_close(PixelShuffle(2).build((8, 5))(x), _interleaved(x))
    y = torch.rand(2, 3, 4, 6, 2)
    there = PixelUnshuffle(2).build((3, 4, 6, 2))(y)
    torch.testing.assert_close(there[:, 1], y[:, 0, ::2, ::2, 1::2])  # the last axis varies fastest, as in two
    torch.testing.assert_close(PixelShuffle(2).build((24, 2, 3, 1))(there), y)


def _interleaved(x):
    return torch.stack([x[:, ::2], x[:, 1::2]], dim=-1).flatten(2)
