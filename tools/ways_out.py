"""The table of docs/export.md: every block, and each way out of Python, tried.

    python tools/ways_out.py            tries them all and writes the table: about five minutes

Every registered block is the encoder of a model, in one sensible example, and the ones that cannot go everywhere in a
second one that can. A cell says `yes` where the numbers of eager execution came out at two further sizes. The tests
make the rows that change most easily again and hold the page against them.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from obverse import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Autoencoder,
    AvgPool,
    Block,
    Chain,
    Conv,
    ConvTranspose,
    Crop,
    GroupNorm,
    Linear,
    LPPool,
    MaxPool,
    ObverseError,
    Pad,
    Parallel,
    PixelShuffle,
    PixelUnshuffle,
    Pointwise,
    Rearrange,
    ReLU,
    Residual,
    ResizeConv,
    Skip,
    SubpixelConv,
    Unflatten,
    Upsample,
)
from obverse.blocks.pooling import NearestUnpool
from obverse.exporting import export, free_sizes
from obverse.graph import Copy, Graph, Node, Sum
from obverse.registry import BUILT_IN, block_class

PAGE = Path(__file__).parents[1] / "docs/export.md"
SHAPE = (4, 12, 10)
SAID: dict[str, Block] = {
    "Chain": Chain(Conv(4, 3, padding=1), ReLU()),
    "Graph": Graph(
        Node("fan", Copy(2), (0,), (1, 2)),
        Node("body", Conv(4, 3, padding=1), (1,), (3,)),
        Node("join", Sum(2), (3, 2), (4,)),
    ),
    "Conv": Conv(6, 3, stride=2, padding=1),
    "ConvTranspose": ConvTranspose(6, 3, stride=2, padding=1, output_padding=1),
    "ResizeConv": ResizeConv(6, 3, stride=2, padding=1),
    "SubpixelConv": SubpixelConv(6, 3, stride=2, padding=1),
    "MaxPool": MaxPool(3, stride=2, padding=1, ceil_mode=True),
    "AvgPool": AvgPool(3, stride=2, padding=1, ceil_mode=True),
    "LPPool": LPPool(2, 2, ceil_mode=True),
    "AdaptiveAvgPool": AdaptiveAvgPool(3),
    "AdaptiveMaxPool": AdaptiveMaxPool(3),
    "NearestUnpool": Chain(MaxPool(2), NearestUnpool((12, 10), 2)),
    "MaxUnpool": MaxPool(2, return_indices=True),
    "Rejoin": Chain(Skip(), Conv(4, 3, stride=2, padding=1)),
    "Upsample": Upsample(scale_factor=2, mode="bilinear"),
    "PixelShuffle": PixelShuffle(2),
    "PixelUnshuffle": PixelUnshuffle(2),
    "Rearrange": Rearrange("c h w -> c w h"),
    "Residual": Residual(Chain(Conv(4, 3, padding=1), ReLU())),
    "Parallel": Parallel(Conv(4, 1), Conv(2, 3, padding=1), join="concat"),
    "Unflatten": Unflatten(1, (2, 2)),
    "Linear": Linear(5),
    "GroupNorm": GroupNorm(2),
    "Pad": Pad((1, 2)),
    "Crop": Crop((1, 2)),
    "Pointwise": Pointwise("Hardswish"),
}
"""Where the plainest block of a kind does not say much. MaxUnpool and Rejoin stand in the decoders of these."""

MORE = (
    AdaptiveAvgPool(1),
    AdaptiveMaxPool(1),
    AdaptiveMaxPool((None, 1)),
    Conv(6, 2, stride=3, padding="same"),
    MaxPool(2, return_indices=True, ceil_mode=True),
    Upsample(scale_factor=1.4142),
    Upsample(scale_factor=2, mode="area"),
)
"""Settings of which one would like to know."""


def rows() -> dict[str, Block]:
    """What is tried, by what the table calls it."""
    named = {f"`{name}`": SAID[name] if name in SAID else block_class(name)() for name in BUILT_IN}
    return named | {f"`{block!r}`": block for block in MORE}


def eager(model: Autoencoder) -> Callable[[torch.Tensor], Any]:
    """The model itself."""
    return model


def compiled(model: Autoencoder) -> Callable[[torch.Tensor], Any]:
    """The model in one piece, without breaks."""
    torch._dynamo.reset()
    return torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")


def exported(model: Autoencoder) -> Callable[[torch.Tensor], Any]:
    """The program."""
    return export(model).module()


def onnx(model: Autoencoder) -> Callable[[torch.Tensor], Any]:
    """What onnxruntime makes of the file."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(model, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "model.onnx")
    name = session.get_inputs()[0].name
    return lambda x: [torch.from_numpy(out) for out in session.run(None, {name: x.numpy()})]


WAYS = {"eager": eager, "`torch.compile`": compiled, "`torch.export`": exported, "ONNX": onnx}


def cell(block: Block, way: Callable[[Autoencoder], Callable[[torch.Tensor], Any]]) -> str:
    """Whether a way gives the numbers of eager execution: yes, at the planned size, or no."""
    torch.manual_seed(0)
    model = Autoencoder(block, SHAPE).eval()
    free = free_sizes(model)
    try:
        run = way(model)
    except (ObverseError, torch.onnx.errors.OnnxExporterError):
        return "no"
    for more in (1, 4):
        sizes = [n if f is None else n + more * f[1] for n, f in zip(SHAPE[1:], free, strict=True)]
        x = torch.rand(2, SHAPE[0], *sizes)
        with torch.no_grad():
            expected = model(x)
            for one, other in zip(run(x), expected, strict=True):
                torch.testing.assert_close(one, other, atol=2e-4, rtol=2e-3)
        assert expected[0].shape == x.shape
    fixed = [letter for letter, axis in zip("HW", free, strict=True) if axis is None]
    steps = {axis[1] for axis in free if axis is not None} - {1}
    said = [f"{' and '.join(fixed)} as planned"] * bool(fixed) + [f"multiples of {step}" for step in steps]
    return f"yes; {', '.join(said)}" if said else "yes"


def line(name: str, block: Block) -> str:
    """A row of the table."""
    return f"| {name} | {' | '.join(cell(block, way) for way in WAYS.values())} |"


def table(chosen: Iterable[str] | None = None) -> list[str]:
    """Rows of the table; all of them unless some are chosen."""
    known = rows()
    return [line(name, known[name]) for name in (known if chosen is None else chosen)]


def main() -> int:
    """Write the table into the page, between its two marks."""
    logging.disable(logging.ERROR)
    head = [f"| block | {' | '.join(WAYS)} |", f"|---|{'---|' * len(WAYS)}"]
    before, rest = PAGE.read_text().split("<!-- made by tools/ways_out.py -->\n")
    _, after = rest.split("<!-- end -->")
    body = "\n".join([*head, *table()])
    PAGE.write_text(f"{before}<!-- made by tools/ways_out.py -->\n{body}\n<!-- end -->{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
