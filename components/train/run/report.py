"""The training report: one self-contained HTML file with curves and conv1 filters."""

import base64
import html
import io
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from components.shared.runlog import format_value

FILTERS_PER_ROW = 16

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "overflow-wrap:break-word}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;text-align:left}"
    ".facts td{overflow-wrap:anywhere}.facts th{vertical-align:top}.wide{overflow-x:auto}img{max-width:100%}"
    "@media(max-width:40rem){.wide{font-size:80%}}"  # the rates fit Kubeflow's panel
)


def _image(figure: Figure, caption: str) -> str:
    """Encode a figure as an inline PNG element and close it."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return f'<img alt="{caption}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _curves(history: list[dict[str, Any]], timings: list[dict[str, Any]], num_classes: int) -> Figure:
    epochs = [entry["epoch"] for entry in history]
    figure, ((loss, error), (rate, clock)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for name, label in (("train", "train (random crops, dropout)"), ("validation", "validation (centre crop)")):
        loss.plot(epochs, [entry[f"{name}_loss"] for entry in history], ".-", label=label)
        error.plot(epochs, [100 * entry[f"{name}_top1_error"] for entry in history], ".-", label=f"{name} top-1")
    error.plot(epochs, [100 * entry["validation_top5_error"] for entry in history], ".-", label="validation top-5")
    loss.axhline(np.log(num_classes), color="0.7", linestyle=":", label="ln(classes)")
    error.axhline(100 * (1 - 1 / num_classes), color="0.7", linestyle=":", label="chance, top-1")
    rate.step(epochs, [entry["learning_rate"] for entry in history], ".-", where="post")
    rate.set_yscale("log")
    for name, label in (("step_ms", "step_ms: working"), ("data_ms", "data_ms: waiting for input")):
        clock.plot(epochs, [timing[name] for timing in timings], ".-", label=label)
    panels = {
        "loss (nats)": loss,
        "error (%)": error,
        "learning rate of the weights": rate,
        "mean time of a step (ms)": clock,
    }
    for title, axes in panels.items():
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    loss.legend()
    error.legend()
    clock.legend()
    error.set_ylim(bottom=0)
    clock.set_ylim(bottom=0)
    return figure


def filter_sheet(kernels: list[np.ndarray]) -> np.ndarray:
    """Lay conv1 filters out as one picture, towers one under the other (paper, Figure 3).

    Args:
        kernels: for each tower float32 [kh, kw, 3, filters].

    Returns:
        float32 [height, width, 3], 0..1; each tower has one scale, 16 filters a row, a white line between filters.
    """
    sheets = []
    for kernel in kernels:
        kh, kw, _, num_filters = kernel.shape
        low, high = kernel.min(), kernel.max()
        scaled = (kernel - low) / max(high - low, 1e-12)
        rows = -(-num_filters // FILTERS_PER_ROW)
        sheet = np.ones((rows * (kh + 1) + 1, FILTERS_PER_ROW * (kw + 1) + 1, 3), np.float32)
        for index in range(num_filters):
            y, x = divmod(index, FILTERS_PER_ROW)
            top, left = y * (kh + 1) + 1, x * (kw + 1) + 1
            sheet[top : top + kh, left : left + kw] = scaled[..., index]
        sheets.append(sheet)
    return np.concatenate(sheets)


def _filters(kernels: list[np.ndarray]) -> Figure:
    sheet = filter_sheet(kernels)
    figure, axes = plt.subplots(figsize=(12, 12 * sheet.shape[0] / sheet.shape[1]))
    axes.imshow(sheet, interpolation="nearest")
    axes.axis("off")
    return figure


def _number(name: str, value: float) -> str:
    if name.endswith("_error"):
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def _changes(rates: list[dict[str, Any]]) -> str:
    """Write the changes of rate as a table."""
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in rates[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(format_value(value))}</td>" for value in entry.values()) + "</tr>"
        for entry in rates
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


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
    shown = {key.replace("_", " "): _number(key, value) for key, value in metrics.items()}
    rows = "".join(
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in {**shown, **facts}.items()
    )
    curves = _image(_curves(history, timings, classes), "loss, error, learning rate and time of a step")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Training: {html.escape(str(facts['recipe']))}</title><style>{STYLE}</style>"
        f"<h1>Training of {html.escape(str(facts['recipe']))}</h1>"
        "<p>Validation is by the centre crop; ten crops and the test split are the business of evaluate.</p>"
        f'<table class="facts">{rows}</table><h2>Curves</h2>{curves}<h2>Rates</h2>{_changes(rates)}'
        f"<h2>conv1 filters</h2><p>Tower a above tower b.</p>{_image(_filters(kernels), 'conv1 filters')}</html>\n"
    )
