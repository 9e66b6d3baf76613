"""The engine that a person names is checked before any work."""

import functools
import socket
from pathlib import Path

import pytest

from components.shared import beam, engines, runlog, storage
from components.shared.errors import DataError, StorageError, UsageError

RUNNER_PATH = "apache_beam.runners.dask.dask_runner.DaskRunner"


@pytest.fixture
def scheduler():
    """A port that takes connections, which is all that is asked before the work."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DaskRunner", "daskrunner", "dask", RUNNER_PATH])
def test_dask_by_its_names(name, scheduler):
    engine = engines.check(name, f"--dask_client_address=tcp://{scheduler}")
    assert engine.runner == "DaskRunner"
    assert engine.address == f"tcp://{scheduler}"
    assert "--dask_partition_size=1" in engine.options


@pytest.mark.slow
def test_the_variable_of_dasks_own_client_names_the_scheduler(scheduler):
    import dask.config

    with dask.config.set({"scheduler-address": f"tcp://{scheduler}"}):
        assert engines.check("DaskRunner", "--dask_npartitions=7") == engines.Engine(
            "DaskRunner", ("--dask_npartitions=7",), f"tcp://{scheduler}"
        )


@pytest.mark.parametrize("runner", [r for r in engines.RUNNERS if r not in ("DaskRunner", "DataflowRunner")])
def test_the_other_runners_are_known(runner):
    options = "" if runner in engines.IN_PROCESS else "--job_endpoint=localhost:1 --parallelism=2"
    engine = engines.check(runner, options)
    assert engine.runner == runner
    if options:
        assert engine.options == tuple(options.split())
    else:
        assert engine.options[1] == f"--direct_num_workers={engines.num_cores()}"


@pytest.mark.parametrize(
    ("runner", "options", "message"),
    [
        ("NoSuchRunner", "", "--runner NoSuchRunner: no such runner. Expected DaskRunner, DataflowRunner"),
        ("", "", "no such runner. Expected DaskRunner"),
        ("no.such.Runner", "", "No module named 'no'"),
        ("apache_beam.Pipeline", "", "not a Beam runner"),
        ("FnApiRunner", "--direct_num_workers=many", "invalid int value: 'many'"),
        ("FnApiRunner", "--direct_num_worker=2", "does not take --direct_num_worker=2"),
        ("FnApiRunner", "2", "FnApiRunner does not take 2"),
        ("FnApiRunner", '--direct_num_workers="2', "No closing quotation"),
        ("DaskRunner", "--dask_client_adress=tcp://h:1", "does not take --dask_client_adress=tcp://h:1"),
        ("DaskRunner", "--dask_client_address=h", "expected tcp://HOST:PORT"),
        ("DaskRunner", "--dask_client_address=http://h:8786", "expected tcp://HOST:PORT"),
        ("DaskRunner", "--dask_client_address=tcp://h:99999", "expected tcp://HOST:PORT"),
        ("DaskRunner", "--dask_scheduler_file=/no/such.json", "--dask_scheduler_file /no/such.json: not there"),
        ("DaskRunner", "--dask_npartitions=2 --dask_partition_size=2", "not allowed with argument"),
        ("DaskRunner", "--direct_num_workers=-1", "--direct_num_workers -1: expected 1 or more"),
    ],
)
def test_what_cannot_work_is_refused(runner, options, message):
    with pytest.raises(UsageError) as refused:
        engines.check(runner, options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_scheduler_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(StorageError, match=f"{address}: no scheduler answers"):
        engines.check("DaskRunner", f"--dask_client_address={address}")


def fail_at(number, bad):
    beam.check_stop()
    if number == bad:
        raise DataError(f"element {number} is bad")
    beam.count(1, seen=1)


@pytest.mark.parametrize("options", ["", "--direct_running_mode=in_memory"])
@pytest.mark.slow
def test_the_error_of_a_task_comes_out_alone(options):
    log = runlog.RunLog("test")
    engine = engines.check("FnApiRunner", options)
    work = functools.partial(fail_at, bad=3)
    with pytest.raises(DataError, match=r"^element 3 is bad$"):
        beam.run(engine, "fail", range(5), work, runlog.Progress(log, 5, "elements"), log)
    progress = runlog.Progress(log, 3, "elements")
    beam.run(engine, "work", range(3), work, progress, log)
    assert progress.done == 3


def test_workers_with_other_code_are_refused():
    work = beam.Work([0, 1], functools.partial(fail_at, bad=3), fail_at.__module__, (), "another digest")
    with pytest.raises(UsageError, match="Start the workers from the same image"):
        work(1)


def test_the_code_of_a_worker_is_all_that_lies_in_its_folders(monkeypatch):
    seen = []
    monkeypatch.setattr(storage, "sha256", lambda path: seen.append(path) or "")
    beam._code_digest.__wrapped__("components.shared.runlog", ())
    folder = Path(beam.__file__).parent
    assert sorted(seen) == sorted(str(path) for path in folder.rglob("*.py"))
    assert str(folder / "storage" / "local.py") in seen
