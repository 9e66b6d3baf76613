"""Section `training`: losses, errors and rates by epoch."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from components.evaluate.report.evaluation import Evaluation, training_speed
from components.shared import figures
from components.shared.html import percent, picture, render
from components.shared.runlog import format_seconds


def _rates(history: list[dict[str, Any]]) -> str:
    drops = [
        f"{after['learning_rate']:g} from epoch {after['epoch']}"
        for before, after in pairwise(history)
        if after["learning_rate"] != before["learning_rate"]
    ]
    return ", ".join([f"{history[0]['learning_rate']:g}", *drops])


def _span(values: list[Any], show: Callable[[Any], str]) -> str:
    """Write one value, or the least and the largest of several."""
    shown = [show(min(values)), show(max(values))]
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)


def html(evaluation: Evaluation) -> Markup:
    """Show loss and error by epoch."""
    histories = [history for history in evaluation.histories() if history]
    if not histories:
        return render(__file__, num_networks=0)
    last = [history[-1] for history in histories]
    return render(
        __file__,
        num_networks=len(histories),
        epochs=_span([len(history) for history in histories], str),
        steps=_span([entry["step"] for entry in last], "{:,}".format),
        time=format_seconds(sum(training_speed(model)[0] for model in evaluation.models)),
        error=_span([entry["validation_top1_error"] for entry in last], percent),
        rates="; ".join(dict.fromkeys(_rates(history) for history in histories)),
        curves=picture(figures.curves(histories, len(evaluation.classes))),
    )
