"""The interface of the sample generator."""

from dataclasses import dataclass
from typing import ClassVar

from components.shared.contract import Contract, parameter


@dataclass(frozen=True, kw_only=True)
class Sample(Contract):
    """Draw a small release in the exact layout of ILSVRC-2010, without downloading anything."""

    NAME: ClassVar[str] = "sample"

    out: str = parameter(help="folder or URI for the release; what is there already is kept if it is the same")
    classes: int = parameter(8, help="number of classes", minimum=2, maximum=16)
    images_per_class: int = parameter(
        80,
        help="mean number of training images a class; validation has 1/8 and test 1/4 of it",
        minimum=8,
        maximum=5000,
    )
    seed: int = parameter(0, help="seed of the drawings", minimum=0)
