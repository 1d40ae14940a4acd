"""What the terminal shows while a model trains."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from obverse.training.history import Epoch

__all__ = ["Live", "PlainLines", "Reporter", "reporter_for"]


class Reporter:
    """The quiet reporter, and what the loop expects of the others."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to put away."""

    def step(self, epoch: int, steps: int, loss: float, images_per_second: float) -> None:
        """Hear how far the epoch is: the steps it has taken, the mean loss so far."""

    def epoch(self, epoch: Epoch) -> None:
        """Hear that an epoch is over."""


class PlainLines(Reporter):
    """One line for each epoch: for files, pipes and notebooks.

    >>> PlainLines(30, Console()).epoch(Epoch(3, 0.0213, 0.0220, 1e-3, images=4500, seconds=0.9))
    epoch  3/30  loss 0.0213  held out 0.0220  5,000 images/s  0:00 left

    Args:
        epochs: how many there will be.
        console: where the lines go.
    """

    def __init__(self, epochs: int, console: Console) -> None:
        self.epochs = epochs
        self.console = console
        self.began = perf_counter()

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        left = (perf_counter() - self.began) / epoch.number * (self.epochs - epoch.number)
        parts = (
            f"epoch {epoch.number:{len(str(self.epochs))}}/{self.epochs}",
            f"loss {epoch.train_loss:.4f}",
            "" if epoch.held_out_loss is None else f"held out {epoch.held_out_loss:.4f}",
            f"{epoch.images_per_second:,.0f} images/s",
            f"{left // 60:.0f}:{left % 60:02.0f} left",
        )
        self.console.print("  ".join(filter(None, parts)), highlight=False, soft_wrap=True)


class Live(Reporter):
    """One line that moves: epoch, bar, losses, images per second, time left.

    Args:
        epochs: how many there will be.
        steps: how many steps an epoch has.
        console: the terminal.
    """

    def __init__(self, epochs: int, steps: int, console: Console) -> None:
        self.steps = steps
        self.bar = Progress(
            TextColumn("epoch {task.fields[number]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[held_out]}"),
            TextColumn("{task.fields[speed]} images/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            expand=True,
        )
        self.task = self.bar.add_task(
            "train", total=epochs * steps, number=1, epochs=epochs, loss="–", held_out="", speed="–"
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def step(self, epoch: int, steps: int, loss: float, images_per_second: float) -> None:
        """Move the bar."""
        done = (epoch - 1) * self.steps + steps
        self.bar.update(self.task, completed=done, number=epoch, loss=f"{loss:.4f}", speed=f"{images_per_second:,.0f}")

    def epoch(self, epoch: Epoch) -> None:
        """Show the held-out loss."""
        if epoch.held_out_loss is not None:
            self.bar.update(self.task, held_out=f"held out {epoch.held_out_loss:.4f}")


def reporter_for(epochs: int, steps: int, *, wanted: bool) -> Reporter:
    """Choose the live line for a terminal, plain lines for anything else, silence where nothing is wanted.

    >>> type(reporter_for(30, 71, wanted=False)).__name__
    'Reporter'
    """
    console = Console()
    if not wanted:
        return Reporter()
    return Live(epochs, steps, console) if console.is_terminal else PlainLines(epochs, console)
