"""The sections of the report that say what the numbers rest on: dataset, its statistics, and the run."""

import json
import sys
from html import escape
from importlib.metadata import version
from typing import Any

import numpy as np

from components.evaluate import figures, page
from components.evaluate.evaluation import Evaluation
from components.shared import published
from components.shared.manifest import SPLITS
from components.shared.runlog import format_seconds, format_value


def dataset(evaluation: Evaluation) -> str:
    """Show what the dataset holds and where every image of the release went."""
    content = evaluation.dataset.content
    counted = ("num_devkit", "used", "repaired", "quarantined", "excluded", "num_examples")
    rows = [
        [split, *(f"{entry[key]:,}" for key in counted), f"{len(entry['shards'])}"]
        for split in SPLITS
        if (entry := content["splits"].get(split))
    ]
    counts = [entry["num_train"] for entry in content["classes"]]
    size = content["image_size"]
    about = [
        ("Release", content["release"]),
        ("Subset", content["subset"]),
        ("Classes", f"{len(content['classes']):,}"),
        ("Training images a class", f"{min(counts):,} to {max(counts):,}, {np.mean(counts):,.0f} in the mean"),
        ("Stored as", f"{size}×{size} JPEG, quality {content['jpeg_quality']} (2012: 85)"),
        ("Resized by", content["resize"]),
        ("Seed of the order", str(content["seed"])),
    ]
    headings = ["Split", "#In the release", "#Used", "#Repaired", "#Quarantined", "#Excluded", "#Examples", "#Shards"]
    return page.section(
        "dataset",
        "The dataset",
        page.text("Every image of the release is accounted for: used + repaired + quarantined + excluded = release."),
        page.table(headings, rows),
        "<h3>Facts</h3>",
        page.facts(about),
    )


def _swatch(mean_rgb: list[float], std: float, vector: list[float]) -> str:
    stops = [
        "rgb("
        + ",".join(f"{min(255, max(0, m + t * std * v)):.0f}" for m, v in zip(mean_rgb, vector, strict=True))
        + ")"
        for t in (-2, -1, 0, 1, 2)
    ]
    return f'<span class="swatch" style="background:linear-gradient(90deg,{",".join(stops)})"></span>'


def statistics(evaluation: Evaluation) -> str:
    """Show mean image and colour components of the training set beside the published ones."""
    content = evaluation.statistics.content
    mean_image_HWC = np.load(evaluation.statistics.stage("mean_image.npy"), allow_pickle=False)
    picture = figures.image_bytes(np.clip(np.round(mean_image_HWC), 0, 255).astype(np.uint8))
    rows = []
    for number in (2, 1, 0):  # strongest first
        std, vector = content["standard_deviations"][number], content["eigenvectors"][number]
        theirs = published.COMPONENTS[number]
        alike = abs(float(np.dot(vector, theirs)))
        rows.append(
            [
                str(3 - number),
                _swatch(content["mean_rgb"], std, vector),
                f"{std:.2f}",
                f"{published.STANDARD_DEVIATIONS[number]:.2f}",
                "(" + ", ".join(f"{v:.3f}" for v in vector) + ")",
                f"{alike:.3f}",
            ]
        )
    mean = ", ".join(f"{name} {value:.1f}" for name, value in zip("RGB", content["mean_rgb"], strict=True))
    published_mean = ", ".join(f"{name} {value:.1f}" for name, value in zip("RGB", published.MEAN_RGB, strict=True))
    colors = page.table(["", "Mean ± 2 sd along it", "#sd", "#sd, published", "Direction RGB", "#Cosine"], rows)
    picture_html = page.figure(
        picture,
        "Mean image",
        f"The mean of {content['num_images']:,} training images; its centre is subtracted from every crop.",
        density=1,
    )
    return page.section(
        "statistics",
        "Mean image and colours",
        f'<div class="columns mean">{picture_html}<div><h3>Principal components of RGB</h3>{colors}'
        + page.text(
            f"In grey levels of 0 to 255, over {content['num_pixels']:,} pixels. "
            f"Mean here: {mean}; published: {published_mean}. "
            "Published means what the paper's first author released for ILSVRC-2012; cosine 1 is the same direction. "
            "Training adds a random multiple of these colours to every photograph (paper, section 4.1).",
            "note",
        )
        + "</div></div>",
    )


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else (value if isinstance(value, str) else json.dumps(value))


def _recipe(recipe: dict[str, Any]) -> str:
    """Show plain settings as facts and lists of records (layers, phases) as tables."""
    plain, tables = [], []
    for key, value in recipe.items():
        title = key.replace("_", " ")
        if isinstance(value, (list, tuple)) and value and all(isinstance(entry, dict) for entry in value):
            headings = [name.replace("_", " ") for name in value[0]]
            tables.append(
                f"<h3>{escape(title)}</h3>"
                + page.table(headings, [[escape(_show(v)) for v in e.values()] for e in value])
            )
        else:
            plain.append((title, _show(value)))
    half = -(-len(plain) // 2)
    columns = f'<div class="columns">{page.facts(plain[:half])}{page.facts(plain[half:])}</div>'
    return f"<details><summary>Every setting of the recipe</summary>{columns}{''.join(tables)}</details>"


def _network(network: list[dict[str, Any]]) -> str:
    rows = [
        [
            escape(layer["name"]),
            escape(layer["op"]),
            "×".join(map(str, layer["shape"])),
            "×".join(map(str, layer.get("kernel", ()))),
            f"{np.prod(layer['kernel']) + layer['kernel'][-1]:,}" if "kernel" in layer else "",
        ]
        for layer in network
    ]
    table = page.table(["Layer", "Operation", "Output", "Kernel", "#Parameters"], rows)
    return f"<details><summary>Every layer of the network</summary>{table}</details>"


def run(evaluation: Evaluation) -> str:
    """Show recipe, network, times, versions and digests."""
    model, (seconds, images_per_second) = evaluation.model.content, evaluation.training_speed()
    made = evaluation.made.info
    trained_with = {k: v for k, v in sorted(evaluation.model.info.items()) if isinstance(v, (str, int, float))}
    about = [
        ("Recipe", model["recipe_name"]),
        ("Parameters", f"{model['num_parameters']:,}"),
        ("Training", f"{model['num_epochs']} epochs, {model['num_steps']:,} steps, seed {model['seed']}"),
        ("Training time", f"{format_seconds(seconds)}, {images_per_second:,.0f} images/s"),
        (
            "Evaluation time",
            f"{format_seconds(made['seconds'])}, {made['images_per_second']:,.1f} images/s of ten crops each",
        ),
        (
            "Negative log-likelihood",
            f"{evaluation.numbers['nll']:.4f} nats (centre crop {evaluation.numbers['nll_center']:.4f})",
        ),
        ("Trained with", ", ".join(f"{key} {format_value(value)}" for key, value in trained_with.items())),
        (
            "Evaluated with",
            f"Python {sys.version.split()[0]}, "
            + ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "numpy", "matplotlib")),
        ),
    ]
    digests = [
        [name, f'<span class="mono">{entry.digest}</span>']
        for name, entry in (
            ("Dataset", evaluation.dataset),
            ("Statistics", evaluation.statistics),
            ("Model", evaluation.model),
            ("Predictions", evaluation.made),
        )
    ]
    return page.section(
        "run",
        "The run",
        page.facts(about),
        "<h3>Digests (sha256)</h3>",
        page.table(["Artifact", "Digest"], digests),
        _recipe(model["recipe"]),
        _network(model["network"]),
    )
