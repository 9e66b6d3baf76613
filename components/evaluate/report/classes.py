"""Section `classes`: errors by class, and which are taken for which."""

from html import escape

import numpy as np

from components.evaluate import metrics
from components.evaluate.report import figures, page
from components.evaluate.report.evaluation import Evaluation, display_names

NUM_PAIRS = 12
LONG_TABLE = 24  # rows that are shown without a scroll bar


def _class_rows(evaluation: Evaluation) -> list[list[str]]:
    names, found = display_names(evaluation.classes), evaluation.predictions
    misses_N = found.ten_crop.labels != found.labels[:, None]
    counts_C = np.bincount(found.labels, minlength=len(names))
    top1_C = np.bincount(found.labels, weights=misses_N[:, 0], minlength=len(names)) / np.maximum(counts_C, 1)
    top5_C = np.bincount(found.labels, weights=misses_N.all(axis=1), minlength=len(names)) / np.maximum(counts_C, 1)
    mistakes_CC = evaluation.confusion_CC.copy()
    np.fill_diagonal(mistakes_CC, 0)
    rows = []
    for c in np.argsort(-top1_C, kind="stable"):
        if not counts_C[c]:
            continue
        rival = int(mistakes_CC[c].argmax())
        taken_for = f"{names[rival]}, {mistakes_CC[c, rival]}×" if mistakes_CC[c, rival] else "never mistaken"
        rows.append(
            [
                escape(names[c]),
                f"{evaluation.classes[c]['num_train']:,}",
                f"{counts_C[c]:,}",
                page.bar(top1_C[c], ours=True),
                page.bar(top5_C[c], ours=True),
                escape(taken_for),
            ]
        )
    return rows


def html(evaluation: Evaluation) -> str:
    """Show the confusion matrix, the commonest mistakes and the error of every class."""
    names = display_names(evaluation.classes)
    pairs = metrics.most_confused(evaluation.confusion_CC, NUM_PAIRS)
    totals = evaluation.confusion_CC.sum(axis=1)
    pair_rows = [
        [escape(names[t]), escape(names[g]), f"{count:,}", page.bar(count / totals[t], ours=True)]
        for t, g, count in pairs
    ]
    rows = _class_rows(evaluation)
    headings = ["Class", "#Trained on", "#Evaluated", "Top-1 error", "Top-5 error", "Most often taken for"]
    caption = (
        "Rows are true classes, columns the first label by ten crops; a darker cell is a larger share of its row (its "
        "square root, so that rare mistakes show)."
    )
    return page.section(
        "classes",
        "Who is taken for whom",
        page.figure(figures.confusion(evaluation.confusion_CC, names), "Confusion matrix", caption),
        "<h3>Commonest mistakes</h3>",
        page.table(["True class", "Taken for", "#Images", "Share of the true class"], pair_rows)
        if pairs
        else page.text("None: every image got its class."),
        "<h3>Every class, worst first</h3>",
        page.table(headings, rows, tall=len(rows) > LONG_TABLE),
    )
