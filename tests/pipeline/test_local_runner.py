"""The local runner on small graphs of real processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from kfp import compiler, dsl

from components.shared.errors import UsageError
from pipeline.console import Console
from pipeline.local.cache import Cache
from pipeline.local.engine import ProcessEngine
from pipeline.local.runner import TaskFailed, new_run, run_pipeline
from pipeline.spec import ir

WRITE = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(sys.argv[1])"
APPEND = (
    "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text() + sys.argv[3])"
)


@dsl.container_component
def write(text: str, out: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image="x", command=["python", "-c"], args=[WRITE, text, out.path])


@dsl.container_component
def append(before: dsl.Input[dsl.Artifact], suffix: str, out: dsl.Output[dsl.HTML]):
    return dsl.ContainerSpec(image="x", command=["python", "-c"], args=[APPEND, before.path, out.path, suffix])


@dsl.container_component
def script(code: str, out: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(
        image="x", command=["python", "-c"], args=[code, out.path, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
    )


@dsl.pipeline(name="chain")
def chain(text: str, suffix: str = "!", count: int = 2):
    first = write(text=text)
    append(before=first.outputs["out"], suffix=suffix)


@dsl.pipeline(name="single")
def single(code: str):
    script(code=code)


def compiled(pipeline, folder):
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return ir.load(path)


def run(pipeline, folder, cache=True, **values):
    this = new_run(folder, pipeline.defaults | values)
    run_pipeline(pipeline, this, ProcessEngine(), Cache(folder / "cache") if cache else None, Console())
    return this


def task_record(this, task):
    return json.loads((this.run_dir / task / "task.json").read_text())


def test_artifacts_and_parameters_travel(tmp_path):
    this = run(compiled(chain, tmp_path), tmp_path, text="a b 'c' {{x}}")
    path = Path(this.outputs["append"]["out"]["path"])
    assert path.read_text() == "a b 'c' {{x}}!"
    assert path.suffix == ".html"
    record = task_record(this, "append")
    assert record["exit_code"] == 0
    assert record["inputs"]["before"]["path"] == this.outputs["write"]["out"]["path"]
    assert json.loads((this.run_dir / "run.json").read_text())["status"] == "succeeded"


@pytest.mark.slow
def test_the_cache_knows_parameters_and_inputs(tmp_path):
    pipeline = compiled(chain, tmp_path)
    first = run(pipeline, tmp_path, text="a")
    again = run(pipeline, tmp_path, text="a")
    assert [task_record(again, t)["cached_from"] for t in ("write", "append")] == [first.run_id] * 2
    assert Path(again.outputs["append"]["out"]["path"]).read_text() == "a!"
    # Another suffix: only the second step runs. Another text: both.
    suffix = run(pipeline, tmp_path, text="a", suffix="?")
    assert [bool(task_record(suffix, t)["cached_from"]) for t in ("write", "append")] == [True, False]
    text = run(pipeline, tmp_path, text="b")
    assert [bool(task_record(text, t)["cached_from"]) for t in ("write", "append")] == [False, False]
    assert not task_record(run(pipeline, tmp_path, cache=False, text="a"), "write")["cached_from"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("other")])
def test_a_hit_with_a_damaged_output_is_a_miss(tmp_path, damage):
    pipeline = compiled(chain, tmp_path)
    first = run(pipeline, tmp_path, text="a")
    damage(Path(first.outputs["append"]["out"]["path"]))
    again = run(pipeline, tmp_path, text="a")
    assert not task_record(again, "append")["cached_from"]
    assert Path(again.outputs["append"]["out"]["path"]).read_text() == "a!"


@pytest.mark.slow
def test_a_fast_failure_is_a_failure_every_time(tmp_path):
    pipeline = compiled(single, tmp_path)
    for _ in range(20):
        with pytest.raises(TaskFailed, match=r"script failed with exit code 7"):
            run(pipeline, tmp_path, code="import sys; sys.exit(7)")


def test_a_failure_names_its_log_and_is_not_cached(tmp_path):
    pipeline = compiled(single, tmp_path)
    for _ in range(2):
        with pytest.raises(TaskFailed, match=r"log: .*log\.jsonl"):
            run(pipeline, tmp_path, code="print('why'); raise SystemExit(65)")
    run_dir = max((tmp_path / "runs").iterdir())
    assert "why" in (run_dir / "script" / "log.jsonl").read_text()
    assert json.loads((run_dir / "script" / "task.json").read_text())["exit_code"] == 65
    assert json.loads((run_dir / "run.json").read_text())["status"] == "failed"


def test_a_task_without_its_output_failed(tmp_path):
    with pytest.raises(TaskFailed, match="did not write out"):
        run(compiled(single, tmp_path), tmp_path, code="pass")


def test_metadata_comes_from_the_executor_output(tmp_path):
    code = textwrap.dedent("""
        import json, pathlib, sys
        pathlib.Path(sys.argv[1]).write_text("x")
        outputs = json.loads(sys.argv[2])["outputs"]
        artifact = outputs["artifacts"]["out"]["artifacts"][0] | {"metadata": {"top1_error": 0.25}}
        pathlib.Path(outputs["outputFile"]).write_text(json.dumps({"artifacts": {"out": {"artifacts": [artifact]}}}))
    """)
    this = run(compiled(single, tmp_path), tmp_path, code=code)
    assert this.outputs["script"]["out"]["metadata"] == {"top1_error": 0.25}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_stops_the_task_in_order(tmp_path, number):
    code = textwrap.dedent("""
        import pathlib, signal, sys, time
        place = pathlib.Path(sys.argv[1])
        def save(*_):
            place.with_name("saved").write_text("saved")
            sys.exit(75)
        signal.signal(signal.SIGTERM, save)
        place.with_name("started").write_text("")
        time.sleep(60)
    """)
    driver = textwrap.dedent("""
        import signal, sys
        from pathlib import Path
        from pipeline.spec import ir
        from pipeline.console import Console
        from pipeline.local.engine import ProcessEngine
        from pipeline.local.runner import new_run, run_pipeline
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        this = new_run(Path(sys.argv[1]), {"code": sys.argv[2]})
        run_pipeline(ir.load(Path(sys.argv[1]) / "pipeline.yaml"), this, ProcessEngine(), None, Console())
    """)
    compiled(single, tmp_path)
    process = subprocess.Popen([sys.executable, "-c", driver, str(tmp_path), code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("runs/*/script/started")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=30)
    assert "Interrupted" in stderr
    assert list(tmp_path.glob("runs/*/script/saved"))
    (run_json,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(run_json.read_text())["status"] == "cancelled"


@dsl.pipeline(name="branch")
def branch(text: str):
    with dsl.If(text == "a"):
        write(text=text)


@dsl.pipeline(name="loop")
def loop():
    with dsl.ParallelFor(["a", "b"]):
        write(text="a")


@pytest.mark.parametrize("pipeline", [branch, loop])
def test_what_it_does_not_do_is_refused(tmp_path, pipeline):
    with pytest.raises(UsageError, match="local runner"):
        compiled(pipeline, tmp_path)
