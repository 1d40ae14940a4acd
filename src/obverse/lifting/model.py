"""Models whose encoder is a module that was there before: it is kept, and a decoder is grown for it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from obverse.block import Block
from obverse.blocks.conv import Style
from obverse.chain import Chain
from obverse.errors import ConfigError, ObverseError
from obverse.lifting.cutting import run_until
from obverse.lifting.lifted import Lifted, lift, path_of, ready
from obverse.lifting.make import Make
from obverse.lifting.skipping import SkipPoint, kept_back
from obverse.model import Autoencoder, Decoder, as_chain, check_batch
from obverse.modules import Around
from obverse.plan import Plan
from obverse.rewrite import Skips
from obverse.shapes import Shape, as_shape

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["LiftedAutoencoder", "decoder_of_module"]


def decoder_of_module(
    module: nn.Module,
    input_shape: Shape,
    *,
    until: str | nn.Module | None = None,
    approximate: bool = False,
    upsampling: Style = "transpose",
    literal: bool = True,
    output: Block | None = None,
) -> Decoder:
    """The decoder of a module, on its device and in its dtype: what `mirror` of a module gives."""
    device, dtype = _place(module)
    block = lift(module, input_shape, until=until, approximate=approximate)
    return Decoder(
        block, input_shape, output=output, upsampling=upsampling, literal=literal, device=device, dtype=dtype
    )


def _place(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    floating = [tensor for tensor in module.parameters() if tensor.is_floating_point()]
    return (floating[0].device, floating[0].dtype) if floating else (None, None)


class LiftedAutoencoder(Autoencoder):
    """An autoencoder whose encoder is the very module that was given.

    `Autoencoder(module, shape)` makes it; see there.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        *,
        output: Block | None = None,
        skips: Skips = None,
        upsampling: Style = "transpose",
        until: str | nn.Module | None = None,
        freeze_encoder: bool = False,
        approximate: bool = False,
        literal: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        shape = as_shape(input_shape)
        self.until = path_of(encoder, until)
        ready(encoder, shape, in_place=True)
        device, dtype = _place(encoder)
        block = lift(encoder, shape, until=self.until, approximate=approximate)
        if skips is not None:  # which are got hold of by what the module's parts take and give
            block = Lifted(Make(encoder), self.until, approximate).with_skips(skips, shape)
        self.skips: tuple[SkipPoint, ...] = block.skips if isinstance(block, Lifted) else ()
        self.encoder_block = as_chain(block)
        self.encoder = encoder  # type: ignore[assignment]
        self.decoder = Decoder(
            block, shape, output=output, upsampling=upsampling, literal=literal, device=device, dtype=dtype
        )
        self.tied = False
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            encoder.requires_grad_(False)
            encoder.eval()

    def train(self, mode: bool = True) -> LiftedAutoencoder:
        """Training or evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    @property
    def input_shape(self) -> Shape:
        return self.decoder.output_shape

    @property
    def code_shape(self) -> Shape:
        return self.decoder.input_shape

    @property
    def numbers_around(self) -> int:
        return self.encoder_block.numbers_around(self.input_shape)

    @cached_property
    def plan(self) -> Plan:
        """Encoder and decoder as one chain, held against the planned input shape."""
        return Plan.of(Chain(self.encoder_block, self.decoder.block), self.input_shape)

    def to_config(self) -> dict[str, Any]:
        """A model made from a module has no config.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"the encoder is a {type(self.encoder).__name__} of somebody's own, which no config describes.",
            "Save its weights, torch.save(model.state_dict(), path), and make it anew: Autoencoder(module, shape).",
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and code of a batch."""
        self._compare(x)
        around: Around | None = [] if self.skips else None
        code = self.encode(x, around)
        return self.decoder(code, x.shape[2:], around), code

    def encode(self, x: Tensor, around: Around | None = None) -> Tensor:
        """The code of a batch: what the module gives, or the part of it at which it was cut."""
        if not torch.compiler.is_compiling() and (x.shape[1:] != self.input_shape or not x.is_floating_point()):
            check_batch(x, self.input_shape)
        if around is None or not self.skips:
            return run_until(self.encoder, self.until, x)
        with kept_back(self.encoder, self.skips) as kept:
            code = run_until(self.encoder, self.until, x)
        around += [kept[at] for at in range(len(self.skips))]
        return code

    def export(self, path: str | Path | None = None) -> ExportedProgram:
        """Not offered: what is exported is made of blocks.

        Raises:
            ObverseError: with the model of blocks that can be exported, where the module is a sequence of layers.
        """
        kind = type(self.encoder).__name__
        if isinstance(self.encoder_block.links[0].block, Lifted):
            raise ObverseError(
                f"the encoder is a {kind} of somebody's own, whose mirror is recorded anew for every size, "
                "which cannot be traced.",
                "Export models that are made of blocks.",
            )
        raise ObverseError(
            f"the encoder is a {kind} of somebody's own, and what is exported is made of blocks.",
            f"Give the blocks: model = Autoencoder(lift(module, {self.input_shape}), {self.input_shape}), "
            "model.encoder.load_state_dict(module.state_dict()).",
        )
