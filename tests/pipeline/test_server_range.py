"""Which servers take pipeline.yaml: those that know every field in it.

The API server parses both documents strictly and refuses a field that it does not know (its template package, and
argocompiler's container.go for what a task asks of Kubernetes). `server_fields.json` holds the fields of the messages
that the file uses, with the first server, from 2.14 on, that knows each.
"""

import copy
import json
from pathlib import Path

import pytest

from pipeline.kubeflow import doctor, submission

MESSAGES = json.loads(Path(__file__).with_name("server_fields.json").read_text())["messages"]


def needs(content, message, where=""):
    """Yield each field of a document as (path, first server that knows it)."""
    for field, value in content.items():
        path = f"{where}.{field}"
        kind, since = MESSAGES[message].get(field, ("", "no server"))
        yield path, since
        several, _, inner = kind.rpartition(" ")
        if inner in MESSAGES:
            parts = value.values() if several == "map" else value if isinstance(value, list) else [value]
            for part in parts:
                yield from needs(part, inner, path)


def since(documents):
    """Return the fields that servers of 2.14 do not all know: {first server that does: their names}."""
    found = {}
    for document, message in zip(documents, ("PipelineSpec", "PlatformSpec"), strict=True):
        for path, first in needs(document, message):
            if first != "2.14":
                found.setdefault(first, set()).add(".".join(path.split(".")[-2:]))
    return found


def test_the_oldest_server_is_the_first_that_knows_every_field():
    found = since(submission.documents())
    assert found == {
        "2.15": {"secretAsEnv.optional", "configMapAsEnv.optional"},
        "2.16": {
            "executors.securityContext",
            "securityContext.runAsUser",
            "securityContext.runAsGroup",
            "securityContext.runAsNonRoot",
        },
    }
    assert max(tuple(int(part) for part in first.split(".")) for first in found) == doctor.OLDEST_SERVER


@pytest.mark.parametrize("where", ["root", "container", "kubernetes"])
def test_a_field_that_no_server_knows_is_found(where):
    documents = copy.deepcopy(submission.documents())
    executors = documents[0]["deploymentSpec"]["executors"]
    places = {
        "root": documents[0]["root"],
        "container": next(iter(executors.values()))["container"],
        "kubernetes": documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"],
    }
    places[where]["priorityClass"] = "high"
    assert len(since(documents)["no server"]) == 1
