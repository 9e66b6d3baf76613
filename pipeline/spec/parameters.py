"""The parameters of a run: their types as pipeline.yaml has them, and what a person types.

What Kubeflow's API server refuses at submission, and its driver before a task starts, is refused here with the same
words (backend/src/apiserver/template/v2_template.go and backend/src/v2/driver/resolve.go of kubeflow/pipelines
2.17.0).
"""

import json
from collections.abc import Mapping
from typing import Any

from components.shared import contract
from components.shared.contract.field import Field
from components.shared.errors import UsageError
from pipeline.components import COMPONENTS

Value = Any  # str, int, float, bool, or what JSON makes of a list or an object
TYPES: dict[str, Any] = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
}
# A type of pipeline.yaml: the kind of value it takes, and its name in the words of the API server.
KINDS = {
    "STRING": ("string", "string"),
    "NUMBER_INTEGER": ("number", "double or integer"),
    "NUMBER_DOUBLE": ("number", "double or integer"),
    "BOOLEAN": ("bool", "bool"),
    "LIST": ("list", "list"),
    "STRUCT": ("struct", "struct"),
    "TASK_FINAL_STATUS": ("struct", "TASK_FINAL_STATUS"),
}
MAX_INTEGER = 2**53  # Kubeflow carries every number as a double
OPERATORS = ("Exists", "Equal")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def kind_of(value: Value) -> str:
    """Return the kind of a value as Kubeflow's drivers name it."""
    named = ((bool, "bool"), (int | float, "number"), (str, "string"), (list, "list"), (dict, "struct"))
    return next((name for type_, name in named if isinstance(value, type_)), "null")


def typed(kind: str, value: Any) -> Value:
    """Return a value of pipeline.yaml, where every number is a float, with its whole numbers as integers."""
    if kind == "LIST" and isinstance(value, list):
        return [int(item) if isinstance(item, float) and item.is_integer() else item for item in value]
    return int(value) if kind == "NUMBER_INTEGER" and isinstance(value, float) and value.is_integer() else value


def text_of(value: Value) -> str:
    """Return a value as Kubeflow's driver writes it into a command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def passed(where: str, kind: str, value: Value) -> Value:
    """Return a value as Kubeflow's driver passes it to a task.

    Raises:
        UsageError: it is not of the type that the component declares.
    """
    if kind == "STRING":
        return text_of(value)
    if kind_of(value) != KINDS[kind][0]:
        raise UsageError(f"pipeline.yaml, {where}: type mismatch: expect {kind}, got {kind_of(value)}: {value!r}")
    return value


def check_run(types: Mapping[str, str], defaults: Mapping[str, Value], values: Mapping[str, Value]) -> None:
    """Check the parameters of a run as Kubeflow's API server does.

    Raises:
        UsageError: one is missing, unknown or of another type; the words are the server's.
    """
    if unknown := sorted(values.keys() - types.keys()):
        raise UsageError(f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")
    for name, kind in types.items():
        if name not in values:
            if name not in defaults:
                raise UsageError(
                    f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
            continue
        expected, said = KINDS[kind]
        if kind_of(values[name]) != expected:
            subject = "parameter value" if expected == "number" else "input parameter"
            raise UsageError(
                f"input parameter {name} requires type {said}, but the {subject} is not of {expected} value type: "
                f"got {values[name]!r}"
            )
        if expected == "number" and not abs(values[name]) <= MAX_INTEGER:
            raise UsageError(f"parameter {name}: Kubeflow carries no number exactly beyond 2^53, got {values[name]}")


def field_of(component: str, name: str) -> Field | None:
    """Return the field of a component's contract that a parameter is; None where there is no such component."""
    declared = contract.fields(COMPONENTS[component].contract) if component in COMPONENTS else []
    return next((field for field in declared if field.name == name and field.role == "parameter"), None)


def parse_parameters(types: Mapping[str, str], fields: Mapping[str, list[Field]], given: list[str]) -> dict[str, Value]:
    """Read `k=v` parameters and check them as the components will.

    `num_networks=N` is short for `seeds=[0, ..., N-1]` where there are `seeds`; with both, they must agree.

    Args:
        types: the type of each parameter that there is.
        fields: those of the contracts that each parameter goes to.
        given: what a person typed.

    Raises:
        UsageError: a parameter is unknown, ill-typed or out of range.
    """
    short = "num_networks" if "seeds" in types and "num_networks" not in types else ""
    values: dict[str, Value] = {}
    num_networks = 0
    for item in given:
        name, equals, text = item.partition("=")
        if equals and name == short:
            num_networks = _count(item, text)
        elif not equals or name not in types:
            names = ", ".join(sorted([*types, *([short] if short else [])]))
            raise UsageError(f"--param {item}: expected NAME=VALUE with one of these names: {names}")
        else:
            values[name] = _value(name, text, types[name], fields.get(name, []))
    if num_networks:
        seeds = values.setdefault("seeds", list(range(num_networks)))
        if len(seeds) != num_networks:
            raise UsageError(f"--param num_networks={num_networks}: seeds says {len(seeds)} networks. Give one of them")
    check_run({name: types[name] for name in values}, {}, values)
    return values


def _count(item: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--param {item}: expected a number of networks, at least 1")
    return int(text)


def _value(name: str, text: str, kind: str, fields: list[Field]) -> Value:
    """Parse a parameter by the fields of the contracts that it goes to: type, choices and range."""
    if name == "seeds":
        return _seeds(text)
    if name == "node_selector":
        return _node_selector(_json(name, text, dict))
    if name == "tolerations":
        return [_toleration(entry) for entry in _json(name, text, list)]
    try:
        for field in fields:
            field.parse(text)
    except UsageError as error:
        raise UsageError(f"--param {name}:{str(error).partition(':')[2]}") from None
    if fields and kind != "STRING":  # a number of GPUs is a text in the pipeline, as are all resources of pods
        return fields[0].parse(text)
    if TYPES[kind] in (list, dict):
        return _json(name, text, TYPES[kind])
    try:
        return {"true": True, "false": False}[text.lower()] if kind == "BOOLEAN" else TYPES[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"--param {name}: expected a value of type {TYPES[kind].__name__}, got {text!r}") from None


def _json(name: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise UsageError(f"--param {name}: expected a JSON {'list' if kind is list else 'object'}, got {text!r}")
    return value


def _seeds(text: str) -> list[int]:
    """Parse `0,1,2` or `[0, 1, 2]`: the seeds of as many networks, no two alike."""
    seed = next(field for field in contract.fields(COMPONENTS["train"].contract) if field.name == "seed")
    words = text.removeprefix("[").removesuffix("]").split(",")
    try:
        seeds = [seed.parse(word.strip()) for word in words]
    except UsageError as error:
        raise UsageError(f"--param seeds{str(error).removeprefix(seed.flag)}") from None
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--param seeds: expected no seed twice, got {text!r}. It would be the same network")
    return seeds


def _node_selector(labels: dict[str, Any]) -> dict[str, str]:
    """Check labels as Kubeflow's driver does, which reads texts only."""
    for label, value in labels.items():
        if not isinstance(value, str):
            raise UsageError(
                f"--param node_selector: expected a text as the value of {label}, got {json.dumps(value)}. "
                f'Write "{text_of(value)}"'
            )
    return labels


def _toleration(entry: Any) -> dict[str, Any]:
    """Check a toleration as Kubernetes does when the pod is made, which is hours after the run was submitted."""
    texts = {"key", "operator", "value", "effect"}
    if not isinstance(entry, dict) or not entry.keys() <= {*texts, "tolerationSeconds"}:
        raise UsageError(f"--param tolerations: expected objects with {', '.join(sorted(texts))}, got {entry!r}")
    problem = ""
    if wrong := sorted(name for name in texts & entry.keys() if not isinstance(entry[name], str)):
        problem = f"{wrong[0]} is no text"
    elif entry.get("operator", "Equal") not in OPERATORS:
        problem = f"the operator is none of {', '.join(OPERATORS)}"
    elif entry.get("effect", "NoExecute") not in EFFECTS:
        problem = f"the effect is none of {', '.join(EFFECTS)}"
    elif entry.get("operator") == "Exists" and entry.get("value"):
        problem = "with Exists there is no value"
    elif not entry.get("key") and entry.get("operator") != "Exists":
        problem = "without a key the operator is Exists"
    elif "tolerationSeconds" in entry and entry.get("effect") != "NoExecute":
        problem = "tolerationSeconds goes with NoExecute only"
    if problem:
        raise UsageError(f"--param tolerations: {json.dumps(entry)}: {problem}")
    return entry
