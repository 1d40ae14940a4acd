"""The device to train on, and the other processes that train with this one."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator

from obverse.errors import ObverseError

__all__ = ["accelerator_on", "check_company"]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def accelerator_on(device: str = "auto") -> Accelerator:
    """Make an `accelerate.Accelerator` for a kind of device, alone or with the processes that a launcher started.

    `accelerate.Accelerator()` alone does not do: on a machine without a GPU, under `torchrun`, it lets every process
    train by itself, unless told that the CPU is meant.

    >>> accelerator_on("cpu").device
    device(type='cpu')

    Args:
        device: "auto" takes what the machine has, the CPU if there is nothing else; "cpu", "cuda", "mps" or "xpu"
            insist. Which one of several GPUs is Accelerate's choice, by process; `CUDA_VISIBLE_DEVICES` narrows it.

    Raises:
        ObverseError: the machine has no such device, or the processes that were started do not find each other.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    has = "cpu" if found is None else found.type
    if device not in DEVICES:
        raise ObverseError(f"device={device!r} is unknown.", f"Give one of {', '.join(DEVICES)}.")
    if device not in ("auto", "cpu", has):
        raise ObverseError(f"device={device!r}: this machine has only {has}.", f"Give {has!r}, or 'auto'.")
    accelerator = Accelerator(cpu="cpu" in (device, has))
    check_company(accelerator)
    return accelerator


def check_company(accelerator: Accelerator) -> None:
    """Refuse to train alone beside others: each would see all images, and all would write the same files.

    Raises:
        ObverseError: a launcher started more processes than the accelerator knows of.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ObverseError(
            f"{started} processes were started, but the accelerator knows of {accelerator.num_processes}.",
            "Give train(..., accelerator=Accelerator(cpu=True)) to train on CPUs together.",
        )
