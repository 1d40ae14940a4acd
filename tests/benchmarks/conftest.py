"""Two ways to do a thing, timed side by side: what counts is the ratio, since it does not depend on the machine.

`make bench` times thoroughly and prints every ratio. As plain tests (`--benchmark-disable`) the same lines run a few
times, and hold ratios only against bounds so wide that a busy machine stays within them.
"""

from statistics import median
from time import perf_counter

import pytest


class Timing:
    """Seconds of functions that take turns, so that whatever slows the machine down slows all of them."""

    def __init__(self, thorough):
        self.thorough = thorough

    def medians(self, *functions, rounds):
        """The median of each, after one round that is not counted."""
        taken = [[] for _ in functions]
        for number in range(1 + (rounds if self.thorough else max(rounds // 10, 3))):
            for function, seconds in zip(functions, taken, strict=True):
                start = perf_counter()
                function()
                if number:
                    seconds.append(perf_counter() - start)
        return [median(seconds) for seconds in taken]


@pytest.fixture
def timing(request):
    return Timing(thorough=not request.config.getoption("benchmark_disable"))


@pytest.fixture
def say(request, capsys):
    """Print a line, where times are asked for."""

    def line(text):
        if not request.config.getoption("benchmark_disable"):
            with capsys.disabled():
                print(f"\n  {text}", end="", flush=True)  # noqa: T201

    return line
