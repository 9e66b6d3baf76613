"""Section `classes`: errors by class, and which are taken for which."""

from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluate import metrics
from components.evaluate.report import figures
from components.evaluate.report.evaluation import Evaluation, display_names
from components.shared.html import picture, render

NUM_PAIRS = 12


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    names, found = display_names(evaluation.classes), evaluation.predictions
    misses_N = found.ten_crop.labels != found.labels[:, None]
    counts_C = np.bincount(found.labels, minlength=len(names))
    top1_C = np.bincount(found.labels, weights=misses_N[:, 0], minlength=len(names)) / np.maximum(counts_C, 1)
    top5_C = np.bincount(found.labels, weights=misses_N.all(axis=1), minlength=len(names)) / np.maximum(counts_C, 1)
    mistakes_CC = evaluation.confusion_CC.copy()
    np.fill_diagonal(mistakes_CC, 0)
    rivals_C = mistakes_CC.argmax(axis=1)
    return [
        {
            "name": names[c],
            "num_train": evaluation.classes[c]["num_train"],
            "num_images": counts_C[c],
            "errors": (top1_C[c], top5_C[c]),
            "rival": names[rivals_C[c]],
            "num_taken": mistakes_CC[c, rivals_C[c]],
        }
        for c in np.argsort(-top1_C, kind="stable")
        if counts_C[c]
    ]


def html(evaluation: Evaluation) -> Markup:
    """Show the confusion matrix, the commonest mistakes and the error of every class."""
    names = display_names(evaluation.classes)
    totals = evaluation.confusion_CC.sum(axis=1)
    return render(
        __file__,
        confusion=picture(figures.confusion(evaluation.confusion_CC, names)),
        pairs=[
            {"true": names[t], "taken_for": names[g], "num_images": count, "share": count / totals[t]}
            for t, g, count in metrics.most_confused(evaluation.confusion_CC, NUM_PAIRS)
        ],
        rows=_class_rows(evaluation),
    )
