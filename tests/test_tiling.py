"""Tiles run one by one give what the whole gives, in code and in reconstruction; what sees everything is refused."""

import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from obverse import (
    AdaptiveAvgPool,
    Autoencoder,
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    Flatten,
    GroupNorm,
    Identity,
    Linear,
    MaxPool,
    Parallel,
    ReLU,
    Residual,
    ShapeError,
    Sigmoid,
    Skip,
)
from obverse.testing.strategies import chains_with_shapes
from obverse.tiling import tiled, tiles

TILED = ("Conv", "MaxPool", "AvgPool", "Pad", "ReLU", "BatchNorm", "Residual", "Skip", "Tanh")


@st.composite
def large(draw):
    chain, shape = draw(chains_with_shapes(TILED, ranks=[1, 2], most=3))
    most = 90 if len(shape) == 2 else 50
    return chain, (shape[0], *(draw(st.integers(30, most)) for _ in shape[1:])), draw(st.integers(16, 40))


def agree(model, x, tile):
    model = model.double().eval()
    with torch.no_grad():
        reconstruction, code = model(x)
    torch.testing.assert_close(tiled(model.encoder, x, tile), code, equal_nan=True)
    torch.testing.assert_close(tiled(model, x, tile), reconstruction, equal_nan=True)


@given(large())
@example((Chain(Conv(1, 3, stride=2, padding=1), Conv(1, 4, stride=3, padding="same")), (1, 83), 40))
@example((Chain(MaxPool(3, stride=2, ceil_mode=True), Conv(2, 3, padding=1)), (1, 61), 30))
@example((Chain(Skip(), Conv(1, 1, stride=3), Conv(1, 3)), (1, 80), 30))
@example((Chain(Conv(1, 4, padding="same", padding_mode="reflect"), AvgPool(2)), (1, 50, 41), 24))
@example((Chain(Conv(7, 3, stride=3, padding="same", upsampling="resize"), Conv(1, 1, stride=2)), (7, 30, 46), 16))
def test_tiles_agree_with_the_whole(drawn):
    chain, shape, tile = drawn
    try:
        model = Autoencoder(chain, shape)
        pieces = tiles(model, shape, tile)
        tiles(model.encoder, shape, tile)
    except ShapeError:
        assume(False)
    event(f"{min(len(pieces), 5)} pieces")
    agree(model, torch.randn(2, *shape, dtype=torch.double), tile)


MODELS = [
    (Chain(Conv(4, 3, stride=2, padding=1), ReLU(), Conv(8, 3, stride=2, padding=1)), (1, 150), 64, {}),
    (Chain(Conv(4, 4, stride=2), BatchNorm(), ReLU(), MaxPool(2), Conv(8, 3)), (3, 150, 131), 72, {}),
    (Chain(Conv(4, 4, stride=3), ReLU(), Conv(8, 3, stride=2)), (1, 150), 80, {"upsampling": "resize"}),
    (Chain(Conv(4, 5, stride=2), ReLU(), Conv(8, 4, stride=2)), (1, 150), 80, {"upsampling": "subpixel"}),
    (Chain(Conv(4, 3, stride=2), ReLU(), Conv(8, 3, stride=2), ReLU(), Conv(8, 3)), (1, 150), 90, {"skips": "concat"}),
    (Chain(Conv(4, 3, padding="same", stride=2), Residual(Chain(Conv(8, 3, stride=2, padding=1)))), (1, 99), 64, {}),
]


@pytest.mark.parametrize(("chain", "shape", "tile", "options"), MODELS, ids=[str(chain) for chain, *_ in MODELS])
def test_a_model_is_run_in_several_tiles_without_a_seam(chain, shape, tile, options):
    model = Autoencoder(chain, shape, output=Sigmoid(), **options)
    assert len(tiles(model, shape, tile)) > 1
    assert all(piece.take[0].stop - piece.take[0].start <= tile for piece in tiles(model, shape, tile))
    agree(model, torch.randn(2, *shape, dtype=torch.double), tile)


SEEING_ALL = [
    Chain(Conv(4, 3), GroupNorm(1)),
    Chain(Conv(4, 3), AdaptiveAvgPool(7)),
    Chain(Conv(4, 3), Flatten(), Linear(3)),
    Chain(Parallel(Identity(), Chain(AdaptiveAvgPool(1), Conv(1, 1)), join="multiply")),
    Chain(Conv(4, 3, padding=1, padding_mode="circular")),
]


@pytest.mark.parametrize("chain", SEEING_ALL, ids=str)
def test_what_sees_everything_is_refused(chain):
    with pytest.raises(ShapeError, match="Give the whole input to the model"):
        tiles(chain, (1, 100), 50)


def test_a_tile_that_is_too_small_tells_the_smallest_that_would_do():
    chain = Chain(Conv(4, 3, stride=2, padding=1), Conv(4, 3, stride=2, padding=1), Conv(4, 7))
    with pytest.raises(ShapeError, match=r"holds no cell .* along L.\nGive tile=(\d+)") as refused:
        tiles(chain, (1, 400), 20)
    enough = int(str(refused.value).split("tile=")[1].rstrip("."))
    assert tiles(chain, (1, 400), enough)
    with pytest.raises(ShapeError):
        tiles(chain, (1, 400), enough - 4)
    with pytest.raises(ShapeError, match="is for 1 axes"):
        tiles(chain, (1, 400, 400), (20,))


def test_what_was_training_goes_on_training():
    model = Autoencoder(Chain(Conv(1, 3)), (1, 30)).train()
    tiled(model, torch.rand(1, 1, 90), 30)
    assert model.training
