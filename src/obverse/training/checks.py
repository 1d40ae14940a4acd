"""What is refused before the first step, in words that say what to write instead."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from obverse.block import Block
from obverse.errors import ObverseError, ShapeError
from obverse.ranges import range_of
from obverse.shapes import shape_text
from obverse.training.images import Images

__all__ = ["check_finite", "check_reconstruction", "check_settings", "fitting_images", "weights_to_train"]


def check_settings(epochs: int, learning_rate: float, batch_size: int) -> None:
    """Refuse settings with which nothing could be learnt.

    >>> check_settings(epochs=0, learning_rate=1e-3, batch_size=128)
    Traceback (most recent call last):
        ...
    obverse.errors.ObverseError: epochs=0: a training needs one at least.
    Give a whole number from 1 up.

    Raises:
        ObverseError: `epochs` or `batch_size` is below 1, or `learning_rate` is not a positive number.
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ObverseError(f"{name}={value!r}: a training needs one at least.", "Give a whole number from 1 up.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ObverseError(f"learning_rate={learning_rate!r} moves no weight.", "Give a number above 0, such as 1e-3.")


def fitting_images(model: nn.Module, data: Tensor | Images, name: str, device: torch.device | str | None) -> Images:
    """Take the images to the device, once it is clear that they fit the model.

    Args:
        model: where it has a `plan`, its input shape is compared with the images'.
        data: N×C×*spatial.
        name: what the caller calls `data`; errors begin with it.
        device: where the images are kept.

    Raises:
        ShapeError: the images lack an axis, have other channels, or have values that the model's output cannot give.
    """
    images = data if isinstance(data, Images) else Images(data)
    planned = _planned_shape(model)
    if planned is not None:
        _check_axes(tuple(images.pixels.shape), planned, name)
    _check_range(images.pixels, model, name)
    return Images(images.pixels, device)


def weights_to_train(model: nn.Module) -> list[nn.Parameter]:
    """Give the parameters that are not frozen.

    >>> weights_to_train(nn.Conv2d(1, 1, 3).requires_grad_(False))
    Traceback (most recent call last):
        ...
    obverse.errors.ObverseError: the model has no weight to train.
    Unfreeze a part of it: model.decoder.requires_grad_(True).

    Raises:
        ObverseError: there is none.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not weights:
        raise ObverseError(
            "the model has no weight to train.", "Unfreeze a part of it: model.decoder.requires_grad_(True)."
        )
    return weights


def check_finite(loss: float, what: str) -> None:
    """Refuse to go on with a loss that is infinite or no number: every weight is lost by then.

    >>> check_finite(0.02, "loss is 0.02 in epoch 1")

    Raises:
        ObverseError: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise ObverseError(f"the {what}.", "Try a smaller learning_rate, and see that the images hold finite numbers.")


def check_reconstruction(reconstruction: Tensor, images: Tensor) -> None:
    """Refuse a reconstruction of another shape: the loss would spread one over the other, with a number to show for it.

    >>> check_reconstruction(torch.zeros(2, 1, 27, 27), torch.zeros(2, 1, 28, 28))
    Traceback (most recent call last):
        ...
    obverse.errors.ShapeError: the model gives 1×27×27 for images of 1×28×28.
    Its decoder must restore the size: obverse.Autoencoder(encoder, (1, 28, 28)) does.

    Raises:
        ShapeError: the two shapes differ.
    """
    if reconstruction.shape != images.shape:
        given, wanted = tuple(reconstruction.shape[1:]), tuple(images.shape[1:])
        raise ShapeError(
            f"the model gives {shape_text(given)} for images of {shape_text(wanted)}.",
            f"Its decoder must restore the size: obverse.Autoencoder(encoder, {wanted}) does.",
        )


def _planned_shape(model: nn.Module) -> tuple[int, ...] | None:
    shape = getattr(getattr(model, "plan", None), "input_shape", None)
    return None if shape is None else tuple(shape)


def _check_axes(given: tuple[int, ...], planned: tuple[int, ...], name: str) -> None:
    """Compare rank and channels; other spatial sizes are the model's business, which takes most of them."""
    channels = planned[0]
    if len(given) == len(planned) + 1 and given[1] == channels:
        return
    wanted = f"a model planned for {shape_text(planned)} takes N×{shape_text(planned)}."
    raise ShapeError(f"{name} is {shape_text(given)}; {wanted}", _axes_repair(given, planned))


def _axes_repair(given: tuple[int, ...], planned: tuple[int, ...]) -> str:
    rank, channels = len(planned), planned[0]
    if len(given) == rank and given == planned:
        return "The batch axis is missing: give images[None]."
    if len(given) == rank and channels == 1:
        return "The channel axis is missing: give images[:, None]."
    if len(given) == rank + 1 and given[-1] == channels:
        return "The channels come last: give images.movedim(-1, 1)."
    if len(given) == rank + 1:
        return (
            f"The images have {given[1]} channels: plan the model for {(given[1], *planned[1:])}, or give {channels}."
        )
    return (
        f"Give images of {rank + 1} axes: images.reshape(-1, {', '.join(map(str, planned))}), if that is their order."
    )


def _check_range(pixels: Tensor, model: nn.Module, name: str) -> None:
    """Refuse targets that the output never reaches: the loss would fall, and every picture would be white."""
    output, reach = _reach(model)
    if pixels.dtype == torch.uint8 or reach is None:
        return
    least, most = pixels.min().item(), pixels.max().item()
    if least >= reach[0] and most <= reach[1]:
        return
    whole = least >= 0 and most <= 255 and reach in ((0, 1), (-1, 1))
    scaled = f"Scale them to {reach[0]:g}..{reach[1]:g}, or leave" if math.isfinite(reach[1] - reach[0]) else "Leave"
    repair = "Give uint8, or floats divided by 255." if whole else f"{scaled} the {output} out."
    raise ShapeError(
        f"{name} has values from {least:g} to {most:g}; the model's {output} gives {reach[0]:g}..{reach[1]:g}.", repair
    )


def _reach(model: nn.Module) -> tuple[str, tuple[float, float] | None]:
    """What a model ends with, and which numbers that gives: the output of one of obverse's, or a Sigmoid at the end."""
    output = getattr(getattr(model, "decoder", None), "output", None)
    if isinstance(output, Block):
        return repr(output).removesuffix("()"), range_of(output)
    leaves = [module for module in model.modules() if not any(module.children())]
    return "Sigmoid", (0, 1) if leaves and isinstance(leaves[-1], nn.Sigmoid) else None
