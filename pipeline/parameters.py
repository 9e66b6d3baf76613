"""The parameters of a run: their types as pipeline.yaml has them, and what a person types."""

import json
from typing import Any

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.shared import contract
from components.shared.errors import UsageError
from components.statistics.contract import Statistics
from components.train.contract import Train

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


def typed(kind: str, value: Any) -> Value:
    """Bring a value of pipeline.yaml to its type: the file holds every number as a float."""
    if kind == "LIST":
        return [int(item) if isinstance(item, float) and item.is_integer() else item for item in value]
    return TYPES[kind](value)


def parse_parameters(types: dict[str, str], given: list[str]) -> dict[str, Value]:
    """Read `k=v` parameters and check them as the components will.

    `num_networks=N` is short for `seeds=[0, ..., N-1]` where there are `seeds`; with both, they must agree.

    Args:
        types: the type of each parameter that there is.
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
            values[name] = _check(name, text, types[name])
    if num_networks:
        seeds = values.setdefault("seeds", list(range(num_networks)))
        if len(seeds) != num_networks:
            raise UsageError(f"--param num_networks={num_networks}: seeds says {len(seeds)} networks. Give one of them")
    return values


def _count(item: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--param {item}: expected a number of networks, at least 1")
    return int(text)


def _check(name: str, text: str, kind: str) -> Value:
    """Parse a pipeline parameter by the field of that name in the contracts: type, choices and range."""
    for component in (Ingest, Statistics, Train, Evaluate):
        for field in contract.fields(component):
            if field.name == name and field.role == "parameter":
                try:
                    return field.parse(text)
                except UsageError as error:
                    raise UsageError(f"--param {name}{str(error).removeprefix(field.flag)}") from None
    if name == "seeds":
        return _seeds(text)
    if TYPES[kind] in (list, dict):
        return _json(name, text, TYPES[kind])
    try:
        return typed(kind, text)
    except ValueError:
        raise UsageError(f"--param {name}: expected a value of type {TYPES[kind].__name__}, got {text!r}") from None


def _json(name: str, text: str, kind: type) -> Value:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise UsageError(f"--param {name}: expected a JSON {'list' if kind is list else 'object'}, got {text!r}")
    return value


def _seeds(text: str) -> list[int]:
    """Parse `0,1,2` or `[0, 1, 2]`: the seeds of as many networks, no two alike."""
    seed = next(field for field in contract.fields(Train) if field.name == "seed")
    words = text.removeprefix("[").removesuffix("]").split(",")
    try:
        seeds = [seed.parse(word.strip()) for word in words]
    except UsageError as error:
        raise UsageError(f"--param seeds{str(error).removeprefix(seed.flag)}") from None
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--param seeds: expected no seed twice, got {text!r}. It would be the same network")
    return seeds
