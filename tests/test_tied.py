"""Tied weights: one parameter used twice, whatever is done to the model that holds it."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from torch import nn

from obverse import (
    Autoencoder,
    BatchNorm,
    Block,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    Identity,
    Linear,
    MaxPool,
    Pad,
    Parallel,
    ReLU,
    Residual,
    ResizeConv,
    ShapeError,
    Sigmoid,
    Skip,
    Upsample,
    mirror,
)
from obverse.decoder import counterparts
from obverse.testing.strategies import blocks_with_shapes, chains_with_shapes, graphs, shapes, sizes
from running import ALL_RANKS, leaves, outcome, parts

LINEAR = (
    *("Conv", "ConvTranspose", "Linear", "Flatten", "Unflatten", "Pad", "Crop"),
    *("PixelShuffle", "PixelUnshuffle", "Rearrange"),
)
EVERYTHING = Chain(
    Chain(Conv(4, 3, stride=2, padding=1, bias=False), BatchNorm(), ReLU()),
    Residual(Chain(Conv(6, 3, stride=2, padding=1), ReLU(), Conv(6, 4, padding="same"))),
    Parallel(Conv(3, 1), Chain(ReLU(), Conv(2, 3, padding=1)), join="concat"),
    ConvTranspose(5, 2, stride=2),
    Upsample(scale_factor=2),
    MaxPool(2),
    Conv(4, 2, stride=2, padding="same", groups=1),
)


def layers(module):
    """The layers of a module that have a weight, by their places."""
    return {name: layer for name, layer in module.named_modules() if hasattr(layer, "weight")}


def branching(depth=2):
    return shapes(ALL_RANKS).flatmap(lambda shape: st.tuples(graphs(shape, LINEAR, depth), st.just(shape)))


def one_style(block):
    return not any(getattr(p, "upsampling", None) in ("resize", "subpixel") for p in parts(block))


# Adjoint -----------------------------------------------------------------------------------------------------------


@given(blocks_with_shapes(LINEAR, ALL_RANKS) | chains_with_shapes(LINEAR, ALL_RANKS) | branching())
@example((Chain(Conv(2, 4, padding="same"), Conv(3, 3, stride=2)), (1, 9)))
@example((Chain(Conv(4, 3, stride=2, groups=2), ConvTranspose(6, 2, stride=3, groups=2)), (2, 5, 6)))
@example((Chain(ConvTranspose(1, 1, output_padding=1, dilation=2)), (1, 3)))
@example((Chain(Chain(Conv(2, 3)), Flatten(), Chain(Linear(7), Linear(3))), (1, 4, 5)))
@example((Chain(Residual(Conv(2, 3, stride=2, padding=1)), Residual(Linear(4), Linear(4))), (1, 7)))
@example((Parallel(Conv(1, 1), Chain(Conv(1, 1), Conv(1, 1)), fan=(1, 1), join="concat"), (2, 3)))
def test_the_decoder_of_a_tied_linear_encoder_is_its_adjoint(drawn):
    block, shape = drawn
    assume(block.adjoint and all(part.adjoint for part in parts(block)))
    model = Autoencoder(block, shape, tied=True, dtype=torch.double)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    code = block.output_shape(shape)
    x, y = torch.randn(2, *shape, dtype=torch.double), torch.randn(2, *code, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close((model.encode(x) * y).sum(), (x * model.decode(y)).sum(), rtol=1e-9, atol=1e-9)
    assert not [name for name in model.decoder.state_dict() if not name.endswith("bias")]


# Pairs -------------------------------------------------------------------------------------------------------------


@given(blocks_with_shapes(ranks=ALL_RANKS) | chains_with_shapes(ranks=ALL_RANKS))
def test_what_is_paired_is_each_others_mirror(drawn):
    block, shape = drawn
    assume(one_style(block) and not any(type(p).__name__ in ("ResizeConv", "SubpixelConv") for p in parts(block)))
    free, tied = Autoencoder(block, shape), Autoencoder(block, shape, tied=True)
    pairs = list(counterparts(tied.encoder.block, tied.decoder.block, shape))
    event(f"{min(len(pairs), 3)} pairs")
    assert len({there for there, _ in pairs}) == len({here for _, here in pairs}) == len(pairs)
    for there, here in pairs:
        ours, theirs = free.encoder.get_submodule(there), free.decoder.get_submodule(here)
        assert theirs.weight.shape == (ours.weight.T if isinstance(ours, nn.Linear) else ours.weight).shape
        assert getattr(ours, "stride", None) == getattr(theirs, "stride", None)
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    convolutions = [name for name, layer in layers(free.encoder).items() if type(layer).__name__.startswith(_TIEABLE)]
    assert sorted(there for there, _ in pairs) == sorted(convolutions)
    assert all(isinstance(free.decoder.get_submodule(here), kinds) for _, here in pairs)
    assert set(free.state_dict()) - set(tied.state_dict()) == {f"decoder.{here}.weight" for _, here in pairs}
    assert tied.plan.parameters == sum(p.numel() for p in tied.parameters())
    assert tied.decoder.plan.parameters == sum(p.numel() for p in tied.decoder.parameters())


_TIEABLE = ("Conv", "Linear")


def test_pairs_follow_the_mirror_and_not_the_shapes():
    encoder = Chain(Conv(4, 3, padding=1), Conv(4, 3, padding=1), Conv(4, 3, padding=1), Linear(8), Linear(8))
    model = Autoencoder(encoder, (4, 8, 8), tied=True)
    for there, here in zip(range(5), (4, 3, 2, 1, 0), strict=True):
        ours, theirs = model.encoder[there].weight, model.decoder[here].weight
        assert theirs.untyped_storage().data_ptr() == ours.untyped_storage().data_ptr()
        assert torch.equal(theirs, ours.T if there > 2 else ours)


def test_what_has_no_counterpart_learns_for_itself():
    encoder = Chain(Conv(4, 3), BatchNorm(), ReLU(), Skip(), MaxPool(2), Conv(4, 3))
    model = Autoencoder(encoder, (1, 12, 12), tied=True, output=Conv(1, 1))
    assert list(model.decoder.state_dict()) == [
        *("0.bias", "2.weight", "2.bias"),
        *(f"3.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
        *("5.bias", "6.weight", "6.bias"),
    ]


def test_the_gates_of_a_mirror_are_fresh():
    gate = Chain(Linear(6), Sigmoid())
    encoder = Chain(Conv(4, 3, padding=1), Parallel(Linear(6), gate, join="multiply"))
    model = Autoencoder(encoder, (4, 6, 6), tied=True)
    assert [name for name in model.decoder.state_dict() if name.endswith("weight")] == ["0.1.0.weight"]


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        (Chain(Conv(4, 3, stride=2)), {"upsampling": "resize"}),
        (Chain(Conv(4, 3, stride=2)), {"upsampling": "subpixel"}),
        (Chain(ReLU(), Chain(Conv(4, 3, stride=2, upsampling="subpixel"))), {}),
        (Residual(Chain(Conv(4, 3, stride=2, padding=1, upsampling="resize"))), {}),
        (Chain(ResizeConv(4, 2, stride=2)), {}),
    ],
)
def test_other_styles_have_no_weight_to_tie(encoder, options):
    Autoencoder(encoder, (1, 9, 9), **options)
    with pytest.raises(ShapeError, match="tied"):
        Autoencoder(encoder, (1, 9, 9), tied=True, **options)


# Any size ----------------------------------------------------------------------------------------------------------


@given(chains_with_shapes(), st.data())
def test_a_tied_model_restores_every_size_as_a_free_one_with_the_same_weights(drawn, data):
    chain, shape = drawn
    assume(one_style(chain) and not any(type(p).__name__ in ("ResizeConv", "SubpixelConv") for p in parts(chain)))
    tied, free = (Autoencoder(chain, shape, tied=tied, dtype=torch.double).eval() for tied in (True, False))
    untied = dict(tied.state_dict())
    for _, here in counterparts(tied.encoder.block, tied.decoder.block, shape):
        untied[f"decoder.{here}.weight"] = tied.decoder.get_submodule(here).weight
    free.load_state_dict(untied)
    other = (shape[0], *(data.draw(sizes(most=6 if len(shape) == 4 else 12)) for _ in shape[1:]))
    for at in (shape, other):
        x = torch.rand(2, *at, dtype=torch.double)
        with torch.no_grad():
            expected, given_out = outcome(free, x.clone()), outcome(tied, x.clone())
        assert (expected is None) == (given_out is None)
        if expected is not None:
            torch.testing.assert_close(given_out, expected, equal_nan=True)


# One parameter, whatever is done to it -----------------------------------------------------------------------------


@pytest.fixture
def model():
    return Autoencoder(EVERYTHING, (2, 16, 16), tied=True).eval()


@pytest.fixture
def x():
    return torch.rand(2, 2, 17, 19)


def is_tied(model):
    """Whether a change of the encoder's weights, and of nothing else, changes what the decoder gives."""
    code = torch.rand(1, *model.code_shape, dtype=next(model.parameters()).dtype)
    with torch.no_grad():
        before = model.decode(code)
        for parameter in model.encoder.parameters():
            parameter.mul_(1.5)
        changed = not torch.equal(model.decode(code), before)
        for parameter in model.encoder.parameters():
            parameter.div_(1.5)
    return changed


def test_it_is_there_once(model):
    names = list(model.state_dict())
    assert len(dict(model.named_parameters(remove_duplicate=False))) == len(list(model.parameters()))
    assert [name for name in names if name.startswith("decoder") and name.endswith("weight")] == ["decoder.6.0.weight"]
    assert type(model.decoder.get_submodule("6.0")) is nn.BatchNorm2d
    storages = [value.untyped_storage().data_ptr() for value in model.state_dict().values()]
    assert len(set(storages)) == len(storages)
    assert is_tied(model)
    assert not is_tied(Autoencoder(EVERYTHING, (2, 16, 16)))
    assert repr(model.decoder).count("tied=True") == 8


def test_safetensors_takes_it(model, x, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_model(model, tmp_path / "model.safetensors")
    safetensors.save_file(model.state_dict(), tmp_path / "state.safetensors")
    other = Autoencoder(EVERYTHING, (2, 16, 16), tied=True).eval()
    assert safetensors.load_model(other, tmp_path / "model.safetensors") == (set(), [])
    assert torch.equal(other(x)[0], model(x)[0])


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_is_loaded(model, x, assign):
    other = Autoencoder(EVERYTHING, (2, 16, 16), tied=True).eval()
    other.load_state_dict(model.state_dict(), strict=True, assign=assign)
    assert torch.equal(other(x)[0], model(x)[0])


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded])
def test_a_twin_is_tied_to_itself(model, x, twin_of):
    twin = twin_of(model)
    assert torch.equal(twin(x)[0], model(x)[0])
    expected = model(x)[0]
    assert is_tied(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(x)[0], expected)


@pytest.mark.parametrize(
    "move", [lambda m: m.double(), lambda m: m.to("meta").to_empty(device="cpu"), lambda m: m.half()]
)
def test_it_stays_tied_where_it_is_moved(model, move):
    moved = move(model)
    assert len({p.dtype for p in moved.parameters()}) == 1
    with torch.no_grad():
        for parameter in moved.parameters():
            nn.init.ones_(parameter)
    for layer in layers(moved.decoder).values():
        assert torch.equal(layer.weight, torch.ones_like(layer.weight))
    assert is_tied(moved.double())


def test_it_is_made_on_meta_and_in_a_dtype():
    model = Autoencoder(EVERYTHING, (2, 16, 16), tied=True, device="meta", dtype=torch.double)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.double)}
    assert model(torch.empty(2, 2, 17, 16, device="meta", dtype=torch.double))[0].shape == (2, 2, 17, 16)


def test_its_gradient_is_the_sum_of_both_uses(model, x):
    model(x)[0].square().sum().backward()
    free = Autoencoder(EVERYTHING, (2, 16, 16)).eval()
    pairs = list(counterparts(model.encoder.block, model.decoder.block, (2, 16, 16)))
    untied = {**model.state_dict(), **{f"decoder.{h}.weight": model.decoder.get_submodule(h).weight for _, h in pairs}}
    free.load_state_dict(untied)
    free(x)[0].square().sum().backward()
    assert len(pairs) == 8
    for there, here in pairs:
        both = free.encoder.get_submodule(there).weight.grad + free.decoder.get_submodule(here).weight.grad
        torch.testing.assert_close(model.encoder.get_submodule(there).weight.grad, both, rtol=1e-4, atol=1e-4)


def test_an_optimiser_steps_once(model, x):
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (model(x)[0] - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert is_tied(model.eval())


def test_functional_call_gives_both_their_weight(model, x):
    state = {name: torch.zeros_like(p) if name.endswith("weight") else p for name, p in model.named_parameters()}
    biases = torch.func.functional_call(model, {**state, **dict(model.named_buffers())}, (x,))[0]
    assert torch.equal(biases[0], biases[1])
    assert not torch.equal(model(x)[0][0], model(x)[0][1])

    def loss(parameters):
        return torch.func.functional_call(model, parameters, (x,))[0].square().sum()

    gradients = torch.func.grad(loss)(dict(model.named_parameters()))
    model(x)[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_a_parametrization_of_the_encoder_is_one_of_the_decoder(model):
    nn.utils.parametrizations.weight_norm(model.encoder[0][0])
    assert torch.equal(model.decoder[-1][-1].weight, model.encoder[0][0].weight)
    assert is_tied(model)


def test_it_is_exported_with_free_sizes(model):
    encoder = Chain(Conv(4, 3, stride=2, padding=1), ReLU(), Residual(Conv(6, 3, stride=2, padding=1)), Conv(4, 3))
    model = Autoencoder(encoder, (2, 24, 24), tied=True).eval()
    dims = {0: torch.export.Dim("batch", max=16), **{a: torch.export.Dim(f"n{a}", min=20, max=256) for a in (2, 3)}}
    program = torch.export.export(model, (torch.rand(2, 2, 25, 30),), dynamic_shapes=(dims,))
    assert sorted(program.state_dict) == sorted(model.state_dict())
    for size in [(24, 24), (25, 31), (40, 20)]:
        x = torch.rand(3, 2, *size)
        torch.testing.assert_close(program.module()(x), model(x))


def test_it_is_compiled_in_one_piece(model, x):
    encoder = Chain(Conv(4, 3, stride=2, padding=1), ReLU(), Linear(5))
    model = Autoencoder(encoder, (2, 8, 8), tied=True).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.rand(2, 2, 8, 8)
    torch.testing.assert_close(compiled(x), model(x))
    with torch.no_grad():
        model.encoder[0].weight.mul_(2)
    torch.testing.assert_close(compiled(x), model(x))


def test_data_parallel_training_sees_only_forward(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = Autoencoder(EVERYTHING, (2, 16, 16), tied=True)
        parallel = nn.parallel.DistributedDataParallel(model)
        for size in (16, 17):
            parallel(torch.rand(2, 2, size, size))[0].square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_a_plugin_that_ties_nothing_is_left_alone():
    class Odd(Block):
        def output_shape(self, shape):
            return shape

        def mirror(self, shape):
            return Chain(Pad(1), Crop(1), Identity())

    encoder = Chain(Conv(4, 3), Odd(), Conv(4, 3))
    decoder = mirror(encoder, (1, 9, 9))
    assert [type(block).__name__ for block in leaves(decoder)] == [
        "ConvTranspose",
        "Pad",
        "Crop",
        "Identity",
        "ConvTranspose",
    ]
    assert list(counterparts(encoder, decoder, (1, 9, 9))) == [("2", "0"), ("0", "2")]
