"""Modules become blocks: every layer of torch.nn by its rule, sequences as chains, and all else as recorded graphs."""

import inspect

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import obverse
from obverse import Autoencoder, Chain, MirrorError, ObverseError, ShapeError, lift, mirror
from obverse import __all__ as public
from obverse.lifting.kept import Kept
from obverse.lifting.lifted import GROUP
from obverse.lifting.rules_of_modules import RULES
from obverse.plugins import Plugin, PluginWarning

# Every layer of torch.nn ---------------------------------------------------------------------------------------------

IMAGE, LINE, VOLUME, TOKENS, FLAT = (4, 9, 8), (4, 9), (4, 6, 5, 7), (5, 8), (8,)

LAYERS = {
    "AdaptiveAvgPool1d": (nn.AdaptiveAvgPool1d(3), LINE),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    "AdaptiveAvgPool3d": (nn.AdaptiveAvgPool3d(2), VOLUME),
    "AdaptiveMaxPool1d": (nn.AdaptiveMaxPool1d(3), LINE),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d((3, 2)), IMAGE),
    "AdaptiveMaxPool3d": (nn.AdaptiveMaxPool3d(2), VOLUME),
    "AlphaDropout": (nn.AlphaDropout(0.2), IMAGE),
    "AvgPool1d": (nn.AvgPool1d(3, 2, 1), LINE),
    "AvgPool2d": (nn.AvgPool2d((3, 2), 2, 1, True, False), IMAGE),
    "AvgPool3d": (nn.AvgPool3d(2, divisor_override=3), VOLUME),
    "BatchNorm1d": (nn.BatchNorm1d(8, momentum=None), FLAT),
    "BatchNorm2d": (nn.BatchNorm2d(4, eps=1e-3, affine=False), IMAGE),
    "BatchNorm3d": (nn.BatchNorm3d(4, track_running_stats=False), VOLUME),
    "CELU": (nn.CELU(0.5), IMAGE),
    "ChannelShuffle": (nn.ChannelShuffle(2), IMAGE),
    "CircularPad1d": (nn.CircularPad1d((1, 2)), LINE),
    "CircularPad2d": (nn.CircularPad2d((1, 2, 3, 0)), IMAGE),
    "CircularPad3d": (nn.CircularPad3d(1), VOLUME),
    "ConstantPad1d": (nn.ConstantPad1d((1, -2), 3.5), LINE),
    "ConstantPad2d": (nn.ConstantPad2d((1, 2, 3, 0), -1.0), IMAGE),
    "ConstantPad3d": (nn.ConstantPad3d(1, 0.5), VOLUME),
    "Conv1d": (nn.Conv1d(4, 6, 3, 2, 1, groups=2), LINE),
    "Conv2d": (nn.Conv2d(4, 6, (3, 4), (2, 3), (1, 0), 2, bias=False, padding_mode="reflect"), (4, 19, 28)),
    "Conv3d": (nn.Conv3d(4, 6, 3, padding="same"), VOLUME),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3, 2, 1, 1), LINE),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, (2, 1), 1, (1, 0), groups=2, bias=False), IMAGE),
    "ConvTranspose3d": (nn.ConvTranspose3d(4, 6, 2, 2, dilation=2), VOLUME),
    "CrossMapLRN2d": (nn.CrossMapLRN2d(3), IMAGE),
    "Dropout": (nn.Dropout(0.2), IMAGE),
    "Dropout1d": (nn.Dropout1d(0.2), LINE),
    "Dropout2d": (nn.Dropout2d(0.2), IMAGE),
    "Dropout3d": (nn.Dropout3d(0.2), VOLUME),
    "ELU": (nn.ELU(0.5), IMAGE),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout(0.2), IMAGE),
    "Flatten": (nn.Flatten(), IMAGE),
    "Fold": (nn.Fold((4, 5), 2), (12, 12)),
    "FractionalMaxPool2d": (nn.FractionalMaxPool2d(2, output_size=(5, 4), _random_samples=torch.rand(2, 4, 2)), IMAGE),
    "FractionalMaxPool3d": (nn.FractionalMaxPool3d(2, output_size=3, _random_samples=torch.rand(2, 4, 3)), VOLUME),
    "GELU": (nn.GELU("tanh"), IMAGE),
    "GLU": (nn.GLU(1), IMAGE),
    "GroupNorm": (nn.GroupNorm(2, 4, 1e-3), IMAGE),
    "Hardshrink": (nn.Hardshrink(0.2), IMAGE),
    "Hardsigmoid": (nn.Hardsigmoid(), IMAGE),
    "Hardswish": (nn.Hardswish(), IMAGE),
    "Hardtanh": (nn.Hardtanh(-2, 0.5), IMAGE),
    "Identity": (nn.Identity(), IMAGE),
    "InstanceNorm1d": (nn.InstanceNorm1d(4, affine=True), LINE),
    "InstanceNorm2d": (nn.InstanceNorm2d(4), IMAGE),
    "InstanceNorm3d": (nn.InstanceNorm3d(4, track_running_stats=True), VOLUME),
    "LPPool1d": (nn.LPPool1d(2, 2), LINE),
    "LPPool2d": (nn.LPPool2d(2, (2, 3), ceil_mode=True), IMAGE),
    "LPPool3d": (nn.LPPool3d(1, 2), VOLUME),
    "LayerNorm": (nn.LayerNorm(8, bias=False), TOKENS),
    "LeakyReLU": (nn.LeakyReLU(0.2), IMAGE),
    "Linear": (nn.Linear(8, 3, bias=False), TOKENS),
    "LocalResponseNorm": (nn.LocalResponseNorm(2), IMAGE),
    "LogSigmoid": (nn.LogSigmoid(), IMAGE),
    "LogSoftmax": (nn.LogSoftmax(-1), TOKENS),
    "MaxPool1d": (nn.MaxPool1d(3, 2, 1, 2), LINE),
    "MaxPool2d": (nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE),
    "MaxPool3d": (nn.MaxPool3d(2), VOLUME),
    "Mish": (nn.Mish(), IMAGE),
    "PReLU": (nn.PReLU(4), IMAGE),
    "PixelShuffle": (nn.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": (nn.PixelUnshuffle(2), (4, 8, 6)),
    "RMSNorm": (nn.RMSNorm((5, 8)), TOKENS),
    "RReLU": (nn.RReLU(0.1, 0.3), IMAGE),
    "ReLU": (nn.ReLU(), IMAGE),
    "ReLU6": (nn.ReLU6(), IMAGE),
    "ReflectionPad1d": (nn.ReflectionPad1d((1, 2)), LINE),
    "ReflectionPad2d": (nn.ReflectionPad2d((1, 2, 3, 0)), IMAGE),
    "ReflectionPad3d": (nn.ReflectionPad3d(1), VOLUME),
    "ReplicationPad1d": (nn.ReplicationPad1d((1, 2)), LINE),
    "ReplicationPad2d": (nn.ReplicationPad2d((1, 2, 3, 0)), IMAGE),
    "ReplicationPad3d": (nn.ReplicationPad3d(1), VOLUME),
    "SELU": (nn.SELU(), IMAGE),
    "Sequential": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.Sequential(nn.ReLU(), nn.Flatten(2))), IMAGE),
    "SiLU": (nn.SiLU(), IMAGE),
    "Sigmoid": (nn.Sigmoid(), IMAGE),
    "Softmax": (nn.Softmax(1), IMAGE),
    "Softmax2d": (nn.Softmax2d(), IMAGE),
    "Softmin": (nn.Softmin(1), IMAGE),
    "Softplus": (nn.Softplus(2.0, 10.0), IMAGE),
    "Softshrink": (nn.Softshrink(0.2), IMAGE),
    "Softsign": (nn.Softsign(), IMAGE),
    "SyncBatchNorm": (nn.SyncBatchNorm(4), IMAGE),
    "Tanh": (nn.Tanh(), IMAGE),
    "Tanhshrink": (nn.Tanhshrink(), IMAGE),
    "Threshold": (nn.Threshold(0.1, 2.0), IMAGE),
    "TransformerEncoder": (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 9, batch_first=True), 2), TOKENS),
    "TransformerEncoderLayer": (nn.TransformerEncoderLayer(8, 2, 9, batch_first=True), TOKENS),
    "Unflatten": (nn.Unflatten(1, (2, 4)), FLAT),
    "Unfold": (nn.Unfold(3, padding=1, stride=2), IMAGE),
    "Upsample": (nn.Upsample(scale_factor=(2, 3)), IMAGE),
    "UpsamplingBilinear2d": (nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d((13, 17)), IMAGE),
    "ZeroPad1d": (nn.ZeroPad1d((1, 2)), LINE),
    "ZeroPad2d": (nn.ZeroPad2d((1, 2, 3, 0)), IMAGE),
    "ZeroPad3d": (nn.ZeroPad3d(1), VOLUME),
}
"""One layer of every class that takes one tensor and gives one, with a shape that it takes."""

OTHERS = {
    "losses": {name for name in dir(nn) if name.endswith(("Loss", "Loss2d", "LogSoftmaxWithLoss"))},
    "of two inputs": {"Bilinear", "CosineSimilarity", "PairwiseDistance", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"}
    | {"Transformer", "TransformerDecoder", "TransformerDecoderLayer", "MultiheadAttention"},
    "of several outputs": {"RNN", "LSTM", "GRU", "RNNBase", "RNNCell", "LSTMCell", "GRUCell", "RNNCellBase"},
    "of integers": {"Embedding", "EmbeddingBag"},
    "that hold others": {"Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container"}
    | {"DataParallel"},
    "without weights yet": {name for name in dir(nn) if name.startswith("Lazy")},
}
WITHOUT_MIRROR = {"GLU"}


def test_the_table_has_every_layer_of_torch_nn():
    classes = {name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    assert classes <= LAYERS.keys() | set().union(*OTHERS.values()), "a new layer wants a rule, or a line above"
    assert not LAYERS.keys() & set().union(*OTHERS.values())


def with_weights_of(built: nn.Module, module: nn.Module) -> nn.Module:
    built.load_state_dict(module.state_dict())
    return built.eval()


@pytest.mark.parametrize("name", LAYERS)
def test_a_lifted_layer_gives_the_layers_numbers(name):
    module, shape = LAYERS[name]
    module.eval()
    block = lift(module, shape)
    x = torch.randn(2, *shape)
    expected = module(x)
    assert block.output_shape(shape) == expected.shape[1:]
    torch.testing.assert_close(with_weights_of(block.build(shape), module)(x), expected)


@pytest.mark.parametrize("name", sorted(LAYERS.keys() - WITHOUT_MIRROR))
def test_and_its_mirror_restores_the_shape(name):
    module, shape = LAYERS[name]
    decoder = mirror(module, shape)
    with torch.no_grad():
        code = module.eval()(torch.randn(2, *shape))
        assert decoder.eval()(code).shape == (2, *shape)


@pytest.mark.parametrize("name", sorted(WITHOUT_MIRROR))
def test_what_changes_its_shape_without_a_rule_says_which_lines_add_one(name):
    module, shape = LAYERS[name]
    with pytest.raises(MirrorError, match=name):
        mirror(module, shape)


def test_a_layer_that_is_lifted_has_the_block_of_its_name():
    named = [name for name in LAYERS if name.rstrip("123d") in public or name in public]
    assert len(named) > 40
    for name in named:
        block = lift(*LAYERS[name])
        stem = name if name in public else name.rstrip("123d")
        assert type(block).__name__ in (stem, "Pointwise") or isinstance(block, Kept), name


# Sequences of layers -------------------------------------------------------------------------------------------------


def layers_at(shape):
    """Layers that take a shape of C×H×W, or of F."""
    channels = shape[0]
    plain = [st.just(nn.ReLU()), st.just(nn.Tanh()), st.just(nn.Identity()), st.just(nn.Dropout(0.1))]
    if len(shape) == 1:
        return st.one_of(*plain, st.builds(nn.Linear, st.just(channels), st.integers(1, 6), bias=st.booleans()))
    least = min(shape[1:])
    conv = st.builds(
        nn.Conv2d,
        st.just(channels),
        st.integers(1, 5),
        st.integers(1, min(least, 3)),
        stride=st.integers(1, 3),
        padding=st.integers(0, 2),
        bias=st.booleans(),
    )
    options = [*plain, conv, st.just(nn.BatchNorm2d(channels)), st.just(nn.PReLU(channels)), st.just(nn.Flatten())]
    options.append(
        st.builds(nn.ConvTranspose2d, st.just(channels), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
    )
    if least >= 3:
        options.append(st.builds(nn.MaxPool2d, st.integers(2, 3), st.integers(1, 3), ceil_mode=st.booleans()))
        options.append(st.builds(nn.AvgPool2d, st.integers(2, 3), st.integers(1, 3), ceil_mode=st.booleans()))
    return st.one_of(*options)


@st.composite
def sequences(draw):
    """A `Sequential` of up to seven layers, some in sequences of their own, and a shape that it takes."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(5, 12), st.integers(5, 12)))
    layers, at = [], shape
    for _ in range(draw(st.integers(1, 7))):
        layer = draw(layers_at(at))
        after = tuple(layer.eval()(torch.zeros(1, *at)).shape[1:])
        if len(after) > 1 and max(after[1:]) > 40:
            break
        layers.append(nn.Sequential(layer) if draw(st.booleans()) else layer)
        at = after
    return nn.Sequential(*layers), shape


@given(sequences())
def test_a_sequence_becomes_a_chain_that_gives_its_numbers_and_pastes_back(drawn):
    module, shape = drawn
    chain = lift(module, shape)
    assert isinstance(chain, Chain) or len(module) == 0
    built = with_weights_of(chain.build(shape), module)
    x = torch.randn(2, *shape)
    torch.testing.assert_close(built(x), module.eval()(x))
    if not any(isinstance(part, nn.PReLU) for part in module.modules()):
        assert eval(repr(chain), {name: getattr(obverse, name) for name in public}) == chain


@given(sequences())
def test_the_mirror_of_a_sequence_restores_its_input(drawn):
    module, shape = drawn
    code = module.eval()(torch.randn(2, *shape))
    assert mirror(module, shape).eval()(code).shape == (2, *shape)


def test_a_sequence_with_a_strange_module_inside_is_a_chain_around_a_graph():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return x + self.conv(x)

    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), Twice(), nn.ReLU())
    chain = lift(module, (3, 9, 10))
    assert [type(block).__name__ for block in chain] == ["Conv", "Lifted", "ReLU"]
    x = torch.randn(2, 3, 9, 10)
    torch.testing.assert_close(with_weights_of(chain.build((3, 9, 10)), module)(x), module(x))
    assert mirror(module, (3, 9, 10))(module(x)).shape == x.shape


def test_a_layer_with_a_forward_of_its_own_is_kept_and_mirrored_as_its_kind():
    class SameConv(nn.Conv2d):
        """Padded as TensorFlow does: by an amount that depends on the size."""

        def forward(self, x):
            pads = [max(-(-n // 2) - 1, 0) * 2 + 3 - n for n in x.shape[:1:-1]]
            return super().forward(nn.functional.pad(x, [p for pad in pads for p in (pad // 2, pad - pad // 2)]))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = SameConv(3, 4, 3, 2)

        def forward(self, x):
            return self.conv(x)

    decoder = mirror(Net(), (3, 9, 10))
    for size in ((9, 10), (8, 8), (11, 6)):
        code = Net()(torch.randn(2, 3, *size))
        assert decoder(code, size=size).shape == (2, 3, *size)


def test_only_a_module_or_a_block_has_a_mirror():
    with pytest.raises(ShapeError, match="int is no block"):
        mirror(3, (1, 28, 28))


# Rules of other packages ---------------------------------------------------------------------------------------------


class Halved(nn.Module):
    """A layer of somebody's package."""

    def forward(self, x):
        return x[..., ::2].cumsum(-1)


def test_a_package_brings_its_rules_and_a_broken_one_breaks_nothing(monkeypatch):
    def rules(lift):
        lift.register(Halved)(lambda module, shape: lift.kept(module, obverse.Upsample(size=tuple(shape[1:]))))

    def broken(lift):
        raise OSError("no such file")

    import obverse.plugins

    found = {Plugin("a", "a:rules", "a-package", "1"): rules, Plugin("b", "b:rules", "b-package", "1"): broken}
    monkeypatch.setattr(obverse.plugins.Group, "plugins", lambda group: tuple(found) if group is GROUP else ())
    monkeypatch.setattr(obverse.plugins, "_imported", lambda value: found[next(p for p in found if p.value == value)])
    try:
        with pytest.warns(PluginWarning, match=r"'b' .*b-package 1 is left out: OSError: no such file"):
            decoder = mirror(nn.Sequential(nn.Conv1d(3, 4, 3), Halved()), (3, 12))
        assert decoder(torch.randn(2, 4, 5)).shape == (2, 3, 12)
    finally:
        RULES.pop(Halved, None)


def test_the_way_out_of_python_is_told():
    module = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3))
    given = Autoencoder(module, (1, 28, 28), literal=True)
    with pytest.raises(ObverseError, match="Give the blocks") as caught:
        given.export()
    advised = str(caught.value).split("Give the blocks: ")[1].rstrip(".").split(", model.encoder")
    names = {"Autoencoder": Autoencoder, "lift": lift, "module": module}
    exec(f"{advised[0]}\nmodel.encoder{advised[1]}", names)
    images = torch.rand(2, 1, 27, 31)
    assert torch.equal(names["model"].encode(images), given.encode(images))
    assert names["model"].export() is not None


def test_a_recorded_mirror_says_that_it_cannot_be_traced():
    with pytest.raises(ObverseError, match="recorded anew for every size"):
        Autoencoder(torchvision.models.resnet18(), (3, 64, 64), until="layer1").export()
