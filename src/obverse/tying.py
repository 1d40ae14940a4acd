"""Tied weights: one parameter, the encoder's, used by a layer and by its mirror.

A tied layer has no weight of its own. It holds the layer that it mirrors, outside of its submodules, and asks it for
the weight when it runs. So the parameter is in one place only: once in `parameters()`, once in `state_dict()` under the
encoder's key, and whatever replaces it there (`load_state_dict(assign=True)`, `to`, `torch.func.functional_call`,
a parametrization) replaces it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from obverse.modules import CONVOLUTIONS, SAME, TRANSPOSED, TRANSPOSED_SAME

__all__ = ["tie"]


class _Tied:
    """A layer whose weight is that of its counterpart."""

    _counterpart: tuple[nn.Module]  # in a tuple, so that it does not become a submodule

    @property
    def weight(self) -> Tensor:
        """The weight of the counterpart, which convolutions and their transposes lay out alike."""
        weight: Any = self._counterpart[0].weight
        return weight  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        shown: Any = super()
        return f"{shown.extra_repr()}, tied=True"


class _TiedTransposed(_Tied):
    """A linear layer whose weight is that of its counterpart, transposed."""

    @property
    def weight(self) -> Tensor:
        weight: Any = self._counterpart[0].weight
        return weight.T  # type: ignore[no-any-return]


_LAYERS: dict[type, type] = {
    **{layer: _Tied for layers in (CONVOLUTIONS, SAME, TRANSPOSED, TRANSPOSED_SAME) for layer in layers.values()},
    nn.Linear: _TiedTransposed,
}
TIED = {
    layer: type(f"Tied{layer.__name__}", (kind, layer), {"__module__": __name__}) for layer, kind in _LAYERS.items()
}
"""The tied form of every layer that can be tied."""

globals().update({tied.__name__: tied for tied in TIED.values()})  # where pickle looks for them


def tie(encoder: nn.Module, decoder: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Let layers of a decoder use the weights of their counterparts.

    Args:
        encoder: where the parameters are.
        decoder: where they are used once more.
        pairs: the places of the layers, in the encoder and in the decoder.
    """
    for there, here in pairs:
        layer: Any = decoder.get_submodule(here)
        del layer.weight
        layer.__class__ = TIED[type(layer)]
        layer._counterpart = (encoder.get_submodule(there),)
