"""What a training came to: a row of numbers for each epoch."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from io import StringIO

from obverse.errors import ObverseError
from obverse.files import write_whole

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the images came to.

    >>> Epoch(1, train_loss=0.05, held_out_loss=0.03, learning_rate=1e-3, images=4500, seconds=0.9).images_per_second
    5000.0

    Attributes:
        number: counted from 1.
        train_loss: mean over the images seen, each measured at its step, while the weights were still moving.
        held_out_loss: mean over all held-out images, measured after the epoch's last step; None without such images.
        learning_rate: that of the epoch's last step.
        images: how many were seen, over all processes; fewer than there are if the epoch was interrupted.
        seconds: spent on the steps, the held-out images not counted.
    """

    number: int
    train_loss: float
    held_out_loss: float | None
    learning_rate: float
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images seen a second, over all processes."""
        return self.images / self.seconds


@dataclass(frozen=True)
class History:
    """The epochs of one training, in order.

    >>> history = History((Epoch(1, 0.05, 0.03, 1e-3, 4500, 0.9), Epoch(2, 0.02, 0.021, 1e-3, 4500, 0.9)))
    >>> history.held_out_loss
    0.021
    >>> [epoch.train_loss for epoch in history]
    [0.05, 0.02]

    Attributes:
        epochs: one `Epoch` for each pass; the last one may be cut short.
        interrupted: whether Ctrl-C ended the training before its last epoch did.
    """

    epochs: tuple[Epoch, ...] = ()
    interrupted: bool = False

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def train_loss(self) -> float:
        """The last epoch's training loss; nan if there was none."""
        return self.epochs[-1].train_loss if self.epochs else math.nan

    @property
    def held_out_loss(self) -> float | None:
        """The last epoch's held-out loss; None if nothing was held out or there was no epoch."""
        return self.epochs[-1].held_out_loss if self.epochs else None

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each epoch, every digit of every number kept.

        The file appears whole or not at all: it is written beside its place and then renamed.

        >>> import tempfile
        >>> from pathlib import Path
        >>> history = History((Epoch(1, 0.1, None, 1e-3, 4500, 0.9),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     history.write_csv(f"{folder}/history.csv")
        ...     print(Path(folder, "history.csv").read_text())
        ...     History.read_csv(f"{folder}/history.csv") == history
        number,train_loss,held_out_loss,learning_rate,images,seconds
        1,0.1,,0.001,4500,0.9
        <BLANKLINE>
        True

        Args:
            path: the file to write; an old one is replaced.

        Raises:
            OSError: the folder does not exist or cannot be written to.
        """
        text = StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(field.name for field in fields(Epoch))
        rows.writerows(astuple(epoch) for epoch in self.epochs)
        write_whole(path, text.getvalue())

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `write_csv` wrote; whether the training was interrupted is not in the file.

        Args:
            path: the file to read.

        Returns:
            The history, with `interrupted=False`.

        Raises:
            ObverseError: the file is no such history.
            OSError: the file cannot be read.
        """
        names = [field.name for field in fields(Epoch)]
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file, strict=True)
                if rows.fieldnames != names:
                    raise ValueError
                return cls(tuple(_epoch_from_row(row) for row in rows))
        except (TypeError, ValueError, csv.Error):
            raise ObverseError(
                f"{path} is no training history.", f"Its first line should be {','.join(names)}"
            ) from None


def _epoch_from_row(row: dict[str, str]) -> Epoch:
    return Epoch(
        int(row["number"]),
        float(row["train_loss"]),
        float(row["held_out_loss"]) if row["held_out_loss"] else None,
        float(row["learning_rate"]),
        int(row["images"]),
        float(row["seconds"]),
    )
