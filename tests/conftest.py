"""How thoroughly the laws are tried: quickly at a desk, thoroughly and the same each time in CI, at length at night."""

import os

import pytest
from hypothesis import settings

# no deadline: the first forward of a process takes a second, and other sessions share the machine
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=125, deadline=None, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=1_200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)
