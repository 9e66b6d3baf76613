"""Section `errors`: the error rates beside the paper's, with their intervals and a verdict."""

from html import escape

from components.evaluate import metrics
from components.evaluate.report import page
from components.evaluate.report.evaluation import PUBLISHED, PUBLISHED_2012, Evaluation, chance_errors, verdict


def _interval(error: float, num_examples: float) -> str:
    low, high = metrics.binomial_interval(round(error * num_examples), int(num_examples))
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def _measured_row(label: str, numbers: dict[str, float], suffix: str = "") -> list[str]:
    cells = [label]
    for name in (f"top1_error{suffix}", f"top5_error{suffix}"):
        interval = _interval(numbers[name], numbers["num_examples"])
        cells += [page.bar(numbers[name], ours=True), f'<span class="note">{interval}</span>']
    return cells


def _plain_row(label: str, top1: float, top5: float, ours: bool = False) -> list[str]:
    return [label, page.bar(top1, ours), "", page.bar(top5, ours), ""]


def _single_rows(evaluation: Evaluation) -> list[list[str]]:
    """Make a row for each of several networks and one for their mean."""
    rows = [
        _measured_row(f"{escape(name)} alone", numbers)
        for name, numbers in zip(evaluation.names, evaluation.singles, strict=True)
    ]
    mean = evaluation.mean_single
    means = (mean["top1_error_mean_single"], mean["top5_error_mean_single"])
    rows.append(_plain_row("One network in the mean", *means, ours=True))
    return rows


def html(evaluation: Evaluation) -> str:
    """Show the measured errors, chance, and what the paper measured."""
    numbers, subject, several = evaluation.numbers, evaluation.subject, len(evaluation.models) > 1
    ours = [
        _measured_row(f"{subject}, ten crops", numbers),
        _measured_row(f"{subject}, centre crop", numbers, "_center"),
    ]
    singles = _single_rows(evaluation) if several else []
    chance = _plain_row(f"Chance, {len(evaluation.classes):,} classes", *chance_errors(len(evaluation.classes)))
    published = [_plain_row(f"Paper: {label}", top1 / 100, top5 / 100) for label, top1, top5 in PUBLISHED]
    notes = (
        "Top-5: the true class is not among the five likeliest. Ties go by rank, so every image has exactly five. The "
        "interval is Wilson's, from the number of images alone. The paper's rows are of the ILSVRC-2010 test set, "
        "150,000 images of 1,000 classes (Table 1; centre crop from its text)."
    )
    if several:
        published += [
            _plain_row(f"Paper, ILSVRC-2012: {label}", top1 / 100, top5 / 100) for label, top1, top5 in PUBLISHED_2012
        ]
        notes += (
            " The paper averaged networks on ILSVRC-2012 alone (Table 2, validation images): compare those two rows "
            "with each other, as the gain by averaging, and Table 1 with one network."
        )
    shared = {name: value for name, value in numbers.items() if name.endswith("_2012_ties")}
    if shared:
        listed = ", ".join(f"{name.removesuffix('_2012_ties')} {page.percent(value)}" for name, value in shared.items())
        notes += f" With the tie rule of the original code, which shares credit among equals: {listed}."
    kinds = ["ours"] * len(ours) + [""] * len(singles) + ["gap"] + [""] * len(published)
    return page.section(
        "errors",
        "Error rates",
        page.text(verdict(evaluation)),
        page.table(
            ["", "Top-1 error", "95 % interval", "Top-5 error", "95 % interval"],
            [*ours, *singles, chance, *published],
            kinds,
        ),
        page.text(notes, "note"),
    )
