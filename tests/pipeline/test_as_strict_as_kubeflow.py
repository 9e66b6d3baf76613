"""What Kubeflow's API server, driver and launcher refuse, the local runner refuses, for the same reason."""

import json
import textwrap

import pytest
import yaml
from kfp import compiler, dsl

from components.evaluate.contract import Evaluate
from components.shared.errors import UsageError
from pipeline.commands import compile as compiling
from pipeline.commands.alexnet import parser
from pipeline.console import Console
from pipeline.graph import graph
from pipeline.graph.component import container_component
from pipeline.local.engine import ProcessEngine
from pipeline.local.runner import TaskFailed, new_run, run_pipeline
from pipeline.spec import ir


@dsl.container_component
def write(out: dsl.Output[dsl.Artifact], text: str = "x", number: int = 1):
    return dsl.ContainerSpec(image="x", command=["python", "-c"], args=["pass", text, number, out.path])


@dsl.container_component
def unused(out: dsl.Output[dsl.Artifact], text: str = "x"):
    return dsl.ContainerSpec(image="x", command=["python", "-c"], args=["pass", out.path])


@dsl.container_component
def program(before: dsl.Input[dsl.Artifact], out: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image="x", command=[before.path], args=[out.path])


@dsl.container_component
def script(code: str, out: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(
        image="x", command=["python", "-c"], args=[code, out.path, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER]
    )


@dsl.pipeline(name="single")
def single(code: str, count: int = 1):
    script(code=code)


def documents(pipeline, folder):
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def run(pipeline, folder, **values):
    this = new_run(folder, values)
    run_pipeline(pipeline, this, ProcessEngine(), None, Console())
    return this


# ---- the driver: flags ----


def test_a_default_of_a_component_does_not_fill_a_flag(tmp_path):
    @dsl.pipeline(name="left-out")
    def left_out():
        write(number=2)

    with pytest.raises(
        UsageError,
        match=r'task write: failed to resolve container args: .*: parameter "text" not found in executor input',
    ):
        ir.read(yaml.safe_dump_all(documents(left_out, tmp_path)))


def test_a_default_that_no_flag_uses_is_the_components_own_business(tmp_path):
    @dsl.pipeline(name="unused")
    def nothing_passed():
        unused()

    (task,) = ir.read(yaml.safe_dump_all(documents(nothing_passed, tmp_path))).tasks
    assert ir.resolve(task, {}) == {}  # what the driver passes; the component knows its default


def test_a_nested_pipeline_is_given_its_defaults(tmp_path):
    @dsl.pipeline(name="inner")
    def inner(text: str = "from the inner one"):
        write(text=text, number=1)

    @dsl.pipeline(name="outer")
    def outer():
        inner()

    (task,) = ir.read(yaml.safe_dump_all(documents(outer, tmp_path))).tasks
    assert ir.resolve(task, {}) == {"text": "from the inner one", "number": 1}


def test_a_task_of_ours_cannot_leave_a_parameter_out():
    evaluate = container_component(Evaluate, "x")
    with pytest.raises(TypeError, match=r"missing .* batch_size"):

        @dsl.pipeline(name="left-out")
        def left_out(root_uri: str):
            evaluate(root_uri=root_uri, split="test", gpus="0")


@pytest.mark.slow
def test_the_compiler_refuses_a_flag_that_nothing_fills(monkeypatch):
    broken = graph.compiled().replace("{{$.inputs.parameters[''split'']}}", "{{$.inputs.parameters[''part'']}}")
    monkeypatch.setattr(graph, "compiled", lambda: broken)
    with pytest.raises(UsageError, match=r'task evaluate: .*parameter "part" not found'):
        compiling.compile_command(parser().parse_args(["compile", "--check"]))


def test_the_launcher_fills_no_program_name(tmp_path):
    @dsl.pipeline(name="named")
    def named():
        program(before=write(text="a", number=1).outputs["out"])

    with pytest.raises(UsageError, match=r"task program: Kubeflow's launcher leaves .* in the name of the program"):
        ir.read(yaml.safe_dump_all(documents(named, tmp_path)))


# ---- the driver: types ----


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        ("two", "type mismatch: expect NUMBER_INTEGER, got string"),
        (True, "type mismatch: expect NUMBER_INTEGER, got bool"),
        ([2], "type mismatch: expect NUMBER_INTEGER, got list"),
    ],
)
def test_a_value_of_another_type_stops_a_task(tmp_path, constant, message):
    @dsl.pipeline(name="typed")
    def constants():
        write(text="a", number=2)

    spec, *_ = documents(constants, tmp_path)
    source = spec["root"]["dag"]["tasks"]["write"]["inputs"]["parameters"]["number"]
    source["runtimeValue"]["constant"] = constant
    with pytest.raises(UsageError, match=message):
        run(ir.read(yaml.safe_dump(spec)), tmp_path)


def test_a_number_for_a_text_is_written_as_one(tmp_path):
    @dsl.pipeline(name="typed")
    def constants():
        write(text="a", number=2)

    spec, *_ = documents(constants, tmp_path)
    spec["root"]["dag"]["tasks"]["write"]["inputs"]["parameters"]["text"]["runtimeValue"]["constant"] = 1.5
    (task,) = ir.read(yaml.safe_dump(spec)).tasks
    assert ir.resolve(task, {}) == {"text": "1.5", "number": 2}


# ---- the API server ----


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "parameter code is not optional, yet has neither default value nor user provided value"),
        ({"code": 1}, "input parameter code requires type string"),
        ({"code": None}, "input parameter code requires type string"),
        ({"code": "pass", "count": "1"}, "input parameter count requires type double or integer"),
        ({"code": "pass", "other": 1}, "not required by pipeline: other"),
    ],
)
def test_parameters_are_refused_before_anything_runs(tmp_path, values, message):
    with pytest.raises(UsageError, match=message):
        run(ir.read(yaml.safe_dump_all(documents(single, tmp_path))), tmp_path, **values)
    assert not list(tmp_path.glob("runs/*/script"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((), "the first document: foo"),
        (("deploymentSpec", "executors", "exec-script", "container"), "task script, container: foo"),
        (("root", "inputDefinitions", "parameters", "code"), "parameter code: foo"),
        (("root", "dag", "tasks", "script"), "task script: foo"),
    ],
)
def test_an_unknown_field_is_refused(tmp_path, place, message):
    spec, *_ = documents(single, tmp_path)
    entry = spec
    for key in place:
        entry = entry[key]
    entry["foo"] = 1
    with pytest.raises(UsageError, match=message):
        ir.read(yaml.safe_dump(spec))


def test_another_schema_is_refused(tmp_path):
    spec, *_ = documents(single, tmp_path)
    with pytest.raises(UsageError, match=r"schema version 2.0.0; Kubeflow takes 2.1.0 only"):
        ir.read(yaml.safe_dump(spec | {"schemaVersion": "2.0.0"}))


# ---- the launcher ----


def outputs(artifact):
    return {"artifacts": {"out": {"artifacts": [artifact]}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (outputs({"metadata": {"top1_error": float("nan")}}), "NaN is no number of JSON"),
        (outputs({"metadata": {"top1_error": float("inf")}}), "Infinity is no number of JSON"),
        (outputs({"metadata": {"top1_error": None}}), "metadata top1_error: unknown/unsupported value type null"),
        (outputs({"metadata": [1]}), "metadata is no object"),
        (outputs({"path": "/x"}), "unknown field 'path'"),
        (outputs({"uri": 1}), "uri is no text"),
        ({"artifacts": {}, "metrics": {}}, "unknown field 'metrics'"),
        ({"artifacts": {"out": {"list": []}}}, "unknown field 'list'"),
        ([], "the file is no object"),
    ],
)
def test_what_the_launcher_cannot_read_fails_a_finished_task(tmp_path, content, message):
    code = textwrap.dedent(f"""
        import json, pathlib, sys
        pathlib.Path(sys.argv[1]).write_text("x")
        pathlib.Path(json.loads(sys.argv[2])["outputs"]["outputFile"]).write_text({json.dumps(content)!r})
    """)
    with pytest.raises(TaskFailed, match=f"Kubeflow would fail it: .*{message}"):
        run(ir.read(yaml.safe_dump_all(documents(single, tmp_path))), tmp_path, code=code, count=1)


def test_the_executor_input_has_what_the_task_passes_only(tmp_path):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    this = run(ir.read(yaml.safe_dump_all(documents(single, tmp_path))), tmp_path, code=code, count=1)
    told = json.loads((this.run_dir / "script" / "out.json").read_text())
    assert told["inputs"] == {"parameterValues": {"code": code}, "artifacts": {}}
