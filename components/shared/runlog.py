"""Logs and progress: one JSON object a line on stderr, or a line for people on a terminal.

`ALEXNET_LOG=json|human` chooses; the default is `human` when stderr is a terminal.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator
from typing import Any, Literal, TextIO

from components.shared import interrupts, settings


def format_seconds(seconds: float) -> str:
    """Format a duration as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_value(value: Any) -> str:
    """Format a log value for people: floats to four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def format_human(entry: dict[str, Any]) -> str:
    """Format one log entry as a line for people."""
    fields = {k: v for k, v in entry.items() if k not in ("time", "level", "component", "message", "traceback")}
    if entry["message"] == "progress":
        done, total, unit = fields.pop("done"), fields.pop("total"), fields.pop("unit")
        rate, eta = fields.pop("rate"), fields.pop("eta_seconds")
        percent = 100 * done / total if total else 100.0
        head = f"{percent:3.0f} %  {done}/{total} {unit}  {rate:.4g} {unit}/s  ETA {format_seconds(eta)}"
    else:
        head = entry["message"]
    tail = "  ".join(f"{key} {format_value(value)}" for key, value in fields.items())
    level = "" if entry["level"] == "info" else f"{entry['level'].upper()}: "
    return f"{entry['component']}: {level}{head}{'  ' + tail if tail else ''}"


class RunLog:
    """Writes the log of one component."""

    def __init__(self, component: str, stream: TextIO | None = None) -> None:
        self.component = component
        self._stream = stream or sys.stderr
        self.style = settings.LOG.get() or ("human" if self._stream.isatty() else "json")

    def _write(self, level: Literal["info", "warning", "error"], message: str, fields: dict[str, Any]) -> None:
        entry: dict[str, Any] = {
            "time": time.time(),
            "level": level,
            "component": self.component,
            "message": message,
            **fields,
        }
        if self.style == "json":
            line = json.dumps(entry, default=str)
        else:
            line = format_human(entry) + ("\n" + entry["traceback"] if "traceback" in entry else "")
        self._stream.write(line + "\n")
        self._stream.flush()

    def info(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write("error", message, fields)


@contextlib.contextmanager
def hold_stderr() -> Generator[None]:
    """Hold back what is written to file descriptor 2, and show it only if the block fails.

    For `import tensorflow`, whose native libraries print lines that no log level silences.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    interrupts.write_last_line_to(stderr)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            interrupts.write_last_line_to(2)
            os.close(stderr)


class Progress:
    """Reports work done at most once every `interval_seconds`, with rate and time left.

    Both are of the last `window_seconds`, so that they follow a rate that changes.
    """

    def __init__(
        self,
        log: RunLog,
        total: int,
        unit: str,
        *,
        done: int = 0,
        interval_seconds: float = 1.0,
        window_seconds: float = 60.0,
    ) -> None:
        self._log, self._total, self._unit, self._interval = log, total, unit, interval_seconds
        self._window = window_seconds
        self.done = done
        self._marks = deque([(time.monotonic(), done)])  # of each report; the first is the last before the window

    def update(self, done: int, **fields: Any) -> None:
        """Set the amount done; logs when the interval has passed or the work is complete."""
        self.done = done
        now = time.monotonic()
        if now - self._marks[-1][0] < self._interval and done < self._total:
            return
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._window:
            self._marks.popleft()
        start, before = self._marks[0]
        self._marks.append((now, done))
        rate = (done - before) / max(now - start, 1e-9)
        eta = (self._total - done) / rate if rate > 0 else 0.0
        self._log.info(
            "progress",
            done=done,
            total=self._total,
            unit=self._unit,
            rate=round(rate, 2),
            eta_seconds=round(eta, 1),
            **fields,
        )
