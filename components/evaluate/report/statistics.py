"""Section `statistics`: mean image and colour components beside the published ones."""

from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluate.report.evaluation import Evaluation
from components.shared import figures, published
from components.shared.html import picture, render


def _component(content: dict[str, Any], number: int) -> dict[str, Any]:
    std, vector = content["standard_deviations"][number], content["eigenvectors"][number]
    shifts = np.outer((-2, -1, 0, 1, 2), vector) * std
    return {
        "colors": np.clip(content["mean_rgb"] + shifts, 0, 255).tolist(),
        "std": std,
        "published_std": published.STANDARD_DEVIATIONS[number],
        "vector": vector,
        "cosine": abs(float(np.dot(vector, published.COMPONENTS[number]))),
    }


def html(evaluation: Evaluation) -> Markup:
    """Show mean image and colour components of the training set beside the published ones."""
    content = evaluation.statistics.content
    mean_image_HWC = np.load(evaluation.statistics.stage("mean_image.npy"), allow_pickle=False)
    pixels = np.clip(np.round(mean_image_HWC), 0, 255).astype(np.uint8)
    return render(
        __file__,
        content=content,
        mean_image=picture(figures.image_bytes(pixels), density=1),
        components=[_component(content, number) for number in (2, 1, 0)],  # strongest first
        published_mean=published.MEAN_RGB,
    )
