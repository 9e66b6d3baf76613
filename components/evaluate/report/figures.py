"""The pictures of this report alone, as PNG or JPEG bytes.

Shapes: H height, W width, C channels or classes.
"""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from components.shared.figures import INK, STYLE, png

MAX_LABELLED_CLASSES = 40
MAX_COUNTED_CLASSES = 16


def thumbnail(image_HWC: np.ndarray, size: int = 224) -> bytes:
    """Shrink a photograph of 256x256 pixels and encode it as JPEG."""
    with io.BytesIO() as file:
        Image.fromarray(image_HWC).resize((size, size), Image.Resampling.LANCZOS).save(file, "JPEG", quality=82)
        return file.getvalue()


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
        return png(figure)
