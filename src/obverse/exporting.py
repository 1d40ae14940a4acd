"""A model that leaves Python: `torch.export` and ONNX, with free batch and free sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._dynamo.exc import UserError
from torch.fx.experimental import _config as tracing

from obverse.chain import Chain
from obverse.errors import ObverseError, ShapeError
from obverse.model import Autoencoder, accept
from obverse.shapes import Shape, shape_text

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["export", "free_sizes"]

LARGEST = 4096
"""The largest size along an axis, and the largest batch, that an exported program takes."""


def export(model: Autoencoder, path: str | Path | None = None) -> ExportedProgram:
    """The model as a program with free batch and free sizes, in eval mode; written to `path` if one is given.

    >>> from obverse import Chain, Conv, ReLU
    >>> model = Autoencoder(Chain(Conv(8, 3, stride=2, padding=1), ReLU(), Conv(4, 3)), (1, 28, 28)).eval()
    >>> program = export(model).module()
    >>> x = torch.rand(3, 1, 31, 40)    # any batch, any size that the encoder takes
    >>> torch.allclose(program(x)[0], model(x)[0], atol=1e-6)
    True

    It gives PyTorch the sizes that are free, takes care that a size of 1 stays free (a code of 1×1, say), and writes
    what the ending of `path` says: `.pt2` for `torch.export.load`, `.onnx` for everything that runs ONNX.

    Sizes stay as planned along axes where a weight depends on them (a `Linear` after `Flatten`).

    Raises:
        ObverseError: for an ending that is neither, for blocks that ONNX would get wrong, and for what PyTorch cannot
            trace.
        ImportError: if what ONNX needs is missing: `pip install "obverse[export]"`.
    """
    target = None if path is None else Path(path)
    if target is not None and target.suffix not in (".pt2", ".onnx"):
        raise ObverseError(f"{target.name} ends in neither .pt2 nor .onnx.", "Name it model.pt2 or model.onnx.")
    if target is not None and target.suffix == ".onnx":
        _check_onnx(model)
    oblivious: Any = tracing.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]    # put there at run time
    with _evaluating(model), oblivious:
        program = _traced(model)
    if target is not None:
        _write(program, target)
    return program


def _traced(model: Autoencoder) -> ExportedProgram:
    try:
        return _traced_from(model, free_sizes(model))
    except Exception as error:  # whatever PyTorch's tracing makes of an operation that it does not follow
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ObverseError(
            f"PyTorch cannot trace this model with free sizes: {said}",
            "Its cause is shown above. Known ones: padding='same' with a stride beyond the kernel's extent, and sizes "
            "scaled by a number that is no simple fraction.",
        ) from error


def _traced_from(model: Autoencoder, sizes: list[tuple[int, int] | None]) -> ExportedProgram:
    try:
        return _exported(model, sizes)
    except UserError:  # some operations tell a single cell from more of them: begin where there are more everywhere
        more = [free and (_without_single_cells(model, axis, free), free[1]) for axis, free in enumerate(sizes, 1)]
        return _exported(model, more)


def _exported(model: Autoencoder, sizes: list[tuple[int, int] | None]) -> ExportedProgram:
    return torch.export.export(model, (_example(model, sizes),), dynamic_shapes=(_dimensions(sizes),), strict=False)


def _without_single_cells(model: Autoencoder, axis: int, free: tuple[int, int]) -> int:
    """The smallest size along an axis for which no block gives a single cell, or else the planned one."""
    planned = model.input_shape
    for size in range(free[0], planned[axis], free[1]):
        shapes = model.encoder.block.shapes((*planned[:axis], size, *planned[axis + 1 :]))
        if all(len(shape) != len(planned) or shape[axis] > 1 for shape in shapes):
            return size
    return planned[axis]


def free_sizes(model: Autoencoder) -> list[tuple[int, int] | None]:
    """For every spatial axis the smallest size and the step from one that the model takes to the next; `None` if fixed.

    >>> from obverse import Chain, Conv, PixelUnshuffle
    >>> free_sizes(Autoencoder(Chain(Conv(8, 5), PixelUnshuffle(2)), (1, 28, 28)))
    [(6, 2), (6, 2)]
    """
    chain, planned = model.encoder.block, model.input_shape
    return [_free_along(chain, planned, axis) for axis in range(1, len(planned))]


def _free_along(chain: Chain, planned: Shape, axis: int) -> tuple[int, int] | None:
    def takes(size: int) -> bool:
        try:
            accept(chain, planned, (*planned[:axis], size, *planned[axis + 1 :]))
        except ShapeError:
            return False
        return True

    here = planned[axis]
    step = next((step for step in range(1, 65) if all(takes(here + more * step) for more in (1, 2, 3))), None)
    if step is None:
        return None
    smallest = here
    while smallest > step and takes(smallest - step):
        smallest -= step
    return smallest, step


def _example(model: Autoencoder, sizes: list[tuple[int, int] | None]) -> torch.Tensor:
    """An input unlike the planned one, so that nothing of it is taken for a constant."""
    spatial = [n if free is None else n + 3 * free[1] for n, free in zip(model.input_shape[1:], sizes, strict=True)]
    parameter = next(model.parameters(), torch.empty(0))
    return torch.zeros(3, model.input_shape[0], *spatial, device=parameter.device, dtype=parameter.dtype)


def _dimensions(sizes: list[tuple[int, int] | None]) -> dict[int, Any]:
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=LARGEST)}
    for axis, free in enumerate(sizes, start=2):
        if free is not None:
            smallest, step = free
            steps = torch.export.Dim(f"size{axis - 2}", min=-(-smallest // step), max=LARGEST // step)
            offset = smallest % step
            dims[axis] = steps if step == 1 else step * steps if not offset else step * steps + offset
    return dims


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _check_onnx(model: Autoencoder) -> None:
    """Refuse by name what PyTorch writes into ONNX wrongly, in silence or not at all."""
    for plan in (model.encoder.plan, model.decoder.plan):
        for step in plan.steps:
            name = type(step.block).__name__
            if name.startswith("Adaptive") and prod(step.output_shape[1:]) != 1:
                raise ObverseError(
                    f"block {step.place}, {step.block!r}, gives {shape_text(step.output_shape)}: PyTorch writes "
                    "adaptive pooling to more than one cell into ONNX with wrong numbers, or not at all.",
                    "Pool to one cell, AdaptiveAvgPool(1), or write a .pt2.",
                )


def _write(program: ExportedProgram, target: Path) -> None:
    unfinished = target.with_name(f".unfinished-{target.name}")
    try:
        if target.suffix == ".pt2":
            torch.export.save(program, unfinished)
        else:
            _write_onnx(program, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_onnx(program: ExportedProgram, target: Path) -> None:
    try:
        import onnxscript  # noqa: F401    # what torch.onnx stands on
    except ImportError as error:
        raise ImportError('ONNX needs more packages: pip install "obverse[export]"') from error
    written = torch.onnx.export(program, dynamo=True, verbose=False)
    assert written is not None
    written.save(target, include_initializers=True, external_data=False)
