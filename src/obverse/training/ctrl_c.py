"""An end between two steps, where Ctrl-C would cut a step in half."""

from __future__ import annotations

import signal
import threading
from time import monotonic
from types import FrameType, TracebackType
from typing import Self

__all__ = ["CtrlC"]

PATIENCE = 1.0  # seconds; under torchrun one Ctrl-C arrives twice: from the terminal, and passed on by the launcher


class CtrlC:
    """Note the first Ctrl-C in `pressed`; a second one, a second later, is an ordinary `KeyboardInterrupt`.

    It takes over only what Python does by itself, in the main thread: a handler of the program's own stays in place.

    >>> with CtrlC() as ctrl_c:
    ...     signal.raise_signal(signal.SIGINT)
    ...     print("the step is finished first,", ctrl_c.pressed)
    the step is finished first, True

    Attributes:
        pressed: whether somebody asked for an end.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._since = 0.0
        self._ours = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._ours = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pressed and monotonic() - self._since > PATIENCE:
            raise KeyboardInterrupt
        self._since = self._since if self.pressed else monotonic()
        self.pressed = True
