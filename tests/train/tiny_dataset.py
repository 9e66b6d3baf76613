"""A dataset of a few drawn images with its statistics, written by hand with the shared modules."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg

from components.shared import manifest, records, runlog, storage
from components.shared.errors import DataError
from components.shared.manifest import Manifest
from components.train.recipes.recipe import Recipe
from components.train.recipes.recipe import phase as _phase
from components.train.recipes.smoke import SMOKE

NUM_CLASSES = 3
LOG = runlog.RunLog("train")
MASKS = {"fc6_dropout": 8, "fc7_dropout": 8}
PUBLISHED = {
    "standard_deviations": [19.720833, 37.093889, 121.780061],
    "eigenvalues": [388.911256, 1375.956566, 14830.383255],
    "eigenvectors": [
        [0.417955, -0.816981, 0.397311],
        [-0.712579, -0.023542, 0.701196],
        [-0.56351, -0.576184, -0.592003],
    ],
}

# The topology of the paper with two filters a tower and layer: milliseconds a step.
TINY = replace(
    SMOKE,
    convs=tuple(replace(conv, filters=4) for conv in SMOKE.convs),
    denses=tuple(replace(dense, units=8) for dense in SMOKE.denses),
    batch_size=8,
    num_epochs=3,
    phases=(_phase(1, 0.001, 0.0002, 0.1), _phase(3, 0.0001, 0.0002, 0.0)),
)


def draw_image(label: int, index: int) -> np.ndarray:
    """Draw uint8 [256, 256, 3]: stripes whose direction is the label, with noise."""
    rng = np.random.default_rng([label, index])
    y, x = np.mgrid[:256, :256] / 256
    wave = np.sin(2 * np.pi * 8 * (x * np.cos(label) + y * np.sin(label)) + rng.uniform(0, 6))
    image = 120 + 60 * wave[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 15, (256, 256, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def example(label: int, index: int, **changes) -> bytes:
    """Encode one record."""
    image = changes.pop("image", draw_image(label, index))
    features = {
        "image/encoded": simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=95),
        "image/filename": f"n{label:08d}_{index}.JPEG".encode(),
        "image/class/synset": f"n{label:08d}".encode(),
        "image/class/label": label,
        "image/height": 256,
        "image/width": 256,
        **changes,
    }
    return records.encode_example(features)


def index_of(shard: list[bytes]) -> np.ndarray:
    """List where the JPEGs of a shard lie, given its records; those that are none get a row all the same."""
    rows, at = [], 0
    for record in shard:
        try:
            features = records.decode_example(record)
            place = records.locate(features["image/encoded"], record, at)
            rows.append((*place, features["image/class/label"]))
        except DataError:
            rows.append((at, len(record), 0, 0))
        at += len(record) + records.FRAME_BYTES
    return np.array(rows, records.INDEX_COLUMNS)


def write_index(base: Path, split: str, shards: list[list[bytes]]) -> manifest.FileEntry:
    """Write the index of a split."""
    with storage.create(str(base / records.index_name(split))) as file:
        np.save(file, np.concatenate([index_of(shard) for shard in shards]))
    return manifest.file_entry(base / records.index_name(split))


def write_dataset(folder: Path, splits: dict[str, list[list[bytes]]]) -> Manifest:
    """Write shards, given the records of each, and `folder/dataset.json`."""
    files, entries, base = {}, {}, folder / "shards"
    for split, shards in splits.items():
        listed = []
        for index, shard in enumerate(shards):
            name = records.shard_name(split, index, len(shards))
            with storage.create(str(base / name)) as file:
                records.write_records(file, shard)
            files[name] = manifest.file_entry(base / name)
            listed.append({"name": name, "num_examples": len(shard)})
        files[records.index_name(split)] = write_index(base, split, shards)
        number = sum(map(len, shards))
        entries[split] = {"shards": listed, "num_examples": number, "num_devkit": number, "used": number}
    num_train = entries["train"]["num_examples"]
    classes = [
        {
            "label": label,
            "ilsvrc_id": label + 1,
            "wnid": f"n{label:08d}",
            "words": f"stripes {label}",
            "num_train": num_train // NUM_CLASSES + (label < num_train % NUM_CLASSES),
            "num_validation": 0,
            "num_test": 0,
        }
        for label in range(NUM_CLASSES)
    ]
    dataset = Manifest("dataset", str(base), files, {"classes": classes, "splits": entries})
    manifest.save(dataset, str(folder / "dataset.json"))
    return dataset


def write_statistics(folder: Path, dataset: Manifest) -> Manifest:
    """Write `folder/statistics.json` with a grey mean and the published colour components."""
    base = folder / "statistics"
    mean = np.full((256, 256, 3), 120, np.float32)
    with storage.create(str(base / "mean_image.npy")) as file:
        np.save(file, mean)
    eigenvalues = [value**2 for value in PUBLISHED["standard_deviations"]]
    content = {"dataset_digest": dataset.digest, **PUBLISHED, "eigenvalues": eigenvalues}
    result = Manifest(
        "statistics", str(base), {"mean_image.npy": manifest.file_entry(base / "mean_image.npy")}, content
    )
    manifest.save(result, str(folder / "statistics.json"))
    return result


def write_inputs(folder: Path, num_train: int = 30, num_validation: int = 10) -> tuple[Manifest, Manifest]:
    """Write a dataset of two train shards and one of validation, and its statistics."""
    train = [example(index % NUM_CLASSES, index) for index in range(num_train)]
    validation = [example(index % NUM_CLASSES, 1000 + index) for index in range(num_validation)]
    cut = num_train // 3
    dataset = write_dataset(folder, {"train": [train[:cut], train[cut:]], "validation": [validation]})
    return dataset, write_statistics(folder, dataset)


def tiny(**changes) -> Recipe:
    """Change fields of the tiny recipe."""
    return replace(TINY, **changes)
