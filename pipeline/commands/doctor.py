"""`alexnet doctor`: check the requirements of a run."""

import argparse
import itertools

from pipeline.commands import options
from pipeline.kubeflow import client, cluster, doctor


def doctor_command(arguments: argparse.Namespace) -> int:
    """Check everything, a line each.

    Returns:
        The exit code: 0, 1 when something failed, 3 when the server does not answer.
    """
    server = options.client_of(arguments) if arguments.endpoint else None
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


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", default="", help="folder or URI: write, read and delete a probe there")
    parser.add_argument("--release", default="", help="folder or URI of the release: is it there?")
    parser.add_argument("--service-account", default="", metavar="NAME", help="of the pods, in the namespace")
    parser.add_argument(
        "--server-namespace",
        default=cluster.NAMESPACE,
        metavar="NAME",
        help="where Kubeflow Pipelines itself runs (default %(default)s)",
    )
    options.add_server(parser)
    parser.set_defaults(action=doctor_command)
