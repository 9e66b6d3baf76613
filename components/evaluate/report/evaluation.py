"""One finished evaluation in numbers, and whether they may be set beside the paper's."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluate import metrics
from components.evaluate.neighbours import Neighbours
from components.evaluate.predictions import Member, Predictions
from components.shared import storage
from components.shared.manifest import ClassEntry, Manifest

# Errors in percent on the ILSVRC-2010 test set, top-1 and top-5 (paper, Table 1 and its text).
PUBLISHED = (
    ("AlexNet, ten crops", 37.5, 17.0),
    ("AlexNet, centre crop", 39.0, 18.3),
    ("SIFT + Fisher vectors", 45.7, 25.7),
    ("Sparse coding", 47.1, 28.2),
)
# The same on the ILSVRC-2012 validation images: the paper averaged networks on that release alone (Table 2).
PUBLISHED_2012 = (("1 CNN", 40.7, 18.2), ("5 CNNs", 38.1, 16.4))
PUBLISHED_RECIPE = "alexnet-2012"
PUBLISHED_TEST_IMAGES = 150_000


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report draws on."""

    dataset: Manifest
    statistics: Manifest
    models: list[Manifest]
    made: Manifest  # of the predictions
    predictions: Predictions  # of all networks together
    singles: list[dict[str, float]]  # what `measure` gives for each network
    confusion_CC: np.ndarray  # int64, true by first-ranked, ten crops
    first: Member  # the first of the networks
    neighbours: Neighbours  # as the first network sees them

    @property
    def numbers(self) -> dict[str, float]:
        return self.made.content["metrics"]

    @property
    def mean_single(self) -> dict[str, float]:
        return measure_singles(self.singles)

    @property
    def split(self) -> str:
        return self.made.content["split"]

    @property
    def classes(self) -> list[ClassEntry]:
        return self.dataset.content["classes"]

    @property
    def names(self) -> list[str]:
        """Name each network by what tells it apart: its seed, its recipe if they differ, else its digest."""
        recipes = [model.content["recipe_name"] for model in self.models]
        names = [f"seed {model.content['seed']}" for model in self.models]
        if len(set(recipes)) > 1:
            names = [f"{recipe}, {name}" for recipe, name in zip(recipes, names, strict=True)]
        return [
            f"{name}, {model.digest[:8]}" if names.count(name) > 1 else name
            for name, model in zip(names, self.models, strict=True)
        ]

    @property
    def first_name(self) -> str:
        return "the network" if len(self.models) == 1 else f"the first network ({self.names[0]})"

    @property
    def subject(self) -> str:
        return "This run" if len(self.models) == 1 else f"Average of {len(self.models)} networks"

    def histories(self) -> list[list[dict[str, Any]]]:
        """Read the training history of every network: one object an epoch."""
        paths = [model.stage("history.jsonl") for model in self.models]
        return [
            [json.loads(line) for line in storage.read_bytes(str(path)).splitlines() if line.strip()] for path in paths
        ]


def training_speed(model: Manifest) -> tuple[float, float]:
    """Return the seconds spent in training and the images a second in them, as far as they were timed."""
    timings = model.info.get("timings", [])
    seconds = sum(entry["seconds"] for entry in timings)
    num_images = sum(entry["seconds"] * entry["images_per_second"] for entry in timings)
    return seconds, num_images / max(seconds, 1e-9)


def display_names(classes: list[ClassEntry]) -> list[str]:
    """Name each class by its first word; ILSVRC-2010 has two cranes, so a name that occurs twice gets its wnid."""
    short = [entry["words"].split(",")[0].strip() for entry in classes]
    return [
        f"{name} ({entry['wnid']})" if short.count(name) > 1 else name
        for name, entry in zip(short, classes, strict=True)
    ]


def measure(found: Predictions, num_classes: int) -> dict[str, float]:
    """Compute errors as fractions and counts, and negative log-likelihoods in nats, by ten crops and by the centre.

    Where the true class ties at the border, the original code shared credit among the equals: the errors by that rule
    are added as `..._2012_ties` when they differ.
    """
    result: dict[str, float] = {"num_examples": len(found.labels), "num_classes": num_classes}
    for suffix, ranking in (("", found.ten_crop), ("_center", found.center)):
        for num_best in (1, metrics.NUM_BEST):
            name = f"top{num_best}_error{suffix}"
            num_errors = metrics.num_errors(ranking, found.labels, num_best)
            result[f"num_top{num_best}_errors{suffix}"] = num_errors
            result[name] = num_errors / len(found.labels)
            shared = 1 - float(metrics.tie_credit(ranking, num_best).mean())
            if abs(shared - result[name]) > 1e-12:
                result[f"{name}_2012_ties"] = shared
        result[f"nll{suffix}"] = metrics.negative_log_likelihood(ranking)
    return result


def measure_singles(singles: list[dict[str, float]]) -> dict[str, float]:
    """Compute the mean errors of single networks, by ten crops, as fractions.

    Args:
        singles: the result of `measure` for each network on the same images.
    """
    num_answers = sum(numbers["num_examples"] for numbers in singles)
    means = {
        f"top{num_best}_error_mean_single": sum(n[f"num_top{num_best}_errors"] for n in singles) / num_answers
        for num_best in (1, metrics.NUM_BEST)
    }
    return {"num_networks": len(singles), **means}


def chance_errors(num_classes: int) -> tuple[float, float]:
    """Return the top-1 and top-5 errors of a blind guess, as fractions."""
    return 1 - 1 / num_classes, 1 - min(metrics.NUM_BEST, num_classes) / num_classes


def _model_differences(models: list[Manifest]) -> list[str]:
    recipes = sorted({model.content["recipe_name"] for model in models})
    if recipes != [PUBLISHED_RECIPE]:
        return [f"the recipe is {' and '.join(recipes)}, not {PUBLISHED_RECIPE}"]
    lengths = {
        (m.content["num_epochs"], m.content["recipe"].get("num_epochs", m.content["num_epochs"])) for m in models
    }
    return [f"training lasted {had} epochs, not {wanted}" for had, wanted in sorted(lengths) if had != wanted]


def differences(evaluation: Evaluation) -> list[str]:
    """List, in words, what sets these networks apart from the experiment of Table 1; empty means like for like."""
    data = evaluation.dataset.content
    found = []
    if data["release"] != "ILSVRC-2010":
        found.append(
            f"the release is “{data['release']}” with {len(data['classes'])} classes, not ILSVRC-2010 with 1,000"
        )
    elif data["subset"] != "all":
        found.append(f"only the subset {data['subset']} was used")
    if evaluation.split != "test":
        found.append(f"these are {evaluation.split} images, not the test set")
    elif data["release"] == "ILSVRC-2010" and evaluation.numbers["num_examples"] != PUBLISHED_TEST_IMAGES:
        found.append(
            f"{evaluation.numbers['num_examples']:,} test images were evaluated, not {PUBLISHED_TEST_IMAGES:,}"
        )
    return found + _model_differences(evaluation.models)


def verdict(evaluation: Evaluation) -> str:
    """Say in a sentence or two whether the numbers compare with the paper's."""
    reasons = differences(evaluation)
    several = len(evaluation.models) > 1
    if not reasons:
        gap = 100 * evaluation.mean_single["top1_error_mean_single"] - PUBLISHED[0][1]
        return (
            f"Like for like: {'each network has ' if several else ''}the same data, split, network and test as in "
            f"Table 1 of the paper. The ten-crop top-1 error {'of one network, in the mean, ' if several else ''}is "
            f"{gap:+.1f} points from the published {PUBLISHED[0][1]} %; sibling networks of 2012 differ from each "
            "other by 0.1 to 0.4 points."
        )
    listed = "; ".join(reasons)
    chance = chance_errors(len(evaluation.classes))[0]
    error, num_examples = evaluation.numbers["top1_error"], int(evaluation.numbers["num_examples"])
    low, high = metrics.binomial_interval(round(error * num_examples), num_examples)
    return (
        f"Not like for like with the paper: {listed}. Its numbers stand here for orientation. The yardstick for this "
        f"run is chance: {100 * chance:.1f} % top-1 error, against {100 * error:.1f} % by ten crops"
        f"{f' and {len(evaluation.models)} networks' if several else ''} ("
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
    )
