"""Section `run`: recipe, network, machine and versions."""

import json
import sys
from html import escape
from importlib.metadata import version
from typing import Any

import numpy as np

from components.evaluate.report import page
from components.evaluate.report.evaluation import Evaluation, training_speed
from components.shared import manifest
from components.shared.manifest import Manifest
from components.shared.runlog import format_seconds, format_value


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


def html(evaluation: Evaluation) -> str:
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
