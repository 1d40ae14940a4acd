"""Random encoders through torch.export, ONNX and torch.compile; and that a plan says beforehand what will not go.

What these find is kept as an example, and mended in the mechanism: none of the cases below is special to `export`.
"""

import logging
import warnings
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count, product
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, assume, event, example, given, settings
from hypothesis import strategies as st

from obverse import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Autoencoder,
    AvgPool,
    Chain,
    Conv,
    ConvTranspose,
    Flatten,
    Linear,
    MaxPool,
    NearestUnpool,
    ObverseError,
    Pad,
    Parallel,
    PixelUnshuffle,
    Rearrange,
    ReLU,
    Residual,
    ResizeConv,
    Unflatten,
    Upsample,
)
from obverse.exporting import _dimensions, _program, export, free_sizes
from obverse.testing.strategies import chains, graphs

MOST = {1: 16, 2: 14, 3: 8}


def few(examples):
    """So many examples in CI, ten times as many at night, a handful at a desk: each takes a good part of a second."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink would take minutes
    return settings(max_examples=max(round(examples * settings.default.max_examples / 120), 3), phases=phases)


@st.composite
def encoders(draw, least=7, most=3):
    """A chain, sometimes with branches, and a shape that leaves it room."""
    rank = draw(st.sampled_from([2, 2, 1, 3]))
    shape = (draw(st.integers(1, 4)), *[draw(st.integers(min(least, MOST[rank] - 2), MOST[rank])) for _ in range(rank)])
    one = draw(st.sampled_from(["chain", "chain", "graph"]))
    return (draw(chains(shape, most=most)) if one == "chain" else draw(graphs(shape, depth=1))), shape


def model_of(drawn):
    block, shape = drawn
    return Autoencoder(block, shape).eval()


def limits(model):
    ends = ((model.encoder.block, model.input_shape), (model.decoder.block, model.code_shape))
    return {limit.way for chain, shape in ends for limit in chain.limits(shape)}


def near(model, steps=(0, 1, 2, 5), batch=2, apart=1, least=()):
    """Batches of several sizes, odd and even, along the axes that are free, from the planned ones or the least ones."""
    free = free_sizes(model)
    begin = [*map(max, model.input_shape[1:], least or model.input_shape[1:])]
    for examples, more in zip(count(batch), steps, strict=False):
        spatial = [
            n if axis is None else n + (more + apart * at + 4 * (n < 6)) * axis[1]
            for at, (n, axis) in enumerate(zip(begin, free, strict=True))
        ]
        yield torch.rand(examples, model.input_shape[0], *spatial)


def check(run, model, atol=2e-4, **how):
    for x in near(model, **how):
        with torch.no_grad():
            expected = model(x.clone())
            torch.testing.assert_close(tuple(run(x.clone())), expected, atol=atol, rtol=2e-3, equal_nan=True)


CIRCULAR = Conv(
    2, 3, stride=2, padding="same", dilation=2, groups=2, bias=False, padding_mode="circular", upsampling="subpixel"
)
"""Whose padding depends on the size: PyTorch traces its own circular padding by fixed amounts only."""


def least_of(program):
    """The smallest sizes that a program says that it takes: some begin where no operation has a single cell."""
    given_as = program.graph_signature.user_inputs[0]
    _, _, *sizes = next(node for node in program.graph.nodes if node.name == given_as).meta["val"].shape
    return [at_least(size, program.range_constraints) for size in sizes]


def at_least(size, ranges):
    if isinstance(size, int):
        return size
    formula = size.node.expr
    return int(formula.subs({symbol: ranges[symbol].lower for symbol in formula.free_symbols}))


# torch.export ------------------------------------------------------------------------------------------------------


@few(30)
@given(encoders())
@example((Conv(4, 3, stride=2, padding="same", dilation=2, padding_mode="reflect"), (1, 8)))  # bounds of its padding
@example((Conv(1, 1), (1, 1, 1)))  # whose layout PyTorch takes from whether there is one cell
@example((MaxPool(4, stride=2, padding=2, dilation=2, return_indices=True, ceil_mode=True), (2, 2)))
@example((MaxPool((3, 2), stride=2, padding=1, return_indices=True, ceil_mode=True), (2, 7, 8)))
@example((AdaptiveMaxPool(None), (2, 8, 9)))  # PyTorch fixes the sizes that it keeps
@example((AdaptiveMaxPool((None, 2)), (2, 8, 9)))
@example((AdaptiveAvgPool((None, 2)), (2, 8, 9)))
@example((NearestUnpool((11,)), (5, 5)))
@example((Upsample(scale_factor=2.5, mode="area"), (3, 8)))
@example((Upsample(scale_factor=2**0.5), (3, 8)))  # no simple fraction
@example((Rearrange("(a A) b c -> (c a b A)", A=1), (5, 1, 11)))
@example((Rearrange("a (b B) (c C) -> a (C c B) b", B=3, C=7), (8, 3, 7)))
@example((PixelUnshuffle(2), (2, 2, 2, 2)))
@example((Chain(Conv(2, 4, stride=5, padding="same"), ReLU()), (1, 9, 8)))
@example((ConvTranspose(2, 1, stride=2, padding="same"), (1, 4)))
@example(
    (
        Chain(ResizeConv(3, 3, stride=2, output_padding=1), Rearrange("a (b B) (c C) -> (a B c) C b", B=30, C=2)),
        (1, 14, 13),
    )
)
@example((Residual(MaxPool((2, 4), (4, 3)), Chain(Conv(8, 1), AdaptiveAvgPool((3, 3)))), (8, 12, 12)))  # free, to 15
@example((Chain(Flatten(), Parallel(ReLU(), ReLU(), join="concat")), (1, 14)))  # channels that depend on the size
@example((Parallel(AdaptiveAvgPool(None), Chain(Conv(1, 1), AdaptiveAvgPool((3,))), fan=(1, 2), join="concat"), (3, 3)))
@example((Chain(Flatten(-2, 3), CIRCULAR, AvgPool(2, ceil_mode=True)), (4, 9, 12)))
@example((Chain(Conv(4, 2, 3, "same", 3, padding_mode="reflect"), Pad((0, -1)), Conv(4, 2, 3, "same")), (2, 8, 8)))
@example((Chain(Linear(4), Conv(4, 1, 3, "same"), Conv(4, 2, stride=4, upsampling="resize")), (1, 6, 7, 6)))
@example((Chain(Conv(1, 1, stride=3, padding=1), Unflatten(-1, (-1, 3, 2)), AvgPool((1, 1, 2), (2, 4, 3))), (2, 15)))
def test_an_exported_program_gives_eager_numbers_or_the_plan_had_said_that_it_cannot(drawn):
    model = model_of(drawn)
    program = outcome_of(_program, model)
    event("exported" if program else "refused")
    assert (program is None) == ("export" in limits(model))
    if program is None:
        with pytest.raises(ObverseError, match="coder, block"):
            export(model)
    else:
        check(program.module(), model, steps=(1, 5, 6), least=least_of(program))


def choices(make, **settings):
    """A block for every combination of settings."""
    return [make(**dict(zip(settings, values, strict=True))) for values in product(*settings.values())]


BORDERS = ["zeros", "reflect", "replicate", "circular"]
COMBINED = [
    *choices(partial(Conv, 2, 3), stride=[1, 2], padding=[2, "same"], padding_mode=BORDERS),
    *choices(partial(Conv, 2, 2, stride=3, dilation=2), padding=[1, "same"], padding_mode=BORDERS),
    *choices(partial(Conv, 2, 3, stride=2), padding=[1, "valid", "same"], upsampling=["resize", "subpixel"]),
    *choices(partial(ConvTranspose, 2, 3, stride=2), padding=[1, "same"], output_padding=[0, 1]),
    *choices(partial(MaxPool, 3, 2, 1), dilation=[1, 2], return_indices=[False, True], ceil_mode=[False, True]),
    *choices(partial(AvgPool, 3, 2, 1), ceil_mode=[False, True], count_include_pad=[False, True]),
    *choices(partial(Pad, (1, 2)), mode=["constant", *BORDERS[1:]]),
    *choices(partial(Upsample, mode="linear"), size=[11], align_corners=[False, True]),
    *choices(Upsample, scale_factor=[2, 1.5], mode=["nearest", "nearest-exact", "linear", "area"]),
]
"""Settings in combinations that seldom meet in encoders that are drawn: each is a path of its own when it is traced."""


@pytest.mark.parametrize("block", COMBINED, ids=repr)
def test_every_combination_of_settings_is_exported(block):
    model = model_of((block, (2, 12)))
    check(_program(model).module(), model, steps=(5, 6))


@few(4)
@given(block=st.sampled_from(COMBINED), rank=st.sampled_from([2, 3]))
def test_every_combination_of_settings_is_exported_with_more_axes(block, rank):
    assume(getattr(block, "mode", "") != "linear")  # which is of one dimension
    model = model_of((block, (2, 12, 11, 10)[: rank + 1]))
    check(_program(model).module(), model, steps=(5, 6))


@given(smallest=st.integers(1, 9_000), step=st.integers(1, 64), planned=st.integers(1, 16_000))
@example(smallest=15, step=18, planned=15)
@example(smallest=3, step=2, planned=15)
@example(smallest=9, step=1, planned=16_000)
def test_the_sizes_that_a_program_takes_begin_with_the_smallest_and_go_well_beyond_the_planned(smallest, step, planned):
    assume(smallest <= planned)
    size = _dimensions(1, [(smallest, step)], (planned,))[2]
    assert size.min == smallest
    assert max(4 * planned, 4096) - step < size.max <= max(4 * planned, 4096)


@pytest.mark.parametrize(
    ("block", "shape", "sizes"),
    [
        (Chain(Conv(1, 2), PixelUnshuffle(2)), (2, 15, 15), [(5, 5), (15, 21)]),
        (Chain(Conv(1, 1, stride=3, padding=1), Unflatten(-1, (-1, 3, 2))), (2, 15), [(15,), (33,), (51,)]),
        (Chain(Conv(4, 9, stride=4), ReLU()), (2, 5_000), [(9,), (6_001,)]),
    ],
    ids=["odd", "15 and multiples of 18", "long"],
)
def test_a_program_takes_sizes_that_have_a_remainder_and_those_that_are_long(block, shape, sizes):
    model = model_of((block, shape))
    program = _program(model).module()
    for size in sizes:
        x = torch.rand(2, shape[0], *size)
        torch.testing.assert_close(program(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)


def outcome_of(function, *arguments):
    try:
        return function(*arguments)
    except ObverseError:
        return None


# ONNX --------------------------------------------------------------------------------------------------------------


@few(10)
@given(encoders())
@example((AvgPool(3, padding=1, count_include_pad=False, divisor_override=2), (2, 8, 9)))  # which the writer forgets
@example((Upsample(size=(6, 2)), (2, 6, 9)))  # divided elsewhere than PyTorch divides
@example((Upsample(size=(8,), mode="nearest-exact"), (2, 12)))
@example((MaxPool(3, stride=2, padding=1, return_indices=True, ceil_mode=True), (2, 7, 8)))
def test_onnxruntime_gives_eager_numbers(tmp_path_factory, drawn):
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(drawn)
    assume(not limits(model))
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(model, file)
    quiet = runtime.SessionOptions()
    quiet.log_severity_level = 3
    session = runtime.InferenceSession(file, quiet)
    given_as = session.get_inputs()[0].name
    # a norm of a single number divides its rounding by the square root of eps
    check(lambda x: map(torch.from_numpy, session.run(None, {given_as: x.numpy()})), model, atol=5e-3)


@pytest.mark.parametrize(
    "block",
    [
        AdaptiveAvgPool(3),
        AdaptiveMaxPool(2),
        Upsample(size=(5, 3), mode="area"),
        ConvTranspose(2, 3, output_padding=1, dilation=2),
    ],
    ids=repr,
)
def test_what_a_plan_says_of_onnx_is_still_so(block, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = model_of((block, (2, 8, 9)))
    assert limits(model) == {"onnx"}
    logging.disable(logging.ERROR)
    try:
        torch.onnx.export(_program(model), dynamo=True, verbose=False).save(tmp_path / "model.onnx")
    except torch.onnx.errors.OnnxExporterError:
        return
    finally:
        logging.disable(logging.NOTSET)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    with pytest.raises((AssertionError, Exception)):
        check(lambda x: map(torch.from_numpy, session.run(None, {session.get_inputs()[0].name: x.numpy()})), model)


# torch.compile -----------------------------------------------------------------------------------------------------


UNLIKE = {"steps": (1, 0, 2, 3), "batch": 61, "apart": 9}
"""Sizes of which no two are alike: of those that are, when it first compiles, PyTorch supposes that they always are."""


@few(10)
@given(encoders(least=12, most=2))
@example((Parallel(Chain(Flatten(1, 2)), fan=(4,), join="concat"), (4, 12)))  # in the mirror a split of free parts
@example((Conv(1, 3, stride=2, padding="same", padding_mode="circular"), (1, 12)))
def test_it_is_compiled_in_one_piece_and_once_for_every_size(drawn):
    from torch._dynamo.testing import CompileCounterWithBackend

    model = model_of(drawn)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    counts = []  # PyTorch may begin anew while it compiles for the first size, which is no other compilation
    check(lambda x: (run(x), counts.append(counter.frame_count))[0], model, **UNLIKE)
    single = any(1 in shape[1:] for shape in model.encoder.block.shapes(model.input_shape))
    event(f"compiled again: {counts[-1] - counts[0]} times, single cells: {single}")
    assert len(set(counts)) == 1 or single


# The table ---------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs/export.md"
TABLE = PAGE.read_text().split("<!-- made by tools/ways_out.py -->\n")[1].split("<!-- end -->")[0].splitlines()[2:]


@pytest.fixture(scope="module")
def tool():
    spec = spec_from_file_location("ways_out", PAGE.parent.parent / "tools/ways_out.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_row_for_every_block_and_setting(tool):
    assert [row.split(" | ")[0].removeprefix("| ") for row in TABLE] == list(tool.rows())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.split("`")[1])
def test_the_table_says_what_eager_execution_and_torch_export_do(tool, row):
    name, eager, _, exported, _ = row.removeprefix("| ").removesuffix(" |").split(" | ")
    block = tool.rows()[name]
    assert (eager, exported) == (tool.cell(block, tool.eager), tool.cell(block, tool.exported))


@few(6)
@given(row=st.sampled_from(TABLE))
def test_the_table_says_what_all_ways_do(tool, row):
    """All of them at night; at other times some, since ONNX and the compiler take seconds each."""
    name = row.removeprefix("| ").split(" | ")[0]
    logging.disable(logging.ERROR)
    try:
        assert tool.line(name, tool.rows()[name]) == row
    finally:
        logging.disable(logging.NOTSET)
