"""`alexnet run`: run pipeline.yaml here, one process or container per task."""

import argparse
import json
import sys
import time
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.sample.contract import Sample
from components.shared import release, runlog, storage
from components.shared.errors import AlexNetError, Interrupted
from pipeline import images
from pipeline.commands.options import CANCELLED, DEFAULT_ROOT, engine_for, home_of
from pipeline.console import Console
from pipeline.local.cache import Cache
from pipeline.local.engine import ProcessEngine
from pipeline.local.runner import Run, TaskFailed, new_run, run_pipeline
from pipeline.spec import ir


def _sample_release(run: Run, home: Path, console: Console) -> str:
    """Generate the sample release under the home folder, or find it there."""
    start = time.monotonic()
    release = home / "sample"
    log_path = run.run_dir / "sample" / "log.jsonl"
    words = ["python", "-m", f"components.{Sample.NAME}", "--out", str(release)]
    code, error = ProcessEngine().call("sample", words, log_path, console)
    if code != 0:
        raise TaskFailed(f"sample failed with exit code {code}: {error or 'see its log'}\nlog: {log_path}")
    took = runlog.format_seconds(time.monotonic() - start)
    console.finish("sample", f"done in {took}, {release}")
    return str(release)


def _result(run: Run, status: str) -> dict[str, Any]:
    """Collect the errors of a run and the paths of its artifacts."""
    result: dict[str, Any] = {"run_id": run.run_id, "status": status, "run_dir": str(run.run_dir)}
    evaluated = run.outputs.get("evaluate")
    if evaluated:
        metrics = storage.read_json(evaluated["metrics"]["path"])
        result |= {"num_classes": metrics["num_classes"], "num_examples": metrics["num_examples"], "metrics": metrics}
        result |= {name: evaluated[name]["path"] for name in ("report", "predictions")}
    for task, artifact in (("ingest", "dataset"), ("statistics", "statistics")):
        if task in run.outputs:
            result[artifact] = run.outputs[task][artifact]["path"]
    models = [outputs["model"]["path"] for outputs in run.outputs.values() if "model" in outputs]
    return result | ({"model": models[0]} if len(models) == 1 else {"models": models} if models else {})


def _summary(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    rows = [
        f"  {view:<12} top-1 error {100 * metrics['top1_error' + suffix]:5.1f} %"
        f"   top-5 error {100 * metrics['top5_error' + suffix]:5.1f} %\n"
        for view, suffix in (("ten crops", ""), ("centre crop", "_center"))
    ]
    networks = f", average of {metrics['num_networks']} networks" if metrics["num_networks"] > 1 else ""
    return (
        f"\n{result['num_examples']} images, {result['num_classes']} classes"
        f" (chance {100 * (1 - 1 / result['num_classes']):.1f} %){networks}\n"
        f"{''.join(rows)}"
        f"report: {result['report']}"
    )


def _placed(task: ir.Task, values: dict[str, ir.Value]) -> ir.Task:
    """Return a task with the smaller image that has no CUDA libraries where it is to use no GPU."""
    source = task.parameters.get("gpus", {}).get("componentInputParameter", "")
    return replace(task, image=images.without_gpus(task.image)) if values.get(source, "0") == "0" else task


def _run_all(arguments: argparse.Namespace, run: Run, pipeline: ir.Pipeline, given: dict[str, ir.Value]) -> None:
    """Make the sample release if none is named, and run every task; raises as `run_pipeline`."""
    home, root_uri = run.run_dir.parents[1], storage.absolute(arguments.root)
    with Console() as console:
        console.line(f"run {run.run_id}, folder {run.run_dir}")
        # ---- the input ----
        if arguments.release:
            release_uri = storage.absolute(arguments.release)
        else:
            release_uri = _sample_release(run, home, console)
        # A laptop has no GPUs unless its owner says so; without a release there is little to learn.
        local = {"gpus": "0", "evaluate_gpus": "0"}
        local |= {} if arguments.release else {"recipe": "smoke"}
        run.values = pipeline.defaults | local | given
        run.values |= {"release_uri": release_uri, "root_uri": root_uri}
        run.values["release_fingerprint"] = release.fingerprint(release_uri)
        # ---- the tasks ----
        pipeline = replace(pipeline, tasks=[_placed(task, run.values) for task in pipeline.tasks])
        places = {release_uri: False, root_uri: True, str(home): True}
        engine = engine_for(arguments.runner, places)
        cache = None if arguments.no_cache else Cache(home / "cache")
        run_pipeline(pipeline, run, engine, cache, console)


def open_report(path: str) -> None:
    """Open a report in the browser, or say where it is."""
    uri = Path(path).absolute().as_uri()
    if not webbrowser.open_new_tab(uri):
        sys.stderr.write(f"alexnet: no browser could be started; open {uri} in yours\n")


def run_command(arguments: argparse.Namespace) -> int:
    """Run the committed pipeline.yaml locally.

    Returns:
        The exit code: 0, 1 for a failed task, 4 when stopped.
    """
    pipeline = ir.load()
    given = pipeline.parse(arguments.param)
    # ---- the place: bulk data anywhere, the run folder on this machine ----
    root_uri = storage.absolute(arguments.root)
    storage.check_writable(root_uri)
    run = new_run(home_of(root_uri), {})
    # ---- the run ----
    status, failure = "failed", None
    try:
        _run_all(arguments, run, pipeline, given)
        status = "succeeded"
    except (Interrupted, KeyboardInterrupt) as error:
        status, failure = "cancelled", str(error) or "stopped"
    except AlexNetError as error:
        failure = str(error)
    # ---- what came of it ----
    result = _result(run, status)
    if failure:
        sys.stderr.write(f"alexnet: {failure}\n")
        result["error"] = failure
    if arguments.json:
        print(json.dumps(result))
    elif status == "succeeded":
        print(_summary(result))
    if arguments.open and "report" in result:
        open_report(result["report"])
    return {"succeeded": 0, "failed": 1, "cancelled": CANCELLED}[status]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--release", default="", help="folder or URI of the release (default: generate a small sample)")
    parser.add_argument(
        "--root", default=DEFAULT_ROOT, help="folder or URI for everything that is made (default %(default)s)"
    )
    parser.add_argument(
        "--runner", choices=["process", "docker"], default="process", help="what a task is (default %(default)s)"
    )
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="set a pipeline parameter")
    parser.add_argument("--no-cache", action="store_true", help="run every step again")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--open", action="store_true", help="open the report in the browser at the end")
    parser.set_defaults(action=run_command)
