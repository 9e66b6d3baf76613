"""Real artifacts, small enough to evaluate in seconds: shards of drawn JPEGs, statistics, and a random network."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from components.evaluate.contract import Evaluate
from components.shared import manifest, records, storage
from components.shared.manifest import Manifest

NUM_CLASSES = 6
NUM_IMAGES = 23  # no multiple of a batch
SHARDS = (9, 8, 6)
COLORS = np.array([[200, 40, 40], [40, 180, 40], [40, 40, 200], [190, 190, 30], [20, 20, 20], [230, 230, 230]])

NETWORK = [
    {"name": "input", "op": "input", "inputs": [], "shape": [224, 224, 3]},
    *(
        layer
        for t in "ab"
        for layer in (
            {
                "name": f"conv1{t}",
                "op": "conv",
                "inputs": ["input"],
                "shape": [28, 28, 4],
                "kernel": [11, 11, 3, 4],
                "stride": 8,
                "padding": [[0, 3], [0, 3]],
            },
            {
                "name": f"lrn1{t}",
                "op": "lrn",
                "inputs": [f"conv1{t}"],
                "shape": [28, 28, 4],
                "size": 5,
                "k": 2.0,
                "alpha": 2e-5,
                "beta": 0.75,
            },
            {
                "name": f"pool1{t}",
                "op": "max_pool",
                "inputs": [f"lrn1{t}"],
                "shape": [13, 13, 4],
                "size": 3,
                "stride": 2,
            },
            {"name": f"relu1{t}", "op": "relu", "inputs": [f"pool1{t}"], "shape": [13, 13, 4]},
        )
    ),
    {"name": "concat1", "op": "concat", "inputs": ["relu1a", "relu1b"], "shape": [13, 13, 8]},
    {
        "name": "spatial1",
        "op": "spatial_norm",
        "inputs": ["concat1"],
        "shape": [13, 13, 8],
        "size": 5,
        "k": 1.0,
        "alpha": 4e-5,
        "beta": 0.75,
    },
    {"name": "flatten", "op": "flatten", "inputs": ["spatial1"], "shape": [1352]},
    {"name": "fc7", "op": "dense", "inputs": ["flatten"], "shape": [16], "kernel": [1352, 16]},
    {"name": "fc7_relu", "op": "relu", "inputs": ["fc7"], "shape": [16]},
    {"name": "fc7_dropout", "op": "dropout", "inputs": ["fc7_relu"], "shape": [16], "keep": 0.5},
    {"name": "fc8", "op": "dense", "inputs": ["fc7_dropout"], "shape": [NUM_CLASSES], "kernel": [16, NUM_CLASSES]},
]


def random_weights(network: list[dict], seed: int = 0) -> dict[str, np.ndarray]:
    """Draw weights that keep signals at their size."""
    rng = np.random.default_rng(seed)
    weights = {}
    for layer in network:
        if "kernel" in layer:
            shape = layer["kernel"]
            scale = (2 / np.prod(shape[:-1])) ** 0.5
            weights[f"{layer['name']}/kernel"] = rng.normal(0, scale, shape).astype(np.float32)
            weights[f"{layer['name']}/bias"] = rng.normal(0, 0.1, shape[-1:]).astype(np.float32)
    return weights


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


def make_dataset(folder: Path) -> Manifest:
    """Write three test shards of 9, 8 and 6 photographs; training and validation are only counted."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, NUM_CLASSES, NUM_IMAGES).tolist()
    contents, shards, first = {}, [], 0
    for index, size in enumerate(SHARDS):
        name = records.shard_name("test", index, len(SHARDS))
        with io.BytesIO() as file:
            records.write_records(
                file,
                [
                    records.encode_example(
                        {
                            "image/encoded": photograph(rng, labels[i]),
                            "image/filename": f"ILSVRC2010_test_{i + 1:08d}.JPEG".encode(),
                            "image/class/synset": f"n{labels[i]:08d}".encode(),
                            "image/class/label": labels[i],
                            "image/height": 256,
                            "image/width": 256,
                        }
                    )
                    for i in range(first, first + size)
                ],
            )
            contents[name] = file.getvalue()
        shards.append({"name": name, "num_examples": size})
        first += size
    none = dict.fromkeys(("num_examples", "num_devkit", "used", "repaired", "quarantined", "excluded"), 0)
    test = {**none, "num_examples": NUM_IMAGES, "num_devkit": NUM_IMAGES + 1, "used": NUM_IMAGES, "quarantined": 1}
    train = {**none, "num_examples": 120, "num_devkit": 120, "used": 120}
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
                    "num_train": 20,
                    "num_validation": 0,
                    "num_test": labels.count(i),
                }
                for i in range(NUM_CLASSES)
            ],
            "splits": {
                "train": {"shards": [], **train},
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
            "num_images": 120,
            "num_pixels": 120 * 65536,
            "mean_rgb": [120.0, 115.0, 110.0],
            "rgb_covariance": np.diag([100.0, 400.0, 900.0]).tolist(),
            "eigenvalues": [100.0, 400.0, 900.0],
            "standard_deviations": [10.0, 20.0, 30.0],
            "eigenvectors": np.eye(3).tolist(),
        },
    )
    manifest.save(result, str(folder / "statistics.json"))
    return result


def make_model(folder: Path, dataset: Manifest, statistics: Manifest, weights: dict[str, np.ndarray]) -> Manifest:
    """Write weights and an invented history of five epochs."""
    history = [
        {
            "epoch": e,
            "step": 4 * e,
            "learning_rate": 0.01 if e < 4 else 0.001,
            "train_loss": 1.8 / e,
            "train_top1_error": 0.8 / e,
            "validation_loss": 1.9 / e,
            "validation_top1_error": 0.7 / e,
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
            "recipe_name": "smoke",
            "recipe": {"name": "smoke", "num_epochs": 5, "momentum": 0.9, "phases": [{"first_epoch": 1, "rate": 0.01}]},
            "network": NETWORK,
            "num_parameters": sum(int(np.prod(w.shape)) for n, w in weights.items() if n != "mean_image"),
            "classes": dataset.content["classes"],
            "dataset_digest": dataset.digest,
            "statistics_digest": statistics.digest,
            "seed": 0,
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
    mean_image = np.load(statistics.stage("mean_image.npy"))
    model = make_model(folder, dataset, statistics, {**random_weights(NETWORK), "mean_image": mean_image})
    return {
        "dataset": str(folder / "dataset.json"),
        "statistics": str(folder / "statistics.json"),
        "model": model.base_uri + ".json",
    }


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
