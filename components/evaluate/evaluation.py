"""One finished evaluation in numbers, and whether they may be set beside the paper's."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluate import metrics
from components.evaluate.predictions import Predictions
from components.shared import storage
from components.shared.manifest import ClassEntry, Manifest

# Errors in percent on the ILSVRC-2010 test set, top-1 and top-5 (paper, Table 1 and its text).
PUBLISHED = (
    ("AlexNet, ten crops", 37.5, 17.0),
    ("AlexNet, centre crop", 39.0, 18.3),
    ("SIFT + Fisher vectors", 45.7, 25.7),
    ("Sparse coding", 47.1, 28.2),
)
PUBLISHED_RECIPE = "alexnet-2012"
PUBLISHED_TEST_IMAGES = 150_000


@dataclass(frozen=True)
class Evaluation:
    """Everything that the report draws on."""

    dataset: Manifest
    statistics: Manifest
    model: Manifest
    made: Manifest  # of the predictions
    predictions: Predictions
    weights: dict[str, np.ndarray]
    confusion_CC: np.ndarray  # int64, true by first-ranked, ten crops

    @property
    def numbers(self) -> dict[str, float]:
        return self.made.content["metrics"]

    @property
    def split(self) -> str:
        return self.made.content["split"]

    @property
    def classes(self) -> list[ClassEntry]:
        return self.dataset.content["classes"]

    def history(self) -> list[dict[str, Any]]:
        """Read the training history: one object an epoch."""
        path = self.model.stage("history.jsonl")
        return [json.loads(line) for line in storage.read_bytes(str(path)).splitlines() if line.strip()]

    def training_speed(self) -> tuple[float, float]:
        """Return the seconds spent in training and the images a second in them, as far as they were timed."""
        timings = self.model.info.get("timings", [])
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


def chance_errors(num_classes: int) -> tuple[float, float]:
    """Return the top-1 and top-5 errors of a blind guess, as fractions."""
    return 1 - 1 / num_classes, 1 - min(metrics.NUM_BEST, num_classes) / num_classes


def differences(evaluation: Evaluation) -> list[str]:
    """List, in words, what sets this run apart from the experiment of Table 1; an empty list means like for like."""
    data, model = evaluation.dataset.content, evaluation.model.content
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
    if model["recipe_name"] != PUBLISHED_RECIPE:
        found.append(f"the recipe is {model['recipe_name']}, not {PUBLISHED_RECIPE}")
    elif model["num_epochs"] != model["recipe"].get("num_epochs", model["num_epochs"]):
        found.append(f"training lasted {model['num_epochs']} epochs, not {model['recipe']['num_epochs']}")
    return found


def verdict(evaluation: Evaluation) -> str:
    """Say in a sentence or two whether the numbers compare with the paper's."""
    reasons = differences(evaluation)
    if not reasons:
        gap = 100 * evaluation.numbers["top1_error"] - PUBLISHED[0][1]
        return (
            "Like for like: the same data, split, network and test as in Table 1 of the paper. "
            f"The ten-crop top-1 error is {gap:+.1f} points from the published {PUBLISHED[0][1]} %; "
            "sibling networks of 2012 differ from each other by 0.1 to 0.4 points."
        )
    listed = "; ".join(reasons)
    chance = chance_errors(len(evaluation.classes))[0]
    error, num_examples = evaluation.numbers["top1_error"], int(evaluation.numbers["num_examples"])
    low, high = metrics.binomial_interval(round(error * num_examples), num_examples)
    return (
        f"Not like for like with the paper: {listed}. Its numbers stand here for orientation. The yardstick for this "
        f"run is chance: {100 * chance:.1f} % top-1 error, against {100 * error:.1f} % by ten crops ("
        f"95 % interval {100 * low:.1f} to {100 * high:.1f} %)."
    )
