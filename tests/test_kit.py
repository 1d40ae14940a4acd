"""The kit: every built-in passes it, and a block that is broken in one way fails in that way and no other."""

import copy
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

import obverse
from obverse import BatchNorm, Block, Chain, Conv, Crop, Flatten, Identity, Linear, MaxPool, Pad, ReLU, ShapeError
from obverse.registry import BUILT_IN, block_class
from obverse.testing import check_block, parametrize_with_checks
from obverse.testing.arguments import blocks_of
from obverse.testing.checks import CHECKS, check_mirror
from obverse.testing.kit import main
from broken import BROKEN, SOUND

QUICKLY = settings(max_examples=10, derandomize=True)
PROVED = settings(max_examples=25, derandomize=True)

# Every built-in ------------------------------------------------------------------------------------------------------

CHAINS = (
    Chain(Conv(4, 3, stride=2, padding=1), BatchNorm(), ReLU(), MaxPool(2)),
    Chain(Conv(2, 4, padding="same"), Chain(Crop((0, 1)), Flatten()), Linear(3)),
)


@parametrize_with_checks(
    [*(block_class(name) for name in BUILT_IN if name != "Chain"), *CHAINS],
    min_checks=10,
    settings=QUICKLY,
)
def test_every_built_in_keeps_the_contract(check):
    check()


# The kit, proved -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", SOUND, ids=lambda block: block.__name__)
def test_sound_blocks_pass(block):
    assert check_block(block, settings=QUICKLY, slow=True).checks >= 15


@pytest.mark.parametrize("block", BROKEN, ids=lambda block: block.__name__)
def test_a_block_that_is_broken_in_one_way_fails_in_that_way_and_no_other(block):
    broken_law = block.__doc__.split(":")[0]
    slowly = CHECKS[broken_law].slow
    failed = {name for name, check in CHECKS.items() if (slowly or not check.slow) and _fails(block, name)}
    assert failed == {broken_law}


def _fails(block, name):
    try:
        check_block(block, checks=[name], settings=PROVED)
    except AssertionError as error:
        assert str(error).startswith(f"{block.__name__} breaks a law, {name}: {CHECKS[name].law}\n  case: ")  # noqa: PT017
        assert str(error).endswith(CHECKS[name].change)  # noqa: PT017
        return True
    return False


def test_every_check_has_a_block_that_breaks_it():
    assert sorted(block.__doc__.split(":")[0] for block in BROKEN) == sorted(CHECKS)
