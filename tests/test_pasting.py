"""Plain PyTorch to paste: it runs without obverse, has the model's keys, and gives its numbers."""

import ast
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from obverse import (
    Autoencoder,
    AvgPool,
    Block,
    Chain,
    ConfigError,
    Conv,
    Flatten,
    Linear,
    LPPool,
    MaxPool,
    MirrorError,
    NearestUnpool,
    Pad,
    Parallel,
    ReLU,
    Residual,
    ShapeError,
    Skip,
)
from obverse.pasting import pytorch_code
from obverse.testing.strategies import DRAWN, blocks_with_shapes, chains_with_shapes, graphs, shapes

# PyTorch says once that its own "same" copies; obverse's module pads for itself, what is pasted is PyTorch's
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
few = settings(max_examples=max(settings.default.max_examples // 5, 10))  # every one builds two models


def pasted(block, shape, **how):
    source = pytorch_code(block, shape, **how)
    names = {}
    exec(compile(source, "pasted", "exec"), names)
    imported = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert "obverse" not in "".join(map(ast.unparse, imported))
    return names["Autoencoder"]()


def built(block, shape, **how):
    try:
        return Autoencoder(block, shape, **how)
    except (MirrorError, ShapeError):  # a gate that has no mirror, say
        assume(False)


def assert_alike(block, shape, **how):
    ours, plain = built(block, shape, **how), pasted(block, shape, **how)
    weights = ours.state_dict()
    assert [*plain.state_dict()] == [*weights]
    plain.load_state_dict(weights, strict=True)
    x = torch.rand(2, *shape)
    results = []
    for model in (ours, plain):
        torch.manual_seed(1)  # for dropout
        results.append(model(x.clone()))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", DRAWN)
@few
@given(data=st.data())
def test_every_block_and_its_mirror(name, data):
    assert_alike(*data.draw(blocks_with_shapes([name])))


@few
@given(chains_with_shapes(most=4))
@example((Chain(LPPool(2, (1,)), LPPool(2, (2,), (1,))), (1, 3)))
@example((Chain(Chain(MaxPool(2, return_indices=True), Skip()), Conv(4, 3, padding="same", stride=2)), (2, 9, 8)))
@example((Chain(AvgPool(3, stride=2, ceil_mode=True), Flatten(), Linear(3)), (2, 9)))
@example((Chain(Pad((1, 0), mode="reflect"), Pad(1, value=2.0)), (2, 9)))
@example((Chain(NearestUnpool((7,), 3, 2, dilation=2, ceil_mode=True)), (2, 2)))
def test_chains(drawn):
    assert_alike(*drawn)


@few
@given(shapes().flatmap(lambda shape: st.tuples(graphs(shape, depth=2), st.just(shape))))
@example((Residual(Chain(Conv(2, 3, padding=1), Skip("add")), Chain(Skip("add"), ReLU())), (2, 5)))
@example((Parallel(Skip(), Chain(Conv(2, 1), Skip())).graph((2, 5)), (2, 5)))
def test_blocks_with_branches(drawn):
    assert_alike(*drawn)


@pytest.mark.parametrize("upsampling", ["resize", "subpixel"])
@few
@given(blocks_with_shapes(["Conv"]))
def test_styles_of_upsampling(upsampling, drawn):
    assert_alike(*drawn, upsampling=upsampling)


@pytest.mark.parametrize(("factor", "written"), [(2, "nn.Upsample(scale_factor=2)"), (3, "Take([min(i // 3, 2)")])
def test_pytorch_repeats_cells_only_where_its_floats_are_exact(factor, written):
    assert written in pytorch_code(MaxPool(factor), (1, 3 * factor, 3 * factor))


def test_a_gate():
    gate = Chain(Conv(4, 1), ReLU())
    assert_alike(Parallel(Conv(4, 3, padding=1), gate, join="multiply"), (4, 6, 6))


def test_a_subpixel_convolution_starts_as_a_resize():
    decoder = pasted(Conv(4, 3, stride=2, padding=1), (1, 8, 8), upsampling="subpixel").decoder
    weight = decoder[0].weight.detach()
    torch.testing.assert_close(weight[0::4], weight[3::4])


def test_what_is_alike_is_written_once():
    graph = Parallel(Conv(4, 3, padding=1), Conv(4, 1)).graph((4, 8, 8))
    source = pytorch_code(Chain(graph, graph, Residual(Conv(4, 3, padding=1)), Residual(Conv(4, 1))), (4, 8, 8))
    assert source.count("class Graph") == 2  # the encoder's, and the decoder's
    assert source.count("class Residual") == 1


def test_a_block_of_somebody_elses_is_refused():
    @dataclass(frozen=True, repr=False)
    class Double(Block):
        pointwise = True

    with pytest.raises(ConfigError, match=r"Double\(\) is not written as plain PyTorch"):
        pytorch_code(Chain(Conv(4, 3), Double()), (1, 8, 8))


def test_a_shape_that_is_not_taken_is_refused():
    with pytest.raises(ShapeError, match="kernel spans 9"):
        pytorch_code(Conv(4, 9), (1, 8, 8))
