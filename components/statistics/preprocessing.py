"""The TF Transform side: shards in, one full-pass analyzer, the transform graph out.

The graph takes `image/encoded` and gives the image minus the mean image; the mean is a constant in it. The integer
sums are outputs too, so that the SavedModel alone says all that was found.
"""

import logging
import os
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import simplejpeg
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from components.shared.errors import DataError, StorageError, UsageError
from components.shared.manifest import Manifest
from components.shared.records import decode_example, read_records
from components.shared.runlog import Progress, RunLog
from components.statistics.sums import SHAPE_HWC, ImageSums, Sums

tf.config.list_physical_devices()  # TensorFlow says here, in the quiet of the import, that there is no GPU driver

BATCH_IMAGES = 64
ENCODED, ORIGIN = "image/encoded", "origin"  # raw features; origin names shard and record in errors


class ReadShards(beam.DoFn):
    """Stages and verifies shards where the worker runs, and yields their images as Arrow batches."""

    # Pickled to the workers without it: only the in-process runner reports progress.
    progress: Progress | None = None
    _lock = threading.Lock()

    def __init__(self, dataset: Manifest) -> None:
        self._dataset = dataset

    def process(self, shard: str) -> Iterator[pa.RecordBatch]:
        jpegs: list[bytes] = []
        origins: list[bytes] = []
        for index, record in enumerate(read_records(self._dataset.stage(shard))):
            example = decode_example(record)
            jpegs.append(example[ENCODED])
            origins.append(f"{self._dataset.uri(shard)}, record {index}, ".encode() + example["image/filename"])
            if len(jpegs) == BATCH_IMAGES:
                yield _record_batch(jpegs, origins)
                self._count(len(jpegs))
                jpegs, origins = [], []
        if jpegs:
            yield _record_batch(jpegs, origins)
            self._count(len(jpegs))

    def _count(self, num_images: int) -> None:
        """Count images whose batch came back from the stages behind, which run before `yield` returns."""
        with self._lock:
            if progress := ReadShards.progress:
                progress.update(progress.done + num_images)


def _record_batch(jpegs: list[bytes], origins: list[bytes]) -> pa.RecordBatch:
    columns = [pa.array([[value] for value in values], pa.large_list(pa.large_binary())) for values in (jpegs, origins)]
    return pa.RecordBatch.from_arrays(columns, [ENCODED, ORIGIN])


def _batch_layout() -> TensorAdapterConfig:
    """Tell TF Transform that each column of a batch is one byte string an image."""
    kinds = {}
    for name in (ENCODED, ORIGIN):
        kinds[name] = schema_pb2.TensorRepresentation()
        kinds[name].dense_tensor.column_name = name
    return TensorAdapterConfig(_record_batch([], []).schema, kinds)


class _SumImages(beam.PTransform):
    """The analyzer: one `Sums` of all batches, as one PCollection a field."""

    def expand(self, batches: beam.PCollection):  # Beam takes an annotation of several results for a mistake
        sums = batches | "Combine" >> beam.CombineGlobally(ImageSums())
        return tuple(sums | name >> beam.Map(getattr, name) for name in Sums._fields)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Define the transform graph: `image` float32 [N, 256, 256, 3], and the sums, repeated for each image."""
    jpegs_N = inputs[ENCODED]
    sums = tft.experimental.ptransform_analyzer(
        [jpegs_N, inputs[ORIGIN]], _SumImages(), [tf.int64] * 3, [list(SHAPE_HWC), [3, 3], []], name="image_sums"
    )
    pixel_sums, _, num_images = sums
    mean_HWC = tf.cast(tf.cast(pixel_sums, tf.float64) / tf.cast(num_images, tf.float64), tf.float32)

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        image_HWC = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")  # the default DCT is 0.8 darker
        return tf.ensure_shape(image_HWC, SHAPE_HWC)

    images_NHWC = tf.map_fn(decode, jpegs_N, fn_output_signature=tf.uint8)
    repeated = {
        name: tf.repeat(value[None], tf.shape(jpegs_N)[0], axis=0)
        for name, value in zip(Sums._fields, sums, strict=True)
    }
    return {"image": tf.cast(images_NHWC, tf.float32) - mean_HWC, **repeated}


def beam_options(runner: str, runner_options: str) -> PipelineOptions:
    """Build the Beam options; none given means every core of this machine, as threads of this process.

    Raises:
        UsageError: Beam does not know the runner, or an option is ill-typed.
    """
    given = shlex.split(runner_options) or [
        "--direct_running_mode=multi_threading",
        f"--direct_num_workers={len(os.sched_getaffinity(0))}",
    ]
    options = PipelineOptions([f"--runner={runner}", *given])
    try:
        create_runner(runner)
        options.get_all_options()
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"--runner {runner}: {error}") from error
    except SystemExit:
        raise UsageError(f"--runner-options: Beam does not take {runner_options!r}") from None
    return options


def analyze(dataset: Manifest, shards: list[str], options: PipelineOptions, work_dir: Path, log: RunLog) -> Sums:
    """Run the pass over the shards and leave the transform graph in `work_dir`, as `tft.TFTransformOutput` reads it.

    Args:
        dataset: the manifest that names the shards.
        shards: names of TFRecord files of it, in any order.
        options: Beam options; they name the runner.
        work_dir: a folder that the workers can write.
        log: where progress goes.

    Returns:
        The sums over all images of the shards.

    Raises:
        DataError: a shard is damaged or holds another kind of image.
        StorageError: a shard cannot be read.
    """
    for name in ("apache_beam", "tensorflow", "absl"):  # they talk of their own internals
        logging.getLogger(name).setLevel(logging.ERROR)
    sizes = {shard["name"]: shard["num_examples"] for shard in dataset.content["splits"]["train"]["shards"]}
    ReadShards.progress = Progress(log, sum(sizes[name] for name in shards), "images")
    try:
        with (
            beam.Pipeline(options=options) as pipeline,
            tft_beam.Context(temp_dir=str(work_dir / "beam"), force_tf_compat_v1=False),
        ):
            names = pipeline | beam.Create(shards) | beam.Reshuffle()  # so that workers share the shards
            batches = names | beam.ParDo(ReadShards(dataset))
            transform_fn = (batches, _batch_layout()) | tft_beam.AnalyzeDataset(preprocessing_fn)
            _ = transform_fn | tft_beam.WriteTransformFn(str(work_dir))
    except RuntimeError as error:
        raise _worker_error(error) from error
    finally:
        ReadShards.progress = None
    return read_sums(work_dir)


def _worker_error(error: RuntimeError) -> Exception:
    """Find our own error in Beam's: workers hand over only the text of a traceback."""
    found = re.search(
        r"components\.shared\.errors\.(DataError|StorageError): (.*?)(?: \[while running|$)", str(error), re.M
    )
    if found is None:
        return error
    return {"DataError": DataError, "StorageError": StorageError}[found[1]](found[2])


def read_sums(work_dir: Path) -> Sums:
    """Read the sums back from a transform graph by running it on one image."""
    jpeg = simplejpeg.encode_jpeg(np.zeros(SHAPE_HWC, np.uint8))
    found = tft.TFTransformOutput(str(work_dir)).transform_raw_features({ENCODED: tf.constant([jpeg])})
    return Sums(*(found[name].numpy()[0] for name in Sums._fields))
