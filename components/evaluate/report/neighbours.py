"""Section `neighbours`: training photographs nearest to test photographs, after Figure 4, right."""

from html import escape

from components.evaluate.report import page, photographs
from components.evaluate.report.evaluation import Evaluation, display_names
from components.shared.records import Features


def _neighbour(record: Features, names: list[str], kind: str, distance: str = "") -> str:
    name = escape(names[record["image/class/label"]])
    alt = f"{name}, {escape(record['image/filename'].decode())}{distance}"
    picture = f'<img src="{photographs.inline(record, size=128)}" alt="{alt}" title="{alt}">'
    return f'<div class="{kind}">{picture}<span>{name}</span></div>'


def html(evaluation: Evaluation) -> str:
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
