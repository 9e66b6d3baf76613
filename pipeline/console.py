"""What a person sees while tasks run: a live table on a terminal, a line now and then elsewhere."""

import json
import sys
import time
from typing import TYPE_CHECKING, TextIO

from components.shared import runlog, settings
from pipeline.progress import GAP, TITLES, Row, columns_for, epoch_line

if TYPE_CHECKING:  # rich takes time to import, so it is loaded for a live table only
    from rich.console import RenderableType
    from rich.live import Live

QUIET_SECONDS = 10.0


class Console:
    """Shows tasks: a row each on a terminal, lines at most every ten seconds in a log.

    As a context manager it leaves the terminal as it was, whatever happens.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        dumb = settings.TERM.get().lower() in ("dumb", "unknown")
        self._terminal = self._stream.isatty() and not dumb
        self._last = time.monotonic()
        self._rows: dict[str, Row] = {}
        self._live: Live | None = None

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.clear()
        self._show()

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._live:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()
        self._last = time.monotonic()

    def status(self, task: str, text: str) -> None:
        """Show what a task is doing."""
        self._rows.setdefault(task, Row(task, text)).text = text
        self._show()
        self._now_and_then(task, text)

    def finish(self, task: str, text: str = "") -> None:
        """Take the row of a task away; a text is printed in its place."""
        self._rows.pop(task, None)
        self._show()
        if text:
            self.line(f"{task:<12} {text}")

    def entry(self, task: str, raw: str) -> dict[str, str] | None:
        """Show one line of a task's log if it says something to a person.

        Returns:
            The decoded entry when the line is one of `runlog`, else None.
        """
        row = self._rows.setdefault(task, Row(task, "starting"))
        try:
            entry = json.loads(raw)
            text = runlog.format_human(entry).partition(": ")[2]
            row.update(entry)
            line = f"{task:<12} {text}" if entry["level"] == "warning" else ""
            if entry["message"] == "epoch ended":
                width = self._live.console.width if self._live else None
                line = epoch_line(task, row.fields, width)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        self._show()
        if line:
            self.line(line)
        else:
            self._now_and_then(task, text)
        return entry

    def _now_and_then(self, task: str, text: str) -> None:
        """Print a line where there is no table, if none was printed for a while."""
        if not self._terminal and time.monotonic() - self._last >= QUIET_SECONDS:
            self.line(f"{task:<12} {text}")

    def _show(self) -> None:
        """Start or stop the live table, which is there as long as there are rows."""
        if self._terminal and self._rows and not self._live:
            from rich.console import Console as Terminal
            from rich.live import Live

            self._live = Live(
                get_renderable=self._table,
                console=Terminal(file=self._stream, force_terminal=True),
                transient=True,
                redirect_stdout=False,  # it may be a file
                redirect_stderr=False,
            )
            self._live.start()
        elif self._live and not self._rows:
            live, self._live = self._live, None
            try:
                live.stop()
            finally:
                live.console.show_cursor(True)  # also where Ctrl-C came in between

    def _table(self) -> "RenderableType":
        """Lay out the rows: a table of those that count, and a text for each other one."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = list(self._rows.values())
        counted = [(row, row.cells()) for row in rows if not row.text]
        texts = [Text(f"{row.task:<12} {row.text}") for row in rows if row.text]
        if not counted or not self._live:
            return Group(*texts)
        # A terminal writes ^C behind the table: on a line of its own it would leave a part behind.
        width = self._live.console.width - len("^C") - 1
        widths = columns_for([cells for _, cells in counted], width)
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
        for name, width in widths.items():
            right = "right" if name in ("percent", "left", "elapsed") else "left"
            table.add_column(TITLES[name], width=width, no_wrap=True, justify=right)
        for row, cells in counted:
            bar = ProgressBar(total=1.0, completed=min(row.share, 1.0), width=widths.get("bar"))
            table.add_row(*(bar if name == "bar" else cells.get(name, "") for name in widths))
        return Group(table, *texts)
