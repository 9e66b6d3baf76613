"""The sections of the report that say what the numbers rest on: dataset, its statistics, and the run."""

import json
import sys
from html import escape
from importlib.metadata import version
from typing import Any

import numpy as np

from components.evaluate import figures, page
from components.evaluate.evaluation import Evaluation, training_speed
from components.shared import manifest, published
from components.shared.manifest import SPLITS, Manifest
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


def _recipe(title: str, recipe: dict[str, Any]) -> str:
    """Show plain settings as facts and lists of records (layers, phases) as tables."""
    plain, tables = [], []
    for key, value in recipe.items():
        name = key.replace("_", " ")
        if isinstance(value, (list, tuple)) and value and all(isinstance(entry, dict) for entry in value):
            headings = [heading.replace("_", " ") for heading in value[0]]
            tables.append(
                f"<h3>{escape(name)}</h3>"
                + page.table(headings, [[escape(_show(v)) for v in e.values()] for e in value])
            )
        else:
            plain.append((name, _show(value)))
    half = -(-len(plain) // 2)
    columns = f'<div class="columns">{page.facts(plain[:half])}{page.facts(plain[half:])}</div>'
    return f"<details><summary>{escape(title)}</summary>{columns}{''.join(tables)}</details>"


def _network(title: str, network: list[dict[str, Any]]) -> str:
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
    return f"<details><summary>{escape(title)}</summary>{table}</details>"


def _details(models: list[Manifest]) -> list[str]:
    """Show every setting and every layer, once for all models that share them."""
    distinct: dict[str, Any] = {}
    for model in models:
        distinct.setdefault(manifest.digest_of(model.content["recipe"]), model.content)
    parts = []
    for content in distinct.values():
        suffix = f" {content['recipe_name']}" if len(distinct) > 1 else ""
        parts.append(_recipe(f"Every setting of the recipe{suffix}", content["recipe"]))
        parts.append(_network(f"Every layer of the network{suffix}", content["network"]))
    return parts


def _trained_with(model: Manifest) -> str:
    known = {k: v for k, v in sorted(model.info.items()) if isinstance(v, (str, int, float))}
    return ", ".join(f"{key} {format_value(value)}" for key, value in known.items())


def _training(evaluation: Evaluation) -> list[tuple[str, str]]:
    """List the facts of one training, or what several have in common."""
    (model, *others) = evaluation.models
    trained_with = ("Trained with", "; ".join(dict.fromkeys(_trained_with(entry) for entry in evaluation.models)))
    if others:
        return [
            ("Networks", f"{len(evaluation.models)}, their probabilities averaged with equal weights"),
            trained_with,
        ]
    content, (seconds, images_per_second) = model.content, training_speed(model)
    return [
        ("Recipe", content["recipe_name"]),
        ("Parameters", f"{content['num_parameters']:,}"),
        ("Training", f"{content['num_epochs']} epochs, {content['num_steps']:,} steps, seed {content['seed']}"),
        ("Training time", f"{format_seconds(seconds)}, {images_per_second:,.0f} images/s"),
        trained_with,
    ]


def _networks(evaluation: Evaluation) -> str:
    """Show one row for each of several networks."""
    rows = []
    for name, model in zip(evaluation.names, evaluation.models, strict=True):
        content, (seconds, images_per_second) = model.content, training_speed(model)
        rows.append(
            [
                escape(name),
                escape(content["recipe_name"]),
                f"{content['num_epochs']}",
                f"{content['num_steps']:,}",
                f"{content['num_parameters']:,}",
                format_seconds(seconds),
                f"{images_per_second:,.0f}",
            ]
        )
    headings = ["Network", "Recipe", "#Epochs", "#Steps", "#Parameters", "#Training time", "#Images/s"]
    return "<h3>Networks</h3>" + page.table(headings, rows)


def run(evaluation: Evaluation) -> str:
    """Show recipes, networks, times, versions and digests."""
    models, made = evaluation.models, evaluation.made.info
    several = len(models) > 1
    about = [
        *_training(evaluation),
        (
            "Evaluation time",
            f"{format_seconds(made['seconds'])}, {made['images_per_second']:,.1f} images/s of ten crops each"
            + (f" through {len(models)} networks" if several else ""),
        ),
        (
            "Negative log-likelihood",
            f"{evaluation.numbers['nll']:.4f} nats (centre crop {evaluation.numbers['nll_center']:.4f})",
        ),
        (
            "Evaluated with",
            f"Python {sys.version.split()[0]}, "
            + ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "numpy", "matplotlib")),
        ),
    ]
    labels = [f"Model, {name}" for name in evaluation.names] if several else ["Model"]
    digests = [
        [escape(name), f'<span class="mono">{entry.digest}</span>']
        for name, entry in (
            ("Dataset", evaluation.dataset),
            ("Statistics", evaluation.statistics),
            *zip(labels, models, strict=True),
            ("Predictions", evaluation.made),
        )
    ]
    return page.section(
        "run",
        "The run",
        page.facts(about),
        _networks(evaluation) if several else "",
        "<h3>Digests (sha256)</h3>",
        page.table(["Artifact", "Digest"], digests),
        *_details(models),
    )
