"""The component images: which one a component runs in; how they are built, pushed and listed, by the docker SDK.

`images.json` maps stages to digests of pushed images. Where it is there, `compile` writes them into
pipeline.yaml, so that no mutable tag reaches a cluster.
"""

import contextlib
import functools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.shared import settings, storage
from components.shared.errors import AlexNetError, UsageError
from pipeline.components import SOURCE_DIR, code_digest
from pipeline.console import Console

PLATFORM = "linux/amd64"  # tfx-bsl has no wheel for another kind of Linux
DIGESTS_PATH = SOURCE_DIR / "images.json"
SBOM_DIR = SOURCE_DIR / "build" / "sbom"

# Runs inside an image: what its Python sees, and what the base image's package manager put there.
LIST_PACKAGES = """
import importlib.metadata, json, pathlib, re
python = sorted({(d.metadata["Name"], d.version) for d in importlib.metadata.distributions()})
entries = pathlib.Path("/var/lib/dpkg/status").read_text().split("\\n\\n")
fields = [dict(re.findall(r"^(Package|Version|Architecture): (.*)$", entry, re.M)) for entry in entries]
debian = sorted((f["Package"], f["Version"], f["Architecture"]) for f in fields if len(f) == 3)
print(json.dumps({"python": python, "debian": debian}))
"""


@functools.cache
def version() -> str:
    """Return the version, from pyproject.toml: the metadata of an editable install keep that of its day.

    Raises:
        UsageError: this is no checkout, so pipeline.yaml, locks and Dockerfile are missing too.
    """
    path = SOURCE_DIR / "pyproject.toml"
    if not path.is_file():
        raise UsageError(
            f"{path}: not there. The project runs from its checkout: clone the repository and run `make setup` in it, "
            "or `pip install --editable .`"
        )
    return tomllib.loads(storage.read_text(str(path)))["project"]["version"]


def tag(stage: str) -> str:
    """Return the tag of a stage's image: `alexnet/<stage>:<version>`, in ALEXNET_REGISTRY if that is set."""
    registry = settings.REGISTRY.get()
    return f"{registry}{'/' if registry else ''}alexnet/{stage}:{version()}"


def image(stage: str) -> str:
    """Return the image reference for pipeline.yaml: the digest in images.json, or the tag where there is none."""
    digests = storage.read_json(str(DIGESTS_PATH)) if DIGESTS_PATH.is_file() else {}
    return digests.get(stage, tag(stage))


def without_gpus(reference: str) -> str:
    """Return the image that does on CPUs what another does: that of train in place of train-gpu's, as of evaluate."""
    found = re.search(r"alexnet/(\w+)-gpu[:@]", reference)
    return image(found[1]) if found else reference


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn an error of the docker engine into one that names the operation."""
    from docker.errors import DockerException

    try:
        yield
    except DockerException as error:
        reason = getattr(error, "explanation", None) or str(error)
        if "capabilities: [[gpu]]" in reason:
            reason += ". It has no GPU or no NVIDIA container toolkit; gpus=0 uses the CPU"
        raise AlexNetError(f"{what}: the docker engine refuses: {reason}") from error


def client() -> Any:
    """Connect to the docker engine.

    Raises:
        AlexNetError: none answers.
    """
    import docker
    from docker.errors import DockerException

    try:
        result = docker.from_env(timeout=600)
        result.ping()
    except DockerException as error:
        raise AlexNetError(f"no docker engine answers ({error}). Start one and try again") from error
    return result


def _follow(stage: str, events: Iterator[dict[str, Any]], console: Console) -> None:
    """Report the events of a build or push: its steps, and how much of the layers has gone.

    Raises:
        AlexNetError: the engine reported a failure.
    """
    layers: dict[str, tuple[int, int]] = {}
    for event in events:
        if "error" in event:
            raise AlexNetError(f"{stage}: {event['error'].strip()}")
        text = event.get("stream", "").strip()
        if text.startswith(("Step ", "Successfully")):
            console.line(f"{stage:<11} {text}")
        if progress := event.get("progressDetail"):
            layers[event["id"]] = (progress.get("current", 0), progress.get("total", 0))
            done, total = (sum(sizes) / 1e6 for sizes in zip(*layers.values(), strict=True))
            console.status(stage, f"{event['status'].lower()} {done:.0f} of {max(done, total):.0f} MB")


def _revision() -> str:
    """Return the commit that is built, with `-dirty` when the tree differs from it; empty outside of a checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    with contextlib.suppress(OSError):
        return subprocess.run(command, cwd=SOURCE_DIR, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def build(stage: str, console: Console) -> str:
    """Build the image of a stage of docker/Dockerfile.

    Returns:
        The image id.

    Raises:
        AlexNetError: the build failed, or no engine answers.
    """
    engine = client()
    arguments = {
        "VERSION": version(),
        "REVISION": _revision(),
        "SOURCE": settings.SOURCE.get(),
        "CODE": code_digest(stage),
    }
    if base := settings.BASE_IMAGE.get():
        arguments["BASE_IMAGE"] = base
    with engine_errors(f"{stage}: build"):
        events = engine.api.build(
            path=str(SOURCE_DIR),
            dockerfile="docker/Dockerfile",
            target=stage,
            tag=tag(stage),
            buildargs=arguments,
            network_mode="host",
            platform=PLATFORM,
            rm=True,
            decode=True,
        )
        _follow(stage, events, console)
        return str(engine.images.get(tag(stage)).id)


def push(stage: str, console: Console) -> None:
    """Push the image of a stage to its registry.

    Raises:
        AlexNetError: the push failed (the image may be missing), or no engine answers.
    """
    repository, _, version = tag(stage).rpartition(":")
    engine = client()
    with engine_errors(f"{stage}: push"):
        _follow(stage, engine.images.push(repository, version, stream=True, decode=True), console)


def write_digests(stages: Sequence[str]) -> dict[str, str]:
    """Write into images.json the digests of pushed images; those of other stages stay.

    Returns:
        Reference by digest of each stage.

    Raises:
        UsageError: an image was never pushed.
    """
    from docker.errors import ImageNotFound

    engine = client()
    digests = {}
    for stage in stages:
        repository = tag(stage).rpartition(":")[0]
        try:
            known = engine.images.get(tag(stage)).attrs["RepoDigests"]
        except ImageNotFound:
            known = []
        matching = [digest for digest in known if digest.startswith(repository + "@")]
        if not matching:
            raise UsageError(f"{tag(stage)}: has no digest. Push it with `alexnet images push {stage}`")
        digests[stage] = matching[0]
    before = storage.read_json(str(DIGESTS_PATH)) if DIGESTS_PATH.is_file() else {}
    storage.write_text(DIGESTS_PATH, json.dumps(before | digests, indent=1) + "\n")
    return digests


def write_sbom(stage: str) -> Path:
    """Write the CycloneDX list of the Python and Debian packages of an image, as found inside it.

    Returns:
        The file's path. The same image gives the same bytes.

    Raises:
        AlexNetError: there is no such image, or no engine answers.
    """
    engine = client()
    with engine_errors(tag(stage)):
        text = engine.containers.run(
            tag(stage), ["-c", LIST_PACKAGES], entrypoint=["python"], network_mode="none", remove=True
        )
        image_id = engine.images.get(tag(stage)).id
    packages = json.loads(text)
    purls = [f"pkg:pypi/{name.lower().replace('_', '-')}@{version}" for name, version in packages["python"]]
    purls += [f"pkg:deb/debian/{name}@{version}?arch={arch}" for name, version, arch in packages["debian"]]
    components = [
        {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        for purl, (name, version, *_) in zip(purls, [*packages["python"], *packages["debian"]], strict=True)
    ]
    described = {"type": "container", "name": f"alexnet/{stage}", "version": f"{version()} {image_id}"}
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": described},
        "components": components,
    }
    path = SBOM_DIR / f"{stage}.cdx.json"
    storage.write_text(path, json.dumps(bom, indent=1) + "\n")
    return path
