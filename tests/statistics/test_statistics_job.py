"""The whole component on real shards: exact, the same for any sharding and number of workers, clear in failure."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf
import tensorflow_transform as tft

from components.shared import manifest, records
from components.shared.errors import DataError, StorageError, UsageError
from components.statistics import job, sums
from components.statistics.contract import Statistics

NUM_IMAGES = 21


def image(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return np.repeat(np.repeat(coarse, 32, axis=0), 32, axis=1)


JPEGS = [simplejpeg.encode_jpeg(image(i), quality=95, colorsubsampling="420") for i in range(NUM_IMAGES)]


def write_dataset(folder: Path, jpegs: list[bytes], num_shards: int) -> Path:
    """Write the shards and manifest of a dataset whose train split holds the JPEGs."""
    folder.mkdir()
    files, shards = {}, []
    for shard in range(num_shards):
        name = records.shard_name("train", shard, num_shards)
        examples = [
            records.encode_example(
                {
                    "image/encoded": jpeg,
                    "image/filename": b"n01440764_1.JPEG",
                    "image/class/synset": b"n01440764",
                    "image/class/label": 0,
                    "image/height": 256,
                    "image/width": 256,
                }
            )
            for jpeg in jpegs[shard::num_shards]
        ]
        with (folder / name).open("wb") as file:
            records.write_records(file, examples)
        files[name] = manifest.file_entry(folder / name)
        shards.append({"name": name, "num_examples": len(examples)})
    content = {"splits": {"train": {"shards": shards, "num_examples": len(jpegs)}}}
    manifest.save(manifest.Manifest("dataset", str(folder), files, content), str(folder / "dataset.json"))
    return folder / "dataset.json"


def config(dataset: Path, out: Path, **changes: Any) -> Statistics:
    values = {
        "dataset": str(dataset),
        "root_uri": str(out / "root"),
        "statistics": str(out / "statistics.json"),
        "summary": str(out / "summary.md"),
    }
    return Statistics(**{**values, **changes})


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def results(folder: Path) -> list[Path]:
    """What is not the sums of a group of shards, which the next run takes up."""
    return [path for path in leftovers(folder) if not path.name.startswith("partial-")]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "three", JPEGS, 3)


@pytest.fixture(scope="module")
def finished(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Statistics, dict, manifest.Manifest]:
    chosen = config(dataset, tmp_path_factory.mktemp("out"))
    metadata = job.run(chosen)
    return chosen, metadata, manifest.load(chosen.statistics, "statistics")


@pytest.mark.slow
def test_equals_a_plain_pass(finished: tuple) -> None:
    chosen, metadata, found = finished
    images_NHWC = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in JPEGS]).astype(np.int64)
    pixels = images_NHWC.reshape(-1, 3)
    assert np.array_equal(np.load(found.stage("pixel_sums.npy")), images_NHWC.sum(axis=0))
    assert np.array_equal(np.load(found.stage("product_sums.npy")), pixels.T @ pixels)
    mean_HWC = np.load(found.stage("mean_image.npy"))
    assert mean_HWC.dtype == np.float32
    assert np.array_equal(mean_HWC, (images_NHWC.sum(axis=0) / NUM_IMAGES).astype(np.float32))
    assert found.content["num_images"] == NUM_IMAGES
    np.testing.assert_allclose(found.content["rgb_covariance"], np.cov(pixels.T, bias=True), rtol=1e-12)
    assert metadata["statistics"]["digest"] == found.digest
    assert all(np.isfinite(v) for v in metadata["statistics"].values() if not isinstance(v, str))
    assert Path(chosen.summary).read_text().startswith("# Statistics")
    assert leftovers(Path(chosen.root_uri)) == results(Path(chosen.root_uri))


@pytest.mark.slow
def test_transform_graph_subtracts_the_mean(finished: tuple) -> None:
    found = finished[2]
    graph = found.info["transform_fn"]
    (attempt,) = {name.split("/")[0] for name in graph}
    mean_HWC = np.load(found.stage("mean_image.npy"))
    output = tft.TFTransformOutput(f"{found.base_uri}/{attempt}")
    centred_NHWC = output.transform_raw_features({"image/encoded": tf.constant(JPEGS[:2])})["image"]
    assert centred_NHWC.dtype == tf.float32
    expected_NHWC = np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in JPEGS[:2]]) - mean_HWC
    assert np.array_equal(centred_NHWC, expected_NHWC)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.slow
def test_same_bits_for_other_shards_order_and_workers(finished: tuple, tmp_path: Path, num_workers: int) -> None:
    other = write_dataset(tmp_path / "five", JPEGS[::-1], 5)
    mode = "multi_threading" if num_workers > 1 else "in_memory"
    options = f"--direct_num_workers={num_workers} --direct_running_mode={mode}"
    chosen = config(other, tmp_path, runner_options=options)
    job.run(chosen)
    found = manifest.load(chosen.statistics, "statistics")
    assert found.files == finished[2].files
    assert {**found.content, "dataset_digest": ""} == {**finished[2].content, "dataset_digest": ""}


@pytest.mark.slow
def test_a_second_run_reuses_and_damage_is_found(dataset: Path, tmp_path: Path) -> None:
    first = config(dataset, tmp_path)
    job.run(first)
    before = {path: path.stat().st_mtime_ns for path in leftovers(tmp_path / "root")}
    second = config(dataset, tmp_path, statistics=str(tmp_path / "again.json"))
    job.run(second)
    assert {path: path.stat().st_mtime_ns for path in leftovers(tmp_path / "root")} == before
    assert Path(second.statistics).read_bytes() == Path(first.statistics).read_bytes()
    (mean,) = (tmp_path / "root").rglob("mean_image.npy")
    mean.write_bytes(mean.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DataError, match=r"mean_image.npy.*sha256"):
        job.run(config(dataset, tmp_path, statistics=str(tmp_path / "third.json")))
    assert not (tmp_path / "third.json").exists()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (simplejpeg.encode_jpeg(image(0)[:128].copy()), "expected an image of (256, 256, 3), got (128, 256, 3)"),
        (
            simplejpeg.encode_jpeg(image(0)[..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray"),
            "expected a JPEG in YCbCr, got one in Gray",
        ),
    ],
    ids=["size", "greyscale"],
)
@pytest.mark.slow
def test_another_kind_of_image_names_shard_record_and_key(tmp_path: Path, odd: bytes, message: str) -> None:
    chosen = config(write_dataset(tmp_path / "data", [*JPEGS[:4], odd, *JPEGS[5:]], 3), tmp_path)
    with pytest.raises(DataError) as error:
        job.run(chosen)
    # image 4 is the second of shard 1
    assert f"train-00001-of-00003.tfrecord, record 1, n01440764_1.JPEG: {message}" in str(error.value)
    assert "\n" not in str(error.value)
    assert results(tmp_path / "root") == []


@pytest.mark.slow
def test_changed_missing_and_short_shards(tmp_path: Path) -> None:
    changed = write_dataset(tmp_path / "changed", JPEGS, 2)
    shard = tmp_path / "changed" / "train-00001-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00001-of-00002\.tfrecord: sha256 differs"):
        job.run(config(changed, tmp_path))
    shard.unlink()
    with pytest.raises(StorageError, match=r"train-00001-of-00002\.tfrecord: not found"):
        job.run(config(changed, tmp_path))
    short = write_dataset(tmp_path / "short", JPEGS, 1)
    entry = manifest.load(str(short), "dataset")
    entry.content["splits"]["train"]["num_examples"] = NUM_IMAGES + 1
    manifest.save(entry, str(tmp_path / "claims-more.json"))
    with pytest.raises(DataError, match=f"hold {NUM_IMAGES} images, but the manifest says {NUM_IMAGES + 1}"):
        job.run(config(tmp_path / "claims-more.json", tmp_path))
    assert results(tmp_path / "root") == []


def test_empty_train_split_and_unknown_runner(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train split is empty"):
        job.run(config(write_dataset(tmp_path / "empty", [], 1), tmp_path))
    with pytest.raises(UsageError, match="--runner NoSuchRunner"):
        job.run(config(dataset, tmp_path, runner="NoSuchRunner"))
    with pytest.raises(UsageError, match="--runner-options"):
        job.run(config(dataset, tmp_path, runner_options="--direct_num_workers=many"))


@pytest.mark.slow
def test_finished_sums_of_shards_are_taken_up(dataset: Path, finished: tuple, tmp_path: Path) -> None:
    chosen = config(dataset, tmp_path)
    found = manifest.load(str(dataset), "dataset")
    shards = [shard["name"] for shard in found.content["splits"]["train"]["shards"]]
    folder = finished[2].base_uri.replace(finished[0].root_uri, chosen.root_uri)
    sums.sum_group(sums.groups(found, shards)[1], found.base_uri, folder)
    moved = Path(found.base_uri) / shards[1]  # nobody reads it again
    moved.rename(tmp_path / "aside")
    try:
        job.run(chosen)
    finally:
        (tmp_path / "aside").rename(moved)
    assert manifest.load(chosen.statistics, "statistics").digest == finished[2].digest


@pytest.mark.slow
def test_alone_from_the_command_line(dataset: Path, tmp_path: Path) -> None:
    chosen = config(dataset, tmp_path)
    flags = ["--dataset", chosen.dataset, "--root-uri", chosen.root_uri]
    flags += ["--statistics", chosen.statistics, "--summary", chosen.summary]
    done = subprocess.run(
        [sys.executable, "-m", "components.statistics", *flags],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    entries = [json.loads(line) for line in done.stderr.splitlines()]  # nothing of TensorFlow's or Beam's between
    assert entries[-1]["message"] == "statistics done"
    progress = [entry for entry in entries if entry["message"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] == NUM_IMAGES
