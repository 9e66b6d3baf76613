"""The sections of the report that show what was learned and what was said: curves, filters, photographs, classes."""

from collections.abc import Callable
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np

from components.evaluate import data, figures, metrics, page
from components.evaluate.evaluation import Evaluation, chance_errors, display_names, training_speed
from components.shared.records import Features
from components.shared.runlog import format_seconds

NUM_EXAMPLES = 8  # of right and of wrong answers each
NUM_PAIRS = 12
LONG_TABLE = 24  # rows that are shown without a scroll bar


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


def training(evaluation: Evaluation) -> str:
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


def color_share(kernels_HWCF: np.ndarray) -> float:
    """Compute the mean share of a kernel's energy that is off the grey axis: 0 for black and white, 1 for pure colour.

    Args:
        kernels_HWCF: [H, W, 3, F], RGB.
    """
    energy_F = np.square(kernels_HWCF).sum(axis=(0, 1, 2))
    grey_F = np.square(kernels_HWCF.sum(axis=2)).sum(axis=(0, 1)) / 3
    return float(np.mean(1 - grey_F / np.maximum(energy_F, 1e-30)))


def filters(evaluation: Evaluation) -> str:
    """Show the kernels of the first layer as the paper's Figure 3 does."""
    towers = evaluation.first.network.input_kernels()
    count = sum(kernels.shape[3] for kernels in towers)
    height, width = towers[0].shape[:2]
    shares = [f"{page.percent(color_share(kernels))}" for kernels in towers]
    if len(towers) == 2:
        layout = f"Tower a above, tower b below. Energy off the grey axis: {shares[0]} in a, {shares[1]} in b. "
        layout += "The paper saw one tower turn largely to colour and the other away from it, in every run."
    else:
        layout = f"One tower. Energy off the grey axis: {shares[0]}."
    caption = f"{layout} Each tower is stretched over its own range."
    lead = (
        f"The {count} kernels of {height}×{width}×3 that {evaluation.first_name} looks at a photograph with; "
        "Figure 3 of the paper."
    )
    picture = figures.filter_sheet(towers)
    return page.section(
        "filters",
        "First-layer kernels",
        page.text(lead),
        page.figure(picture, "Kernels of the first convolution", caption),
    )


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


def _photograph(record: Features, **options: Any) -> str:
    """Inline a photograph of the dataset."""
    image_HWC = data.decode(record["image/encoded"]).numpy()
    return page.data_uri(figures.thumbnail(image_HWC, **options), "image/jpeg")


def examples(evaluation: Evaluation) -> str:
    """Show photographs with their five best labels as the paper's Figure 4 does."""
    names, found = display_names(evaluation.classes), evaluation.predictions
    groups = _choose_examples(found.ten_crop.labels[:, 0] == found.labels, found.labels)
    records = data.read_examples(evaluation.dataset, evaluation.split, [i for group in groups for i in group])
    parts = []
    for title, indices in zip(("Right", "Wrong"), groups, strict=True):
        cards = []
        for i in indices:
            true = int(found.labels[i])
            source = _photograph(records[i])
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


def _neighbour(record: Features, names: list[str], kind: str, distance: str = "") -> str:
    name = escape(names[record["image/class/label"]])
    alt = f"{name}, {escape(record['image/filename'].decode())}{distance}"
    picture = f'<img src="{_photograph(record, size=128)}" alt="{alt}" title="{alt}">'
    return f'<div class="{kind}">{picture}<span>{name}</span></div>'


def neighbours(evaluation: Evaluation) -> str:
    """Show the training photographs nearest to a few others as the right half of the paper's Figure 4 does."""
    names, found = display_names(evaluation.classes), evaluation.neighbours
    title = "Nearest training images"
    if not found.queries:
        return page.section("neighbours", title, page.text("The dataset has no training images."))
    cells, num_same = [], 0
    for query in found.queries:
        cells.append(_neighbour(query.record, names, "query"))
        for record, distance in zip(query.nearest, query.distances, strict=True):
            is_same = record["image/class/label"] == query.record["image/class/label"]
            num_same += is_same
            cells.append(_neighbour(record, names, "same" if is_same else "", f", at {distance:.4g}"))
    num_nearest = sum(len(query.nearest) for query in found.queries)
    lead = (
        f"On the left {evaluation.split} photographs, drawn blindly, one of a class; beside each the training "
        f"photographs nearest to it, by the Euclidean distance of the {found.num_features:,} features in the last "
        f"hidden layer of {evaluation.first_name}, centre crop. {num_same} of {num_nearest} are of its class (tinted); "
        f"chance is 1 in {len(names):,}. After Figure 4 of the paper, which searched all training images; here it is "
        f"{found.num_images:,} of them, at most {found.num_per_class} of a class."
    )
    return page.section("neighbours", title, page.text(lead), f'<div class="neighbours">{"".join(cells)}</div>')


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


def classes(evaluation: Evaluation) -> str:
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
