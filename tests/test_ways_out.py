"""Random encoders through torch.export, ONNX and torch.compile; and that a plan says beforehand what will not go.

What these find is kept as an example, and mended in the mechanism: none of the cases below is special to `export`.
"""

import logging
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
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
    MaxPool,
    NearestUnpool,
    ObverseError,
    Parallel,
    PixelUnshuffle,
    Rearrange,
    ReLU,
    Residual,
    Upsample,
)
from obverse.exporting import _program, export, free_sizes
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


def near(model, steps=(0, 1, 2, 5), batch=2, apart=1):
    """Batches of several sizes, odd and even, along the axes that are free."""
    free = free_sizes(model)
    for examples, more in zip(count(batch), steps, strict=False):
        spatial = [
            n if axis is None else n + (more + apart * at + 4 * (n < 6)) * axis[1]
            for at, (n, axis) in enumerate(zip(model.input_shape[1:], free, strict=True))
        ]
        yield torch.rand(examples, model.input_shape[0], *spatial)


def check(run, model, atol=2e-4, **how):
    for x in near(model, **how):
        with torch.no_grad():
            expected = model(x.clone())
            torch.testing.assert_close(tuple(run(x.clone())), expected, atol=atol, rtol=2e-3, equal_nan=True)


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
@example((Residual(MaxPool((2, 4), (4, 3)), Chain(Conv(8, 1), AdaptiveAvgPool((3, 3)))), (8, 12, 12)))  # free, to 15
@example((Chain(Flatten(), Parallel(ReLU(), ReLU(), join="concat")), (1, 14)))  # channels that depend on the size
@example((Parallel(AdaptiveAvgPool(None), Chain(Conv(1, 1), AdaptiveAvgPool((3,))), fan=(1, 2), join="concat"), (3, 3)))
def test_an_exported_program_gives_eager_numbers_or_the_plan_had_said_that_it_cannot(drawn):
    model = model_of(drawn)
    program = outcome_of(_program, model)
    event("exported" if program else "refused")
    assert (program is None) == ("export" in limits(model))
    if program is None:
        with pytest.raises(ObverseError, match="coder, block"):
            export(model)
    else:
        check(program.module(), model, steps=(5, 6, 9))  # past the smallest, which are tried when it is made


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
