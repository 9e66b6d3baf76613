"""`alexnet rerun`: run one task of a past run again, also of a run on Kubeflow."""

import argparse
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import UsageError
from pipeline.commands.options import add_run, connect, engine_for, home_of
from pipeline.console import Console
from pipeline.kubeflow import rerun as cluster_rerun
from pipeline.kubeflow import runs
from pipeline.local import rerun
from pipeline.local.engine import DockerEngine
from pipeline.local.runner import perform


def _record(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Find the record of the task: in a run folder, on a server, or under the root of a run on a cluster."""
    root_uri, run_id, task = storage.absolute(arguments.root), runs.run_id_of(arguments.run), arguments.task
    here = Path(arguments.run).exists() or (home / "runs" / arguments.run).is_dir()
    left = [] if here or arguments.endpoint else storage.list_files(storage.join(root_uri, "tasks", run_id))
    if here or not (arguments.endpoint or left):
        return rerun.find(arguments.run, task, home)
    if not task:
        raise UsageError(f"rerun {arguments.run}: which TASK of it?")
    if arguments.endpoint:
        record = cluster_rerun.from_server(connect(arguments), run_id, task, home)
    else:
        record = cluster_rerun.from_root(root_uri, run_id, task, home)
    # That image is wanted, unless another one or no container at all is asked for.
    reference = record["task"]["image"]
    wanted = arguments.runner != "process" and not arguments.image
    record["code"] = cluster_rerun.image_id(reference) if wanted else reference.partition("@")[2]
    return record


def rerun_command(arguments: argparse.Namespace) -> int:
    """Run one task of a past run again and say what differs.

    Returns:
        The exit code: 0, 1 for a failed task, 4 when stopped.
    """
    home = home_of(storage.absolute(arguments.root)).absolute()
    record = _record(arguments, home)
    given = arguments.param + ([f"gpus={arguments.gpus}"] if arguments.gpus is not None else [])
    step = rerun.prepare(record, given, arguments.image, home)
    in_docker = record["code"].startswith("sha256:") or arguments.image or arguments.shell
    storage.make_parent(step.folder / "root" / "x")
    engine = engine_for(arguments.runner or ("docker" if in_docker else "process"), rerun.places(step))
    if arguments.shell:
        if not isinstance(engine, DockerEngine):
            raise UsageError("--shell: opens a container, so it needs --runner docker")
        return engine.shell(step.task, step.command(), step.gpus)
    try:
        with Console() as console:
            perform(step, engine, None, console)
    finally:
        print(f"folder: {step.folder}")
    for line in rerun.differences(record, rerun.read(step.folder / "task.json")):
        print(line)
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_run(parser, task_help="name of the task; not with a task.json in place of RUN")
    parser.add_argument("--runner", choices=["process", "docker"], default="", help="default: what the run used")
    parser.add_argument("--image", default="", metavar="REF", help="another image than the recorded one")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="change a task parameter")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs that it may use: the task's parameter of that name")
    parser.add_argument("--shell", action="store_true", help="open a shell in the container instead, all mounted")
    parser.set_defaults(action=rerun_command)
