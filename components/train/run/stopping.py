"""Signals that ask a run to stop: the first one lets the step in progress end, the second one interrupts at once."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from components.shared.errors import Interrupted


class StopFlag:
    """Notes the first signal."""

    def __init__(self) -> None:
        self.signal = ""

    def is_set(self) -> bool:
        return bool(self.signal)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            raise Interrupted(f"stopped at once by a second {signal.Signals(number).name}. The same command resumes")
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Note SIGTERM and SIGINT while the block runs."""
    flag = StopFlag()
    before = {number: signal.signal(number, flag.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
