"""The interface of evaluate."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from components.shared.contract import Contract, input_artifact, input_artifacts, output_artifact, parameter


@dataclass(frozen=True, kw_only=True)
class Evaluate(Contract):
    """Measure top-1 and top-5 error of a network, or of several averaged, and report them beside the paper's."""

    NAME: ClassVar[str] = "evaluate"

    dataset: str = input_artifact("Dataset", help="manifest that ingest wrote")
    statistics: str = input_artifact("Artifact", help="manifest that statistics wrote")
    models: tuple[str, ...] = input_artifacts("Model", help="manifests that train wrote; several networks are averaged")
    root_uri: str = parameter(help="folder or URI under which the predictions are written")
    split: Literal["test", "validation"] = parameter("test", help="images to evaluate on")
    batch_size: int = parameter(16, help="images per forward pass, each of ten crops", unit="images", minimum=1)
    gpus: int = parameter(0, help="GPUs to use; 0: CPU only", minimum=0, maximum=1)
    predictions: str = output_artifact(
        "Artifact", help="manifest of every image's five best labels, by all and by each network"
    )
    metrics: str = output_artifact("Metrics", help="errors as fractions, JSON")
    confusion: str = output_artifact("ClassificationMetrics", help="confusion matrix of at most 40 groups, JSON")
    report: str = output_artifact("HTML", help="the self-contained report")
    summary: str = output_artifact("Markdown", help="the report in ten lines")
