"""What lies between the layers of other people's networks: windows in the batch, attention, tables of positions."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from obverse import Autoencoder, MirrorError, lift, mirror
from obverse.lifting.replay import Replayed


class Windowed(nn.Module):
    """Some layers on every window of an image, which is padded to a whole number of them."""

    def __init__(self, *layers, window=4):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 3, 1, 1)
        self.layers = nn.ModuleList(layers)
        self.window = window

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        (b, h, w, c), k = x.shape, self.window
        x = F.pad(x, (0, 0, 0, -w % k, 0, -h % k))
        rows, columns = x.shape[1] // k, x.shape[2] // k
        x = x.view(b, rows, k, columns, k, c).transpose(2, 3).reshape(-1, k * k, c)
        for layer in self.layers:
            x = layer(x)
        x = x.view(b, rows, columns, k, k, -1).transpose(2, 3).reshape(b, rows * k, columns * k, -1)
        return x[:, :h, :w].permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Attention among the cells of a window, more or less likely by how far they are apart."""

    def __init__(self, channels, inner=None, cells=16):
        super().__init__()
        self.inner = inner or channels
        self.qkv = nn.Linear(channels, 3 * self.inner)
        self.proj = nn.Linear(self.inner, channels)
        self.near = nn.Parameter(torch.randn(cells))
        self.register_buffer("scale", torch.tensor(self.inner**-0.5))

    def forward(self, x, mask=None):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.inner).permute(2, 0, 1, 3).unbind(0)
        place = torch.arange(n, device=x.device)
        scores = q * self.scale @ k.transpose(1, 2) + self.near[(place[:, None] - place[None]).abs()]
        if mask is not None:
            scores = scores.masked_fill(mask, -100.0)
        return self.proj(scores.softmax(-1) @ v)


class Mixed(nn.Module):
    """Two halves, one of them bent, the other way round."""

    def forward(self, x):
        one, other = x.chunk(2, dim=-1)
        return torch.cat([other, F.gelu(one)], dim=-1)


class Pooled(nn.Module):
    """Every cell and the mean of its window."""

    def forward(self, x):
        return x + x.mean(1, keepdim=True)


class Select(nn.Module):
    """Two ways and a choice between them: between the two the shape is kept, but in no module of its own."""

    def __init__(self, channels, after):
        super().__init__()
        self.ways = nn.ModuleList([nn.Conv2d(channels, after, 3, 2, d, d) for d in (1, 2)])
        self.choice = nn.Linear(after, 2 * after)

    def forward(self, x):
        x = torch.stack([way(x) for way in self.ways], dim=1)
        choice = self.choice(x.sum(1).mean((2, 3))).view(-1, 2, x.shape[2], 1, 1).softmax(1)
        one, other = (x * choice).unbind(1)
        return one + other


class Narrow(nn.Module):
    """Attention that gives fewer channels than it takes: what keeps its shape is inside it, and no module."""

    def __init__(self, channels, after):
        super().__init__()
        self.attention = Attention(channels, cells=4096)
        self.attention.proj = nn.Linear(channels, after)

    def forward(self, x):
        return self.attention(x)


class Masked(nn.Module):
    """Attention that is told what to leave out, by a tensor that is computed from no input."""

    def __init__(self, channels):
        super().__init__()
        self.attention = Attention(channels, cells=4096)

    def forward(self, x):
        outside = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        outside[: x.shape[1] // 2] = True
        return self.attention(x, mask=outside[None])


class Tabled(nn.Module):
    """Attention to which layers have something to add, which they compute from no input."""

    def __init__(self, channels, after):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.far = nn.Sequential(nn.Linear(1, 4), nn.GELU(), nn.LayerNorm(4), nn.Linear(4, 1))
        self.proj = nn.Linear(channels, after)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        place = torch.linspace(-1.0, 1.0, x.shape[1], dtype=x.dtype, device=x.device)
        far = self.far((place[:, None] - place)[..., None])[..., 0]
        return self.proj((q @ k.transpose(1, 2) + far).softmax(-1) @ v)


class Overwriting(nn.Module):
    """A gate of what is overwritten meanwhile."""

    def forward(self, x):
        x = x[:, :2].clone()
        gate = x.mean((2, 3), keepdim=True)
        return F.relu(x.mul_(2.0), inplace=True) * gate


class Lengthened(nn.Module):
    """Nothing takes a difference back; but two regions around it keep their shape, the first to end the larger."""

    def forward(self, x):
        x = F.pad(F.pad(x, (0, 1)), (0, 3))
        return F.pad(torch.diff(x, n=4), (0, 4))


class Cells(nn.Module):
    """A network of sequences, on the cells of an image."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        size = x.shape[2:]
        return self.net(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, size)


class Whole(nn.Module):
    """A module that is no plain sequence of layers, so that it is recorded."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


NETS = {
    "windows": (
        lambda: Windowed(nn.LayerNorm(8), nn.Linear(8, 6), Mixed(), Pooled()),
        [(8, 12), (9, 14), (3, 4)],
        set(),
    ),
    "attention in windows": (
        lambda: Windowed(Attention(8), nn.ReLU(), nn.Linear(8, 6)),
        [(8, 8), (9, 14), (4, 3)],
        {"layers.0"},
    ),
    "narrow attention in windows": (
        lambda: Windowed(Narrow(8, 4)),
        [(4, 4), (8, 8), (5, 14)],
        {"layers.0.attention.matmul_1"},
    ),
    "a choice": (lambda: Whole(nn.Conv2d(3, 8, 3), Select(8, 6)), [(16, 16), (17, 20)], {"parts.1.mul"}),
    "attention to fewer channels": (
        lambda: Whole(nn.Conv2d(3, 8, 3), Cells(Narrow(8, 5))),
        [(9, 9), (8, 11)],
        {"parts.1.net.attention.matmul_1"},
    ),
    "a computed table": (
        lambda: Whole(nn.Conv2d(3, 8, 3), Cells(Tabled(8, 6))),
        [(9, 9), (8, 11)],
        {"parts.1.net.matmul_1"},
    ),
    "overwritten": (lambda: Whole(nn.Conv2d(3, 8, 3), Overwriting()), [(9, 9), (8, 11)], {"parts.1.mul_1"}),
    "the least": (lambda: Whole(nn.Conv2d(3, 8, 3), Lengthened()), [(9, 9), (8, 11)], {"parts.1.pad_2"}),
    "a mask": (lambda: Whole(nn.Conv2d(3, 8, 3), Cells(Masked(8))), [(9, 9), (8, 11)], {"parts.1.net.attention"}),
}
"""Networks, sizes that they take, and what is kept whole of them."""


def attribute(module, path):
    *ahead, last = path.split(".")
    return getattr(module.get_submodule(".".join(ahead)), last)


def with_weights(built, module):
    """The module of a graph with the weights of the module that was recorded."""
    paths = dict(module.named_modules())
    for name, part in built.named_modules():
        if isinstance(part, Replayed):
            for theirs, mine in part.places.items():
                held, given = attribute(part, mine), attribute(module, theirs)
                held.load_state_dict(given.state_dict()) if isinstance(held, nn.Module) else held.data.copy_(given)
        elif name in paths and [*part.state_dict()] == [*paths[name].state_dict()]:
            part.load_state_dict(paths[name].state_dict())
    return built.eval()


@pytest.mark.parametrize("name", NETS)
def test_the_graph_computes_what_the_module_does(name):
    make, (first, *others), whole = NETS[name]
    module = make().eval()
    block = lift(module, (3, *first))
    drawing = block.drawing((3, *first))
    assert {label for label, (_, manner) in drawing.manners.items() if manner == "whole"} == whole
    assert "approximate" not in {manner for _, manner in drawing.manners.values()}
    built = with_weights(drawing.graph.build((3, *first)), module)
    for size in (first, *others):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(built(x, at=(block, (3, *size))), module(x))


@pytest.mark.parametrize("literal", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_the_mirror_restores_every_size_and_learns_in_all_its_parts(name, literal):
    make, (first, *others), _ = NETS[name]
    module = make()
    before, x = copy.deepcopy(module), torch.randn(2, 3, *first)
    model = Autoencoder(module, (3, *first), literal=literal)
    for size in (first, *others):
        model.zero_grad()
        x = torch.randn(2, 3, *size)
        reconstruction, code = model(x)
        assert reconstruction.shape == x.shape
        torch.testing.assert_close(code, before(x))
        (reconstruction * torch.randn_like(reconstruction)).sum().backward()
        assert [key for key, p in model.decoder.named_parameters() if p.grad is None] == []
    assert torch.isfinite(reconstruction).all()


def test_a_batch_of_any_size_goes_through():
    module = NETS["narrow attention in windows"][0]()
    decoder = mirror(module, (3, 9, 6)).eval()
    codes = module(torch.randn(3, 3, 9, 6)).detach()
    torch.testing.assert_close(decoder(codes), torch.cat([decoder(code[None]) for code in codes]))


def test_what_is_overwritten_inside_is_no_one_elses():
    decoder = mirror(Overwriting(), (3, 9, 6))
    code = torch.randn(2, 2, 9, 6)
    kept = code.clone()
    decoder(code)
    assert torch.equal(code, kept)


@pytest.mark.parametrize("name", ["a choice", "a computed table"])
def test_a_mirror_may_have_another_dtype(name):
    make, (size, *_), _ = NETS[name]
    module = make()
    code = module(torch.randn(2, 3, *size)).double()
    assert mirror(module, (3, *size)).double()(code).dtype == torch.float64


@pytest.mark.parametrize("name", ["narrow attention in windows", "a choice", "a mask"])
def test_a_mirror_is_copied_and_pickled(name):
    make, (size, *_), _ = NETS[name]
    module = make()
    decoder = mirror(module, (3, *size)).eval()
    code = module(torch.randn(2, 3, *size))
    for other in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        torch.testing.assert_close(other(code), decoder(code))
    fresh = mirror(module, (3, *size)).eval()
    fresh.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(fresh(code), decoder(code))


# Parts in the batch, drawn --------------------------------------------------------------------------------------------


@st.composite
def layers_of_windows(draw):
    """Layers from eight channels to however many, and the window."""
    layers, channels, window = [], 8, draw(st.integers(1, 4))
    for kind in draw(st.lists(st.sampled_from(["linear", "norm", "mixed", "pooled", "attention", "gelu"]), max_size=4)):
        if kind == "linear":
            after = 2 * draw(st.integers(1, 4))
            layers.append(nn.Linear(channels, after))
            channels = after
        elif kind == "attention":
            layers.append(Attention(channels, cells=window**2))
        else:
            layers.append(
                {"norm": nn.LayerNorm(channels), "mixed": Mixed(), "pooled": Pooled(), "gelu": nn.GELU()}[kind]
            )
    return layers, window


@given(layers_of_windows(), st.lists(st.tuples(st.integers(1, 11), st.integers(1, 11)), min_size=2, max_size=2))
def test_what_is_done_in_windows_is_followed_at_every_size(drawn, sizes):
    layers, window = drawn
    module = Windowed(*layers, window=window).eval()
    first = (3, *sizes[0])
    block = lift(module, first)
    built = with_weights(block.graph(first).build(first), module)
    decoder = mirror(module, first).eval()
    with torch.no_grad():
        for size in sizes:
            x = torch.randn(2, 3, *size)
            code = module(x)
            torch.testing.assert_close(built(x, at=(block, (3, *size))), code)
            assert decoder(code, size=size).shape == x.shape


# What is kept, whatever it does ---------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Functions that no rule knows, or of constants: each keeps the shape."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.order = [2, 0, 3, 1]
        self.register_buffer("deviation", torch.rand(4, 1, 1))

    def forward(self, x):
        x = self.conv(x)[:, self.order].cumsum(2) / self.deviation
        return x * torch.linspace(0.0, 1.0, x.shape[3], device=x.device)


def test_a_function_that_keeps_the_shape_is_kept():
    module = Odd()
    manners = lift(module, (3, 8, 9)).drawing((3, 8, 9)).manners
    kept = {label: name for label, (name, manner) in manners.items() if manner == "kept"}
    assert kept == {"getitem": "getitem", "cumsum": "cumsum", "div": "div", "mul": "mul"}
    decoder = mirror(module, (3, 8, 9))
    for size in ((8, 9), (7, 12)):
        assert decoder(module(torch.randn(2, 3, *size)), size=size).shape == (2, 3, *size)


# What is not followed -------------------------------------------------------------------------------------------------


class Crossed(nn.Module):
    """Windows before the batch: the examples' parts do not stand together."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 6)

    def forward(self, x):
        b, n, _ = x.shape
        x = self.layer(x.transpose(0, 1).reshape(n * b, 8))
        return x.view(n, b, 6).transpose(0, 1)


class Cross(nn.Module):
    """The first window of every example, then the second of every one: back again, if it is told so."""

    def __init__(self, windows, back=False, by_cat=False):
        super().__init__()
        self.windows, self.back, self.by_cat = windows, back, by_cat

    def forward(self, x):
        shape, order = x.shape, (-1, self.windows) if not self.back else (self.windows, -1)
        x = x.view(*order, *shape[1:])
        return torch.cat(x.unbind(1)) if self.by_cat else x.transpose(0, 1).reshape(shape)


class Crossing(nn.Module):
    """A difference, a border, and a difference: a region around the one cuts that around the other in two."""

    def forward(self, x):
        return torch.diff(F.pad(torch.diff(x), (0, 1)))


class Leaking(Select):
    """A choice that is used once more."""

    def forward(self, x):
        x = torch.stack([way(x) for way in self.ways], dim=1)
        choice = self.choice(x.sum(1).mean((2, 3))).view(-1, 2, x.shape[2], 1, 1).softmax(1)
        one, other = (x * choice).unbind(1)
        return (one + other) * choice[:, 0]


class Listed(Narrow):
    """Attention that looks a table up where nobody finds it: among other things in a list."""

    def __init__(self, channels, after):
        super().__init__(channels, after)
        self.tables = ["near", torch.zeros(channels)]

    def forward(self, x):
        q, k, v = self.attention.qkv(x).chunk(3, -1)
        return self.attention.proj((q @ (k + self.tables[1]).transpose(1, 2)).softmax(-1) @ v)


class Shared(Narrow):
    """Attention with a table that is filled by way of one of its rows."""

    def forward(self, x):
        table = torch.zeros(2, x.shape[2], device=x.device)
        table[1].fill_(3.0)
        q, k, v = self.attention.qkv(x).chunk(3, -1)
        return self.attention.proj((q @ (k * table[1]).transpose(1, 2)).softmax(-1) @ v)


class Overwritten(Narrow):
    """Attention in which a part is overwritten behind everybody's back."""

    def forward(self, x):
        q, k, v = self.attention.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2)
        scores[:, 0].zero_()
        return self.attention.proj(scores.softmax(-1) @ v)


@pytest.mark.parametrize(
    ("net", "operation"),
    [
        (lambda: Cells(Crossed()), r"(transpose|reshape|view)\(\)"),
        (lambda: Windowed(Cross(4), nn.Linear(8, 6), Cross(4, back=True), window=2), "(view|transpose|reshape)"),
        (
            lambda: Windowed(Cross(4, by_cat=True), nn.Linear(8, 6), Cross(4, True), window=2),
            "(view|transpose|reshape)",
        ),
        (Crossing, r"diff\(\)"),
        (lambda: Leaking(8, 6), r"mul\(\)"),
        (lambda: Cells(Listed(8, 6)), r"matmul\(\)"),
        (lambda: Cells(Shared(8, 6)), r"m(atm)?ul\(\)"),
        (lambda: Cells(Overwritten(8, 6)), r"matmul\(\)"),
    ],
    ids=["crossed", "crossed in the batch", "by cat", "cut in two", "leaking", "listed", "shared", "overwritten"],
)
def test_what_does_not_keep_to_itself_is_refused_by_name(net, operation):
    with pytest.raises(MirrorError, match=operation):
        mirror(net() if isinstance(net(), Windowed) else Whole(nn.Conv2d(3, 8, 3), net()), (3, 4, 4))
