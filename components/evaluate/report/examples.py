"""Section `examples`: photographs with their five likeliest classes, after Figure 4, left."""

from html import escape

import numpy as np

from components.evaluate import data
from components.evaluate.report import page, photographs
from components.evaluate.report.evaluation import Evaluation, display_names

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


def html(evaluation: Evaluation) -> str:
    """Show photographs with their five best labels as the paper's Figure 4 does."""
    names, found = display_names(evaluation.classes), evaluation.predictions
    groups = _choose_examples(found.ten_crop.labels[:, 0] == found.labels, found.labels)
    records = data.read_examples(evaluation.dataset, evaluation.split, [i for group in groups for i in group])
    parts = []
    for title, indices in zip(("Right", "Wrong"), groups, strict=True):
        cards = []
        for i in indices:
            true = int(found.labels[i])
            source = photographs.inline(records[i])
            best = zip(found.ten_crop.labels[i].tolist(), found.ten_crop.probabilities[i].tolist(), strict=True)
            guesses = "".join(
                f'<div class="guess{" true" if label == true else ""}"><i style="width:{100 * share:.1f}%"></i>'
                f"<span>{escape(names[label])}</span><span>{100 * share:.0f} %</span></div>"
                for label, share in best
            )
            alt = escape(f"{names[true]}, {found.filenames[i]}")
            cards.append(
                f'<div class="card"><img src="{source}" alt="{alt}" title="{alt}">'
                f"<h4>{escape(names[true])}</h4>{guesses}</div>"
            )
        if cards:
            parts.append(f'<h3>{title}</h3><div class="cards">{"".join(cards)}</div>')
    lead = (
        "Drawn blindly from the right and from the wrong answers, with the true class below each and the probabilities "
        "of the five likeliest by ten crops; the true class is tinted. After Figure 4 of the paper."
    )
    return page.section("examples", "Single images", page.text(lead), *parts)
