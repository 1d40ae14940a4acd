"""The upsampling styles: the same shapes as a transposed convolution, at every size, without its checkerboard."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812    # as everybody writes it

from obverse import (
    Autoencoder,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Decoder,
    MaxPool,
    Parallel,
    ReLU,
    Residual,
    ResizeConv,
    ShapeError,
    SubpixelConv,
    mirror,
)
from obverse.arithmetic import extent_of, overlap_by_turns, overlaps
from obverse.graph import Copy, Graph, Node, Sum
from obverse.testing.strategies import blocks_with_shapes, chains_with_shapes, convolutions, shapes, sizes
from running import leaves, outcome, parts

STYLES = ("transpose", "resize", "subpixel")
AXES = ("kernel_size", "stride", "padding", "output_padding", "dilation")


def settings(block, rank):
    """Kernel, stride, padding, output_padding and dilation along every axis."""
    values = [getattr(block, name) for name in AXES]
    return list(zip(*[v if isinstance(v, tuple) else (v,) * rank for v in values], strict=True))


def ones(block, shape, told=None):
    """What a block with a weight of ones and no bias gives for ones."""
    module = block.build(shape)
    torch.nn.init.ones_(module.weight)
    with torch.no_grad():
        return module(torch.ones(1, *shape), told)[0]


# The same shapes ---------------------------------------------------------------------------------------------------


@st.composite
def strided(draw):
    """A strided convolution, the shape that it is planned for, and another that it takes with the same weights."""
    shape = draw(shapes())
    conv = replace(draw(convolutions(shape)), upsampling=None)
    assume(conv.is_strided)
    other = (shape[0], *(draw(sizes(most=6 if len(shape) == 4 else 14)) for _ in shape[1:]))
    return conv, shape, other if outcome(conv.output_shape, other) else shape


@given(strided(), st.sampled_from(STYLES))
@example((Conv(1, 2, stride=2), (1, 4), (1, 5)), "subpixel")  # 5: a cell that no window reached
@example((Conv(2, 4, stride=(3, 1), padding="same"), (2, 7, 5), (2, 6, 4)), "resize")
@example((Conv(2, 4, stride=(3, 1), padding="same"), (2, 7, 5), (2, 6, 4)), "subpixel")
@example((Conv(4, 1, stride=4, padding=2, groups=2), (4, 5, 3, 2), (4, 1, 2, 3)), "subpixel")
def test_every_style_restores_every_size(drawn, style):
    conv, shape, other = drawn
    styled = mirror(conv, shape, upsampling=style)
    assert styled.output_shape(conv.output_shape(shape)) == shape
    model = Autoencoder(conv, shape, upsampling=style)
    assert model.decoder.block.blocks[0] == styled
    with torch.no_grad():
        for at in (shape, other):
            assert model(torch.rand(2, *at))[0].shape == (2, *at)


@given(strided(), st.sampled_from(STYLES[1:]))
def test_a_style_takes_the_place_of_the_transposed_convolution(drawn, style):
    conv, shape, _ = drawn
    transposed, styled = conv.mirror(shape), replace(conv, upsampling=style).mirror(shape)
    assert type(styled) is {"resize": ResizeConv, "subpixel": SubpixelConv}[style]
    assert [getattr(styled, name) for name in (*AXES, "out_channels", "groups", "bias")] == [
        getattr(transposed, name) for name in (*AXES, "out_channels", "groups", "bias")
    ]
    assert styled.mirror(conv.output_shape(shape)).upsampling == style


@given(chains_with_shapes(most=4), st.sampled_from(STYLES))
def test_the_tree_of_a_decoder_is_the_same_in_every_style(drawn, style):
    chain, shape = drawn
    plain, styled = leaves(mirror(chain, shape)), leaves(mirror(chain, shape, upsampling=style))
    kinds = (ConvTranspose, ResizeConv, SubpixelConv)
    assert len(plain) == len(styled)
    for one, other in zip(plain, styled, strict=True):
        assert type(one) is type(other) or (isinstance(one, kinds) and isinstance(other, kinds))
    code = chain.output_shape(shape)
    assert mirror(chain, shape, upsampling=style).output_shape(code) == shape
    if style == "transpose":
        assert plain == styled


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_one_model_restores_every_size_through_everything(style, rank):
    encoder = Chain(
        Conv(4, 3, stride=2, padding=1),
        BatchNorm(),
        ReLU(),
        Residual(Chain(Conv(6, 3, stride=2, padding=1), ReLU(), Conv(6, 3, padding=1))),
        Chain(Parallel(Conv(2, 2, stride=2), Conv(3, 2, stride=2), join="concat"), ReLU()),
        Conv(4, 4, padding="same", stride=2),
    )
    model = Autoencoder(encoder, (2,) + (24,) * rank, upsampling=style).eval()
    most = {1: 41, 2: 24, 3: 18}[rank]
    with torch.no_grad():
        for size in product(range(16, most), repeat=rank) if rank < 3 else [(16, 17, 18), (19, 16, 17), (24, 24, 24)]:
            assert model(torch.rand(1, 2, *size))[0].shape[2:] == size


# The same function, and what differs -----------------------------------------------------------------------------


def spread(block, shape):
    """A `SubpixelConv` with the weights of a `ConvTranspose`, and that."""
    axes = settings(block, len(shape) - 1)
    there, here = block.build(shape).double(), SubpixelConv(**vars_of(block)).build(shape).double()
    per_group = block.out_channels // block.groups
    inside = shape[0] // block.groups
    factors = [s for _, s, *_ in axes]
    weight = torch.zeros_like(here.weight)
    steps = list(product(*map(range, factors)))
    for cell in product(*map(range, weight.shape[2:])):
        for at, step in enumerate(steps):
            taps = [_tap(c, r, axis, n) for c, r, axis, n in zip(cell, step, axes, weight.shape[2:], strict=True)]
            if None in taps:
                continue
            kernel = there.weight[(slice(None), slice(None), *taps)]  # channels in, channels out of a group
            for group, channel in product(range(block.groups), range(per_group)):
                row = (group * per_group + channel) * len(steps) + at
                weight[(row, slice(None), *cell)] = kernel[group * inside : (group + 1) * inside, channel]
    here.weight.data.copy_(weight)
    if block.bias:
        here.bias.data.copy_(there.bias.repeat_interleave(len(steps)))
    return there, here


def vars_of(block):
    return {name: getattr(block, name) for name in (*AXES, "out_channels", "groups", "bias")}


def _tap(cell, step, axis, cells):
    """The tap of the transposed kernel that a cell of the dense one stands for, at a step of the stride."""
    k, s, _, _, d = axis
    if s == 1:
        return k - 1 - cell
    reach = step + s * (cells - 1 - cell)
    return reach // d if reach % d == 0 and reach // d < k else None


@given(blocks_with_shapes(["ConvTranspose"]), st.data())
@example((ConvTranspose(1, 2, stride=2), (1, 3)), None)
@example((ConvTranspose(2, 4, stride=(3, 1), padding="same"), (2, 3, 4)), None)
@example((ConvTranspose(1, 1, stride=2, output_padding=4, dilation=5), (1, 2)), None)
def test_subpixel_can_learn_whatever_the_transposed_convolution_can(drawn, data):
    block, shape = drawn
    there, here = spread(block, shape)
    x = torch.randn(2, *shape, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(here(x), there(x))
        axes = settings(block, x.ndim - 2)
        least = [n - a for n, (_, _, _, a, _) in zip(block.output_shape(shape)[1:], axes, strict=True)]
        more = [s - 1 if data is None else data.draw(st.integers(0, s - 1)) for _, s, *_ in axes]
        told = [n + m for n, m in zip(least, more, strict=True)]
        assume(min(told) > 0)
        if all(s > 1 for _, s, *_ in axes):
            event("told another size")
            torch.testing.assert_close(here(x, told), there(x, told))


@given(blocks_with_shapes(["ResizeConv"]))
@example((ResizeConv(1, 3, stride=2, padding=1), (1, 14)))
@example((ResizeConv(1, 4, stride=3, padding="same", output_padding=2), (1, 5)))
def test_resize_takes_the_window_whose_middle_is_nearest(drawn):
    block, shape = drawn
    shape = (1, *shape[1:])
    axes = settings(block, len(shape) - 1)
    assume(all(s > 1 for _, s, *_ in axes))
    block = replace(block, out_channels=1, groups=1, bias=False)
    module = block.build(shape).double()
    torch.nn.init.zeros_(module.weight)
    # PyTorch's "same" pads a cell more behind: the tap that lies on the cell itself is the one that was padded before
    taps = [extent_of(k, d) - 1 for k, *_, d in axes]
    assume(all(reach // 2 % d == 0 for reach, (*_, d) in zip(taps, axes, strict=True)))
    module.weight.data[(0, 0, *(reach // 2 // d for reach, (*_, d) in zip(taps, axes, strict=True)))] = 1
    x = torch.randn(1, *shape, dtype=torch.double)
    after = block.output_shape(shape)
    expected = x
    for dim, (cells, size, (k, s, p, _, d)) in enumerate(zip(shape[1:], after[1:], axes, strict=True), start=2):
        if p == "same":
            p = max((-(-size // s) - 1) * s + extent_of(k, d) - size, 0) // 2
        middles = [window * s - p + Fraction(extent_of(k, d) - 1, 2) for window in range(cells)]
        nearest = [min(range(cells), key=lambda i, j=j: (abs(middles[i] - j), i)) for j in range(size)]
        expected = expected.index_select(dim, torch.tensor(nearest))
    assert torch.equal(module(x), expected)


@given(blocks_with_shapes(["ConvTranspose"]))
@example((ConvTranspose(1, 4, padding="same"), (2, 5)))
@example((ConvTranspose(1, (2, 3), padding=(0, 2), output_padding=(1, 0), dilation=2), (2, 5, 6)))
def test_an_axis_of_stride_1_is_convolved_as_ever(drawn):
    block, shape = drawn
    rank = len(shape) - 1
    block = replace(block, stride=1, groups=1, output_padding=0 if block.padding == "same" else block.output_padding)
    assume(outcome(block.output_shape, shape))
    there, here = block.build(shape).double(), ResizeConv(**vars_of(block)).build(shape).double()
    here.weight.data.copy_(there.weight.transpose(0, 1).flip(list(range(2, 2 + rank))))
    if block.bias:
        here.bias.data.copy_(there.bias)
    x = torch.randn(2, *shape, dtype=torch.double)
    torch.testing.assert_close(here(x), there(x))


@given(blocks_with_shapes(["ResizeConv", "SubpixelConv", "ConvTranspose"], ranks=[1]))
@example((ResizeConv(1, 4, stride=3), (1, 6)))
@example((SubpixelConv(1, 4, stride=3), (1, 6)))
def test_no_cell_sees_more_than_its_window_says(drawn):
    block, shape = drawn
    block, shape = replace(block, out_channels=1, groups=1, bias=False), (1, shape[1])
    module = block.build(shape).double()
    torch.nn.init.ones_(module.weight)
    basis = torch.eye(shape[1], dtype=torch.double)[:, None]
    sees = module(basis)[:, 0].T != 0  # cells out × cells in
    window = block.windows(shape)[0].seen
    for cell, row in enumerate(sees):
        seen = row.nonzero().flatten().tolist()
        assert not seen or max(seen) - min(seen) < window.size
        if len(seen) == window.size and seen[0] > 0 and seen[-1] < shape[1] - 1:
            assert window.of(cell) == (seen[0], seen[-1])


# No checkerboard ---------------------------------------------------------------------------------------------------


@given(blocks_with_shapes(["ConvTranspose"], ranks=[1]))
@example((ConvTranspose(1, 4, stride=2, padding=1), (1, 5)))
@example((ConvTranspose(1, 4, stride=2, padding=3, dilation=2), (1, 5)))
def test_overlaps_are_what_ones_add_up_to(drawn):
    block, shape = drawn
    assume(block.padding != "same")
    ((k, s, p, a, d),) = settings(block, 1)
    added = F.conv_transpose1d(torch.ones(1, 1, shape[1]), torch.ones(1, 1, k), None, s, p, a, 1, d)
    assert list(overlaps(shape[1], k, s, p, a, d)) == added[0, 0].tolist()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_away_from_the_borders_overlaps_repeat_by_turns(kernel_size, stride, dilation):
    extent = extent_of(kernel_size, dilation)
    counts = overlaps(2 * extent + 2 * stride, kernel_size, stride, dilation=dilation)
    inner = counts[-(-extent // stride) * stride : -extent]
    turns = overlap_by_turns(kernel_size, stride, dilation)
    assert len(inner) >= stride
    assert list(inner) == [turns[at % stride] for at in range(len(inner))]


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("style", STYLES)
def test_what_is_even_stays_even(kernel_size, stride, dilation, style):
    """A new layer gives an even picture for an even code, but where windows overlap unevenly."""
    conv = Conv(3, kernel_size, stride=stride, dilation=dilation, bias=True, upsampling=style)
    shape = (2, 60, 61)
    block = conv.mirror(shape)
    code = conv.output_shape(shape)
    with torch.no_grad():
        inner = block.build(code)(torch.ones(1, *code))[..., 15:-15, 15:-15]
    uneven = style == "transpose" and kernel_size > 1
    assert (inner.flatten(2).std(2).max() > 1e-3) == uneven
    noted = any("overlap by turns" in note for note in block.notes(code))
    assert noted == (style == "transpose" and len(set(overlap_by_turns(kernel_size, stride, dilation))) > 1)


def test_a_plan_says_where_windows_overlap_unevenly():
    encoder = Chain(Conv(8, (3, 4), stride=2, padding=1), ReLU(), Residual(Conv(8, 3, stride=2, padding=1)), Conv(4, 3))
    model = Autoencoder(encoder, (1, 28, 28))
    said = "windows overlap by turns along {}, since stride=2 does not divide kernel_size={}."
    advised = ' upsampling="resize" has no such checkerboard.'
    assert model.decoder.plan.notes == (
        f"1.body: 1 and 2 {said.format('H and W', 3)}{advised}",
        f"1.shortcut: 0 and 1 {said.format('H and W', 1)}{advised}",
        f"3: 1 and 2 {said.format('H', 3)}{advised}",
    )
    assert "\n\n1.body: 1 and 2 windows" in str(model.decoder.plan)
    assert model.encoder.plan.notes == ()
    assert Autoencoder(encoder, (1, 28, 28), upsampling="resize").decoder.plan.notes == ()
    assert (
        ConvTranspose(1, 4, stride=2, dilation=2)
        .notes((1, 5))[0]
        .startswith("0 and 4 windows overlap by turns along L, since dilation=2 skips cells.")
    )


# Said for all, said for one ----------------------------------------------------------------------------------------


def test_a_block_says_its_own_style():
    encoder = Chain(Conv(4, 3, stride=2, upsampling="transpose"), Chain(Conv(4, 3, stride=2)), Conv(4, 3, stride=1))
    assert [type(block) for block in leaves(mirror(encoder, (1, 28, 28), upsampling="resize"))] == [
        ConvTranspose,
        ResizeConv,
        ConvTranspose,
    ]
    assert leaves(mirror(encoder, (1, 28, 28), upsampling="resize")) == leaves(
        Decoder(encoder, (1, 28, 28), upsampling="resize").block
    )


def test_a_style_reaches_every_branch_and_the_way_that_is_worked_out():
    down = Conv(4, 3, stride=2, padding=1)
    graph = Graph(
        Node("fan", Copy(2), (0,), (1, 2)),
        Node("left", Chain(down, ReLU()), (1,), (3,)),
        Node("right", down, (2,), (4,)),
        Node("join", Sum(2), (3, 4), (5,)),
    )
    for block in (Residual(down), Parallel(down, Chain(down)), Residual(Residual(down), Conv(4, 1, stride=2)), graph):
        encoder = Chain(block, Conv(2, 1))
        model = Autoencoder(encoder, (3, 9, 10), upsampling="subpixel")
        kinds = [type(m).__name__ for m in model.decoder.modules() if hasattr(m, "weight")]
        assert "ConvTranspose2d" not in kinds[1:]
        assert kinds.count("SubpixelConv2d") == len(kinds) - 1 >= 2
        assert list(model.encoder.state_dict()) == list(Autoencoder(encoder, (3, 9, 10)).encoder.state_dict())
        for size in ((9, 10), (10, 9), (13, 16)):
            assert model(torch.rand(2, 3, *size))[0].shape[2:] == size
    identity = Residual(Conv(3, 3, padding=1))
    assert leaves(mirror(Chain(identity), (3, 9, 9), upsampling="resize")) == leaves(mirror(Chain(identity), (3, 9, 9)))


def test_poolings_and_what_is_not_strided_stay_as_they_are():
    encoder = Chain(Conv(4, 3), MaxPool(2), ConvTranspose(2, 2, stride=2))
    assert mirror(encoder, (1, 9, 9), upsampling="resize") == mirror(encoder, (1, 9, 9))


@pytest.mark.parametrize("style", ["nearest", None, 2])
def test_what_is_no_style_is_refused(style):
    encoder = Chain(Conv(4, 3, stride=2))
    for ask in (
        lambda: mirror(encoder, (1, 9, 9), upsampling=style),
        lambda: Autoencoder(encoder, (1, 9, 9), upsampling=style),
    ):
        with pytest.raises(ShapeError, match="is none of 'transpose', 'resize', 'subpixel'"):
            ask()
    if style is not None:
        with pytest.raises(ShapeError, match="Conv: upsampling="):
            Conv(4, 3, upsampling=style)


# How it starts, and where it goes -----------------------------------------------------------------------------------


def test_subpixel_starts_as_a_resize():
    module = SubpixelConv(3, 5, stride=(2, 3)).build((2, 8, 8))
    weight = module.weight.unflatten(0, (3, 6))
    assert torch.equal(weight, weight[:, :1].expand_as(weight))
    assert len(set(weight[:, 0, 0, 0, 0].tolist())) == 3  # and channels are told apart
    assert torch.equal(module.bias.unflatten(0, (3, 6)).std(1), torch.zeros(3))
    module.reset_parameters()
    assert torch.equal(module.weight.unflatten(0, (3, 6))[:, 1], module.weight.unflatten(0, (3, 6))[:, 0])


@pytest.mark.parametrize("style", STYLES)
def test_it_is_exported_with_free_sizes(style):
    encoder = Chain(
        Conv(4, 3, stride=2, padding=1),
        ReLU(),
        Residual(Conv(6, 3, stride=2, padding=1)),
        Conv(4, 2, stride=(2, 1), padding="same"),
    )
    model = Autoencoder(encoder, (2, 24, 24), upsampling=style).eval()
    dims = {0: torch.export.Dim("batch", max=16), **{a: torch.export.Dim(f"n{a}", min=12, max=256) for a in (2, 3)}}
    program = torch.export.export(model, (torch.rand(2, 2, 25, 30),), dynamic_shapes=(dims,))
    for size in [(24, 24), (25, 31), (40, 13)]:
        x = torch.rand(3, 2, *size)
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize("style", STYLES[1:])
def test_it_is_compiled_in_one_piece_for_every_size(style):
    encoder = Chain(Conv(4, 3, stride=2, padding=1), ReLU(), Conv(4, 2, stride=(2, 1), padding="same"))
    model = Autoencoder(encoder, (2, 24, 24), upsampling=style).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for size in [(24, 24), (25, 31), (40, 13)]:
            x = torch.rand(3, 2, *size)
            torch.testing.assert_close(compiled(x), model(x))


def test_parts_are_all_told():
    chain = Chain(Residual(Conv(4, 3, stride=2, padding=1)), Conv(2, 2, stride=2))
    assert [type(p) for p in parts(mirror(chain, (1, 9, 9), upsampling="resize"))] == [ResizeConv] * 3
