"""The loop itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from obverse.training.checks import check_finite, check_reconstruction, check_settings, fitting_images, weights_to_train
from obverse.training.company import accelerator_on, check_company
from obverse.training.ctrl_c import CtrlC
from obverse.training.history import Epoch, History
from obverse.training.images import Images, Share
from obverse.training.progress import Reporter, reporter_for
from obverse.training.schedules import constant

__all__ = ["evaluate", "train"]

LOOK_EVERY = 10  # steps from one look at the loss to the next: a look waits for the device and the other processes

Loss = Callable[[Tensor, Tensor], Tensor]


def train(
    model: nn.Module,
    data: Tensor | Images,
    *,
    epochs: int = 10,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    held_out: Tensor | Images | None = None,
    seed: int = 0,
    loss: Loss = nn.functional.mse_loss,
    schedule: Callable[[float], float] = constant,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> History:
    """Train an autoencoder to give back what it is given.

    >>> from obverse import Autoencoder, Chain, Conv, Sigmoid
    >>> model = Autoencoder(Chain(Conv(4, 3, stride=2)), (1, 9, 9), output=Sigmoid())
    >>> images = torch.randint(0, 256, (50, 1, 9, 9), dtype=torch.uint8)
    >>> history = train(model, images, epochs=3, batch_size=16, held_out=images, progress=False)
    >>> history.held_out_loss == evaluate(model, images)
    True

    Ctrl-C ends the training after the step that is being taken and returns what there is: the weights of that step,
    and a history whose last epoch tells how many images it saw. A second Ctrl-C, a second later, does not wait for the
    step.

    Several processes (`torchrun`, `accelerate launch`) share every batch, and gradients are averaged over its images,
    also where the shares differ in size: two processes with `batch_size=32` are one process with `batch_size=64`.
    BatchNorm alone counts each process's share by itself, and keeps the running statistics of the first process; on
    GPUs, `torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)` beforehand makes it count the whole batch.

    Args:
        model: `model(images)` gives the reconstruction, or a tuple that begins with it, as `obverse.Autoencoder` does.
            It is trained in place, on the accelerator's device, and left in evaluation mode on the device that it
            came from.
        data: N×C×*spatial, uint8 or floats; it is held on the device whole, see `Images`.
        epochs: how often every image is seen.
        learning_rate: of the optimizer; the default is Adam's own.
        batch_size: images of each process in one step, at most.
        held_out: images to measure after every epoch, N×C×*spatial.
        seed: of the order of the images and of what the model draws itself (Dropout). The random state outside is left
            as it was. The first weights are the model's own: seed those where you build it.
        loss: `loss(reconstruction, images)`, a mean over images; the default is the mean squared error of a pixel.
        schedule: from the part of all steps that has been taken, 0..1, to a factor of `learning_rate`.
        optimizer: called as `optimizer(parameters, lr=learning_rate)`, with the parameters that are not frozen.
        accelerator: None takes `accelerator_on()`: a GPU if there is one, and every process that was started.
        progress: show a live line in a terminal, one plain line for each epoch anywhere else; the first process only.

    Returns:
        The `History`, with the same losses in every process.

    Raises:
        ShapeError: the images do not fit the model, or their values do not fit its output.
        ObverseError: the loss is no longer finite, or a setting makes no sense.
    """
    check_settings(epochs, learning_rate, batch_size)
    accelerator = accelerator or accelerator_on()
    check_company(accelerator)
    images = fitting_images(model, data, "data", accelerator.device)
    others = None if held_out is None else fitting_images(model, held_out, "held_out", accelerator.device)
    weights = weights_to_train(model)
    home = weights[0].device
    module, stepper = accelerator.prepare(_LossOf(model, loss), optimizer(weights, lr=learning_rate))
    process, processes = _place(accelerator)
    steps = images.batches(batch_size, processes)
    order = torch.Generator().manual_seed(seed)
    done: list[Epoch] = []
    with (
        _random_state(seed + accelerator.process_index, accelerator.device),
        reporter_for(epochs, steps, wanted=progress and accelerator.is_main_process) as reporter,
        CtrlC() as ctrl_c,
    ):
        run = _Run(accelerator, module, stepper, reporter, ctrl_c)
        try:
            while len(done) < epochs and not run.somebody_pressed():
                taken = len(done) * steps
                rates = [learning_rate * schedule((taken + step) / (epochs * steps)) for step in range(steps)]
                epoch = run.epoch(
                    len(done) + 1, images.shares(batch_size, order, process=process, processes=processes), rates
                )
                if others is not None:
                    held_out_loss = evaluate(model, others, loss=loss, accelerator=accelerator)
                    check_finite(held_out_loss, f"held-out loss is {held_out_loss} after epoch {epoch.number}")
                    epoch = replace(epoch, held_out_loss=held_out_loss)
                done.append(epoch)
                reporter.epoch(epoch)
        except KeyboardInterrupt:  # the second Ctrl-C
            ctrl_c.pressed = True
    model.eval().to(home)
    return History(tuple(done), interrupted=ctrl_c.pressed)


def evaluate(
    model: nn.Module,
    data: Tensor | Images,
    *,
    batch_size: int = 500,
    loss: Loss = nn.functional.mse_loss,
    accelerator: Accelerator | None = None,
) -> float:
    """Measure the mean loss over all images, without gradients.

    The mean is over images, not over batches, so it is the same (to rounding) for every `batch_size`:

    >>> model, images = nn.Conv2d(1, 1, 3, padding=1), torch.rand(7, 1, 9, 9)
    >>> abs(evaluate(model, images, batch_size=2) - evaluate(model, images)) < 1e-6
    True

    Args:
        model: as `train` takes it; its mode (training or evaluation) is left as it was.
        data: N×C×*spatial, uint8 or floats.
        batch_size: images at a time; the result does not depend on it.
        loss: `loss(reconstruction, images)`, a mean over images.
        accelerator: None measures all images here, on the model's device. With one, each process measures its share,
            and all of them must call.

    Returns:
        The mean loss of an image.

    Raises:
        ShapeError: the images do not fit the model, or their values do not fit its output.
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    images = fitting_images(model, data, "data", device)
    if accelerator is not None:
        _take_buffers_of_first(model)
    process, processes = _place(accelerator)
    measure, was_training = _LossOf(model, loss), model.training
    measure.eval()
    with torch.inference_mode():
        shares = images.shares(batch_size, process=process, processes=processes)
        total = torch.stack([measure(share.images) * share.size for share in shares]).sum()
    model.train(was_training)
    return float(total if accelerator is None else accelerator.reduce(total, "sum")) / len(images)


class _LossOf(nn.Module):
    """A model and its loss as one module: what Accelerate wraps and marks is this, and the model stays as it was."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)
        reconstruction = output if isinstance(output, Tensor) else output[0]
        check_reconstruction(reconstruction, images)
        return self.loss(reconstruction, images)


@dataclass(frozen=True)
class _Run:
    """What every step of a training needs."""

    accelerator: Accelerator
    module: nn.Module
    optimizer: torch.optim.Optimizer
    reporter: Reporter
    ctrl_c: CtrlC

    def epoch(self, number: int, shares: Iterator[Share], rates: Sequence[float]) -> Epoch:
        """Take the steps of one pass, as long as nobody presses Ctrl-C."""
        total, seen, began = torch.zeros((), device=self.accelerator.device), 0, perf_counter()
        self.module.train()
        for step, (share, rate) in enumerate(zip(shares, rates, strict=True), start=1):
            total += self.step(share, rate) * share.size
            seen += share.of
            if step % LOOK_EVERY and step < len(rates) and not self.alone_and_pressed():
                continue
            mean = self.mean_over_processes(total, seen, number)
            self.reporter.step(number, step, mean, seen / (perf_counter() - began))
            if self.somebody_pressed():
                break
        return Epoch(number, mean, None, rate, seen, perf_counter() - began)

    def step(self, share: Share, rate: float) -> Tensor:
        """Take one step; give the mean loss of this process's share."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss: Tensor = self.module(share.images)
        # Accelerate averages gradients over processes; this factor makes it an average over the batch's images.
        self.accelerator.backward(loss * (share.size * self.accelerator.num_processes / share.of))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def mean_over_processes(self, total: Tensor, seen: int, number: int) -> float:
        """Give the epoch's mean loss so far; the same in every process, so that all stop if it is no number."""
        mean = float(self.accelerator.reduce(total, "sum")) / seen
        check_finite(mean, f"loss is {mean} in epoch {number}, after {seen:,} of its images")
        return mean

    def somebody_pressed(self) -> bool:
        """Ask every process, so that all end after the same step."""
        pressed = torch.tensor(float(self.ctrl_c.pressed), device=self.accelerator.device)
        self.ctrl_c.pressed = bool(self.accelerator.reduce(pressed, "sum") > 0)
        return self.ctrl_c.pressed

    def alone_and_pressed(self) -> bool:
        """One process need not wait for the others' next look."""
        return self.ctrl_c.pressed and self.accelerator.num_processes == 1


def _place(accelerator: Accelerator | None) -> tuple[int, int]:
    return (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)


def _take_buffers_of_first(model: nn.Module) -> None:
    """BatchNorm's running statistics differ between processes; all measure with those that will be saved."""
    for buffer in model.buffers():
        broadcast(buffer, from_process=0)


@contextmanager
def _random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed`, and put the random state back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
