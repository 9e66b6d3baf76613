"""What our readers make of the answers of a genuine Kubeflow Pipelines 2.17.0."""

import json

import kubeflow_recordings
import pytest
from kubeflow_recordings import PLAIN, RETRIED, Replay, recording, run_answers

from components.shared.errors import StorageError
from pipeline.commands import alexnet, submit
from pipeline.kubeflow import logs, runs
from pipeline.kubeflow.client import Client

OMITTED = "omitted: depends condition not met"
DRIVER = "driver: main: Error (exit code 1)"
CACHED = [("ingest", "cached", 0, ""), ("statistics", "cached", 0, "")]
NO_GPUS = "main: Error (exit code 1)"
BOTH = f"{OMITTED} (train-0, train-1 failed)"
ROWS = {
    "run-succeeded": [(name, "succeeded", 1, "") for name in ("ingest", "statistics", "train", "evaluate", "outcome")],
    "run-cached": [*CACHED, ("train", "cached", 0, ""), ("evaluate", "cached", 0, ""), ("outcome", "succeeded", 1, "")],
    "run-failed-not-retried": [
        *CACHED,
        ("train", "failed", 1, NO_GPUS),
        ("evaluate", "skipped", 0, f"{OMITTED} (train failed)"),
        ("outcome", "succeeded", 1, ""),
    ],
    "run-driver-failed": [
        ("ingest", "failed", 0, DRIVER),
        *((name, "skipped", 0, f"{OMITTED} (ingest failed)") for name in ("statistics", "train", "evaluate")),
        ("outcome", "succeeded", 1, ""),
    ],
    "run-cancelled": [
        *CACHED,
        ("train-0", "failed", 1, NO_GPUS),
        ("train-1", "failed", 1, NO_GPUS),
        ("evaluate", "skipped", 0, BOTH),
        ("outcome", "succeeded", 1, ""),
    ],
    "run-two-seeds-evaluate-running": [
        *((name, "succeeded", 1, "") for name in ("ingest", "statistics", "train-0", "train-1")),
        ("evaluate", "pending", 1, ""),
    ],
}
ROWS["run-driver-failed-without-template-defaults"] = ROWS["run-driver-failed"]
ROWS["run-terminating"] = [*ROWS["run-cancelled"][:-1], ("outcome", "pending", 0, "")]
STATES = {"run-cancelled": "cancelled", "run-terminating": "cancelling", "run-two-seeds-evaluate-running": "running"}
STATES |= {"run-succeeded": "succeeded", "run-cached": "succeeded", "run-pending": "pending"}


def command(words):
    arguments = alexnet.parser().parse_args(words)
    return arguments.action(arguments)


def view_of(name, has_v1=True):
    run_id, answers = run_answers(name, has_v1)
    with Replay(answers) as server:
        return runs.remote(Client(server.url), run_id)


@pytest.fixture(scope="module", params=RETRIED + PLAIN)
def recorded(request):
    return request.param, view_of(request.param)


@pytest.mark.slow
def test_each_task_of_a_recorded_run_is_one_row(recorded):
    name, view = recorded
    assert [(task.name, task.state, task.attempts, task.message) for task in view.tasks] == ROWS[name]
    assert view.state == STATES.get(name, "failed")
    assert view.namespace in ("kubeflow", "alexnet")


def test_no_time_runs_backwards(recorded):
    for task in recorded[1].tasks:
        assert task.started > 1.7e9
        assert task.ended == 0 or task.ended >= task.started
        assert (task.ended == 0) == (task.state in ("pending", "running"))


def test_pods_have_the_names_that_the_cluster_gave(recorded):
    name, view = recorded
    for task in view.tasks:
        kind = "system-container-driver" if task.only_driver else "retry-system-container-impl"
        assert all(kind in pod for pod in task.pods)
    if name == "run-succeeded":
        assert view.task("ingest").pods == [recording("pod-ingest")["metadata"]["name"]]
    if name == "run-cancelled":
        assert view.task("train-1").pods[0] in recording("log-pod-gone")["request"]["path"]


@pytest.mark.parametrize("name", [n for n in RETRIED + PLAIN if n != "run-cached"])
def test_the_newer_api_alone_gives_the_same_states(name):
    tasks = view_of(name, has_v1=False).tasks
    states = {"cached": "succeeded", "pending": "running"}  # what it does not know
    expected = [(row[0], states.get(row[1], row[1])) for row in ROWS[name]]
    if name == "run-terminating":
        expected.pop()  # the driver of the exit task has no task yet
    assert [(task.name, task.state) for task in tasks] == expected
    assert all(task.ended == 0 or task.ended >= task.started for task in tasks)


@pytest.mark.parametrize(("name", "state"), [("run-pending", "pending"), ("run-of-uploaded-version", "cancelling")])
def test_a_run_without_tasks_has_a_state(name, state):
    view = view_of(name)
    assert (view.state, view.tasks) == (state, [])


# ---- what a person is told ----


def test_the_end_of_a_run_names_the_task_that_failed(recorded):
    name, view = recorded
    text = submit.summary(view)
    assert "TASK" not in text
    if view.state == "failed":
        failed = next(task.name for task in view.tasks if task.state == "failed")
        assert f"\n  {failed}: " in text
        assert f"alexnet logs {view.run_id} {failed}" in text
        assert ("alexnet rerun" in text) == ("driver" not in name)


def test_status_prints_a_recorded_run(capsys):
    run_id, answers = run_answers("run-driver-failed")
    with Replay(answers) as server:
        assert command(["status", run_id, "--endpoint", server.url]) == 1
    rows = [line.split(None, 5) for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows[0] == ["ingest", "failed", "0:20", "tries", "-", DRIVER]
    assert [row[:2] for row in rows[1:4]] == [[name, "skipped"] for name in ("statistics", "train", "evaluate")]


# ---- artifacts ----


def test_artifacts_have_the_metadata_that_the_next_task_was_told():
    view = view_of("run-succeeded")
    found = {f"{a.task}/{a.name}": a for task in view.tasks for a in task.artifacts}
    assert found["ingest/dataset"].metadata["num_classes"] == 8
    assert "store_session_info" not in found["ingest/dataset"].metadata
    assert found["train/model"].metadata["recipe"] == "smoke"
    assert found["train/metrics"].metadata is None  # nothing was given it
    assert len(found) == sum(len(task.artifacts) for task in view.tasks)


@pytest.mark.slow
def test_what_the_cache_gave_is_found_by_what_the_next_task_was_given(capsys):
    view = view_of("run-failed-not-retried")
    run_id, answers = run_answers("run-failed-not-retried")
    made_by = "minio://mlpipeline/v2/artifacts/alexnet/70b72917-bac0-4bef-9b95-e35f07500b54"
    assert [a.uri for a in view.task("ingest").artifacts] == [
        f"{made_by}/ingest/6cc35fd1-d3d8-47d2-a921-9919e5f926c4/{name}" for name in ("dataset", "summary")
    ]
    assert view.task("ingest").artifacts[0].metadata["num_train"] == 639
    with Replay(answers) as server:
        assert command(["artifacts", run_id, "statistics", "--endpoint", server.url]) == 0
    assert '"mean_red": 97.624512' in capsys.readouterr().out


def test_what_the_cache_gave_and_nobody_was_given_is_said_to_be_unknown(capsys):
    run_id, answers = run_answers("run-cached")
    answers["/apis/v2beta1/runs"] = (200, {"runs": [answers[f"/apis/v2beta1/runs/{run_id}"][1]]})
    with Replay(answers) as server:
        assert command(["artifacts", run_id, "--endpoint", server.url]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["outcome/summary"]
    told = [line.split(": ")[1] for line in printed.err.splitlines()]
    assert told == ["ingest", "statistics", "train", "evaluate"]
    assert printed.err.count("their place is not known") == 4


@pytest.mark.slow
def test_what_the_cache_gave_is_found_in_the_run_that_made_it(capsys):
    run_id, answers = run_answers("run-cached")
    made_by, others = run_answers("run-succeeded")
    different = others[f"/apis/v2beta1/runs/{made_by}"][1] | {"run_id": "other", "runtime_config": {"parameters": {}}}
    listed = [answers[f"/apis/v2beta1/runs/{run_id}"][1], different, others[f"/apis/v2beta1/runs/{made_by}"][1]]
    with Replay(answers | others | {"/apis/v2beta1/runs": (200, {"runs": listed})}) as server:
        assert command(["artifacts", run_id, "--endpoint", server.url]) == 0
        assert "/apis/v1beta1/runs/other" not in server.requests
    printed = capsys.readouterr()
    uris = dict(line.split()[:3:2] for line in printed.out.splitlines())
    assert uris["evaluate/report"].endswith(f"{made_by}/evaluate/6a02e6e6-c116-4aca-b52d-4b000fb75f70/report")
    assert uris["train/model"].endswith(f"{made_by}/train/0ebb8323-764d-4c24-9484-9579e507186e/model")
    assert f"train: its outputs are the cache's, from run {made_by}" in printed.err


# ---- logs ----


def log_of(name, task, more):
    run_id, answers = run_answers(name)
    with Replay(answers) as server:
        client = Client(server.url)
        view = runs.remote(client, run_id)
        server.answers |= {path.format(run=run_id, pod=view.task(task).pods[-1]): a for path, a in more.items()}
        try:
            return logs.log_text(view, view.task(task), client), server.requests
        except StorageError as error:
            return error, server.requests


API = "/apis/v1alpha1/runs/{run}/nodes/{pod}/log"
UI = "/k8s/pod/logs?podname={pod}&runid={run}&podnamespace=kubeflow&createdat=2026-11-25"


@pytest.mark.slow
def test_the_log_of_a_pod_that_is_gone_comes_from_the_archive_of_the_server():
    text = recording("log-pod-gone")["answer"]
    assert log_of("run-cancelled", "train-1", {API: (200, text)})[0] == text


def not_forwarded():
    recording("healthz")  # skips where there are no recordings
    return (404, (kubeflow_recordings.RECORDED_DIR / "ui-v1alpha1-log-404.html").read_text())


def test_through_the_ui_server_a_log_comes_by_its_own_route():
    found, requests = log_of("run-driver-failed", "ingest", {API: not_forwarded(), UI: (200, "of the driver\n")})
    assert found == "of the driver\n"
    assert "alexnet-q8h4c-system-container-driver-171194191" in requests[-1]


def test_a_log_that_is_nowhere_names_all_places():
    gone = (500, "Could not get main container logs: Error: Unable to retrieve workflow status: [object Object].")
    error, _ = log_of("run-driver-failed", "ingest", {API: not_forwarded(), UI: gone})
    assert isinstance(error, StorageError)
    assert "Cannot GET /apis/v1alpha1" in str(error)
    assert "/k8s/pod/logs: the server answers 500 Could not get main container logs" in str(error)
    assert "\n" not in str(error)


def test_logs_says_that_they_are_the_drivers(capsys):
    run_id, answers = run_answers("run-driver-failed")
    with Replay(answers) as server:
        path = f"/apis/v1alpha1/runs/{run_id}/nodes/alexnet-q8h4c-system-container-driver-171194191/log"
        server.answers[path] = (200, "failed to resolve container args\n")
        assert command(["logs", run_id, "ingest", "--endpoint", server.url]) == 0
    printed = capsys.readouterr()
    assert printed.out == "failed to resolve container args\n"
    assert "its driver" in printed.err


@pytest.mark.slow
def test_the_log_of_an_unknown_run_is_a_reason_not_a_log():
    answer = (200, json.dumps(recording("log-unknown-run")["answer"]))
    error, _ = log_of("run-driver-failed", "ingest", {API: answer})
    assert "run fetching error" in str(error)
