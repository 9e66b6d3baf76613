"""The `alexnet` command."""

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from components.sample.contract import Sample
from components.shared import runlog, storage
from components.shared.errors import AlexNetError, Interrupted, StorageError, UsageError
from pipeline import gc, images, ir, rerun
from pipeline.cache import Cache
from pipeline.console import Console
from pipeline.engine import DockerEngine, Engine, ProcessEngine
from pipeline.local import Run, TaskFailed, new_run, perform, run_pipeline

DEFAULT_ROOT = ".alexnet"
CANCELLED = 4


def _sample_release(run: Run, home: Path, console: Console) -> str:
    """Generate the sample release under the home folder, or find it there."""
    start = time.monotonic()
    release = home / "sample"
    log_path = run.run_dir / "sample" / "log.jsonl"
    words = ["python", "-m", f"components.{Sample.NAME}", "--out", str(release)]
    code, error = ProcessEngine().call("sample", words, log_path, console)
    if code != 0:
        raise TaskFailed(f"sample failed with exit code {code}: {error or 'see its log'}\nlog: {log_path}")
    console.line(f"{'sample':<11} done in {runlog.format_seconds(time.monotonic() - start)}, {release}")
    return str(release)


def _result(run: Run, status: str) -> dict[str, Any]:
    """Collect what a finished run is asked for most: errors and the paths of its artifacts."""
    result: dict[str, Any] = {"run_id": run.run_id, "status": status, "run_dir": str(run.run_dir)}
    evaluated = run.outputs.get("evaluate")
    if evaluated:
        metrics = json.loads(storage.read_bytes(evaluated["metrics"]["path"]))
        result |= {"num_classes": metrics["num_classes"], "num_examples": metrics["num_examples"], "metrics": metrics}
        result |= {name: evaluated[name]["path"] for name in ("report", "predictions")}
    for task, artifact in (("ingest", "dataset"), ("statistics", "statistics"), ("train", "model")):
        if task in run.outputs:
            result[artifact] = run.outputs[task][artifact]["path"]
    return result


def _summary(result: dict[str, Any]) -> str:
    metrics = result["metrics"]
    rows = [
        f"  {view:<12} top-1 error {100 * metrics['top1_error' + suffix]:5.1f} %"
        f"   top-5 error {100 * metrics['top5_error' + suffix]:5.1f} %\n"
        for view, suffix in (("ten crops", ""), ("centre crop", "_center"))
    ]
    return (
        f"\n{result['num_examples']} images, {result['num_classes']} classes"
        f" (chance {100 * (1 - 1 / result['num_classes']):.1f} %)\n"
        f"{''.join(rows)}"
        f"report: {result['report']}"
    )


def _home(root_uri: str) -> Path:
    """Return the local folder for runs: the root itself, or the default one when the root is remote."""
    return storage.local_path(root_uri) if storage.is_local(root_uri) else Path(DEFAULT_ROOT).absolute()


def _engine(runner: str, places: dict[str, bool]) -> Engine:
    """Make the engine; containers see the local ones of these places, and have a network if any is remote."""
    if runner == "process":
        return ProcessEngine()
    local = {storage.local_path(uri).absolute(): writable for uri, writable in places.items() if storage.is_local(uri)}
    return DockerEngine(local, "none" if len(local) == len(places) else "host")


def run_command(arguments: argparse.Namespace) -> int:
    """Run the committed pipeline.yaml locally.

    Returns:
        The exit code: 0, 1 for a failed task, 4 when stopped.
    """
    console = Console()
    pipeline = ir.load()
    given = ir.parse_parameters(pipeline.types, arguments.param)
    # ---- the place: bulk data anywhere, the run folder on this machine ----
    root_uri = storage.absolute(arguments.root)
    storage.check_writable(root_uri)
    home = _home(root_uri)
    run = new_run(home, {})
    console.line(f"run {run.run_id}, folder {run.run_dir}")
    status, failure = "failed", None
    try:
        # ---- the input ----
        release_uri = storage.absolute(arguments.release) if arguments.release else _sample_release(run, home, console)
        # A laptop has no GPUs unless its owner says so; without a release there is little to learn from.
        local = {"gpus": 0} | ({} if arguments.release else {"recipe": "smoke"})
        run.values = pipeline.defaults | local | given
        run.values |= {"release_uri": release_uri, "root_uri": root_uri}
        run.values["release_fingerprint"] = storage.fingerprint(release_uri)
        # ---- the tasks ----
        if not run.values["gpus"]:
            tasks = [replace(task, image=images.without_gpus(task.image)) for task in pipeline.tasks]
            pipeline = replace(pipeline, tasks=tasks)
        engine = _engine(arguments.runner, {release_uri: False, root_uri: True, str(home): True})
        cache = None if arguments.no_cache else Cache(home / "cache")
        run_pipeline(pipeline, run, engine, cache, console)
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
    return {"succeeded": 0, "failed": 1, "cancelled": CANCELLED}[status]


def rerun_command(arguments: argparse.Namespace) -> int:
    """Run one task of a past run again and say what differs.

    Returns:
        The exit code: 0, 1 for a failed task, 4 when stopped.
    """
    console = Console()
    home = _home(storage.absolute(arguments.root)).absolute()
    record = rerun.find(arguments.run, arguments.task, home)
    given = arguments.param + ([f"gpus={arguments.gpus}"] if arguments.gpus is not None else [])
    step = rerun.prepare(record, given, arguments.image, home)
    in_docker = record["code"].startswith("sha256:") or arguments.image or arguments.shell
    storage.make_parent(step.folder / "root" / "x")
    engine = _engine(arguments.runner or ("docker" if in_docker else "process"), rerun.places(step))
    if arguments.shell:
        if not isinstance(engine, DockerEngine):
            raise UsageError("--shell: opens a container, so it needs --runner docker")
        return engine.shell(step.task, step.command(), step.gpus)
    try:
        perform(step, engine, None, console)
    finally:
        print(f"folder: {step.folder}")
    for line in rerun.differences(record, rerun.read(step.folder / "task.json")):
        print(line)
    return 0


def compile_command(arguments: argparse.Namespace) -> int:
    """Write pipeline.yaml and the tables of README.md, or check that they are up to date."""
    from pipeline import graph, reference

    text = graph.compiled()
    readme = storage.read_bytes(str(reference.README_PATH)).decode()
    if not arguments.check:
        storage.write_text(ir.PIPELINE_PATH, text)
        storage.write_text(reference.README_PATH, reference.rewritten(readme))
        print(f"wrote {ir.PIPELINE_PATH} and the tables of {reference.README_PATH}")
        return 0
    committed = storage.read_bytes(str(ir.PIPELINE_PATH)).decode()
    stale = [ir.PIPELINE_PATH] if graph.documents(committed) != graph.documents(text) else []
    stale += [reference.README_PATH] if reference.rewritten(readme) != readme else []
    for path in stale:
        sys.stderr.write(f"alexnet: {path} is not what graph and contracts say. Run `alexnet compile`\n")
    if not stale:
        print("pipeline.yaml and README.md are up to date")
    return 1 if stale else 0


def images_command(arguments: argparse.Namespace) -> int:
    """Build, push or list the component images, or write images.json."""
    stages: list[str] = arguments.stage or list(images.STAGES)
    if unknown := set(stages) - set(images.STAGES):
        raise UsageError(f"{', '.join(sorted(unknown))}: expected images among {', '.join(images.STAGES)}")
    console = Console()
    if arguments.action_name == "digests":
        for stage, digest in images.write_digests(stages).items():
            print(f"{stage:<11} {digest}")
        print(f"wrote {images.DIGESTS_PATH}; `alexnet compile` puts them into pipeline.yaml")
        return 0
    for stage in stages:
        start = time.monotonic()
        if arguments.action_name == "sbom":
            print(images.write_sbom(stage))
            continue
        {"build": images.build, "push": images.push}[arguments.action_name](stage, console)
        console.line(f"{stage:<11} {arguments.action_name} done in {runlog.format_seconds(time.monotonic() - start)}")
    return 0


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Hand over to a component's own command line."""
    sys.exit(subprocess.call([sys.executable, "-m", module, *arguments]))


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(prog="alexnet", description=__doc__, allow_abbrev=False)
    commands = result.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="run pipeline.yaml on this machine, one process or container per task", allow_abbrev=False
    )
    run.add_argument("--release", default="", help="folder or URI of the release (default: generate a small sample)")
    run.add_argument(
        "--root", default=DEFAULT_ROOT, help="folder or URI for everything that is made (default %(default)s)"
    )
    run.add_argument(
        "--runner", choices=["process", "docker"], default="process", help="what a task is (default %(default)s)"
    )
    run.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="set a pipeline parameter")
    run.add_argument("--no-cache", action="store_true", help="run every step again")
    run.add_argument("--json", action="store_true", help="print one JSON object at the end")
    run.set_defaults(action=run_command)
    again = commands.add_parser("rerun", help="run one task of a past run again", allow_abbrev=False)
    again.add_argument("run", metavar="RUN", help="run id, the path of a run folder, or the path of a task.json")
    again.add_argument("task", metavar="TASK", nargs="?", default="", help="name of the task; not with a task.json")
    again.add_argument("--root", default=DEFAULT_ROOT, help="the root that the run used (default %(default)s)")
    again.add_argument("--runner", choices=["process", "docker"], default="", help="default: what the run used")
    again.add_argument("--image", default="", metavar="REF", help="another image than the recorded one")
    again.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="change a task parameter")
    again.add_argument("--gpus", type=int, metavar="N", help="GPUs that it may use: the task's parameter of that name")
    again.add_argument("--shell", action="store_true", help="open a shell in the container instead, all mounted")
    again.set_defaults(action=rerun_command)
    compiling = commands.add_parser("compile", help="make pipeline.yaml from the graph", allow_abbrev=False)
    compiling.add_argument("--check", action="store_true", help="only say whether the committed file is up to date")
    compiling.set_defaults(action=compile_command)
    building = commands.add_parser("images", help="build, push or list the component images", allow_abbrev=False)
    building.add_argument(
        "action_name", metavar="ACTION", choices=["build", "push", "digests", "sbom"], help="%(choices)s"
    )
    building.add_argument("stage", nargs="*", metavar="COMPONENT", help="which, and train-gpu (default: all)")
    building.set_defaults(action=images_command)
    gc.register(commands)
    commands.add_parser("sample", help="draw a small release in the layout of ILSVRC-2010", add_help=False)
    commands.add_parser("describe", help="print a recipe's layers, parameters and operations", add_help=False)
    return result


def main() -> NoReturn:
    """Run the `alexnet` command and exit with its code."""
    modules = {"sample": "components.sample", "describe": "components.train.describe"}
    if sys.argv[1:2] and sys.argv[1] in modules:
        _become(modules[sys.argv[1]], sys.argv[2:])
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals stop the tasks in order
    try:
        code = arguments.action(arguments)
    except (AlexNetError, OSError) as error:
        failure = error if isinstance(error, AlexNetError) else storage.explain(error)
        sys.stderr.write(f"alexnet: {failure}\n")
        # A place that cannot be used is a failed run; exit code 69 is for components.
        code = 1 if isinstance(failure, StorageError) else failure.exit_code
    except KeyboardInterrupt:
        code = CANCELLED
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
