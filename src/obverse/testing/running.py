"""Blocks run, and taken apart: what the checks stand on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from obverse.block import Block
from obverse.blocks.branching import Parallel, Residual
from obverse.chain import Chain
from obverse.decoder import mirror
from obverse.errors import ShapeError
from obverse.modules import needs_of
from obverse.shapes import Shape

__all__ = ["accepts", "called", "fits", "handed_round", "leaves", "outcome", "parts", "run", "run_on_meta"]

Around = list[Tensor]


def leaves(block: Block) -> list[Block]:
    """The blocks of a chain in order, through nested chains."""
    return [link.block for link in block.links] if isinstance(block, Chain) else [block]


def parts(block: Block) -> list[Block]:
    """Every block in a block that holds no others, in branches too."""
    if isinstance(block, Chain):
        return [part for leaf in leaves(block) for part in parts(leaf)]
    if isinstance(block, Residual):
        return parts(block.body) + ([] if block.shortcut is None else parts(block.shortcut))
    if isinstance(block, Parallel):
        return [part for branch in block.branches for part in parts(branch)]
    return [block]


def called(module: nn.Module, x: Tensor, around: Around | None = None) -> Tensor:
    """What a module gives, and with it what goes round the code."""
    result: Tensor = module(x, around=around) if "around" in needs_of(module) else module(x)
    return result


def run(module: nn.Module, shape: Shape, around: Around | None = None) -> Shape:
    """The shape that a module gives, asked as the promise says: a batch of two, in training mode."""
    with torch.no_grad():
        return tuple(called(module.train(), torch.rand(2, *shape), around).shape)


def run_on_meta(block: Block, shape: Shape, around: Around | None = None) -> Shape:
    """The same without numbers; in evaluation mode, since `BatchNorm(momentum=None)` counts its batches as a number."""
    with torch.device("meta"):
        module, x = block.build(shape).eval(), torch.rand(2, *shape)
    with torch.no_grad():  # on meta is only what was put there
        return tuple(called(module, x, around).shape)


def handed_round(block: Block, shape: Shape, runs: Callable[[Block, Shape, Around], object]) -> Around:
    """What a block takes from round the code: what its mirror hands round in front of it."""
    around: Around = []
    if block.around == "takes":
        runs(block.mirror(shape), block.output_shape(shape), around)
    return around


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives; `None` where it refuses, as obverse does or as PyTorch does."""
    try:
        return function(*arguments)
    except (ShapeError, RuntimeError, ValueError):
        return None


def accepts(block: Block, shape: Shape) -> bool:
    """Whether a block takes a shape; what fails in another way than a refusal is left to the checks to tell."""
    try:
        block.output_shape(shape)
    except ShapeError:
        return False
    except Exception:
        return True
    return True


def fits(chain: Block, planned: Shape, shape: Shape) -> bool:
    """Whether chain and decoder take a shape with the weights that they have at the planned one."""
    if not accepts(chain, shape) or chain.parameter_shapes(shape) != chain.parameter_shapes(planned):
        return False
    decoders = [(mirror(chain, at), chain.output_shape(at)) for at in (planned, shape)]
    there, here = (decoder.parameter_shapes(code) for decoder, code in decoders)
    return bool(there == here)
