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

CI = os.environ.get("CI") or os.environ.get("HYPOTHESIS_PROFILE") == "ci"
QUICKLY = settings(max_examples=10 if CI else 5)
ONCE = settings(max_examples=1)

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
