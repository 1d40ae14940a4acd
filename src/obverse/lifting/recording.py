"""One forward pass of a module, written down: which layers and functions of torch made which values of which."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

from obverse.errors import MirrorError, ObverseError, ShapeError
from obverse.lifting.cutting import not_run
from obverse.lifting.kept import NOISE
from obverse.lifting.make import Make, dtype_of, uncompiled
from obverse.lifting.rules_of_modules import rule_for
from obverse.lifting.trying import refusal
from obverse.shapes import Shape

__all__ = ["BATCH", "RESHAPES", "Call", "Constant", "Recording", "Scope", "Sighting", "Value", "record"]

BATCH = 7919
"""The batch that is recorded with: a number that is nobody's size, so that it is known wherever it turns up."""


RESHAPES = frozenset(
    ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "ravel")
)
"""Functions that leave all numbers in their order: so they may fold parts of an example into the batch, and back."""


@dataclass(eq=False)
class Value:
    """A tensor that depends on the input.

    Attributes:
        sizes: of the tensor, with the batch.
        maker: the call that gave it; `None` for the input.
        parts: how many parts of every example are folded into the batch, as windows are: 1 for none, 0 for no batch.
        in_order: whether the parts of one example stand together.
    """

    sizes: Shape
    maker: Call | None = None
    parts: int = field(init=False)
    in_order: bool = field(init=False)

    def __post_init__(self) -> None:
        batches = [n for n in self.sizes if n and n % BATCH == 0]
        self.parts = batches[0] // BATCH if len(batches) == 1 else 0
        before = self.maker.inputs if self.maker is not None and self.parts > 1 else ()
        folds = self.maker is not None and self.maker.name in RESHAPES
        self.in_order = self.parts > 0 and all(
            value.in_order and (value.parts == self.parts or (folds and value.has_batch)) for value in before
        )

    @property
    def has_batch(self) -> bool:
        """Whether the batch comes first, alone or with parts of an example folded into it behind."""
        return self.in_order and self.sizes[0] == self.parts * BATCH

    def __reduce__(self) -> Any:
        return Value, (self.sizes,)  # a copy of a block does not take along all that was recorded

    @property
    def shape(self) -> Shape:
        """What one example has; a value that does not begin with the batch has no such shape."""
        return (self.parts, *self.sizes[1:]) if self.parts > 1 and self.has_batch else self.sizes[1:]


@dataclass(eq=False)
class Constant:
    """A tensor that does not depend on the input.

    Attributes:
        sizes: of the tensor.
        parameter: where it is among the parameters, if it is one.
        place: where it is among all tensors of the module, if it is one.
        maker: the call that gave it, if it was computed.
    """

    sizes: Shape
    parameter: str = ""
    place: str = ""
    maker: Call | None = None


@dataclass(eq=False)
class Scope:
    """One call of a module: what went in and came out, the calls of modules around it, and all that happened in it."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    around: tuple[Scope, ...]
    outputs: Any = None
    calls: list[Call] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def inputs(self) -> list[Value]:
        return values_in((self.args, self.kwargs))


@dataclass(eq=False)
class Call:
    """A layer or a function that was called on values.

    Attributes:
        name: of a layer its class, of a function its plain name: `"add"` for `+`, `+=`, `torch.add`, `Tensor.add_`.
        label: its name in a graph: where in the module it was, what it was, and the how-manieth of its kind there.
        args: positional, with a `Value` or a `Constant` for every tensor.
        kwargs: by name, likewise.
        outputs: the values that came out, by their place.
        scopes: the calls of modules that it happened in, the outermost first.
        source: file and line.
        module: the layer, or `None` for a function.
        path: of the layer.
        overwrites: whether it overwrote its input.
        function: what was called, if it is no layer.
        number: the how-manieth of all calls it was, those that depend on no input among them.
    """

    name: str
    label: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Value]
    scopes: tuple[Scope, ...]
    source: str
    module: nn.Module | None = None
    path: str = ""
    overwrites: bool = False
    result: int | None = None
    function: Callable[..., Any] | None = None
    number: int = 0

    @property
    def inputs(self) -> list[Value]:
        return values_in((self.args, self.kwargs))

    @property
    def input_shape(self) -> Shape:
        """The shape of its first input."""
        return self.inputs[0].shape

    @property
    def output_shape(self) -> Shape:
        """The shape of its first output."""
        return self.outputs[0].shape

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument, whether it was given by place or by name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)


def values_in(tree: Any) -> list[Value]:
    """The values among arguments, in order; one that is there twice, twice."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Value)]


def constants_in(call: Call) -> list[Constant]:
    """The constants among a call's arguments, in order."""
    return [leaf for leaf in tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Constant)]


class Sighting(NamedTuple):
    """Where a value can be seen when a module runs.

    Attributes:
        path: of the part that takes or gives it.
        is_output: whether it gives it.
        time: the how-manieth call of that part.
        place: the how-manieth tensor of what it takes or gives.
    """

    path: str
    is_output: bool
    time: int
    place: int


@dataclass(eq=False)
class Recording:
    """What was recorded.

    Attributes:
        make: of the module.
        source: the input.
        code: the value at the end.
        calls: in order.
        features: further values that the module gave, before the code.
        sightings: where each value can be seen when the module runs.
    """

    make: Make
    source: Value
    code: Value
    calls: list[Call]
    features: list[Value]
    sightings: dict[Value, list[Sighting]]


class _Reached(Exception):  # noqa: N818    # no error: it ends the forward pass where the code is
    """The module to record until has given its value."""


def record(make: Make, shape: Shape, until: str = "") -> Recording:
    """Record one forward pass on the meta device.

    >>> make = Make(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()))
    >>> [(call.label, call.name, call.output_shape) for call in record(make, (3, 9, 9)).calls]
    [('0', 'Conv2d', (8, 9, 9)), ('1', 'ReLU', (8, 9, 9))]

    Args:
        make: of the module.
        shape: of one example.
        until: the path of the module whose output is the code; `""` for the whole.

    Raises:
        ShapeError: where the module refuses the shape, or gives no tensor.
    """
    module = make.module
    make.forget()
    writer = _Writer(make, until)
    x = torch.empty(BATCH, *shape, device="meta", dtype=dtype_of(module))
    source = writer.note(x, None)
    handles = list(writer.hooks(module))
    module.eval()
    try:
        with torch.no_grad(), uncompiled(), _hurried(writer, module), writer:
            given = module(x)
        if until:
            raise not_run(module, until)
    except _Reached as reached:
        given = reached.args[0]
    except ObverseError:
        raise
    except Exception as error:
        asked = [(scope.path, scope.module, [value.sizes for value in scope.inputs]) for scope in writer.scopes]
        raise refusal(make, shape, error, asked) from error
    finally:
        for handle in handles:
            handle.remove()
    values = [writer.known[id(leaf)][1] for leaf in tree_leaves(given) if id(leaf) in writer.known]
    if not values:
        raise ShapeError(
            f"{type(module).__name__} gives no tensor that depends on its input, as far as it could be followed.",
            "Cut it where there is one, until='...'. What torch.func, NumPy and the like do is not seen.",
        )
    # a list holds features, the deepest at its end; a tuple begins with what matters
    code = values[-1] if isinstance(given, list) else values[0]
    features = [value for value in values if value is not code] if isinstance(given, list) else []
    if code.parts > 1:  # folded into the batch, and nobody takes the parts of an example together again
        code.in_order = False
    dtype = next(tensor for tensor, value in writer.known.values() if value is code).dtype
    if not dtype.is_floating_point:
        raise MirrorError(
            f"{type(module).__name__} gives {dtype}, and the layers of a mirror take real numbers.",
            "Cut in front of what gives it: until='...'.",
        )
    return Recording(make, source, code, writer.calls, features, writer.sightings)


@contextmanager
def _hurried(writer: _Writer, module: nn.Module) -> Iterator[None]:
    """Norms and activations only hand on their shape, which on the meta device takes PyTorch much longer."""
    hurried = [part for part in module.modules() if type(part) in SHAPE_KEEPING]
    for part in hurried:
        part.forward = partial(_same_shape, writer, part)
    try:
        yield
    finally:
        for part in hurried:
            del part.forward


def _same_shape(writer: _Writer, part: Any, x: Tensor) -> Tensor:
    if not writer.inside:  # it acts on a constant, and how that is computed is written down
        given: Tensor = type(part).forward(part, x)
        return given
    return x if getattr(part, "inplace", False) else torch.empty_like(x)


SHAPE_KEEPING = {
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm, nn.Dropout, nn.ReLU, nn.ReLU6),
    *(nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid, nn.LeakyReLU, nn.PReLU, nn.Mish, nn.ELU, nn.Tanh),
}


class _Writer(TorchFunctionMode):
    """Writes down what happens while it is entered."""

    def __init__(self, make: Make, until: str) -> None:
        super().__init__()
        self.until = until
        self.calls: list[Call] = []
        self.known: dict[int, tuple[Tensor, Value]] = {}  # the tensor as well, so that its id stays its own
        self.scopes: list[Scope] = []
        self.inside = 0
        self.sightings: dict[Value, list[Sighting]] = {}
        self.times: Counter[tuple[str, bool]] = Counter()
        self.numbers = count()
        self.paths = {path for path, _ in make.module.named_modules()}
        self.parameters = {id(parameter): name for name, parameter in make.module.named_parameters()}
        self.constants = {id(tensor): (tensor, Constant(tuple(tensor.shape), self.parameters.get(id(tensor), ""), name))
                          for name, tensor in make.tensors()}  # fmt: skip

    # What is known ---------------------------------------------------------------------------------------------------

    def note(self, tensor: Tensor, call: Call | None) -> Value:
        value = Value(tuple(tensor.shape), call)
        self.known[id(tensor)] = (tensor, value)
        return value

    def depends(self, tree: Any) -> bool:
        return any(id(leaf) in self.known for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))

    def written(self, tree: Any) -> Any:
        """Arguments, with a `Value` or a `Constant` for every tensor."""

        def leaf(given: Any) -> Any:
            if not isinstance(given, Tensor):
                return given
            known = self.known.get(id(given)) or self.constants.get(id(given))
            return known[1] if known else Constant(tuple(given.shape))

        return tree_map(leaf, tree)

    def see(self, path: str, is_output: bool, given: Any) -> None:
        """Note what a part takes or gives."""
        time = self.times[path, is_output]
        self.times[path, is_output] += 1
        for place, leaf in enumerate(leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)):
            if id(leaf) in self.known:
                seen = Sighting(path, is_output, time, place)
                self.sightings.setdefault(self.known[id(leaf)][1], []).append(seen)

    def write(self, call: Call, given: Any) -> None:
        leaves = tree_leaves(given)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not tensors:
            return
        call.number = next(self.numbers)
        call.outputs = [self.note(tensor, call) for tensor in tensors]
        if call.module is not None and not isinstance(given, Tensor):
            call.result = 0
        self.calls.append(call)
        for scope in call.scopes:
            scope.calls.append(call)

    # Functions -------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        if not self.depends((args, kwargs)):
            return self._constant(func, args, kwargs)
        written = self.written((args, kwargs))
        given = func(*args, **kwargs)
        if isinstance(given, Tensor) and not _overwrites(func, kwargs) and id(given) in self.known:
            return given  # the same tensor: nothing happened
        name = plain_name(func)
        call = Call(name, self._label(name), written[0], written[1], [], tuple(self.scopes), _source())
        call.overwrites, call.function = _overwrites(func, kwargs), _callable(func)
        if call.overwrites:
            self._overwritten((args, kwargs))
        if func.__name__ == "__setitem__":  # which gives nothing, and changes its first argument
            given = args[0]
        self.write(call, given)
        return given

    def _constant(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run what depends on no input, and remember how what it gives is come by."""
        written = self.written((args, kwargs))
        given = func(*args, **kwargs)
        overwrites = _overwrites(func, kwargs)
        if overwrites:
            self._overwritten((args, kwargs))
        made = args[0] if func.__name__ == "__setitem__" else given
        tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        if not tensors or (not overwrites and any(id(tensor) in self.constants for tensor in tensors)):
            return given
        call = Call(plain_name(func), "", written[0], written[1], [], (), "")
        call.function, call.number = _callable(func), next(self.numbers)
        for tensor in tensors:
            constant = Constant(tuple(tensor.shape), maker=call)
            call.outputs.append(constant)  # type: ignore[arg-type]
            self.constants[id(tensor)] = (tensor, constant)
        return given

    def _overwritten(self, given: Any) -> None:
        """The first tensor is overwritten: how others in its memory were made holds no more."""
        first: Tensor = next(leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor))
        memory = first.untyped_storage()._cdata
        for tensor, constant in list(self.constants.values()):
            if tensor is not first and tensor.untyped_storage()._cdata == memory:
                self.constants[id(tensor)] = (tensor, Constant(constant.sizes))

    def _label(self, name: str) -> str:
        scope = self.scopes[-1]
        number = scope.counts[name]
        scope.counts[name] += 1
        label = f"{name}_{number}" if number else name
        while hasattr(scope.module, label):
            label += "_"
        return f"{scope.path}.{label}" if scope.path else label

    def _layers_label(self, module: nn.Module, path: str) -> str:
        """Its path. A layer that learns shares its mirror, too; one that does not has another each time it is used."""
        time = self.times[path, True]
        if not time or next(module.parameters(), None) is not None:
            return path or type(module).__name__
        label = f"{path}_{time}"
        while label in self.paths:
            label += "_"
        return label

    # Modules ---------------------------------------------------------------------------------------------------------

    def hooks(self, module: nn.Module) -> Iterator[Any]:
        for path, part in module.named_modules():
            yield part.register_forward_pre_hook(self._enter(path), prepend=True, with_kwargs=True)
            yield part.register_forward_hook(self._leave(path), with_kwargs=True)

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self.inside:
                self.inside += 1
                return
            written = self.written((args, kwargs))
            self.see(path, False, (args, kwargs))
            self.scopes.append(Scope(path, module, written[0], written[1], tuple(self.scopes)))
            if is_leaf(module) and self.depends((args, kwargs)):
                self.inside = 1

        return enter

    def _leave(self, path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: Any, kwargs: Any, given: Any) -> None:
            if self.inside > 1:
                self.inside -= 1
                return
            scope = self.scopes.pop()
            if self.inside:
                self.inside = 0
                same = isinstance(given, Tensor) and id(given) in self.known
                if not (same and isinstance(module, nn.Identity)):
                    name = type(module).__name__
                    call = Call(
                        name, self._layers_label(module, path), scope.args, scope.kwargs, [], tuple(self.scopes), ""
                    )
                    call.module, call.path, call.source = module, path, _source()
                    call.overwrites = getattr(module, "inplace", False) is True
                    self.write(call, given)
            scope.outputs = self.written(given)
            self.see(path, True, given)
            if path == self.until and path:
                raise _Reached(given)

        return leave


OVERWRITING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}


def _callable(func: Any) -> Callable[..., Any]:
    """The function itself; of a property, such as x.T, what reads it."""
    called: Callable[..., Any] = attrgetter(plain_name(func)) if func.__name__ == "__get__" else func
    return called


def _overwrites(func: Any, kwargs: Any) -> bool:
    """Whether a function overwrites its first argument."""
    name: str = func.__name__
    return name in OVERWRITING or (name[-1:] == "_" and name[-2:] != "__") or bool(kwargs.get("inplace"))


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one step, whatever happens inside it."""
    if rule_for(module) is not None or type(module).__name__ in NOISE or isinstance(module, nn.MultiheadAttention):
        return True
    return type(module).__module__.startswith("torch.nn.modules.") and next(module.children(), None) is None


ARITHMETIC = {"add", "sub", "mul", "truediv", "div", "matmul", "pow", "floordiv", "mod", "and", "or", "xor"}
SAME = {"truediv": "div", "true_divide": "div", "divide": "div", "multiply": "mul", "subtract": "sub", "concat": "cat"}


def plain_name(func: Any) -> str:
    """One name for all spellings of a function.

    >>> plain_name(torch.Tensor.__iadd__), plain_name(torch.Tensor.add_), plain_name(torch.add)
    ('add', 'add', 'add')
    """
    name: str = func.__name__
    if name == "__get__":  # of a property, such as x.T
        name = (resolve_name(func) or "").split(".")[-2]
    plain = name.strip("_")
    if name.startswith("__") and plain[:1] in "ir" and plain[1:] in ARITHMETIC:
        plain = plain[1:]
    if plain.startswith("concatenate"):
        plain = "cat"
    return SAME.get(plain, plain)


NOT_THEIRS = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/")


def _source() -> str:
    """Where in somebody's code this happens: the nearest line of theirs inside of the module; `""` for none."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code is not record.__code__:
        file = frame.f_code.co_filename
        if not file.startswith(NOT_THEIRS) and "einops" not in file:
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
