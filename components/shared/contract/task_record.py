"""What a step on a cluster leaves under the root, so that it can be run again elsewhere without asking the cluster."""

import json
import re
import socket
import time
from typing import Any

from components.shared import settings, storage
from components.shared.errors import AlexNetError
from components.shared.runlog import RunLog

# Kubeflow puts outputs under <pipeline root>/<pipeline>/<run id>/<task>/...; no step is told its run's id otherwise.
PLACE = re.compile(r"://.*?/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([^/]+)/")


def write(component: str, root_uri: str, executor_input: dict[str, Any], log: RunLog) -> None:
    """Publish `<root>/tasks/<run id>/<task>/<pod>.json` with the image, parameters, inputs and outputs of this attempt.

    Outside of a cluster nothing is written: the local runner keeps its own record.

    Args:
        component: its name.
        root_uri: where; empty: nowhere.
        executor_input: what Kubeflow passed.
        log: for a warning when the record cannot be written, which does not fail the step.
    """
    outputs = executor_input.get("outputs", {}).get("artifacts", {})
    uris = [artifact.get("uri", "") for entry in outputs.values() for artifact in entry["artifacts"]]
    found = next((match for uri in uris if (match := PLACE.search(uri))), None)
    if not found or not root_uri:
        return
    run_id, task = found.groups()
    pod = settings.POD_NAME.get() or socket.gethostname()  # a host name is cut at 63 characters
    image = settings.IMAGE.get()  # set by pipeline/graph/resources.py: no pod is told its own
    record = {
        "run_id": run_id,
        "task": task,
        "component": component,
        "image": image,
        "pod": pod,
        "started": time.time(),
    }
    data = json.dumps({**record, "executor_input": executor_input}, indent=1).encode()
    try:
        storage.publish_bytes(data, storage.join(storage.absolute(root_uri), "tasks", run_id, task, f"{pod}.json"))
    except AlexNetError as error:
        log.warning(f"no record for a rerun was written: {error}")
