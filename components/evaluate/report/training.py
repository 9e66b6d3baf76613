"""Section `training`: losses, errors and rates by epoch."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from components.evaluate.report import figures, page
from components.evaluate.report.evaluation import Evaluation, chance_errors, training_speed
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


def html(evaluation: Evaluation) -> str:
    """Show loss and error by epoch."""
    histories = [history for history in evaluation.histories() if history]
    if not histories:
        return page.section("training", "Training", page.text("The model was not trained: it has no epoch."))
    last = [history[-1] for history in histories]
    several = len(histories) > 1
    rates = "; ".join(dict.fromkeys(_rates(history) for history in histories))
    seconds = sum(training_speed(model)[0] for model in evaluation.models)
    lead = (
        f"{f'{len(histories)} networks of ' if several else ''}{_span([len(h) for h in histories], str)} epochs, "
        f"{_span([entry['step'] for entry in last], '{:,}'.format)} steps{' each,' if several else ''} in "
        f"{format_seconds(seconds)} of training. At the end the centre crop of the validation images gives "
        f"{_span([entry['validation_top1_error'] for entry in last], page.percent)} top-1 error."
    )
    caption = (
        f"Learning rate {rates}{'; dotted lines mark the changes' if ' from ' in rates else ''}. "
        f"{'One line for each network. ' if several else ''}Training error is counted as the "
        "network learns, on random crops with half of the hidden units dropped: it may lie above the validation error."
    )
    picture = figures.curves(histories, chance_errors(len(evaluation.classes))[0])
    return page.section(
        "training", "Training", page.text(lead), page.figure(picture, "Loss and error by epoch", caption)
    )
