"""The flow of statistics: sums of the training shards by any engine, TF Transform's graph, the arrays and a summary."""

import functools
import io
import secrets
import tempfile
from pathlib import Path

import numpy as np

from components.shared import beam, engines, keyed, manifest, storage
from components.shared.errors import DataError
from components.shared.keyed import KeyedFolder
from components.shared.manifest import FileEntry, Manifest, SplitEntry
from components.shared.runlog import Progress, RunLog, hold_stderr
from components.statistics import sums
from components.statistics.color_pca import color_pca, summarize
from components.statistics.contract import Statistics


def run(config: Statistics) -> dict[str, dict[str, float | str]]:
    """Compute the statistics of the training split, or find those that an earlier run left.

    Returns:
        The metadata of the artifact `statistics`.

    Raises:
        DataError: the dataset has no training images, or a shard is damaged or holds another kind of image.
        StorageError: a shard cannot be read, or the root cannot be written.
        UsageError: Beam does not know the runner or its options.
        Interrupted: by a signal; the sums of finished groups of shards are kept.
    """
    log = RunLog("statistics")
    storage.check_writable(config.root_uri)
    dataset = manifest.load(config.dataset, "dataset")
    train: SplitEntry = dataset.content["splits"]["train"]
    if train["num_examples"] == 0:
        raise DataError(f"{config.dataset}: the train split is empty, so it has no mean. Ingest with another subset")

    source = manifest.source_digest(__file__, "color_pca", "preprocessing", "sums")
    depends_on = {"source": source, "dataset": dataset.digest}
    folder = keyed.folder(config.root_uri, "statistics", "statistics", depends_on)
    result = folder.find(log) or compute(config, dataset, folder, log)
    for name, entry in {**result.files, **result.info["transform_fn"]}.items():
        storage.stage(storage.join(folder.uri, name), entry["num_bytes"], entry["sha256"])  # verifies both

    manifest.save(result, config.statistics)
    storage.write_text(Path(config.summary), summarize(result.content))
    log.info("statistics done", num_images=result.content["num_images"], digest=result.digest)
    return {
        "statistics": {
            "num_images": result.content["num_images"],
            **dict(zip(("mean_red", "mean_green", "mean_blue"), result.content["mean_rgb"], strict=True)),
            **dict(zip(("std_1", "std_2", "std_3"), result.content["standard_deviations"], strict=True)),
            "digest": result.digest,
        }
    }


def compute(config: Statistics, dataset: Manifest, keyed_folder: KeyedFolder, log: RunLog) -> Manifest:
    """Sum, analyze, publish arrays and transform graph, and last their manifest.

    Raises:
        DataError: a shard is damaged, holds another kind of image or another number of them.
    """
    folder = keyed_folder.uri
    engine = engines.check(config.runner, config.runner_options)
    train: SplitEntry = dataset.content["splits"]["train"]
    groups = sums.groups(dataset, [shard["name"] for shard in train["shards"]])
    log.info("summing images", num_images=train["num_examples"], num_groups=len(groups), runner=engine.runner)
    work = functools.partial(sums.sum_group, base_uri=dataset.base_uri, folder=folder)
    progress = Progress(log, train["num_examples"], "images")
    beam.run(engine, "sum images", groups, work, progress, log, packages=("numpy", "simplejpeg"))

    with hold_stderr():
        from components.statistics import preprocessing  # ten seconds, which a run that finds its work done saves

        preprocessing.prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        total = preprocessing.analyze(folder, len(groups), Path(scratch))
        num_images = int(total.num_images)
        if num_images != train["num_examples"]:
            raise DataError(
                f"{dataset.base_uri}: the train shards hold {num_images} images, but the manifest says "
                f"{train['num_examples']}. Run ingest again"
            )
        files = {
            "mean_image.npy": publish_array((total.pixel_sums / num_images).astype(np.float32), folder, "mean_image"),
            "pixel_sums.npy": publish_array(total.pixel_sums, folder, "pixel_sums"),
            "product_sums.npy": publish_array(total.product_sums, folder, "product_sums"),
        }
        info = {"transform_fn": publish_graph(Path(scratch), folder)}
    content = {"dataset_digest": dataset.digest, **color_pca(total)}
    result = keyed_folder.finish(files, content, info)
    for group in range(len(groups)):
        storage.delete(sums.partial_uri(folder, group))
    return result


def publish_array(array: np.ndarray, folder: str, name: str) -> FileEntry:
    """Publish an array as `<folder>/<name>.npy` and describe the file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return manifest.publish(buffer.getvalue(), folder, f"{name}.npy")


def publish_graph(work_dir: Path, folder: str) -> dict[str, FileEntry]:
    """Publish the transform graph under `folder`, in a subfolder of this attempt.

    TensorFlow stamps each SavedModel with a random identity, so two runs never write the same bytes: the graph is no
    part of the manifest's digest, and its files are listed in `info`.

    Returns:
        The files by their path relative to `folder`. The subfolder is what `tft.TFTransformOutput` takes.
    """
    attempt = f"transform-{secrets.token_hex(4)}"
    files = {}
    for part in ("transform_fn", "transformed_metadata"):
        for path in sorted(p for p in (work_dir / part).rglob("*") if p.is_file()):
            name = f"{attempt}/{path.relative_to(work_dir).as_posix()}"
            digest = storage.publish_file(path, storage.join(folder, name))
            files[name] = FileEntry(num_bytes=path.stat().st_size, sha256=digest)
    return files
