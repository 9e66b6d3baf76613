"""Checks of everything that a run needs: this machine, the storage and the server."""

import importlib.metadata
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from components.shared import storage
from components.shared.errors import AlexNetError
from pipeline import images
from pipeline.kubeflow import submission
from pipeline.kubeflow.client import Client, Health, Refused, Unreachable
from pipeline.spec import ir

OLDEST_SERVER = (2, 16)  # older ones refuse the pods' securityContext (tests/pipeline/test_server_range.py)


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    status: Literal["ok", "failed", "skipped"]
    text: str
    unreachable: bool = False


def versions() -> Iterator[Check]:
    """Check the interpreter and name the client."""
    version = platform.python_version()
    fits = (3, 11) <= tuple(int(part) for part in version.split(".")[:2]) < (3, 14)
    yield Check("python", "ok" if fits else "failed", version if fits else f"{version}: expected 3.11 to 3.13")
    yield Check(
        "kfp",
        "ok",
        f"{importlib.metadata.version('kfp')} compiles, kfp-server-api "
        f"{importlib.metadata.version('kfp-server-api')} talks to the server",
    )


def engine() -> Iterator[Check]:
    """Check that a docker engine answers."""
    try:
        version = images.client().version()["Version"]
        yield Check("docker", "ok", f"engine {version}")
    except AlexNetError as error:
        yield Check("docker", "failed", f"{error}; needed for `--runner docker`, `images` and reruns of cluster tasks")


def root(uri: str) -> Iterator[Check]:
    """Write, read and delete a small object under the root."""
    if not uri:
        yield Check("root", "skipped", "no --root")
        return
    try:
        storage.check_writable(storage.absolute(uri))
        yield Check("root", "ok", f"{uri}: wrote, read and deleted a probe")
    except AlexNetError as error:
        yield Check("root", "failed", f"{error}. Check the bucket, its region and the credentials here")


def release(uri: str) -> Iterator[Check]:
    """Look for the release."""
    if not uri:
        yield Check("release", "skipped", "no --release")
        return
    try:
        names = [entry.name for entry in storage.list_files(storage.absolute(uri))]
        tars = [name for name in names if name.startswith("ILSVRC2010_")]
        text = f"{uri}: {len(tars)} files ILSVRC2010_*" + ("" if tars else "; expected the tars and the devkit")
        yield Check("release", "ok" if tars else "failed", text)
    except AlexNetError as error:
        yield Check("release", "failed", str(error))


def compiled() -> Iterator[Check]:
    """Check that pipeline.yaml is what the graph says, and its pods such as clusters take."""
    from pipeline.graph import graph

    fresh = ir.documents(graph.compiled()) == submission.documents()
    text = "is what the graph says" if fresh else "is not what the graph says. Run `alexnet compile`"
    yield Check("pipeline.yaml", "ok" if fresh else "failed", text)
    found = submission.pod_problems(submission.documents(), require_digests=True)
    yield Check("pods", "failed" if found else "ok", "; ".join(found) or "images by digest, nothing that is refused")


def _release_of(found: Health) -> tuple[int, ...]:
    """Return the release of a server, such as (2, 17); empty where its version is no number."""
    match = re.match(r"(\d+)\.(\d+)", found.version)
    return tuple(int(part) for part in match.groups()) if match else ()


def server(client: Client | None) -> Iterator[Check]:
    """Check that the server answers, takes pipeline.yaml, and lets us see runs."""
    if not client:
        yield Check("server", "skipped", "no --endpoint")
        return
    try:
        found = client.healthz()
        users = ", with a namespace for each user" if found.multi_user else ""
        text = f"{client.endpoint}: Kubeflow Pipelines {found.version or 'of unknown version'}{users}"
        release = _release_of(found)
        if release and release < OLDEST_SERVER:
            oldest = ".".join(str(part) for part in OLDEST_SERVER)
            text += f", which refuses the securityContext in pipeline.yaml. Expected {oldest} or later"
        yield Check("server", "failed" if release and release < OLDEST_SERVER else "ok", text)
        if found.multi_user and not client.namespace:
            yield Check("access", "failed", "this server has several users: pass --namespace, the user's own")
            return
        next(client.pages("/apis/v2beta1/runs", "runs", namespace=client.namespace, page_size=1), None)
        yield Check("access", "ok", "may list runs")
    except Unreachable as error:
        yield Check("server", "failed", str(error), unreachable=True)
    except Refused as error:
        yield Check("access", "failed", str(error))
