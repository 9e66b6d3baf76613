"""One field of a contract, and how its value is written on a command line.

A parameter is a `str`, `int`, `float`, `bool`, a `Literal[...]` of strings, or JSON: a `dict` (`FinalStatus` is one) or
a `list`. An artifact is a `str`, a local path; a list of them is a `tuple[str, ...]`.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, NewType, get_args, get_origin

from components.shared import errors

Role = Literal["parameter", "input", "output"]
# How a run ended, as Kubeflow tells its exit task: state, pipelineTaskName, pipelineJobResourceName, error.message.
FinalStatus = NewType("FinalStatus", dict[str, Any])
JSON_TYPES: dict[Any, type] = {dict: dict, list: list, FinalStatus: dict}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a contract, as its consumers need it."""

    name: str
    type: Any  # as above
    role: Role
    artifact_type: str  # KFP schema title without "system.", "" for parameters
    default: Any  # dataclasses.MISSING when required
    help: str
    unit: str
    minimum: float | None
    maximum: float | None
    names: tuple[str, ...] = ()  # when not empty, the value is NAME[+SWITCH...]
    switches: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def is_list(self) -> bool:
        return get_origin(self.type) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def parse(self, text: str) -> Any:
        """Turn flag text into a value of the field's type.

        Raises:
            UsageError: the text is not of the type, not among the choices or out of range.
        """
        value = self._convert(text)
        if self.choices and value not in self.choices:
            raise errors.UsageError(f"{self.flag}: expected one of {', '.join(self.choices)}, got {text!r}")
        if self.is_list and "" in value:
            raise errors.UsageError(f"{self.flag}: expected paths with commas between them, got {text!r}")
        if self.names:
            self._check_name(text)
        if self.minimum is not None and not value >= self.minimum:
            raise errors.UsageError(f"{self.flag}: expected at least {self.minimum}, got {text}")
        if self.maximum is not None and not value <= self.maximum:
            raise errors.UsageError(f"{self.flag}: expected at most {self.maximum}, got {text}")
        return value

    def _convert(self, text: str) -> Any:
        try:
            if self.type is bool:
                return {"true": True, "false": False}[text.lower()]
            if self.type in (int, float):
                return self.type(text)
            value = json.loads(text) if self.type in JSON_TYPES else text
        except (KeyError, ValueError):
            expected = {bool: "true or false", int: "a number of type int", float: "a number of type float"}
            raise errors.UsageError(f"{self.flag}: expected {expected.get(self.type, 'JSON')}, got {text!r}") from None
        if self.type in JSON_TYPES and not isinstance(value, JSON_TYPES[self.type]):
            kind = {dict: "object", list: "list"}[JSON_TYPES[self.type]]
            raise errors.UsageError(f"{self.flag}: expected a JSON {kind}, got {text!r}")
        return tuple(text.split(",")) if self.is_list else value

    def _check_name(self, text: str) -> None:
        name, *switches = text.split("+")
        if name not in self.names:
            raise errors.UsageError(f"{self.flag}: expected one of {', '.join(self.names)}, got {name!r}")
        for index, switch in enumerate(switches):
            if switch not in self.switches or switch in switches[:index]:
                raise errors.UsageError(
                    f"{self.flag}: expected after {name}, each once, any of +{', +'.join(self.switches)}, got {text!r}"
                )

    def render(self, value: Any) -> str:
        """Turn a value into the flag text that `parse` reads back."""
        if self.is_list:
            return ",".join(value)
        if self.type in JSON_TYPES:
            return json.dumps(value)
        return str(value).lower() if self.type is bool else str(value)
