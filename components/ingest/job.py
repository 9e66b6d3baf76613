"""Ingest: the ILSVRC-2010 release to 256x256 TFRecords, every image accounted for."""

from pathlib import Path

import cv2
import numpy as np
import PIL
import scipy
import simplejpeg

from components.ingest import accounting, archives, devkit, resize, shards, subset, summary
from components.ingest.contract import Ingest
from components.shared import engines, manifest, records, runlog, storage
from components.shared.errors import DataError

REQUIRED = (archives.TRAIN_TAR, archives.VALIDATION_TAR, archives.TEST_TAR, devkit.DEVKIT_TAR, devkit.TEST_TRUTH)
SOURCE = "https://image-net.org/challenges/LSVRC/2010/"
STREAMS = {"train": 0, "validation": 1, "test": 2}  # independent orders of one seed
IMAGES_TSV = "images.tsv"


def _check_release(config: Ingest, release_uri: str) -> tuple[dict[str, archives.Tar], str]:
    """Find the files of the release.

    Returns:
        The tars by name, and the fingerprint of the folder.

    Raises:
        DataError: a file is missing, or the files are not those that the submitting command saw.
    """
    sizes = {entry.name: entry.num_bytes for entry in storage.list_files(release_uri)}
    missing = [name for name in REQUIRED if name not in sizes]
    if missing:
        raise DataError(
            f"{release_uri}: no {', '.join(missing)} there. "
            f"Fetch the ILSVRC-2010 files from {SOURCE} or make a sample by `python -m components.sample`"
        )
    fingerprint = storage.fingerprint(release_uri)
    if config.release_fingerprint not in ("", fingerprint):
        raise DataError(
            f"{release_uri}: fingerprint {fingerprint}, expected {config.release_fingerprint}. "
            "The files changed since the run was submitted; submit again"
        )
    tars = {
        name: archives.Tar(storage.join(release_uri, name), 0, num_bytes)
        for name, num_bytes in sizes.items()
        if name in (*REQUIRED, archives.PATCH_TAR) and name.endswith(".tar")
    }
    return tars, fingerprint


def _index(
    config: Ingest, tars: dict[str, archives.Tar], kit: devkit.Devkit, log: runlog.RunLog
) -> dict[str, list[archives.Image]]:
    progress = runlog.Progress(log, len(kit.synsets), "synsets indexed")
    splits = {
        "train": archives.index_train(tars[archives.TRAIN_TAR], kit, progress.update),
        "validation": archives.index_flat(tars[archives.VALIDATION_TAR], "val", kit.validation_truth),
        "test": archives.index_flat(tars[archives.TEST_TAR], "test", kit.test_truth),
    }
    if config.patches == "waived":
        log.warning("patches waived: blank images of the release stay")
    elif archives.PATCH_TAR in tars:
        log.info("patches applied", num_patches=archives.apply_patches(tars[archives.PATCH_TAR], splits))
    elif config.patches == "required" or kit.is_full:
        raise DataError(
            f"{config.release_uri}: no {archives.PATCH_TAR} there, which replaces blank images of the release. "
            f"Fetch it from {SOURCE} or use --patches waived to go on without it"
        )
    return splits


def num_shards(num_images: int) -> int:
    """Choose the number of shards of a split: 8 or more of at least 64 images, at most 1024 images each."""
    return max(1, min(-(-num_images // 64), max(8, -(-num_images // 1024))))


def plan(split: str, kept: list[archives.Image], seed: int) -> list[shards.Task]:
    """Permute the images of a split by the seed and cut them into shards of equal size, give or take one.

    Args:
        split: train, validation or test.
        kept: the images in the order of the release.
        seed: of the order.
    """
    order = np.random.Generator(np.random.PCG64([seed, STREAMS[split]])).permutation(len(kept))
    count = num_shards(len(kept))
    return [
        shards.Task(records.shard_name(split, k, count), tuple(kept[i] for i in part))
        for k, part in enumerate(np.array_split(order, count))
    ]


def _key(config: Ingest, fingerprint: str) -> str:
    """Name the folder of the shards by everything that their bytes depend on."""
    return manifest.digest_of(
        {
            "release": fingerprint,
            "subset": config.subset,
            "jpeg_quality": config.jpeg_quality,
            "seed": config.seed,
            "patches": config.patches,
            "resize": resize.RESIZE,
            "source": manifest.source_digest(
                __file__, "archives", "devkit", "images", "job", "resize", "shards", "subset"
            ),
            "codecs": [module.__version__ for module in (cv2, scipy, simplejpeg, PIL)],
        }
    )[:16]


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
    """Write shards, images.tsv, the dataset manifest and the summary.

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

    # ---- what is there
    release_uri = storage.absolute(config.release_uri)
    tars, fingerprint = _check_release(config, release_uri)
    kit = devkit.read(release_uri)
    chosen = subset.parse(config.subset, kit)
    splits = _index(config, tars, kit, log)

    # ---- what to do
    settings = shards.Settings(
        release_uri=release_uri,
        base_uri=storage.join(storage.absolute(config.root_uri), "ingest", _key(config, fingerprint)),
        jpeg_quality=config.jpeg_quality,
        wnids={synset.ilsvrc_id: synset.wnid for synset in kit.synsets},
        labels={ilsvrc_id: label for label, ilsvrc_id in enumerate(chosen.ilsvrc_ids)},
    )
    tasks = {}
    for split, all_images in splits.items():
        keep = chosen.keeps(split, all_images)
        tasks[split] = plan(split, [i for i, kept in zip(all_images, keep, strict=True) if kept], config.seed)

    # ---- do it
    shards.write_all([task for ts in tasks.values() for task in ts], settings, engine, log)

    # ---- account for it
    rows: list[accounting.Row] = []
    files: dict[str, manifest.FileEntry] = {}
    entries: dict[str, manifest.SplitEntry] = {}
    for split, all_images in splits.items():
        split_rows, shard_records = accounting.account(split, all_images, tasks[split], settings)
        accounting.check_budget(split, split_rows, config.max_bad_per_million)
        entries[split] = accounting.split_entry(split, split_rows, shard_records, kit.num_images[split])
        rows += split_rows
        for record in shard_records:
            files[record["name"]] = manifest.FileEntry(num_bytes=record["num_bytes"], sha256=record["sha256"])
    classes = accounting.class_entries(kit, chosen, rows)
    for split, num_contents, num_images in accounting.duplicates(rows):
        if num_contents:
            log.warning("images with the same bytes", split=split, num_contents=num_contents, num_images=num_images)

    # ---- publish it
    table = accounting.images_tsv(rows)
    files[IMAGES_TSV] = manifest.publish(table, settings.base_uri, IMAGES_TSV)
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
    info = {"release_uri": release_uri, "release_fingerprint": fingerprint}
    dataset = manifest.Manifest("dataset", settings.base_uri, files, content, info)
    manifest.save(dataset, config.dataset)
    storage.write_text(Path(config.summary), summary.markdown(dataset, rows))
    log.info("dataset written", digest=dataset.digest, base_uri=settings.base_uri)
    return {"dataset": _metadata(dataset)}
