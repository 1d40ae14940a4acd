"""What a cell sees, by a plan, against where gradients of the built modules in float64 are not zero."""

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from obverse import (
    AdaptiveAvgPool,
    Autoencoder,
    AvgPool,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    NearestUnpool,
    Pad,
    Parallel,
    PixelShuffle,
    PixelUnshuffle,
    Residual,
    ResizeConv,
    SubpixelConv,
    Tanh,
    Upsample,
    mirror,
)
from obverse.testing.strategies import chains_with_shapes, graphs, shapes
from running import parts

SEEING = (
    *("Conv", "ConvTranspose", "ResizeConv", "SubpixelConv", "AvgPool", "AdaptiveAvgPool", "NearestUnpool", "Upsample"),
    *("PixelShuffle", "PixelUnshuffle", "Pad", "Crop", "Tanh", "Residual", "Parallel"),
)
spatial = shapes([1, 2])


def footprints(block, shape):
    """For every axis, of each cell that comes out the cells that went in of which it has a gradient."""
    module = block.build(shape).double().eval()
    for layer in module.modules():  # what works in place leaves no gradient behind it
        if hasattr(layer, "inplace"):
            layer.inplace = False
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    x = torch.rand(1, *shape, dtype=torch.double) + 0.5
    after, rank = block.output_shape(shape), len(shape) - 1
    seen = torch.zeros(*after[1:], *shape[1:], dtype=torch.bool)
    for cell in torch.cartesian_prod(*[torch.arange(size) for size in after[1:]]).reshape(-1, rank).tolist():
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(module(x)[(0, slice(None), *cell)].sum(), x)
        seen[tuple(cell)] = (gradient[0].abs() > 1e-14).any(0)
    return [
        seen.any(tuple(dim for dim in range(2 * rank) if dim not in (axis, rank + axis))) if rank > 1 else seen
        for axis in range(rank)
    ]


def check(chain, shape, exact=True):
    sights = chain.windows(shape)
    step = chain.plan(shape).steps[-1]
    if sights is None:
        assert step.receptive_field == shape[1:]
        return
    for axis, cells in enumerate(footprints(chain, shape)):
        seen = sights[axis]
        assert step.receptive_field[axis] == seen.size
        for cell, row in enumerate(cells):
            found = row.nonzero().flatten().tolist()
            first, last = seen.of(cell)
            assert not found or found[-1] - found[0] < step.receptive_field[axis]
            assert last - first < step.receptive_field[axis]
            if found and first >= 0 and last < shape[axis + 1]:  # at the border a cell may see what its neighbour sees
                assert first <= found[0] <= found[-1] <= last, "nothing beyond is seen"
                assert not exact or (first, last) == (found[0], found[-1])


@given(spatial.flatmap(lambda shape: st.tuples(graphs(shape, SEEING, depth=2), st.just(shape))))
@example((Chain(Conv(1, 3, stride=2, padding=1), ConvTranspose(1, 4, stride=2, padding=1), Conv(1, 2)), (1, 12)))
@example((Chain(ConvTranspose(1, 4, stride=2, padding=1), Conv(1, 2)), (1, 12)))
@example((Chain(AdaptiveAvgPool(5), Conv(1, 2), Upsample(11, mode="linear"), NearestUnpool((9,))), (1, 8)))
@example((Chain(Residual(Chain(Conv(1, 3, stride=2, padding=1))), ResizeConv(1, 4, stride=2), Tanh()), (1, 12)))
@example(
    (Chain(Parallel(Conv(1, 5, padding=2), Conv(1, 3, dilation=3, padding=3)), SubpixelConv(1, 3, stride=2)), (1, 12))
)
@example((Chain(Upsample(scale_factor=1.5, mode="nearest"), Conv(1, 2, stride=3)), (1, 9)))
@example((Chain(NearestUnpool((12,), 2, 3, 0, 2), Conv(1, 2)), (1, 4)))
def test_no_cell_sees_more_than_its_plan_says(drawn):
    block, shape = drawn
    assume(not any(getattr(part, "padding_mode", "") == "circular" for part in parts(block)))
    assume(not any(getattr(part, "mode", "") == "circular" for part in parts(block)))
    check(block if isinstance(block, Chain) else Chain(block), shape, exact=False)


EXACT = [
    Chain(Conv(1, 3, stride=2), Conv(1, 3, stride=2, padding="same")),
    Chain(Conv(1, 3, dilation=2), AvgPool(2), Conv(1, 3)),
    Chain(Conv(1, 3, stride=2), Conv(1, 4), ConvTranspose(1, 4), ConvTranspose(1, 3, stride=2)),
    Chain(Conv(1, 4, stride=2), ConvTranspose(1, 4, stride=2, padding=1), Conv(1, 2)),
    Chain(Conv(1, 4, stride=3), ResizeConv(1, 4, stride=3)),
    Chain(Conv(1, 5, stride=3), SubpixelConv(1, 5, stride=3), Conv(1, 2)),
    Chain(Conv(1, 2), Upsample(scale_factor=2), Conv(1, 3)),
    Chain(Conv(1, 2), Upsample(scale_factor=1.5), Conv(1, 2, stride=2)),
    Chain(Upsample(scale_factor=2, mode="linear"), Conv(1, 2)),
    Chain(Upsample(size=37, mode="linear", align_corners=True), Conv(1, 3)),
    Chain(Upsample(scale_factor=3, mode="nearest-exact"), Conv(1, 2)),
    Chain(AdaptiveAvgPool(7), Conv(1, 2)),
    Chain(AvgPool(2), NearestUnpool((24,), 2), Conv(1, 3)),
    Chain(AvgPool(3, stride=2), Conv(1, 2), NearestUnpool((24,), 3, 2, 0), Conv(1, 3)),
    Chain(PixelUnshuffle(2), Conv(4, 3), PixelShuffle(2)),
    Chain(Pad((2, -1)), Conv(1, 3, stride=2), Crop(1)),
    Chain(Residual(Chain(Conv(1, 3, padding=1), Tanh(), Conv(1, 3, padding=1))), Conv(1, 2, stride=2)),
    Chain(Parallel(Conv(1, 5, stride=2, padding=2), Conv(1, 3, stride=2, padding=1)), Conv(1, 2)),
]


@pytest.mark.parametrize("chain", EXACT, ids=str)
def test_away_from_the_border_a_cell_sees_what_its_plan_says(chain):
    shape = next((1, n) for n in range(24, 48) if n in chain.accepts((1, None)).axes[0].accepted)
    check(chain, shape)


CONVOLVED = ("Conv", "AvgPool", "Tanh")


@given(chains_with_shapes(CONVOLVED, ranks=[1, 2], most=4))
@example((Chain(Conv(1, 3, stride=2, padding=1), Conv(1, 3, stride=2, padding=1)), (1, 12)))
def test_it_sees_just_that_through_any_convolutions_and_poolings(drawn):
    chain, shape = drawn
    assume(
        not any(getattr(part, "padding_mode", "") == "circular" for part in parts(chain))
    )  # which sees round the end
    check(chain, shape, exact=all(getattr(part, "padding", 0) in (0, (0,), (0, 0), "valid") for part in parts(chain)))


def test_a_decoder_sees_by_turns():
    encoder = Chain(Conv(1, 4, stride=2), Tanh(), Conv(1, 4, stride=2))
    model = Autoencoder(encoder, (1, 30))
    assert model.plan.steps[-1].receptive_field == (18,)
    assert [step.jump for step in model.plan.steps if not step.block.pointwise] == [(2,), (4,), (2,), (1,)]
    check(Chain(encoder, mirror(encoder, (1, 30))), (1, 62))
