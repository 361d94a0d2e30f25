"""Ctrl-C during a training: it stops after the step it is at."""

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Within a with block, the first Ctrl-C only sets `came`; the second interrupts at once.

    Python hands signals to the main thread alone: elsewhere nothing is changed.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            signal.default_int_handler(number, frame)
        self.came = True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
