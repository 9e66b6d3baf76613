"""The training report: one self-contained HTML file with curves and conv1 filters."""

from typing import Any

import numpy as np

from components.shared import figures
from components.shared.html import page, percent, picture, render
from components.shared.runlog import format_value


def _number(name: str, value: float) -> str:
    if name.endswith("_error"):
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def build(
    facts: dict[str, Any],
    metrics: dict[str, float],
    history: list[dict[str, Any]],
    timings: list[dict[str, Any]],
    rates: list[dict[str, Any]],
    kernels: list[np.ndarray],
    classes: int,
) -> str:
    """Build the report.

    Args:
        facts: recipe, seed, digests and the like, shown as they are.
        metrics: final numbers; errors are fractions.
        history: an entry an epoch.
        timings: clocks of the same epochs.
        rates: an entry a change of rate, as `trace.note_rates` makes them.
        kernels: conv1 of each tower.
        classes: number of classes.
    """
    body = render(
        __file__,
        recipe=facts["recipe"],
        tiles=[
            (percent(metrics["validation_top1_error"]), "top-1 error of the validation images, centre crop"),
            (percent(metrics["validation_top5_error"]), "top-5 error of the validation images, centre crop"),
            (f"{metrics['num_steps']:,}", f"steps of training, in {metrics['num_epochs']:,} epochs"),
            (f"{metrics['images_per_second']:,.0f}", "training images a second"),
        ],
        curves=picture(figures.curves([history], classes, timings)),
        headings=[name.replace("_", " ") for name in rates[0]],
        rates=[[format_value(value) for value in entry.values()] for entry in rates],
        filters=picture(figures.filter_sheet(kernels)),
        num_towers=len(kernels),
        facts=[(name.replace("_", " "), _number(name, value)) for name, value in metrics.items()] + [*facts.items()],
    )
    return page(f"Training: {facts['recipe']}", body)
