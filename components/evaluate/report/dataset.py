"""Section `dataset`: what it holds, and where every image of the release went."""

import numpy as np

from components.evaluate.report import page
from components.evaluate.report.evaluation import Evaluation
from components.shared.manifest import SPLITS


def html(evaluation: Evaluation) -> str:
    """Show what the dataset holds and where every image of the release went."""
    content = evaluation.dataset.content
    counted = ("num_devkit", "used", "repaired", "quarantined", "excluded", "num_examples")
    rows = [
        [split, *(f"{entry[key]:,}" for key in counted), f"{len(entry['shards'])}"]
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
        ("Seed of the order", str(content["seed"])),
    ]
    headings = ["Split", "#In the release", "#Used", "#Repaired", "#Quarantined", "#Excluded", "#Examples", "#Shards"]
    return page.section(
        "dataset",
        "The dataset",
        page.text("Every image of the release is accounted for: used + repaired + quarantined + excluded = release."),
        page.table(headings, rows),
        "<h3>Facts</h3>",
        page.facts(about),
    )
