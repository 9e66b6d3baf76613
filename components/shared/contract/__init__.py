"""One frozen dataclass per component is its whole interface; what it does is derived from that.

From a contract come the command line (`command_line`), the Kubeflow component (`pipeline/graph/component.py`) and the
tables of docs/reference. A field is a parameter, an input artifact (or a list of them) or an output artifact; `field`
has their types. There is no Optional: `0` and `""` mean "all" or "off".
"""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from components.shared.contract.field import Field, Role


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Base of the contracts. The docstring of a subclass is the description of its component."""

    NAME: ClassVar[str]


def _field(role: Role, artifact_type: str, default: Any, **metadata: Any) -> Any:
    return dataclasses.field(
        default=default,
        metadata={"role": role, "artifact_type": artifact_type, **metadata},
    )


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    names: tuple[str, ...] = (),
    switches: tuple[str, ...] = (),
) -> Any:
    """Declare a parameter; without a default it is required. `names` and `switches`: see `Field`."""
    checks = {"minimum": minimum, "maximum": maximum, "names": names, "switches": switches}
    return _field("parameter", "", default, help=help, unit=unit, **checks)


def input_artifact(artifact_type: str, *, help: str) -> Any:
    """Declare an input artifact: a local path to a file that another component wrote."""
    return _field("input", artifact_type, dataclasses.MISSING, help=help)


def input_artifacts(artifact_type: str, *, help: str) -> Any:
    """Declare a list of input artifacts, a `tuple[str, ...]` of local paths: at least one, none with a comma in it."""
    return _field("input", artifact_type, dataclasses.MISSING, help=help)


def output_artifact(artifact_type: str, *, help: str) -> Any:
    """Declare an output artifact: a local path that the component writes."""
    return _field("output", artifact_type, dataclasses.MISSING, help=help)


def fields(contract: type[Contract]) -> list[Field]:
    """List the fields of a contract in the order of their declaration."""
    hints = typing.get_type_hints(contract)
    return [
        Field(
            name=f.name,
            type=hints[f.name],
            role=f.metadata["role"],
            artifact_type=f.metadata["artifact_type"],
            default=f.default,
            help=f.metadata["help"],
            unit=f.metadata.get("unit", ""),
            minimum=f.metadata.get("minimum"),
            maximum=f.metadata.get("maximum"),
            names=f.metadata.get("names", ()),
            switches=f.metadata.get("switches", ()),
        )
        for f in dataclasses.fields(contract)
    ]
