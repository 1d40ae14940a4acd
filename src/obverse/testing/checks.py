"""The checks that every block passes: plain functions, each a law, of a block and a shape that it takes.

>>> from obverse import Conv
>>> from obverse.testing.checks import check_mirror
>>> check_mirror(Conv(4, 3, stride=2), (1, 8))

A block that breaks a law gets an `AssertionError` that says which, where, what was expected and what to change:

>>> from dataclasses import dataclass
>>> from obverse import Block, Crop, Pad
>>> @dataclass(frozen=True, repr=False)
... class Border(Block):
...     def output_shape(self, shape):
...         return (shape[0], *(size + 2 for size in shape[1:]))
...     def mirror(self, shape):
...         return Crop((0, 1))    # a cell too few
...     def build(self, shape):
...         return Pad(1).build(shape)
>>> check_mirror(Border(), (1, 4))
Traceback (most recent call last):
    ...
AssertionError: Border breaks a law, mirror: The mirror takes every accepted shape back.
  case: Border() at 1×4
  expected 1×4, found 1×5: what Crop((0, 1)) gives for 1×6.
  Let mirror(shape) give a block that takes output_shape(shape) back to shape, remainders and crops included.

`check_block` finds blocks and shapes for all of them. Each looks at its own law alone and takes the others for granted.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from typing import Any

import torch
from hypothesis.errors import UnsatisfiedAssumption
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import obverse
from obverse.block import Block
from obverse.blocks.pointwise import BatchNorm
from obverse.blocks.pooling import NearestUnpool
from obverse.chain import Chain
from obverse.config import from_config, to_config
from obverse.decoder import mirror
from obverse.errors import MirrorError, RegistryError, ShapeError
from obverse.model import Autoencoder
from obverse.modules import Steps, Wired
from obverse.registry import name_of
from obverse.shapes import Shape, shape_text
from obverse.sight import Seen, Window
from obverse.testing.running import accepts, called, fits, handed_round, leaves, parts, run, run_on_meta

__all__ = [
    "CHECKS",
    "Check",
    "NotAsked",
    "check_adjoint",
    "check_any_size",
    "check_around",
    "check_batch",
    "check_compile",
    "check_config",
    "check_deepcopy",
    "check_device",
    "check_dtype",
    "check_equality",
    "check_export",
    "check_gradients",
    "check_mirror",
    "check_mirrored_twice",
    "check_multiply_adds",
    "check_parameters",
    "check_pickle",
    "check_promise",
    "check_refusals",
    "check_replace",
    "check_repr",
    "check_sight",
    "check_state_dict",
]


class NotAsked(UnsatisfiedAssumption):
    """A check that has nothing to look at: a law about parameters, of a block that learns nothing.

    >>> from obverse import ReLU
    >>> try:
    ...     check_adjoint(ReLU(), (1, 8))
    ... except NotAsked as why:
    ...     print(why)
    it does not say that it is linear (adjoint)
    """


class _Broken(AssertionError):  # noqa: N818    # nobody sees it
    """What a check found, before the decorator has added law and case."""


@dataclass(frozen=True)
class Check:
    """A check with what is said about it.

    >>> CHECKS["mirror"].law
    'The mirror takes every accepted shape back.'

    Attributes:
        name: as it is called in reports and in expected failures, `"promise"`.
        law: one sentence.
        change: what to change where it is broken.
        function: of a block, a shape that it takes and, if `shapes` is 2, another of the same rank and channels.
        shapes: how many it takes.
        slow: whether an example takes about a second; asked on request only, and of few examples.
    """

    name: str
    law: str
    change: str
    function: Callable[..., None]
    shapes: int = 1
    slow: bool = False


CHECKS: dict[str, Check] = {}
"""Every check by its name, in the order in which they are asked: what is cheap and says most comes first."""


def _check(law: str, change: str, *, shapes: int = 1, slow: bool = False) -> Callable[[Any], Any]:
    """Enter a function into `CHECKS`, and let its failures say law, case and repair."""

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.removeprefix("check_")

        @wraps(function)
        def explained(block: Block, *at: Shape) -> None:
            try:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)  # the same numbers whenever a case is tried again
                    function(block, *at)
            except NotAsked:
                raise
            except _Broken as broken:
                found, cause = str(broken), None
            except Exception as error:
                found, cause = f"{type(error).__name__}: {error}", error
            else:
                return
            case = f"{_said(block)} at {', then at '.join(map(shape_text, at))}"
            kind = type(block).__name__
            raise AssertionError(
                f"{kind} breaks a law, {name}: {law}\n  case: {case}\n  {found}\n  {change}"
            ) from cause

        CHECKS[name] = Check(name, law, change, explained, shapes, slow)
        return explained

    return enter


def _said(block: Block) -> str:
    try:
        return repr(block)
    except Exception:  # that repr is at fault, another check says
        return f"a {type(block).__name__}"


def _agree(found: Any, expected: Any, what: str) -> None:
    if found != expected:
        found, expected = (shape_text(shape) if _is_shape(shape) else repr(shape) for shape in (found, expected))
        raise _Broken(f"expected {expected}, found {found}: {what}.")


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(type(size) is int for size in value)


def _holds(holds: bool, found: str) -> None:
    if not holds:
        raise _Broken(found)


def _close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-6) -> None:
    _agree(tuple(found.shape), tuple(expected.shape), f"the shape of {what}")
    try:
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True, check_dtype=False)
    except AssertionError:
        gap = (found - expected).abs().max().item()
        raise _Broken(f"{what}: the numbers differ by up to {gap:.3g}.") from None


def _back(block: Block, shape: Shape) -> Block:
    """The mirror of a block that has one."""
    try:
        return block.mirror(shape)
    except MirrorError as error:
        raise NotAsked("it says that it has no mirror") from error


def _run(block: Block, shape: Shape, around: list[Tensor]) -> Shape:
    return run(block.build(shape), shape, around)


def _given(module: nn.Module, x: Tensor, around: list[Tensor] | None = None) -> Tensor:
    """What a module in evaluation mode gives, leaving what it was given as it was."""
    with torch.no_grad():
        return called(module, x.clone(), [] if around is None else around)


def _alone(block: Block) -> None:
    if block.around == "takes":
        raise NotAsked("its module runs behind its counterpart only")


def _settled(block: Block) -> None:
    if any(isinstance(part, BatchNorm) and not part.track_running_stats for part in parts(block)):
        raise NotAsked("it was told to keep no running statistics")


# On paper ------------------------------------------------------------------------------------------------------------


@_check(
    "The module gives the shape that was predicted.",
    "Make output_shape(shape) and the module of build(shape) agree; the module is tried with a batch of two, training.",
)
def check_promise(block: Block, shape: Shape) -> None:
    """`output_shape` says what the module gives, for a batch of two in training mode."""
    predicted = block.output_shape(shape)
    _holds(_is_shape(predicted), f"output_shape gives {predicted!r}, and a shape is a tuple of plain integers.")
    around = handed_round(block, shape, _run)
    _agree(run(block.build(shape), shape, around), (2, *predicted), "what the module gives for a batch of two")


@_check(
    "It refuses exactly the shapes that its module cannot take, with a ShapeError.",
    "Let output_shape raise self.refuse(shape, reason, repair) for those shapes, and for no others.",
    shapes=2,
)
def check_refusals(block: Block, shape: Shape, other: Shape) -> None:
    """`output_shape` raises `ShapeError` where the module fails, and nowhere else; a channel more is tried, too."""
    if any(isinstance(part, NearestUnpool) for part in parts(block)):
        raise NotAsked("its module takes whatever it is given")
    _alone(block)
    branches = any(hasattr(leaf, "graph") for leaf in leaves(block))
    beside = (shape[0] + 1, *shape[1:])
    if accepts(block, beside):
        _works(lambda: run(block.build(beside), beside), beside)
    elif not branches and not block.parameter_shapes(shape):
        _fails(_refused_by(_step_by_step, Exception, _built(block, shape), beside), beside)
    accepted = _refused_by(block.output_shape, ShapeError, other) is None
    if not accepted and branches:
        raise NotAsked("PyTorch's sum would stretch a single cell to any size")
    if accepted and block.parameter_shapes(shape) != block.parameter_shapes(other):
        raise NotAsked("its parameters were made for another shape")
    layers = _built(block, shape)
    if accepted:
        _works(lambda: _step_by_step(layers, other), other)
    else:
        _fails(_refused_by(_step_by_step, Exception, layers, other), other)


def _works(runs: Callable[[], object], shape: Shape) -> None:
    said = _refused_by(runs, Exception)
    if said is not None:
        raise _Broken(f"{shape_text(shape)} was expected to be refused; the module says: {_short(said)}") from said


def _fails(said: Exception | None, shape: Shape) -> None:
    if said is None:
        raise _Broken(
            f"{shape_text(shape)} was expected to be taken: the module takes it, and output_shape refuses it."
        )


def _built(block: Block, shape: Shape) -> list[nn.Module]:
    """The modules of a block's leaves, one by one."""
    shapes = block.shapes(shape) if isinstance(block, Chain) else [shape]
    return [leaf.build(at) for leaf, at in zip(leaves(block), shapes, strict=False)]


def _refused_by(function: Callable[..., Any], kind: type[Exception], *arguments: Any) -> Exception | None:
    try:
        function(*arguments)
    except kind as error:
        return error
    return None


def _step_by_step(layers: list[nn.Module], shape: Shape) -> None:
    for layer in layers:
        shape = run(layer, shape)[1:]
        if 0 in shape:
            raise ShapeError("PyTorch gives out tensors without a cell, and a shape has at least one an axis.")


def _short(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@_check(
    "The mirror takes every accepted shape back.",
    "Let mirror(shape) give a block that takes output_shape(shape) back to shape, remainders and crops included.",
)
def check_mirror(block: Block, shape: Shape) -> None:
    """The mirror restores the shape, on paper and for real; so does the decoder of the block alone."""
    after = block.output_shape(shape)
    backs = [_back(block, shape)]
    if block.around != "takes":
        backs.append(mirror(block, shape))
    for back in backs:
        _agree(back.output_shape(after), shape, f"what {_said(back)} gives for {shape_text(after)}")
        around = handed_round(back, after, _run)
        _agree(run(back.build(after), after, around), (2, *shape), f"what the module of {_said(back)} gives")


@_check(
    "Mirrored twice, it maps the same two shapes again; where it is linear, with as much to learn.",
    "Let the mirror's own mirror(output_shape(shape)) take shape to output_shape(shape), with the groups and the bias.",
)
def check_mirrored_twice(block: Block, shape: Shape) -> None:
    """The mirror of the mirror stands in for the block; where that is linear, it learns as much."""
    after = block.output_shape(shape)
    twice = _back(_back(block, shape), after)
    if block.adjoint:
        _agree(twice.parameters(shape), block.parameters(shape), f"how many numbers {_said(twice)} learns")
    _agree(twice.output_shape(shape), after, f"what {_said(twice)} gives for {shape_text(shape)}")
    around = handed_round(twice, shape, _run)
    _agree(run(twice.build(shape), shape, around), (2, *after), f"what the module of {_said(twice)} gives")


@_check(
    "What is handed round the code is counted, and the mirror uses all of it.",
    "Let numbers_around(shape) count what the module appends to around, and the mirror's module pop each of it.",
)
def check_around(block: Block, shape: Shape) -> None:
    """`numbers_around` counts what the module hands round, and nothing of it is left over."""
    if block.around == "takes":
        raise NotAsked("it takes from round the code; its mirror gives")
    around: list[Tensor] = []
    run(block.build(shape), shape, around)
    _agree(sum(given[0].numel() for given in around), block.numbers_around(shape), "numbers that went round the code")
    if not block.around:
        raise NotAsked("it hands nothing round the code")
    after = block.output_shape(shape)
    run(_back(block, shape).build(after), after, around)
    _agree(len(around), 0, "what is left in around behind the mirror")


@_check(
    "Names and shapes of its parameters are known on paper.",
    "Let parameter_shapes(shape) name every parameter as the module's named_parameters() does.",
)
def check_parameters(block: Block, shape: Shape) -> None:
    """`parameter_shapes` is what the module's `named_parameters` are."""
    found = {name: tuple(value.shape) for name, value in block.build(shape).named_parameters()}
    _agree(block.parameter_shapes(shape), found, "parameter_shapes against the module's parameters")
    _agree(block.parameters(shape), sum(map(_count, found.values())), "parameters")


def _count(shape: Shape) -> int:
    return torch.Size(shape).numel()


@_check(
    "Its multiplications are counted as PyTorch counts them.",
    "Let multiply_adds(shape) be half of what torch.utils.flop_counter counts for one example: products with a weight.",
)
def check_multiply_adds(block: Block, shape: Shape) -> None:
    """`multiply_adds` is half of the operations that PyTorch counts."""
    around = handed_round(block, shape, _run)
    module = block.build(shape)
    with FlopCounterMode(display=False) as counter:
        run(module, shape, around)
    # two examples, and two operations for each multiplication with its addition
    _agree(4 * block.multiply_adds(shape), counter.get_total_flops(), "operations for a batch of two")


@_check(
    "A cell sees no more than its window; if the block is linear, no less.",
    "Let windows(shape) give size, stride and centre of what a cell sees along every axis, or None if it sees all.",
)
def check_sight(block: Block, shape: Shape) -> None:
    """Gradients from a cell that came out reach only cells in its window."""
    _alone(block)
    _settled(block)
    windows = block.windows(shape)
    if not windows:
        raise NotAsked("its cells see everything, or axes are mixed")
    _agree(len(windows), len(shape) - 1, "windows, one for each spatial axis")
    module = block.build(shape).double().eval()
    x = torch.rand(2, *shape, dtype=torch.double, requires_grad=True)
    after = called(module, x * 1, [])
    unlike = torch.rand_like(after)  # so that no channel cancels another
    last = tuple(n - 1 for n in after.shape[2:])
    for cell in {(0,) * len(last), last, tuple(n // 2 for n in last)}:
        there: Any = (0, slice(None), *cell)
        (seen,) = torch.autograd.grad((after * unlike)[there].sum(), x, retain_graph=True, allow_unused=True)
        for axis, (place, window) in enumerate(zip(cell, windows, strict=True)):
            reached = [] if seen is None else sorted({at[axis + 1] for at in seen[0].nonzero().tolist()})
            _in_window(block, window, place, reached, shape[axis + 1], f"cell {cell}, along axis {axis + 1},")


def _in_window(block: Block, window: Window | Seen, place: int, reached: list[int], size: int, who: str) -> None:
    first, last = window.seen.of(place)
    even = type(window.seen.stride) is int  # where sizes grow, a dilation may leave gaps at either end
    inside = 0 <= first <= last < size
    if not inside and not block.adjoint:
        return  # what stands in the padding may be repeated cells, that lie elsewhere
    beyond = [cell for cell in reached if not first <= cell <= last]
    _holds(not beyond, f"{who} sees {beyond}, and its window is from {first} to {last}.")
    exact = block.adjoint and not isinstance(block, Chain) and not hasattr(block, "graph")
    if inside and even and exact and reached:  # none are, where another axis looks at padding
        _agree((reached[:1], reached[-1:]), ([first], [last]), f"first and last cell that {who} sees")


# In numbers ----------------------------------------------------------------------------------------------------------


@_check(
    "With the same weights and no bias, the mirror is the transpose: <block(x), y> = <x, mirror(y)>.",
    "Put pads, crops and remainders on the side where the block has them, or leave out adjoint = True.",
)
def check_adjoint(block: Block, shape: Shape) -> None:
    """A block that says it is `adjoint` has a mirror that is its transpose."""
    if not block.adjoint:
        raise NotAsked("it does not say that it is linear (adjoint)")
    after = block.output_shape(shape)
    there = block.build(shape).double().eval()
    back = _back(block, shape).build(after).double().eval()
    _share_weights(there, back)
    x, y = torch.randn(2, *shape, dtype=torch.double), torch.randn(2, *after, dtype=torch.double)
    with torch.no_grad():
        _close((called(there, x.clone()) * y).sum(), (x * called(back, y.clone())).sum(), "both products", 1e-8)


def _share_weights(there: nn.Module, back: nn.Module) -> None:
    """Give a mirror the weights of its counterpart, and neither of them a bias."""
    if isinstance(there, Wired):
        for name, module in there.named_children():
            _share_weights(module, back.get_submodule(name))
    elif isinstance(there, Steps) and isinstance(back, Steps):
        for ours, theirs in zip(there, reversed(back), strict=True):
            _share_weights(ours, theirs)
    else:
        weighted, theirs = ([m for m in module.modules() if hasattr(m, "weight")] for module in (there, back))
        _agree(len(theirs), len(weighted), "layers with a weight in the mirror")
        for mine, its in zip(weighted, theirs, strict=True):
            weight: Any = mine.weight.T if isinstance(mine, nn.Linear) else mine.weight
            weights = its.get_parameter("weight")
            _agree(tuple(weights.shape), tuple(weight.shape), "the shape of the mirror's weight")
            its.weight = nn.Parameter(weight.detach().clone())
    for name, parameter in [*there.named_parameters(), *back.named_parameters()]:
        if name.endswith("bias"):
            nn.init.zeros_(parameter)


@_check(
    "One built model returns every size that the block accepts, as a model built for that size does.",
    "Let no module keep a size from build: work it out in forward, or take forward(x, size=None) where a mirror "
    "must be told it.",
    shapes=2,
)
def check_any_size(block: Block, shape: Shape, other: Shape) -> None:
    """A model that was built for one size restores another, and gives the numbers of one that was built for it."""
    _alone(block)
    _back(block, shape)
    model = Autoencoder(block, shape, dtype=torch.double).eval()
    x = torch.randn(2, *other, dtype=torch.double)
    if not fits(model.encoder.block, shape, other):
        _holds(_refused_by(model, ShapeError, x) is not None, "the model takes what the blocks cannot.")
        return
    for_other = Autoencoder(block, other, dtype=torch.double).eval()
    for_other.load_state_dict(model.state_dict())
    around: list[Tensor] = []
    with torch.no_grad():
        given, code = model(x.clone())  # a first layer that works in place overwrites what it is given
        expected, expected_code = for_other(x.clone())
        decoded = model.decode(model.encode(x.clone(), around), other[1:], around)
    _agree(tuple(given.shape), (2, *other), "what the model returns")
    for ours, theirs, what in (
        (code, expected_code, "the code"),
        (given, expected, "the reconstruction"),
        (decoded, expected, "what decode(encode(x), size) gives"),
    ):
        _close(ours, theirs, f"{what} at {shape_text(other)}, of the model built for {shape_text(shape)}")


@_check(
    "In evaluation mode an example's numbers do not depend on the batch it is in.",
    "Take statistics over an example, or keep running ones; draw random numbers in training mode only.",
)
def check_batch(block: Block, shape: Shape) -> None:
    """Four examples together give what they give two by two: the smallest batch that a block need take."""
    _alone(block)
    _settled(block)
    module = block.build(shape).double().eval()
    x = torch.randn(4, *shape, dtype=torch.double)
    _close(_given(module, x), torch.cat([_given(module, two) for two in (x[:2], x[2:])]), "four examples at once", 1e-8)


@_check(
    "Gradients reach every parameter, and what is in front of the block.",
    "Use every parameter in forward, and nothing that cuts the graph (.data, .detach(), torch.no_grad(), .item()).",
)
def check_gradients(block: Block, shape: Shape) -> None:
    """After a backward pass every parameter has a gradient, and so has the input."""
    around = handed_round(block, shape, _run)
    module = block.build(shape).train()
    x = torch.rand(2, *shape, requires_grad=True)
    torch.autograd.backward(called(module, x * 1, around).square().sum())
    without = [name for name, value in module.named_parameters() if value.requires_grad and value.grad is None]
    _holds(not without, f"no gradient reached {', '.join(without)}.")
    _holds(x.grad is not None, "no gradient reached the input.")


@_check(
    "It computes in the dtype of its weights and input.",
    "Make tensors in forward from the input (x.new_zeros(...), torch.arange(n, device=x.device)), and cast nothing.",
)
def check_dtype(block: Block, shape: Shape) -> None:
    """In float64 it gives float64, and the numbers of float32 to its precision."""
    _alone(block)
    module = block.build(shape).eval()
    x = torch.rand(2, *shape)
    single = _given(module, x)
    double = _given(module.double(), x.double())
    _agree(double.dtype, torch.float64, "the dtype of what comes out for float64")
    _close(single.double(), double, "float32 against float64", 1e-3)


@_check(
    "It is built and run on the device that is asked for.",
    "Make tensors in forward on the input's device, and in build with torch's own functions; never on 'cpu' by name.",
)
def check_device(block: Block, shape: Shape) -> None:
    """Built on the meta device it allocates nothing, and gives the predicted shape there."""
    with torch.device("meta"):
        module = block.build(shape)
    elsewhere = [name for name, value in module.state_dict().items() if value.device.type != "meta"]
    _holds(not elsewhere, f"{', '.join(elsewhere)} was not made on the device that was asked for.")
    around = handed_round(block, shape, run_on_meta)
    there = run_on_meta(block, shape, around)
    here = _given(block.build(shape).eval(), torch.rand(2, *shape), handed_round(block, shape, _run)).shape
    _agree(there, tuple(here), "what the module gives on meta, against what it gives on the CPU")


@_check(
    "Its state_dict is all there is to know of its weights.",
    "Keep learned numbers in nn.Parameter and others in register_buffer, under names that do not change.",
)
def check_state_dict(block: Block, shape: Shape) -> None:
    """A second module with the first one's `state_dict` gives the first one's numbers."""
    _alone(block)
    first, second = block.build(shape), block.build(shape)
    run(first, shape)  # statistics move
    _agree(list(second.state_dict()), list(first.state_dict()), "the keys of two modules' state_dicts")
    second.load_state_dict(first.state_dict(), strict=True)
    x = torch.rand(2, *shape)
    _close(_given(second.eval(), x), _given(first.eval(), x), "a second module with the first one's weights")


@_check(
    "Block and module can be copied.",
    "Keep only tensors, modules and plain values in them.",
)
def check_deepcopy(block: Block, shape: Shape) -> None:
    """`copy.deepcopy` of the block is equal, of the module gives the same numbers."""
    _agree(copy.deepcopy(block), block, "the copy of the block")
    _alone(block)
    module = block.build(shape).eval()
    x = torch.rand(2, *shape)
    _close(_given(copy.deepcopy(module), x), _given(module, x), "the copy of the module")


@_check(
    "Block and module can be pickled.",
    "Keep no functions, locks or open files in them.",
)
def check_pickle(block: Block, shape: Shape) -> None:
    """Pickled and read again the block is equal; so is the module, if its classes can be imported."""
    if not all(_is_importable(type(part)) for part in parts(block)):
        raise NotAsked("its class cannot be imported by its name")
    _agree(pickle.loads(pickle.dumps(block)), block, "the block, pickled and read again")
    module = block.build(shape).eval()
    if block.around != "takes" and all(_is_importable(type(part)) for part in module.modules()):
        x = torch.rand(2, *shape)
        _close(_given(pickle.loads(pickle.dumps(module)), x), _given(module, x), "the module, pickled and read again")


def _is_importable(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


@_check(
    "Its config, as JSON, is all there is to know of it.",
    "Let arguments be plain values (numbers, text, tuples of them, blocks), and turn lists into tuples.",
)
def check_config(block: Block, shape: Shape) -> None:
    """`from_config(to_config(block))` is the block, through JSON; asked of classes that have a name in the registry."""
    for inner in _within(block):
        if isinstance(inner, Block) and _refused_by(name_of, RegistryError, type(inner)) is not None:
            raise NotAsked(f"{type(inner).__name__} has no name in the registry")
    written = json.dumps(to_config(block))
    _agree(from_config(json.loads(written)), block, f"the block made from {written[:200]}")


# As a value ----------------------------------------------------------------------------------------------------------


@_check(
    "Its repr is source that makes it again.",
    "Leave repr to Block (@dataclass(frozen=True, repr=False)), and take arguments whose own repr pastes back.",
)
def check_repr(block: Block, shape: Shape) -> None:
    """`eval(repr(block)) == block`, with the classes by their names."""
    classes = {type(part).__name__: type(part) for part in _within(block)}
    source = repr(block)
    try:
        twin = eval(source, {name: getattr(obverse, name) for name in dir(obverse)} | classes)
    except Exception as error:
        raise _Broken(f"{source} cannot be pasted: {type(error).__name__}: {error}") from error
    _holds(twin == block, f"{source}, pasted, makes another block.")
    _agree(repr(twin), source, "the repr of what its repr makes")


@_check(
    "Its arguments can be replaced, each by its name.",
    "Keep arguments in a form that the constructor takes by their names; what is written one by one is variadic().",
)
def check_replace(block: Block, shape: Shape) -> None:
    """`dataclasses.replace(block) == block`, and `copy.replace` likewise."""
    _agree(replace(block), block, "what dataclasses.replace makes of it, with nothing replaced,")  # type: ignore[type-var]


def _within(value: Any) -> list[Any]:
    """A value, and the values in its fields."""
    if isinstance(value, (tuple, list)):
        inside = [inner for one in value for inner in _within(one)]
        return [value, *inside] if hasattr(value, "_fields") else inside  # a named tuple is said by its name
    if not is_dataclass(value):
        return [value]
    return [value, *(inner for field in fields(value) for inner in _within(getattr(value, field.name)))]


@_check(
    "It is a value: frozen, hashable, equal to what says the same, and always of the same opinion.",
    "Write @dataclass(frozen=True, repr=False), turn lists into tuples in __post_init__, and keep no state.",
)
def check_equality(block: Block, shape: Shape) -> None:
    """Equal blocks have equal hashes; no argument can be set; asking twice gives the same answer."""
    _holds(is_dataclass(block), f"{type(block).__name__} is no dataclass.")
    names = [field.name for field in fields(block)]  # type: ignore[arg-type]    # asked right above
    for name in names:
        try:
            setattr(block, name, getattr(block, name))
        except AttributeError:
            continue
        raise _Broken(f"its {name} can be set.")
    twin = copy.copy(block)
    _holds(twin == block, "it is not equal to its copy.")
    _agree(hash(twin), hash(block), "the hash of its copy")
    _holds(block != object(), "it is equal to what is no block.")
    _holds(type(block).__eq__ is not object.__eq__, "blocks that say the same are not equal.")
    _agree(block.output_shape(shape), block.output_shape(shape), "output_shape, asked twice")
    _holds(_mirrors(block, shape) == _mirrors(block, shape), "mirror, asked twice, gives blocks that differ.")


def _mirrors(block: Block, shape: Shape) -> Any:
    try:
        return block.mirror(shape)
    except MirrorError:
        return None


# Traced --------------------------------------------------------------------------------------------------------------


@_check(
    "torch.compile follows it without a break, at more than one size.",
    "Compare no sizes and no numbers in forward, and call nothing there that PyTorch cannot trace.",
    slow=True,
)
def check_compile(block: Block, shape: Shape) -> None:
    """The module compiles as one graph, and gives eager numbers."""
    _alone(block)
    module = block.build(shape).eval()
    x = torch.rand(2, *shape)
    torch._dynamo.reset()
    compiled: Any = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    _close(_given(compiled, x), _given(module, x), "compiled against eager", 1e-5)


@_check(
    "torch.export follows it, with a free batch.",
    "Compare no sizes and no numbers in forward, and call nothing there that PyTorch cannot trace.",
    slow=True,
)
def check_export(block: Block, shape: Shape) -> None:
    """The exported module gives eager numbers for another batch."""
    _alone(block)
    module = block.build(shape).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = ({0: torch.export.Dim("batch", min=1, max=64)},)
        program = torch.export.export(module, (torch.rand(3, *shape),), dynamic_shapes=free, strict=False)
    x = torch.rand(5, *shape)
    _close(_given(program.module(), x), _given(module, x), "exported against eager", 1e-5)
