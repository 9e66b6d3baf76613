"""`alexnet status`, `logs`, `artifacts` and `rerun` for runs of a server and of this machine."""

import json
import os
import subprocess
import sys

import pytest
from conftest import PROJECT_DIR, alexnet
from kfp_server import KfpServer

from components.shared import storage

DONE = ["Succeeded"]
OOM = "Failed: OOMKilled (exit code 137)"


@pytest.fixture
def server(bucket):
    """A server in Argo's configuration of 2.17 with one kind of store, and in the one before with the other."""
    with KfpServer() as running:
        running.root, running.retried = f"{bucket}/kubeflow", bucket.startswith("gs")
        yield running


def start(server, *parameters):
    """Submit a run, look at it once, and return its id."""
    given = parameters or ("release_uri=gs://alexnet/release", "root_uri=gs://alexnet/root")
    flags = [word for parameter in given for word in ("--param", parameter)]
    done = alexnet("submit", "--endpoint", server.url, "--allow-tags", *flags)
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.strip().rpartition("/")[2]
    assert alexnet("status", run_id, "--endpoint", server.url).returncode in (0, 1, 4)
    return run_id


def workflow(server, run_id):
    return server.runs[run_id]["workflow"]


# ---- status ----


@pytest.mark.slow
def test_status_tells_attempts_messages_and_times(server):
    server.script = [("FAILED", {"ingest": DONE, "statistics": "cached", "train": [OOM, OOM]})]
    run_id = start(server)
    done = alexnet("status", f"{server.url}/#/runs/details/{run_id}", "--endpoint", server.url)
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == [f"{server.url}/#/runs/details/{run_id}"]
    assert rows[1] == ["run", run_id, "failed"]
    assert rows[2:4] == [["ingest", "succeeded", "0:45", "tries", "1"], ["statistics", "cached", "0:45", "tries", "-"]]
    assert rows[4] == ["train", "failed", "0:45", "tries", "2", "OOMKilled", "(exit", "code", "137)"]
    assert rows[5][:2] + rows[5][-2:] == ["evaluate", "skipped", "(train", "failed)"]
    assert len(rows) == 6


EXIT_1 = "Failed: main: Error (exit code 1)"
LAUNCHER = "F1126 02:26:48.289148      17 main.go:59] failed to execute component: exit status 2\n"
DRIVER = """I1126 02:16:02.933000      15 driver.go:1] parent DAG
F1126 02:16:02.933285      15 main.go:127] KFP driver: driver.Container(taskName="ingest", componentSpec) failed: \
failed to resolve container args: parameter "seed" not found in executor input
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attempts", "pod", "log", "message"),
    [
        (
            [EXIT_1],
            "ingest",
            '{"level": "error", "message": "no disk"}\n{"level": "info", "message": "bye"}\n' + LAUNCHER,
            "main: Error (exit code 1): no disk",
        ),
        ([EXIT_1], "ingest", LAUNCHER, "main: Error (exit code 1): failed to execute component: exit status 2"),
        ([EXIT_1], "ingest", "nothing that is an error\n", "main: Error (exit code 1)"),
        (
            "driver: main: Error (exit code 1)",
            "ingest-driver",
            DRIVER,
            "driver: main: Error (exit code 1): failed to resolve container args: "
            'parameter "seed" not found in executor input',
        ),
    ],
)
def test_the_reason_of_a_failure_is_read_from_its_log(server, attempts, pod, log, message):
    server.script = [("FAILED", {"ingest": attempts})]
    run_id = start(server)
    server.logs = {workflow(server, run_id).pod(pod): log}
    done = alexnet("status", run_id, "--endpoint", server.url)
    assert done.stdout.splitlines()[2].partition("tries")[2][4:].strip() == message


@pytest.mark.slow
@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("RUNNING", 0), ("FAILED", 1), ("CANCELED", 4)])
def test_status_exits_by_state(server, state, code):
    server.script = [(state, {"ingest": DONE})]
    done = alexnet("status", start(server), "--endpoint", server.url)
    assert done.returncode == code


@pytest.mark.slow
def test_the_networks_of_a_loop_are_told_apart_in_order(server):
    networks = {f"train#{i}": DONE for i in range(11)} | {"train#3": [OOM]}
    server.script = [("FAILED", {"ingest": DONE, **networks, "outcome": DONE})]
    run_id = start(server, "release_uri=gs://a/r", "root_uri=gs://a/b", "num_networks=11")
    done = alexnet("status", run_id, "--endpoint", server.url, "--json")
    tasks = {task["name"]: task["state"] for task in json.loads(done.stdout)["tasks"]}
    assert list(tasks) == ["ingest", "statistics", *(f"train-{i}" for i in range(11)), "evaluate", "outcome"]
    assert tasks["evaluate"] == "skipped"
    assert [name for name, state in tasks.items() if state == "failed"] == ["train-3"]


@pytest.mark.slow
def test_a_run_that_is_nowhere_is_a_usage_error(server, tmp_path):
    done = alexnet("status", "0b1e", "--endpoint", server.url)
    assert (done.returncode, "not found" in done.stderr) == (2, True)
    done = alexnet("status", "0b1e", "--root", tmp_path)
    assert (done.returncode, "--endpoint" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_refusal_is_not_a_missing_run(server):
    server.script = [("RUNNING", {})]
    run_id = start(server)
    server.faults = [("v2beta1/runs", 403, 9)]
    done = alexnet("status", run_id, "--endpoint", server.url)
    assert (done.returncode, "not allowed" in done.stderr) == (1, True)


# ---- logs ----


@pytest.mark.slow
def test_a_log_comes_from_the_pod_of_the_last_attempt(server):
    server.script = [("FAILED", {"ingest": [OOM, OOM]})]
    run_id = start(server)
    server.logs = {workflow(server, run_id).pod("ingest", i): f'{{"message": "attempt {i}"}}\n' for i in (0, 1)}
    done = alexnet("logs", run_id, "ingest", "--endpoint", server.url)
    assert (done.returncode, done.stdout) == (0, '{"message": "attempt 1"}\n')


@pytest.mark.parametrize("suffix", ["-1", ""])  # of Kubeflow since 2.17, and before
@pytest.mark.slow
def test_a_log_outlives_its_pod_as_an_artifact(server, suffix):
    server.script = [("FAILED", {"ingest": [OOM, OOM]})]
    run_id = start(server)
    storage.publish_bytes(b"kept\n", workflow(server, run_id).driver.uri("ingest", "executor-logs") + suffix)
    done = alexnet("logs", run_id, "--endpoint", server.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("==> ingest <==\nkept\n==> statistics <==\nskipped; nothing ran\n")


@pytest.mark.slow
def test_a_log_that_is_gone_is_said_to_be(server):
    server.script = [("FAILED", {"ingest": DONE, "statistics": DONE, "train": [OOM]})]
    run_id = start(server)
    server.logs = {workflow(server, run_id).pod(task): "still here\n" for task in ("statistics", "train")}
    done = alexnet("logs", run_id, "--endpoint", server.url)
    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert workflow(server, run_id).driver.uri("ingest", "executor-logs").rpartition("/")[0] in done.stderr
    assert done.stdout.count("still here") == 2
    assert alexnet("logs", run_id, "never", "--endpoint", server.url).returncode == 2


@pytest.mark.slow
def test_through_the_ui_server_a_log_comes_by_its_own_route(server):
    server.script, server.through_ui = [("FAILED", {"ingest": [OOM, OOM]})], True
    run_id = start(server)
    server.logs = {workflow(server, run_id).pod("ingest", i): f"attempt {i}\n" for i in (0, 1)}
    done = alexnet("logs", run_id, "ingest", "--endpoint", server.url)
    assert (done.returncode, done.stdout) == (0, "attempt 1\n"), done.stderr
    server.logs = {}
    done = alexnet("logs", run_id, "ingest", "--endpoint", server.url)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "404: Error Cannot GET /apis/v1alpha1" in line
    assert "500 Could not get main container logs" in line
    assert "ingest/" in line  # where a copy would be


# ---- artifacts ----


@pytest.mark.slow
def test_artifacts_are_listed_with_what_is_known_and_downloaded(server, tmp_path):
    server.script = [("FAILED", {"ingest": DONE, "statistics": [OOM]})]
    server.metadata = {"dataset": {"num_classes": 8}}  # what statistics was told of it
    run_id = start(server)
    made = workflow(server, run_id)
    storage.publish_bytes(b'{"manifest": 1}', made.driver.uri("ingest", "dataset"))
    done = alexnet("artifacts", run_id, "--endpoint", server.url, "--out", tmp_path)
    assert done.returncode == 1  # the summary is not in the bucket
    [first] = [line.split(None, 3) for line in done.stdout.splitlines() if line.startswith("ingest/dataset")]
    assert first == ["ingest/dataset", "Dataset", made.driver.uri("ingest", "dataset"), '{"num_classes": 8}']
    assert (tmp_path / "ingest" / "dataset").read_bytes() == b'{"manifest": 1}'
    assert "ingest/summary" in done.stderr
    assert "statistics/" not in done.stdout  # of a task that failed nothing was published


@pytest.mark.slow
def test_metrics_have_the_numbers_of_their_file(server):
    server.script = [("FAILED", {"train": DONE, "evaluate": [OOM]})]
    run_id = start(server)
    storage.publish_bytes(b'{"top1_error": 0.875}', workflow(server, run_id).driver.uri("train", "metrics"))
    done = alexnet("artifacts", run_id, "train", "--endpoint", server.url)
    assert (done.returncode, '{"top1_error": 0.875}' in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_what_the_cache_had_is_found_by_who_was_given_it(server):
    networks = {"train#0": DONE, "train#1": "cached"}
    server.script = [("FAILED", {"ingest": "cached", "statistics": "cached", **networks, "evaluate": [OOM]})]
    run_id = start(server, "release_uri=gs://a/r", "root_uri=gs://a/b", "seeds=[3,4]")
    done = alexnet("artifacts", run_id, "--endpoint", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    uris = dict(line.split()[:3:2] for line in done.stdout.splitlines())
    made = workflow(server, run_id).driver
    assert uris["ingest/summary"] == made.uri("ingest", "summary")
    assert [uris[f"train-{i}/model"] for i in (0, 1)] == [made.uri(f"train#{i}", "model") for i in (0, 1)]
    assert uris["train-1/report"] == made.uri("train#1", "report")


# ---- a run of this machine ----


@pytest.fixture
def failed_run(tmp_path):
    """A local run that failed at its first task: an empty release."""
    release = tmp_path / "release"
    release.mkdir()
    done = alexnet("run", "--release", release, "--root", tmp_path / "root", "--json")
    release.joinpath("x").write_text("")
    done = alexnet("run", "--release", release, "--root", tmp_path / "root", "--json")
    return json.loads(done.stdout)["run_id"], tmp_path / "root"


@pytest.mark.slow
def test_local_runs_have_a_status_and_logs_too(failed_run):
    run_id, root = failed_run
    done = alexnet("status", run_id, "--root", root)
    assert done.returncode == 1, done.stderr
    assert f"run {run_id} failed" in done.stdout
    assert "ILSVRC2010_devkit" in done.stdout or "exit code 65" in done.stdout
    done = alexnet("logs", run_id, "ingest", "--root", root)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["level"] == "error"
    assert alexnet("artifacts", run_id, "ingest", "--root", root).stdout == ""


# ---- rerun ----


def perform(server, run_id, task, folder):
    """Do what a pod does: run a task with its executor input, then upload what it wrote."""
    given = workflow(server, run_id).driver.executor_input(task)
    given["outputs"]["outputFile"] = str(folder / "executor_output.json")
    words = [sys.executable, "-m", f"components.{task}", "--executor-input", json.dumps(given)]
    _, component = workflow(server, run_id).driver.entry(task)
    for name, value in given["inputs"]["parameterValues"].items():
        flag = "--" + name.replace("_", "-")
        is_whole = component["inputDefinitions"]["parameters"][name]["parameterType"] == "NUMBER_INTEGER"
        words += [flag, str(int(value) if is_whole else value)]
    outputs = {n: entry["artifacts"][0]["uri"] for n, entry in given["outputs"]["artifacts"].items()}
    del outputs["executor-logs"]
    for name in outputs:
        words += ["--" + name, str(folder / name)]
    subprocess.run(words, check=True, cwd=PROJECT_DIR, capture_output=True)
    for name, uri in outputs.items():
        storage.publish_file(folder / name, uri)


@pytest.mark.slow
def test_a_task_of_a_cluster_runs_again_here(server, bucket, sample_release, tmp_path):
    server.script = [("RUNNING", {"ingest": DONE, "statistics": [OOM]})]
    subset = "subset=classes=2,per_class=8,seed=0"
    run_id = start(server, f"release_uri={sample_release}", f"root_uri={bucket}/root", subset)
    perform(server, run_id, "ingest", tmp_path)
    here = ("--root", tmp_path / "here", "--runner", "process")
    # ---- by the server ----
    done = alexnet("rerun", run_id, "ingest", "--endpoint", server.url, *here)
    assert done.returncode == 0, done.stderr
    assert "parameters: the same" in done.stdout
    assert "output dataset: the same" in done.stdout
    # ---- by what the step left under its root, without a server ----
    done = alexnet("rerun", run_id, "ingest", "--root", f"{bucket}/root", "--runner", "process", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "output dataset: the same" in done.stdout
    # ---- a task with inputs ----
    done = alexnet("rerun", run_id, "statistics", "--endpoint", server.url, *here)
    assert done.returncode == 0, done.stderr
    assert "output statistics: nothing to compare with" in done.stdout
    assert list((tmp_path / "here" / "cluster" / run_id / "statistics" / "inputs").iterdir())


@pytest.mark.slow
def test_what_cannot_be_run_again_is_refused(server, tmp_path):
    server.script = [("FAILED", {"ingest": "cached", "statistics": "driver: no such secret"})]
    run_id = start(server)
    here = ("--endpoint", server.url, "--root", tmp_path)
    for task, expected in (("statistics", "--root"), ("ingest", "cache"), ("never", "ingest"), ("", "which TASK")):
        done = alexnet("rerun", run_id, *([task] if task else []), *here)
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr
    server.script = [("FAILED", {"train": [OOM]})]
    done = alexnet("rerun", run_id, "train", "--runner", "process", *here)
    assert done.returncode == 1  # its inputs were never made
    assert f"{run_id}/ingest/" in done.stderr


@pytest.mark.slow
def test_the_records_of_a_loop_are_told_apart_by_what_differs(tmp_path):
    run_id = "3f2c9a41-7d5e-4b0c-9a77-0d8f6f1c2b3a"
    status = {"state": "COMPLETE"}
    for epochs, attempt in ((1, 0), (2, 0), (2, 1)):
        place = f"gs://b/alexnet/{run_id}/outcome/salt-{epochs}"
        uris = {"summary": f"{place}/summary", "executor-logs": f"{place}/executor-logs-{attempt}"}
        values = {"status": status, "run_id": run_id, "root_uri": str(tmp_path), "num_epochs": epochs, "seeds": [0]}
        values |= dict.fromkeys(["run_name", "release_uri", "release_fingerprint", "subset", "recipe"], "")
        kind = {"schemaTitle": "system.Markdown"}
        outputs = {n: {"artifacts": [{"name": n, "uri": uri, "type": kind}]} for n, uri in uris.items()}
        given = {"inputs": {"parameterValues": values}, "outputs": {"artifacts": outputs}}
        words = ["--status", json.dumps(status), "--run-id", run_id, "--root-uri", tmp_path / "root"]
        words += ["--seeds", "[0]", "--summary", tmp_path / "s.md", "--executor-input", json.dumps(given)]
        pod = {**os.environ, "KFP_POD_NAME": f"pod-{epochs}-{attempt}"}
        command = [sys.executable, "-m", "components.outcome", *map(str, words)]
        subprocess.run(command, check=True, cwd=PROJECT_DIR, env=pod)
    assert len(list((tmp_path / "root" / "tasks").rglob("pod-*.json"))) == 3
    here = ("--root", tmp_path / "root", "--runner", "process")
    done = alexnet("rerun", run_id, "outcome", *here)
    assert (done.returncode, "outcome-num_epochs-1, outcome-num_epochs-2" in done.stderr) == (2, True), done.stderr
    done = alexnet("rerun", run_id, "outcome-num_epochs-2", *here)
    assert done.returncode == 0, done.stderr
    assert "parameters: the same" in done.stdout
