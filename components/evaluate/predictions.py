"""What networks say about every image of a split, one by one and together: computed once, kept without pickle.

Shapes: M networks, N images, K views, H height, W width, C channels or classes.
"""

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from components.evaluate import metrics
from components.evaluate.crops import CENTER_VIEW, center_crop, ten_crop
from components.evaluate.data import read_batches
from components.evaluate.network import Network
from components.shared.errors import DataError
from components.shared.manifest import Manifest
from components.shared.runlog import Progress, RunLog

FILE_NAME = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """The images of a split in the order of its shards, ranked by ten crops and by the centre crop alone.

    Of one network, or of the mean of several networks' probabilities.
    """

    labels: np.ndarray  # int32 [N]
    filenames: np.ndarray  # unicode [N]
    ten_crop: metrics.Ranking
    center: metrics.Ranking


@dataclass(frozen=True)
class Member:
    """One of the networks whose probabilities are averaged."""

    name: str  # for messages
    network: Network
    mean_image_HWC: np.ndarray  # float32 [256, 256, 3], 0..255


def view_probabilities(member: Member, images_NHWC: tf.Tensor) -> tf.Tensor:
    """Compute the class probabilities of the ten views of every image.

    Args:
        member: the network; the centre of its mean image is subtracted from every view, wherever that was cut.
        images_NHWC: uint8 [N, 256, 256, 3] RGB.

    Returns:
        float64 [N, 10, C]. Double precision keeps unlikely classes apart that would all be 0 in float32.
    """
    mean_HWC = center_crop(member.mean_image_HWC)
    probabilities = []
    # One pass a view, not one of ten times the images: activations then stay in a CPU's caches, 1.5 times faster.
    for view_NHWC in tf.unstack(ten_crop(images_NHWC), axis=1):
        logits_NC, _ = member.network(tf.cast(view_NHWC, tf.float32) - mean_HWC)
        probabilities.append(tf.nn.softmax(tf.cast(logits_NC, tf.float64)))
    return tf.stack(probabilities, axis=1)


def _concatenate(rankings: Sequence[metrics.Ranking]) -> metrics.Ranking:
    names = [field.name for field in dataclasses.fields(metrics.Ranking)]
    return metrics.Ranking(**{name: np.concatenate([getattr(r, name) for r in rankings]) for name in names})


def _compile(member: Member, batch_size: int) -> Callable[..., tf.Tensor]:
    # Compiling by XLA makes a CPU slower here. One shape: the last batch is filled up and cut again.
    @tf.function(
        autograph=False, jit_compile=False, input_signature=[tf.TensorSpec([batch_size, 256, 256, 3], tf.uint8)]
    )
    def forward(images_NHWC: tf.Tensor) -> tf.Tensor:
        return view_probabilities(member, images_NHWC)

    return forward


def _rank_all(views_MNKC: Sequence[np.ndarray], labels_N: np.ndarray) -> list[tuple[metrics.Ranking, metrics.Ranking]]:
    """Rank by ten crops and by the centre: the mean of all networks and then, if there are several, each of them."""
    pairs_MNC = [(views_NKC.mean(axis=1), views_NKC[:, CENTER_VIEW]) for views_NKC in views_MNKC]
    if len(pairs_MNC) > 1:
        ten_crops, centers = zip(*pairs_MNC, strict=True)
        pairs_MNC.insert(0, (np.mean(ten_crops, axis=0), np.mean(centers, axis=0)))
    return [
        (metrics.rank(ten_crop_NC, labels_N), metrics.rank(center_NC, labels_N)) for ten_crop_NC, center_NC in pairs_MNC
    ]


def predict(
    members: Sequence[Member], dataset: Manifest, split: str, batch_size: int, log: RunLog
) -> tuple[Predictions, list[Predictions]]:
    """Rank the classes of every image of a split, each image counted once.

    The probabilities (softmax outputs) of ten views and of all networks are averaged with equal weights, in double
    precision: over the views of each network, then over the networks (paper, sections 4.1 and 6; `avg-test.py` of
    the original code). Every batch is read and decoded once and goes through one network after another.

    Args:
        members: the networks; the last bits of a mean hang on their order.
        dataset: the dataset manifest.
        split: "validation" or "test".
        batch_size: images a forward pass, each of ten views.
        log: where progress goes.

    Returns:
        What the networks say together, and what each of them says.

    Raises:
        DataError: the data cannot be read, or a network returns NaN or infinity.
    """
    forwards = [_compile(member, batch_size) for member in members]
    progress = Progress(log, dataset.content["splits"][split]["num_examples"] * len(members), "images")
    labels: list[np.ndarray] = []
    names: list[str] = []
    rankings: list[list[tuple[metrics.Ranking, metrics.Ranking]]] = []
    for images_NHWC, batch_labels, batch_names in read_batches(dataset, split, batch_size):
        num_images, num_before = len(batch_labels), len(names)
        filled_NHWC = np.pad(images_NHWC, ((0, batch_size - num_images), (0, 0), (0, 0), (0, 0)))
        views_MNKC = []
        for member, forward in zip(members, forwards, strict=True):
            views_NKC = forward(filled_NHWC).numpy()[:num_images]
            if not np.isfinite(views_NKC).all():
                raise DataError(
                    f"{member.name}, {split} images {num_before} to {num_before + num_images}: the network gives NaN "
                    "or infinity. The training diverged; train again, with a smaller learning rate if the recipe was "
                    "changed"
                )
            views_MNKC.append(views_NKC)
            progress.update(num_before * len(members) + num_images * len(views_MNKC), networks=len(members))
        labels.append(batch_labels.astype(np.int32))
        names.extend(name.decode() for name in batch_names)
        rankings.append(_rank_all(views_MNKC, batch_labels))
    together, *each = (
        Predictions(np.concatenate(labels), np.array(names), *map(_concatenate, zip(*pairs, strict=True)))
        for pairs in zip(*rankings, strict=True)
    )
    return together, each or [together]


def file_names(model_digests: Sequence[str]) -> list[str]:
    """Name the files of an evaluation: of what the networks say together and, if there are several, of each of them."""
    singles = model_digests if len(model_digests) > 1 else []
    return [FILE_NAME, *(f"predictions-{digest[:16]}.npz" for digest in singles)]


def encode(predictions: Predictions) -> bytes:
    """Write predictions as an npz file; equal predictions give equal bytes.

    The arrays are `labels`, `filenames` and, for `ten_crop` and `center`, the fields of `metrics.Ranking`, as in
    `ten_crop_probabilities`. `np.load` reads them without pickle.
    """
    arrays = {"labels": predictions.labels, "filenames": predictions.filenames}
    for view in ("ten_crop", "center"):
        ranking = dataclasses.asdict(getattr(predictions, view))
        arrays |= {f"{view}_{name}": array for name, array in ranking.items()}
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()


def decode(path: Path) -> Predictions:
    """Read what `encode` wrote."""
    names = [field.name for field in dataclasses.fields(metrics.Ranking)]
    with np.load(path, allow_pickle=False) as arrays:
        ten_crop_ranking, center_ranking = (
            metrics.Ranking(**{name: arrays[f"{view}_{name}"] for name in names}) for view in ("ten_crop", "center")
        )
        return Predictions(arrays["labels"], arrays["filenames"], ten_crop_ranking, center_ranking)
