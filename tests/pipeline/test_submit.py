"""`alexnet submit` as a process against a server over HTTP."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import kfp_server_api
import pytest
import yaml
from conftest import PROJECT_DIR, alexnet
from kfp_server import KfpServer

GIVEN = ("--param", "release_uri=gs://bucket/ilsvrc2010", "--param", "root_uri=gs://bucket/alexnet")
QUICK = ("--watch", "--interval", "0.05", "--patience", "0.6")
DONE = ["Succeeded"]


@pytest.fixture
def server(request):
    with KfpServer() as running:
        running.retried = getattr(request, "param", True)
        yield running


both_shapes = pytest.mark.parametrize("server", [True, False], indirect=True, ids=["retried", "plain"])


def submit(server, *arguments, given=GIVEN):
    return alexnet("submit", "--endpoint", server.url, "--allow-tags", *given, *arguments)


def link(server):
    return f"{server.url}/#/runs/details/{next(iter(server.runs))}"


# ---- what is sent ----


@pytest.mark.slow
def test_both_documents_and_typed_parameters_go_out_and_the_link_comes_first(server):
    done = submit(server, "--param", "seeds=[3]", "--param", "recipe=smoke")
    assert done.returncode == 0, done.stderr
    assert done.stdout == link(server) + "\n"
    [body] = server.bodies("/apis/v2beta1/runs")
    spec, platform = yaml.safe_load_all((PROJECT_DIR / "pipeline.yaml").read_text())
    assert body["pipeline_spec"] == {"pipeline_spec": spec, "platform_spec": platform}
    assert body["runtime_config"] == {
        "parameters": {
            "release_uri": "gs://bucket/ilsvrc2010",
            "root_uri": "gs://bucket/alexnet",
            "seeds": [3],
            "recipe": "smoke",
        }
    }
    assert body["experiment_id"] == next(iter(server.experiments))
    assert body["display_name"].startswith("alexnet 20")
    assert "service_account" not in body
    assert "left empty" in done.stderr


@pytest.mark.slow
def test_account_root_names_and_caching_are_the_runs_own(server):
    options = ("--service-account", "trainer", "--pipeline-root", "s3://b/kfp", "--experiment", "mine")
    done = submit(server, *options, "--run-name", "first", "--no-cache")
    assert done.returncode == 0, done.stderr
    [body] = server.bodies("/apis/v2beta1/runs")
    assert (body["service_account"], body["display_name"]) == ("trainer", "first")
    assert body["runtime_config"]["pipeline_root"] == "s3://b/kfp"
    assert server.experiments[body["experiment_id"]]["display_name"] == "mine"
    spec = body["pipeline_spec"]["pipeline_spec"]
    graphs = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    cached = [task.get("cachingOptions", {}).get("enableCache", False) for g in graphs for task in g["tasks"].values()]
    assert len(cached) >= 4
    assert not any(cached)
    assert submit(server, "--experiment", "mine").returncode == 0
    assert len(server.experiments) == 1


@pytest.mark.slow
def test_parameters_come_from_a_file_too_and_the_command_line_wins(server, tmp_path):
    path = tmp_path / "parameters.yaml"
    path.write_text("release_uri: gs://bucket/ilsvrc2010\nroot_uri: gs://bucket/a\nseeds: [1]\ngpus: 0\n")
    done = submit(server, "--params", path, "--param", "seeds=[2,3]", given=())
    assert done.returncode == 0, done.stderr
    values = server.bodies("/apis/v2beta1/runs")[0]["runtime_config"]["parameters"]
    assert (values["seeds"], values["gpus"], values["root_uri"]) == ([2, 3], "0", "gs://bucket/a")
    (tmp_path / "list.json").write_text("[1]")
    assert submit(server, "--params", tmp_path / "list.json").returncode == 2
    (tmp_path / "null.json").write_text('{"subset": null}')
    done = submit(server, "--params", tmp_path / "null.json")
    assert (done.returncode, "subset is null" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_release_in_sight_is_identified(server, tmp_path):
    (tmp_path / "ILSVRC2010_images_train.tar").write_bytes(b"x")
    done = submit(server, "--param", f"release_uri={tmp_path}")
    assert done.returncode == 0, done.stderr
    values = server.bodies("/apis/v2beta1/runs")[0]["runtime_config"]["parameters"]
    assert len(values["release_fingerprint"]) == 64
    assert values["release_fingerprint"][:16] in done.stderr


@pytest.mark.slow
def test_an_uploaded_version_is_what_runs(server):
    done = submit(server, "--upload", "alexnet:v1")
    assert done.returncode == 0, done.stderr
    [body] = server.bodies("/apis/v2beta1/runs")
    assert "pipeline_spec" not in body
    [pipeline] = server.pipelines
    assert body["pipeline_version_reference"]["pipeline_id"] == pipeline
    [uploaded] = server.bodies("/apis/v2beta1/pipelines/upload_version")
    assert "platforms:" in uploaded  # both documents
    assert submit(server, "--upload", "alexnet:v2").returncode == 0
    assert len(server.pipelines) == 1
    assert submit(server, "--upload", "alexnet", "--no-cache").returncode == 2


@pytest.mark.slow
def test_a_version_that_is_there_is_named_with_the_remedy(server):
    assert submit(server, "--upload", "alexnet:v1").returncode == 0
    done = submit(server, "--upload", "alexnet:v1")
    assert done.returncode == 2
    assert "--upload alexnet:v1: pipeline alexnet" in done.stderr
    assert "has a version v1" in done.stderr
    assert len(server.bodies("/apis/v2beta1/runs")) == 1


@pytest.mark.slow
def test_on_a_server_of_several_users_the_namespace_is_asked_for(server):
    server.users = {"ann": {"team"}}
    done = submit(server, "--existing-token", "ann")
    assert done.returncode == 1
    assert "cannot have an empty namespace in multi-user mode" in done.stderr
    assert "pass the --namespace of yours" in done.stderr
    assert submit(server, "--existing-token", "ann", "--namespace", "team").returncode == 0
    done = submit(server, "--existing-token", "ann", "--namespace", "other")
    assert (done.returncode, "403, not allowed" in done.stderr) == (1, True)
    done = submit(server, "--namespace", "team")
    assert (done.returncode, "401, not allowed" in done.stderr) == (1, True)


@pytest.mark.slow
def test_an_experiment_is_found_on_a_later_page(server):
    for index in range(5):
        server.create_experiment(None, {}, {"display_name": f"experiment {index}"})
    assert submit(server, "--experiment", "experiment 4").returncode == 0
    assert len(server.experiments) == 5


# ---- what is refused before the server hears of it ----


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), "release_uri, root_uri"),
        (GIVEN[:2], "root_uri"),
        ((*GIVEN, "--param", "lerning_rate=1"), "num_epochs"),
        ((*GIVEN, "--param", "num_epochs=many"), "a number of type int"),
        ((*GIVEN, "--param", "root_uri=results"), "expected a URI"),
    ],
)
def test_wrong_parameters_are_a_usage_error(server, given, expected):
    done = submit(server, given=given)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert server.requests == []


@pytest.mark.slow
def test_images_by_tag_are_refused_with_the_remedy(server):
    done = alexnet("submit", "--endpoint", server.url, *GIVEN)
    assert done.returncode == 2
    assert "evaluate, ingest, outcome, statistics, train have no digest" in done.stderr
    assert "`alexnet images digests`" in done.stderr
    assert server.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["", "localhost:8080"])
def test_an_endpoint_is_needed(endpoint):
    done = alexnet("submit", "--endpoint", endpoint, "--allow-tags", *GIVEN)
    assert done.returncode == 2
    assert "--endpoint" in done.stderr


# ---- who asks ----


@pytest.mark.slow
def test_a_token_comes_from_the_command_line_or_a_file(server, tmp_path, monkeypatch):
    server.token = "s3cret"
    refused = submit(server)
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "--existing-token" in refused.stderr
    assert submit(server, "--existing-token", "s3cret").returncode == 0
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert submit(server).returncode == 0


@pytest.mark.slow
def test_cookies_namespace_and_links(server, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/pipeline")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    done = alexnet("submit", "--allow-tags", *GIVEN, "--cookies", "authservice_session=abc", "--namespace", "team")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("https://kubeflow.example/pipeline/#/runs/details/")
    assert all(headers["Cookie"] == "authservice_session=abc" for *_, headers, _ in server.requests)
    assert server.bodies("/apis/v2beta1/experiments")[0]["namespace"] == "team"
    assert ("GET", "/apis/v2beta1/experiments", "team") in [
        (m, p, q.get("namespace")) for m, p, q, *_ in server.requests
    ]


@pytest.mark.slow
def test_what_kfp_remembers_is_used(server, tmp_path, monkeypatch):
    remembered = {
        "namespace": "team",
        "client_authentication_cookie": "session=1",
        "client_authentication_header_name": "kubeflow-userid",
        "client_authentication_header_value": "ann@example.org",
    }
    (tmp_path / ".config" / "kfp").mkdir(parents=True)
    (tmp_path / ".config" / "kfp" / "context.json").write_text(json.dumps(remembered))
    monkeypatch.setenv("HOME", str(tmp_path))
    done = submit(server)
    assert done.returncode == 0, done.stderr
    headers = [headers for *_, headers, _ in server.requests]
    assert all(h["Cookie"] == "session=1" and h["kubeflow-userid"] == "ann@example.org" for h in headers)
    assert server.bodies("/apis/v2beta1/experiments")[0]["namespace"] == "team"


@pytest.mark.slow
@pytest.mark.parametrize("fault", [302, "login page"])
def test_a_login_page_is_not_taken_for_an_answer(server, fault):
    server.faults = [("", fault, 99)]
    done = submit(server)
    assert done.returncode == 1
    assert "login page" in done.stderr
    assert "--cookies" in done.stderr


# ---- what the server does ----


@pytest.mark.slow
def test_nobody_at_home_is_3():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = alexnet("submit", "--endpoint", f"http://127.0.0.1:{port}", "--allow-tags", *GIVEN)
    assert done.returncode == 3
    assert "no answer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_server_that_recovers_is_waited_for_and_one_that_does_not_is_3(server):
    server.faults = [("healthz", 503, 2), ("experiments", "hang up", 1)]
    assert submit(server).returncode == 0
    server.faults = [("healthz", 503, 999)]
    done = submit(server)
    assert done.returncode == 3
    assert "503" in done.stderr


@pytest.mark.slow
def test_a_run_is_asked_for_once(server):
    server.faults = [("v2beta1/runs", 500, 1)]
    done = submit(server)
    assert done.returncode == 3
    assert len(server.bodies("/apis/v2beta1/runs")) == 1


@pytest.mark.slow
def test_a_refusal_of_the_server_is_told(server):
    server.faults = [("v2beta1/runs", 400, 1)]
    done = submit(server)
    assert done.returncode == 1
    assert "the fault that the test asked for" in done.stderr


# ---- watching ----


@pytest.mark.slow
@both_shapes
def test_a_run_that_succeeds_is_0_and_each_change_is_one_line(server):
    server.script = [
        ("PENDING", {}),
        ("RUNNING", {"ingest": ["Pending"]}),
        ("RUNNING", {"ingest": ["Running"]}),
        ("RUNNING", {"ingest": DONE, "statistics": "cached", "train": ["Failed: OOMKilled (exit code 137)", "wait"]}),
        (
            "RUNNING",
            {"ingest": DONE, "statistics": "cached", "train": ["Failed: OOMKilled (exit code 137)", "Running"]},
        ),
        (
            "SUCCEEDED",
            {
                "ingest": DONE,
                "statistics": "cached",
                "train": ["Failed: OOMKilled (exit code 137)", "Succeeded"],
                "evaluate": DONE,
            },
        ),
    ]
    done = submit(server, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == link(server)
    assert done.stdout.splitlines()[-1].endswith(" succeeded")
    lines = [line.split(None, 1) for line in done.stderr.splitlines()]
    told = [(words[0], words[1]) for words in lines if words[0] in ("ingest", "statistics", "train", "evaluate")]
    assert told == [
        ("ingest", "pending"),
        ("ingest", "running"),
        ("ingest", "succeeded after 0:45"),
        ("statistics", "cached"),
        ("train", "pending: OOMKilled (exit code 137)"),
        ("train", "running, attempt 2"),
        ("train", "succeeded after 0:45, attempt 2"),
        ("evaluate", "succeeded after 0:45"),
    ]


@pytest.mark.slow
@both_shapes
def test_a_run_that_fails_is_1_and_says_where(server):
    server.script = [("RUNNING", {"ingest": ["Running"]}), ("FAILED", {"ingest": ["Failed: Error (exit code 1)"]})]
    done = submit(server, *QUICK)
    assert done.returncode == 1
    assert "ingest: Error (exit code 1)" in done.stdout
    assert "alexnet logs" in done.stdout


@pytest.mark.slow
@both_shapes
def test_a_driver_that_fails_names_the_task_and_why_the_others_were_skipped(server):
    server.script = [("FAILED", {"ingest": "driver: failed to resolve container args"})]
    done = submit(server, *QUICK)
    assert done.returncode == 1
    run_id = next(iter(server.runs))
    assert done.stdout.splitlines()[1:] == [
        f"run {run_id} failed",
        "  ingest: driver: main: Error (exit code 1)",
        f"  its log: alexnet logs {run_id} ingest",
    ]
    skipped = [line.split(None, 1) for line in done.stderr.splitlines() if "skipped" in line]
    reason = "skipped: omitted: depends condition not met (ingest failed)\n".strip()
    assert skipped == [[name, reason] for name in ("statistics", "train", "evaluate")]


@pytest.mark.slow
def test_a_graph_whose_driver_fails_has_a_log(server):
    server.script = [("FAILED", {"root": "driver: no such pipeline"})]
    done = submit(server, *QUICK)
    run_id = next(iter(server.runs))
    assert f"  root: driver: main: Error (exit code 1)\n  its log: alexnet logs {run_id} root\n" in done.stdout
    logs = alexnet("logs", run_id, "root", "--endpoint", server.url)
    assert (logs.returncode, logs.stdout) == (0, "no such pipeline\n"), logs.stderr
    assert "its driver" in logs.stderr


@pytest.mark.slow
def test_a_run_that_fails_without_a_task_is_summed_up_without_one(server):
    server.script = [("FAILED", {})]
    done = submit(server, *QUICK)
    assert done.returncode == 1
    assert "TASK" not in done.stdout
    assert "no task failed: see alexnet status" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", ["CANCELED", "seen while it stops", "stopped before the first look"])
def test_a_run_that_was_stopped_is_4_though_the_server_says_failed(server, how):
    server.terminated = how == "stopped before the first look"
    between = [("CANCELING", {"ingest": ["Running"]})] if how == "seen while it stops" else []
    last = "CANCELED" if how == "CANCELED" else "FAILED"
    server.script = [*between, (last, {"ingest": ["Failed: Stopped with strategy 'Terminate'"]})]
    done = submit(server, *QUICK)
    assert done.returncode == 4, done.stdout
    assert "cancelled" in done.stdout


@pytest.mark.slow
def test_time_that_is_over_is_4_and_the_run_goes_on(server):
    server.script = [("RUNNING", {"ingest": ["Running"]})]
    done = submit(server, *QUICK, "--timeout", "0.5")
    assert done.returncode == 4
    assert "still running" in done.stderr
    assert link(server) in done.stderr


@pytest.mark.slow
def test_watching_ends_with_ctrl_c_and_the_run_goes_on(server):
    server.script = [("RUNNING", {"ingest": ["Running"]})]
    words = ["submit", "--endpoint", server.url, "--allow-tags", *GIVEN, *QUICK]
    command = [sys.executable, "-m", "pipeline.commands.alexnet", *words]
    with subprocess.Popen(
        command, cwd=PROJECT_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = process.stdout.readline().strip()
        while "ingest" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 4
    assert first == link(server)
    assert "goes on" in rest
    assert "Traceback" not in rest


@pytest.mark.slow
def test_a_server_that_goes_while_watching_is_3_after_patience(server):
    server.script = [("RUNNING", {"ingest": ["Running"]})]
    run = "v2beta1/runs/"
    server.faults = [(run, 503, 2), (run, "hang up", 1), (run, "stop", 1)]
    done = submit(server, *QUICK)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0] == link(server)


@pytest.mark.slow
@both_shapes
def test_a_server_without_the_old_api_still_tells_states(server):
    server.has_v1 = False
    server.script = [("RUNNING", {"ingest": ["Running"]}), ("FAILED", {"ingest": DONE, "train": ["Failed: no room"]})]
    done = submit(server, *QUICK)
    assert done.returncode == 1
    told = [line.split()[:2] for line in done.stderr.splitlines() if line.split()[0] in ("ingest", "train")]
    assert told == [["ingest", "running"], ["ingest", "succeeded"], ["train", "failed"]]


@pytest.mark.slow
@both_shapes
def test_a_workflow_too_large_for_its_database_is_unpacked(server):
    server.packed = True
    server.script = [("SUCCEEDED", {"ingest": ["Failed: Error (exit code 1)", "Succeeded"]})]
    run_id = submit(server).stdout.strip().rpartition("/")[2]
    done = alexnet("status", run_id, "--endpoint", server.url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"][0]["attempts"] == 2


# ---- against kfp itself ----


@pytest.mark.slow
def test_what_goes_out_is_what_kfp_sends_and_its_client_reads_the_answers(server):
    server.script = [("FAILED", {"ingest": [*DONE], "train": ["Failed: Error (exit code 1)"]})]
    assert submit(server).returncode == 0
    words = ["--endpoint", server.url, "run", "create", "-e", "alexnet", "-f", "pipeline.yaml", *GIVEN[1::2]]
    done = subprocess.run(
        [Path(sys.executable).with_name("kfp"), *words], cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = server.bodies("/apis/v2beta1/runs")
    assert ours["pipeline_spec"] == theirs["pipeline_spec"]
    assert ours["experiment_id"] == theirs["experiment_id"]
    api = kfp_server_api.RunServiceApi(kfp_server_api.ApiClient(kfp_server_api.Configuration(host=server.url)))
    run = api.run_service_get_run(next(iter(server.runs)))
    states = {detail.display_name: detail.state for detail in run.run_details.task_details}
    assert (run.state, states["ingest"], states["train"]) == ("FAILED", "SUCCEEDED", "FAILED")
    assert run.run_details.task_details[0].start_time.year == 2026
