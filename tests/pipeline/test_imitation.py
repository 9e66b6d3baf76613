"""The imitation of Kubeflow Pipelines against what a genuine 2.17.0 answered.

All recordings are compared where ../shared/data has them; kubeflow_imitation/recorded.json has the essential ones too.
"""

import copy
import json
import urllib.error
import urllib.request

import pytest
from conftest import PROJECT_DIR
from kfp_server import KfpServer
from kubeflow_imitation.argo import Workflow
from kubeflow_imitation.driver import Driver
from kubeflow_recordings import PLAIN, RECORDED_DIR, RETRIED, documents, recorded_workflow, recording

OWN = json.loads((PROJECT_DIR / "tests" / "pipeline" / "kubeflow_imitation" / "recorded.json").read_text())
DONE, FAILED = ["Succeeded"], ["Failed: main: Error (exit code 1)"]
STOPPED = [*FAILED, "stopped: retry exceeded workflow deadline 2026-11-25 23:51:47 +0000 UTC"]
NO_INPUT = 'failed to resolve input parameters: parameter "seed" not found in executor input'
CACHED = dict.fromkeys(["ingest", "statistics"], "cached")
SCRIPTS = {
    "run-succeeded": dict.fromkeys(["ingest", "statistics", "train", "evaluate", "outcome"], DONE),
    "run-cached": {**CACHED, "train": "cached", "evaluate": "cached", "outcome": DONE},
    "run-failed-not-retried": {**CACHED, "train": FAILED, "outcome": DONE},
    "run-driver-failed": {"ingest": f"driver: {NO_INPUT}", "outcome": DONE},
    "run-cancelled": {**CACHED, "train": STOPPED, "outcome": DONE},
    "run-terminating": {**CACHED, "train": STOPPED, "outcome": "waiting"},
    "run-two-seeds-evaluate-running": {
        **dict.fromkeys(["ingest", "statistics", "train"], DONE),
        "evaluate": ["Pending"],
    },
}
SCRIPTS["run-driver-failed-without-template-defaults"] = SCRIPTS["run-driver-failed"]
SEEDS = {"run-cancelled": [0, 1], "run-terminating": [0, 1], "run-two-seeds-evaluate-running": [0, 1]}
ROOT = "minio://mlpipeline/v2/artifacts"
VALUES = {"release_uri": "s3://alexnet/release", "root_uri": "s3://alexnet/root", "num_epochs": 2, "recipe": "smoke"}


def facts_of_nodes(nodes):
    """Return what matters of the nodes of a workflow, in names instead of ids."""
    names = {key: node["name"] for key, node in nodes.items()}
    base = next(key for key in nodes if key == names[key])
    short = {key: name.removeprefix(base) for key, name in names.items()}
    return {
        short[key]: {
            "id": key.removeprefix(base),
            "type": node["type"],
            "phase": node["phase"],
            "message": node.get("message", ""),
            "template": node["templateName"],
            "display": node["displayName"].removeprefix(base),
            "boundary": short.get(node.get("boundaryID"), "none"),
            "children": sorted(short[child] for child in node.get("children", [])),
            "inputs": [parameter["name"] for parameter in node.get("inputs", {}).get("parameters", [])],
        }
        for key, node in sorted(nodes.items(), key=lambda pair: pair[1]["name"])
    }


def facts_of_details(details):
    """Return what matters of the rows of the v2beta1 API, which come in no order."""
    rows = [
        [
            row.get("display_name", "").partition("alexnet-")[0],
            row.get("state", "none"),
            len(row.get("child_tasks", [])),
            row["end_time"].startswith("0001"),
            sorted(set(row) - {"child_tasks", "state"}),
        ]
        for row in details
    ]
    return sorted(rows, key=json.dumps)


def found(name, part, read):
    """Return the facts of a recording, or our own copy of them where there are no recordings."""
    if RECORDED_DIR.is_dir():
        return read()
    if part not in OWN or name not in OWN[part]:
        pytest.skip("only in ../shared/data/kubeflow-2.17.0, which is not beside this checkout")
    return OWN[part][name]


def recorded_nodes(name):
    return facts_of_nodes(recorded_workflow(name)["status"]["nodes"])


def recorded_details(name):
    answer = recording(f"{name}-v2beta1")
    return facts_of_details(answer.get("answer", answer)["run_details"]["task_details"])


def imitation(name, **changes):
    workflow = OWN["workflows"][name]
    values = VALUES | {"seeds": SEEDS.get(name, [0])} | changes
    driver = Driver("70b72917-bac0-4bef-9b95-e35f07500b54", workflow, documents()["pipeline_spec"], values, ROOT, {})
    return Workflow(driver, name in RETRIED).run(SCRIPTS[name])


@pytest.mark.parametrize("name", RETRIED + PLAIN)
def test_the_nodes_of_a_workflow_are_those_recorded(name):
    expected = found(name, "nodes", lambda: recorded_nodes(name))
    assert facts_of_nodes(imitation(name).nodes) == expected


@pytest.mark.parametrize("name", RETRIED + PLAIN)
def test_the_rows_of_the_newer_api_are_those_recorded(name):
    expected = found(name, "details", lambda: recorded_details(name))
    assert facts_of_details(imitation(name).details()) == expected


def test_our_own_copies_are_those_recorded():
    recording("healthz")  # skips where there are none
    assert OWN["nodes"] == {name: recorded_nodes(name) for name in OWN["nodes"]}
    assert OWN["details"] == {name: recorded_details(name) for name in OWN["details"]}
    assert OWN["workflows"] == {name: recorded_workflow(name)["metadata"]["name"] for name in RETRIED + PLAIN}
    assert OWN["answers"] == {name: essential(recording(name)) for name in OWN["answers"]}


# ---- the driver ----


@pytest.mark.parametrize("task", ["train", "evaluate", "outcome"])
def test_the_patch_of_a_pod_is_the_one_recorded(task):
    expected = recording(f"pod-spec-patch-{task}")
    patch = expected["pod-spec-patch"]
    main = (json.loads(patch) if isinstance(patch, str) else patch)["containers"][0]
    ours = imitation("run-succeeded").driver.patch(task)["containers"][0]
    flags = [word for word in ours["command"] if word.startswith("--")]
    assert flags == [word for word in main["command"] if word.startswith("--")]
    assert {w for w in main["args"] if w.startswith(("--", "{{"))} <= set(ours["args"])
    assert not any("$.inputs.parameters" in word for word in ours["args"])
    given = json.loads(ours["command"][ours["command"].index("--executor_input") + 1])
    told = expected["decoded --executor_input"]
    assert set(told["inputs"]["parameterValues"]) <= set(given["inputs"]["parameterValues"])
    assert set(told["inputs"]) == set(given["inputs"])
    for name, entry in told["inputs"].get("artifacts", {}).items():
        [artifact], [mine] = entry["artifacts"], given["inputs"]["artifacts"][name]["artifacts"]
        assert set(mine) == set(artifact) - {"type"}
        assert {"display_name", "store_session_info"} <= set(artifact["metadata"]) & set(mine["metadata"])
        assert mine["uri"].split("/")[:-2] + mine["uri"].split("/")[-1:] == [
            part
            for index, part in enumerate(artifact["uri"].split("/"))
            if index != len(artifact["uri"].split("/")) - 2
        ]
    salt = told["outputs"]["outputFile"].split("/")[-2]
    mine = given["outputs"]["outputFile"].split("/")[-2]
    assert json.loads(json.dumps(given["outputs"]).replace(mine, salt)) == told["outputs"]


def test_a_default_of_a_component_fills_no_flag():
    workflow = imitation("run-succeeded")
    assert workflow.driver_logs == {}  # the committed pipeline passes all
    driver = copy.deepcopy(workflow.driver)
    entry, component = driver.entry("ingest")
    component["inputDefinitions"]["parameters"]["seed"]["defaultValue"] = 0.0
    del entry["inputs"]["parameters"]["seed"]
    failed = Workflow(driver).run(SCRIPTS["run-succeeded"])
    assert list(failed.driver_logs.values()) == [f"failed to resolve container args: {NO_INPUT}\n"]
    name = "run-driver-failed"
    expected = found(name, "nodes", lambda: recorded_nodes(name))
    parts = [("type", "phase", "message", "children")] * len(expected)
    ours = facts_of_nodes(failed.nodes)
    assert [[ours[n][k] for k in keys] for n, keys in zip(expected, parts, strict=True)] == [
        [expected[n][k] for k in keys] for n, keys in zip(expected, parts, strict=True)
    ]


@pytest.mark.parametrize(("name", "state"), [("run-succeeded", "COMPLETE"), ("run-cached", "RUNNING")])
def test_the_exit_task_is_told_what_was_recorded(name, state):
    workflow = imitation(name)
    status = workflow.driver.executor_input("outcome")["inputs"]["parameterValues"]["status"]
    assert status == {
        "error": {},
        "pipelineJobResourceName": workflow.name,
        "pipelineTaskName": "exit-handler-1",
        "state": state,
    }


@pytest.mark.parametrize(("name", "state"), [("run-failed-not-retried", "FAILED"), ("run-driver-failed", "RUNNING")])
def test_the_exit_task_is_told_of_a_failure_only_by_a_launcher(name, state):
    assert imitation(name).driver.final_state == state


# ---- the API server ----

ANSWERS = [
    "create-experiment-twice",
    "create-experiment-unknown-field",
    "create-experiment",
    "create-run-bad-spec",
    "create-run-float-for-int",
    "create-run-list-as-string",
    "create-run-missing-parameter",
    "create-run-null-parameter",
    "create-run-unknown-account",
    "create-run-unknown-parameter",
    "create-run-wrong-type",
    "healthz",
    "list-runs-empty",
    "log-unknown-run",
    "multiuser-empty-namespace",
    "multiuser-healthz",
    "multiuser-no-identity",
    "multiuser-other-namespace",
    "not-found",
    "pipeline-by-name",
    "pipeline-name-unknown",
    "run-bad-id",
    "run-unknown-experiment",
    "run-unknown-field",
    "run-unknown-v1",
    "run-unknown",
]
ME = "system:serviceaccount:alexnet:me"


def essential(answer):
    """Return request, status and answer of a recording; of what was made only the names of the fields."""
    request, body = answer["request"], answer["answer"]
    if answer["status"] == 200 and isinstance(body, dict) and ("created_at" in body):
        body = sorted(set(body) - {"plugins_output"})
    return {"request": request, "status": answer["status"], "answer": body}


def ask(server, request):
    body = request.get("body")
    if isinstance(body, dict) and body.get("pipeline_spec") == "(pipeline.yaml)":
        body = body | {"pipeline_spec": documents()}
    data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
    headers = {"Authorization": f"Bearer {ME}"} if "Authorization" in request.get("headers", {}) else {}
    sent = urllib.request.Request(server.url + request["path"], data, headers, method=request["method"])
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("name", ANSWERS)
def test_the_server_answers_what_was_recorded(name):
    expected = found(name, "answers", lambda: essential(recording(name)))
    with KfpServer() as server:
        if name.startswith("multiuser"):
            server.users = {ME: {"alexnet"}}
        experiment = expected["request"].get("body", {}).get("experiment_id", "")
        if experiment and name != "run-unknown-experiment":
            server.experiments[experiment] = {"display_name": "alexnet", "experiment_id": experiment}
        if name == "create-experiment-twice":
            ask(server, expected["request"])
        if name == "pipeline-by-name":
            server.create_pipeline(None, {}, {"display_name": "alexnet"})
        status, answer = ask(server, expected["request"])
    ours = essential({"request": expected["request"], "status": status, "answer": answer})
    assert ours == expected


def test_a_version_that_is_there_is_refused_as_recorded():
    expected = found("upload-version-twice", "answers", lambda: recording("upload-version-twice"))
    with KfpServer() as server:
        made = server.create_pipeline(None, {}, {"display_name": "alexnet"})
        path = f"/apis/v2beta1/pipelines/upload_version?name=v1&pipelineid={made['pipeline_id']}"
        for _ in range(2):
            sent = urllib.request.Request(server.url + path, b'name="uploadfile"', method="POST")
            try:
                urllib.request.urlopen(sent).close()
            except urllib.error.HTTPError as error:
                status, answer = error.code, json.loads(error.read())
    assert (status, answer["error_message"]) == (expected["status"], expected["answer"]["error_message"])


def test_the_ui_server_forwards_no_logs():
    with KfpServer() as server:
        server.through_ui = True
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(f"{server.url}/apis/v1alpha1/runs/aaa/nodes/bbb/log")
        page = raised.value.read().decode()
    recording("healthz")  # skips where there are none
    assert raised.value.code == 404
    assert page.split() == (RECORDED_DIR / "ui-v1alpha1-log-404.html").read_text().split()
