"""Work that is mapped over a Beam engine.

`run` applies a function to many small elements, each of which publishes what it makes under the root, so that one
shape of pipeline serves every engine: no shuffle, one final collection, and nothing large between two steps. Beam
itself sees only the elements' numbers: its timed flush cuts an element in half that takes Python code to encode.
"""

# pyright: standard
# (not strict: its libraries have no complete types)

import asyncio
import concurrent.futures
import contextlib
import functools
import platform
import re
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from components.shared import engines, errors, manifest, storage
from components.shared.errors import AlexNetError, Interrupted, StorageError, UsageError
from components.shared.runlog import Progress, RunLog

STOP_SECONDS = 20  # an engine has so long to stop; Kubernetes kills a pod after 30


class _Driver:
    """State of the submitting process, which tasks share when they run in it; elsewhere nothing reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset(None)

    def reset(self, progress: Progress | None) -> None:
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.progress = progress
        self._totals: dict[str, int] = {}

    def count(self, num: int, fields: dict[str, int]) -> None:
        with self._lock:
            for name, value in fields.items():
                self._totals[name] = self._totals.get(name, 0) + value
            if self.progress:
                self.progress.update(self.progress.done + num, **self._totals)


_driver = _Driver()


def count(num: int, **fields: int) -> None:
    """Tell the progress, where there is one in this process, that so much more is done."""
    _driver.count(num, fields)


def check_stop() -> None:
    """Raise Interrupted if this is the submitting process and it received a stop signal."""
    if _driver.stop.is_set():
        raise Interrupted("stopped by a signal. The same command resumes the work")


@functools.cache
def _code_digest(module: str, packages: tuple[str, ...]) -> str:
    """Identify the code that a function of `module` runs: the sources in its folder and in this one, and versions."""
    folders = {Path(__file__).parent, Path(str(sys.modules[module].__file__)).parent}
    return manifest.digest_of(
        {
            "python": platform.python_version_tuple()[:2],
            "packages": {package: metadata.version(package) for package in packages},
            "sources": [
                [path.relative_to(folder).as_posix(), storage.sha256(str(path))]
                for folder in sorted(folders)
                for path in sorted(folder.rglob("*.py"))
            ],
        }
    )


@dataclass(frozen=True)
class Work:
    """What a worker does with the number of an element."""

    elements: Sequence[Any]
    function: Callable[[Any], Any]
    module: str
    packages: tuple[str, ...]
    code: str

    def __call__(self, number: int) -> None:
        try:
            if _code_digest(self.module, self.packages) != self.code:
                raise UsageError(
                    f"--runner: worker {socket.gethostname()} holds other code or packages than this process. "
                    "Start the workers from the same image"
                )
            check_stop()
            self.function(self.elements[number])
        except AlexNetError as error:
            if _driver.progress is None:
                raise
            # Beam would print pages of tracebacks and turn the error into text; the driver raises this one.
            _driver.failures.append(error)
            _driver.stop.set()


def build(
    runner: str,
    options: Sequence[str],
    label: str,
    elements: Sequence[Any],
    function: Callable[[Any], Any],
    packages: tuple[str, ...] = (),
) -> Any:
    """Build the `beam.Pipeline` of `run`, without running it; arguments as there.

    Raises:
        UsageError: the options are not enough for the runner.
    """
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

    module = getattr(function, "func", function).__module__  # of a partial
    work = Work(elements, function, module, packages, _code_digest(module, packages))
    try:
        pipeline = apache_beam.Pipeline(
            runner=engines.DASK if runner == "DaskRunner" else runner, options=PipelineOptions(list(options))
        )
    except ValueError as error:
        raise UsageError(f"--runner {runner}: {error}") from error
    _ = (
        pipeline
        | f"{label}: elements" >> apache_beam.Create(range(len(elements)))
        | f"{label}: spread" >> apache_beam.Reshuffle()  # else one worker would get all
        | label >> apache_beam.Map(work)
    )
    return pipeline


def run(
    engine: engines.Engine,
    label: str,
    elements: Sequence[Any],
    function: Callable[[Any], Any],
    progress: Progress,
    log: RunLog,
    packages: tuple[str, ...] = (),
) -> None:
    """Apply a function to each element by a Beam pipeline.

    Args:
        engine: from `engines.check`.
        label: name of the step, on the engine's page.
        elements: small values. A worker receives all of them with the function, then one index at a time.
        function: what a worker does with an element: a function of a module or a partial of one. What it makes it
            publishes; it may run twice. It calls `count` and `check_stop`.
        progress: counts where the workers live in this process.
        log: names the engine's workers.
        packages: those whose versions decide what is made; workers with others are refused.

    Raises:
        AlexNetError: what the function raised.
        StorageError: the engine or its workers are lost.
        Interrupted: by a signal; what is finished stays.
    """
    _driver.reset(progress)
    finished = threading.Event()
    results: list[Any] = []

    def work() -> None:
        try:
            with engines.workers(engine) as options, contextlib.ExitStack() as cleanup:
                results.append(build(engine.runner, options, label, elements, function, packages).run())
                if client := getattr(results[0], "client", None):  # Dask's; Beam leaves it open
                    cleanup.callback(client.close)
                    _log_workers(client, log)
                if _driver.stop.is_set():
                    results[0].cancel()
                results[0].wait_until_finish()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed to the main thread, see below
            _driver.failures.append(error)
        finally:
            finished.set()

    # Beam runs beside the main thread, which alone hears signals; a second one ends at once.
    threading.Thread(target=work, name="beam", daemon=True).start()
    try:
        finished.wait()
    finally:  # not Thread.join: interrupted once, it takes the thread for finished
        _driver.stop.set()
        if results and not finished.is_set():
            with contextlib.suppress(Exception):
                results[0].cancel()
        finished.wait(STOP_SECONDS)
    failures = _driver.failures
    _driver.reset(None)
    if failures:
        explained = _explain(failures[0], engine)
        if explained is failures[0]:
            raise explained
        raise explained from failures[0]


def _log_workers(client: Any, log: RunLog) -> None:
    """Say how many workers Dask has, since with none it waits for the first without a word."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    say = log.info if workers else log.warning
    say("dask workers", num_workers=len(workers), num_threads=sum(worker["nthreads"] for worker in workers))


def _explain(failure: BaseException, engine: engines.Engine) -> BaseException:
    """Find our own error in what an engine reports, or say in one line that the engine failed."""
    link: BaseException | None = failure
    while link:
        if isinstance(link, AlexNetError):
            return link
        if isinstance(link, ModuleNotFoundError):
            return UsageError(f"--runner {engine.runner}: {link} on a worker. Start the workers from the same image")
        link = link.__cause__
    found = re.search(r"^components\.shared\.errors\.(\w+): (.*?)( \[while running .*\])?$", str(failure), re.MULTILINE)
    if found:
        return getattr(errors, found[1])(found[2])
    lost = isinstance(failure, OSError | asyncio.CancelledError | concurrent.futures.CancelledError)
    if lost or type(failure).__module__.startswith(("distributed.", "grpc")):
        reason = " ".join(str(failure).split())[:500] or type(failure).__name__
        return StorageError(
            f"--runner {engine.runner}: the engine or its workers are lost ({reason}). "
            "What is finished stays; when the engine is there, with enough memory for its workers, run again"
        )
    return failure
