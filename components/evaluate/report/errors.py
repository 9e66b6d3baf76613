"""Section `errors`: the error rates beside the paper's, with their intervals and a verdict."""

from typing import Any

from markupsafe import Markup

from components.evaluate import metrics
from components.evaluate.report.evaluation import PUBLISHED, PUBLISHED_2012, Evaluation, chance_errors, verdict
from components.shared.html import percent, render


def _interval(error: float, num_examples: float) -> str:
    low, high = metrics.binomial_interval(round(error * num_examples), int(num_examples))
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def _measured(label: str, numbers: dict[str, float], suffix: str = "", kind: str = "") -> dict[str, Any]:
    errors = [numbers[f"top{k}_error{suffix}"] for k in (1, 5)]
    cells = [(error, _interval(error, numbers["num_examples"])) for error in errors]
    return {"label": label, "cells": cells, "ours": True, "kind": kind}


def _plain(label: str, *errors: float, ours: bool = False, kind: str = "") -> dict[str, Any]:
    return {"label": label, "cells": [(error, "") for error in errors], "ours": ours, "kind": kind}


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    numbers, subject, num_classes = evaluation.numbers, evaluation.subject, len(evaluation.classes)
    rows = [
        _measured(f"{subject}, ten crops", numbers, kind="ours"),
        _measured(f"{subject}, centre crop", numbers, "_center", kind="ours"),
    ]
    published = [(f"Paper: {label}", *errors) for label, *errors in PUBLISHED]
    if len(evaluation.models) > 1:
        named = zip(evaluation.names, evaluation.singles, strict=True)
        rows += [_measured(f"{name} alone", single) for name, single in named]
        mean = [evaluation.mean_single[f"top{k}_error_mean_single"] for k in (1, 5)]
        rows.append(_plain("One network in the mean", *mean, ours=True))
        published += [(f"Paper, ILSVRC-2012: {label}", *errors) for label, *errors in PUBLISHED_2012]
    rows.append(_plain(f"Chance, {num_classes:,} classes", *chance_errors(num_classes), kind="gap"))
    return rows + [_plain(label, top1 / 100, top5 / 100) for label, top1, top5 in published]


def html(evaluation: Evaluation) -> Markup:
    """Show the measured errors, chance, and what the paper measured."""
    ties = [
        f"{name.removesuffix('_2012_ties')} {percent(value)}"
        for name, value in evaluation.numbers.items()
        if name.endswith("_2012_ties")
    ]
    several = len(evaluation.models) > 1
    return render(__file__, verdict=verdict(evaluation), rows=_rows(evaluation), several=several, ties=ties)
