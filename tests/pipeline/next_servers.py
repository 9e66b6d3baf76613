"""Two servers more for tests: the one of Kubeflow's web pages, and the API server that comes after ML Metadata.

`Pages` answers healthz as frontend/server/handlers/healthz.ts of kubeflow/pipelines 2.17.0 does, and as it was recorded
with the API server down. `TaskServer` lists tasks as the source of pull request 13986 at 6585b514 has it
(backend/api/v2beta1/run.proto and artifact.proto; toAPITask in backend/src/apiserver/server/api_converter.go; proto
names, nothing that is empty, numbers of 64 bits as texts); no such server has been seen running.
"""

from kfp_server import KfpServer, Problem
from kubeflow_imitation.nodes import at


class Pages(KfpServer):
    """The web server: it asks the API server for its health, keeps what it heard, and answers 200 whatever happens."""

    def __init__(self):
        super().__init__()
        self.heard = {"buildDate": "", "frontendCommitHash": "", "frontendTagName": ""}
        self.api_is_up = True
        self.multi_user = False

    def healthz(self, *_):
        self.heard["apiServerReady"] = self.api_is_up
        if self.api_is_up:
            self.heard |= {"apiServerCommitHash": "2.17.0", "apiServerTagName": "2.17.0", "pipelineStore": "database"}
            self.heard |= {"apiServerMultiUser": self.multi_user, "multi_user": self.multi_user}
        return self.heard

    ROUTES = (("GET", r"/apis/v2beta1/healthz", healthz), *KfpServer.ROUTES)


def row(name, state, executors=1, clock=(0, 45), **more):
    """Build a task: its driver's pod and those of its attempts, times in whole seconds.

    Args:
        name: of the task.
        state: as in the enumeration TaskState.
        executors: attempts whose pods have started.
        clock: seconds at which it was made and ended; a task without an end has (start,).
        more: other fields of a PipelineTask.
    """
    pods = [{"name": f"{name}-driver-pod", "uid": "u0", "type": "DRIVER"}]
    pods += [{"name": f"{name}-pod-{n}", "uid": f"u{n + 1}", "type": "EXECUTOR"} for n in range(executors)]
    task = {"name": name, "display_name": name, "task_id": f"id-{name}", "pods": pods, "create_time": at(clock[0])}
    task |= {"state": state, "type": "RUNTIME", "parent_task_id": "id-root", "scope_path": f"root.{name}"}
    return task | ({"end_time": at(clock[1])} if clock[1:] else {}) | {"inputs": {}, "outputs": {}} | more


def artifact(key, kind, uri="", **more):
    """Build an output or input of a task with one artifact."""
    one = {"artifact_id": f"id-{key}", "name": key, "type": kind, "created_at": at(1), "namespace": "kubeflow", **more}
    return {"artifacts": [one | ({"uri": uri} if uri else {})], "type": "OUTPUT", "artifact_key": key}


def metrics(key, **values):
    """Build an output of metrics: one artifact per value, without a file."""
    found = [
        {"artifact_id": f"id-{name}", "name": name, "type": "Metric", "number_value": value, "metadata": {name: value}}
        for name, value in values.items()
    ]
    return {"artifacts": found, "type": "OUTPUT", "artifact_key": key}


class TaskServer(KfpServer):
    """A server with the list of tasks; `rows` is that list for every run, in pages of three."""

    def __init__(self):
        super().__init__()
        self.has_v1 = False
        self.rows = []

    def list_tasks(self, match, query, _body):
        if match[1] not in self.runs:
            raise Problem(404, f"Run {match[1]} not found")
        root = {"name": "root", "task_id": "id-root", "type": "ROOT", "state": "RUNNING", "scope_path": "root"}
        every = [{**task, "run_id": match[1]} for task in (root, *self.rows)]
        first = int(query.get("page_token", 0))
        answer = {"tasks": every[first : first + 3], "total_size": len(every)}
        return answer | ({"next_page_token": str(first + 3)} if every[first + 3 :] else {})

    ROUTES = (("GET", r"/apis/v2beta1/runs/([^/]+)/tasks", list_tasks), *KfpServer.ROUTES)
