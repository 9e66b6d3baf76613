"""The interface of statistics."""

from dataclasses import dataclass
from typing import ClassVar

from components.shared.contract import Contract, input_artifact, output_artifact, parameter


@dataclass(frozen=True, kw_only=True)
class Statistics(Contract):
    """Compute mean image, RGB covariance and PCA of the training set by TF Transform, as exact integer sums."""

    NAME: ClassVar[str] = "statistics"

    dataset: str = input_artifact("Dataset", help="manifest that ingest wrote")
    root_uri: str = parameter(help="folder or URI under which the arrays are written")
    runner: str = parameter("FnApiRunner", help="Beam runner; the default runs in this process and downloads nothing")
    runner_options: str = parameter("", help="Beam pipeline options, as on a command line; empty: all local cores")
    statistics: str = output_artifact("Artifact", help="manifest of mean image, covariance and PCA")
    summary: str = output_artifact("Markdown", help="the numbers beside the published ones")
