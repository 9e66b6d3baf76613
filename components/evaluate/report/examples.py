"""Section `examples`: photographs with their five likeliest classes, after Figure 4, left."""

from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluate import data
from components.evaluate.report import photographs
from components.evaluate.report.evaluation import Evaluation, display_names
from components.shared.html import render
from components.shared.records import Features

NUM_EXAMPLES = 8  # of right and of wrong answers each


def _choose_examples(is_right_N: np.ndarray, labels_N: np.ndarray) -> list[list[int]]:
    """Draw right and wrong answers, in each group from as many classes as it has."""
    order = np.random.default_rng(0).permutation(len(labels_N))
    chosen = []
    for wanted in (True, False):
        by_class: dict[int, list[int]] = {}
        for i in order[is_right_N[order] == wanted]:
            by_class.setdefault(int(labels_N[i]), []).append(int(i))
        turns = [(turn, i) for group in by_class.values() for turn, i in enumerate(group[:NUM_EXAMPLES])]
        chosen.append([i for _, i in sorted(turns, key=lambda pair: pair[0])][:NUM_EXAMPLES])
    return chosen


def _card(evaluation: Evaluation, names: list[str], record: Features, i: int) -> dict[str, Any]:
    found = evaluation.predictions
    true = int(found.labels[i])
    best = zip(found.ten_crop.labels[i].tolist(), found.ten_crop.probabilities[i].tolist(), strict=True)
    return {
        "source": photographs.inline(record),
        "name": names[true],
        "file": found.filenames[i],
        "guesses": [(names[label], 100 * share, label == true) for label, share in best],
    }


def html(evaluation: Evaluation) -> Markup:
    """Show photographs with their five best labels as the paper's Figure 4 does."""
    names, found = display_names(evaluation.classes), evaluation.predictions
    groups = _choose_examples(found.ten_crop.labels[:, 0] == found.labels, found.labels)
    records = data.read_examples(evaluation.dataset, evaluation.split, [i for group in groups for i in group])
    cards = [[_card(evaluation, names, records[i], i) for i in group] for group in groups]
    return render(__file__, groups=zip(("Right", "Wrong"), cards, strict=True))
