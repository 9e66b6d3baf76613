"""The subset rule: which classes and how many of their training images to keep."""

import re
from dataclasses import dataclass

import numpy as np

from components.ingest.devkit import Devkit
from components.shared.errors import UsageError

SYNTAX = "all | classes=N,per_class=M,seed=S | wnids=n01,n02"


@dataclass(frozen=True)
class Subset:
    """What to keep. Validation and test images of the kept classes are all kept."""

    ilsvrc_ids: tuple[int, ...]  # kept classes, ascending; position = label
    per_class: int = 0  # training images a class; 0: all
    seed: int = 0

    def keeps(self, split: str, images: np.ndarray) -> np.ndarray:
        """Tell for each image of a split, a table in the order of class and name, whether it is kept: bool [N]."""
        keep = np.isin(images["ilsvrc_id"], self.ilsvrc_ids)
        if split != "train" or not self.per_class:
            return keep
        for ilsvrc_id in np.unique(images["ilsvrc_id"]).tolist():
            positions = np.flatnonzero(images["ilsvrc_id"] == ilsvrc_id)
            order = np.random.default_rng([self.seed, ilsvrc_id]).permutation(len(positions))
            keep[positions[order[self.per_class :]]] = False
        return keep


def parse(text: str, devkit: Devkit) -> Subset:
    """Read the subset rule.

    Args:
        text: `all`, `classes=N,per_class=M,seed=S` (each may be left out) or `wnids=n01,n02`.
        devkit: the classes to choose from.

    Raises:
        UsageError: the rule is ill-formed or names what is not there.
    """
    num_classes = len(devkit.synsets)
    if text == "all":
        return Subset(tuple(range(1, num_classes + 1)))
    if text.startswith("wnids="):
        ids = {synset.wnid: synset.ilsvrc_id for synset in devkit.synsets}
        wnids = text.removeprefix("wnids=").split(",")
        unknown = [wnid for wnid in wnids if wnid not in ids]
        if unknown:
            raise UsageError(f"--subset: {unknown[0]!r} is no class of this release's meta.mat")
        return Subset(tuple(sorted({ids[wnid] for wnid in wnids})))
    if not re.fullmatch(r"(classes|per_class|seed)=\d+(,(classes|per_class|seed)=\d+)*", text):
        raise UsageError(f"--subset: expected {SYNTAX}, got {text!r}")
    values = {key: int(value) for key, value in (part.split("=") for part in text.split(","))}
    wanted = values.get("classes", num_classes)
    if not 1 <= wanted <= num_classes:
        raise UsageError(f"--subset: expected 1 to {num_classes} classes, got {wanted}")
    seed = values.get("seed", 0)
    chosen = np.random.default_rng(seed).permutation(num_classes)[:wanted] + 1
    return Subset(tuple(sorted(chosen.tolist())), values.get("per_class", 0), seed)
