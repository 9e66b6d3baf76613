"""Reads, decodes and crops batches ahead of their use, in threads of this process."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Generator

import tensorflow as tf

from components.shared.errors import DataError, StorageError
from components.train.input.draws import CROP_SIZE, Batches

# A core decodes about 3,000 images/s; more threads would only hold more batches in memory.
MAX_THREADS = 16
STARVED_SECONDS = 300.0  # longer than any retry of a storage that is alive
POLL_SECONDS = 0.5


def _crop(encoded: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    # The default method of TensorFlow darkens images by 0.8 grey levels.
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, dct_method="INTEGER_ACCURATE")


@tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.int32)])
def decode(encoded_N: tf.Tensor, origins_N2: tf.Tensor) -> tf.Tensor:
    """Decode the crops of a batch, uint8 [N, 224, 224, 3], without the pixels around them."""
    windows = tf.concat([origins_N2, tf.fill(tf.shape(origins_N2), CROP_SIZE)], 1)
    signature = tf.TensorSpec((CROP_SIZE, CROP_SIZE, 3), tf.uint8)
    return tf.map_fn(lambda pair: _crop(*pair), (encoded_N, windows), fn_output_signature=signature)


def load(batches: Batches, step: int) -> dict[str, tf.Tensor]:
    """Make the batch of a step: uint8 crops [N, 224, 224, 3] and the rest as drawn, in host memory.

    Raises:
        DataError: an example is not what it must be; names shard and record.
        StorageError: a shard cannot be read.
    """
    batch = batches.read(step)
    encoded, origins = batch.pop("encoded"), batch.pop("origins")
    with tf.device("/device:CPU:0"):
        try:
            crops = decode(tf.constant(encoded), tf.constant(origins))
        except tf.errors.InvalidArgumentError:
            for index, jpeg in zip(batches.indices(step).tolist(), encoded, strict=True):
                try:
                    _crop(jpeg, tf.constant([0, 0, CROP_SIZE, CROP_SIZE]))
                except tf.errors.InvalidArgumentError as error:
                    reason = error.message.splitlines()[0].split("}} ")[-1].split(" [Op:")[0].rstrip(".")
                    raise DataError(
                        f"{batches.split.where(index)}: cannot be decoded: {reason}. Run ingest again"
                    ) from error
            raise
        return {"crops": crops, **{name: tf.constant(value) for name, value in batch.items()}}


def iterate(
    batches: Batches, first_step: int, last_step: int, stopped: Callable[[], bool] = lambda: False
) -> Generator[dict[str, tf.Tensor]]:
    """Load the batches of a range of steps, in order, as `load` makes them.

    Args:
        batches: makes the encoded batch of a step.
        first_step: 0-based.
        last_step: exclusive.
        stopped: polled while waiting; when it returns True, the batches end early.

    Raises:
        DataError: an example is not what it must be.
        StorageError: a shard cannot be read, or nothing came for five minutes.
    """
    num_threads = max(1, min(len(os.sched_getaffinity(0)), MAX_THREADS, last_step - first_step))
    ready: list[queue.Queue] = [queue.Queue(1) for _ in range(num_threads)]
    closed = threading.Event()
    threads = []
    for place in range(num_threads):
        steps = range(first_step + place, last_step, num_threads)
        # Daemons: a thread that hangs in a read must not keep the process from ending.
        threads.append(threading.Thread(target=_work, args=(batches, steps, ready[place], closed), daemon=True))
        threads[-1].start()
    try:
        for step in range(first_step, last_step):
            result = _wait(batches, ready[(step - first_step) % num_threads], step, stopped)
            if result is None:
                return
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        closed.set()
        for thread in threads:
            thread.join(2 * POLL_SECONDS)


def _work(batches: Batches, steps: range, ready: queue.Queue, closed: threading.Event) -> None:
    """Load the batches of some steps, each as soon as the one before was taken."""
    for step in steps:
        try:
            result = load(batches, step)
        except Exception as error:  # noqa: BLE001 - raised again where the batch is awaited
            result = error
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(result, timeout=POLL_SECONDS)
                break
        if closed.is_set():
            return


def _wait(batches: Batches, ready: queue.Queue, step: int, stopped: Callable[[], bool]) -> dict | Exception | None:
    """Return the batch of a step; None if `stopped` returns True before it is ready."""
    start = time.monotonic()
    while True:
        try:
            return ready.get(timeout=POLL_SECONDS)
        except queue.Empty:
            if stopped():
                return None
        if time.monotonic() - start > STARVED_SECONDS:
            paths = ", ".join(sorted({str(path) for path in list(batches.split.reading.values())}))
            raise StorageError(
                f"no input for {STARVED_SECONDS:.0f} s at step {step}, while reading {paths or 'nothing'}. "
                "Check the disk or mount of that shard; the same command resumes from the last checkpoint"
            )
