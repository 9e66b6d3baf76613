"""SIGTERM and SIGINT, heard from a component's first line to its last.

An exception that a signal raises inside an import arrives as an ImportError, as a SystemError or not at all: libraries
and the loaders of C extensions catch what they do not know. There, and before the work begins, nothing is to be saved,
and the process ends at once with 75. Anywhere else the signal is raised as Interrupted.
This module is imported first of all and imports next to nothing.
"""

import os
import signal
import time
from types import FrameType

from components.shared import settings
from components.shared.errors import Interrupted

IMPORT_CODE = "<frozen importlib._bootstrap>"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _State:
    component = ""
    raises = False  # the work has begun: there is someone to catch Interrupted
    message = ""  # of the signal that came
    stderr = 2  # the file descriptor for a last line


_state = _State()


def _is_importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != IMPORT_CODE:
        frame = frame.f_back
    return frame is not None


def _handle(number: int, frame: FrameType | None) -> None:
    _state.message = f"stopped by {signal.Signals(number).name}. The same command resumes the work"
    if _state.raises and not _is_importing(frame):
        raise Interrupted(_state.message)
    # By hand: the module that writes logs may be half imported.
    if (settings.LOG.get() or ("human" if os.isatty(_state.stderr) else "json")) == "human":
        line = f"{_state.component}: ERROR: {_state.message}"
    else:
        head = f'"time": {time.time()}, "level": "error", "component": "{_state.component}"'
        line = f'{{{head}, "message": "{_state.message}"}}'
    os.write(_state.stderr, f"{line}\n".encode())
    os._exit(Interrupted.exit_code)


def hear(component: str) -> None:
    """Let the signals end this process with 75, as the first thing that a component does."""
    _state.component = component
    for number in SIGNALS:
        signal.signal(number, _handle)


def begin(component: str) -> None:
    """Let the signals raise Interrupted from here on, but for imports."""
    hear(component)
    _state.raises = True


def end() -> None:
    """Ignore the signals: the exit code is settled."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def received() -> str:
    """Return the message of the signal that came, or nothing: an error behind it is its consequence."""
    return _state.message


def write_last_line_to(descriptor: int) -> None:
    """Name the file descriptor for the line that tells of a signal, while 2 is another file."""
    _state.stderr = descriptor
