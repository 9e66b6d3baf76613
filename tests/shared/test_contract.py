"""Contracts: values survive the command line, wrong flags fail early, Kubeflow gets its file, exit codes hold."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import contract
from components.shared.contract import command_line, executor
from components.shared.contract.field import JSON_TYPES
from components.shared.errors import UsageError

PROJECT_DIR = Path(__file__).parents[2]
COMPONENTS = ["sample", "ingest", "statistics", "train", "evaluate", "outcome"]
HEAVY = {"tensorflow", "keras", "apache_beam", "jinja2", "numpy", "cv2", "PIL", "scipy", "matplotlib", "kfp", "jax"}


def contract_of(component: str) -> type[contract.Contract]:
    return getattr(importlib.import_module(f"components.{component}.contract"), component.capitalize())


def values_of(field: contract.Field, flags: set[str]) -> st.SearchStrategy[Any]:
    if field.choices:
        return st.sampled_from(field.choices)
    if field.names:
        names, switches = st.sampled_from(field.names), st.lists(st.sampled_from(field.switches), unique=True)
        return st.builds(lambda name, switches: "+".join([name, *switches]), names, switches)
    if field.type is bool:
        return st.booleans()
    if field.type is int:
        low = None if field.minimum is None else int(field.minimum)
        return st.integers(low, None if field.maximum is None else int(field.maximum))
    if field.type is float:
        return st.floats(field.minimum, field.maximum, allow_nan=False)
    if field.type in JSON_TYPES:
        texts = st.text(max_size=5)
        leaves = st.none() | st.booleans() | st.integers() | texts
        plain = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5)
        return st.lists(plain) if JSON_TYPES[field.type] is list else st.dictionaries(texts, plain)
    taken = {*flags, "--"}  # argparse drops a lone --
    if field.is_list:
        paths = st.lists(st.text(min_size=1).filter(lambda text: "," not in text), min_size=1)
        return paths.map(tuple).filter(lambda paths: field.render(paths) not in taken)
    return st.text().filter(lambda text: text not in taken) | st.sampled_from(["", "--x=1", "-v", "a b", "ä/ß"])


def required_words(declared: type[contract.Contract]) -> list[str]:
    empty = {dict: "{}", list: "[]"}
    required = [f for f in contract.fields(declared) if f.required]
    return [word for f in required for word in (f.flag, empty.get(JSON_TYPES.get(f.type), "somewhere"))]


@pytest.mark.slow
@pytest.mark.parametrize("component", COMPONENTS)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(data=st.data())
def test_values_survive_the_command_line(component: str, data: st.DataObject) -> None:
    declared = contract_of(component)
    fields = contract.fields(declared)
    flags = {f.flag for f in fields}
    values = {f.name: data.draw(values_of(f, flags), label=f.name) for f in fields}
    words = [word for f in fields for word in (f.flag, f.render(values[f.name]))]  # the form that Kubeflow uses
    config, executor_input = command_line.parse(declared, words)
    assert config == declared(**values)
    assert executor_input == {}
    joined = [f"{f.flag}={f.render(values[f.name])}" for f in fields]
    assert command_line.parse(declared, joined)[0] == config


@pytest.mark.parametrize("component", COMPONENTS)
def test_defaults_are_valid_and_flags_few(component: str) -> None:
    declared = contract_of(component)
    config, _ = command_line.parse(declared, required_words(declared))
    parameters = [f for f in contract.fields(declared) if f.role == "parameter"]
    assert len(parameters) <= 12
    for f in parameters:
        if not f.required:
            assert f.parse(f.render(f.default)) == f.default == getattr(config, f.name)
    assert all(f.help for f in contract.fields(declared))


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("extra", [["--no-such-flag", "1"], ["--see", "1"], ["stray"]])
def test_unknown_abbreviated_and_stray_words(component: str, extra: list[str], capsys: pytest.CaptureFixture) -> None:
    declared = contract_of(component)
    with pytest.raises(SystemExit) as stop:
        command_line.parse(declared, required_words(declared) + extra)
    assert stop.value.code == 2
    assert extra[0] in capsys.readouterr().err


def test_missing_flags(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.parse(contract_of("train"), ["--dataset", "--statistics", "x"])
    assert stop.value.code == 2
    assert "--dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("component", "flag", "text", "message"),
    [
        ("train", "--seed", "one", "expected a number of type int, got 'one'"),
        ("train", "--seed", "-1", "expected at least 0, got -1"),
        ("train", "--seed", "1.5", "expected a number of type int"),
        ("train", "--checkpoint-minutes", "nan", "expected at least 0, got nan"),
        ("train", "--recipe", "vgg", "expected one of alexnet-2012"),
        ("train", "--recipe", "smoke+vgg", "expected after smoke, each once, any of +no-lrn"),
        ("train", "--recipe", "smoke+tanh+tanh", "each once"),
        ("evaluate", "--gpus", "2", "expected at most 1, got 2"),
        ("evaluate", "--models", "a,,b", "expected paths with commas between them"),
        ("evaluate", "--models", "", "expected paths with commas between them"),
        ("ingest", "--jpeg-quality", "101", "expected at most 100"),
        ("outcome", "--status", "FAILED", "expected JSON, got 'FAILED'"),
        ("outcome", "--status", "[]", "expected a JSON object, got '[]'"),
        ("outcome", "--seeds", "{}", "expected a JSON list, got '{}'"),
        ("ingest", "--executor-input", "{", "expected a JSON object"),
        ("ingest", "--executor-input", "[]", "expected a JSON object"),
    ],
)
def test_wrong_values(component: str, flag: str, text: str, message: str) -> None:
    declared = contract_of(component)
    with pytest.raises(UsageError) as error:
        command_line.parse(declared, [*required_words(declared), flag, text])
    assert str(error.value).startswith(f"{flag}: ")
    assert message in str(error.value)


def test_booleans_read_true_and_false() -> None:
    field = contract.Field(
        name="resume",
        type=bool,
        role="parameter",
        artifact_type="",
        default=False,
        help="help",
        unit="",
        minimum=None,
        maximum=None,
    )
    assert [field.parse(text) for text in ("true", "false", "True")] == [True, False, True]
    assert [field.parse(field.render(value)) for value in (True, False)] == [True, False]
    for text in ("yes", "1", ""):
        with pytest.raises(UsageError, match="--resume: expected true or false"):
            field.parse(text)


def python(*words: str, **options: Any) -> subprocess.CompletedProcess:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.slow
def test_help_is_quick_and_imports_nothing_heavy(component: str) -> None:
    before = os.times().children_user
    shown = python("-m", f"components.{component}", "--help")
    seconds = os.times().children_user - before  # of the processor, since other tests share the machine
    assert shown.returncode == 0
    assert all(f.flag in shown.stdout for f in contract.fields(contract_of(component)))
    assert seconds < 1
    listing = (
        "import json, runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('components.{component}', run_name='__main__')\n"
        "except SystemExit: print(json.dumps(sorted(sys.modules)))"
    )
    modules = json.loads(python("-c", listing).stdout.splitlines()[-1])
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()
    assert {"google.cloud.storage", "google.protobuf", f"components.{component}.job"} & set(modules) == set()


@pytest.mark.parametrize("component", COMPONENTS)
def test_wrong_flags_exit_2_without_work(component: str) -> None:
    failed = python("-m", f"components.{component}", "--bogus", "1")
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr


EXECUTOR_INPUT = {
    "inputs": {"parameterValues": {"seed": 1}, "artifacts": {}},
    "outputs": {
        "artifacts": {
            name: {
                "artifacts": [
                    {
                        "name": name,
                        "uri": f"gs://bucket/run/{name}",
                        "type": {"schemaTitle": title, "schemaVersion": "0.0.1"},
                        "metadata": {"display_name": name},
                    }
                ]
            }
            for name, title in (("metrics", "system.Metrics"), ("model", "system.Model"))
        }
    },
}


@pytest.mark.slow
def test_executor_output_as_kubeflow_reads_it(tmp_path: Path) -> None:
    from kfp.pipeline_spec import pipeline_spec_pb2

    output_file = tmp_path / "not" / "yet" / "executor_output.json"
    executor_input = json.loads(json.dumps(EXECUTOR_INPUT))
    executor_input["outputs"]["outputFile"] = str(output_file)
    executor.write_output(executor_input, {"metrics": {"top1_error": 0.375, "note": "ä"}})
    written = json.loads(output_file.read_text())
    (metrics,) = written["artifacts"]["metrics"]["artifacts"]
    assert metrics["uri"] == "gs://bucket/run/metrics"
    assert metrics["metadata"] == {"display_name": "metrics", "top1_error": 0.375, "note": "ä"}
    assert written["artifacts"]["model"] == EXECUTOR_INPUT["outputs"]["artifacts"]["model"]
    message = json_format.ParseDict(written, pipeline_spec_pb2.ExecutorOutput())  # refuses unknown fields
    assert message.artifacts["metrics"].artifacts[0].metadata["top1_error"] == 0.375
    with pytest.raises(ValueError, match="JSON compliant"):
        executor.write_output(executor_input, {"metrics": {"top1_error": float("nan")}})


LISTED = [
    {"name": "7", "uri": "gs://bucket/run/a/model", "metadata": {"display_name": "model"}},
    {"name": "8", "uri": "s3://bucket/run/b/model"},
    {"name": "9", "uri": "minio://bucket/run/c/model"},
    {"name": "10", "uri": "/data/d,e/model.json"},
    {"name": "11", "uri": "gs://bucket/run/f/model", "customPath": "/custom/model"},
]


def test_a_list_of_artifacts_comes_from_the_executor_input() -> None:
    evaluate = contract_of("evaluate")
    words = [*required_words(evaluate), "--models", "{{$.inputs.artifacts['models']}}"]  # as the launcher leaves it
    given = json.dumps({"inputs": {"artifacts": {"models": {"artifacts": LISTED}}}, "outputs": {}})
    config, _ = command_line.parse(evaluate, [*words, "--executor-input", given])
    assert config.models == (
        "/gcs/bucket/run/a/model",
        "/s3/bucket/run/b/model",
        "/minio/bucket/run/c/model",
        "/data/d,e/model.json",
        "/custom/model",
    )
    config, _ = command_line.parse(evaluate, [*words[:-1], "a b,c", "--executor-input", '{"inputs": {}}'])
    assert config.models == ("a b", "c")


def test_without_kubeflow_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    executor.write_output({}, {"metrics": {"a": 1}})
    executor.write_output(EXECUTOR_INPUT, {"metrics": {"a": 1}})
    assert list(tmp_path.iterdir()) == []


BODY = '''
"""A component of three lines, to see what `run` makes of its end."""
import sys, time
from dataclasses import dataclass
from typing import ClassVar
from components.shared.contract import Contract, output_artifact, parameter
from components.shared.contract.command_line import run
from components.shared import storage
from components.shared.errors import DataError, StorageError

@dataclass(frozen=True, kw_only=True)
class Tiny(Contract):
    """Tiny."""
    NAME: ClassVar[str] = "tiny"
    end: str = parameter(help="how to end")
    out: str = output_artifact("Metrics", help="metrics")

def work(config):
    if config.end == "wait":
        print("ready", flush=True)
        time.sleep(30)
    ends = {"data": DataError("tar: bad"), "storage": StorageError("no"), "os": FileNotFoundError(2, "No", "/gone")}
    if config.end == "gone":
        storage.read_bytes("/gone")
    if config.end != "ok":
        raise ends[config.end]
    return {"out": {"top1_error": 0.5}}

if __name__ == "__main__":
    run(Tiny, "__main__:work")
'''


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.py").write_text(BODY)
    return [str(tmp_path / "tiny.py"), "--out", str(tmp_path / "new" / "folder" / "metrics.json"), "--end"]


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        ("ok", 0, ""),
        ("data", 65, "tar: bad"),
        ("storage", 69, "no"),
        ("gone", 69, "not found: /gone"),
        ("os", 70, "bug: FileNotFoundError"),  # only storage makes StorageErrors
        ("unknown", 70, "bug: KeyError"),
    ],
)
def test_exit_codes(tiny: list[str], end: str, code: int, message: str) -> None:
    done = python(*tiny, end, env={**os.environ, "PYTHONPATH": str(PROJECT_DIR), "ALEXNET_LOG": "json"})
    assert done.returncode == code, done.stderr
    if message:
        entry = json.loads(done.stderr)
        assert entry["message"].startswith(message)
        assert ("traceback" in entry) == (code == 70)
        assert entry.get("cause", "").startswith("FileNotFoundError") == (end == "gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_exit_75(tiny: list[str], number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
    command = [sys.executable, *tiny, "wait"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 75
    assert number.name in stderr
