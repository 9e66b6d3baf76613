"""What a person sees while tasks run: one line per task, live on a terminal, now and then elsewhere."""

import json
import sys
import time
from typing import TextIO

from components.shared import runlog

QUIET_SECONDS = 10.0


class Console:
    """One line per task: rewritten in place on a terminal, printed at most every ten seconds in a log."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._last = time.monotonic()
        self._width = 0

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._stream.write(("\r\x1b[K" if self._live else "") + text + "\n")
        self._stream.flush()
        self._last = time.monotonic()

    def status(self, task: str, text: str) -> None:
        """Show what a task is doing."""
        if self._live:
            self._stream.write(f"\r\x1b[K{task:<12} {text}"[:200])
            self._stream.flush()
        elif time.monotonic() - self._last >= QUIET_SECONDS:
            self.line(f"{task:<12} {text}")

    def entry(self, task: str, raw: str) -> dict[str, str] | None:
        """Show one line of a task's log if it says something to a person.

        Returns:
            The decoded entry when the line is one of `runlog`, else None.
        """
        try:
            entry = json.loads(raw)
            text = runlog.format_human(entry).partition(": ")[2]
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if entry["level"] == "warning":
            self.line(f"{task:<12} {text}")
        else:
            self.status(task, text)
        return entry
