"""The make of a module: all that it is without its numbers, so that fresh ones of the same make can be built."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, is_lazy

__all__ = ["Make", "copy_of_lazy", "dtype_of", "has_no_weights_yet", "makes_weights", "run_once", "uncompiled"]


class Make:
    """A copy of a module on the meta device, which weighs nothing, and what its parameters start from.

    The copy is what is recorded and asked for shapes, so the module itself is never run, changed or kept alive.

    >>> make = Make(nn.Sequential(nn.Linear(8, 4), nn.ReLU(inplace=True)))
    >>> make.module[0].weight.device.type
    'meta'
    >>> fresh = make.fresh("")
    >>> fresh[0].weight.device.type, fresh[1].inplace    # nothing is overwritten in a mirror
    ('cpu', False)
    """

    def __init__(self, module: nn.Module, place: str = "") -> None:
        self.place = place  # where it is in what somebody gave, for messages
        self.module = _weightless(module)
        self.buffers = dict(module.named_buffers())
        self.constants = dict(_constants(module))
        self.starts = dict(_starts(module))

    def part(self, path: str) -> nn.Module:
        """The module at a path; `""` is all of it."""
        return self.module.get_submodule(path)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters, buffers and plain attributes, by their paths."""
        yield from self.module.named_parameters()
        yield from self.module.named_buffers()
        for path, part in self.module.named_modules():
            for name, held in part.__dict__.items():
                if isinstance(held, Tensor):
                    yield (f"{path}.{name}" if path else name), held

    def forget(self) -> None:
        """Empty the caches that an earlier run has filled."""
        for part in self.module.modules():
            _forget(part)

    def fresh_tensor(self, name: str) -> Tensor:
        """A tensor of the same make as the one of this name: a parameter of its own, or the same buffer."""
        path, _, attribute = name.rpartition(".")
        tensor: Tensor = getattr(self.fresh(path, alone=True), attribute)
        return tensor

    def fresh(self, path: str, alone: bool = False) -> nn.Module:
        """A module of the same make as the one at a path, with parameters of its own as new ones have them.

        Args:
            path: where it is.
            alone: without the modules inside it.
        """
        part = self.part(path)
        if alone:
            part = copy.copy(part)
            part._modules = {}
        module = copy.deepcopy(part).to_empty(device=torch.get_default_device())
        _tie(module, part)
        prefix = f"{path}." if path else ""
        for parameter in module.parameters():  # all of them learn, whatever is frozen where they come from
            parameter.requires_grad_(parameter.is_floating_point())
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                _start(parameter, *self.starts.get(prefix + name, (0.0, 0.02)))
            for name, buffer in module.named_buffers():
                kept = self.buffers.get(prefix + name)
                if kept is not None and not kept.is_meta:
                    buffer.copy_(kept)
        for inner, part in module.named_modules():
            for name, constant in self.constants.get(prefix + inner if inner else path, {}).items():
                setattr(part, name, constant.to(torch.get_default_device()))
            _reset(part)
            _forget(part)  # what a recording left behind
            if getattr(part, "inplace", False) is True:
                part.inplace = False
        module.train()  # which some override, and then give nothing
        return module


def _weightless(module: nn.Module) -> nn.Module:
    """A deep copy whose tensors are on the meta device; what a forward pass left behind is not copied."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in _tensors(part.__dict__):
            if tensor.is_meta and tensor.is_leaf:
                continue
            empty = torch.empty_like(tensor, device="meta", requires_grad=False)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    copied = copy.deepcopy(module, memo)
    for part in copied.modules():
        _unhook(part)
        _forget(part)
        if isinstance(part, nn.DataParallel):
            part.device_ids = []  # which it does not share with
    return copied


def _tie(module: nn.Module, like: nn.Module) -> None:
    """Share the parameters that another shares: emptied, a module has one for each of their names."""
    first: dict[int, str] = {}
    for name, parameter in like.named_parameters(remove_duplicate=False):
        there = first.setdefault(id(parameter), name)
        if there != name:
            path, _, last = name.rpartition(".")
            setattr(module.get_submodule(path), last, module.get_parameter(there))


def _unhook(module: nn.Module) -> None:
    """Take away the hooks of others: they collect what they see, and belong to the module that they were put on."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks):
        for key in [key for key, hook in hooks.items() if not makes_weights(hook)]:
            del hooks[key]


def makes_weights(hook: Any) -> bool:
    """Whether a hook is part of its module: one that makes its weights, as those of `torch.nn.utils` do.

    >>> from torch.nn.utils.prune import l1_unstructured
    >>> [makes_weights(hook) for hook in l1_unstructured(nn.Linear(8, 4), "weight", 0.5)._forward_pre_hooks.values()]
    [True]
    """
    kinds = type(hook).__mro__
    return any(kind.__module__.startswith("torch.nn.utils") for kind in kinds) or isinstance(
        getattr(hook, "__self__", None), LazyModuleMixin
    )


def has_no_weights_yet(module: nn.Module) -> bool:
    """Whether weights wait for the first input to tell their shape."""
    return any(map(is_lazy, [*module.parameters(), *module.buffers()]))


def copy_of_lazy(module: nn.Module) -> nn.Module:
    """A deep copy, also of buffers without a shape, which PyTorch does not copy."""
    waiting = [buffer for buffer in module.buffers() if is_lazy(buffer)]
    new: Any = UninitializedBuffer  # whose stub has not the arguments
    memo = {id(buffer): new(device=buffer.device, dtype=buffer.dtype) for buffer in waiting}
    return copy.deepcopy(module, memo)


def run_once(module: nn.Module, shape: tuple[int, ...]) -> None:
    """Let lazy layers make their weights.

    >>> layer = nn.LazyConv2d(4, 3)
    >>> run_once(layer, (3, 9, 9))
    >>> layer
    Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
    """
    waiting = next(parameter for parameter in [*module.parameters(), *module.buffers()] if is_lazy(parameter))
    was = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(2, *shape, device=waiting.device, dtype=waiting.dtype))
    module.train(was)


OF_EVERY_MODULE = frozenset(nn.Module().__dict__)
"""Attributes in which every module keeps its parts."""


def _forget(module: nn.Module) -> None:
    """Empty the caches of a module: dictionaries of tensors that are neither parameters nor buffers."""
    for name, value in module.__dict__.items():
        if isinstance(value, dict) and name not in OF_EVERY_MODULE:
            for key in [key for key, held in value.items() if isinstance(held, Tensor)]:
                del value[key]


def _tensors(held: Any, depth: int = 3) -> Iterator[Tensor]:
    """The tensors in a module's attributes, its parameters and buffers among them."""
    if isinstance(held, Tensor):
        yield held
    elif depth and isinstance(held, dict):
        for value in held.values():
            yield from _tensors(value, depth - 1)
    elif depth and isinstance(held, (list, tuple)):
        for value in held:
            yield from _tensors(value, depth - 1)


def _constants(module: nn.Module) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tensors that are plain attributes of a module, by its path; what was computed from parameters is none."""
    for path, part in module.named_modules():
        plain = {name: held for name, held in part.__dict__.items() if isinstance(held, Tensor)}
        kept = {name: held for name, held in plain.items() if held.grad_fn is None and not held.is_meta}
        if kept:
            yield path, kept


def _starts(module: nn.Module) -> Iterator[tuple[str, tuple[float, float]]]:
    """Mean and deviation of the parameters that no `reset_parameters` makes anew: a new one starts with as much."""
    for path, part in module.named_modules():
        if _makes_all_anew(part):
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.is_meta and parameter.is_floating_point():
                values = parameter.detach().float()
                deviation = values.std(correction=0).item() if values.numel() > 1 else 0.0
                yield (f"{path}.{name}" if path else name), (values.mean().item(), deviation)


def _start(parameter: Tensor, mean: float, deviation: float) -> None:
    if not parameter.is_floating_point():
        parameter.zero_()
    elif deviation <= 1e-6 * abs(mean):  # all the same: a gate, a scale
        parameter.fill_(mean)
    else:
        parameter.normal_(mean, deviation)


def _makes_all_anew(module: nn.Module) -> bool:
    """Whether its `reset_parameters` is PyTorch's, for the weights that PyTorch gave it; others forget some."""
    of_torch = getattr(_resets(module), "__module__", "").startswith("torch.nn.modules.")
    return of_torch and not any(map(makes_weights, module._forward_pre_hooks.values()))


def _resets(module: nn.Module) -> Any:
    return getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)


def _reset(module: nn.Module) -> None:
    reset = _resets(module)
    if reset is None:
        return
    try:
        reset()
    except Exception:  # one that wants arguments is not PyTorch's, nor one that fails: the parameters have their start
        return


def dtype_of(module: nn.Module) -> torch.dtype:
    """What the module computes in."""
    floating = (tensor.dtype for tensor in module.parameters() if tensor.is_floating_point())
    return next(floating, torch.get_default_dtype())


def uncompiled() -> AbstractContextManager[Any]:
    """While it is entered, what `torch.compile` has wrapped runs as it was written."""
    # importing it takes a second, and nothing is compiled without it; while it looks on it cannot be told
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager
