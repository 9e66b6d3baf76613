"""The interface to Kubeflow's launcher: `--executor-input` and executor_output.json.

The launcher replaces `{{$}}` in the command line by this JSON. If the component succeeds, the
launcher reads executor_output.json: the only way for a container to set artifact metadata.
"""

import json
from pathlib import Path
from typing import Any, cast

from components.shared import errors, storage

MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}  # where the launcher keeps local copies


def decode(text: str) -> dict[str, Any]:
    """Decode the value of the flag; empty text is `{}`.

    Raises:
        UsageError: the text is no JSON object.
    """
    try:
        content = json.loads(text or "{}")
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise errors.UsageError(f"--executor-input: expected a JSON object, got {text[:80]!r}")
    return cast(dict[str, Any], content)


def _local_path(artifact: dict[str, Any]) -> str:
    """Return where the launcher put an artifact: its custom path, the mount of its store, or a path as it is."""
    uri = artifact.get("uri", "")
    copies = [path + uri.removeprefix(scheme) for scheme, path in MOUNTS.items() if uri.startswith(scheme)]
    return artifact.get("customPath") or (copies[0] if copies else uri)


def list_paths(executor_input: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the local paths of a list of input artifacts; none when the executor input does not name it.

    The launcher downloads every artifact of a list, but has no placeholder for their paths on a command line.
    """
    entry = executor_input.get("inputs", {}).get("artifacts", {}).get(name, {})
    return tuple(_local_path(artifact) for artifact in entry.get("artifacts", []))


def write_output(executor_input: dict[str, Any], metadata: dict[str, dict[str, Any]]) -> None:
    """Tell Kubeflow the metadata of the output artifacts (finite numbers and strings only)."""
    outputs = executor_input.get("outputs", {})
    if not outputs.get("outputFile"):
        return
    artifacts = {}
    for name, entry in outputs.get("artifacts", {}).items():
        artifact = dict(entry["artifacts"][0])
        artifact["metadata"] = {**artifact.get("metadata", {}), **metadata.get(name, {})}
        artifacts[name] = {"artifacts": [artifact]}
    path = Path(outputs["outputFile"])
    storage.make_parent(path)
    storage.write_text(path, json.dumps({"artifacts": artifacts}, allow_nan=False))
