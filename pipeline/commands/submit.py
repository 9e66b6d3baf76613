"""`alexnet submit`: run pipeline.yaml on Kubeflow, and watch it."""

import argparse
import sys
import time
from typing import Any

from components.shared import runlog
from components.shared.errors import UsageError
from pipeline.commands.options import add_server, connect
from pipeline.console import Console
from pipeline.kubeflow import client, logs, submission
from pipeline.kubeflow.runs import FINAL, RunView
from pipeline.kubeflow.watch import watch
from pipeline.spec import ir


def _source(arguments: argparse.Namespace, server: client.Client, given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the run is made of: an uploaded version, or the file itself."""
    if arguments.upload:
        return {"pipeline_version_reference": submission.upload(server, arguments.upload)}
    if arguments.no_cache:
        submission.without_cache(given[0])
    return submission.spec_source(given)


def summary(view: RunView) -> str:
    """Say how a run ended, and where it went wrong."""
    lines = [f"run {view.run_id} {view.state}{': ' if view.message else ''}{view.message}"]
    failed = [task for task in view.tasks if task.state == "failed"]
    lines += [f"  {task.name}: {task.message or task.state}" for task in failed]
    if view.state != "failed":
        return "\n".join(lines)
    if not failed:
        return "\n".join([*lines, f"  no task failed: see alexnet status {view.run_id} and {view.place}"])
    lines.append(f"  its log: alexnet logs {view.run_id} {failed[0].name}")
    if not failed[0].only_driver:  # nothing that could run again here
        lines[-1] += f"; here again: alexnet rerun {view.run_id} {failed[0].name}"
    return "\n".join(lines)


def submit_command(arguments: argparse.Namespace) -> int:
    """Send pipeline.yaml to a server; `--watch` follows the run.

    Returns:
        The exit code: 0, 1 when the run failed, 4 when it was cancelled.
    """
    if arguments.upload and arguments.no_cache:
        raise UsageError("--no-cache: changes the file that is sent, so it does not go with --upload; leave out one")
    # ---- all that can be wrong here is found before the server is asked ----
    pipeline, given = ir.load(), submission.documents()
    from_file = submission.read_file(arguments.params) if arguments.params else []
    values = submission.parameters(pipeline, from_file + arguments.param)
    submission.check_pods(given, arguments.allow_tags)
    server = connect(arguments)
    with Console() as console:
        console.status("release", "looking for it from here")
        console.line(submission.fingerprint(values))
    # ---- the run ----
    body = submission.run_body(
        _source(arguments, server, given),
        arguments.run_name or f"alexnet {time.strftime('%Y-%m-%d %H:%M:%S')}",
        values,
        submission.experiment_id(server, arguments.experiment),
        arguments.service_account,
        arguments.pipeline_root,
    )
    run_id = server.call("POST", "/apis/v2beta1/runs", body=body)["run_id"]
    print(server.link(run_id), flush=True)
    if not arguments.watch:
        return 0
    # ---- how it goes ----
    start = time.monotonic()
    try:
        with Console() as console:
            view = watch(server, run_id, arguments.interval, arguments.timeout, arguments.patience, console)
    except KeyboardInterrupt:
        sys.stderr.write(f"alexnet: no longer watching; run {run_id} goes on\n")
        raise
    logs.explain(view, server)
    Console().line(f"watched for {runlog.format_seconds(time.monotonic() - start)}")
    print(summary(view))
    return FINAL[view.state]


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_server(parser)
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="set a pipeline parameter")
    parser.add_argument("--params", default="", metavar="FILE", help="parameters in JSON or YAML; --param wins")
    parser.add_argument("--experiment", default=submission.EXPERIMENT, metavar="NAME", help="default %(default)s")
    parser.add_argument("--run-name", default="", metavar="NAME", help="default: alexnet and the time")
    parser.add_argument(
        "--upload", default="", metavar="NAME[:VERSION]", help="upload the file as a version, and run that"
    )
    parser.add_argument("--no-cache", action="store_true", help="run every step again")
    parser.add_argument("--service-account", default="", metavar="NAME", help="Kubernetes account of the pods")
    parser.add_argument("--pipeline-root", default="", metavar="URI", help="where Kubeflow keeps the small artifacts")
    parser.add_argument("--allow-tags", action="store_true", help="send images without digests too")
    parser.add_argument(
        "--watch", action="store_true", help="report each task until the run ends, and exit as it ended"
    )
    parser.add_argument(
        "--interval", type=float, default=5.0, metavar="SECONDS", help="between looks; default %(default)s"
    )
    parser.add_argument("--timeout", type=float, default=0.0, metavar="SECONDS", help="of watching; 0: none")
    parser.add_argument(
        "--patience", type=float, default=300.0, metavar="SECONDS", help="the server may be gone; default %(default)s"
    )
    parser.set_defaults(action=submit_command)
