"""Section `statistics`: mean image and colour components beside the published ones."""

import numpy as np

from components.evaluate.report import figures, page
from components.evaluate.report.evaluation import Evaluation
from components.shared import published


def _swatch(mean_rgb: list[float], std: float, vector: list[float]) -> str:
    stops = [
        "rgb("
        + ",".join(f"{min(255, max(0, m + t * std * v)):.0f}" for m, v in zip(mean_rgb, vector, strict=True))
        + ")"
        for t in (-2, -1, 0, 1, 2)
    ]
    return f'<span class="swatch" style="background:linear-gradient(90deg,{",".join(stops)})"></span>'


def html(evaluation: Evaluation) -> str:
    """Show mean image and colour components of the training set beside the published ones."""
    content = evaluation.statistics.content
    mean_image_HWC = np.load(evaluation.statistics.stage("mean_image.npy"), allow_pickle=False)
    picture = figures.image_bytes(np.clip(np.round(mean_image_HWC), 0, 255).astype(np.uint8))
    rows = []
    for number in (2, 1, 0):  # strongest first
        std, vector = content["standard_deviations"][number], content["eigenvectors"][number]
        theirs = published.COMPONENTS[number]
        alike = abs(float(np.dot(vector, theirs)))
        rows.append(
            [
                str(3 - number),
                _swatch(content["mean_rgb"], std, vector),
                f"{std:.2f}",
                f"{published.STANDARD_DEVIATIONS[number]:.2f}",
                "(" + ", ".join(f"{v:.3f}" for v in vector) + ")",
                f"{alike:.3f}",
            ]
        )
    mean = ", ".join(f"{name} {value:.1f}" for name, value in zip("RGB", content["mean_rgb"], strict=True))
    published_mean = ", ".join(f"{name} {value:.1f}" for name, value in zip("RGB", published.MEAN_RGB, strict=True))
    colors = page.table(["", "Mean ± 2 sd along it", "#sd", "#sd, published", "Direction RGB", "#Cosine"], rows)
    picture_html = page.figure(
        picture,
        "Mean image",
        f"The mean of {content['num_images']:,} training images; its centre is subtracted from every crop.",
        density=1,
    )
    return page.section(
        "statistics",
        "Mean image and colours",
        f'<div class="columns mean">{picture_html}<div><h3>Principal components of RGB</h3>{colors}'
        + page.text(
            f"In grey levels of 0 to 255, over {content['num_pixels']:,} pixels. "
            f"Mean here: {mean}; published: {published_mean}. "
            "Published means what the paper's first author released for ILSVRC-2012; cosine 1 is the same direction. "
            "Training adds a random multiple of these colours to every photograph (paper, section 4.1).",
            "note",
        )
        + "</div></div>",
    )
