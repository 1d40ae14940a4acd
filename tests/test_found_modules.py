"""Modules as they are found: shared, hooked, parametrised, compiled, lazy, frozen; and what is said of the others."""

import copy
import io
import pickle
import re
import warnings
from collections import OrderedDict

import pytest
import torch
import torchvision
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812    # as everybody writes it
from torch.nn.utils import parametrizations, prune

import obverse
from obverse import (
    Autoencoder,
    Chain,
    Conv,
    MirrorError,
    ObverseError,
    Pointwise,
    ReLU,
    ShapeError,
    Sigmoid,
    Tanh,
    lift,
    mirror,
)
from obverse.lifting.lifted import Lifted, _drawn
from obverse.lifting.rules_of_functions import FUNCTIONS
from obverse.lifting.rules_of_modules import RULES
from obverse.ranges import RangeWarning, range_of
from obverse.training import train

SHAPE = (3, 17, 19)


@pytest.fixture
def _rules_stay():
    before = dict(RULES), dict(FUNCTIONS)
    yield
    for rules, kept in zip((RULES, FUNCTIONS), before, strict=True):
        rules.clear()
        rules.update(kept)
    _drawn.cache_clear()


# What people do to modules -------------------------------------------------------------------------------------------


class Doubling(nn.Conv2d):
    """A convolution that computes another thing than its kind, not by its `forward`."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, 2 * weight, bias)


class Stage(nn.Sequential):
    """A sequence with a forward of its own."""

    def forward(self, x):
        return super().forward(x) + 1


class Loop(nn.Module):
    """Layers in a list, a buffer, a parameter, and work in place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1)])
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.scale = nn.Parameter(torch.full((4, 1, 1), 2.0))

    def forward(self, x):
        x = x - self.mean
        for layer in self.layers:
            x = layer(x)
        return x * self.scale


def shared():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), nn.Sequential(conv), nn.Conv2d(3, 4, 3, 2))


def tied():
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
    module[2].weight = module[0].weight
    return module


def activation_twice():
    act = nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), act, nn.Conv2d(4, 5, 3), act)


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def compiled_in_place():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
    module.compile(backend="eager")
    return module


FOUND = {
    "weight_norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3, 2)), nn.ReLU()),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, 2)),
    "orthogonal": lambda: nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(3 * 17 * 19, 5))),
    "weight_norm of old": lambda: quietly(torch.nn.utils.weight_norm, nn.Conv2d(3, 4, 3, 2)),
    "spectral_norm of old": lambda: nn.Sequential(torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3, 2)), nn.ReLU()),
    "pruned": lambda: nn.Sequential(prune.l1_unstructured(nn.Conv2d(3, 4, 3), "weight", 0.3), nn.ReLU()),
    "for several devices": lambda: nn.DataParallel(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())),
    "compiled": lambda: torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU()), backend="eager"),
    "compiled in place": compiled_in_place,
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(4, 3, 2), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(6)),
    "a subclass": lambda: nn.Sequential(Doubling(3, 4, 3, 2), nn.ReLU()),
    "a sequence's subclass": lambda: Stage(nn.Conv2d(3, 4, 3), nn.ReLU()),
    "a list": Loop,
    "a shared layer": shared,
    "a shared weight": tied,
    "a shared activation": activation_twice,
    "traced by fx": lambda: torch.fx.symbolic_trace(Loop()),
    "channels last": lambda: Loop().to(memory_format=torch.channels_last),
    "recurrent": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(17 * 19, 6), nn.GRU(6, 6, batch_first=True)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_built_of_a_found_module_has_its_numbers_and_its_mirror_restores_the_shape(name):
    torch.manual_seed(0)
    module = FOUND[name]()
    block = lift(module, SHAPE)
    x = torch.randn(2, *SHAPE)
    module.eval()(x)
    built = block.build(SHAPE)
    assert all(p.isfinite().all() for p in built.parameters()), "nothing is left as the memory was"
    built.load_state_dict(module.state_dict())

    def first(given):
        return given if isinstance(given, torch.Tensor) else given[0]

    expected = first(module(x))
    assert block.output_shape(SHAPE) == expected.shape[1:]
    torch.testing.assert_close(first(built.eval()(x)), expected)
    assert mirror(module, SHAPE).eval()(expected).shape == x.shape
    model = Autoencoder(module, SHAPE).train()
    reconstruction, _ = model(x)
    reconstruction.square().mean().backward()
    assert [key for key, p in model.decoder.named_parameters() if p.grad is None] == []


def test_lazy_layers_make_their_weights_in_a_copy_and_those_of_a_model_in_the_encoder():
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    assert lift(module, (3, 9, 9)) == Chain(Conv(4, 3), ReLU())
    assert type(module[0]) is nn.LazyConv2d
    model = Autoencoder(module, (3, 9, 9))
    assert module[0].weight.shape == (4, 3, 3, 3)
    torch.optim.AdamW(model.parameters())


LAZY = [name for name in dir(nn) if name.startswith("Lazy")]


@pytest.mark.parametrize("name", LAZY)
def test_every_lazy_layer_becomes_the_block_of_the_layer_that_it_becomes(name):
    kind, rank = getattr(nn, name), int(name[-2]) if name.endswith("d") else 0
    layer = kind() if "Norm" in name else kind(4) if rank == 0 else kind(4, 3)
    shape = (3, *[9] * rank)
    block = lift(layer, shape)
    layer(torch.zeros(2, *shape))
    assert block == lift(layer, shape)
    assert not isinstance(block, Lifted)


def test_a_layer_that_stands_in_a_sequence_twice_stays_there_twice():
    module = activation_twice()
    assert lift(module, SHAPE) == Chain(Conv(4, 3, stride=2), ReLU(), Conv(5, 3), ReLU())
    assert len(list(mirror(shared(), SHAPE).parameters())) == 4, "what is shared has a mirror that is"
    with pytest.raises(ShapeError, match="until='3' is the same module as '1'"):
        Autoencoder(module, SHAPE, until="3")


def test_layers_with_names_have_places_in_a_chain_and_their_weights_load_by_order():
    module = nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 4, 3, 2), norm=nn.BatchNorm2d(4), head=nn.Sequential(OrderedDict(last=nn.ReLU())))
    )
    chain = lift(module, SHAPE)
    assert eval(repr(chain), vars(obverse) | {name: getattr(obverse, name) for name in obverse.__all__}) == chain
    built = chain.build(SHAPE)
    built.load_state_dict(dict(zip(built.state_dict(), module.state_dict().values(), strict=True)))
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(built.eval()(x), module.eval()(x))
    names = [key for key in Autoencoder(module, SHAPE).state_dict() if key.startswith("encoder.")]
    assert names == [f"encoder.{key}" for key in module.state_dict()]


def test_the_hooks_of_others_see_nothing_of_what_is_lifted():
    seen = []
    module = nn.Sequential(Loop(), nn.ReLU())
    for part in (module, module[0], module[0].layers[0]):
        part.register_forward_hook(lambda *given: seen.append("forward"))
        part.register_forward_pre_hook(lambda *given: seen.append("pre"))
    module[1].register_full_backward_hook(lambda *given: seen.append("backward"))
    model = Autoencoder(module, SHAPE, skips="add")
    built = lift(module, SHAPE).build(SHAPE)
    built(torch.randn(2, *SHAPE)).mean().backward()
    mirror(module, SHAPE)(torch.randn(2, *model.code_shape)).mean().backward()
    assert seen == []
    model(torch.randn(2, *SHAPE))[0].mean().backward()
    assert sorted(set(seen)) == ["backward", "forward", "pre"], "they stay on the module"


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double])
def test_a_model_is_of_its_modules_dtype(dtype):
    model = Autoencoder(Loop().to(dtype), SHAPE)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(torch.randn(2, *SHAPE, dtype=dtype))[0].dtype == dtype


def test_what_torch_jit_has_compiled_is_refused():
    scripted = quietly(torch.jit.trace, nn.Conv2d(3, 4, 3), torch.zeros(1, *SHAPE))
    with pytest.raises(MirrorError, match=r"1 is a module of torch\.jit[\s\S]*that it was made from"):
        mirror(nn.Sequential(nn.ReLU(), scripted), SHAPE)


def test_a_model_that_is_compiled_records_other_sizes():
    model = Autoencoder(Strange(nn.Conv2d(3, 4, 3, 2)), SHAPE).eval()
    compiled = torch.compile(model, backend="eager")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the compiler's, of what it does not follow
        for size in ((17, 19), (18, 16)):
            x = torch.randn(2, 3, *size)
            torch.testing.assert_close(compiled(x)[0], model(x)[0])


# The promise: a shape is refused where the module refuses it ---------------------------------------------------------


@st.composite
def layers_and_shapes(draw):
    """A layer, and a shape that it may not take."""
    rank = draw(st.integers(0, 3))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=rank + 1, max_size=rank + 1)))
    n = draw(st.integers(1, 6))
    of_rank = draw(st.integers(1, 3))
    conv = getattr(nn, f"Conv{of_rank}d")(n, 4, draw(st.integers(1, 3)), padding=1)
    norm = getattr(nn, f"BatchNorm{of_rank}d")(n)
    pool = getattr(nn, f"MaxPool{of_rank}d")(draw(st.integers(1, 2)))
    layers = [conv, norm, pool, nn.Linear(n, 3), nn.LayerNorm(n), nn.GroupNorm(1, n), nn.PReLU(n), nn.Flatten()]
    return draw(st.sampled_from(layers)).eval(), shape


@given(layers_and_shapes())
@example((nn.Conv2d(3, 4, 3), (1, 9, 9)))
@example((nn.Conv2d(2, 4, 3), (3, 9)))
@example((nn.MaxPool2d(2), (3, 4)))
@example((nn.BatchNorm1d(3), (3, 9, 9)))
def test_lifting_refuses_the_shapes_that_the_layer_refuses(drawn):
    layer, shape = drawn
    for module in (layer, nn.Sequential(nn.Identity(), layer)):
        try:
            given = layer(torch.randn(2, *shape)).shape
        except Exception:
            with pytest.raises(ObverseError):
                lift(module, shape)
            continue
        try:
            lifted = lift(module, shape)
        except ShapeError:  # to which two examples are one
            assert given[0] != 2 or len(shape) < 3
        else:
            assert lifted.output_shape(shape) == given[1:]


def test_the_part_that_refuses_is_named_and_the_shape_that_it_wants_works():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(5, 4, 3)))
    with pytest.raises(ShapeError, match=r"'1\.1' in it, a Conv2d\(5, 4, .*was given N×4×7×7"):
        lift(module, (3, 9, 9))
    for found in (Encoder(), nn.Conv2d(3, 4, 3)):
        with pytest.raises(ShapeError) as refused:
            Autoencoder(found, (1, 28, 28))
        advised = re.search(r"Give it 3 channels: (\(.*\))\.", str(refused.value))
        assert Autoencoder(found, eval(advised[1])).input_shape == (3, 28, 28)
    with pytest.raises(ShapeError, match=r"If 8 is the batch, leave it out: \(3, 28, 28\)") as refused:
        Autoencoder(Encoder(), (8, 3, 28, 28))
    assert "7919" not in str(refused.value)


class Two(nn.Module):
    """A module of two inputs."""

    def forward(self, x, y):
        return x + y


def test_what_is_no_module_of_one_input_is_said_so():
    with pytest.raises(ShapeError, match="takes one tensor: wrap the module"):
        mirror(Two(), (3, 9, 9))
    for wrong in ("resnet18", nn.Conv2d, Conv(3, 3)):
        with pytest.raises(ShapeError, match=r"no torch\.nn\.Module"):
            lift(wrong, (3, 9, 9))
    with pytest.raises(ShapeError, match="no block"):
        mirror(nn.Conv2d, (3, 9, 9))
    with pytest.raises(ShapeError, match="until is for a module"):
        mirror(Chain(Conv(3, 3)), (3, 9, 9), until="0")
    for wrong in (3, nn.ReLU()):
        with pytest.raises(ShapeError, match=r"Write @lift\.register"):
            lift.register(wrong)
        with pytest.raises(ShapeError, match=r"Write @lift\.function"):
            lift.function(wrong)


# Models of modules ---------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """A stem, a body, a head; and what is there and does not run."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.ModuleList([nn.Conv2d(8, 16, 3, 2, 1)])
        self.head = nn.Linear(16, 10)
        self.auxiliary = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.head(self.body[0](self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("until", ["auxiliary", "body"])
def test_a_cut_that_nothing_passes_is_refused_with_what_does(until):
    with pytest.raises(ShapeError, match="its forward does not call") as refused:
        Autoencoder(Encoder(), (3, 32, 32), until=until)
    if until == "body":
        advised = str(refused.value).split("this one: ")[1].rstrip(".")
        assert Autoencoder(Encoder(), (3, 32, 32), until=advised).code_shape == (16, 8, 8)


@pytest.mark.parametrize(("until", "said"), [("bodi", "'body'"), (0, "stem, body, head"), (nn.Conv2d, "stem")])
def test_a_wrong_cut_lists_the_names(until, said):
    with pytest.raises(ShapeError, match=said):
        mirror(Encoder(), (3, 32, 32), until=until)
    with pytest.raises(ShapeError, match="leave until out"):
        mirror(nn.Conv2d(3, 4, 3), (3, 32, 32), until=until)


WRONG = {
    "another number of channels": (torch.zeros(2, 1, 32, 32), "1 channels, and the model was built for 3"),
    "no batch": (torch.zeros(3, 32, 32), r"Give x\[None\]"),
    "bytes": (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), r"x\.float\(\) / 255"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_batch_of_the_model_is_refused_before_the_module_is_run(name):
    x, said = WRONG[name]
    model = Autoencoder(Encoder(), (3, 32, 32), until="body.0")
    for run in (model, model.encode):
        with pytest.raises(ShapeError, match=said):
            run(x)


def test_options_of_the_other_kind_of_encoder_say_what_to_do():
    for option in ({"tied": True}, {"device": "cpu"}, {"dtype": torch.double}):
        with pytest.raises(ShapeError, match="is an option for an encoder of blocks; a Encoder"):
            Autoencoder(Encoder(), (3, 32, 32), **option)
    for option in ({"until": "0"}, {"freeze_encoder": True}, {"approximate": True}):
        with pytest.raises(ShapeError, match="is an option for an encoder that is a module; a Chain"):
            Autoencoder(Chain(Conv(3, 3)), (3, 32, 32), **option)
    for encoder in (Encoder(), Chain(Conv(3, 3))):
        with pytest.raises(ShapeError, match="True is neither 'concat' nor 'add'"):
            Autoencoder(encoder, (3, 32, 32), skips=True)


def test_a_frozen_encoder_stays_frozen_through_copies_files_and_other_modules():
    model = Autoencoder(Encoder(), (3, 32, 32), until="body.0", freeze_encoder=True)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for one in (model, *copies):
        whole = nn.Sequential(one).train()
        assert one.decoder.training
        assert not any(part.training for part in one.encoder.modules())
        whole(torch.randn(2, 3, 33, 31))[0].mean().backward()
        assert all(p.grad is None for p in one.encoder.parameters())
        assert all(p.grad is not None for p in one.decoder.parameters())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "swin_t"])
def test_the_decoder_of_a_frozen_module_learns(name):
    with torch.device("meta"):
        module = torchvision.models.get_model(name).requires_grad_(False).eval()
    decoder = mirror(module, (3, 64, 64), until="features.1")
    assert all(p.requires_grad for p in decoder.parameters())
    assert all(part.training for part in decoder.modules())
    assert not any(p.requires_grad for p in module.parameters())


# U-Nets --------------------------------------------------------------------------------------------------------------


def twice(rank, before, after):
    conv, norm = getattr(nn, f"Conv{rank}d"), getattr(nn, f"BatchNorm{rank}d")
    layers = [conv(before, after, 3, padding=1), norm(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, conv(after, after, 3, padding=1), norm(after), nn.ReLU(inplace=True))


class UNetEncoder(nn.Module):
    """As everybody writes it: one pooling, used again and again."""

    def __init__(self, rank=2, pool="MaxPool", **options):
        super().__init__()
        self.first, self.second, self.third = twice(rank, 3, 4), twice(rank, 4, 8), twice(rank, 8, 8)
        self.pool = getattr(nn, f"{pool}{rank}d")(2, **options)

    def forward(self, x):
        def pooled(x):
            given = self.pool(x)
            return given if isinstance(given, torch.Tensor) else given[0]

        return self.third(pooled(self.second(pooled(self.first(x)))))


class Features(UNetEncoder):
    """Features in a list, as timm's backbones give them."""

    def forward(self, x):
        features = [self.first(x)]
        features.append(self.second(self.pool(features[-1])))
        return [*features, self.third(self.pool(features[-1]))]


U_NETS = {
    "lines": (UNetEncoder(1), (3, 64), [(65,), (71,)]),
    "images": (UNetEncoder(), (3, 32, 32), [(33, 31), (37, 50)]),
    "volumes": (UNetEncoder(3), (3, 16, 16, 16), [(17, 15, 19)]),
    "averages": (UNetEncoder(pool="AvgPool"), (3, 32, 32), [(33, 31)]),
    "pools with places": (UNetEncoder(return_indices=True), (3, 32, 32), [(33, 31)]),
    "a list": (Features(), (3, 32, 32), [(33, 31)]),
    "a sequence": (nn.Sequential(nn.Conv2d(3, 4, 3, 3), nn.GELU(), nn.Conv2d(4, 5, 4, 2)), (3, 32, 32), [(33, 47)]),
}


@pytest.mark.parametrize("name", U_NETS)
@pytest.mark.parametrize("skips", [None, "concat", "add"])
def test_encoders_that_people_write_become_u_nets_at_every_size(name, skips):
    module, shape, others = U_NETS[name]
    model = Autoencoder(module, shape, skips=skips).train()
    for size in (shape[1:], *others):
        x = torch.randn(2, shape[0], *size)
        assert model(x)[0].shape == x.shape
    model(x)[0].square().mean().backward()
    assert [key for key, p in model.decoder.named_parameters() if p.grad is None] == []
    if skips is not None:
        around = []
        code = model.eval().encode(x, around)
        plain, without = (model.decode(code, size, given) for given in (around, [0 * kept for kept in around]))
        assert around
        assert not torch.equal(plain, without)


# Operations without a rule -------------------------------------------------------------------------------------------


def shifted(x):
    x = x.clone()
    x[:, :, ::2] = 0
    return x[..., 1:]


UNKNOWN = {
    "grid_sample": lambda x: F.grid_sample(
        x, torch.zeros(len(x), 5, 6, 2, device=x.device, dtype=x.dtype), align_corners=False
    ),
    "fft_rfft2": lambda x: torch.fft.rfft2(x).abs(),
    "fold": lambda x: F.fold(x.flatten(2)[..., :42].transpose(1, 2).flatten(2)[:, :4, :1].expand(-1, -1, 6), (3, 4), 2),
    "einsum": lambda x: torch.einsum("bchw,dc->bdhw", x, torch.ones(5, 4, device=x.device)),
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0], device=x.device)),
    "sort": lambda x: x.sort(-1).values[..., :3],
    "topk": lambda x: x.topk(3, -1).values,
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "getitem": lambda x: x[:, [0, 2]],
    "setitem": shifted,
    "mul": lambda x: (x * x)[..., 1:],
    "cdist": lambda x: torch.cdist(x, x[..., :3, :])[..., 1:, :],
    "diagonal": lambda x: torch.diagonal(x, dim1=2, dim2=3),
}


class Strange(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.usefixtures("_rules_stay")
@pytest.mark.parametrize("name", UNKNOWN)
def test_the_lines_that_a_message_gives_are_a_rule_and_break_no_other(name):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(Strange(UNKNOWN[name]))).eval()
    code = module(torch.randn(2, 3, 9, 9))
    for _ in range(3):
        try:
            decoder = mirror(module, (3, 9, 9))
            break
        except MirrorError as refused:
            said = str(refused)
            place = re.search(r"^(\w+)\(\), in 1\.0, at test_found_modules\.py:\d+, takes 4×", said)
            assert place, said
            assert "Tried: a rule for the function" in said
            exec(said[said.index("@lift") :], vars(obverse) | {"lift": lift} | imported(said))
    else:
        pytest.fail(said)
    assert decoder(code).shape == (2, 3, 9, 9)
    assert mirror(torchvision.models.resnet18(), (3, 32, 32), until="layer1")(torch.randn(2, 64, 8, 8)).shape[2:] == (
        32,
        32,
    )
    for others in (Loop(), Strange(lambda x: x[:, 0])):
        drawn = lift(others, SHAPE)
        assert drawn.mirror(SHAPE).output_shape(drawn.output_shape(SHAPE)) == SHAPE


def imported(said):
    """What the lines of a message import."""
    names: dict = {}
    exec("\n".join(line for line in said.splitlines() if line.startswith("from ")), names)
    return names


def test_a_message_offers_the_approximate_mirror_where_it_helps():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), Strange(lambda x: x[..., 1:] * x[..., :-1]))
    with pytest.raises(MirrorError, match="Give approximate=True"):
        mirror(module, (3, 9, 9))
    assert mirror(module, (3, 9, 9), approximate=True)(torch.randn(2, 4, 7, 6)).shape == (2, 3, 9, 9)
    with pytest.raises(MirrorError) as refused:
        mirror(nn.Sequential(nn.Conv2d(3, 4, 3), Strange(UNKNOWN["diagonal"])), (3, 9, 9))
    assert "approximate" not in str(refused.value)


IMPOSSIBLE = {
    "a branch on numbers": (lambda x: x[..., 1:] if x.mean() > 0 else x, "depends on the numbers"),
    "a number": (lambda x: x[..., 1:] * x.max().item(), "depends on the numbers"),
    "a mask": (lambda x: x[x > 0], "depends on the numbers"),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy()[..., 1:]), "depends on the numbers"),
    "integers": (lambda x: x.long(), "torch.int64"),
    "complex numbers": (lambda x: torch.fft.fft2(x), "torch.complex64"),
    "the batch mixed": (lambda x: x.reshape(-1, x.shape[-1]), r"takes N×4×7×7 to 28N×7, where N is the batch"),
    "the batch moved": (lambda x: x.transpose(0, 1), r"takes N×4×7×7 to 4×N×7×7, where N is the batch"),
    "no tensor": (lambda x: None, "no tensor that depends on its input"),
    "a constant": (lambda x: torch.ones(2, 3), "no tensor that depends on its input"),
    "an error of its own": (lambda x: 1 / 0, "'1' in it, a Strange.*was given N×4×7×7: ZeroDivisionError"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_recorded_says_why(name):
    function, said = IMPOSSIBLE[name]
    with pytest.raises(ObverseError, match=said) as refused:
        mirror(Whole(function), (3, 9, 9))
    assert "7919" not in str(refused.value)


class Whole(nn.Module):
    """A convolution, and something behind it."""

    def __init__(self, function):
        super().__init__()
        self.add_module("0", nn.Conv2d(3, 4, 3))
        self.add_module("1", Strange(function))

    def forward(self, x):
        return self.get_submodule("1")(self.get_submodule("0")(x))


def test_the_hidden_state_of_a_recurrent_layer_is_refused_by_name():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[1][0][-1]

    with pytest.raises(MirrorError, match=r"takes 1×N×5 to N×5, where N is the batch"):
        mirror(Last(), (9, 4))


@pytest.mark.usefixtures("_rules_stay")
def test_a_rule_for_a_kind_of_sequence_is_asked_and_one_for_otherwise_only_then():
    class TheirStage(nn.Sequential):
        pass

    lift.register(TheirStage)(lambda module, shape: lift.kept(module, Conv(shape[0], 1)))
    block = lift(nn.Sequential(TheirStage(nn.Conv2d(3, 4, 1))), (3, 9, 9))
    assert block.mirror((3, 9, 9)) == Chain(Conv(3, 1))
    lift.register(nn.Linear, otherwise=True)(lambda module, shape: pytest.fail("the first one holds"))
    assert lift(nn.Linear(4, 2), (4,)) == obverse.Linear(2)
    lift.function("add", otherwise=True)(lambda call: pytest.fail("the first one holds"))
    assert isinstance(lift(Loop(), SHAPE), Lifted)


# What goes in and what can come out ----------------------------------------------------------------------------------

NORMALISED, PIXELS, BYTES = torch.linspace(-2.1, 2.6, 1000), torch.linspace(0, 1, 1000), torch.linspace(0, 255, 1000)
NOISY = PIXELS.round() + 0.15 * torch.linspace(-3, 3, 1000).sin()
RANGES = [
    (Sigmoid(), NORMALISED, "Leave output out"),
    (Sigmoid(), 2 * PIXELS - 1, "numbers from 0 to 1"),
    (Sigmoid(), BYTES, r"Give x / 255\."),
    (Tanh(), BYTES, r"Give x / 127\.5 - 1\."),
    (Chain(ReLU()), NORMALISED, "0 to inf, and 39 %"),
    (Pointwise("Hardtanh", min_val=-0.5, max_val=0.5), 2 * PIXELS - 1, "gives -0.5 to 0.5"),
    (Sigmoid(), PIXELS, None),
    (Sigmoid(), NOISY, None),
    (Tanh(), PIXELS, None),
    (Tanh(), 2 * PIXELS - 1, None),
    (ReLU(), BYTES, None),
    (Pointwise("Hardtanh", min_val=-3.0, max_val=3.0), NORMALISED, None),
    (Pointwise("GELU") if "GELU" in Pointwise.names() else obverse.GELU(), NORMALISED, None),
    (None, NORMALISED, None),
    (None, BYTES, None),
]


@pytest.mark.parametrize("encoder", [nn.Sequential(nn.Conv2d(1, 4, 3)), Chain(Conv(4, 3)), Strange(nn.Conv2d(1, 4, 3))])
@pytest.mark.parametrize(("output", "numbers", "said"), RANGES)
def test_an_output_that_cannot_give_back_what_goes_in_is_told_once_where_it_was_called(encoder, output, numbers, said):
    x = numbers.view(2, 1, 20, 25)
    model = Autoencoder(encoder, (1, 20, 25), output=output)
    with warnings.catch_warnings(record=True, action="always") as caught:
        model.eval()(x)
        nn.Sequential(model).train()(x)
        model(x)
    assert len(caught) == (said is not None), [str(warning.message) for warning in caught]
    for warning in caught:
        assert warning.category is RangeWarning
        assert re.search(said, str(warning.message))
        assert warning.filename == __file__


@pytest.mark.parametrize(("output", "numbers"), [(output, numbers) for output, numbers, said in RANGES if said])
def test_and_is_refused_by_train_for_a_module_too(output, numbers):
    model = Autoencoder(nn.Sequential(nn.Conv2d(1, 4, 3)), (1, 20, 25), output=output)
    with pytest.raises(ShapeError, match="data has values from"):
        train(model, numbers.view(2, 1, 20, 25), epochs=1, progress=False)
    assert range_of(output) is not None


def test_what_the_warning_advises_mends_it():
    for output in (Sigmoid(), Tanh()):
        with pytest.warns(RangeWarning) as caught:
            Autoencoder(nn.Conv2d(1, 4, 3), (1, 20, 25), output=output)(BYTES.view(2, 1, 20, 25))
        advised = str(caught[0].message).split("Give ")[1].rstrip(".")
        x = eval(advised, {"x": BYTES.view(2, 1, 20, 25)})
        Autoencoder(nn.Conv2d(1, 4, 3), (1, 20, 25), output=output)(x)


def test_numbers_that_cannot_be_looked_at_are_not():
    model = Autoencoder(nn.Conv2d(1, 4, 3), (1, 20, 25), output=Tanh(), literal=True)
    run = torch.func.vmap(lambda x: model(x)[0])
    assert run(BYTES.view(1, 2, 1, 20, 25)).shape == (1, 2, 1, 20, 25)
    meta = Autoencoder(nn.Conv2d(1, 4, 3, device="meta"), (1, 20, 25), output=Tanh())
    meta(torch.empty(2, 1, 20, 25, device="meta"))


class Theirs(nn.Module):
    """A layer of somebody's: every other column."""

    def forward(self, x):
        return x[..., ::2].cumsum(-1)


SLIPS = {
    "no block": (lambda module, shape: nn.ReLU(), "gives ReLU.., a ReLU, and no block"),
    "no mirror": (lambda module, shape: lift.kept(module, "Upsample"), "'Upsample', a str, and no block"),
    "another shape": (lambda module, shape: Conv(4, 1), "takes 4×7×7 to 4×7×7; Theirs takes it to 4×7×4"),
    "what refuses": (lambda module, shape: Conv(4, 9), "takes 4×7×7 to nothing"),
    "a wrong mirror": (lambda module, shape: lift.kept(module, Conv(4, 1)), r"as its mirror[\s\S]*Upsample\(size"),
}


@pytest.mark.usefixtures("_rules_stay")
@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_in_somebodys_rule_is_told_where_it_was_made(name):
    rule, said = SLIPS[name]
    lift.register(Theirs)(rule)
    for module in (nn.Sequential(nn.Conv2d(3, 4, 3), Theirs()), Strange(nn.Sequential(nn.Conv2d(3, 4, 3), Theirs()))):
        with pytest.raises(MirrorError, match=said):
            mirror(module, (3, 9, 9))
        lift.register(Theirs)(lambda module, shape: lift.kept(module, obverse.Upsample(size=shape[1:])))
        assert mirror(module, (3, 9, 9))(torch.randn(2, 4, 7, 4)).shape == (2, 3, 9, 9)
        lift.register(Theirs)(rule)


@pytest.mark.usefixtures("_rules_stay")
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda call: "Identity", "gives 'Identity', a str, and no block"),
        (lambda call: obverse.AvgPool(2), r"takes 4×7×4 to 4×3×2; cumsum\(\) takes it to 4×7×4"),
        (lambda call: lift.followed(call, obverse.AvgPool(2)), r"as its mirror[\s\S]*was given 4×7×4"),
    ],
)
def test_and_in_one_for_a_function(rule, said):
    lift.function("cumsum")(rule)
    with pytest.raises(MirrorError, match=said):
        mirror(nn.Sequential(nn.Conv2d(3, 4, 3), Strange(lambda x: x[..., ::2].cumsum(-1)[..., 1:])), (3, 9, 9))


def test_what_shares_a_weight_is_built_sharing_one():
    module = tied()
    built = lift(module, (3, 9, 9)).build((3, 9, 9))
    assert built[2].weight is built[0].weight
    assert len(list(built.parameters())) == len(list(module.parameters())) == 3
