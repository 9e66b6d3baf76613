"""The one list of the components, from which graph, images, docs/reference and `alexnet gc` derive.

`docker/Dockerfile`, `Makefile` and the groups of `pyproject.toml` name them too; a test compares these with it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.outcome.contract import Outcome
from components.sample.contract import Sample
from components.shared import storage
from components.shared.contract import Contract
from components.statistics.contract import Statistics
from components.train.contract import Train

SOURCE_DIR = Path(__file__).parents[1]


@dataclass(frozen=True)
class Component:
    """What the pipeline knows of a component beside its contract."""

    contract: type[Contract]
    uses_gpus: bool = False  # then there is a second image, `<name>-gpu`, with the CUDA libraries
    keeps: bool = False  # results in folders by key, see components/shared/keyed.py
    beside: str = ""  # start of the names of what may be left there beside a finished one's files


# In the order in which `alexnet images build` builds them, the small ones first.
COMPONENTS = {
    component.contract.NAME: component
    for component in (
        Component(Sample),
        Component(Outcome),
        Component(Evaluate, uses_gpus=True, keeps=True),
        Component(Ingest, keeps=True),
        Component(Train, uses_gpus=True, keeps=True, beside="checkpoints/"),
        Component(Statistics, keeps=True, beside="transform-"),
    )
}
STAGES = (*COMPONENTS, *(f"{name}-gpu" for name, component in COMPONENTS.items() if component.uses_gpus))


def code_digest(stage: str) -> str:
    """Compute the digest of what an image stage holds: a component's sources, the shared ones, the locked packages."""
    folders = [SOURCE_DIR / "components" / name for name in ("shared", stage.removesuffix("-gpu"))]
    found = [path for folder in folders for path in sorted(folder.rglob("*"))]
    paths = [path for path in found if path.is_file() and path.parent.name != "__pycache__"]  # as .dockerignore
    lock = SOURCE_DIR / "requirements" / f"{stage}.txt"
    digest = hashlib.sha256()
    for path in [*paths, *([lock] if lock.is_file() else [])]:
        digest.update(f"{path.relative_to(SOURCE_DIR)}\0{storage.sha256(str(path))}\n".encode())
    return digest.hexdigest()
