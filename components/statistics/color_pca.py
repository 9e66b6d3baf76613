"""Colour statistics from exact integer sums: mean, covariance and principal components, and how they read."""

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from components.shared import published

if TYPE_CHECKING:  # Beam takes seconds to import
    from components.statistics.sums import Sums

MAX_SWEEPS = 12  # four or five do


def symmetric_eigen(matrix: list[list[float]]) -> tuple[list[float], list[list[float]]]:
    """Compute eigenvalues, ascending, and unit eigenvectors of a symmetric 3x3 matrix by Jacobi's rotations.

    In plain float64 arithmetic, so that the bits are the same on every machine. The last bits of
    LAPACK depend on the processor.

    Args:
        matrix: symmetric; not changed.

    Returns:
        The eigenvalues, and row k of the eigenvectors for eigenvalue k, its entry of largest magnitude positive.
    """
    a = [list(row) for row in matrix]
    vectors = [[float(i == j) for j in range(3)] for i in range(3)]  # in columns
    for _ in range(MAX_SWEEPS):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            # What would vanish beside the diagonal is zero already.
            if abs(a[p][q]) <= 1e-17 * math.sqrt(abs(a[p][p]) * abs(a[q][q])):
                continue
            theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
            t = math.copysign(1.0, theta) / (abs(theta) + math.sqrt(theta * theta + 1))
            c = 1 / math.sqrt(t * t + 1)
            s = t * c
            for row in (a, vectors):  # columns p and q
                for k in range(3):
                    row[k][p], row[k][q] = c * row[k][p] - s * row[k][q], s * row[k][p] + c * row[k][q]
            for k in range(3):  # rows p and q
                a[p][k], a[q][k] = c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]
    order = sorted(range(3), key=lambda k: a[k][k])
    columns = [[vectors[i][k] for i in range(3)] for k in order]
    rows = [[math.copysign(1.0, max(column, key=abs)) * value for value in column] for column in columns]
    return [a[k][k] for k in order], rows


def color_pca(sums: "Sums") -> dict[str, Any]:
    """Compute mean, covariance and PCA of the RGB values of all pixels (paper section 4.1).

    The covariance is rounded to float64 once, from exact fractions, so nothing cancels.

    Returns:
        The fields of StatisticsContent but `dataset_digest`. Eigenvalues ascend; of each eigenvector the entry of
        largest magnitude is positive.
    """
    height, width, _ = sums.pixel_sums.shape
    num_pixels = int(sums.num_images) * height * width
    totals = [int(total) for total in sums.pixel_sums.sum(axis=(0, 1))]
    covariance = [
        [
            float(Fraction(int(sums.product_sums[i, j]), num_pixels) - Fraction(totals[i] * totals[j], num_pixels**2))
            for j in range(3)
        ]
        for i in range(3)
    ]
    eigenvalues, eigenvectors = symmetric_eigen(covariance)
    eigenvalues = [max(value, 0.0) for value in eigenvalues]  # grey images have two that are zero but for rounding
    return {
        "num_images": int(sums.num_images),
        "num_pixels": num_pixels,
        "mean_rgb": [float(Fraction(total, num_pixels)) for total in totals],
        "rgb_covariance": covariance,
        "eigenvalues": eigenvalues,
        "standard_deviations": [math.sqrt(value) for value in eigenvalues],
        "eigenvectors": eigenvectors,
    }


def angle_degrees(vector: list[float], other: tuple[float, ...]) -> float:
    """Measure the angle between two directions, 0..90 degrees; the sign of a component has no meaning."""
    cosine = abs(np.dot(vector, other)) / (np.linalg.norm(vector) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def summarize(content: dict[str, Any]) -> str:
    """Write the numbers beside the published ones, as Markdown."""

    def row(*cells: Any) -> str:
        return "| " + " | ".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"

    lines = [
        "# Statistics of the training set",
        "",
        f"{content['num_images']:,} images, {content['num_pixels']:,} pixels; exact integer sums by TF Transform.",
        "Grey levels 0..255. Published: what the paper's first author released later, for ILSVRC-2012.",
        "",
        row("mean", "red", "green", "blue"),
        "|---|---|---|---|",
        row("here", *content["mean_rgb"]),
        row("published", *published.MEAN_RGB),
        "",
        row("covariance", "red", "green", "blue"),
        "|---|---|---|---|",
        *(row(name, *values) for name, values in zip(("red", "green", "blue"), content["rgb_covariance"], strict=True)),
        "",
        row("component", "eigenvalue", "standard deviation", "published", "direction", "published", "angle, degrees"),
        "|---|---|---|---|---|---|---|",
    ]
    for k in range(3):
        ours, theirs = content["eigenvectors"][k], published.COMPONENTS[k]
        lines.append(
            row(
                k + 1,
                content["eigenvalues"][k],
                content["standard_deviations"][k],
                published.STANDARD_DEVIATIONS[k],
                " ".join(f"{value:+.4f}" for value in ours),
                " ".join(f"{value:+.4f}" for value in theirs),
                angle_degrees(ours, theirs),
            )
        )
    return "\n".join(lines) + "\n"
