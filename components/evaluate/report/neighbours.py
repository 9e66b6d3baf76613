"""Section `neighbours`: training photographs nearest to test photographs, after Figure 4, right."""

from typing import Any

from markupsafe import Markup

from components.evaluate.neighbours import Query
from components.evaluate.report import photographs
from components.evaluate.report.evaluation import Evaluation, display_names
from components.shared.html import render
from components.shared.records import Features


def _cell(record: Features, names: list[str], kind: str, distance: str = "") -> dict[str, Any]:
    return {
        "kind": kind,
        "source": photographs.inline(record, size=128),
        "name": names[record["image/class/label"]],
        "details": record["image/filename"].decode() + distance,
    }


def _cells(query: Query, names: list[str]) -> list[dict[str, Any]]:
    label = query.record["image/class/label"]
    return [
        _cell(query.record, names, "query"),
        *(
            _cell(record, names, "same" if record["image/class/label"] == label else "", f", at {distance:.4g}")
            for record, distance in zip(query.nearest, query.distances, strict=True)
        ),
    ]


def html(evaluation: Evaluation) -> Markup:
    """Show the training photographs nearest to a few others, as in Figure 4 of the paper."""
    names, found = display_names(evaluation.classes), evaluation.neighbours
    return render(
        __file__,
        cells=[cell for query in found.queries for cell in _cells(query, names)],
        found=found,
        split=evaluation.split,
        network=evaluation.first_name,
        num_classes=len(names),
    )
