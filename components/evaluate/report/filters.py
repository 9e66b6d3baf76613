"""Section `filters`: the kernels of conv1, after Figure 3."""

import numpy as np
from markupsafe import Markup

from components.evaluate.report.evaluation import Evaluation
from components.shared import figures
from components.shared.html import picture, render


def color_share(kernels_HWCF: np.ndarray) -> float:
    """Compute the mean share of a kernel's energy that is off the grey axis.

    It is 0 for black and white, 1 for pure colour.

    Args:
        kernels_HWCF: [H, W, 3, F], RGB.
    """
    energy_F = np.square(kernels_HWCF).sum(axis=(0, 1, 2))
    grey_F = np.square(kernels_HWCF.sum(axis=2)).sum(axis=(0, 1)) / 3
    return float(np.mean(1 - grey_F / np.maximum(energy_F, 1e-30)))


def html(evaluation: Evaluation) -> Markup:
    """Show the kernels of the first layer as the paper's Figure 3 does."""
    towers = evaluation.first.network.input_kernels()
    return render(
        __file__,
        count=sum(kernels.shape[3] for kernels in towers),
        size="×".join(map(str, towers[0].shape[:3])),
        network=evaluation.first_name,
        sheet=picture(figures.filter_sheet(towers)),
        shares=[color_share(kernels) for kernels in towers],
    )
