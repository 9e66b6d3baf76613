"""Section `filters`: the kernels of conv1, after Figure 3."""

import numpy as np

from components.evaluate.report import figures, page
from components.evaluate.report.evaluation import Evaluation


def color_share(kernels_HWCF: np.ndarray) -> float:
    """Compute the mean share of a kernel's energy that is off the grey axis: 0 for black and white, 1 for pure colour.

    Args:
        kernels_HWCF: [H, W, 3, F], RGB.
    """
    energy_F = np.square(kernels_HWCF).sum(axis=(0, 1, 2))
    grey_F = np.square(kernels_HWCF.sum(axis=2)).sum(axis=(0, 1)) / 3
    return float(np.mean(1 - grey_F / np.maximum(energy_F, 1e-30)))


def html(evaluation: Evaluation) -> str:
    """Show the kernels of the first layer as the paper's Figure 3 does."""
    towers = evaluation.first.network.input_kernels()
    count = sum(kernels.shape[3] for kernels in towers)
    height, width = towers[0].shape[:2]
    shares = [f"{page.percent(color_share(kernels))}" for kernels in towers]
    if len(towers) == 2:
        layout = f"Tower a above, tower b below. Energy off the grey axis: {shares[0]} in a, {shares[1]} in b. "
        layout += "The paper saw one tower turn largely to colour and the other away from it, in every run."
    else:
        layout = f"One tower. Energy off the grey axis: {shares[0]}."
    caption = f"{layout} Each tower is stretched over its own range."
    lead = (
        f"The {count} kernels of {height}×{width}×3 that {evaluation.first_name} looks at a photograph with; "
        "Figure 3 of the paper."
    )
    picture = figures.filter_sheet(towers)
    return page.section(
        "filters",
        "First-layer kernels",
        page.text(lead),
        page.figure(picture, "Kernels of the first convolution", caption),
    )
