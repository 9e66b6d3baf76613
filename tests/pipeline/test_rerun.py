"""`alexnet rerun` on small graphs of real processes."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import alexnet
from kfp import compiler, dsl

from pipeline.console import Console
from pipeline.local.engine import ProcessEngine
from pipeline.local.runner import new_run, run_pipeline
from pipeline.spec import ir

WRITE = """
import json, pathlib, sys
text, gpus, out, executor_input = sys.argv[1:]
if text == "fail":
    sys.exit(7)
bulk = pathlib.Path(out).with_name("bulk")
bulk.mkdir(parents=True)
(bulk / "part").write_text(text)
files = {"part": {"num_bytes": len(text), "sha256": ""}}
pathlib.Path(out).write_text(json.dumps({"base_uri": str(bulk), "digest": text, "files": files}))
outputs = json.loads(executor_input)["outputs"]
artifact = outputs["artifacts"]["out"]["artifacts"][0] | {"metadata": {"length": len(text)}}
pathlib.Path(outputs["outputFile"]).write_text(json.dumps({"artifacts": {"out": {"artifacts": [artifact]}}}))
"""
APPEND = (
    "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text() + sys.argv[3])"
)


@dsl.container_component
def write(text: str, gpus: int, out: dsl.Output[dsl.Dataset]):
    return dsl.ContainerSpec(
        image="x",
        command=["python", "-c"],
        args=[WRITE, text, gpus, out.path, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
    )


@dsl.container_component
def append(before: dsl.Input[dsl.Dataset], suffix: str, out: dsl.Output[dsl.HTML]):
    return dsl.ContainerSpec(image="x", command=["python", "-c"], args=[APPEND, before.path, out.path, suffix])


@dsl.pipeline(name="chain")
def chain(text: str, suffix: str = "!", gpus: int = 0):
    first = write(text=text, gpus=gpus)
    append(before=first.outputs["out"], suffix=suffix)


@pytest.fixture
def past(tmp_path):
    """A finished run of the chain: its Run, under <tmp_path>/root."""
    compiler.Compiler().compile(chain, str(tmp_path / "pipeline.yaml"))
    pipeline = ir.load(tmp_path / "pipeline.yaml")
    this = new_run(tmp_path / "root", pipeline.defaults | {"text": "a"})
    run_pipeline(pipeline, this, ProcessEngine(), None, Console())
    return this


def rerun(past, *arguments):
    return alexnet("rerun", past.run_id, *arguments, "--root", past.run_dir.parents[1])


def folder_of(done):
    return Path(next(line for line in done.stdout.splitlines() if line.startswith("folder: "))[8:])


@pytest.mark.slow
def test_the_same_again_gives_the_same(past):
    done = rerun(past, "append")
    assert done.returncode == 0, done.stderr
    assert "parameters: the same" in done.stdout
    assert "code: the same" in done.stdout
    assert "output out: the same" in done.stdout
    again = json.loads((folder_of(done) / "task.json").read_text())
    assert again["inputs"]["before"]["path"] == past.outputs["write"]["out"]["path"]
    assert again["outputs"]["out"]["path"] != past.outputs["append"]["out"]["path"]


@pytest.mark.slow
def test_a_changed_parameter_is_named_with_what_it_changed(past):
    before = Path(past.outputs["write"]["out"]["path"]).read_bytes()
    done = rerun(past, "write", "--param", "text=abc")
    assert done.returncode == 0, done.stderr
    assert "parameter text: a -> abc" in done.stdout
    assert "output out: differs" in done.stdout
    assert "  length: 1 -> 3" in done.stdout
    assert Path(past.outputs["write"]["out"]["path"]).read_bytes() == before


@pytest.mark.slow
def test_gpus_are_the_parameter_of_that_name(past):
    done = rerun(past, "write", "--gpus", "2")
    assert "parameter gpus: 0 -> 2" in done.stdout
    refused = rerun(past, "append", "--gpus", "2")
    assert refused.returncode == 2
    assert "gpus" in refused.stderr


@pytest.mark.slow
def test_task_json_alone_is_enough(past, tmp_path):
    copy = tmp_path / "elsewhere.json"
    shutil.copyfile(past.run_dir / "append" / "task.json", copy)
    shutil.rmtree(past.run_dir / "append")
    (past.run_dir / "run.json").unlink()
    (tmp_path / "pipeline.yaml").unlink()
    done = alexnet("rerun", copy, "--root", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert "output out: the same" in done.stdout
    assert folder_of(done).is_relative_to(tmp_path / "other")
    assert alexnet("rerun", copy, "write", "--root", tmp_path / "other").returncode == 2


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: path.unlink(), "out.json"),
        (lambda path: path.write_text("other"), "out.json"),
        (lambda path: (path.with_name("bulk") / "part").unlink(), "bulk/part"),
        (lambda path: (path.with_name("bulk") / "part").write_text("longer"), "bulk/part"),
    ],
)
@pytest.mark.slow
def test_a_changed_or_missing_input_is_refused_by_name(past, damage, named):
    damage(Path(past.outputs["write"]["out"]["path"]))
    done = rerun(past, "append")
    assert done.returncode == 65
    assert "input before: " in done.stderr
    assert named in done.stderr
    assert not (past.run_dir.parents[1] / "reruns").exists()


@pytest.mark.slow
def test_what_does_not_exist_is_refused_with_what_does(past, tmp_path):
    done = rerun(past, "apend")
    assert done.returncode == 2
    assert "append, write" in done.stderr
    assert alexnet("rerun", "never", "append", "--root", tmp_path / "root").returncode == 2
    assert rerun(past, "append", "--param", "sufix=?").returncode == 2
    (tmp_path / "task.json").write_text("{}")
    assert alexnet("rerun", tmp_path / "task.json").returncode == 65


def test_a_shell_needs_a_container(past):
    assert rerun(past, "append", "--shell", "--runner", "process").returncode == 2


@pytest.mark.slow
def test_a_task_that_fails_again_says_where_its_log_is(past):
    done = rerun(past, "write", "--param", "text=fail")
    assert done.returncode == 1
    assert "failed with exit code 7" in done.stderr
    assert json.loads((folder_of(done) / "task.json").read_text())["exit_code"] == 7
