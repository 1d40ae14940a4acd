"""Blocks run as modules, and taken apart: what the tests of the laws share."""

import subprocess

from obverse.testing.running import called, fits, leaves, outcome, parts, run, run_on_meta

__all__ = ["ALL_RANKS", "called", "fits", "launched", "leaves", "outcome", "parts", "run", "run_on_meta"]

ALL_RANKS = (0, 1, 2, 3)


def launched(command, **options):
    """A finished program, started again if it was aborted while its processes took leave of each other.

    On a busy machine gloo sometimes aborts there, after the work is done; what the program did is asked all the same.
    """
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, **options)
        if "SIGABRT" not in done.stderr:
            break
    return done
