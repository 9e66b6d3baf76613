"""The report in ten lines of Markdown."""

from components.evaluate import metrics
from components.evaluate.report.evaluation import (
    PUBLISHED,
    PUBLISHED_2012,
    Evaluation,
    chance_errors,
    differences,
    display_names,
)
from components.shared.html import percent


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
    ours = [f"| {label} | {percent(top1)} | {percent(top5)} |" for label, top1, top5 in (first, second, chance)]
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
