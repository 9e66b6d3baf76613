"""The pictures that both reports show, as PNG bytes. Only reports import this.

Shapes: H height, W width, C channels, F filters.
"""

# pyright: standard
# (not strict: its libraries have no complete types)

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

PIXELS_PER_INCH = 200  # the page shows 2 pixels as 1
INK, SOFT, LINE = "#1c1e21", "#5f6670", "#e3e6ea"
TRAIN, VALIDATION, VALIDATION_TOP5 = "#9aa5b1", "#2b5c8f", "#c8642d"
STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 3,
}
LOSSES = {"train_loss": ("training", TRAIN), "validation_loss": ("validation", VALIDATION)}
ERRORS = {
    "train_top1_error": ("training top-1", TRAIN),
    "validation_top1_error": ("validation top-1", VALIDATION),
    "validation_top5_error": ("validation top-5", VALIDATION_TOP5),
}
RATES = {"learning_rate": ("learning rate of the weights", VALIDATION)}
CLOCKS = {
    "step_ms": ("step_ms: working", VALIDATION),
    "data_ms": ("data_ms: waiting for input", VALIDATION_TOP5),
}

Histories = list[list[dict[str, Any]]]


def png(figure: Figure) -> bytes:
    """Draw a figure."""
    figure.set_dpi(PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # In these few inks 256 colours cannot be told from all of them, and take half the space.
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with io.BytesIO() as file:
        pixels.quantize(256).save(file, "PNG", optimize=True)
        return file.getvalue()


def image_bytes(image_HWC: np.ndarray) -> bytes:
    """Encode uint8 pixels as they are."""
    with io.BytesIO() as file:
        Image.fromarray(image_HWC).save(file, "PNG")
        return file.getvalue()


def _plot(
    axes: Axes, title: str, histories: Histories, lines: dict[str, tuple[str, str]], scale: float = 1, **options: Any
) -> None:
    """Draw one line for each key of each history; `lines` gives the label and colour of a key."""
    longest = max(len(history) for history in histories)
    looks: dict[str, Any] = {"marker": "o" if longest <= 12 else "", **options}
    if len(histories) > 1:
        looks["linewidth"] = 0.9
    for number, history in enumerate(histories):
        epochs = [entry["epoch"] for entry in history]
        for key, (label, color) in lines.items():
            values = [scale * entry[key] for entry in history]
            axes.plot(epochs, values, color=color, label="" if number else label, **looks)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    # on no curve
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(lines), columnspacing=1.2)


def _mark_drops(axes: Axes, histories: Histories) -> None:
    """Draw a dotted line at every change of a learning rate."""
    pairs = [pair for history in histories for pair in pairwise(history)]
    for epoch in sorted({a["epoch"] for a, b in pairs if a["learning_rate"] != b["learning_rate"]}):
        axes.axvline(epoch + 0.5, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))


def _mark_chance(axes: Axes, value: float, label: str, above: bool) -> None:
    axes.axhline(value, color=SOFT, linewidth=0.9)
    axes.annotate(
        label,
        (0.99, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 3 if above else -3),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        color=SOFT,
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def curves(histories: Histories, num_classes: int, timings: Sequence[dict[str, Any]] = ()) -> bytes:
    """Draw loss and error by epoch, all networks in one picture, with the values of a blind guess.

    Args:
        histories: of every network, one object an epoch, as `history.jsonl` has it.
        num_classes: number of classes.
        timings: of one network, clocks of the same epochs; if given, they and the learning rate
            stand below.
    """
    with matplotlib.rc_context(STYLE):
        rows = 2 if timings else 1
        figure = Figure(figsize=(9.24, 3.3 * rows), layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False)
        loss, error = axes[0]
        error.set_ylim(top=100)
        _mark_chance(loss, math.log(num_classes), "chance, ln(classes)", above=False)
        _mark_chance(error, 100 * (1 - 1 / num_classes), "chance, top-1", above=True)
        _plot(loss, "Loss, nats", histories, LOSSES)
        _plot(error, "Error, percent", histories, ERRORS, scale=100)
        for panel in (loss, error):
            _mark_drops(panel, histories)
        if timings:
            rate, clock = axes[1]
            rate.set_yscale("log")
            _plot(rate, "Learning rate", histories, RATES, drawstyle="steps-post")
            clocks = [{"epoch": a["epoch"], **b} for a, b in zip(histories[0], timings, strict=True)]
            _plot(clock, "Mean time of a step, ms", [clocks], CLOCKS)
        return png(figure)


def filter_sheet(towers: list[np.ndarray], per_row: int = 16, scale: int = 10) -> bytes:
    """Draw the first layer's kernels as Figure 3 of the paper does: tower a above tower b.

    Each tower is spread over 0..255 by its own minimum and maximum, as the original code did, with one pixel
    between kernels.

    Args:
        towers: kernels [H, W, 3, F] of every tower.
        per_row: kernels in a row.
        scale: times that each pixel is repeated in both directions.
    """
    strips = []
    for kernels_HWCF in towers:
        height, width, _, num_filters = kernels_HWCF.shape
        low, high = float(kernels_HWCF.min()), float(kernels_HWCF.max())
        shown = np.round((kernels_HWCF - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
        columns = min(per_row, num_filters)
        rows = -(-num_filters // columns)
        sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), 255, np.uint8)
        for i in range(num_filters):
            y, x = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
            sheet[y : y + height, x : x + width] = shown[..., i]
        strips += [sheet, np.full((4, sheet.shape[1], 3), 255, np.uint8)]
    sheet = np.concatenate(strips[:-1])
    return image_bytes(sheet.repeat(scale, axis=0).repeat(scale, axis=1))
