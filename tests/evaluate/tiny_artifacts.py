"""Real artifacts, small enough to evaluate in seconds: shards of drawn JPEGs, statistics, and a random network."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save
from tiny_networks import NETWORK, NUM_CLASSES, ONE_TOWER, random_weights

from components.evaluate.contract import Evaluate
from components.shared import manifest, records, storage
from components.shared.manifest import Manifest

NUM_IMAGES = 23  # no multiple of a batch
SHARDS = (9, 8, 6)
NUM_TRAIN = 3  # a class
COLORS = np.array([[200, 40, 40], [40, 180, 40], [40, 40, 200], [190, 190, 30], [20, 20, 20], [230, 230, 230]])


def photograph(rng: np.random.Generator, label: int) -> bytes:
    """Draw a 256x256 JPEG in the colour of its class."""
    coarse = rng.integers(-40, 40, (8, 8, 3)) + COLORS[label]
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=95)
        return file.getvalue()


def _publish(base: Path, contents: dict[str, bytes]) -> dict[str, manifest.FileEntry]:
    for name, content in contents.items():
        storage.publish_bytes(content, str(base / name))
    return {name: manifest.file_entry(base / name) for name in contents}


def _write_split(
    split: str, labels: list[int], sizes: tuple[int, ...], rng: np.random.Generator
) -> tuple[dict[str, bytes], list[dict]]:
    """Write the photographs of a split in shards of the given sizes."""
    contents, shards, first = {}, [], 0
    for index, size in enumerate(sizes):
        examples = [
            {
                "image/encoded": photograph(rng, labels[i]),
                "image/filename": f"ILSVRC2010_{split}_{i + 1:08d}.JPEG".encode(),
                "image/class/synset": f"n{labels[i]:08d}".encode(),
                "image/class/label": labels[i],
                "image/height": 256,
                "image/width": 256,
            }
            for i in range(first, first + size)
        ]
        name = records.shard_name(split, index, len(sizes))
        with io.BytesIO() as file:
            records.write_records(file, map(records.encode_example, examples))
            contents[name] = file.getvalue()
        shards.append({"name": name, "num_examples": size})
        first += size
    return contents, shards


def make_dataset(folder: Path) -> Manifest:
    """Write three test shards of 9, 8 and 6 photographs and two of training, three a class; no validation."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, NUM_CLASSES, NUM_IMAGES).tolist()
    contents, shards = _write_split("test", labels, SHARDS, rng)
    train_labels = rng.permutation(np.arange(NUM_CLASSES).repeat(NUM_TRAIN)).tolist()
    train_contents, train_shards = _write_split("train", train_labels, (10, 8), rng)
    contents |= train_contents
    none = dict.fromkeys(("num_examples", "num_devkit", "used", "repaired", "quarantined", "excluded"), 0)
    test = {**none, "num_examples": NUM_IMAGES, "num_devkit": NUM_IMAGES + 1, "used": NUM_IMAGES, "quarantined": 1}
    train = {**none} | dict.fromkeys(("num_examples", "num_devkit", "used"), len(train_labels))
    words = ("crane, machine", "kite", "crane, bird", "rose & thorn <red>", "coal", "snow")
    result = Manifest(
        kind="dataset",
        base_uri=str(folder / "shards"),
        files=_publish(folder / "shards", contents),
        content={
            "classes": [
                {
                    "label": i,
                    "ilsvrc_id": i + 1,
                    "wnid": f"n{i:08d}",
                    "words": words[i],
                    "num_train": NUM_TRAIN,
                    "num_validation": 0,
                    "num_test": labels.count(i),
                }
                for i in range(NUM_CLASSES)
            ],
            "splits": {
                "train": {"shards": train_shards, **train},
                "validation": {"shards": [], **none},
                "test": {"shards": shards, **test},
            },
            "image_size": 256,
            "jpeg_quality": 95,
            "resize": "bicubic",
            "subset": "all",
            "seed": 0,
            "release": "mini",
        },
    )
    manifest.save(result, str(folder / "dataset.json"))
    return result


def make_statistics(folder: Path, dataset: Manifest) -> Manifest:
    """Write a smooth mean image and round numbers for its components."""
    mean_image = np.linspace(90, 140, 256 * 256 * 3, dtype=np.float32).reshape(256, 256, 3)
    with io.BytesIO() as file:
        np.save(file, mean_image)
        content = file.getvalue()
    result = Manifest(
        kind="statistics",
        base_uri=str(folder / "statistics"),
        files=_publish(folder / "statistics", {"mean_image.npy": content}),
        content={
            "dataset_digest": dataset.digest,
            "num_images": NUM_TRAIN * NUM_CLASSES,
            "num_pixels": NUM_TRAIN * NUM_CLASSES * 65536,
            "mean_rgb": [120.0, 115.0, 110.0],
            "rgb_covariance": np.diag([100.0, 400.0, 900.0]).tolist(),
            "eigenvalues": [100.0, 400.0, 900.0],
            "standard_deviations": [10.0, 20.0, 30.0],
            "eigenvectors": np.eye(3).tolist(),
        },
    )
    manifest.save(result, str(folder / "statistics.json"))
    return result


def make_model(
    folder: Path,
    dataset: Manifest,
    statistics: Manifest,
    network: list[dict] = NETWORK,
    seed: int = 0,
    recipe_name: str = "smoke",
) -> Manifest:
    """Write random weights and an invented history of five epochs."""
    mean_image = np.load(statistics.stage("mean_image.npy"))
    weights = {**random_weights(network, seed), "mean_image": mean_image}
    history = [
        {
            "epoch": e,
            "step": 4 * e,
            "learning_rate": 0.01 if e < 4 else 0.001,
            "train_loss": (1.8 + 0.1 * seed) / e,
            "train_top1_error": 0.8 / e,
            "validation_loss": 1.9 / e,
            "validation_top1_error": (0.7 + 0.05 * seed) / e,
            "validation_top5_error": 0.1 / e,
        }
        for e in range(1, 6)
    ]
    lines = "".join(json.dumps(entry) + "\n" for entry in history).encode()
    base = folder / "model" / hashlib.sha256(save(weights)).hexdigest()[:8]
    result = Manifest(
        kind="model",
        base_uri=str(base),
        files=_publish(base, {"weights.safetensors": save(weights), "history.jsonl": lines}),
        content={
            "recipe_name": recipe_name,
            "recipe": {
                "name": recipe_name,
                "num_epochs": 5,
                "momentum": 0.9,
                "phases": [{"first_epoch": 1, "rate": 0.01}],
            },
            "network": network,
            "num_parameters": sum(int(np.prod(w.shape)) for n, w in weights.items() if n != "mean_image"),
            "classes": dataset.content["classes"],
            "dataset_digest": dataset.digest,
            "statistics_digest": statistics.digest,
            "seed": seed,
            "num_epochs": 5,
            "num_steps": 20,
        },
        info={"timings": [{"seconds": 2.0, "images_per_second": 60.0}] * 5, "gpus": 0, "keras": "3.15"},
    )
    manifest.save(result, str(base) + ".json")
    return result


def make_all(folder: Path) -> dict[str, str]:
    """Write dataset, statistics and model.

    Returns:
        The paths of their manifests, by contract field.
    """
    dataset = make_dataset(folder)
    statistics = make_statistics(folder, dataset)
    model = make_model(folder, dataset, statistics)
    return {
        "dataset": str(folder / "dataset.json"),
        "statistics": str(folder / "statistics.json"),
        "model": model.base_uri + ".json",
    }


def make_networks(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write all that `make_all` writes, and two more networks, one of them of another recipe and geometry.

    Returns:
        What `make_all` returns, and the paths of the three models, sorted by recipe and seed.
    """
    artifacts = make_all(folder)
    dataset, statistics = (manifest.load(artifacts[name], name) for name in ("dataset", "statistics"))
    second = make_model(folder, dataset, statistics, seed=1)
    other = make_model(folder, dataset, statistics, network=ONE_TOWER, seed=0, recipe_name="smoke+one-tower")
    return artifacts, (artifacts["model"], second.base_uri + ".json", other.base_uri + ".json")


OUTPUTS = {
    "predictions": "predictions.json",
    "metrics": "metrics.json",
    "confusion": "confusion.json",
    "report": "report.html",
    "summary": "summary.md",
}


def configure(artifacts: dict[str, str], folder: Path, **changes) -> Evaluate:
    """Fill in a contract whose root and outputs are in `folder`."""
    outputs = {name: str(folder / file) for name, file in OUTPUTS.items()}
    inputs = {name: path for name, path in artifacts.items() if name != "model"} | {"models": (artifacts["model"],)}
    return Evaluate(**{**inputs, **outputs, "root_uri": str(folder / "root"), "batch_size": 4, **changes})
