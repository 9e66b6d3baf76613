"""Ingest: the ILSVRC-2010 release to 256x256 TFRecords, every image accounted for."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
import scipy
import simplejpeg

from components.ingest import (
    accounting,
    archives,
    devkit,
    index,
    plan,
    resize,
    same_bytes,
    shards,
    subset,
    summary,
    tables,
)
from components.ingest.contract import Ingest
from components.shared import engines, keyed, manifest, records, release, runlog, storage
from components.shared.errors import DataError
from components.shared.keyed import KeyedFolder
from components.shared.manifest import Manifest

IMAGES_TSV = "images.tsv"
SUMMARY = "summary.md"


class Work(NamedTuple):
    """What a run does: the images of each split, cut into shards."""

    kit: devkit.Devkit
    chosen: subset.Subset
    splits: dict[str, np.ndarray]
    parts: dict[str, list[plan.Part]]
    settings: shards.Settings


def _check_release(config: Ingest, release_uri: str) -> tuple[dict[str, archives.Tar], str]:
    """Find the files of the release.

    Returns:
        The tars by name, and the fingerprint of the folder.

    Raises:
        DataError: a file is missing, or the files are not those that the submitting command saw.
    """
    sizes = {entry.name: entry.num_bytes for entry in storage.list_files(release_uri)}
    missing = [name for name in release.REQUIRED if name not in sizes]
    if missing:
        raise DataError(
            f"{release_uri}: no {', '.join(missing)} there. "
            f"Fetch the ILSVRC-2010 files from {index.SOURCE} or make a sample by `python -m components.sample`"
        )
    fingerprint = release.fingerprint(release_uri)
    if config.release_fingerprint not in ("", fingerprint):
        raise DataError(
            f"{release_uri}: fingerprint {fingerprint}, expected {config.release_fingerprint}. "
            "The files changed since the run was submitted; submit again"
        )
    tars = {
        name: archives.Tar(storage.join(release_uri, name), 0, num_bytes)
        for name, num_bytes in sizes.items()
        if name in release.FILES and name.endswith(".tar")
    }
    return tars, fingerprint


def _folder(config: Ingest, fingerprint: str) -> KeyedFolder:
    """Name the folder of the dataset by everything that its bytes depend on."""
    source = manifest.source_digest(
        __file__,
        *("archives", "devkit", "headers", "images", "index", "job", "mat_reader", "outcomes"),
        *("plan", "resize", "shards", "subset", "tables", "tars"),
    )
    depends_on = {
        "release": fingerprint,
        "subset": config.subset,
        "jpeg_quality": config.jpeg_quality,
        "seed": config.seed,
        "patches": config.patches,
        "resize": resize.RESIZE,
        "source": source,
        "codecs": [module.__version__ for module in (cv2, scipy, simplejpeg, PIL)],
    }
    return keyed.folder(config.root_uri, "ingest", "dataset", depends_on)


def _metadata(dataset: manifest.Manifest) -> dict[str, float | str]:
    splits = dataset.content["splits"]
    return {
        "num_classes": len(dataset.content["classes"]),
        **{f"num_{split}": entry["num_examples"] for split, entry in splits.items()},
        "repaired": sum(entry["repaired"] for entry in splits.values()),
        "quarantined": sum(entry["quarantined"] for entry in splits.values()),
        "digest": dataset.digest,
    }


def run(config: Ingest) -> dict[str, dict[str, float | str]]:
    """Write shards, images.tsv, summary and the dataset manifest, or find what an earlier run finished.

    Args:
        config: what to read, what to keep and where to write.

    Returns:
        Counts and digest of the dataset.

    Raises:
        DataError: the release is incomplete, damaged or of another year, or too many images are unusable.
        StorageError: a place cannot be read or written.
        UsageError: the subset rule, the runner or an option of it is unknown.
        Interrupted: by a signal; finished shards are kept.
    """
    log = runlog.RunLog("ingest")
    storage.check_writable(config.root_uri)
    engine = engines.check(config.runner, config.runner_options)

    release_uri = storage.absolute(config.release_uri)
    tars, fingerprint = _check_release(config, release_uri)
    folder = _folder(config, fingerprint)
    dataset = folder.find(log)
    # With too many bad images for this run, `ingest` counts them again to name them.
    if dataset is None or accounting.splits_over_budget(dataset, config.max_bad_per_million):
        dataset = ingest(config, release_uri, tars, fingerprint, folder, engine, log)
    manifest.save(dataset, config.dataset)
    storage.write_text(Path(config.summary), storage.read_text(storage.join(folder.uri, SUMMARY)))
    log.info("dataset written", digest=dataset.digest, base_uri=folder.uri)
    return {"dataset": _metadata(dataset)}


def ingest(
    config: Ingest,
    release_uri: str,
    tars: dict[str, archives.Tar],
    fingerprint: str,
    folder: KeyedFolder,
    engine: engines.Engine,
    log: runlog.RunLog,
) -> Manifest:
    """Read the release and fill the folder of the dataset; shards that are there stay. Errors as `run`."""
    # ---- what is there
    kit = devkit.read(release_uri)
    log.info("devkit read", provenance=kit.provenance)
    chosen = subset.parse(config.subset, kit)
    index_uri = index.place(storage.absolute(config.root_uri), fingerprint)
    splits = index.of_release(index_uri, tars, kit, config.patches, log)

    # ---- what to do
    settings = shards.Settings(
        release_uri=release_uri,
        base_uri=folder.uri,
        jpeg_quality=config.jpeg_quality,
        wnids={synset.ilsvrc_id: synset.wnid for synset in kit.synsets},
        labels={ilsvrc_id: label for label, ilsvrc_id in enumerate(chosen.ilsvrc_ids)},
    )
    parts = {split: plan.cut(split, chosen.keeps(split, images), config.seed) for split, images in splits.items()}
    for split, images in splits.items():
        plan.write(parts[split], images, settings.base_uri)

    # ---- do it
    names = [part.name for split in splits for part in parts[split]]
    num_images = sum(len(part.positions) for split in splits for part in parts[split])
    shards.write_all(names, num_images, settings, engine, log)

    return _publish(config, Work(kit, chosen, splits, parts, settings), fingerprint, folder, log)


def _publish(config: Ingest, work: Work, fingerprint: str, folder: KeyedFolder, log: runlog.RunLog) -> Manifest:
    """Account for every image, and publish tables, summary and last the manifest."""
    kit, settings = work.kit, work.settings
    # ---- account for it
    rows: list[accounting.Rows] = []
    files: dict[str, manifest.FileEntry] = {}
    entries: dict[str, manifest.SplitEntry] = {}
    for split, images in work.splits.items():
        split_rows, shard_records, places = accounting.account(split, images, work.parts[split], settings)
        accounting.check_budget(split_rows, config.max_bad_per_million)
        entries[split] = accounting.split_entry(split_rows, shard_records, kit.num_images[split])
        rows.append(split_rows)
        files |= {r["name"]: manifest.FileEntry(num_bytes=r["num_bytes"], sha256=r["sha256"]) for r in shard_records}
        name = records.index_name(split)
        files[name] = manifest.publish(tables.npy(places), settings.base_uri, name)
    classes = accounting.class_entries(kit, work.chosen, rows)
    same = same_bytes.find(rows)
    if found := {where: num_contents for where, num_contents, _ in same.counts if num_contents}:
        log.warning("images with the same bytes", num_contents=found)

    # ---- publish it
    files[IMAGES_TSV] = manifest.publish_pieces(accounting.images_tsv(rows), settings.base_uri, IMAGES_TSV)
    content = manifest.DatasetContent(
        classes=classes,
        splits=entries,
        image_size=records.IMAGE_SIZE,
        jpeg_quality=config.jpeg_quality,
        resize=resize.RESIZE,
        subset=config.subset,
        seed=config.seed,
        release="ILSVRC-2010" if kit.is_full else "mini",
    )
    info = {"release_uri": settings.release_uri, "release_fingerprint": fingerprint, "devkit": kit.provenance}
    dataset = Manifest("dataset", folder.uri, files, content, info)
    text = summary.markdown(dataset, rows, same)
    storage.publish_bytes(text.encode(), storage.join(folder.uri, SUMMARY))
    return folder.finish(files, content, info)
