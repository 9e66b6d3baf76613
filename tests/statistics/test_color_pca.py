"""Mean, covariance and principal components from integer sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import published
from components.statistics.color_pca import (
    angle_degrees,
    color_pca,
    summarize,
    symmetric_eigen,
)
from components.statistics.sums import Sums


def sums_of(images_NHWC: np.ndarray) -> Sums:
    wide = images_NHWC.astype(np.int64)
    pixels = wide.reshape(-1, 3)
    return Sums(wide.sum(axis=0), pixels.T @ pixels, np.array(len(wide)))


def test_against_numpy_and_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 200, (5, 256, 256, 1))
    images_NHWC = (grey + rng.integers(0, 56, (5, 256, 256, 3)) * [1, 0.5, 0.25]).astype(np.uint8)
    found = color_pca(sums_of(images_NHWC))
    pixels = images_NHWC.reshape(-1, 3).astype(np.float64)
    assert found["num_pixels"] == len(pixels)
    np.testing.assert_allclose(found["mean_rgb"], pixels.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found["rgb_covariance"], np.cov(pixels.T, bias=True), rtol=1e-12)
    vectors = np.array(found["eigenvectors"])
    np.testing.assert_allclose(vectors.T @ np.diag(found["eigenvalues"]) @ vectors, found["rgb_covariance"], rtol=1e-12)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-14)
    assert found["eigenvalues"] == sorted(found["eigenvalues"])
    np.testing.assert_allclose(np.square(found["standard_deviations"]), found["eigenvalues"])
    for vector in vectors:
        assert vector[np.argmax(np.abs(vector))] > 0


@settings(max_examples=200, derandomize=True)
@given(st.lists(st.integers(-255, 255), min_size=9, max_size=9), st.sampled_from([1e-3, 1.0, 1e4]))
@pytest.mark.slow
def test_eigenvalues_of_any_covariance_agree_with_lapack(entries, scale):
    root = np.array(entries, float).reshape(3, 3) * scale
    matrix = root @ root.T
    values, vectors = symmetric_eigen(matrix.tolist())
    largest = max(np.abs(matrix).max(), 1e-300)
    np.testing.assert_allclose(np.array(values) / largest, np.linalg.eigvalsh(matrix) / largest, atol=1e-13)
    np.testing.assert_allclose(np.array(vectors).T @ np.diag(values) @ vectors / largest, matrix / largest, atol=1e-13)
    np.testing.assert_allclose(np.array(vectors) @ np.array(vectors).T, np.eye(3), atol=1e-13)


def test_constant_and_grey_sets_have_no_negative_variance() -> None:
    constant = color_pca(sums_of(np.full((3, 256, 256, 3), [250, 3, 77], np.uint8)))
    assert constant["rgb_covariance"] == [[0.0] * 3] * 3  # nothing cancels
    assert constant["standard_deviations"] == [0.0] * 3
    grey = np.repeat(np.random.default_rng(1).integers(0, 256, (2, 256, 256, 1), np.uint8), 3, axis=3)
    found = color_pca(sums_of(grey))
    assert found["eigenvalues"][0] >= 0
    np.testing.assert_allclose(found["eigenvectors"][2], [3**-0.5] * 3, rtol=1e-12)


def test_t25_published_basis_is_orthonormal_and_gives_its_covariance() -> None:
    basis = np.array(published.COMPONENTS)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=3e-6)
    covariance = basis.T @ np.diag(np.square(published.STANDARD_DEVIATIONS)) @ basis
    np.testing.assert_allclose(np.diag(covariance), [5475.905973, 5183.860320, 5935.484785], rtol=1e-5)
    np.testing.assert_allclose(covariance[[0, 0, 1], [1, 2, 2]], [4705.500769, 4324.487831, 4909.734071], rtol=1e-5)


def test_summary_shows_ours_beside_theirs() -> None:
    content = {
        "num_images": 1_261_406,
        "num_pixels": 1_261_406 * 65536,
        "mean_rgb": [127.0, 119.0, 104.0],
        "rgb_covariance": [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]],
        "eigenvalues": [1.0, 4.0, 9.0],
        "standard_deviations": [1.0, 2.0, 3.0],
        "eigenvectors": [[-x for x in published.COMPONENTS[0]], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]],
    }
    text = summarize(content)
    assert "1,261,406 images" in text
    rows = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert rows[0].split(" | ")[2:4] == ["1.0000", "19.7208"]
    assert rows[0].endswith("| 0.0000 |")  # the sign of a component does not matter
    assert angle_degrees([1.0, 0.0, 0.0], (0.0, 1.0, 0.0)) == 90.0
