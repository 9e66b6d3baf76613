"""Section `dataset`: what it holds, and where every image of the release went."""

import numpy as np
from markupsafe import Markup

from components.evaluate.report.evaluation import Evaluation
from components.shared.html import render
from components.shared.manifest import SPLITS

COUNTED = ("num_devkit", "used", "repaired", "quarantined", "excluded", "num_examples")


def html(evaluation: Evaluation) -> Markup:
    """Show what the dataset holds and where every image of the release went."""
    content = evaluation.dataset.content
    rows = [
        [split, *(f"{entry[key]:,}" for key in COUNTED), len(entry["shards"])]
        for split in SPLITS
        if (entry := content["splits"].get(split))
    ]
    counts = [entry["num_train"] for entry in content["classes"]]
    size = content["image_size"]
    about = [
        ("Release", content["release"]),
        ("Subset", content["subset"]),
        ("Classes", f"{len(content['classes']):,}"),
        ("Training images a class", f"{min(counts):,} to {max(counts):,}, {np.mean(counts):,.0f} in the mean"),
        ("Stored as", f"{size}×{size} JPEG, quality {content['jpeg_quality']} (2012: 85)"),
        ("Resized by", content["resize"]),
        ("Seed of the order", content["seed"]),
    ]
    return render(__file__, rows=rows, about=about)
