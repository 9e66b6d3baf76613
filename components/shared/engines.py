"""The engine that a person names, as a Beam runner with its options, checked before any work.

Beam and Dask take seconds to import, so only the functions do it.
"""

# pyright: standard
# (not strict: its libraries have no complete types)

import contextlib
import io
import logging
import re
import shlex
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from components.shared import storage
from components.shared.errors import StorageError, UsageError

DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"  # Beam has no short name for it
RUNNERS = ("DaskRunner", "DataflowRunner", "DirectRunner", "FlinkRunner", "FnApiRunner")
RUNNERS += ("PortableRunner", "PrismRunner", "SparkRunner")
IN_PROCESS = ("DirectRunner", "FnApiRunner")
OWN_OPTIONS = (*IN_PROCESS, "DaskRunner")  # all that they take is known here; others ask a server for the rest
ADDRESS = re.compile(r"(?:(?:tcp|tls)://)?(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})")
CONNECT_SECONDS = 10
LOCAL_WORKER_BYTES = 2 << 30


@dataclass(frozen=True)
class Engine:
    """A Beam runner and its options, checked."""

    runner: str  # one of RUNNERS, or the full path of a class
    options: tuple[str, ...]
    address: str = ""  # of Dask's scheduler; empty: workers of this machine, or another runner


def num_cores() -> int:
    """Count the cores that this process may use, by its affinity and its container's quota."""
    from dask.system import cpu_count

    return cpu_count()


def check(runner: str, runner_options: str) -> Engine:
    """Check an engine before any work.

    Args:
        runner: one of RUNNERS, in any case and with or without "Runner", or the full path of a runner's class.
        runner_options: its options, as on a command line; empty: the cores of this machine.

    Raises:
        UsageError: the runner or an option is unknown, ill-typed or missing.
        StorageError: nothing answers at the address of Dask's scheduler.
    """
    for talker in ("apache_beam", "distributed"):
        logging.getLogger(talker).setLevel(logging.CRITICAL)  # failures are reported here, in one line
    name, created = _create(runner)
    try:
        words = shlex.split(runner_options)
    except ValueError as error:
        raise UsageError(f"--runner-options {runner_options}: {error}") from error
    if name in IN_PROCESS and not words:
        words = ["--direct_running_mode=multi_threading", f"--direct_num_workers={num_cores()}"]
    chosen = _parse(name, words, created)
    if name != "DaskRunner":
        return Engine(name, tuple(words))
    if not (chosen["npartitions"] or chosen["partition_size"]):
        words.append("--dask_partition_size=1")  # the runner's own 128 would leave most workers idle
    address = _dask_address(chosen)
    if not address and not any(word.startswith("--direct_num_workers") for word in words):
        words.append(f"--direct_num_workers={num_cores()}")
    elif not address and chosen["direct_num_workers"] < 1:
        raise UsageError(f"--direct_num_workers {chosen['direct_num_workers']}: expected 1 or more")
    return Engine(name, tuple(words), address)


def _create(runner: str) -> tuple[str, Any]:
    """Find a runner by its name; errors as `check`."""
    from apache_beam.runners.runner import PipelineRunner, create_runner

    by_name = {known.lower(): known for known in RUNNERS}
    short = runner.rpartition(".")[2].lower() if runner.startswith("apache_beam.") else runner.lower()
    name = by_name.get(short) or by_name.get(f"{short}runner") or runner
    try:
        if name not in RUNNERS and "." not in name:
            raise ValueError("no such runner")
        created = create_runner(DASK if name == "DaskRunner" else name)
        if not isinstance(created, PipelineRunner):
            raise ValueError("not a Beam runner")
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise UsageError(
            f"--runner {runner}: {error}. Expected {', '.join(RUNNERS)}, or the full path of a runner's class"
        ) from error
    return name, created


def _parse(name: str, words: list[str], runner: Any) -> dict[str, Any]:
    """Parse the options by Beam's own parser, and refuse what it would silently drop; errors as `check`."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    parsers: list[Any] = []
    chosen: dict[str, Any] = {}
    options = PipelineOptions([f"--runner={name}", *words])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # argparse writes pages there
            chosen = options.get_all_options(add_extra_args_fn=parsers.append)
            unknown = parsers[0].parse_known_args(words)[1]
            problems = PipelineOptionsValidator(options, runner).validate()
    except SystemExit:
        problems = [said.getvalue().strip().rpartition("error: ")[2]]
    else:
        if unknown and name in OWN_OPTIONS:
            problems.append(f"{name} does not take {' '.join(unknown)}")
    if problems:
        reasons = "; ".join(" ".join(problem.split()) for problem in problems)
        raise UsageError(f"--runner {name}: --runner-options: {reasons}")
    return chosen


def _dask_address(chosen: dict[str, Any]) -> str:
    """Find where Dask's scheduler is, as Dask's client does; errors as `check`."""
    import dask.config
    import distributed  # noqa: F401 - its part of the configuration

    if file := chosen["scheduler_file"]:
        if not storage.exists(file):
            raise UsageError(f"--dask_scheduler_file {file}: not there. The scheduler writes it when it starts")
        return f"file {file}"
    address = chosen["address"] or dask.config.get("scheduler-address", None) or ""
    found = ADDRESS.fullmatch(address)
    if address and (not found or int(found[2]) > 65535):
        raise UsageError(f"--dask_client_address {address}: expected tcp://HOST:PORT or tls://HOST:PORT")
    if found:
        try:
            socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise StorageError(
                f"--dask_client_address {address}: no scheduler answers ({error}). Start one, or check host and port"
            ) from error
    return address


@contextlib.contextmanager
def workers(engine: Engine) -> Generator[list[str]]:
    """Yield the options to run with; workers of this machine are started for Dask when no scheduler is named."""
    if engine.runner != "DaskRunner" or engine.address:
        yield list(engine.options)
        return
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    words = list(engine.options)
    num_workers = PipelineOptions(words).view_as(DirectOptions).direct_num_workers
    num_bytes = min(LOCAL_WORKER_BYTES, MEMORY_LIMIT // num_workers)
    settings: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    cluster = LocalCluster(n_workers=num_workers, threads_per_worker=1, memory_limit=num_bytes, **settings)
    with contextlib.closing(cluster):
        yield [*words, f"--dask_client_address={cluster.scheduler_address}"]
