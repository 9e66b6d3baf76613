"""The report: one HTML file that says how well the networks see, beside the paper, and what that rests on."""

from html import escape

from components.evaluate import metrics, page, panels, provenance
from components.evaluate.evaluation import (
    PUBLISHED,
    PUBLISHED_2012,
    Evaluation,
    chance_errors,
    differences,
    display_names,
    verdict,
)

TITLE = "AlexNet of 2012, measured again"
SECTIONS = ("errors", "training", "filters", "examples", "neighbours", "classes", "dataset", "statistics", "run")


def _interval(error: float, num_examples: float) -> str:
    low, high = metrics.binomial_interval(round(error * num_examples), int(num_examples))
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def _tiles(evaluation: Evaluation) -> str:
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
    tiles = (
        (page.percent(numbers["top1_error"]), f"top-1 error, ten crops; chance {page.percent(chance[0])}"),
        (page.percent(numbers["top5_error"]), f"top-5 error, ten crops; chance {page.percent(chance[1])}"),
        (f"{gain:+.1f}".replace("-", "−"), label),
        (
            f"{numbers['num_examples']:,}",
            f"{evaluation.split} images of {len(evaluation.classes):,} classes, each counted once",
        ),
    )
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>' for value, label in tiles
        )
        + "</div>"
    )


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


def _errors(evaluation: Evaluation) -> str:
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


def html(evaluation: Evaluation) -> str:
    """Write the whole report as one page that fetches nothing."""
    content = evaluation.dataset.content
    recipes = " and ".join(dict.fromkeys(model.content["recipe_name"] for model in evaluation.models))
    networks = "" if len(evaluation.models) == 1 else f", {len(evaluation.models)} networks averaged"
    lead = (
        f"Recipe {recipes} on {content['release']}, {len(evaluation.classes):,} classes{networks}, "
        f"measured on the {evaluation.split} split as Krizhevsky, Sutskever and Hinton measured theirs."
    )
    body = [
        f"<header><h1>{escape(TITLE)}</h1>{page.text(lead, 'lead')}</header>",
        _tiles(evaluation),
        _errors(evaluation),
        panels.training(evaluation),
        panels.filters(evaluation),
        panels.examples(evaluation),
        panels.neighbours(evaluation),
        panels.classes(evaluation),
        provenance.dataset(evaluation),
        provenance.statistics(evaluation),
        provenance.run(evaluation),
    ]
    return page.document(f"{TITLE}: {page.percent(evaluation.numbers['top1_error'])} top-1 error", "\n".join(body))


def markdown(evaluation: Evaluation) -> str:
    """Write the report in ten lines."""
    numbers, content, model = evaluation.numbers, evaluation.dataset.content, evaluation.models[0].content
    several = len(evaluation.models) > 1
    second = ("this run, centre crop", numbers["top1_error_center"], numbers["top5_error_center"])
    last = ("paper, centre crop (ILSVRC-2010 test)", *PUBLISHED[1][1:])
    if several:
        mean = evaluation.mean_single
        second = ("one network in the mean", mean["top1_error_mean_single"], mean["top5_error_mean_single"])
        last = (f"paper, {PUBLISHED_2012[1][0]} (ILSVRC-2012 validation)", *PUBLISHED_2012[1][1:])
    chance = (f"chance, {len(evaluation.classes):,} classes", *chance_errors(len(evaluation.classes)))
    first = (f"{evaluation.subject.lower()}, ten crops", numbers["top1_error"], numbers["top5_error"])
    ours = [
        f"| {label} | {page.percent(top1)} | {page.percent(top5)} |" for label, top1, top5 in (first, second, chance)
    ]
    paper = [
        f"| {label} | {top1} % | {top5} % |"
        for label, top1, top5 in (("paper, ten crops (ILSVRC-2010 test)", *PUBLISHED[0][1:]), last)
    ]
    rows = "\n".join([*ours, *paper])
    trained = f"recipe {model['recipe_name']}, {model['num_epochs']} epochs, seed {model['seed']}"
    if several:
        recipes = dict.fromkeys(entry.content["recipe_name"] for entry in evaluation.models)
        trained = f"{len(evaluation.models)} networks of {' and '.join(recipes)}: {'; '.join(evaluation.names)}"
    pairs = metrics.most_confused(evaluation.confusion_CC, 1)
    names = display_names(evaluation.classes)
    worst = f"{names[pairs[0][0]]} taken for {names[pairs[0][1]]}, {pairs[0][2]} times" if pairs else "none"
    like = ("each " if several else "") + "like for like with the paper"
    if differences(evaluation):
        like = "not like for like with the paper"
    return f"""| {evaluation.split}, {numbers["num_examples"]:,} images | top-1 error | top-5 error |
| --- | ---: | ---: |
{rows}

{content["release"]}, {trained}: {like}.
Commonest mistake: {worst}.
"""
