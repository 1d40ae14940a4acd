"""A module that is run until a part of it has given its value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from obverse.errors import ShapeError

__all__ = ["Until", "code_in", "not_run", "run_until"]


class _Reached(Exception):  # noqa: N818    # no error: it ends the forward pass where the code is
    """The code is there."""


def run_until(module: nn.Module, path: str, x: Tensor) -> Tensor:
    """What the part at a path gives; behind it nothing is run. `""` runs the whole.

    >>> import torch
    >>> run_until(nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.Linear(9, 1)), "1", torch.rand(2, 8)).shape
    torch.Size([2, 4])
    """
    if not path:
        return code_in(module(x))
    with _noting(module.get_submodule(path)) as given:
        with suppress(_Reached):
            module(x)
        if not given:
            raise not_run(module, path)
    return given[0]


def not_run(module: nn.Module, path: str) -> ShapeError:
    """What to say of a cut point that nothing passes."""
    inner = [f"{path}.{name}" for name, _ in module.get_submodule(path).named_children()]
    inside = f", or at a part of this one: {', '.join(inner)}" if inner else ""
    return ShapeError(
        f"until={path!r} is a part of {type(module).__name__} that its forward does not call.",
        f"Cut it at a part that is called{inside}.",
    )


@contextmanager
def _noting(module: nn.Module) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, given: Any) -> None:
        kept.append(code_in(given))
        raise _Reached

    handle = module.register_forward_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def code_in(given: Any) -> Tensor:
    """The tensor that a module gives; of a list the last, which is the deepest of its features, else the first.

    Raises:
        ShapeError: if it gives none.
    """
    if isinstance(given, Tensor):
        return given
    tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    if not tensors:
        raise ShapeError("the module gives no tensor.", "Cut it where there is one: until='...'.")
    return tensors[-1] if isinstance(given, list) else tensors[0]


class Until(nn.Module):
    """A module that ends where a part of it has given its value; its `state_dict` is that of the whole."""

    def __init__(self, module: nn.Module, path: str) -> None:
        super().__init__()
        self.path = path
        self.whole = (module,)  # in a tuple, so that it does not become a submodule: what it holds is held here as well
        self._parameters, self._buffers, self._modules = module._parameters, module._buffers, module._modules
        self._non_persistent_buffers_set = module._non_persistent_buffers_set

    def train(self, mode: bool = True) -> Until:
        self.whole[0].training = mode
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        return run_until(self.whole[0], self.path, x)
