"""Section `run`: recipe, network, machine and versions."""

import json
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluate.report.evaluation import Evaluation, training_speed
from components.shared import manifest
from components.shared.html import render
from components.shared.manifest import Manifest
from components.shared.runlog import format_seconds, format_value

VERSIONS = ("tensorflow", "numpy", "matplotlib")


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else (value if isinstance(value, str) else json.dumps(value))


def _recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Sort plain settings from lists of records (layers, phases)."""
    plain, tables = [], []
    for key, value in recipe.items():
        name = key.replace("_", " ")
        if isinstance(value, (list, tuple)) and value and all(isinstance(entry, dict) for entry in value):
            headings = [heading.replace("_", " ") for heading in value[0]]
            tables.append((name, headings, [[_show(cell) for cell in entry.values()] for entry in value]))
        else:
            plain.append((name, _show(value)))
    return {"plain": plain, "tables": tables}


def _layers(network: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            layer["name"],
            layer["op"],
            "×".join(map(str, layer["shape"])),
            "×".join(map(str, layer.get("kernel", ()))),
            f"{np.prod(layer['kernel']) + layer['kernel'][-1]:,}" if "kernel" in layer else "",
        ]
        for layer in network
    ]


def _details(models: list[Manifest]) -> list[dict[str, Any]]:
    """Take every setting and every layer, once for all models that share them."""
    distinct: dict[str, Any] = {}
    for model in models:
        distinct.setdefault(manifest.digest_of(model.content["recipe"]), model.content)
    return [
        {"name": c["recipe_name"], "recipe": _recipe(c["recipe"]), "layers": _layers(c["network"])}
        for c in distinct.values()
    ]


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


def _networks(evaluation: Evaluation) -> list[list[str]]:
    """Make a row for each of several networks."""
    rows = []
    for name, model in zip(evaluation.names, evaluation.models, strict=True):
        content, (seconds, images_per_second) = model.content, training_speed(model)
        counts = (content[key] for key in ("num_epochs", "num_steps", "num_parameters"))
        clocks = (format_seconds(seconds), f"{images_per_second:,.0f}")
        rows.append([name, content["recipe_name"], *(f"{count:,}" for count in counts), *clocks])
    return rows


def html(evaluation: Evaluation) -> Markup:
    """Show recipes, networks, times, versions and digests."""
    models, made, numbers = evaluation.models, evaluation.made.info, evaluation.numbers
    several = len(models) > 1
    through = f" through {len(models)} networks" if several else ""
    speed = f"{made['images_per_second']:,.1f} images/s of ten crops each{through}"
    center = f"centre crop {numbers['nll_center']:.4f}"
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    about = [
        *_training(evaluation),
        ("Evaluation time", f"{format_seconds(made['seconds'])}, {speed}"),
        ("Negative log-likelihood", f"{numbers['nll']:.4f} nats ({center})"),
        ("Evaluated with", f"Python {sys.version.split()[0]}, {versions}"),
    ]
    labels = [f"Model, {name}" for name in evaluation.names] if several else ["Model"]
    artifacts = [
        ("Dataset", evaluation.dataset),
        ("Statistics", evaluation.statistics),
        *zip(labels, models, strict=True),
        ("Predictions", evaluation.made),
    ]
    networks = _networks(evaluation) if several else []
    return render(__file__, about=about, networks=networks, artifacts=artifacts, details=_details(models))
