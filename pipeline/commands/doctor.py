"""`alexnet doctor`: check what a run needs, a line each."""

import argparse
import itertools
import os
from typing import Any

from pipeline.commands import options
from pipeline.kubeflow import client, cluster, doctor


def doctor_command(arguments: argparse.Namespace) -> int:
    """Check everything, a line each.

    Returns:
        The exit code: 0, 1 when something failed, 3 when the server does not answer.
    """
    ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT", "")
    server = None
    if arguments.endpoint:
        server = client.Client(arguments.endpoint, ui, arguments.namespace, arguments.existing_token, arguments.cookies)
    checks = []
    for check in itertools.chain(
        doctor.versions(),
        doctor.engine(),
        doctor.root(arguments.root),
        doctor.release(arguments.release),
        doctor.compiled(),
        doctor.server(server),
        cluster.cluster(arguments.namespace, arguments.service_account, arguments.server_namespace),
    ):
        print(f"{check.status:<8} {check.name:<14} {check.text}", flush=True)
        checks.append(check)
    if any(check.unreachable for check in checks):
        return client.Unreachable.exit_code
    return 1 if any(check.status == "failed" for check in checks) else 0


def register(commands: Any) -> None:
    """Add the command."""
    looking = commands.add_parser("doctor", help="check what a run needs, a line each", allow_abbrev=False)
    looking.add_argument("--root", default="", help="folder or URI: write, read and delete a probe there")
    looking.add_argument("--release", default="", help="folder or URI of the release: is it there?")
    looking.add_argument("--service-account", default="", metavar="NAME", help="of the pods, in the namespace")
    looking.add_argument(
        "--server-namespace",
        default=cluster.NAMESPACE,
        metavar="NAME",
        help="where Kubeflow Pipelines itself runs (default %(default)s)",
    )
    options.add_server(looking)
    looking.set_defaults(action=doctor_command)
