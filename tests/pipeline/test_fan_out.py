"""Loops, collected lists and the exit task in the local runner, on small graphs of real processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import alexnet
from containers import need
from kfp import compiler, dsl

from components.shared.errors import UsageError
from pipeline import images
from pipeline.console import Console
from pipeline.local.cache import Cache
from pipeline.local.engine import DockerEngine, ProcessEngine
from pipeline.local.runner import TaskFailed, new_run, run_pipeline
from pipeline.spec import ir

IMAGE = images.tag("outcome")  # for the one test in containers; processes take no notice
SEED = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(sys.argv[1])"
GROW = textwrap.dedent("""
    import pathlib, sys, time
    before, seed, bad, out = sys.argv[1:]
    pathlib.Path(out).with_name("started").write_text("")
    if seed == bad:
        sys.exit(65)
    if bad == "-2":
        time.sleep(60)
    pathlib.Path(out).write_text(pathlib.Path(before).read_text() + seed)
""")
TRIM = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text().strip('<'))"
JOIN = textwrap.dedent("""
    import json, pathlib, sys
    parts, out, executor_input = sys.argv[1:]
    given = json.loads(executor_input)["inputs"]["artifacts"]["parts"]["artifacts"]
    assert [entry["uri"] for entry in given] == parts.split(",")
    pathlib.Path(out).write_text(" ".join(pathlib.Path(part).read_text() for part in parts.split(",")))
""")
NOTE = "import pathlib, sys; pathlib.Path(sys.argv[3]).write_text(sys.argv[1]); sys.exit(int(sys.argv[2]))"


def container(*words):
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-c"], args=list(words))


@dsl.container_component
def write(text: str, out: dsl.Output[dsl.Artifact]):
    return container(SEED, text, out.path)


@dsl.container_component
def grow(before: dsl.Input[dsl.Artifact], seed: int, bad: int, out: dsl.Output[dsl.Artifact]):
    return container(GROW, before.path, seed, bad, out.path)


@dsl.container_component
def trim(before: dsl.Input[dsl.Artifact], out: dsl.Output[dsl.Artifact]):
    return container(TRIM, before.path, out.path)


@dsl.container_component
def join(parts: dsl.Input[list[dsl.Artifact]], out: dsl.Output[dsl.Artifact]):
    return container(JOIN, parts, out.path, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)


@dsl.container_component
def note(status: dsl.PipelineTaskFinalStatus, run_id: str, place: dict, code: int, out: dsl.Output[dsl.Markdown]):
    return container(NOTE, status, code, out.path, run_id, place)


@dsl.pipeline(name="fan")
def fan(
    text: str = "<",
    seeds: list[int] = [0],  # noqa: B006
    bad: int = -1,
    code: int = 0,
    place: dict = {"zone": "a", "taints": ["x", "y"]},  # noqa: B006
):
    end = note(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, place=place, code=code)
    with dsl.ExitHandler(end):
        first = write(text=text)
        with dsl.ParallelFor(seeds) as seed:
            grown = grow(before=first.outputs["out"], seed=seed, bad=bad)
            trimmed = trim(before=grown.outputs["out"])
        join(parts=dsl.Collected(trimmed.outputs["out"]))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return compiled(fan, tmp_path_factory.mktemp("fan"))


def compiled(function, folder):
    compiler.Compiler().compile(function, str(folder / "pipeline.yaml"))
    return ir.load(folder / "pipeline.yaml")


def run(pipeline, folder, engine=None, **values):
    this = new_run(folder, pipeline.defaults | values)
    run_pipeline(pipeline, this, engine or ProcessEngine(), Cache(folder / "cache"), Console())
    return this


def text_of(this, task):
    return Path(this.outputs[task]["out"]["path"]).read_text()


def task_record(folder, task):
    return json.loads((folder / task / "task.json").read_text())


def status_of(folder):
    (path,) = folder.glob("runs/*/note/out.md")
    return json.loads(path.read_text())


def check_fan(this):
    assert list(this.outputs) == [
        "write",
        "grow-seed-3",
        "grow-seed-1",
        *(f"trim-item-{s}" for s in (3, 1)),
        "join",
        "note",
    ]
    assert text_of(this, "join") == "3 1"  # each item's own, in the order of the list
    assert json.loads(text_of(this, "note")) == {
        "state": "SUCCEEDED",
        "pipelineTaskName": "join",
        "pipelineJobResourceName": this.run_id,
        "error": {"message": ""},
    }


@pytest.mark.slow
def test_a_task_for_each_item_and_all_of_them_collected(pipeline, tmp_path):
    this = run(pipeline, tmp_path, seeds=[3, 1])
    check_fan(this)
    record = task_record(this.run_dir, "join")
    assert [entry["path"] for entry in record["inputs"]["parts"]] == [
        this.outputs[f"trim-item-{seed}"]["out"]["path"] for seed in (3, 1)
    ]
    note = task_record(this.run_dir, "note")
    assert note["command"][-2:] == [this.run_id, '{"taints":["x","y"],"zone":"a"}']
    assert json.loads((this.run_dir / "run.json").read_text())["status"] == "succeeded"


@pytest.mark.docker
def test_the_same_in_containers(pipeline, tmp_path):
    need("outcome")
    check_fan(run(pipeline, tmp_path, DockerEngine({tmp_path: True}, "none"), seeds=[3, 1]))


@pytest.mark.slow
def test_a_single_item_needs_no_name_of_its_own(pipeline, tmp_path):
    this = run(pipeline, tmp_path, seeds=[7])
    assert list(this.outputs) == ["write", "grow", "trim", "join", "note"]
    assert text_of(this, "join") == "7"


@pytest.mark.slow
def test_the_cache_knows_each_item_and_the_list(pipeline, tmp_path):
    run(pipeline, tmp_path, seeds=[3, 1])
    cached = {
        task: bool(task_record(this.run_dir, task)["cached_from"])
        for this in [run(pipeline, tmp_path, seeds=[1, 4])]
        for task in this.outputs
    }
    assert cached == {
        "write": True, "grow-seed-1": True, "grow-seed-4": False, "trim-item-1": True, "trim-item-4": False,
        "join": False, "note": False,
    }  # fmt: skip
    order = run(pipeline, tmp_path, seeds=[1, 3])
    assert not task_record(order.run_dir, "join")["cached_from"]
    assert text_of(order, "join") == "1 3"
    again = run(pipeline, tmp_path, seeds=[3, 1])
    assert task_record(again.run_dir, "join")["cached_from"]
    assert not task_record(again.run_dir, "note")["cached_from"]  # it is there for its effect


# ---- the exit task ----


def test_it_runs_after_a_failure_and_is_told_which(pipeline, tmp_path):
    with pytest.raises(TaskFailed, match="grow-seed-1 failed with exit code 65"):
        run(pipeline, tmp_path, seeds=[0, 1, 2], bad=1)
    status = status_of(tmp_path)
    assert (status["state"], status["pipelineTaskName"]) == ("FAILED", "grow-seed-1")
    assert status["error"]["message"].startswith("grow-seed-1 failed with exit code 65")
    assert "\n" not in status["error"]["message"]
    (run_json,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(run_json.read_text())["status"] == "failed"
    assert not list(tmp_path.glob("runs/*/*-2"))


def test_its_own_failure_hides_no_other(pipeline, tmp_path, capsys):
    with pytest.raises(TaskFailed, match="grow failed with exit code 65"):
        run(pipeline, tmp_path, seeds=[1], bad=1, code=9)
    assert "note         failed too: note failed with exit code 9" in capsys.readouterr().err


def test_its_own_failure_is_one(pipeline, tmp_path):
    with pytest.raises(TaskFailed, match="note failed with exit code 9"):
        run(pipeline, tmp_path, code=9)
    (run_json,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(run_json.read_text())["status"] == "failed"


@pytest.mark.slow
def test_it_runs_when_the_run_was_stopped(tmp_path):
    driver = textwrap.dedent("""
        import sys
        from pathlib import Path
        from pipeline.spec import ir
        from pipeline.console import Console
        from pipeline.local.engine import ProcessEngine
        from pipeline.local.runner import new_run, run_pipeline
        pipeline = ir.load(Path(sys.argv[1]) / "pipeline.yaml")
        this = new_run(Path(sys.argv[1]), pipeline.defaults | {"seeds": [5, 6], "bad": -2})
        run_pipeline(pipeline, this, ProcessEngine(), None, Console())
    """)
    compiled(fan, tmp_path)
    process = subprocess.Popen([sys.executable, "-c", driver, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("runs/*/grow-seed-5/started")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert "Interrupted" in stderr
    status = status_of(tmp_path)
    assert (status["state"], status["pipelineTaskName"]) == ("CANCELLED", "grow-seed-5")
    (run_json,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(run_json.read_text())["status"] == "cancelled"


# ---- rerun ----


def folder_of(done):
    return Path(next(line for line in done.stdout.splitlines() if line.startswith("folder: "))[8:])


def rerun(this, *arguments):
    return alexnet("rerun", this.run_id, *arguments, "--root", this.run_dir.parents[1])


@pytest.mark.slow
def test_one_item_and_a_collected_list_run_again(pipeline, tmp_path):
    this = run(pipeline, tmp_path, seeds=[3, 1])
    done = rerun(this, "grow-seed-3")
    assert done.returncode == 0, done.stderr
    assert "output out: the same" in done.stdout
    changed = rerun(this, "grow-seed-3", "--param", "seed=4")
    assert "parameter seed: 3 -> 4" in changed.stdout
    assert (folder_of(changed) / "out.json").read_text() == "<4"
    joined = rerun(this, "join")
    assert joined.returncode == 0, joined.stderr
    assert "output out: the same" in joined.stdout
    assert task_record(folder_of(joined), "")["inputs"] == task_record(this.run_dir, "join")["inputs"]
    unknown = rerun(this, "grow")
    assert unknown.returncode == 2
    assert "grow-seed-1, grow-seed-3" in unknown.stderr
    Path(this.outputs["trim-item-1"]["out"]["path"]).write_text("other")
    refused = rerun(this, "join")
    assert refused.returncode == 65
    assert "input parts: " in refused.stderr
    assert "trim-item-1" in refused.stderr


# ---- what it does not do ----


@dsl.pipeline(name="words")
def over_words(words: list[str]):
    with dsl.ParallelFor(words) as word:
        write(text=word)


@dsl.pipeline(name="constant")
def over_a_constant():
    with dsl.ParallelFor([1, 2]):
        write(text="a")


@dsl.pipeline(name="nested")
def loop_in_loop(seeds: list[int]):
    with dsl.ParallelFor(seeds), dsl.ParallelFor(seeds) as seed:
        grow(before=write(text="a").outputs["out"], seed=seed, bad=0)


@dsl.pipeline(name="limited")
def few_at_a_time(seeds: list[int]):
    with dsl.ParallelFor(seeds, parallelism=2):
        write(text="a")


@dsl.pipeline(name="part")
def exit_of_a_part(place: dict):
    write(text="a")
    with dsl.ExitHandler(note(run_id="", place=place, code=0)):
        write(text="b")


@dsl.component(base_image="x")
def python(config: dsl.TaskConfig = None):
    pass


@dsl.pipeline(name="configured")
def other_type():
    python()


@dsl.pipeline(name="named")
def other_placeholder():
    write(text=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (over_words, "a loop over items of type STRING"),
        (over_a_constant, "a loop over anything but a pipeline parameter"),
        (loop_in_loop, "a loop in a loop"),
        (few_at_a_time, "iteratorPolicy"),
        (other_type, "type TASK_CONFIG"),
        (exit_of_a_part, "an exit task that is not the only one, or not of the whole pipeline"),
    ],
)
def test_other_loops_and_exit_tasks_are_refused_by_name(tmp_path, function, named):
    with pytest.raises(UsageError, match=f"{named} is not something the local runner does"):
        compiled(function, tmp_path)


def test_other_placeholders_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"pipeline_task_name.* is not something the local runner does"):
        run(compiled(other_placeholder, tmp_path), tmp_path)
