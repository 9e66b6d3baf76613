"""The report: one HTML file that says how well the network sees, beside the paper, and what that rests on."""

from html import escape

from components.evaluate import metrics, page, panels, provenance
from components.evaluate.evaluation import PUBLISHED, Evaluation, chance_errors, differences, display_names, verdict

TITLE = "AlexNet of 2012, measured again"
SECTIONS = ("errors", "training", "filters", "examples", "classes", "dataset", "statistics", "run")


def _interval(error: float, num_examples: float) -> str:
    low, high = metrics.binomial_interval(round(error * num_examples), int(num_examples))
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _tiles(evaluation: Evaluation) -> str:
    numbers = evaluation.numbers
    chance = chance_errors(len(evaluation.classes))
    gain = 100 * (numbers["top1_error_center"] - numbers["top1_error"])
    tiles = (
        (page.percent(numbers["top1_error"]), f"top-1 error, ten crops; chance {page.percent(chance[0])}"),
        (page.percent(numbers["top5_error"]), f"top-5 error, ten crops; chance {page.percent(chance[1])}"),
        (f"{gain:+.1f}".replace("-", "−"), "points of top-1 that ten crops gain over the centre crop; paper +1.5"),
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


def _errors(evaluation: Evaluation) -> str:
    numbers = evaluation.numbers
    rows, kinds = [], []
    for label, suffix in (("This run, ten crops", ""), ("This run, centre crop", "_center")):
        cells = [label]
        for name in (f"top1_error{suffix}", f"top5_error{suffix}"):
            cells += [
                page.bar(numbers[name]),
                f'<span class="note">{_interval(numbers[name], numbers["num_examples"])}</span>',
            ]
        rows.append(cells)
        kinds.append("ours")
    chance = chance_errors(len(evaluation.classes))
    rows.append([f"Chance, {len(evaluation.classes):,} classes", page.bar(chance[0]), "", page.bar(chance[1]), ""])
    kinds.append("gap")
    for label, top1, top5 in PUBLISHED:
        rows.append([f"Paper: {label}", page.bar(top1 / 100), "", page.bar(top5 / 100), ""])
        kinds.append("")
    headings = ["", "Top-1 error", "95 % interval", "Top-5 error", "95 % interval"]
    notes = (
        "Top-5: the true class is not among the five likeliest. Ties go by rank, so every image has exactly five. The "
        "interval is Wilson's, from the number of images alone. The paper's rows are of the ILSVRC-2010 test set, "
        "150,000 images of 1,000 classes (Table 1; centre crop from its text)."
    )
    shared = {name: value for name, value in numbers.items() if name.endswith("_2012_ties")}
    if shared:
        listed = ", ".join(f"{name.removesuffix('_2012_ties')} {page.percent(value)}" for name, value in shared.items())
        notes += f" With the tie rule of the original code, which shares credit among equals: {listed}."
    return page.section(
        "errors",
        "Error rates",
        page.text(verdict(evaluation)),
        page.table(headings, rows, kinds),
        page.text(notes, "note"),
    )


def html(evaluation: Evaluation) -> str:
    """Write the whole report as one page that fetches nothing."""
    content = evaluation.dataset.content
    lead = (
        f"Recipe {evaluation.model.content['recipe_name']} on {content['release']}, {len(evaluation.classes):,} "
        f"classes, measured on the {evaluation.split} split as Krizhevsky, Sutskever and Hinton measured theirs."
    )
    body = [
        f"<header><h1>{escape(TITLE)}</h1>{page.text(lead, 'lead')}</header>",
        _tiles(evaluation),
        _errors(evaluation),
        panels.training(evaluation),
        panels.filters(evaluation),
        panels.examples(evaluation),
        panels.classes(evaluation),
        provenance.dataset(evaluation),
        provenance.statistics(evaluation),
        provenance.run(evaluation),
    ]
    return page.document(f"{TITLE}: {page.percent(evaluation.numbers['top1_error'])} top-1 error", "\n".join(body))


def markdown(evaluation: Evaluation) -> str:
    """Write the report in ten lines."""
    numbers, content, model = evaluation.numbers, evaluation.dataset.content, evaluation.model.content
    chance = chance_errors(len(evaluation.classes))
    pairs = metrics.most_confused(evaluation.confusion_CC, 1)
    names = display_names(evaluation.classes)
    worst = f"{names[pairs[0][0]]} taken for {names[pairs[0][1]]}, {pairs[0][2]} times" if pairs else "none"
    like = "like for like with the paper" if not differences(evaluation) else "not like for like with the paper"
    return f"""| {evaluation.split}, {numbers["num_examples"]:,} images | top-1 error | top-5 error |
| --- | ---: | ---: |
| this run, ten crops | {page.percent(numbers["top1_error"])} | {page.percent(numbers["top5_error"])} |
| this run, centre crop | {page.percent(numbers["top1_error_center"])} | {page.percent(numbers["top5_error_center"])} |
| chance, {len(evaluation.classes):,} classes | {page.percent(chance[0])} | {page.percent(chance[1])} |
| paper, ten crops (ILSVRC-2010 test) | {PUBLISHED[0][1]} % | {PUBLISHED[0][2]} % |
| paper, centre crop (ILSVRC-2010 test) | {PUBLISHED[1][1]} % | {PUBLISHED[1][2]} % |

{content["release"]}, recipe {model["recipe_name"]}, {model["num_epochs"]} epochs, seed {model["seed"]}: {like}.
Commonest mistake: {worst}.
"""
