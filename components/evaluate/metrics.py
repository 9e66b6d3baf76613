"""Errors as exact counts, ties by rank, and who is taken for whom.

Shapes: N images, C classes, B best labels (five, or all of fewer classes).
"""

import math
from dataclasses import dataclass

import numpy as np

NUM_BEST = 5


@dataclass(frozen=True)
class Ranking:
    """Predictions of a network for N images, by one way of viewing them."""

    labels: np.ndarray  # int32 [N, B], best first
    probabilities: np.ndarray  # float32 [N, B]
    true_probability: np.ndarray  # float64 [N], of the true label
    num_larger: np.ndarray  # int32 [N], labels more probable than the true one
    num_equal: np.ndarray  # int32 [N], labels as probable as the true one, itself included


def rank(probabilities_NC: np.ndarray, labels_N: np.ndarray) -> Ranking:
    """Rank the classes of every image; of equally probable ones the lower label comes first.

    So each image has exactly one class in each place, and a constant predictor errs in (C-1)/C of a balanced set,
    where counting ties as hits would score it perfect.

    Args:
        probabilities_NC: float64 [N, C], 0..1.
        labels_N: the true labels, 0..C-1.
    """
    best_NB = np.argsort(-probabilities_NC, axis=1, kind="stable")[:, :NUM_BEST]
    true_N1 = np.take_along_axis(probabilities_NC, labels_N[:, None].astype(np.int64), axis=1)
    return Ranking(
        labels=best_NB.astype(np.int32),
        probabilities=np.take_along_axis(probabilities_NC, best_NB, axis=1).astype(np.float32),
        true_probability=true_N1[:, 0],
        num_larger=(probabilities_NC > true_N1).sum(axis=1, dtype=np.int32),
        num_equal=(probabilities_NC == true_N1).sum(axis=1, dtype=np.int32),
    )


def num_errors(ranking: Ranking, labels_N: np.ndarray, num_best: int) -> int:
    """Count the images whose true label is not among the first `num_best`."""
    return int((ranking.labels[:, :num_best] != labels_N[:, None]).all(axis=1).sum())


def tie_credit(ranking: Ranking, num_best: int) -> np.ndarray:
    """Compute the credit that the 2012 code gave each image, which shares the last places among equals (T31).

    Returns:
        float64 [N], 0..1: 1 where the label and its equals all find a place, else places left over number of equals.
    """
    places = np.maximum(num_best - ranking.num_larger, 0)
    return np.where(ranking.num_equal <= places, 1.0, places / ranking.num_equal)


def negative_log_likelihood(ranking: Ranking) -> float:
    """Compute the mean of -log of the true label's probability, in nats; the smallest double stands in for zero."""
    return float(-np.log(np.maximum(ranking.true_probability, np.finfo(np.float64).tiny)).mean())


def binomial_interval(num_hits: int, num_trials: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share."""
    z = 1.959964
    share = num_hits / num_trials
    middle = share + z * z / (2 * num_trials)
    half = z * math.sqrt(share * (1 - share) / num_trials + (z / (2 * num_trials)) ** 2)
    scale = 1 + z * z / num_trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def confusion_matrix(ranking: Ranking, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Count true (row) against first-ranked (column) labels: int64 [C, C]."""
    pairs = labels_N.astype(np.int64) * num_classes + ranking.labels[:, 0]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def most_confused(confusion_CC: np.ndarray, num_pairs: int) -> list[tuple[int, int, int]]:
    """List the commonest mistakes as (true label, label given, count), most frequent first."""
    mistakes = confusion_CC.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:num_pairs]
    pairs = [(int(i) // len(mistakes), int(i) % len(mistakes)) for i in order]
    return [(t, g, int(mistakes[t, g])) for t, g in pairs if mistakes[t, g]]


def group_confusion(
    confusion_CC: np.ndarray, names: list[str], max_groups: int = 40
) -> tuple[list[str], list[list[int]]]:
    """Fold a confusion matrix to what a web page can draw.

    Args:
        confusion_CC: int64 [C, C].
        names: the names of the C classes.
        max_groups: with more classes, the `max_groups - 1` with most mistakes stay and the rest become "other".

    Returns:
        Names and rows of counts; the counts still sum to the number of images.
    """
    if len(names) <= max_groups:
        return names, confusion_CC.tolist()
    mistakes = confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1) - 2 * confusion_CC.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[: max_groups - 1])
    group = np.full(len(names), max_groups - 1)
    group[kept] = np.arange(max_groups - 1)
    folded = np.zeros((max_groups, max_groups), np.int64)
    np.add.at(folded, (group[:, None], group[None, :]), confusion_CC)
    return [*(names[i] for i in kept), "other"], folded.tolist()
