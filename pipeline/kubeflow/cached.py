"""Where the outputs of cached tasks are, if the run itself does not say.

Kubeflow tells nothing of a task whose outputs came from its cache. The cache returns those of the last execution with
the same container, inputs and outputs; here that is taken to be the one in the last run with the same parameters.
"""

from dataclasses import replace
from itertools import islice

from pipeline.kubeflow import argo, runs
from pipeline.kubeflow.client import Client, Refused

RUNS_LOOKED_AT = 50


def find(client: Client, view: runs.RunView) -> None:
    """Add to the cached tasks of a run the artifacts of the earlier run that made them; `message` names it.

    Args:
        client: the server.
        view: the run; tasks whose artifacts are known or cannot be found stay as they are.
    """
    wanted = {task.name: task for task in view.tasks if task.state == "cached" and not task.artifacts}
    pages = client.pages("/apis/v2beta1/runs", "runs", namespace=client.namespace, sort_by="created_at desc")
    try:
        for run in islice(pages if wanted else (), RUNS_LOOKED_AT):
            same = run.get("runtime_config", {}).get("parameters", {}) == view.parameters
            if not same or run["run_id"] == view.run_id or run.get("created_at", "") > view.created:
                continue
            for earlier in argo.tasks_of(runs.workflow_of(client, run["run_id"]), runs.spec_of(run)):
                task = wanted.get(earlier.name)
                if task and earlier.state == "succeeded" and earlier.artifacts and _same(earlier, task):
                    task.artifacts = [replace(artifact, task=task.name) for artifact in earlier.artifacts]
                    task.message = f"from run {run['run_id']}"
                    del wanted[task.name]
            if not wanted:
                return
    except Refused:
        return  # may see this run, but not list those of the namespace


def _same(earlier: argo.TaskRun, task: argo.TaskRun) -> bool:
    """Tell whether two tasks are of the same container and component."""
    return all(key in task.record and earlier.record.get(key) == task.record[key] for key in ("container", "component"))
