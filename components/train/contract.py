"""The interface of train."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from components.shared.contract import Contract, input_artifact, output_artifact, parameter
from components.train.recipes.known import RECIPES
from components.train.recipes.switches import SWITCHES


@dataclass(frozen=True, kw_only=True)
class Train(Contract):
    """Train the network of Krizhevsky, Sutskever and Hinton 2012 on a dataset, resuming from its last checkpoint."""

    NAME: ClassVar[str] = "train"

    dataset: str = input_artifact("Dataset", help="manifest that ingest wrote")
    statistics: str = input_artifact("Artifact", help="manifest that statistics wrote from that dataset")
    root_uri: str = parameter(help="folder or URI under which checkpoints and weights are written")
    recipe: str = parameter(
        "alexnet-2012",
        help=f"named configuration of network and training, NAME[+SWITCH...]; names {', '.join(RECIPES)}; "
        f"switches {', '.join(SWITCHES)}; see `alexnet describe`",
        names=tuple(RECIPES),
        switches=tuple(SWITCHES),
    )
    seed: int = parameter(0, help="seed of weights, order, crops, noise and dropout", minimum=0)
    num_epochs: int = parameter(
        0, help="length of training; the schedule scales with it; 0: the recipe's", unit="epochs", minimum=0
    )
    gpus: int = parameter(0, help="GPUs to use; 0: CPU only", minimum=0)
    parallel: Literal["data", "towers"] = parameter(
        "data", help="how GPUs share the work: parts of every batch, or the two towers of the network, as in 2012"
    )
    checkpoint_minutes: float = parameter(
        2.0,
        help="time between checkpoints; longer where they would cost more than 2 % of it; 0: after every step",
        unit="minutes",
        minimum=0,
    )
    model: str = output_artifact("Model", help="manifest of weights and training history")
    metrics: str = output_artifact("Metrics", help="final losses and errors, JSON")
    report: str = output_artifact("HTML", help="loss and error curves, conv1 filters")
