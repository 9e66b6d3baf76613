"""Dask on loopback, as processes that a test may kill, and the components that use engines, as a person runs them."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from components.shared import manifest

PROJECT_DIR = Path(__file__).parents[1]
PATIENCE_SECONDS = 600


def ingest_command(release, folder, *flags):
    command = [sys.executable, "-m", "components.ingest", f"--release-uri={release}", f"--root-uri={folder}/root"]
    return [*command, f"--dataset={folder}/dataset.json", f"--summary={folder}/ingest.md", *flags]


def statistics_command(dataset_path, folder, *flags):
    command = [sys.executable, "-m", "components.statistics", f"--dataset={dataset_path}", f"--root-uri={folder}/root"]
    return [*command, f"--statistics={folder}/statistics.json", f"--summary={folder}/statistics.md", *flags]


def finish(command):
    return subprocess.run(
        command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


def ingest(release, folder, *flags):
    done = finish(ingest_command(release, folder, *flags))
    assert done.returncode == 0, done.stderr[-3000:]
    return manifest.load(f"{folder}/dataset.json", "dataset")


def statistics(dataset_path, folder, *flags):
    done = finish(statistics_command(dataset_path, folder, *flags))
    assert done.returncode == 0, done.stderr[-3000:]
    return manifest.load(f"{folder}/statistics.json", "statistics")


def wait_for(condition, what, process):
    """Return what the condition gives as soon as that is true, while the process runs that brings it about."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert process.poll() is None, f"{what} does not come: the process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{what} does not come"
        time.sleep(0.005)
    return found


@contextlib.contextmanager
def started(command):
    """Run a component beside the test, which may send it signals."""
    process = subprocess.Popen(command, cwd=PROJECT_DIR, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _address(scheduler_file):
    with contextlib.suppress(ValueError):  # half written
        return json.loads(scheduler_file.read_text())["address"]
    return None


@contextlib.contextmanager
def dask_cluster(folder, num_workers=2, nanny=False):
    """Run a scheduler and workers of one thread each.

    Yields:
        The flags that name the scheduler, and the scheduler's process.
    """
    folder.mkdir()
    scheduler_file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    scheduler = ["scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={scheduler_file}"]
    worker = ["worker", f"--scheduler-file={scheduler_file}", "--host=127.0.0.1", "--nthreads=1", "--no-dashboard"]
    worker += ["--memory-limit=2GiB", f"--local-directory={folder}", "--nanny" if nanny else "--no-nanny"]
    with contextlib.ExitStack() as cleanup:
        log = cleanup.enter_context((folder / "dask.log").open("wb"))
        processes = []
        for command in (scheduler, *[worker] * num_workers):
            # The component's own folder, as in its image: nothing else tells the workers where the code is.
            process = subprocess.Popen([*dask, *command], cwd=PROJECT_DIR, stdout=log, stderr=log)
            cleanup.callback(process.wait)
            cleanup.callback(process.terminate)  # before the wait: callbacks run last in, first out
            processes.append(process)
            wait_for(scheduler_file.exists, "the scheduler", process)
        address = wait_for(lambda: _address(scheduler_file), "the address", processes[0])
        wait_for(
            lambda: (folder / "dask.log").read_bytes().count(b"Registered to:") == num_workers, "a worker", process
        )
        yield ["--runner=DaskRunner", f"--runner-options=--dask_client_address={address}"], processes[0]
