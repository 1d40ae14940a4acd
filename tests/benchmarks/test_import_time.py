"""A cold start to the first plan, against a cold start to torch."""

import subprocess
import sys

FIRST_PLAN = """
from obverse import Chain, Conv, Flatten, Linear, ReLU
print(Chain(Conv(16, 3, stride=2, padding=1), ReLU(), Flatten(), Linear(12)).plan((1, 28, 28)))
"""


def cold(program):
    return lambda: subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_first_plan_takes_a_small_part_of_importing_torch(timing, say):
    ours, nothing, torch = timing.medians(cold(FIRST_PLAN), cold("pass"), cold("import torch"), rounds=20)
    say(
        f"import and first plan: {(ours - nothing) * 1e3:.0f} ms beside Python's own {nothing * 1e3:.0f} ms; "
        f"importing torch takes {(torch - nothing) / (ours - nothing):.0f} times as long"
    )
    assert ours - nothing < (torch - nothing) / 2
