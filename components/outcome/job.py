"""Write down how a run ended."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

from components.outcome.contract import Outcome
from components.shared import storage
from components.shared.errors import UsageError
from components.shared.runlog import RunLog

# Kubeflow tells the state of its metadata store (COMPLETE, CACHED, ...), Vertex and the local runner that of a task.
STATES = {
    "COMPLETE": "SUCCEEDED",
    "CACHED": "SUCCEEDED",
    "SUCCEEDED": "SUCCEEDED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELLED",
    "CANCELLED": "CANCELLED",
}
KEPT = ("release_uri", "release_fingerprint", "subset", "recipe", "num_epochs", "seeds")


def record_of(config: Outcome) -> dict[str, Any]:
    """Build the record of a run.

    Any other state than those above is UNKNOWN: Kubeflow leaves RUNNING where the last step came from the cache, where
    a driver failed, or where a pod died before it could say how it ended.
    """
    status = config.status
    state = STATES.get(status.get("state", ""), "UNKNOWN")
    return {
        "run_id": config.run_id,
        "run_name": config.run_name,
        "resource_name": status.get("pipelineJobResourceName", ""),
        "state": state,
        "reported_state": status.get("state", ""),
        "task": "" if state == "SUCCEEDED" else status.get("pipelineTaskName", ""),
        "message": (status.get("error") or {}).get("message", ""),
        "parameters": {name: getattr(config, name) for name in KEPT},
    }


def publish(record: dict[str, Any], root_uri: str) -> str:
    """Publish a record under a name of its own: a run that is retried under its id ends more than once.

    Returns:
        The URI of the record.

    Raises:
        StorageError: the place cannot be written.
    """
    data = (json.dumps(record, indent=1) + "\n").encode()
    folder = storage.join(storage.absolute(root_uri), "outcomes")
    endings = itertools.chain([""], (f".{attempt}" for attempt in itertools.count(2)))
    uris = (storage.join(folder, f"{record['run_id']}{ending}.json") for ending in endings)
    uri = next(uri for uri in uris if not storage.exists(uri) or storage.read_bytes(uri) == data)
    storage.publish_bytes(data, uri)
    return uri


def markdown(record: dict[str, Any], uri: str) -> str:
    """Write a record for people."""
    rows = {"run": record["run_name"] or record["run_id"], "task": record["task"], "message": record["message"]}
    rows |= record["parameters"]
    lines = [f"- {name}: `{value}`" for name, value in rows.items() if value not in ("", [])]
    return "\n".join([f"# {record['state'].capitalize()}", "", *lines, f"- record: `{uri}`", ""])


def run(config: Outcome) -> dict[str, dict[str, Any]]:
    """Record how a run ended.

    Returns:
        The metadata of the output artifact.

    Raises:
        StorageError: the root cannot be written.
        UsageError: the run id is no name for a file.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", config.run_id):
        raise UsageError(f"--run-id: expected letters, digits, dots and dashes, got {config.run_id!r}")
    record = record_of(config)
    uri = publish(record, config.root_uri)
    storage.write_text(Path(config.summary), markdown(record, uri))
    RunLog("outcome").info("recorded", state=record["state"], uri=uri)
    return {"summary": {"state": record["state"], "uri": uri}}
