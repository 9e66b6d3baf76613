"""The TF Transform side: the sums of the groups in, one full-pass analyzer a field, the transform graph out.

The rows of the analysis are the groups' sums, which workers of any engine published (`sums`); `tft.sum` adds them in
int64. The graph takes `image/encoded` and gives the image minus the mean image; the mean is a constant in it. The
integer sums are outputs too, so that the SavedModel alone says all that was found.

The analysis runs in this process, whatever the engine: it is a matter of a second, and TF Transform's pipelines have
side inputs and several sinks, which not every runner computes.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import simplejpeg
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from components.statistics.sums import SHAPE_HWC, Sums, partial_uri, read_partial

ENCODED = "image/encoded"
SHAPES = {"pixel_sums": SHAPE_HWC, "product_sums": (3, 3), "num_images": ()}


def prepare_process() -> None:
    """Let TensorFlow look for devices now: it complains on stderr where there is no GPU driver."""
    tf.config.list_physical_devices()


def _rows(group: int, folder: str) -> Iterator[pa.RecordBatch]:
    """Read the sums of a group where the analysis runs, as a batch of one row."""
    yield _batch([read_partial(partial_uri(folder, group))])


def _batch(rows: list[Sums]) -> pa.RecordBatch:
    columns = {ENCODED: pa.array([[b""]] * len(rows), pa.large_list(pa.large_binary()))}  # the graph's, not analyzed
    for name in Sums._fields:
        values = [getattr(row, name).ravel() for row in rows]
        columns[name] = pa.array(values, pa.large_list(pa.int64()))
    return pa.RecordBatch.from_pydict(columns)


def _layout() -> TensorAdapterConfig:
    """Tell TF Transform the shape of each column of a batch."""
    kinds = {}
    for name in (ENCODED, *Sums._fields):
        # Made at run time, which the type checker does not see.
        kinds[name] = schema_pb2.TensorRepresentation()  # pyright: ignore[reportAttributeAccessIssue]
        kinds[name].dense_tensor.column_name = name
        for size in SHAPES.get(name, ()):
            kinds[name].dense_tensor.shape.dim.add(size=size)
    return TensorAdapterConfig(_batch([]).schema, kinds)


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Define the transform graph: `image` float32 [N, 256, 256, 3], and the sums, repeated for each image."""
    sums = Sums(*(tft.sum(inputs[name], reduce_instance_dims=False, name=name) for name in Sums._fields))
    mean_HWC = tf.cast(tf.cast(sums.pixel_sums, tf.float64) / tf.cast(sums.num_images, tf.float64), tf.float32)

    def decode(jpeg: tf.Tensor) -> tf.Tensor:
        image_HWC = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")  # the default DCT is 0.8 darker
        return tf.ensure_shape(image_HWC, SHAPE_HWC)

    jpegs_N = inputs[ENCODED]
    images_NHWC = tf.map_fn(decode, jpegs_N, fn_output_signature=tf.uint8)
    repeated = {
        name: tf.repeat(tf.reshape(value, (1, *SHAPES[name])), tf.shape(jpegs_N)[0], axis=0)
        for name, value in sums._asdict().items()
    }
    return {"image": tf.cast(images_NHWC, tf.float32) - mean_HWC, **repeated}


def analyze(folder: str, num_groups: int, work_dir: Path) -> Sums:
    """Add up the groups' sums and leave the transform graph in `work_dir`, as `tft.TFTransformOutput` reads it.

    Args:
        folder: where the groups' sums are.
        num_groups: how many there are.
        work_dir: an empty local folder.

    Returns:
        The sums over all images, as the graph holds them.

    Raises:
        DataError, StorageError: the sums of a group are damaged or cannot be read.
    """
    for name in ("apache_beam", "tensorflow", "absl"):  # they talk of their own internals
        logging.getLogger(name).setLevel(logging.ERROR)
    with (
        beam.Pipeline(runner="FnApiRunner") as pipeline,
        tft_beam.Context(temp_dir=str(work_dir / "beam"), force_tf_compat_v1=False),
    ):
        rows = pipeline | beam.Create(range(num_groups)) | beam.FlatMap(_rows, folder)
        transform_fn = (rows, _layout()) | tft_beam.AnalyzeDataset(preprocessing_fn)
        _ = transform_fn | tft_beam.WriteTransformFn(str(work_dir))
    return read_sums(work_dir)


def read_sums(work_dir: Path) -> Sums:
    """Read the sums back from a transform graph by running it on one image."""
    jpeg = simplejpeg.encode_jpeg(np.zeros(SHAPE_HWC, np.uint8))
    found = tft.TFTransformOutput(str(work_dir)).transform_raw_features({ENCODED: tf.constant([jpeg])})
    return Sums(*(found[name].numpy()[0] for name in Sums._fields))
