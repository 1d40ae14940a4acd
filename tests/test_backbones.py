"""Mirrors of networks that are there already: torchvision's backbones, and what people write themselves."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

from obverse import Autoencoder, ConfigError, MirrorError, ShapeError, lift, mirror
from obverse.lifting.kept import Kept

# A representative of each family, and where it is cut before its global pool
BACKBONES = {
    "alexnet": "features",
    "convnext_tiny": "features",
    "densenet121": "features.transition2",
    "efficientnet_b0": "features",
    "efficientnet_v2_s": "features.4",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_6b",
    "maxvit_t": "blocks.0",
    "mnasnet0_5": "layers",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "regnet_x_400mf": "trunk_output",
    "regnet_y_400mf": "trunk_output",
    "resnet18": "layer4",
    "resnext50_32x4d": "layer3",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_1": "features",
    "swin_t": "features",
    "swin_v2_t": "features.3",
    "vgg11_bn": "features",
    "vit_b_32": "encoder",
}
FIXED = {"maxvit_t", "vit_b_32"}
"""Encoders that refuse other sizes than 224×224."""


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        try:
            return torchvision.models.get_model(
                name, weights=None, **({"init_weights": False} if name in NO_INIT else {})
            )
        except NotImplementedError:
            pass
    return torchvision.models.get_model(name, weights=None).to("meta")


NO_INIT = {"googlenet", "inception_v3"}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_mirror_restores_every_size_that_its_backbone_takes(name):
    decoder = mirror(on_meta(name), (3, 224, 224), until=BACKBONES[name]).eval()
    for size in [(224, 224)] if name in FIXED else [(224, 224), (225, 225), (197, 243)]:
        code = decoder.encoder_block.output_shape((3, *size))
        with torch.no_grad():
            restored = decoder(torch.empty(2, *code, device="meta"), size=size)
        assert restored.shape == (2, 3, *size)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "vit_b_32"])
def test_also_of_the_whole_down_to_its_logits(name):
    decoder = mirror(on_meta(name), (3, 224, 224)).eval()
    assert decoder(torch.empty(2, 1000, device="meta")).shape == (2, 3, 224, 224)


SMALL = ["resnet18", "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small"]


@pytest.fixture(params=SMALL)
def backbone(request):
    torch.manual_seed(0)
    return request.param, torchvision.models.get_model(request.param, weights=None)


def test_the_encoder_that_was_given_is_kept_and_gives_its_own_numbers(backbone):
    name, module = backbone
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = Autoencoder(module, (3, 65, 64), until=BACKBONES[name]).eval()
    assert model.encoder is module
    assert [key.removeprefix("encoder.") for key in model.state_dict() if key.startswith("encoder.")] == list(before)
    x = torch.randn(2, 3, 65, 64)
    with torch.no_grad():
        part = {}
        handle = module.get_submodule(BACKBONES[name]).register_forward_hook(lambda *given: part.update(code=given[2]))
        module(x)
        handle.remove()
        reconstruction, code = model(x)
    assert torch.equal(code, part["code"])
    assert reconstruction.shape == x.shape
    assert reconstruction.isfinite().all()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items()), "it was only read"


def test_every_parameter_of_a_decoder_learns(backbone):
    name, module = backbone
    model = Autoencoder(module, (3, 64, 64), until=BACKBONES[name]).train()
    x = torch.randn(4, 3, 64, 64)
    kept = x.clone()
    reconstruction, _ = model(x)
    (reconstruction - x).square().mean().backward()
    assert torch.equal(x, kept), "nothing works in place on what the caller holds"
    assert [key for key, p in model.decoder.named_parameters() if p.grad is None] == []


def test_the_graph_of_a_backbone_computes_what_the_backbone_does(backbone):
    name, module = backbone
    block = lift(module, (3, 64, 64), until=BACKBONES[name])
    wired = block.graph((3, 64, 64)).build((3, 64, 64))
    wanted = {key: value for key, value in module.state_dict().items() if key in wired.state_dict()}
    wired.load_state_dict(wanted)
    whole = block.build((3, 64, 64))
    whole.load_state_dict(module.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(wired.eval()(x), whole.eval()(x))


def test_a_frozen_encoder_stays_as_it_is_while_the_decoder_trains():
    module = torchvision.models.resnet18()
    model = Autoencoder(module, (3, 32, 32), until="layer2", freeze_encoder=True)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model.train()
    assert model.decoder.training
    assert not any(part.training for part in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    model(torch.randn(2, 3, 32, 32))[0].mean().backward()
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_the_decoder_is_made_where_the_module_is_and_in_its_dtype():
    with torch.device("meta"):
        assert all(p.is_meta for p in mirror(nn.Conv2d(3, 4, 3), (3, 9, 9)).parameters())
    double = mirror(torchvision.models.resnet18().double(), (3, 32, 32), until="layer1")
    assert {p.dtype for p in double.parameters()} == {torch.float64}


# Cut points ----------------------------------------------------------------------------------------------------------


def test_a_cut_point_is_a_name_or_the_module_itself():
    module = torchvision.models.resnet18()
    by_name = Autoencoder(module, (3, 32, 32), until="layer2.0")
    by_module = Autoencoder(module, (3, 32, 32), until=module.layer2[0])
    assert by_name.code_shape == by_module.code_shape == (128, 4, 4)


def test_a_wrong_cut_point_is_refused_with_the_names_that_there_are():
    with pytest.raises(
        ShapeError, match=r"'layer9' is no module of ResNet[\s\S]*layer1, layer2, layer3, layer4, avgpool"
    ):
        mirror(torchvision.models.resnet18(), (3, 32, 32), until="layer9")
    with pytest.raises(ShapeError, match="a Conv2d, is no module of ResNet"):
        mirror(torchvision.models.resnet18(), (3, 32, 32), until=nn.Conv2d(1, 1, 1))


# What people write ---------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One convolution, used twice, and a branch that nobody needs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        self.unused(x)
        return self.conv(torch.relu(self.conv(x)))


def test_a_module_used_twice_has_a_mirror_used_twice():
    decoder = mirror(Shared(), (4, 9, 9))
    assert [tuple(p.shape) for p in decoder.parameters()] == [(4, 4, 3, 3), (4,)]
    assert decoder(torch.randn(2, 4, 9, 9)).shape == (2, 4, 9, 9)


class Remembering(nn.Module):
    """A module with a cache that it fills in evaluation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.cache = {}

    def forward(self, x):
        if "scale" not in self.cache:
            self.cache["scale"] = self.linear.weight.sum()
        return torch.cumsum(x, -1) * self.cache["scale"]


def test_what_a_module_remembers_is_neither_copied_nor_spoilt():
    module = Remembering().eval()
    module(torch.randn(2, 8))
    remembered = module.cache["scale"]
    decoder = mirror(module, (8,))
    assert module.cache["scale"] is remembered
    assert decoder(torch.randn(3, 8)).shape == (3, 8)


class Gated(nn.Module):
    """A gate that keeps the shape: it can be kept whole."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


def test_a_module_without_a_transpose_is_kept_whole_with_parameters_of_its_own():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2)
            self.gated = Gated(8)

        def forward(self, x):
            return self.gated(self.conv(x))

    net = Net()
    block = lift(net, (3, 12, 13))
    nodes = {node.name: node.block for node in block.mirror((3, 12, 13)).nodes}
    assert isinstance(nodes["gated"], Kept)
    assert block.drawing((3, 12, 13)).manners["gated"] == ("Gated", "whole")
    decoder = mirror(net, (3, 12, 13))
    assert decoder(torch.randn(2, 8, 5, 6)).shape == (2, 3, 12, 13)
    assert decoder(torch.randn(2, 8, 4, 4), size=(10, 9)).shape == (2, 3, 10, 9)
    ours = decoder[0].get_submodule("gated").gate.weight
    assert not torch.equal(ours, net.gated.gate.weight)


class Stranger(nn.Module):
    """An operation that no rule knows, and that changes the shape."""

    def forward(self, x):
        return torch.diff(x, dim=-1)


class StrangeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.strange = Stranger()

    def forward(self, x):
        return self.strange(self.conv(x))


def test_an_operation_without_a_rule_is_named_and_the_lines_that_the_message_gives_add_one():
    from obverse.lifting.rules_of_functions import FUNCTIONS

    with pytest.raises(MirrorError) as refused:
        mirror(StrangeNet(), (3, 9, 9))
    said = str(refused.value)
    for part in (
        "diff()",
        "in strange",
        "test_backbones.py:",
        "4×7×7 to 4×7×6",
        "Tried: a rule for the function 'diff'",
    ):
        assert part in said
    lines = said[said.index("from obverse import") :]
    try:
        exec(lines, {})
        decoder = mirror(StrangeNet(), (3, 9, 9))
        assert decoder(torch.randn(2, 4, 7, 6)).shape == (2, 3, 9, 9)
    finally:
        FUNCTIONS.pop("diff", None)


class TheirPool(nn.Module):
    """Somebody's layer, registered by its type."""

    def forward(self, x):
        return x.unfold(2, 2, 2).median(-1)[0]


def test_so_is_a_layer():
    from obverse.lifting.lifted import _drawn
    from obverse.lifting.rules_of_modules import RULES

    @lift.register(TheirPool)
    def none(module, shape):
        return None

    net = nn.Sequential(nn.Conv2d(3, 4, 3), TheirPool())
    with pytest.raises(MirrorError) as refused:
        mirror(net, (3, 9, 9))
    said = str(refused.value)
    assert "the layer" in said
    assert "TheirPool" in said
    try:
        exec(said[said.index("from obverse import") :], {})
        assert mirror(net, (3, 9, 9))(torch.randn(2, 4, 3, 7)).shape == (2, 3, 9, 9)
    finally:
        del RULES[TheirPool]
        _drawn.cache_clear()


# U-Nets --------------------------------------------------------------------------------------------------------------

U_NETS = {
    "resnet18": ("layer4", [(64, 56, 56), (64, 28, 28), (128, 14, 14), (256, 7, 7)]),
    "resnet50": ("layer4", [(64, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]),
    "convnext_tiny": ("features", [(96, 28, 28), (192, 14, 14), (384, 7, 7)]),
    "efficientnet_b0": ("features", [(16, 56, 56), (24, 28, 28), (40, 14, 14), (112, 7, 7)]),
    "swin_t": ("features", [(96, 28, 28), (192, 14, 14), (384, 7, 7)]),
}


@pytest.mark.parametrize(("name", "join"), [*((name, "concat") for name in U_NETS), ("resnet18", "add")])
def test_a_backbone_becomes_a_u_net_aligned_at_every_size(name, join):
    until, expected = U_NETS[name]
    model = Autoencoder(on_meta(name), (3, 112, 112), until=until, skips=join).eval()
    for size in ((112, 112), (97, 131)):
        around = []
        code = model.encode(torch.empty(2, 3, *size, device="meta"), around)
        if size == (112, 112):
            assert [tuple(kept.shape[1:]) for kept in around] == expected
        assert model.decoder(code, size, around).shape == (2, 3, *size)
        assert len(around) == len(expected)
    assert model.numbers_around == sum(c * h * w for c, h, w in expected)


def test_a_u_net_learns_through_its_skips_and_says_what_is_missing():
    model = Autoencoder(torchvision.models.resnet18(), (3, 64, 64), until="layer4", skips="concat").train()
    x = torch.randn(2, 3, 64, 64)
    reconstruction, code = model(x)
    reconstruction.square().mean().backward()
    assert [key for key, p in model.decoder.named_parameters() if p.grad is None] == []
    with pytest.raises(ShapeError, match="went round the code, and none came with it"):
        model.decode(code)


def test_skips_may_be_named():
    module = torchvision.models.resnet18()
    model = Autoencoder(module, (3, 64, 64), until="layer4", skips={"relu": "add", "layer2": "concat"})
    around = []
    model.encode(torch.randn(2, 3, 64, 64), around)
    assert [tuple(kept.shape[1:]) for kept in around] == [(64, 32, 32), (128, 8, 8)]
    with pytest.raises(ShapeError, match=r"no part 'layer9'[\s\S]*layer1, layer2, layer3"):
        Autoencoder(module, (3, 64, 64), until="layer4", skips=("layer9",))
    with pytest.raises(ShapeError, match="neither 'concat' nor 'add'"):
        Autoencoder(module, (3, 64, 64), until="layer4", skips="layer1")
    # `fc` is not on the way to the code
    with pytest.raises(ShapeError, match="no part 'fc'"):
        Autoencoder(module, (3, 64, 64), until="layer4", skips=("fc",))


TIMM_FEATURES = {
    "resnet18": ({}, [(96, 128), (97, 131)]),
    "mobilenetv3_small_050": ({}, [(96, 128), (97, 131)]),
    "convnext_atto": ({}, [(96, 128), (97, 131)]),
    "swin_tiny_patch4_window7_224": ({"strict_img_size": False}, [(224, 224), (100, 132)]),
}


@pytest.mark.parametrize("name", TIMM_FEATURES)
def test_what_timm_gives_as_features_skips_aligned_at_every_size(name):
    timm = pytest.importorskip("timm")
    settings, sizes = TIMM_FEATURES[name]
    with torch.device("meta"):
        module = timm.create_model(name, features_only=True, **settings).eval()
    model = Autoencoder(module, (3, *sizes[0]), skips="concat").eval()
    for size in sizes:
        x, around = torch.empty(2, 3, *size, device="meta"), []
        features = module(x)
        code = model.encode(x, around)
        channels_last = "swin" in name
        expected = [feature.movedim(-1, 1) if channels_last else feature for feature in features[:-1]]
        assert code.shape == features[-1].shape
        assert [kept.shape for kept in around] == [feature.shape for feature in expected]
        assert model.decoder(code, size, around).shape == x.shape


# timm ----------------------------------------------------------------------------------------------------------------

TIMM = {
    "beit_base_patch16_224": "a table of positions, handed to attention",
    "csatv2": "patches in the batch, and constants",
    "gcvit_xxtiny": "a query of the whole image: a region between two values",
    "gemma4_vit_167m": "attention that is told where everything is",
    "levit_conv_128s": None,
    "mobilevit_xxs": "patches in the batch",
    "skresnet18": "a choice between ways: a region in a module",
    "swin_tiny_patch4_window7_224": "windows in the batch",
    "test_coatnet": "attention to other channels",
    "test_resnet": "plain",
    "tnt_s_legacy_patch16_224": "patches in the batch, beside the tokens",
}
"""Models with what is worth trying in them; `None` for one that has an approximate mirror only."""


@pytest.mark.parametrize("name", TIMM)
def test_a_mirror_restores_what_a_model_of_timm_takes(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        module = timm.create_model(name, num_classes=0, global_pool="").eval()
    shape = module.default_cfg["input_size"]
    approximate = TIMM[name] is None
    if approximate:
        with pytest.raises(MirrorError, match="matmul"):
            mirror(module, shape)
    decoder = mirror(module, shape, approximate=approximate).eval()
    drawing = lift(module, shape, approximate=approximate).drawing(shape)
    manners = {manner for _, manner in drawing.manners.values()}
    assert ("approximate" in manners) == approximate
    with torch.no_grad():
        restored = decoder(torch.empty(2, *decoder.encoder_block.output_shape(shape), device="meta"))
    assert restored.shape == (2, *shape)


# As any module -------------------------------------------------------------------------------------------------------


def test_a_model_is_copied_pickled_and_loaded_as_any_module():
    torch.manual_seed(0)
    model = Autoencoder(torchvision.models.mobilenet_v3_small(), (3, 64, 64), until="features.4", skips="add").eval()
    x = torch.randn(2, 3, 70, 65)
    with torch.no_grad():
        expected, _ = model(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(other(x)[0], expected)
    fresh = Autoencoder(torchvision.models.mobilenet_v3_small(), (3, 64, 64), until="features.4", skips="add").eval()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fresh(x)[0], expected)


def test_a_model_says_what_it_is():
    model = Autoencoder(torchvision.models.resnet18(), (3, 64, 64), until="layer2")
    assert "3×64×64 → 128×8×8 → 3×64×64, 8,192 numbers through the code" in repr(model)
    assert "Lifted(ResNet, until=" in str(model.plan)
    assert "Total params" in model.summary()
    with pytest.raises(ConfigError, match="the encoder is a ResNet of somebody's own"):
        model.to_config()


def test_attention_that_changes_its_shape_has_an_approximate_mirror_for_those_who_ask():
    class Pooled(nn.Module):
        """Attention from one learned query: what went in cannot be followed back."""

        def __init__(self):
            super().__init__()
            self.query = nn.Parameter(torch.randn(1, 1, 8))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0]

    net = nn.Sequential(nn.Conv2d(3, 8, 3), Pooled())
    with pytest.raises(MirrorError, match="MultiheadAttention"):
        mirror(net, (3, 9, 9))
    decoder = mirror(net, (3, 9, 9), approximate=True)
    assert decoder(torch.randn(2, 8)).shape == (2, 3, 9, 9)
