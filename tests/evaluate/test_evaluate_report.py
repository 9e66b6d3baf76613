"""The report: whole, self-contained, well-formed, and honest about what it may be compared with."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import tiny_artifacts
from PIL import Image

from components.evaluate import job, predictions
from components.evaluate.metrics import confusion_matrix
from components.evaluate.report import classes as class_section
from components.evaluate.report import document, examples, figures, filters, summary
from components.evaluate.report.evaluation import differences, verdict
from components.shared.figures import filter_sheet
from components.shared.html import percent

VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """One network, and the average of three."""
    folder = tmp_path_factory.mktemp("report")
    artifacts, models = tiny_artifacts.make_networks(folder)
    log = job.RunLog("evaluate")
    return [
        job.evaluate(tiny_artifacts.configure(artifacts, folder, models=given), log) for given in (models[:1], models)
    ]


@pytest.fixture
def evaluation(evaluations):
    return evaluations[0]


@pytest.fixture
def average(evaluations):
    return evaluations[1]


class Checker(HTMLParser):
    """Collects ids, pictures and text, and fails on a tag that does not match."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.pictures, self.links, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "img":
            self.pictures.append(attributes)
        self.links += [v for k, v in attrs if k in ("href", "src", "srcset", "action", "data", "poster")]
        assert tag not in ("script", "link", "iframe", "object", "base")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("which", ["one network", "average of three"])
@pytest.mark.slow
def test_report_is_self_contained_and_whole(evaluations, which):
    evaluation = evaluations[which != "one network"]
    text = document.html(evaluation)
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert tuple(checker.ids) == tuple(section.__name__.rpartition(".")[2] for section in document.SECTIONS)
    assert all(link.startswith("data:image/") for link in checker.links)
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import", without_pictures)
    assert len(text) < 2_000_000
    for picture in checker.pictures:
        assert picture["alt"]
        with Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1]))) as image:
            image.load()
    shown = checker.text
    for fact in (
        "37.5\u00a0%",
        "17.0\u00a0%",
        "39.0\u00a0%",
        "18.3\u00a0%",
        "rose & thorn <red>",
        *(model.digest for model in evaluation.models),
    ):
        assert fact in shown
    assert percent(evaluation.numbers["top1_error"]) in shown


@pytest.mark.slow
def test_report_is_the_same_twice(evaluation):
    assert document.html(evaluation) == document.html(evaluation)


def text_of(html):
    checker = Checker()
    checker.feed(html)
    return checker.text.replace("\n", " ")


@pytest.mark.slow
def test_average_stands_beside_each_network_and_the_papers_averages(average):
    shown = text_of(document.html(average))
    assert average.names == ["smoke, seed 0", "smoke, seed 1", "smoke+one-tower, seed 0"]
    for fact in (
        "Average of 3 networks, ten crops",
        "Average of 3 networks, centre crop",
        *(f"{name} alone" for name in average.names),
        "One network in the mean",
        "Paper: AlexNet, ten crops37.5\u00a0%",
        "Paper, ILSVRC-2012: 1 CNN40.7\u00a0%",
        "Paper, ILSVRC-2012: 5 CNNs38.1\u00a0%",
        "points of top-1 that averaging 3 networks gains over one of them; paper +2.6 with 5",
        "kernels of 11×11×3 that the first network (smoke, seed 0) looks at",
        "3 networks of 5 epochs, 20 steps each, in 0:30 of training",
        "Every setting of the recipe smoke+one-tower",
    ):
        assert fact in shown
    for name, numbers in zip(average.names, average.singles, strict=True):
        assert f"{name} alone{percent(numbers['top1_error'])}" in shown
    assert f"in the mean{percent(average.mean_single['top1_error_mean_single'])}" in shown


@pytest.mark.slow
def test_one_network_is_told_nothing_of_averages(evaluation):
    shown = text_of(document.html(evaluation))
    for word in ("Average", "averag", "ILSVRC-2012: ", "networks", "seed 0)"):
        assert word not in shown


def test_networks_are_named_by_what_tells_them_apart(average):
    def names(*contents):
        models = [
            dataclasses.replace(average.models[0], content={**average.models[0].content, **content})
            for content in contents
        ]
        return dataclasses.replace(average, models=models).names, [model.digest[:8] for model in models]

    assert names({"seed": 3}, {"seed": 5})[0] == ["seed 3", "seed 5"]
    assert names({"recipe_name": "a"}, {"recipe_name": "b"})[0] == ["a, seed 0", "b, seed 0"]
    found, digests = names({"num_epochs": 5}, {"num_epochs": 9}, {"seed": 2})
    assert found == [f"seed 0, {digests[0]}", f"seed 0, {digests[1]}", "seed 2"]


@pytest.mark.slow
def test_names_are_escaped(evaluation):
    words = "<script>&\"'"
    classes = [{**entry, "words": words} for entry in evaluation.classes]
    content = {**evaluation.dataset.content, "classes": classes, "release": words}
    text = document.html(
        dataclasses.replace(evaluation, dataset=dataclasses.replace(evaluation.dataset, content=content))
    )
    assert words not in text
    assert "<script" not in text
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert f"on {words}, 6 classes" in checker.text.replace("\n", " ")
    assert any(picture["alt"].startswith(f"{words} (n0000000") for picture in checker.pictures)


def test_summary_has_ten_lines(evaluation, average):
    for entry, label in ((evaluation, "this run"), (average, "average of 3 networks")):
        lines = summary.markdown(entry).splitlines()
        assert len(lines) == 10
        assert f"| {label}, ten crops | {percent(entry.numbers['top1_error'])} |" in lines[2]
    mean = percent(average.mean_single["top1_error_mean_single"])
    assert lines[3].startswith(f"| one network in the mean | {mean} |")
    assert "3 networks of smoke and smoke+one-tower: smoke, seed 0; smoke, seed 1; smoke+one-tower" in lines[8]


def alike(evaluation):
    """The evaluation as if it were the experiment of Table 1."""
    dataset = dataclasses.replace(evaluation.dataset, content={**evaluation.dataset.content, "release": "ILSVRC-2010"})
    models = [
        dataclasses.replace(model, content={**model.content, "recipe_name": "alexnet-2012"})
        for model in evaluation.models
    ]
    numbers = {**evaluation.numbers, "num_examples": 150_000, "top1_error": 0.3751}
    made = dataclasses.replace(evaluation.made, content={**evaluation.made.content, "metrics": numbers})
    single = {"num_examples": 150_000, "num_top1_errors": 56_265, "num_top5_errors": 25_500}  # 37.51 and 17 %
    singles = [single] * len(models)
    return dataclasses.replace(evaluation, dataset=dataset, models=models, made=made, singles=singles)


def test_comparison_needs_the_same_experiment(evaluation):
    same = alike(evaluation)
    assert differences(same) == []
    assert "Like for like" in verdict(same)
    assert "+0.0 points" in verdict(same)
    for part, change, reason in (
        ("dataset", {"release": "mini"}, "not ILSVRC-2010"),
        ("dataset", {"subset": "classes=10"}, "only the subset classes=10"),
        ("model", {"recipe_name": "smoke"}, "recipe is smoke"),
        ("model", {"num_epochs": 1}, "1 epochs, not 5"),
        ("made", {"split": "validation"}, "validation images"),
        ("made", {"metrics": {**same.numbers, "num_examples": 10}}, "10 test images"),
    ):
        entry = same.models[0] if part == "model" else getattr(same, part)
        changed = dataclasses.replace(entry, content={**entry.content, **change})
        other = dataclasses.replace(same, **({"models": [changed]} if part == "model" else {part: changed}))
        (found,) = differences(other)
        assert reason in found
        assert verdict(other).startswith("Not like for like")


def test_average_is_compared_network_by_network(average):
    same = alike(average)
    assert differences(same) == []
    assert "each network has the same data" in verdict(same)
    assert "of one network, in the mean, is +0.0 points" in verdict(same)
    assert "the recipe is smoke and smoke+one-tower, not alexnet-2012" in verdict(average)
    shorter = dataclasses.replace(same.models[1], content={**same.models[1].content, "num_epochs": 2})
    other = dataclasses.replace(same, models=[same.models[0], shorter, same.models[2]])
    assert differences(other) == ["training lasted 2 epochs, not 5"]


def test_filters_are_laid_out_as_in_figure_3():
    towers = [np.zeros((11, 11, 3, 48), np.float32), np.ones((11, 11, 3, 48), np.float32)]
    towers[0][0, 0, 0, 17] = 2.0  # second row, second column
    towers[1][..., 0] = -1.0
    with Image.open(io.BytesIO(filter_sheet(towers, scale=1))) as image:
        sheet = np.asarray(image)
    assert sheet.shape == (37 + 4 + 37, 16 * 12 + 1, 3)
    assert sheet[13, 13].tolist() == [255, 0, 0]
    assert sheet[13, 14].tolist() == [0, 0, 0]
    assert (sheet[:, 0] == 255).all()
    assert (sheet[12, :] == 255).all()
    assert sheet[42, 1].tolist() == [0, 0, 0]
    assert sheet[42, 13].tolist() == [255, 255, 255]


def test_color_share():
    grey = np.full((11, 11, 3, 2), 0.5)
    pure = np.stack([np.full((11, 11, 2), v) for v in (1.0, -1.0, 0.0)], axis=2)
    assert filters.color_share(grey) == pytest.approx(0)
    assert filters.color_share(pure) == pytest.approx(1)
    assert filters.color_share(np.concatenate([grey, pure], axis=3)) == pytest.approx(0.5)


def test_examples_are_right_and_wrong_and_varied():
    labels = np.repeat(np.arange(20), 10)
    is_right = np.arange(200) % 2 == 0
    right, wrong = examples._choose_examples(is_right, labels)
    assert len(right) == len(wrong) == examples.NUM_EXAMPLES
    assert is_right[right].all() and not is_right[wrong].any()
    assert len(set(labels[right])) == len(set(labels[wrong])) == examples.NUM_EXAMPLES


@pytest.mark.parametrize("num_classes", [2, 12, 40, 300])
@pytest.mark.slow
def test_confusion_picture(num_classes):
    counts = np.random.default_rng(0).integers(0, 3, (num_classes, num_classes)) + 10 * num_classes * np.eye(
        num_classes, dtype=int
    )
    with Image.open(io.BytesIO(figures.confusion(counts, [f"class {i}" for i in range(num_classes)]))) as image:
        assert 700 < image.width <= 1848
        assert image.convert("L").getextrema()[0] < 80


@pytest.mark.slow
def test_thousand_classes_stay_below_two_megabytes(evaluation):
    """The report of the full release: a thousand rows, a thousand by thousand matrix."""
    num_classes = 1000
    rng = np.random.default_rng(0)
    labels = np.arange(num_classes).repeat(3).astype(np.int32)
    found = predictions.metrics.rank(rng.dirichlet(np.ones(num_classes), len(labels)), labels)
    names = np.array([f"ILSVRC2010_test_{i:08d}.JPEG" for i in range(len(labels))])
    classes = [
        {**evaluation.classes[0], "label": i, "wnid": f"n{i:08d}", "words": f"a class with a long name {i}, other"}
        for i in range(num_classes)
    ]
    dataset = dataclasses.replace(evaluation.dataset, content={**evaluation.dataset.content, "classes": classes})
    whole = predictions.Predictions(labels, names, found, found)
    full = dataclasses.replace(
        evaluation, dataset=dataset, predictions=whole, confusion_CC=confusion_matrix(found, labels, num_classes)
    )
    text = class_section.html(full)
    assert len(text) < 1_200_000
    assert text.count("a class with a long name") > num_classes
