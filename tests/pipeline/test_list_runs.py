"""`alexnet runs`: the runs of a root in lines, from run folders and from records of outcomes."""

import json
import time

import pytest
from kfp import compiler, dsl

from components.outcome.job import publish
from components.shared import storage
from pipeline.commands.alexnet import main
from pipeline.console import Console
from pipeline.local.engine import ProcessEngine
from pipeline.local.runner import TaskFailed, new_run, run_pipeline
from pipeline.spec import ir

WRITE = """
import json, pathlib, sys
code, metrics, report, executor_input = sys.argv[1:]
pathlib.Path(metrics).write_text("{}")
pathlib.Path(report).write_text("<!doctype html>")
outputs = json.loads(executor_input)["outputs"]
artifact = outputs["artifacts"]["metrics"]["artifacts"][0]
artifact["metadata"] = {"top1_error": 0.375, "top5_error": 0.17}
artifacts = {"artifacts": {"metrics": {"artifacts": [artifact]}}}
pathlib.Path(outputs["outputFile"]).write_text(json.dumps(artifacts))
sys.exit(int(code))
"""


@dsl.container_component
def evaluate(code: int, metrics: dsl.Output[dsl.Metrics], report: dsl.Output[dsl.HTML]):
    return dsl.ContainerSpec(
        image="x",
        command=["python", "-c"],
        args=[WRITE, code, metrics.path, report.path, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
    )


@dsl.pipeline(name="small")
def small(recipe: str = "smoke", root_uri: str = "", code: int = 0):
    evaluate(code=code)


def make_run(root, **values):
    """Run the small pipeline; returns its run."""
    path = root / "pipeline.yaml"
    compiler.Compiler().compile(small, str(path))
    pipeline = ir.load(path)
    this = new_run(root, pipeline.defaults | {"recipe": "smoke"} | values)
    run_pipeline(pipeline, this, ProcessEngine(), None, Console())
    return this


def record(run_id, state="SUCCEEDED"):
    return {"run_id": run_id, "state": state, "parameters": {"recipe": "alexnet-2012"}}


def listed(root, capsys, code=0):
    """Return what `alexnet runs --json` prints, by run id, in order."""
    assert main(["runs", "--root", str(root), "--json"]) == code
    return {run["run_id"]: run for run in json.loads(capsys.readouterr().out)}


def test_no_runs_at_all(tmp_path, capsys):
    assert main(["runs", "--root", str(tmp_path / "absent")]) == 0
    assert capsys.readouterr().out == f"no runs under {tmp_path / 'absent'}\n"
    assert listed(tmp_path / "absent", capsys) == {}
    assert not (tmp_path / "absent").exists()


def test_a_finished_run_has_its_errors_and_report(tmp_path, capsys):
    this = make_run(tmp_path)
    assert main(["runs", "--root", str(tmp_path)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "when", "duration", "recipe", "top-1", "top-5", "report"]
    assert line.split()[:2] == [this.run_id, "succeeded"]
    assert line.split()[-6:-1] == ["smoke", "37.5", "%", "17.0", "%"]
    assert line.endswith(this.outputs["evaluate"]["report"]["path"])
    assert listed(tmp_path, capsys)[this.run_id]["top5_error"] == 0.17


def test_failed_killed_and_damaged_runs_newest_first(tmp_path, capsys):
    with pytest.raises(TaskFailed):
        make_run(tmp_path, code=7)
    (failed,) = (tmp_path / "runs").iterdir()
    old, older = tmp_path / "runs" / "20200102-030405-0000", tmp_path / "runs" / "20190102-030405-0000"
    old.mkdir()
    older.mkdir()
    (older / "run.json").write_text("{")
    found = listed(tmp_path, capsys)
    assert [run["state"] for run in found.values()] == ["failed", "running or killed", "damaged"]
    assert list(found) == [failed.name, old.name, older.name]
    assert found[failed.name]["report"] == ""
    assert found[failed.name]["top1_error"] is None
    assert found[old.name]["started"] == time.mktime((2020, 1, 2, 3, 4, 5, 0, 0, -1))


def test_records_of_runs_elsewhere_are_listed_too(tmp_path, capsys):
    this = make_run(tmp_path)
    for run_id, state in (("on-a-cluster", "FAILED"), ("on-a-cluster", "SUCCEEDED"), (this.run_id, "FAILED")):
        publish(record(run_id, state), str(tmp_path))
    (tmp_path / "outcomes" / "other.json").write_text("[]")
    found = listed(tmp_path, capsys)
    assert set(found) == {"on-a-cluster", this.run_id}
    assert found["on-a-cluster"]["state"] == "succeeded"  # its last word
    assert found["on-a-cluster"]["recipe"] == "alexnet-2012"
    assert found[this.run_id]["top1_error"] == 0.375  # the folder says more


def test_a_root_in_an_object_store(bucket, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert listed(bucket, capsys) == {}
    publish(record("on-a-cluster"), bucket)
    home = tmp_path / ".alexnet"
    home.mkdir()
    here = make_run(home, root_uri=storage.absolute(bucket))
    make_run(home, root_uri="gs://alexnet/another")
    assert set(listed(bucket, capsys)) == {"on-a-cluster", here.run_id}
