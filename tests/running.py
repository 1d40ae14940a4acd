"""Blocks run as modules, and taken apart: what the tests of the laws share."""

import subprocess

import torch

from obverse import Chain, Parallel, Residual, ShapeError, mirror
from obverse.modules import needs_of

ALL_RANKS = (0, 1, 2, 3)


def leaves(block):
    """The blocks of a chain in order, through nested chains."""
    return [link.block for link in block.links] if isinstance(block, Chain) else [block]


def parts(block):
    """Every block in a block that holds no others, in branches too."""
    if isinstance(block, Chain):
        return [part for leaf in leaves(block) for part in parts(leaf)]
    if isinstance(block, Residual):
        return parts(block.body) + ([] if block.shortcut is None else parts(block.shortcut))
    if isinstance(block, Parallel):
        return [part for branch in block.branches for part in parts(branch)]
    return [block]


def called(module, x, around):
    """What a module gives, and with it what goes round the code."""
    return module(x, around=around) if "around" in needs_of(module) else module(x)


def run(module, shape, around=None):
    """The shape that a module gives, asked as the promise says: a batch of two, in training mode."""
    with torch.no_grad():
        return tuple(called(module.train(), torch.rand(2, *shape), around).shape)


def run_on_meta(block, shape, around=None):
    """The same without numbers; in evaluation mode, since `BatchNorm(momentum=None)` counts its batches as a number."""
    with torch.no_grad(), torch.device("meta"):
        return tuple(called(block.build(shape).eval(), torch.rand(2, *shape), around).shape)


def outcome(function, *arguments):
    """What a function gives; `None` where it refuses, as obverse does or as PyTorch does."""
    try:
        return function(*arguments)
    except (ShapeError, RuntimeError, ValueError):
        return None


def fits(chain, planned, shape):
    """Whether chain and decoder take a shape with the weights that they have at the planned one."""
    if outcome(chain.output_shape, shape) is None or chain.parameter_shapes(shape) != chain.parameter_shapes(planned):
        return False
    decoders = [(mirror(chain, at), chain.output_shape(at)) for at in (planned, shape)]
    there, here = (decoder.parameter_shapes(code) for decoder, code in decoders)
    return there == here


def launched(command, **options):
    """A finished program, started again if it was aborted while its processes took leave of each other.

    On a busy machine gloo sometimes aborts there, after the work is done; what the program did is asked all the same.
    """
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if "SIGABRT" not in done.stderr:
            break
    return done
