"""Do mirrors of backbones learn? `make learn` trains one for each family, beside a decoder made for the purpose.

Eight photographs, cropped to 64×64, with zero mean and unit variance; encoder and decoder start at random and are
trained together: 300 steps of AdamW, 20 of warm-up, then half a cosine, gradients clipped at 1. The code is what the
encoder gives in front of its global pool. Then `calibrate`, and in evaluation mode the share of the variance that the
reconstruction explains. The other decoder doubles the size by nearest values, then a 3×3 convolution, a norm and ReLU,
until it is there, with as many parameters.

Every run is written to a file as it ends, so that an interrupted study goes on where it was. With `--write` the table
in docs/learning.md is made of that file.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer

from obverse import Autoencoder
from obverse.training import calibrate

PAGE = Path(__file__).parent.parent / "docs" / "learning.md"
RESULTS = PAGE.parent / "learning.jsonl"

SIZE = 64
SHAPE = (3, SIZE, SIZE)


def _convnext() -> nn.Module:
    widths = [48, 96, 192, 384]
    stages = [CNBlockConfig(n, m, 2) for n, m in zip(widths, [*widths[1:], None], strict=True)]
    return ConvNeXt(stages)


def _swin() -> nn.Module:
    return SwinTransformer([4, 4], 48, [2, 2, 2, 2], [3, 6, 12, 24], [4, 4])


FAMILIES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "resnet18": (models.resnet18, "layer4"),
    "mobilenet_v2": (models.mobilenet_v2, "features"),
    "mobilenet_v3_small": (models.mobilenet_v3_small, "features"),
    "shufflenet_v2_x0_5": (models.shufflenet_v2_x0_5, "conv5"),
    "squeezenet1_1": (models.squeezenet1_1, "features"),
    "densenet (4 stages of 4)": (lambda: models.DenseNet(16, (4, 4, 4, 4), 32), "features"),
    "efficientnet_b0": (models.efficientnet_b0, "features"),
    "regnet_y_400mf": (models.regnet_y_400mf, "trunk_output"),
    "convnext (narrow)": (_convnext, "features"),
    "mnasnet0_5": (models.mnasnet0_5, "layers"),
    "swin (narrow)": (_swin, "permute"),
    "vgg11": (models.vgg11, "features"),
    "googlenet": (lambda: models.GoogLeNet(aux_logits=False, init_weights=False), "inception5b"),
}
"""How each encoder is made, with random weights, and the part of it that gives the code."""


def photographs() -> Tensor:
    """Eight photographs that come inside scikit-image and scikit-learn, 8×3×64×64."""
    from skimage import data
    from skimage.transform import resize
    from sklearn.datasets import load_sample_image

    images = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.hubble_deep_field(), data.retina()]
    images += [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    square = [_middle(image) for image in images]
    pixels = torch.tensor(np.stack([resize(image, (SIZE, SIZE), anti_aliasing=True) for image in square]))
    pixels = pixels.permute(0, 3, 1, 2).float()
    return (pixels - pixels.mean()) / pixels.std()


def _middle(image: Any) -> Any:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side, :3]


class Generic(nn.Module):
    """An encoder, and a decoder that doubles sizes until they are there, with a given number of parameters."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model
        wanted = sum(parameter.numel() for parameter in model.decoder.parameters())
        with torch.device("meta"):
            widths = range(8, 4096, 8)
            width = min(widths, key=lambda n: abs(sum(p.numel() for p in _doubling(model, n).parameters()) - wanted))
        self.decoder = _doubling(model, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and code."""
        code = self.model.encode(x)
        return self.decoder(code), code


def _doubling(model: Autoencoder, width: int) -> nn.Sequential:
    channels, *sizes = model.code_shape
    layers: list[nn.Module] = []
    while sizes[0] * 2 <= SIZE:
        sizes = [2 * n for n in sizes]
        after = max(width, 8)
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, after, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
        channels, width = after, width // 2
    return nn.Sequential(*layers, nn.Upsample(size=SIZE), nn.Conv2d(channels, 3, 3, padding=1))


def fitted(model: nn.Module, images: Tensor, steps: int = 300, rate: float = 2e-3) -> nn.Module:
    """A model trained to give back its images, and calibrated."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            warm, past = (step + 1) / 20, (step - 20) / max(steps - 20, 1)
            group["lr"] = rate * min(warm, (1 + math.cos(math.pi * max(past, 0))) / 2)
        loss = (model(images)[0] - images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    calibrate(model, images)
    return model


def explained(model: nn.Module, images: Tensor) -> float:
    """The share of the variance that the reconstruction explains, in the mode that the model is in."""
    with torch.no_grad():
        error = (model(images)[0] - images).square().mean()
    return 1 - float(error / images.var(correction=0))


def study(family: str, kind: str, seed: int, steps: int, images: Tensor) -> dict[str, Any]:
    """One run: what is explained, in evaluation and in training, and how long it took."""
    torch.manual_seed(seed)
    make, until = FAMILIES[family]
    mirrored = Autoencoder(make(), SHAPE, until=until, literal=kind == "literal", approximate=True)
    model: nn.Module = (Generic(mirrored) if kind == "generic" else mirrored).to(images.device)
    began = perf_counter()
    first = explained(model.train(), images)
    fitted(model, images, steps)
    return {
        "family": family,
        "kind": kind,
        "seed": seed,
        "steps": steps,
        "code": list(mirrored.code_shape),
        "parameters": sum(p.numel() for p in (model.decoder if kind == "generic" else mirrored.decoder).parameters()),
        "first": first,
        "eval": explained(model.eval(), images),
        "train": explained(model.train(), images),  # last, since it moves the running statistics
        "seconds": round(perf_counter() - began, 1),
    }


KINDS = ("mirror", "generic", "literal")


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as Markdown: a family a row, means over seeds."""
    lines = [
        "| family | code | parameters | mirror | literal | generic | unexplained, ratio | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for family in FAMILIES:
        kinds = {kind: [run for run in runs if (run["family"], run["kind"]) == (family, kind)] for kind in KINDS}
        if not all(kinds.values()):
            continue
        mirror, generic, literal = (
            mean(run["eval"] for run in kinds[kind]) for kind in ("mirror", "generic", "literal")
        )
        rows.append((mirror, literal, generic, (1 - mirror) / (1 - generic)))
        code, (run, *more) = "×".join(map(str, kinds["mirror"][0]["code"])), kinds["mirror"]
        shares = f"{mirror:.3f} | {literal:.3f} | {generic:.3f} | {rows[-1][-1]:.2f}"
        lines.append(f"| {family} | {code} | {run['parameters']:,} | {shares} | {1 + len(more)} |")
    if rows:
        mirror, literal, generic, ratio = map(median, zip(*rows, strict=True))
        lines.append(f"| *median* | | | {mirror:.3f} | {literal:.3f} | {generic:.3f} | {ratio:.2f} | |")
    return "\n".join(lines)


TABLE = re.compile(r"\| family \| code \|.*?\| \*median\* [^\n]*", re.DOTALL)


def known(path: Path) -> list[dict[str, Any]]:
    """The runs that a file holds."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@cache
def _images() -> Tensor:
    return photographs().to("cuda" if torch.cuda.is_available() else "cpu")


def _run(family: str, kind: str, seed: int, steps: int) -> dict[str, Any]:
    return study(family, kind, seed, steps, _images())


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--results", type=Path, default=Path("runs/learn.jsonl"))
    parser.add_argument("--write", action="store_true", help="make the table of docs/learning.md of the results")
    given = parser.parse_args()
    given.results.parent.mkdir(parents=True, exist_ok=True)
    runs = [run for run in known(given.results) if run["steps"] == given.steps]
    done = {(run["family"], run["kind"], run["seed"]) for run in runs}
    wanted = [(family, kind, seed) for seed in range(given.seeds) for family in given.families for kind in KINDS]
    missing = [run for run in wanted if run not in done]
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool, Progress() as progress:
        bar = progress.add_task("runs", total=len(wanted), completed=len(wanted) - len(missing))
        for ended in as_completed([pool.submit(_run, *run, given.steps) for run in missing]):
            run = ended.result()
            with given.results.open("a") as file:
                file.write(json.dumps(run) + "\n")
            runs.append(run)
            progress.console.print(
                f"{run['family']:25} {run['kind']:8} seed {run['seed']}  {run['eval']:.3f}  {run['seconds']:.0f} s"
            )
            progress.advance(bar)
    print(table(runs))
    if given.write:
        RESULTS.write_text("".join(json.dumps(run) + "\n" for run in sorted(runs, key=_order)))
        PAGE.write_text(TABLE.sub(lambda _: table(runs), PAGE.read_text()))


def _order(run: dict[str, Any]) -> tuple[int, int, int]:
    return list(FAMILIES).index(run["family"]), KINDS.index(run["kind"]), run["seed"]


if __name__ == "__main__":
    main()
