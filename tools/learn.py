"""Do mirrors of backbones learn? `make learn` trains one for each family, beside a decoder made for the purpose.

Eight photographs, cropped to 64×64, with zero mean and unit variance; encoder and decoder start at random and are
trained together: 300 steps of AdamW, 20 of warm-up, then half a cosine, gradients clipped at 1. The code is what the
encoder gives in front of its global pool. Then `calibrate`, and in evaluation mode the share of the variance that the
reconstruction explains. The other decoder doubles the size by nearest values, then a 3×3 convolution, a norm and ReLU,
until it is there, with as many parameters.

Every run is written to a file as it ends, so that an interrupted study goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer

from obverse import Autoencoder
from obverse.training import calibrate

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
    """One run: what is explained, without and with a gradient for every parameter, and how long it took."""
    torch.manual_seed(seed)
    make, until = FAMILIES[family]
    mirrored = Autoencoder(make(), SHAPE, until=until, literal=kind == "literal", approximate=True)
    model: nn.Module = Generic(mirrored) if kind == "generic" else mirrored
    began = perf_counter()
    fitted(model, images, steps)
    return {
        "family": family,
        "kind": kind,
        "seed": seed,
        "steps": steps,
        "code": list(mirrored.code_shape),
        "parameters": sum(p.numel() for p in (model.decoder if kind == "generic" else mirrored.decoder).parameters()),
        "eval": explained(model.eval(), images),
        "train": explained(model.train(), images),  # last, since it moves the running statistics
        "seconds": round(perf_counter() - began, 1),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """The runs as Markdown: a family a row, means over seeds."""
    lines = ["| family | code | mirror | generic | unexplained, ratio | seeds |", "|---|---|---|---|---|---|"]
    for family in FAMILIES:
        kinds = {kind: [run for run in runs if (run["family"], run["kind"]) == (family, kind)] for kind in KINDS}
        if not all(kinds.values()):
            continue
        mirror, generic = (mean(run["eval"] for run in kinds[kind]) for kind in ("mirror", "generic"))
        code = "×".join(map(str, kinds["mirror"][0]["code"]))
        ratio = (1 - mirror) / (1 - generic)
        lines.append(f"| {family} | {code} | {mirror:.3f} | {generic:.3f} | {ratio:.2f} | {len(kinds['mirror'])} |")
    return "\n".join(lines)


KINDS = ("mirror", "generic")


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--results", type=Path, default=Path("runs/learn.jsonl"))
    given = parser.parse_args()
    console = Console()
    given.results.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    done = {(run["family"], run["kind"], run["seed"]) for run in known if run["steps"] == given.steps}
    images = photographs()
    for seed in range(given.seeds):
        for family in given.families:
            for kind in KINDS:
                if (family, kind, seed) in done:
                    continue
                run = study(family, kind, seed, given.steps, images)
                with given.results.open("a") as file:
                    file.write(json.dumps(run) + "\n")
                known.append(run)
                console.print(f"{family:25} {kind:8} seed {seed}  {run['eval']:.3f}  {run['seconds']:.0f} s")
    console.print(table([run for run in known if run["steps"] == given.steps]), markup=False)


if __name__ == "__main__":
    main()
