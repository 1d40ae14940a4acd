"""A cold start to the first plan, in Python and on the command line, against a cold start to torch."""

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


def test_a_plan_on_the_command_line_is_there_before_torch_would_be(timing, say):
    asked = [sys.executable, "-m", "obverse", "plan", "Conv(16, 3, stride=2, padding=1) >> ReLU()", "1x28x28"]
    ours, nothing, torch = timing.medians(
        lambda: subprocess.run(asked, check=True, capture_output=True), cold("pass"), cold("import torch"), rounds=20
    )
    say(
        f"obverse plan: {ours * 1e3:.0f} ms, of which Python itself takes {nothing * 1e3:.0f} ms; "
        f"python -c 'import torch' takes {torch * 1e3:.0f} ms, {torch / ours:.1f} times as long"
    )
    assert ours < torch / 1.5
