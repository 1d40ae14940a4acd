"""Blocks of well-known networks, as compositions: what the docs show, at every size, in one to three dimensions."""

from dataclasses import replace

import pytest
import torch

from obverse import (
    GELU,
    AdaptiveAvgPool,
    Autoencoder,
    BatchNorm,
    Chain,
    Conv,
    Crop,
    Identity,
    LayerNorm,
    MaxPool,
    MirrorError,
    Pad,
    Parallel,
    Pointwise,
    Rearrange,
    ReLU,
    Residual,
    ShapeError,
    Sigmoid,
    mirror,
)
from obverse.graph import Graph, Node


def convnext(channels):
    depthwise = Conv(channels, 7, padding=3, groups=channels)
    return Residual(Chain(depthwise, LayerNorm(), Conv(4 * channels, 1), GELU(), Conv(channels, 1)))


def pre_activation(channels, stride=1):
    first = Conv(channels, 3, stride=stride, padding=1, bias=False)
    second = Conv(channels, 3, padding=1, bias=False)
    return Residual(Chain(BatchNorm(), ReLU(), first, BatchNorm(), ReLU(), second))


def squeeze_excitation(channels):
    gate = Chain(AdaptiveAvgPool(1), Conv(channels // 4, 1), ReLU(), Conv(channels, 1), Sigmoid())
    return Parallel(Identity(), gate, join="multiply")


def inverted_residual(channels, expansion=3):
    wide = channels * expansion
    return Residual(
        Chain(
            *(Conv(wide, 1, bias=False), BatchNorm(), Pointwise("ReLU6")),
            *(Conv(wide, 3, padding=1, groups=wide, bias=False), BatchNorm(), Pointwise("ReLU6")),
            *(squeeze_excitation(wide), Conv(channels, 1, bias=False), BatchNorm()),
        )
    )


def inception(channels):
    quarter = channels // 4
    return Parallel(
        Conv(quarter, 1),
        Chain(Conv(quarter, 1), ReLU(), Conv(quarter, 3, padding=1)),
        Chain(Conv(quarter, 1), ReLU(), Conv(quarter, 5, padding=2)),
        Chain(MaxPool(3, stride=1, padding=1), Conv(quarter, 1)),
        join="concat",
    )


WIRED = Graph(Node("first", Conv(8, 3), (0,), (1,)), Node("then", ReLU(), (1,), (2,)))

COMPOSITIONS = [convnext, pre_activation, squeeze_excitation, inverted_residual, inception]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("compose", COMPOSITIONS, ids=lambda compose: compose.__name__)
def test_a_composition_mirrors_and_restores_every_size(compose, rank):
    encoder = Chain(Conv(8, 3, stride=2, padding=1), compose(8), ReLU(), Conv(4, 3, stride=2, padding=1))
    model = Autoencoder(encoder, (2, *(12,) * rank)).eval()
    for size in (12, 13, 15):
        x = torch.rand(2, 2, *(size,) * rank)
        assert model(x)[0].shape == x.shape


@pytest.mark.parametrize("compose", COMPOSITIONS, ids=lambda compose: compose.__name__)
def test_every_parameter_of_both_sides_learns(compose):
    torch.manual_seed(0)
    model = Autoencoder(Chain(Conv(8, 3, padding=1), compose(8), Conv(4, 3, stride=2)), (2, 12, 12))
    model(torch.rand(3, 2, 12, 12))[0].square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("compose", COMPOSITIONS, ids=lambda compose: compose.__name__)
def test_activations_inside_survive_the_mirror(compose):
    block = compose(8)
    before, after = repr(block), repr(block.mirror((8, 12, 12)))
    for name in ("ReLU()", "GELU()", "ReLU6", "Sigmoid()"):
        assert after.count(name) == before.count(name)


def test_a_strided_pre_activation_block_has_its_shortcut_worked_out():
    block = pre_activation(16, stride=2)
    assert block.shortcut_at((8, 28, 28)) == Conv(16, 1, stride=2)
    assert mirror(block, (8, 27, 28)).output_shape((16, 14, 14)) == (8, 27, 28)


def test_a_gate_on_a_branch_that_changes_its_shape_is_refused_with_the_repair():
    gate = Chain(AdaptiveAvgPool(1), Conv(16, 1), Sigmoid())
    gated = Parallel(Conv(16, 3, stride=2, padding=1), gate, join="multiply")
    assert gated.output_shape((8, 28, 28)) == (16, 14, 14)
    with pytest.raises(MirrorError, match="Gate behind it") as error:
        gated.mirror((8, 28, 28))
    assert "Chain(Conv(16, 3, stride=2, padding=1), Parallel(Identity(), ..., join='multiply'))" in error.value.repair
    repaired = Chain(gated.branches[0], Parallel(Identity(), gate, join="multiply"))
    assert repaired.mirror((8, 28, 28)).output_shape((16, 14, 14)) == (8, 28, 28)


@pytest.mark.parametrize(
    ("block", "changes", "changed"),
    [
        (Chain(Conv(8, 3), ReLU()), {"blocks": [Conv(8, 3)]}, Chain(Conv(8, 3))),
        (Parallel(ReLU(), Identity()), {"join": "concat"}, Parallel(ReLU(), Identity(), join="concat")),
        (Parallel(ReLU(), Identity(), join="concat"), {"branches": (ReLU(),)}, Parallel(ReLU(), join="concat")),
        (Pad((1, 2), (0, 0)), {"mode": "reflect"}, Pad((1, 2), (0, 0), mode="reflect")),
        (Pad((1, 2), mode="reflect"), {"padding": [3]}, Pad(3, mode="reflect")),
        (Crop((1, 2)), {"cropping": [(0, 1)]}, Crop((0, 1))),
        (Rearrange("c (h p) -> (c p) h", p=2), {"lengths": {"p": 3}}, Rearrange("c (h p) -> (c p) h", p=3)),
        (Rearrange("(lengths c) -> lengths c", lengths=2), {}, Rearrange("(lengths c) -> lengths c", lengths=2)),
        (Pointwise("Hardtanh", min_val=-2.0), {"arguments": ()}, Pointwise("Hardtanh")),
        (WIRED, {}, WIRED),
        (WIRED, {"nodes": WIRED.nodes[:1], "sink": 1}, Graph(*WIRED.nodes[:1], sink=1)),
    ],
    ids=repr,
)
def test_arguments_that_are_written_one_by_one_are_replaced_by_their_name(block, changes, changed):
    assert replace(block, **changes) == changed


def test_arguments_are_given_one_by_one_or_by_name_but_not_both():
    with pytest.raises(TypeError, match="unexpected keyword argument 'blocks'"):
        Chain(ReLU(), blocks=[ReLU()])
    with pytest.raises(ShapeError, match="a chain has at least one block"):
        replace(Chain(ReLU()), blocks=[])
