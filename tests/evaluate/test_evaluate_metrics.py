"""Errors, ties and confusion: the numbers of the fidelity reference and properties over random probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluate import metrics

TIES = settings(derandomize=True, max_examples=200, deadline=None)


def ranked(rows, labels):
    labels = np.array(labels)
    return metrics.rank(np.array(rows, np.float64), labels), labels


@st.composite
def predictions_with_ties(draw):
    num_classes = draw(st.integers(1, 9))
    rows = draw(
        st.lists(st.lists(st.integers(0, 3), min_size=num_classes, max_size=num_classes), min_size=1, max_size=6)
    )
    labels = draw(st.lists(st.integers(0, num_classes - 1), min_size=len(rows), max_size=len(rows)))
    return np.array(rows, np.float64), np.array(labels)


def test_t30_averaging_is_of_probabilities():
    probabilities = np.mean([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], axis=0)
    ranking, _ = ranked([probabilities], [0])
    np.testing.assert_allclose(probabilities, [0.35, 0.5, 0.15])
    assert ranking.labels[0].tolist() == [1, 0, 2]
    assert metrics.negative_log_likelihood(ranking) == pytest.approx(1.049822, abs=1e-6)


@pytest.mark.parametrize(
    ("num_larger", "num_equal", "credit"), [(4, 2, 0.5), (5, 1, 0.0), (3, 2, 1.0), (0, 1, 1.0), (4, 1, 1.0)]
)
def test_t31_2012_tie_credit(num_larger, num_equal, credit):
    row = [0.5] * num_equal + [0.9] * num_larger + [0.1] * 5
    ranking, _ = ranked([row], [num_equal - 1])
    assert metrics.tie_credit(ranking, 5).tolist() == [credit]


def test_t31_2012_tie_credit_of_equal_outputs():
    ranking, _ = ranked(np.full((1, 1000), 0.001), [7])
    assert metrics.tie_credit(ranking, 1)[0] == pytest.approx(0.001)
    assert metrics.tie_credit(ranking, 5)[0] == pytest.approx(0.005)


@pytest.mark.slow
def test_t32_constant_predictor_on_the_validation_set():
    labels = np.arange(1000).repeat(50)
    ranking = metrics.rank(np.broadcast_to(np.full(1000, 0.001), (50_000, 1000)), labels)
    assert metrics.num_errors(ranking, labels, 1) == 49_950
    assert metrics.num_errors(ranking, labels, 5) == 49_750


@pytest.mark.slow
@given(predictions_with_ties())
@TIES
def test_every_image_has_each_class_in_one_place(case):
    rows, _ = case
    num_classes = rows.shape[1]
    all_labels = np.arange(num_classes)
    for row in rows:
        ranking = metrics.rank(np.broadcast_to(row, (num_classes, num_classes)), all_labels)
        for num_best in range(1, min(5, num_classes) + 1):
            # Whatever ties, exactly num_best of the possible true labels are hits; shared credit agrees in sum.
            assert metrics.num_errors(ranking, all_labels, num_best) == num_classes - num_best
            assert metrics.tie_credit(ranking, num_best).sum() == pytest.approx(num_best)


@given(predictions_with_ties())
@TIES
@pytest.mark.slow
def test_ranking_agrees_with_sorting(case):
    rows, labels = case
    ranking = metrics.rank(rows, labels)
    for i, row in enumerate(rows):
        expected = sorted(range(len(row)), key=lambda c: (-row[c], c))[:5]
        assert ranking.labels[i].tolist() == expected
        assert ranking.probabilities[i].tolist() == [row[c] for c in expected]
        assert ranking.num_larger[i] == sum(p > row[labels[i]] for p in row)
        assert ranking.num_equal[i] == sum(p == row[labels[i]] for p in row)


@given(predictions_with_ties(), st.integers(2, 9))
@TIES
@pytest.mark.slow
def test_grouped_confusion_keeps_every_image(case, max_groups):
    rows, labels = case
    num_classes = rows.shape[1]
    confusion = metrics.confusion_matrix(metrics.rank(rows, labels), labels, num_classes)
    assert confusion.sum() == len(labels)
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(labels, minlength=num_classes))
    names, grouped = metrics.group_confusion(confusion, [f"c{i}" for i in range(num_classes)], max_groups)
    assert len(names) == len(grouped) == min(num_classes, max_groups)
    assert np.sum(grouped) == len(labels)


def test_grouping_keeps_the_most_confused():
    confusion = np.diag([5, 5, 5, 5])
    confusion[1, 3] = 4
    assert metrics.group_confusion(confusion, list("abcd"), 3) == (
        ["b", "d", "other"],
        [[5, 4, 0], [0, 5, 0], [0, 0, 10]],
    )
    assert metrics.most_confused(confusion, 5) == [(1, 3, 4)]


def test_a_probability_of_zero_stays_finite():
    ranking, _ = ranked([[1.0, 0.0]], [1])
    assert 700 < metrics.negative_log_likelihood(ranking) < 710


def test_binomial_interval():
    # Wilson's interval of 0 of 10 is [0, z^2 / (10 + z^2)].
    assert metrics.binomial_interval(0, 10) == (0.0, pytest.approx(0.277533, abs=1e-5))
    low, high = metrics.binomial_interval(56_209, 150_000)
    assert (round(low, 4), round(high, 4)) == (0.3723, 0.3772)
