"""What is read from workflows of both shapes; test_imitation.py compares them with recorded ones."""

import json

import pytest
from kubeflow_imitation.argo import Workflow
from kubeflow_imitation.driver import Driver
from kubeflow_imitation.nodes import fnv
from kubeflow_recordings import documents

from pipeline.commands.submit import summary
from pipeline.kubeflow import argo, runs
from pipeline.kubeflow.watch import elapsed
from pipeline.local import rerun

DONE, OOM = ["Succeeded"], "Failed: OOMKilled (exit code 137)"
OMITTED = "omitted: depends condition not met"
both_shapes = pytest.mark.parametrize("retried", [True, False], ids=["retried", "plain"])


def workflow(script, retried, seeds=(0,)):
    values = {"release_uri": "gs://a/r", "root_uri": "gs://a/b", "seeds": list(seeds)}
    driver = Driver("3f2c9a41", "alexnet-x7k2p", documents()["pipeline_spec"], values, "gs://a/kubeflow", {})
    return Workflow(driver, retried).run(script)


def tasks_of(made):
    return argo.tasks_of(json.loads(made.manifest("Running")), documents()["pipeline_spec"])


def rows(made):
    return [(task.name, task.state, task.message) for task in tasks_of(made)]


@both_shapes
@pytest.mark.parametrize(
    ("graph", "name", "before", "skipped"),
    [
        ("root", "root", [], ["ingest", "statistics", "train", "evaluate", "outcome"]),
        ("exit-handler-1", "exit-handler-1", [], ["ingest", "statistics", "train", "evaluate"]),
        ("iteration", "for-loop-2", ["ingest", "statistics"], ["train", "evaluate"]),
        ("iteration-item", "for-loop-2", ["ingest", "statistics"], ["train", "evaluate"]),
    ],
)
@pytest.mark.slow
def test_a_graph_whose_driver_failed_is_a_row_and_its_tasks_are_skipped(retried, graph, name, before, skipped):
    made = workflow({"train": DONE, graph: "driver: no such thing"}, retried)
    found = {row[0]: row[1:] for row in rows(made)}
    assert found.pop(name) == ("failed", "driver: main: Error (exit code 1)")
    assert [task for task in found if found[task][0] == "succeeded"] == before
    assert {task for task in found if found[task] == ("skipped", f"{OMITTED} ({name} failed)")} == set(skipped)
    assert len(found) == len(before) + len(skipped)
    text = summary(runs.RunView("1", "", "failed", tasks_of(made)))
    assert text.splitlines()[-1] == f"  its log: alexnet logs 1 {name}"


def test_a_run_that_fails_before_any_task_is_summed_up_with_its_own_message():
    text = summary(runs.RunView("1", "http://kfp/#/runs/details/1", "failed", [], "quota exceeded"))
    assert text.splitlines()[0] == "run 1 failed: quota exceeded"
    assert "http://kfp" in text
    assert "TASK" not in text


@both_shapes
def test_one_loop_item_that_failed_is_told_from_the_other(retried):
    made = workflow({"train#0": DONE, "train#1": [OOM, OOM]}, retried, seeds=(3, 4))
    tasks = {task.name: task for task in tasks_of(made)}
    assert (tasks["train-0"].state, tasks["train-1"].state) == ("succeeded", "failed")
    assert (tasks["train-0"].attempts, tasks["train-1"].attempts) == (1, 2)
    assert tasks["train-1"].pods == [made.pod_name(node) for node in pods(made, "train", 1)]
    assert tasks["evaluate"].message == f"{OMITTED} (train-1 failed)"


def pods(made, task, item):
    nodes = [
        n for n in made.nodes.values() if n["type"] == "Pod" and f"{task}" in n["name"].split("iteration-item")[-1]
    ]
    found = [n["id"] for n in nodes if f"({item}:{item})" in n["name"] and "executor(" in n["name"]]
    return sorted(found, key=lambda key: made.nodes[key]["name"])


@both_shapes
@pytest.mark.parametrize(
    ("attempts", "state", "message"),
    [
        (["Pending"], "pending", ""),
        (["Pending: Unschedulable: 0/3 nodes are available"], "pending", "Unschedulable: 0/3 nodes are available"),
        (["Running"], "running", ""),
        ([OOM, "wait"], "pending", "OOMKilled (exit code 137)"),
        ([OOM, "Running"], "running", ""),
        ([OOM, *DONE], "succeeded", ""),
        ([OOM, OOM], "failed", "OOMKilled (exit code 137)"),
        ([OOM, "stopped: retry exceeded workflow deadline"], "failed", "OOMKilled (exit code 137)"),
        ("waiting", "pending", ""),
        ("cached", "cached", ""),
    ],
)
@pytest.mark.slow
def test_the_state_of_a_task_is_that_of_its_pods(retried, attempts, state, message):
    assert rows(workflow({"ingest": attempts}, retried))[0] == ("ingest", state, message)


def again(nodes, old, new):
    """Copy the nodes of an attempt to the next one."""
    copies = {}
    for node in nodes.values():
        if old in node["name"]:
            name = node["name"].replace(old, new)
            key = f"alexnet-x7k2p-{fnv(name)}"
            copies[key] = {**node, "id": key, "name": name}
    return copies


def test_the_last_attempt_of_a_driver_has_the_log():
    made = workflow({"ingest": "driver: no such secret"}, retried=True)
    made.nodes |= again(made.nodes, "ingest-driver(0)", "ingest-driver(1)")
    task = tasks_of(made)[0]
    assert (task.name, task.state, task.message) == ("ingest", "failed", "driver: main: Error (exit code 1)")
    assert len(task.pods) == 2
    assert task.pods[-1].endswith(str(fnv("alexnet-x7k2p(0).root(0).exit-handler-1(0).ingest-driver(1)")))


def test_of_a_graph_that_was_tried_again_the_last_attempt_counts():
    made = workflow({"ingest": ["Error: pod deleted"]}, retried=True)
    better = workflow({"ingest": DONE, "statistics": DONE}, retried=True)
    made.nodes |= again(better.nodes, "exit-handler-1(0)", "exit-handler-1(1)")
    tasks = {task.name: task for task in tasks_of(made)}
    assert (tasks["ingest"].state, tasks["ingest"].attempts) == ("succeeded", 2)
    assert tasks["statistics"].state == "succeeded"


def test_no_duration_is_negative():
    assert argo.seconds("0001-01-01T00:00:00Z") == argo.seconds("1970-01-01T00:00:00Z") == argo.seconds(None) == 0
    assert elapsed(argo.TaskRun("x", "running", started=2e9, ended=1e9)) == "0:00"


def test_two_networks_from_the_cache_whose_place_is_unknown_are_not_guessed():
    made = workflow({"train": "cached", "evaluate": "cached"}, True, seeds=(3, 4))
    assert [task.artifacts for task in tasks_of(made) if task.name.startswith("train")] == [[], []]


# ---- rerun ----


def output(metadata):
    return {"out": {"path": "", "sha256": "", "digest": "1", "metadata": metadata}}


def test_numbers_that_are_not_known_do_not_differ():
    record = {"parameters": {}, "code": "a", "outputs": output(None)}
    lines = rerun.differences(record, record | {"outputs": output({"top1_error": 0.875})})
    assert "None" not in "\n".join(lines)
    assert lines[-1] == "  top1_error: unknown of the original, nothing to compare with"
    record["outputs"] = output({"top1_error": 0.5})
    lines = rerun.differences(record, record | {"outputs": output({"top1_error": 0.875, "top5_error": 0.25})})
    assert lines[-2:] == ["  top1_error: 0.5 -> 0.875", "  top5_error: not recorded -> 0.25"]
