"""`status`, `artifacts`, `logs` and `rerun` on a server that lists tasks itself, without the v1beta1 API."""

import json

import pytest
from conftest import alexnet
from next_servers import TaskServer, artifact, metrics, row


@pytest.fixture
def server():
    with TaskServer() as running:
        yield running


def submit(server):
    given = ("--param", "release_uri=gs://alexnet/release", "--param", "root_uri=gs://alexnet/root")
    done = alexnet("submit", "--endpoint", server.url, "--allow-tags", *given)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("/")[2]


def status(server, run_id):
    done = alexnet("status", run_id, "--endpoint", server.url, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    return done.returncode, {task["name"]: task for task in found["tasks"]}


@pytest.mark.slow
def test_states_attempts_pods_and_messages_are_those_of_the_list(server):
    failed = {"status_metadata": {"message": "failed to execute component: exit status 65"}}
    server.script = [("RUNNING", {})]
    server.rows = [
        row("baseline", "FAILED", executors=0, clock=(0, 4), status_metadata={"message": "driver: no such secret"}),
        row("ingest", "CACHED", executors=0, clock=(5, 6)),
        row("statistics", "FAILED", executors=2, clock=(10, 70), **failed),
        row("evaluate", "RUNNING", executors=0, clock=(80,)),
        row("outcome", "RUNNING", clock=(90,), pods=[{"name": "p", "type": "EXECUTOR"}] * 2),
    ]
    code, tasks = status(server, submit(server))
    assert code == 0
    assert [(t["name"], t["state"], t["attempts"]) for t in tasks.values()] == [
        ("baseline", "failed", 0),
        ("ingest", "cached", 0),
        ("statistics", "failed", 2),
        ("evaluate", "pending", 0),
        ("outcome", "running", 1),
    ]
    assert tasks["statistics"]["message"] == "failed to execute component: exit status 65"
    assert tasks["statistics"]["pods"] == ["statistics-pod-0", "statistics-pod-1"]
    assert tasks["statistics"]["ended"] - tasks["statistics"]["started"] == 60
    assert tasks["baseline"]["pods"] == ["baseline-driver-pod"]
    assert tasks["evaluate"]["ended"] == 0


@pytest.mark.slow
def test_the_items_of_a_loop_are_numbered_by_their_item(server):
    """Iteration 10 comes after 2, whenever it started, and a task may get its number from the graph around it."""
    server.script = [("RUNNING", {})]
    scope = "root.for-loop-1.train"
    graph = {"name": "item", "type": "DAG", "task_id": "id-item-10", "type_attributes": {"iteration_index": "10"}}
    server.rows = [
        {**graph, "state": "RUNNING", "parent_task_id": "id-root"},
        row("train", "RUNNING", clock=(5,), scope_path=scope, task_id="a", parent_task_id="id-item-10"),
        row(
            "train", "SUCCEEDED", clock=(9, 20), scope_path=scope, task_id="b", type_attributes={"iteration_index": "2"}
        ),
    ]
    _, tasks = status(server, submit(server))
    assert {name: task["state"] for name, task in tasks.items()} == {"train-0": "succeeded", "train-1": "running"}


@pytest.mark.slow
def test_what_a_pending_task_waits_for_comes_from_the_workflow_while_there_is_one(server):
    why = 'ImagePullBackOff: Back-off pulling image "alexnet/ingest:1"'
    server.script, server.has_v1 = [("RUNNING", {"ingest": [f"Pending: {why}"]})], True
    server.rows = [row("ingest", "RUNNING", executors=0, clock=(5,))]
    _, tasks = status(server, submit(server))
    assert (tasks["ingest"]["state"], tasks["ingest"]["message"]) == ("pending", why)


@pytest.mark.slow
def test_a_run_from_before_the_list_is_read_from_its_workflow(server):
    server.script, server.has_v1 = [("RUNNING", {"ingest": ["Succeeded"]})], True
    _, tasks = status(server, submit(server))  # the only row is that of the root
    assert tasks["ingest"]["state"] == "succeeded"


@pytest.mark.slow
def test_artifacts_have_their_metadata_and_metrics_are_one(server, tmp_path):
    server.script = [("SUCCEEDED", {})]
    report, log = tmp_path / "report.html", tmp_path / "executor-logs-0"
    report.write_text("<p>0.4</p>")
    log.write_text("trained\n")
    told = {"display_name": "report", "_kfp_schema_title": "system.HTML", "note": "four classes"}
    outputs = [
        metrics("metrics", top1_error=0.4, top5_error=0.2),
        artifact("report", "Artifact", str(report), metadata=told),
        artifact("executor-logs", "Artifact", str(log)),
    ]
    server.rows = [row("evaluate", "SUCCEEDED", outputs={"artifacts": outputs})]
    run_id = submit(server)
    done = alexnet("artifacts", run_id, "--endpoint", server.url, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert lines[0][:2] == ["evaluate/metrics", "Metrics"]
    assert json.loads(lines[0][2]) == {"top1_error": 0.4, "top5_error": 0.2}
    assert lines[1] == ["evaluate/report", "HTML", f'{report} {{"note": "four classes"}}']
    assert [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["<p>0.4</p>"]
    done = alexnet("logs", run_id, "evaluate", "--endpoint", server.url)
    assert done.stdout == "trained\n", done.stderr


@pytest.mark.slow
def test_a_task_runs_again_here_with_the_inputs_of_its_row(server, tmp_path):
    values = {"status": {"state": "FAILED"}, "run_id": "r1", "root_uri": str(tmp_path / "root"), "seeds": [0, 1]}
    values |= dict.fromkeys(["run_name", "release_uri", "release_fingerprint", "subset", "recipe"], "") | {
        "num_epochs": 1
    }
    inputs = [{"value": v, "type": "RUNTIME_VALUE_INPUT", "parameter_key": k} for k, v in values.items()]
    server.script = [("FAILED", {})]
    server.rows = [
        row("outcome", "SUCCEEDED", inputs={"parameters": inputs}),
        row("ingest", "FAILED", executors=0, status_metadata={"message": "no such secret"}),
    ]
    run_id, here = submit(server), ("--endpoint", server.url, "--root", tmp_path / "here", "--runner", "process")
    done = alexnet("rerun", run_id, "outcome", *here)
    assert done.returncode == 0, done.stderr
    assert "parameters: the same" in done.stdout
    record = json.loads(next(tmp_path.rglob("outcomes/r1.json")).read_text())
    assert record["state"] == "FAILED"
    assert record["parameters"]["seeds"] == [0, 1]
    done = alexnet("rerun", run_id, "ingest", *here)
    assert done.returncode == 2, done.stderr
    assert "does not say what it was given" in done.stderr
