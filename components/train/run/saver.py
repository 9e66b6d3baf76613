"""Checkpoints in the background: a thread writes while steps go on, and the measured cost limits how often.

A component on Kubeflow gets no time to save when its pod is deleted (docs/explain/decisions.md), so whatever was
trained since the last checkpoint is lost there.
"""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from components.shared import runlog
from components.shared.errors import Interrupted

MAX_SHARE = 0.02  # of the time, for all that checkpoints cost
COSTS_KEPT, STEPS_KEPT = 5, 100
LAST_WRITE_SECONDS = 300.0  # longer than any retry of a storage that is alive


class Saver:
    """Writes one checkpoint at a time in a thread. All methods belong to the thread that trains.

    The cost of a checkpoint is the time of the snapshot, when no step runs, and the time by which the steps beside the
    write were longer than steps without one: median against median, because single steps vary.

    Args:
        minutes: time between checkpoints, longer where they would cost more than 2 % of it; 0: one after every step.
        log: for what each of them cost.
    """

    def __init__(self, minutes: float, log: runlog.RunLog) -> None:
        self.minutes, self.log = minutes, log
        self.thread: threading.Thread | None = None  # of the write in progress
        self.error: BaseException | None = None  # that ended it
        self.step = 0
        self.snapshot_seconds = self.write_seconds = self.total_cost = 0.0
        self.costs: deque[float] = deque(maxlen=COSTS_KEPT)  # seconds
        self.quiet_steps: deque[float] = deque(maxlen=STEPS_KEPT)  # seconds
        self.steps_beside: list[float] = []  # seconds
        self.begin = self.last_snapshot = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the write in progress end, whatever ended the training, unless a second signal came.

        A write that hangs, as on a dead mount, is abandoned after five minutes, so that the cause is reported.
        """
        if self.thread and not (kind and issubclass(kind, Interrupted)):
            self.thread.join(LAST_WRITE_SECONDS)
            if self.thread.is_alive():
                self.log.warning(f"the last checkpoint was not written in {LAST_WRITE_SECONDS:.0f} s")
            elif self.error:
                self.log.warning(f"the last checkpoint was not written: {self.error}")

    def interval(self) -> float:
        """Return the seconds from one checkpoint to the next."""
        longest = statistics.mean(self.costs) / MAX_SHARE if self.costs and self.minutes else 0.0
        return max(60 * self.minutes, longest)

    def due(self) -> bool:
        """Tell whether it is time for the next checkpoint."""
        if not self.minutes:
            return True
        return self.thread is None and time.monotonic() - self.last_snapshot >= self.interval()

    def step_ended(self, seconds: float) -> None:
        """Note the time of a step; raises what a write raised that has ended since."""
        if not self.thread:
            self.quiet_steps.append(seconds)
            return
        self.steps_beside.append(seconds)
        if not self.thread.is_alive():
            self.finish()

    def start(self, step: int, snapshot: Callable[[], Callable[[], None]]) -> None:
        """Take a snapshot and write it in the background, after the write before it.

        Args:
            step: steps done.
            snapshot: copies whatever a later step changes, and returns the function that writes the copy.
        """
        self.finish()
        self.step, self.last_snapshot = step, time.monotonic()
        write = snapshot()
        self.snapshot_seconds = time.monotonic() - self.last_snapshot
        # A daemon: a write that hangs must not keep the process from ending after a second signal.
        self.thread = threading.Thread(target=self._work, args=(write,), name="checkpoint", daemon=True)
        self.thread.start()

    def _work(self, write: Callable[[], None]) -> None:
        start = time.monotonic()
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - raised again by `finish`
            self.error = error
        self.write_seconds = time.monotonic() - start

    def finish(self) -> None:
        """Wait for the write in progress, if there is one; raises what it raised."""
        if not self.thread:
            return
        self.thread.join()
        self.thread = None
        if self.error:
            raise self.error
        slower = 0.0
        if self.quiet_steps and self.steps_beside:
            slower = statistics.median(self.steps_beside) - statistics.median(self.quiet_steps)
        cost = self.snapshot_seconds + max(0.0, slower) * len(self.steps_beside)
        self.costs.append(cost)
        self.total_cost += cost
        self.log.info(
            "cost of a checkpoint",
            step=self.step,
            checkpoint_ms=round(1000 * cost, 1),
            snapshot_ms=round(1000 * self.snapshot_seconds, 1),
            write_ms=round(1000 * self.write_seconds, 1),
            steps_beside=len(self.steps_beside),
            share=round(self.total_cost / (time.monotonic() - self.begin), 5),
            next_seconds=round(self.interval(), 1),
        )
        self.steps_beside = []
