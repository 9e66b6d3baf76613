"""Reports at the width of Kubeflow's panel, about 560 pixels, and of a telephone: tables may scroll, the page not."""

import dataclasses
import re

import numpy as np
import pytest
import tiny_artifacts
from browser import OVERFLOW, WIDTHS, shown_in_iframe
from jinja2 import UndefinedError
from markupsafe import Markup

from components.evaluate import job, predictions
from components.evaluate.metrics import confusion_matrix
from components.evaluate.report import classes, document, errors
from components.shared import html
from components.train.run import report as training_report

OPEN_ALL = "[...document.querySelectorAll('details')].map(e => { e.open = true; return e.open; }).length"


# How many tables scroll in their own box.
SCROLLING = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length"


def overflows(page, folder, expression=OVERFLOW):
    """By width, how many pixels the page is wider than its iframe, with everything unfolded."""
    with shown_in_iframe(page, folder) as shown:
        shown.evaluate(OPEN_ALL)
        found = {}
        for width in WIDTHS:
            shown.resize(width)
            found[width] = shown.evaluate(expression)
        return found


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """One network, and the average of three."""
    folder = tmp_path_factory.mktemp("report")
    artifacts, models = tiny_artifacts.make_networks(folder)
    log = job.RunLog("evaluate")
    return {
        len(given): job.evaluate(tiny_artifacts.configure(artifacts, folder, models=given), log)
        for given in (models[:1], models)
    }


def with_long_names(evaluation, num_classes):
    """The same with as many classes as the release has, named as long as its longest."""
    labels = np.arange(num_classes).repeat(3).astype(np.int32)
    found = predictions.metrics.rank(np.random.default_rng(0).dirichlet(np.ones(num_classes), len(labels)), labels)
    names = np.array([f"ILSVRC2010_test_{i:08d}.JPEG" for i in range(len(labels))])
    words = "common iguana, lattice-winged-pseudohymenopterous-archaeognathan, Iguana iguana"
    classes = [
        {**evaluation.classes[i % len(evaluation.classes)], "label": i, "words": words} for i in range(num_classes)
    ]
    content = {**evaluation.dataset.content, "classes": classes}
    return dataclasses.replace(
        evaluation,
        dataset=dataclasses.replace(evaluation.dataset, content=content),
        predictions=predictions.Predictions(labels, names, found, found),
        confusion_CC=confusion_matrix(found, labels, num_classes),
    )


@pytest.mark.parametrize("num_networks", [1, 3])
@pytest.mark.slow
def test_the_evaluation_report_fits(evaluations, num_networks, tmp_path):
    page = document.html(evaluations[num_networks])
    assert overflows(page, tmp_path) == dict.fromkeys(WIDTHS, 0)


@pytest.mark.slow
def test_long_names_fit(evaluations, tmp_path):
    evaluation = with_long_names(evaluations[3], 60)
    page = classes.html(evaluation) + errors.html(evaluation)
    page = html.page("classes", Markup(f"<h1>alexnet-2012{'+no-dropout' * 9}</h1>{page}"))
    assert overflows(page, tmp_path) == dict.fromkeys(WIDTHS, 0)


def training_page(recipe="alexnet-2012+no-dropout+no-crops+no-color-noise"):
    """A training report whose recipe has a long name."""
    numbers = {"validation_top1_error": 0.5, "validation_top5_error": 0.5, "num_parameters": 60_965_224}
    numbers |= {"num_steps": 2, "num_epochs": 2, "images_per_second": 90.1}
    facts = {
        "recipe": recipe,
        "TensorBoard": "tensorboard --logdir s3://a-bucket-with-a-long-name/alexnet/train/0123456789abcdef/logs",
        "model digest": "0123456789abcdef" * 4,
    }
    errors = ("train_loss", "validation_loss", "train_top1_error", "validation_top1_error", "validation_top5_error")
    history = [{"epoch": n, "learning_rate": 0.01, **dict.fromkeys(errors, 0.5)} for n in (1, 2)]
    timings = [{"step_ms": 90.0, "data_ms": 1.0}] * 2
    names = ("learning_rate", "bias_learning_rate", "conv1_learning_rate", "conv1_bias_learning_rate", "color_noise")
    cause = "drop 1: 10 epochs without a validation error below 0.375000"
    rates = [{"step": 0, "epoch": 1, **dict.fromkeys(names, 0.00001), "cause": cause}]
    kernels = [np.random.default_rng(0).normal(size=(11, 11, 3, 48)).astype(np.float32)] * 2
    return training_report.build(facts, numbers, history, timings, rates, kernels, 1000)


@pytest.mark.slow
def test_the_training_report_fits(tmp_path):
    page = training_page()
    assert overflows(page, tmp_path) == dict.fromkeys(WIDTHS, 0)
    scrolling = overflows(page, tmp_path, SCROLLING)
    assert scrolling == {1200: 0, 560: 0, 400: 1}  # the rates, on a telephone only


@pytest.mark.slow
def test_a_page_that_is_too_wide_is_seen(tmp_path):
    page = '<!doctype html><body style="margin:0"><div style="width:600px">wide</div>'
    assert overflows(page, tmp_path) == {width: max(0, 600 - width) for width in WIDTHS}


@pytest.mark.slow
def test_both_reports_have_one_look(evaluations):
    pages = [document.html(evaluations[1]), training_page()]
    style = (html.TEMPLATES_DIR / "style.css").read_text()
    heads = [re.sub("<title>.*</title>", "", page.partition("</head>")[0]) for page in pages]
    assert heads[0] == heads[1]
    assert f"<style>\n{style}</style>" in heads[0]
    assert "default-src 'none'" in heads[0]


@pytest.mark.slow
def test_the_training_report_escapes_names():
    name = "<script>&\"'"
    page = training_page(name)
    assert name not in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;&amp;&#34;&#39;") == 3  # title, heading, facts


def test_what_a_template_lacks_is_an_error(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "section.html").write_text("<p>{{ present }} {{ absent }}</p>")
    with pytest.raises(UndefinedError, match="'absent' is undefined"):
        html.render(str(tmp_path / "section.py"), present=1)
    assert html.render(str(tmp_path / "section.py"), present="<b>", absent=Markup("<i>")) == "<p>&lt;b&gt; <i></p>"
