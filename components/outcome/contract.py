"""The interface of outcome."""

from dataclasses import dataclass
from typing import ClassVar

from components.shared.contract import Contract, output_artifact, parameter
from components.shared.contract.field import FinalStatus


@dataclass(frozen=True, kw_only=True)
class Outcome(Contract):
    """Record how a run ended, well or not, with its parameters in outcomes/RUN_ID.json under the root."""

    NAME: ClassVar[str] = "outcome"

    status: FinalStatus = parameter(help="how the run ended: Kubeflow's PipelineTaskFinalStatus, an object")
    run_id: str = parameter(help="id of the run, which names the record")
    run_name: str = parameter("", help="name of the run, as people see it")
    root_uri: str = parameter(help="folder or URI under which the record is written")
    release_uri: str = parameter("", help="parameter of the run, kept in the record")
    release_fingerprint: str = parameter("", help="parameter of the run, kept in the record")
    subset: str = parameter("", help="parameter of the run, kept in the record")
    recipe: str = parameter("", help="parameter of the run, kept in the record")
    num_epochs: int = parameter(0, help="parameter of the run, kept in the record", minimum=0)
    seeds: list = parameter(help="parameter of the run, kept in the record")
    summary: str = output_artifact("Markdown", help="the record in a few lines")
