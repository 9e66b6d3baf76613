"""The pictures of the report, as PNG or JPEG bytes.

Shapes: H height, W width, C channels or classes, F filters.
"""

import io
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

PIXELS_PER_INCH = 200  # the page shows 2 pixels as 1
INK, SOFT, LINE = "#1c1e21", "#5f6670", "#e3e6ea"
TRAIN, VALIDATION, VALIDATION_TOP5 = "#9aa5b1", "#2b5c8f", "#c8642d"
STYLE = {
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
MAX_LABELLED_CLASSES = 40
MAX_COUNTED_CLASSES = 16


def _png(figure: Figure) -> bytes:
    figure.set_dpi(PIXELS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # A palette of 256 colours cannot be told from the full ones in these few inks, and takes half the space.
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    with io.BytesIO() as file:
        pixels.quantize(256).save(file, "PNG", optimize=True)
        return file.getvalue()


def image_bytes(image_HWC: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Encode uint8 pixels as they are."""
    with io.BytesIO() as file:
        Image.fromarray(image_HWC).save(file, kind, **options)
        return file.getvalue()


def thumbnail(image_HWC: np.ndarray, size: int = 224) -> bytes:
    """Shrink a photograph of 256x256 pixels and encode it as JPEG."""
    with io.BytesIO() as file:
        Image.fromarray(image_HWC).resize((size, size), Image.Resampling.LANCZOS).save(file, "JPEG", quality=82)
        return file.getvalue()


def _plot_by_epoch(
    axes: Axes, title: str, histories: list[list[dict[str, Any]]], lines: dict[str, tuple[str, str]], scale: float = 1
) -> None:
    """Draw one line for each key of each history; `lines` gives the label and colour of a key."""
    longest = max(len(history) for history in histories)
    looks = {"marker": "o" if longest <= 12 else ""} | ({"linewidth": 0.9} if len(histories) > 1 else {})
    drops = set()
    for number, history in enumerate(histories):
        epochs = [entry["epoch"] for entry in history]
        for key, (label, color) in lines.items():
            values = [scale * entry[key] for entry in history]
            axes.plot(epochs, values, color=color, label="" if number else label, **looks)
        drops |= {a["epoch"] for a, b in pairwise(history) if a["learning_rate"] != b["learning_rate"]}
    for epoch in sorted(drops):
        axes.axvline(epoch + 0.5, color=SOFT, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.03)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(lines), columnspacing=1.2)  # on no curve


def curves(histories: list[list[dict[str, Any]]], chance_error: float) -> bytes:
    """Draw loss and error by epoch, all networks in one picture, with a dotted line at every change of a learning rate.

    Args:
        histories: of every network, one object an epoch, as `history.jsonl` has it.
        chance_error: top-1 error of a blind guess, 0..1.
    """
    losses = {"train_loss": ("training", TRAIN), "validation_loss": ("validation", VALIDATION)}
    errors = {
        "train_top1_error": ("training top-1", TRAIN),
        "validation_top1_error": ("validation top-1", VALIDATION),
        "validation_top5_error": ("validation top-5", VALIDATION_TOP5),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.24, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        _plot_by_epoch(left, "Loss, nats", histories, losses)
        right.set_ylim(top=100)
        _plot_by_epoch(right, "Error, percent", histories, errors, scale=100)
        right.axhline(100 * chance_error, color=SOFT, linewidth=0.9)
        place, box = right.get_yaxis_transform(), {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        right.text(
            0.99, 100 * chance_error + 2, "chance, top-1", transform=place, ha="right", color=SOFT, fontsize=8, bbox=box
        )
        return _png(figure)


def filter_sheet(towers: list[np.ndarray], per_row: int = 16, scale: int = 10) -> bytes:
    """Draw the first layer's kernels as Figure 3 of the paper does: tower a above tower b.

    Each tower is spread over 0..255 by its own minimum and maximum, as the original code did, with one pixel between
    kernels.

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


def confusion(confusion_CC: np.ndarray, names: list[str]) -> bytes:
    """Draw a confusion matrix, each row as shares of its true class.

    Args:
        confusion_CC: counts, true class by class given.
        names: of the classes; drawn while they can be read.
    """
    shares_CC = confusion_CC / np.maximum(confusion_CC.sum(axis=1, keepdims=True), 1)
    num_classes = len(names)
    labelled = num_classes <= MAX_LABELLED_CLASSES
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        size = min(9.0, 3.4 + 0.32 * num_classes) if labelled else 6.0
        figure = Figure(figsize=(size, size * 0.92), layout="constrained")
        axes = figure.subplots()
        axes.imshow(
            np.sqrt(shares_CC), cmap="Blues", vmin=0, vmax=1, interpolation="nearest" if labelled else "antialiased"
        )
        axes.set_xlabel("class given")
        axes.set_ylabel("true class")
        axes.tick_params(length=0)
        if labelled:
            axes.set_xticks(range(num_classes), names, rotation=45, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(num_classes), names)
            axes.set_xticks(np.arange(num_classes - 1) + 0.5, minor=True)
            axes.set_yticks(np.arange(num_classes - 1) + 0.5, minor=True)
            axes.grid(which="minor", color="white", linewidth=1.5)
            axes.tick_params(which="minor", length=0)
        if num_classes <= MAX_COUNTED_CLASSES:
            for (row, column), count in np.ndenumerate(confusion_CC):
                color = "white" if shares_CC[row, column] > 0.4 else (INK if count else "#c3cad2")
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8.5)
        return _png(figure)
