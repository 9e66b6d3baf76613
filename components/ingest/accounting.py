"""Every image of the release has exactly one row, and the rows add up to what the devkit promises."""

from collections import Counter
from typing import Any, NamedTuple

from components.ingest import shards
from components.ingest.archives import Image
from components.ingest.devkit import Devkit
from components.ingest.subset import Subset
from components.shared import manifest
from components.shared.errors import DataError


class Row(NamedTuple):
    """One image of the release; the columns of images.tsv."""

    split: str
    filename: str
    wnid: str
    label: str  # empty for an excluded image
    status: str  # used, repaired, quarantined or excluded
    reason: str  # of a repair or quarantine
    sha256: str  # of the source bytes, empty when they were not read
    shard: str  # empty when the image is in none


def images_tsv(rows: list[Row]) -> bytes:
    """Format images.tsv."""
    return "".join("\t".join(row) + "\n" for row in [Row._fields, *rows]).encode()


def check_budget(split: str, rows: list[Row], max_bad_per_million: int) -> None:
    """Refuse a split with too many quarantined images.

    Raises:
        DataError: names the first files and their reasons.
    """
    bad = [row for row in rows if row.status == "quarantined"]
    allowed = max(len(rows) * max_bad_per_million // 1_000_000, 1 if split == "train" else 0)
    if len(bad) > allowed:
        listed = ", ".join(f"{row.filename} ({row.reason})" for row in bad[:10])
        raise DataError(
            f"{split}: {len(bad)} of {len(rows):,} images are unusable, allowed are {allowed}: {listed}. "
            "Repair the release, or raise --max-bad-per-million if they may be left out"
        )


def account(
    split: str,
    all_images: list[Image],
    tasks: list[shards.Task],
    settings: shards.Settings,
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Join the records of the shards with the index: one row for every image of the split, by name.

    Raises:
        DataError: an image has no outcome, or more than one.
    """
    rows = {
        image.name: Row(split, image.name, settings.wnids[image.ilsvrc_id], "", "excluded", "", "", "")
        for image in all_images
    }
    shard_records = [shards.read_record(task, settings) for task in tasks]
    done: set[str] = set()
    for task, record in zip(tasks, shard_records, strict=True):
        if [row[0] for row in record["images"]] != [image.name for image in task.images]:
            raise DataError(f"{settings.base_uri}/{task.name}.json: lists other images than planned. Remove the folder")
        for image, (name, status, reason, digest) in zip(task.images, record["images"], strict=True):
            shard = "" if status == "quarantined" else task.name
            wnid, label = settings.wnids[image.ilsvrc_id], str(settings.labels[image.ilsvrc_id])
            rows[name] = Row(split, name, wnid, label, status, reason, digest, shard)
            done.add(name)
    if len(rows) != len(all_images) or len(done) != sum(len(task.images) for task in tasks):
        raise DataError(f"{split}: names of images repeat, so they cannot be accounted for. Fetch the release again")
    return sorted(rows.values(), key=lambda row: row.filename), shard_records


def duplicates(rows: list[Row]) -> list[tuple[str, int, int]]:
    """Count images with the bytes of another one of their split: placeholders that no patch replaced look like that.

    Returns:
        For each split: name, number of contents that occur more than once, number of images with such content.
    """
    found = []
    for split in dict.fromkeys(row.split for row in rows):
        repeated = [
            n for n in Counter(row.sha256 for row in rows if row.split == split and row.sha256).values() if n > 1
        ]
        found.append((split, len(repeated), sum(repeated)))
    return found


def class_entries(kit: Devkit, chosen: Subset, rows: list[Row]) -> list[manifest.ClassEntry]:
    """Describe the kept classes, with the counts of their usable images.

    Raises:
        DataError: a class has no usable training image.
    """
    counts = Counter((row.wnid, row.split) for row in rows if row.status in ("used", "repaired"))
    entries = [
        manifest.ClassEntry(
            label=label,
            ilsvrc_id=ilsvrc_id,
            wnid=synset.wnid,
            words=synset.words,
            num_train=counts[synset.wnid, "train"],
            num_validation=counts[synset.wnid, "validation"],
            num_test=counts[synset.wnid, "test"],
        )
        for label, ilsvrc_id in enumerate(chosen.ilsvrc_ids)
        for synset in [kit.synsets[ilsvrc_id - 1]]
    ]
    empty = [entry["wnid"] for entry in entries if not entry["num_train"]]
    if empty:
        raise DataError(f"class {empty[0]}: no usable training image. Leave it out by --subset or repair the release")
    return entries


def split_entry(
    split: str, rows: list[Row], shard_records: list[dict[str, Any]], num_devkit: int
) -> manifest.SplitEntry:
    """Describe a split.

    Raises:
        DataError: the images do not add up to the devkit's count.
    """
    counts = Counter(row.status for row in rows)
    entry = manifest.SplitEntry(
        shards=[manifest.ShardEntry(name=r["name"], num_examples=r["num_examples"]) for r in shard_records],
        num_examples=sum(r["num_examples"] for r in shard_records),
        num_devkit=num_devkit,
        used=counts["used"],
        repaired=counts["repaired"],
        quarantined=counts["quarantined"],
        excluded=counts["excluded"],
    )
    if sum(counts.values()) != num_devkit or entry["num_examples"] != entry["used"] + entry["repaired"]:
        raise DataError(
            f"{split}: used {entry['used']} + repaired {entry['repaired']} + quarantined {entry['quarantined']} "
            f"+ excluded {entry['excluded']} is not the devkit's {num_devkit}. Remove the shards and run again"
        )
    return entry
