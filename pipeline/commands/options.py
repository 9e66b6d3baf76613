"""Arguments that several commands share: root, engine, server and run."""

import argparse
from pathlib import Path

from components.shared import settings, storage
from components.shared.errors import UsageError
from pipeline.kubeflow import client, runs
from pipeline.kubeflow.argo import TaskRun
from pipeline.local.engine import DockerEngine, Engine, ProcessEngine

DEFAULT_ROOT = ".alexnet"
CANCELLED = 4  # exit code: the run was cancelled, or the command stopped


def home_of(root_uri: str) -> Path:
    """Return the local folder for runs: the root itself, or the default one when the root is remote."""
    return storage.local_path(root_uri) if storage.is_local(root_uri) else Path(DEFAULT_ROOT).absolute()


def engine_for(runner: str, places: dict[str, bool]) -> Engine:
    """Make the engine; containers see the local ones of these places, and have a network if any is remote."""
    if runner == "process":
        return ProcessEngine()
    local = {storage.local_path(uri).absolute(): writable for uri, writable in places.items() if storage.is_local(uri)}
    return DockerEngine(local, "none" if len(local) == len(places) else "host")


def add_server(parser: argparse.ArgumentParser, endpoint_help: str = "URL of the Kubeflow Pipelines server") -> None:
    """Add what says which server, and as whom; the same names as `kfp` has."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--endpoint",
        metavar="URL",
        default=settings.ENDPOINT.get(),
        help=f"{endpoint_help} (default: $KF_PIPELINES_ENDPOINT; $KF_PIPELINES_UI_ENDPOINT is for links)",
    )
    group.add_argument("--namespace", default="", metavar="NAME", help="the user's namespace on a shared server")
    group.add_argument("--existing-token", "--token", default="", metavar="TOKEN", help="bearer token")
    group.add_argument("--cookies", default="", metavar="TEXT", help="Cookie header, as in authservice_session=...")


def client_of(arguments: argparse.Namespace) -> client.Client:
    """Make the client that the arguments ask for; no request is sent yet."""
    ui, token = settings.UI_ENDPOINT.get(), arguments.existing_token
    return client.Client(arguments.endpoint, ui, arguments.namespace, token, arguments.cookies)


def connect(arguments: argparse.Namespace) -> client.Client:
    """Make the client that the arguments ask for, and see that the server answers.

    Raises:
        UsageError: no endpoint, or no URL.
        Unreachable: no answer.
        Refused: not a server that lets us in.
    """
    endpoint = arguments.endpoint
    if not endpoint:
        raise UsageError("--endpoint: which Kubeflow Pipelines server? Pass its URL, or set KF_PIPELINES_ENDPOINT")
    if not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint: expected a URL such as http://localhost:8080, got {endpoint!r}")
    server = client_of(arguments)
    server.healthz()
    return server


def add_run(parser: argparse.ArgumentParser, *, task_help: str = "") -> None:
    """Add what says which run, and where it is; with a help for TASK also which of its tasks."""
    parser.add_argument("run", metavar="RUN", help="run id, run folder, or the address of a run's page")
    if task_help:
        parser.add_argument("task", metavar="TASK", nargs="?", default="", help=task_help)
    parser.add_argument("--root", default=DEFAULT_ROOT, help="the root that the run used (default %(default)s)")
    add_server(parser, "server that ran it; without one, what the run left under --root")


def find_run(arguments: argparse.Namespace) -> tuple[runs.RunView, client.Client | None]:
    """Find the run of the arguments, and its server."""
    home = home_of(storage.absolute(arguments.root))
    if not arguments.endpoint or runs.folder_of(arguments.run, home):
        return runs.find(arguments.run, home), None
    server = connect(arguments)
    return runs.remote(server, arguments.run), server


def tasks_of(arguments: argparse.Namespace, view: runs.RunView) -> list[TaskRun]:
    """List the tasks that are meant: the one that is named, or all."""
    return [view.task(arguments.task)] if arguments.task else view.tasks
