"""The training photographs whose features are nearest to those of a test photograph (right half of Figure 4).

Shapes: N images, H height, W width, C channels, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import tensorflow as tf

from components.evaluate import data
from components.evaluate.crops import CROP_SIZE, center_crop
from components.evaluate.predictions import Member
from components.shared import records
from components.shared.manifest import Manifest
from components.shared.records import Features
from components.shared.runlog import Progress, RunLog

NUM_QUERIES = 5  # as in the paper's figure
NUM_NEIGHBOURS = 6
# The paper searched 1.2 million images; these bounds keep the cost a small part of the ten crops of any test set.
MAX_IMAGES = 2_000
MAX_PER_CLASS = 20
MAX_SCANNED = 10 * MAX_IMAGES  # records read in search of rare classes
BATCH_SIZE = 32


@dataclass(frozen=True)
class Query:
    """A test photograph and the training photographs nearest to it."""

    record: Features
    nearest: list[Features]  # nearest first
    distances: list[float]  # Euclidean, in the same order


@dataclass(frozen=True)
class Neighbours:
    """What was found, and among how many."""

    num_images: int
    num_per_class: int  # at most
    num_features: int
    queries: list[Query]


def _train_records(dataset: Manifest) -> Iterator[Features]:
    for shard in dataset.content["splits"]["train"]["shards"]:
        yield from map(records.decode_example, records.read_records(dataset.stage(shard["name"])))


def draw_training_images(dataset: Manifest) -> tuple[list[Features], int]:
    """Draw training images evenly by class: the first of every class in the order of the shards, which is random.

    Returns:
        At most `MAX_IMAGES` records, and how many a class at most, 1 to `MAX_PER_CLASS`.
    """
    classes = dataset.content["classes"][:MAX_IMAGES]
    num_per_class = max(1, min(MAX_PER_CLASS, MAX_IMAGES // len(classes)))
    wanted = {entry["label"]: min(num_per_class, entry["num_train"]) for entry in classes}
    num_wanted, drawn = sum(wanted.values()), []
    for record in islice(_train_records(dataset), MAX_SCANNED):
        label = record["image/class/label"]
        if wanted.get(label):
            wanted[label] -= 1
            drawn.append(record)
        if len(drawn) == num_wanted:
            break
    return drawn, num_per_class


def draw_queries(labels_N: np.ndarray) -> list[int]:
    """Draw images blindly, at most one of a class, and return their positions."""
    order = np.random.default_rng(0).permutation(len(labels_N))
    _, first = np.unique(labels_N[order], return_index=True)
    return order[np.sort(first)[:NUM_QUERIES]].tolist()


def compute_features(member: Member, images: list[Features], log: RunLog) -> np.ndarray:
    """Compute the last hidden layer of the centre crop, after its nonlinearity and before dropout's factor.

    Args:
        member: the network.
        images: records of the dataset.
        log: where progress goes.

    Returns:
        float32 [N, D].
    """
    mean_HWC = center_crop(member.mean_image_HWC)
    shape = [BATCH_SIZE, CROP_SIZE, CROP_SIZE, 3]

    @tf.function(autograph=False, jit_compile=False, input_signature=[tf.TensorSpec(shape, tf.uint8)])
    def forward(crops_NHWC: tf.Tensor) -> tf.Tensor:
        _, features_ND = member.network(tf.cast(crops_NHWC, tf.float32) - mean_HWC)
        return features_ND

    progress, parts = Progress(log, len(images), "features"), []
    for first in range(0, len(images), BATCH_SIZE):
        batch = images[first : first + BATCH_SIZE]
        crops_NHWC = np.zeros(shape, np.uint8)
        for crop_HWC, record in zip(crops_NHWC, batch, strict=False):
            crop_HWC[:] = center_crop(data.decode(record["image/encoded"]))
        parts.append(forward(tf.constant(crops_NHWC)).numpy()[: len(batch)])
        progress.update(first + len(batch))
    return np.concatenate(parts)


def nearest(query_D: np.ndarray, features_ND: np.ndarray, num_best: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows of smallest Euclidean distance, exactly; of equally distant ones the first comes first.

    Args:
        query_D: float [D].
        features_ND: float [N, D].
        num_best: rows to find.

    Returns:
        Row numbers, nearest first, and their distances, float64.
    """
    distances_N = np.linalg.norm(features_ND.astype(np.float64) - query_D, axis=1)
    best = np.argsort(distances_N, kind="stable")[:num_best]
    return best, distances_N[best]


def find(member: Member, dataset: Manifest, split: str, labels_N: np.ndarray, log: RunLog) -> Neighbours:
    """Find the training photographs nearest to a few of a split, as one network sees them (paper, section 6.1).

    Args:
        member: the network.
        dataset: the dataset manifest.
        split: "validation" or "test".
        labels_N: the true labels of the split, in the order of its shards.
        log: where progress goes.

    Raises:
        DataError: a shard is not what the manifest says.
    """
    drawn, num_per_class = draw_training_images(dataset)
    if not drawn:
        return Neighbours(0, num_per_class, 0, [])
    positions = draw_queries(labels_N)
    found = data.read_examples(dataset, split, positions)
    asked = [found[i] for i in positions]
    features_ND = compute_features(member, [*asked, *drawn], log)
    queries = []
    for record, query_D in zip(asked, features_ND, strict=False):
        best, distances = nearest(query_D, features_ND[len(asked) :], NUM_NEIGHBOURS)
        queries.append(Query(record, [drawn[i] for i in best], distances.tolist()))
    return Neighbours(len(drawn), num_per_class, features_ND.shape[1], queries)
