"""Measure who restores which sizes: `python tools/compare.py`.

Every model is built once, with random weights, and is given all 9 square sizes from 27 to 35 and the 72 pairs that are
not square; what counts is how many come back as they went in. Packages that are not installed are left out:

    pip install monai diffusers segmentation-models-pytorch pythae
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from obverse import Autoencoder, Chain, Conv, ReLU, Sigmoid

SIZES = range(27, 36)
Run = Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """How many sizes come back, square and not, and what happens where they do not."""

    name: str
    square: int
    oblong: int
    otherwise: str


class ByHand(nn.Module):
    """The model of many tutorials: two halvings, and their output_padding for an even size."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(1, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ConvTranspose2d(16, 1, 3, 2, 1, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Down and up."""
        for layer in (*self.down, *self.up):
            x = layer(x)
        return x


class TellingSizes(ByHand):
    """The same, each size handed by hand from the encoder's layers to the decoder's."""

    def forward(self, x: Tensor) -> Tensor:
        """Down, sizes noted; and up, sizes told."""
        sizes = []
        for layer in self.down:
            sizes.append(x.shape[2:])
            x = layer(x)
        for layer, size in zip(self.up, reversed(sizes), strict=True):
            x = layer(x, output_size=list(size))
        return x


def obverse() -> Run:
    """Ours."""
    encoder = Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Conv(32, 3, stride=2, padding=1))
    model = Autoencoder(encoder, (1, 28, 28), output=Sigmoid()).eval()
    return lambda x: model(x)[0]


def monai() -> Run:
    """MONAI's AutoEncoder with two halvings."""
    nets = import_module("monai.networks.nets")
    return nets.AutoEncoder(2, 1, 1, channels=(16, 32), strides=(2, 2)).eval()  # type: ignore[no-any-return]


def diffusers() -> Run:
    """The autoencoder of latent diffusion, three halvings."""
    kinds = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    widths = {"block_out_channels": (32, 32, 32, 32), "norm_num_groups": 8}
    model = import_module("diffusers").AutoencoderKL(1, 1, *kinds, **widths).eval()
    return lambda x: model(x).sample


def smp() -> Run:
    """A U-Net: its skips carry the sizes round the code."""
    settings = {"encoder_weights": None, "in_channels": 1, "classes": 1}
    return import_module("segmentation_models_pytorch").Unet("resnet18", **settings).eval()  # type: ignore[no-any-return]


def pythae() -> Run:
    """Pythae's autoencoder for MNIST."""
    nets = import_module("pythae.models.nn.benchmarks.mnist")
    config = import_module("pythae.models").AEConfig(input_dim=(1, 28, 28), latent_dim=16)
    encoder, decoder = nets.Encoder_Conv_AE_MNIST(config).eval(), nets.Decoder_Conv_AE_MNIST(config).eval()
    return lambda x: decoder(encoder(x).embedding).reconstruction


MODELS: dict[str, tuple[Callable[[], Run], str]] = {
    "obverse": (obverse, ""),
    "by hand, output_padding=1": (lambda: ByHand().eval(), ""),
    "by hand, output_size passed through": (lambda: TellingSizes().eval(), ""),
    "MONAI AutoEncoder": (monai, "monai"),
    "diffusers AutoencoderKL": (diffusers, "diffusers"),
    "segmentation_models_pytorch Unet": (smp, "segmentation-models-pytorch"),
    "pythae Encoder_Conv_AE_MNIST": (pythae, "pythae"),
}


def measure(name: str, run: Run) -> Row:
    """Give it every size."""
    restored = {True: 0, False: 0}
    otherwise = ""
    for height, width in product(SIZES, repeat=2):
        images = torch.rand(2, 1, height, width)
        try:
            with torch.no_grad():
                given = tuple(run(images).shape[2:])
        except (RuntimeError, ValueError) as error:
            given, told = (), f"{height}×{width}: {str(error).splitlines()[0][:60]}"
        else:
            told = f"{height}×{width} → {'×'.join(map(str, given))}"
        restored[height == width] += given == (height, width)
        otherwise = otherwise or ("" if given == (height, width) else told)
    return Row(name, restored[True], restored[False], otherwise)


def rows() -> Iterator[Row]:
    """A row for every model that can be built here."""
    for name, (build, package) in MODELS.items():
        try:
            named = f"{name} {version(package)}" if package else name
            torch.manual_seed(0)
            run = build()
        except (PackageNotFoundError, ImportError) as error:
            sys.stderr.write(f"left out: {name} ({error})\n")
            continue
        yield measure(named, run)


if __name__ == "__main__":
    sys.stdout.write("| model | square, of 9 | not square, of 72 | otherwise |\n|---|--:|--:|---|\n")
    for row in rows():
        sys.stdout.write(f"| {row.name} | {row.square} | {row.oblong} | {row.otherwise} |\n")
        sys.stdout.flush()
