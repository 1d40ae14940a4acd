"""A model that leaves Python: `torch.export` and ONNX, with free batch and free sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx.experimental import _config as tracing

from obverse.chain import Chain
from obverse.errors import ObverseError, ShapeError
from obverse.model import Autoencoder, accept
from obverse.shapes import Shape

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["export", "free_sizes"]

LARGEST = 4096
"""The largest batch that an exported program takes, and the largest size, unless a larger one is planned."""

TRIED = "2.14"
"""The PyTorch with which all of this was tried: an older one follows fewer operations with free sizes."""


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

    Sizes stay as planned along axes where a weight depends on them (a `Linear` after `Flatten`). Where an operation of
    PyTorch's tells a single cell from several, they begin where there are several: the program's inputs say so. What
    cannot leave Python at all, a plan says under its table.

    Raises:
        ObverseError: for an ending that is neither, for blocks that ONNX would get wrong, and for what PyTorch cannot
            trace or write; where PyTorch is older than the one that this was tried with, it says so.
        ImportError: if what ONNX needs is missing: `pip install "obverse[export]"`.
    """
    target = None if path is None else Path(path)
    if target is not None and target.suffix not in (".pt2", ".onnx"):
        raise ObverseError(f"{target.name} ends in neither .pt2 nor .onnx.", "Name it model.pt2 or model.onnx.")
    _check_limits(model, onnx=target is not None and target.suffix == ".onnx")
    program = _program(model)
    if target is not None:
        _write(program, target)
    return program


def _program(model: Autoencoder) -> ExportedProgram:
    oblivious: Any = tracing.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]    # put there at run time
    with _evaluating(model), oblivious:
        return _traced(model)


Sizes = list[tuple[int, int] | None]
"""For every spatial axis the smallest size and the step, or `None` where it is fixed."""


def _traced(model: Autoencoder) -> ExportedProgram:
    """The program with the freest sizes for which PyTorch's tracing gives one that keeps its word."""
    first: Exception | None = None
    for least, sizes, deferred in _attempts(model, free_sizes(model)):
        try:
            program = _exported(model, least, sizes, **deferred)
            _check_smallest(program, model, least, sizes)
        except Exception as error:  # whatever PyTorch's tracing makes of an operation that it does not follow
            first = first or error
        else:
            return program
    raise ObverseError(f"PyTorch cannot trace this model with free sizes: {_said(first)}", _advice()) from first


def _said(error: Exception | None) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _advice() -> str:
    """Where to look when PyTorch fails: at its own error, and at an older PyTorch."""
    shown = "Its cause is shown above."
    if torch.__version__ >= TRIED:
        return shown
    return f"{shown} This is PyTorch {torch.__version__}; {TRIED} is what export was tried with."


def _attempts(model: Autoencoder, sizes: Sizes) -> Iterator[tuple[int, Sizes, dict[str, Any]]]:
    """Smallest batch, sizes and settings to try: some operations tell one cell, or one example, from more of them."""
    more = [free and (_without_single_cells(model, axis, free), free[1]) for axis, free in enumerate(sizes, 1)]
    asserting = {"prefer_deferred_runtime_asserts_over_guards": True}
    known = asserting.keys() <= signature(torch.export.export).parameters.keys()
    both = zip(sizes, more, strict=True)
    roomy = [one and two and (max(one[0] + 4 * one[1], two[0]), one[1]) for one, two in both]
    for least, free in ((1, sizes), (1, more), (1, roomy), (2, roomy)):
        yield least, free, {}
        if known:  # what PyTorch cannot prove of all sizes, the program checks of each
            yield least, free, asserting


def _exported(model: Autoencoder, least: int, sizes: Sizes, **settings: Any) -> ExportedProgram:
    example, dimensions = _example(model, sizes), _dimensions(least, sizes, model.input_shape[1:])
    return torch.export.export(model, (example,), dynamic_shapes=(dimensions,), strict=False, **settings)


def _check_smallest(program: ExportedProgram, model: Autoencoder, least: int, sizes: Sizes) -> None:
    """Run a program where operations that tell a single cell from several object, if there are any."""
    spatial = [n if free is None else free[0] for n, free in zip(model.input_shape[1:], sizes, strict=True)]
    example = _example(model, sizes)
    with torch.no_grad():
        program.module()(example.new_zeros(least, model.input_shape[0], *spatial))


def _without_single_cells(model: Autoencoder, axis: int, free: tuple[int, int]) -> int:
    """The smallest size along an axis for which no block gives a single cell; if there is none, the smallest."""
    planned, (smallest, step) = model.input_shape, free
    for size in range(smallest, smallest + 64 * step, step):
        try:
            shapes = model.encoder.block.shapes((*planned[:axis], size, *planned[axis + 1 :]))
        except ShapeError:
            continue
        if all(len(shape) != len(planned) or shape[axis] > 1 for shape in shapes):
            return size
    return next((size for size in range(smallest, smallest + 2 * step, step) if size > 1), smallest)


def free_sizes(model: Autoencoder) -> Sizes:
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
    step = next((step for step in range(1, 65) if all(takes(here + more * step) for more in FURTHER)), None)
    if step is None:
        return None
    smallest = here
    while smallest > step and takes(smallest - step):
        smallest -= step
    return smallest, step


FURTHER = (1, 2, 3, 17, 100)
"""Steps beyond the planned size that show whether an axis is free: some end soon, beside an axis that is fixed."""


def _example(model: Autoencoder, sizes: Sizes) -> torch.Tensor:
    """An input unlike the planned one, so that nothing of it is taken for a constant."""
    spatial: list[int] = []
    for at, (n, free) in enumerate(zip(model.input_shape[1:], sizes, strict=True), start=1):
        spatial.append(n if free is None else _odd_one(max(n, free[0]) + (2 + at) * free[1], free[1], spatial))
    parameter = next(model.parameters(), torch.empty(0))
    return torch.zeros(3, model.input_shape[0], *spatial, device=parameter.device, dtype=parameter.dtype)


def _odd_one(first: int, step: int, taken: list[int]) -> int:
    """The first size that no small stride divides: where one does nothing is padded, which PyTorch takes for a rule."""
    strides = 210 // gcd(210, step)
    sizes = range(first, first + 64 * step, step)
    return next((size for size in sizes if gcd(size, strides) == 1 and size not in taken), first)


def _dimensions(least: int, sizes: Sizes, planned: Shape) -> dict[int, Any]:
    dims: dict[int, Any] = {0: torch.export.Dim("batch", min=least, max=LARGEST)}
    for axis, (free, here) in enumerate(zip(sizes, planned, strict=True), start=2):
        if free is not None:
            smallest, step = free
            offset = smallest % step
            last = (max(LARGEST, 4 * here) - offset) // step
            steps = torch.export.Dim(f"size{axis - 2}", min=smallest // step, max=last)
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


def _check_limits(model: Autoencoder, onnx: bool) -> None:
    """Refuse by name what a plan says that PyTorch cannot do, or does wrongly in silence."""
    for half, chain, shape in (
        ("encoder", model.encoder.block, model.input_shape),
        ("decoder", model.decoder.block, model.code_shape),
    ):
        for limit in chain.limits(shape):
            if onnx or limit.way == "export":
                raise ObverseError(f"{half}, block {limit.reason}", "The plan says so, too.")


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
    try:
        written = torch.onnx.export(program, dynamo=True, verbose=False)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ObverseError(f"PyTorch cannot write this model as ONNX: {_said(error)}", _advice()) from error
    assert written is not None
    written.save(target, include_initializers=True, external_data=False)
