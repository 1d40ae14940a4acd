"""Models that leave Python: torch.export, ONNX and torch.compile, each with free batch and free sizes."""

import re
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from obverse import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Autoencoder,
    AvgPool,
    BatchNorm,
    Block,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    Flatten,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    LPPool,
    MaxPool,
    ObverseError,
    Pad,
    Parallel,
    PixelShuffle,
    PixelUnshuffle,
    Rearrange,
    ReLU,
    Residual,
    RMSNorm,
    ShapeError,
    Skip,
    Upsample,
    exporting,
)
from obverse.exporting import export, free_sizes

BLOCKS = {
    "convolution": Conv(4, 3, stride=2, padding=1),
    "stride 3, dilation 2": Conv(4, 3, stride=3, padding=1, dilation=2),
    "same": Conv(4, 4, padding="same"),
    "same with a stride": Conv(4, 3, stride=2, padding="same"),
    "same with a stride, circular": Conv(4, 3, stride=2, padding="same", dilation=2, padding_mode="circular"),
    "reflected": Conv(4, 3, padding=1, padding_mode="reflect"),
    "transposed": ConvTranspose(4, 3, stride=2, padding=1, output_padding=1),
    "max pool": MaxPool(2),
    "max pool, ceil_mode": MaxPool(3, 2, 1, ceil_mode=True),
    "max pool with indices": MaxPool(2, return_indices=True),
    "average": AvgPool(2),
    "average, ceil_mode": AvgPool(3, 2, 1, ceil_mode=True),
    "average, ceil_mode, padding not counted": AvgPool(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "p-norm": LPPool(2, 2, ceil_mode=True),
    "adaptive average": AdaptiveAvgPool(1),
    "adaptive maximum": AdaptiveMaxPool(1),
    "code of fixed length": Chain(AdaptiveAvgPool(1), Flatten(), Linear(4)),
    "upsampling": Upsample(scale_factor=2),
    "upsampling by a fraction": Upsample(scale_factor=1.5, mode="linear"),
    "pixel shuffle": Chain(Conv(8, 1), PixelShuffle(2), Conv(4, 3)),
    "pad and crop": Chain(Pad((1, 2)), Crop((0, 1))),
    "rearranged": Chain(Rearrange("c h w -> w h c"), Rearrange("w h c -> c h w")),
    "batch norm": BatchNorm(),
    "group norm": GroupNorm(2),
    "instance norm": InstanceNorm(),
    "layer norm": LayerNorm(),
    "rms norm": RMSNorm(),
    "residual": Residual(Chain(Conv(4, 3, padding=1), ReLU())),
    "residual with a stride": Residual(Chain(Conv(8, 3, stride=2, padding=1), ReLU())),
    "parallel": Parallel(Conv(4, 1), Conv(4, 3, padding=1), join="concat"),
    "skip": Chain(Skip(), Conv(4, 3, stride=2, padding=1)),
    "flattened": Chain(Flatten(), ReLU()),
    "nested": Chain(Chain(ReLU(), Conv(4, 3)), Chain(Conv(4, 3, stride=2))),
}
SIZES = [(24, 24), (25, 30), (33, 27)]


def model_of(block, rank=2):
    encoder = Chain(Conv(4, 3, stride=2, padding=1), block)
    return Autoencoder(encoder, (2, *(24,) * rank)).eval()


def check(run, model, sizes):
    for batch, size in enumerate(sizes, start=1):
        x = torch.rand(batch, 2, *size)
        with torch.no_grad():
            torch.testing.assert_close(run(x)[0], model(x)[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", BLOCKS)
def test_an_exported_program_gives_eager_numbers_at_every_size(name):
    model = model_of(BLOCKS[name])
    check(export(model).module(), model, SIZES)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("name", ["same", "max pool, ceil_mode", "average, ceil_mode", "residual", "skip"])
def test_also_in_one_and_three_dimensions(name, rank):
    model = model_of(BLOCKS[name], rank)
    check(export(model).module(), model, [(24,) * rank, (25, 26, 21)[:rank]])


@pytest.mark.parametrize(
    "name",
    [
        "same with a stride",
        "same with a stride, circular",
        "max pool, ceil_mode",
        "residual with a stride",
        "skip",
        "batch norm",
    ],
)
def test_onnx_gives_eager_numbers_at_every_size(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(BLOCKS[name])
    export(model, tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    given = session.get_inputs()[0].name
    check(lambda x: [torch.from_numpy(out) for out in session.run(None, {given: x.numpy()})], model, SIZES)


@pytest.mark.parametrize(
    "name",
    [
        "same with a stride",
        "max pool with indices",
        "residual with a stride",
        "nested",
        "flattened",
    ],
)
def test_it_compiles_without_graph_breaks_or_a_recompile_from_size_to_size(name):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = model_of(BLOCKS[name])
    run = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    for size in [(25, 30), (24, 24), (33, 27), (40, 21)]:
        x = torch.rand(2, 2, *size)
        with torch.no_grad():
            torch.testing.assert_close(run(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)
    assert counter.frame_count == 1


def test_the_tutorial_whose_code_is_a_single_cell_takes_its_smallest_size_too():
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1), ReLU(), Conv(12, 7))
    model = Autoencoder(encoder, (1, 28, 28)).eval()
    assert free_sizes(model) == [(25, 1), (25, 1)]
    program = export(model).module()
    for size in [(25, 28), (28, 31), (40, 25)]:
        x = torch.rand(2, 1, *size)
        torch.testing.assert_close(program(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)


def test_sizes_that_must_be_multiples_stay_multiples():
    model = Autoencoder(Chain(PixelUnshuffle(2), Conv(8, 3, padding=1)), (1, 28, 28)).eval()
    assert free_sizes(model) == [(2, 2), (2, 2)]
    program = export(model).module()
    x = torch.rand(2, 1, 30, 34)
    torch.testing.assert_close(program(x)[0], model(x)[0], atol=1e-5, rtol=1e-4)


def test_a_size_that_a_weight_depends_on_stays_as_planned():
    model = Autoencoder(Chain(Conv(4, 3, stride=2), Flatten(), Linear(5)), (1, 12, 12)).eval()
    assert free_sizes(model) == [None, None]
    x = torch.rand(7, 1, 12, 12)
    torch.testing.assert_close(export(model).module()(x)[0], model(x)[0])
    with pytest.raises(ShapeError, match="block 2"):
        model(torch.rand(2, 1, 13, 12))


def test_it_writes_what_torch_export_loads(tmp_path):
    model = model_of(BLOCKS["residual"])
    model.export(tmp_path / "model.pt2")
    check(torch.export.load(tmp_path / "model.pt2").module(), model, SIZES)


def test_it_leaves_the_model_in_the_mode_it_was_in():
    model = model_of(BLOCKS["batch norm"]).train()
    export(model)
    assert model.training


def test_adaptive_pooling_to_more_than_a_cell_is_refused_for_onnx_by_name(tmp_path):
    model = model_of(AdaptiveAvgPool(3))
    with pytest.raises(ObverseError, match=r"encoder, block 1: AdaptiveAvgPool\(3\)"):
        export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_a_plan_says_cannot_be_traced_is_refused_by_name():
    model = model_of(AdaptiveMaxPool((None, 2)))
    said = "1: AdaptiveMaxPool((None, 2)): torch.export fixes the sizes that adaptive pooling shall keep."
    assert any(note.startswith(said) for note in model.encoder.plan.notes)
    with pytest.raises(ObverseError, match=re.escape(f"encoder, block {said}")):
        export(model)


def test_it_is_refused_by_name_within_branches(tmp_path):
    model = model_of(Residual(AdaptiveAvgPool(3), Chain(ReLU(), AdaptiveAvgPool((3, 3)))))
    assert len(model.encoder.plan.notes) == 2
    with pytest.raises(ObverseError, match=r"encoder, block 1: body: AdaptiveAvgPool\(3\)"):
        export(model, tmp_path / "model.onnx")


class Counted(Block):
    """A block that asks a size, as a plugin may."""

    pointwise = True

    def build(self, shape):
        class Module(torch.nn.Module):
            def forward(self, x):
                return x if int(x.sum()) > 0 else -x

        return Module()


def test_what_pytorch_cannot_trace_is_refused_with_the_cause():
    with pytest.raises(ObverseError, match="cannot trace this model") as error:
        export(model_of(Counted()))
    assert error.value.__cause__ is not None


def test_on_an_older_pytorch_than_was_tried_an_error_says_so(monkeypatch):
    with pytest.raises(ObverseError) as error:
        export(model_of(Counted()))
    assert "This is PyTorch" not in str(error.value)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.11.0+cu128"))
    with pytest.raises(
        ObverseError, match=rf"This is PyTorch 2\.11\.0\S*; {exporting.TRIED} is what export was tried with"
    ):
        export(model_of(Counted()))


def test_the_page_and_the_requirements_say_with_which_pytorch_it_was_tried():
    root = Path(__file__).parents[1]
    for file in ("docs/export.md", "pyproject.toml"):
        assert f"PyTorch {exporting.TRIED}" in (root / file).read_text()


def test_what_cannot_be_written_as_onnx_is_refused_with_the_cause_and_leaves_no_file(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript")

    def fails(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("Failed to decompose the FX graph with ONNX decompositions.")

    monkeypatch.setattr(torch.onnx, "export", fails)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.11.0"))
    with pytest.raises(ObverseError, match=r"as ONNX: Failed to decompose(.|\n)*This is PyTorch 2\.11\.0") as error:
        export(model_of(ReLU()), tmp_path / "model.onnx")
    assert isinstance(error.value.__cause__, torch.onnx.errors.OnnxExporterError)
    assert list(tmp_path.iterdir()) == []


def test_an_ending_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(ObverseError, match=r"\.pt2 nor \.onnx"):
        export(model_of(ReLU()), tmp_path / "model.bin")
