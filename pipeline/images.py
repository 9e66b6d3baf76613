"""The component images: which one a component runs in, and how they are built and pushed through the docker SDK.

`images.json` maps components to digests of pushed images. Where it is there, `compile` writes them into
pipeline.yaml, so that no mutable tag reaches a cluster.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import AlexNetError, UsageError

VERSION = "0.1.0"
SOURCE_DIR = Path(__file__).parents[1]
DIGESTS_PATH = SOURCE_DIR / "images.json"
COMPONENTS = ("sample", "ingest", "statistics", "train", "evaluate")


def tag(component: str) -> str:
    """Return the tag of a component's image: `alexnet/<component>:<version>`, in ALEXNET_REGISTRY if that is set."""
    registry = os.environ.get("ALEXNET_REGISTRY", "")
    return f"{registry}{'/' if registry else ''}alexnet/{component}:{VERSION}"


def client() -> Any:
    """Connect to the docker engine.

    Raises:
        AlexNetError: none answers.
    """
    from docker.errors import DockerException

    import docker

    try:
        result = docker.from_env(timeout=600)
        result.ping()
    except DockerException as error:
        raise AlexNetError(f"no docker engine answers ({error}). Start one and try again") from error
    return result


def _follow(component: str, events: Iterator[dict[str, Any]], say: Callable[[str], None]) -> None:
    """Report the events of a build or push.

    Raises:
        AlexNetError: the engine reported a failure.
    """
    for event in events:
        if "error" in event:
            raise AlexNetError(f"{component}: {event['error'].strip()}")
        text = event.get("stream", "").strip()
        if text.startswith(("Step ", "Successfully")):
            say(f"{component:<11} {text}")


def build(component: str, say: Callable[[str], None]) -> str:
    """Build the image of a component.

    Args:
        component: a component, or a stage of docker/Dockerfile such as `train-gpu`.
        say: called with one line per step.

    Returns:
        The image id.

    Raises:
        AlexNetError: the build failed, or no engine answers.
    """
    engine = client()
    arguments = {"BASE_IMAGE": os.environ["BASE_IMAGE"]} if "BASE_IMAGE" in os.environ else {}
    events = engine.api.build(
        path=str(SOURCE_DIR),
        dockerfile="docker/Dockerfile",
        target=component,
        tag=tag(component),
        buildargs=arguments,
        network_mode="host",
        rm=True,
        decode=True,
    )
    _follow(component, events, say)
    return str(engine.images.get(tag(component)).id)


def push(component: str, say: Callable[[str], None]) -> None:
    """Push the image of a component to its registry.

    Raises:
        AlexNetError: the push failed, for instance for want of the image, or no engine answers.
    """
    repository, _, version = tag(component).rpartition(":")
    _follow(component, client().images.push(repository, version, stream=True, decode=True), say)


def write_digests() -> dict[str, str]:
    """Write images.json from the pushed images that this engine knows.

    Returns:
        Reference by digest of each component.

    Raises:
        UsageError: an image was never pushed.
    """
    from docker.errors import ImageNotFound

    engine = client()
    digests = {}
    for component in COMPONENTS:
        repository = tag(component).rpartition(":")[0]
        try:
            known = engine.images.get(tag(component)).attrs["RepoDigests"]
        except ImageNotFound:
            known = []
        matching = [digest for digest in known if digest.startswith(repository + "@")]
        if not matching:
            raise UsageError(f"{tag(component)}: has no digest. Push it with `alexnet images push {component}`")
        digests[component] = matching[0]
    storage.write_text(DIGESTS_PATH, json.dumps(digests, indent=1) + "\n")
    return digests


def image(component: str) -> str:
    """Return the image reference for pipeline.yaml: the digest in images.json, or the tag where there is none."""
    digests = json.loads(storage.read_bytes(str(DIGESTS_PATH))) if DIGESTS_PATH.is_file() else {}
    return digests.get(component, tag(component))
