"""The Markdown page that the pipeline shows for a dataset."""

from collections.abc import Sequence
from itertools import islice

from components.ingest.accounting import QUARANTINED, REPAIRED, Row, Rows
from components.ingest.same_bytes import SameBytes
from components.shared.manifest import Manifest

MAX_CLASSES = 50
MAX_FILES = 100


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], limit: int) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in islice(rows, limit)]
    if len(rows) > limit:
        lines.append(f"| ... {len(rows) - limit:,} more |" + " |" * (len(header) - 1))
    return [*lines, ""]


def _name(row: Row) -> str:
    return f"{row.split} {row.filename} {row.wnid}"


def markdown(dataset: Manifest, rows: list[Rows], same: SameBytes) -> str:
    """Describe a dataset: counts per split, classes, repairs and quarantined files."""
    content = dataset.content
    counts = ("used", "repaired", "quarantined", "excluded", "num_devkit")
    lines = [
        f"# Dataset: {content['release']}, {len(content['classes'])} classes",
        "",
        f"Digest `{dataset.digest}`. Subset `{content['subset']}`, seed {content['seed']}, "
        f"{content['image_size']}x{content['image_size']} JPEG of quality {content['jpeg_quality']}; "
        f"{content['resize']}.",
        "",
        dataset.info["devkit"],
        "",
    ]
    header = ["split", "used", "repaired", "quarantined", "excluded", "devkit", "shards"]
    splits = [
        (name, *(f"{entry[key]:,}" for key in counts), len(entry["shards"]))
        for name, entry in content["splits"].items()
    ]
    lines += _table(header, splits, len(splits))
    lines += ["## Images with the same bytes", ""]
    lines += _table(["found in", "contents found more than once", "images"], same.counts, len(same.counts))
    if same.listed:
        lines += ["In two splits or classes; nothing was left out. images.tsv has the sha256 of every image.", ""]
        listed = [(images[0].sha256[:12], ", ".join(map(_name, images))) for images in same.listed]
        lines += _table(["sha256", "split, file, WNID of the first images"], listed, len(listed))
    lines += ["## Classes", ""]
    keys = ("label", "ilsvrc_id", "wnid", "words", "num_train", "num_validation", "num_test")
    header = ["label", "ILSVRC2010_ID", "WNID", "words", "train", "validation", "test"]
    lines += _table(header, [[entry[key] for key in keys] for entry in content["classes"]], MAX_CLASSES)
    for status, title in ((REPAIRED, "Repaired"), (QUARANTINED, "Quarantined")):
        found = [row for of_split in rows for row in of_split.of_status(status)]
        files = [(row.split, row.filename, row.wnid, row.reason) for row in found]
        lines += [f"## {title}: {len(files):,}", ""]
        if files:
            lines += _table(["split", "file", "WNID", "reason"], files, MAX_FILES)
    return "\n".join(lines).rstrip() + "\n"
