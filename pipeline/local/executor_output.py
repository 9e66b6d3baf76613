"""What a task says of its outputs in executor_output.json, read as strictly as Kubeflow's launcher reads it.

A file that the launcher refuses fails a task whose work is done, so it must fail here too
(backend/src/v2/component/launcher_v2.go and backend/src/v2/metadata/converter.go of kubeflow/pipelines 2.17.0).
"""

import json
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import DataError

FIELDS = {"artifacts", "parameterValues"}
ARTIFACT_FIELDS = {"name", "type", "uri", "metadata", "customPath"}


def _number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check(where: str, given: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where} is no object")
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    return given


def _metadata(name: str, artifact: Any) -> dict[str, Any]:
    entry = _check(f"artifact {name}", artifact, ARTIFACT_FIELDS)
    for field in sorted(ARTIFACT_FIELDS - {"metadata", "type"}):
        if not isinstance(entry.get(field, ""), str):
            raise ValueError(f"artifact {name}: {field} is no text")
    metadata = entry.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"artifact {name}: metadata is no object")
    for key, value in metadata.items():
        if value is None:
            raise ValueError(f"artifact {name}, metadata {key}: unknown/unsupported value type null")
    return metadata


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of the output artifacts, by name; nothing where there is no file.

    Raises:
        DataError: Kubeflow's launcher would refuse the file.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(storage.read_bytes(str(path)), parse_constant=_number)
        found = {}
        for name, entry in _check("the file", content, FIELDS).get("artifacts", {}).items():
            artifacts = _check(f"artifact {name}", entry, {"artifacts"}).get("artifacts", [])
            if artifacts:
                found[name] = _metadata(name, artifacts[0])
        return found
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: failed to unmarshall ExecutorOutput: {error}. Metadata are finite numbers and texts"
        ) from error
