"""Give torchvision's ResNet-18 the decoder that it lacks, and train both on photographs.

    python examples/backbone.py                              crops of scikit-learn's two photographs: a few minutes
    python examples/backbone.py --weights resnet18.pth       pretrained weights, from a file of torchvision's
    python examples/backbone.py --weights resnet18.pth --freeze    the decoder alone learns
    python examples/backbone.py --data fashion --root data   FashionMNIST, from a folder that has it

The encoder is torchvision's own module, cut at --until; its mirror is the decoder. The folder runs/backbone then holds
the weights, the losses of every epoch (history.csv) and two pictures: reconstructions.png and loss.png.

A network of your own takes three lines:

    encoder = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1))
    model = Autoencoder(encoder, (3, 64, 64))
    reconstruction, code = model(images)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from mnist import no_interruption, positive_float, positive_int, run_folder
from obverse import Autoencoder, ObverseError
from obverse.drawing import loss_curves, reconstructions
from obverse.training import History, evaluate, one_cycle, train

SIDE = 64
STEP = 32  # from one crop to the next


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; give the exit code: 0, 2 for what cannot be done as asked, 130 after Ctrl-C."""
    options = parse(arguments)
    try:
        return run(options)
    except (ObverseError, OSError) as error:
        print(f"backbone.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("backbone.py: interrupted before there was anything to save", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    """Train, and leave a run folder."""
    torch.set_num_threads(options.threads)
    with run_folder(options.out) as folder:
        assert folder is not None
        training, held_out = DATA[options.data](options.root)
        model = compose(options)
        print(f"{model}\n" if options.verbose else f"ResNet-18 until {options.until}, and its mirror\n")
        print(f"{len(training)} images to train on, {len(held_out)} held out\n", flush=True)
        history = train(
            model,
            training,
            held_out=held_out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            schedule=one_cycle,
            optimizer=partial(torch.optim.AdamW, weight_decay=0.01),
            seed=options.seed,
        )
        with no_interruption():
            save(folder, model, held_out, history, options.theme)
    spread = held_out.float().div(255).var(correction=0).item()
    error = evaluate(model, held_out)
    print(f"\nheld-out MSE {error:.4f}, {100 * (1 - error / spread):.0f} % of the variance explained")
    for name in ("weights.safetensors", "history.csv", "reconstructions.png", "loss.png"):
        print(options.out / name)
    return 130 if history.interrupted else 0


class Normalised(nn.Module):
    """Pixels from 0 to 1, as torchvision's pretrained networks want them: so the encoder takes what is to come out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class Backbone(nn.Module):
    """ResNet-18 behind the normalisation that it was trained with."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.normalised = Normalised()
        self.resnet = resnet

    def forward(self, x: Tensor) -> Tensor:
        return self.resnet(self.normalised(x))


def compose(options: argparse.Namespace) -> Autoencoder:
    """Take the encoder as it is; obverse finds the decoder."""
    torch.manual_seed(options.seed)
    resnet = torchvision.models.resnet18()
    if options.weights is not None:
        try:
            resnet.load_state_dict(torch.load(options.weights, weights_only=True))
        except (RuntimeError, TypeError, UnpicklingError) as error:
            said = str(error).splitlines()[0]
            raise ObverseError(
                f"{options.weights} is no state_dict of torchvision's resnet18: {said}",
                "Make one: torch.save(torchvision.models.resnet18(weights='DEFAULT').state_dict(), 'resnet18.pth').",
            ) from None
    return Autoencoder(
        Backbone(resnet),
        (3, SIDE, SIDE),
        until=f"resnet.{options.until}",
        skips=options.skips,
        freeze_encoder=options.freeze,
    )


# -------------------------------------------------------------------------------------------------------- the data


def photographs(_: Path) -> tuple[Tensor, Tensor]:
    """Crops of the two photographs that come with scikit-learn; the right quarter of each is held out."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise ObverseError(
            "the photographs come with scikit-learn.", 'Install it: pip install "obverse[examples]"'
        ) from None
    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]
    parts = [picture.tensor_split([3 * picture.shape[2] // 4], dim=2) for picture in pictures]
    training, held_out = (torch.cat([crops(part[at]) for part in parts]) for at in (0, 1))
    return torch.cat([training, training.flip(3)]), held_out


def crops(picture: Tensor) -> Tensor:
    """Squares cut from a picture, overlapping by half."""
    squares = picture.unfold(1, SIDE, STEP).unfold(2, SIDE, STEP)
    return squares.permute(1, 2, 0, 3, 4).reshape(-1, picture.shape[0], SIDE, SIDE)


def fashion(root: Path) -> tuple[Tensor, Tensor]:
    """FashionMNIST from torchvision's layout, root/FashionMNIST/raw: every tenth image, in three channels of 64×64."""
    try:
        both = [torchvision.datasets.FashionMNIST(root, train=part).data[::10] for part in (True, False)]
    except RuntimeError:
        raise ObverseError(f"there is no FashionMNIST in {root}.", "Name the folder that has it with --root.") from None
    larger = [nn.functional.interpolate(images[:, None].float(), SIDE, mode="bilinear") for images in both]
    training, held_out = (images.round().byte().expand(-1, 3, -1, -1).contiguous() for images in larger)
    return training, held_out


DATA = {"photographs": photographs, "fashion": fashion}


# -------------------------------------------------------------------------------------------------- the run folder


def save(folder: Path, model: Autoencoder, held_out: Tensor, history: History, theme: str) -> None:
    """Write the weights, the history and the pictures."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    history.write_csv(folder / "history.csv")
    originals = held_out[:: max(len(held_out) // 8, 1)][:8].float() / 255
    with torch.inference_mode():
        reconstructed = model(originals.to(next(model.parameters()).device))[0].clamp(0, 1)
    pictures = {
        "reconstructions": reconstructions(originals, reconstructed, theme=theme),
        "loss": loss_curves(history, theme=theme),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="backbone.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=DATA, default="photographs", help="what to train on (default: photographs)")
    add("--root", type=Path, default=Path("data"), help="folder of --data fashion (default: data)")
    add("--out", type=Path, default=Path("runs/backbone"), help="run folder (default: runs/backbone)")
    add("--until", default="layer3", help="part of the ResNet whose output is the code (default: layer3)")
    add("--skips", choices=["concat", "add"], help="make a U-Net of it")
    add("--weights", type=Path, help="a state_dict of torchvision's resnet18")
    add("--freeze", action="store_true", help="leave the encoder as it is")
    add("--epochs", type=positive_int, default=6, help="default: 6")
    add("--batch-size", type=positive_int, default=16, help="default: 16")
    add("--learning-rate", type=positive_float, default=2e-3, help="AdamW's at its highest (default: 0.002)")
    add("--threads", type=positive_int, default=1, help="on the CPU (default: 1)")
    add("--seed", type=int, default=0, help="of the weights and of the order of the images (default: 0)")
    add("--theme", choices=("light", "dark"), default="light", help="of the pictures")
    add("--verbose", action="store_true", help="print the model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
