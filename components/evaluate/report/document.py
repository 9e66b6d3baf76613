"""The report: how well the networks see, beside the paper, and what that rests on."""

from components.evaluate.report import (
    classes,
    dataset,
    errors,
    examples,
    filters,
    neighbours,
    run,
    statistics,
    training,
)
from components.evaluate.report.evaluation import PUBLISHED_2012, Evaluation, chance_errors
from components.shared.html import page, percent, render

TITLE = "AlexNet of 2012, measured again"
# Each is a module whose name is the section's anchor in the page.
SECTIONS = (errors, training, filters, examples, neighbours, classes, dataset, statistics, run)


def _tiles(evaluation: Evaluation) -> list[tuple[str, str]]:
    numbers = evaluation.numbers
    chance = chance_errors(len(evaluation.classes))
    base, label = numbers["top1_error_center"], "points of top-1 that ten crops gain over the centre crop; paper +1.5"
    if len(evaluation.models) > 1:
        base = evaluation.mean_single["top1_error_mean_single"]
        label = (
            f"points of top-1 that averaging {len(evaluation.models)} networks gains over one of them; "
            f"paper {PUBLISHED_2012[0][1] - PUBLISHED_2012[1][1]:+.1f} with 5"
        )
    gain = 100 * (base - numbers["top1_error"])
    return [
        (percent(numbers["top1_error"]), f"top-1 error, ten crops; chance {percent(chance[0])}"),
        (percent(numbers["top5_error"]), f"top-5 error, ten crops; chance {percent(chance[1])}"),
        (f"{gain:+.1f}".replace("-", "−"), label),
        (
            f"{numbers['num_examples']:,}",
            f"{evaluation.split} images of {len(evaluation.classes):,} classes, each counted once",
        ),
    ]


def html(evaluation: Evaluation) -> str:
    """Write the whole report as one page that fetches nothing."""
    body = render(
        __file__,
        title=TITLE,
        recipes=list(dict.fromkeys(model.content["recipe_name"] for model in evaluation.models)),
        release=evaluation.dataset.content["release"],
        num_classes=len(evaluation.classes),
        num_networks=len(evaluation.models),
        split=evaluation.split,
        tiles=_tiles(evaluation),
        sections=[section.html(evaluation) for section in SECTIONS],
    )
    return page(f"{TITLE}: {percent(evaluation.numbers['top1_error'])} top-1 error", body)
