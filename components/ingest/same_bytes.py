"""Images with the same bytes: in one split, in two (training images are tested on), in two classes (a label is wrong).

They are counted and listed, and stay where they are: the release is what the errors of 2012 were measured on.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from components.ingest.accounting import REPAIRED, USED, Row, Rows

MAX_CONTENTS = 100  # listed
MAX_IMAGES = 10  # listed of one content


class SameBytes(NamedTuple):
    """What was found among the images that are in the dataset."""

    counts: list[tuple[str, int, int]]  # where, number of contents found more than once there, number of their images
    listed: list[list[Row]]  # the first images of the first contents that are in two splits or classes


def _contents(rows: list[Rows]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return content, split, position and class of each image in the dataset, ordered by content (0, 1, ...)."""
    kept = [np.flatnonzero(np.isin(of_split.status, (USED, REPAIRED))) for of_split in rows]
    digests = np.concatenate([r.sha256[k] for r, k in zip(rows, kept, strict=True)]).view("S32")[:, 0]
    split = np.repeat(np.arange(len(rows)), [len(k) for k in kept])
    ilsvrc_id = np.concatenate([r.images["ilsvrc_id"][k] for r, k in zip(rows, kept, strict=True)])
    order = np.argsort(digests, kind="stable")
    digests = digests[order]
    content = np.cumsum(np.r_[False, digests[1:] != digests[:-1]]) if len(order) else order
    return content, split[order], np.concatenate(kept)[order], ilsvrc_id[order]


def find(rows: list[Rows]) -> SameBytes:
    """Find images whose source files have the same bytes.

    Args:
        rows: of each split.
    """
    content, split, position, ilsvrc_id = _contents(rows)
    num_contents = int(content[-1]) + 1 if len(content) else 0
    of_split = np.array([np.bincount(content[split == s], minlength=num_contents) for s in range(len(rows))])
    first = np.searchsorted(content, np.arange(num_contents))
    of_classes = np.zeros(num_contents, bool)
    if num_contents:
        of_classes = np.minimum.reduceat(ilsvrc_id, first) != np.maximum.reduceat(ilsvrc_id, first)

    def count(where: str, chosen: np.ndarray, num_images: np.ndarray) -> tuple[str, int, int]:
        return where, int(np.count_nonzero(chosen)), int(num_images[chosen].sum())

    names = [one.split for one in rows]
    counts = [count(name, of_split[s] > 1, of_split[s]) for s, name in enumerate(names)]
    for a, b in combinations(range(len(rows)), 2):
        both = (of_split[a] > 0) & (of_split[b] > 0)
        counts.append(count(f"{names[a]} and {names[b]}", both, of_split[a] + of_split[b]))
    counts.append(count("more than one class", of_classes, of_split.sum(axis=0)))
    wrong = np.flatnonzero(of_classes | (np.count_nonzero(of_split, axis=0) > 1))
    listed = []
    for k in wrong[:MAX_CONTENTS].tolist():
        images = range(first[k], first[k] + int(of_split[:, k].sum()))
        listed.append([next(rows[split[i]].select(position[i : i + 1])) for i in images[:MAX_IMAGES]])
    return SameBytes(counts, listed)
