"""Training and validation batches from TFRecord shards; what a batch holds is a pure function of (seed, epoch, step).

The host reads, decodes and crops uint8 pixels, and draws everything that is random: order, crops, flips, noise and
dropout masks. Any step can be made without the ones before it, so a run resumes where it stopped, on any devices.
Shape suffixes: N images, H height, W width, C channels, U units.
"""

import functools
import struct
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from components.shared import records, runlog
from components.shared.errors import DataError
from components.shared.manifest import Manifest, ShardEntry, StatisticsContent
from components.train.recipe import Recipe

CROP_SIZE = 224
MAX_OFFSET = records.IMAGE_SIZE - CROP_SIZE  # 32: 33 start positions on each axis
CENTER = MAX_OFFSET // 2
PREFETCH_BATCHES = 2

# What a draw is for; part of its seed, so that no two draws are the same stream.
ORDER, AUGMENTATION = 0, 1

Batch = dict[str, np.ndarray]


def record_spans(data: np.ndarray, where: str) -> np.ndarray:
    """Find the records of a TFRecord file by a scan over their headers.

    Args:
        data: uint8, the file.
        where: name of the file, for errors.

    Returns:
        int64 [records, 2]: offset and length of each payload, in bytes.

    Raises:
        DataError: the file ends inside a record.
    """
    spans, at = [], 0
    while at < len(data):
        length = struct.unpack_from("<Q", data, at)[0] if at + 12 <= len(data) else len(data)
        if at + 16 + length > len(data):
            raise DataError(f"{where}, record {len(spans)}: truncated. The shard changed; run ingest again")
        spans.append((at + 12, length))
        at += 16 + length
    return np.array(spans, np.int64).reshape(-1, 2)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Read height and width from the frame header of a JPEG; (0, 0) when it has none."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + length
    return 0, 0


class Split:
    """The examples of one split, verified on local disk and read by index.

    Args:
        dataset: the manifest.
        split: train, validation or test.
        log: for the progress of the verification.

    Raises:
        DataError: a shard is not what the manifest promises, or the split is empty.
    """

    def __init__(self, dataset: Manifest, split: str, log: runlog.RunLog) -> None:
        shards: list[ShardEntry] = dataset.content["splits"][split]["shards"]
        self.num_classes = len(dataset.content["classes"])
        progress = runlog.Progress(log, len(shards), f"{split} shards")
        self.paths = dataset.stage_all((shard["name"] for shard in shards), progress.update)
        self._maps = [
            np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8) for path in self.paths
        ]
        spans = [record_spans(data, str(path)) for data, path in zip(self._maps, self.paths, strict=True)]
        for shard, found, path in zip(shards, spans, self.paths, strict=True):
            if len(found) != shard["num_examples"]:
                raise DataError(
                    f"{path}: expected {shard['num_examples']} records, got {len(found)}. "
                    "The manifest and its shards do not belong together; run ingest again"
                )
        self._starts = np.cumsum([0, *map(len, spans)])
        self._spans = np.concatenate([np.empty((0, 2), np.int64), *spans])
        if not len(self):
            raise DataError(f"the {split} split of the dataset has no examples. Choose a subset that has some")

    def __len__(self) -> int:
        return len(self._spans)

    def read(self, index: int) -> tuple[bytes, int]:
        """Read one example: the JPEG of 256x256 RGB pixels, and the 0-based label.

        Raises:
            DataError: the record is not an example of this dataset; names shard and record.
        """
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        offset, length = self._spans[index]
        where = f"{self.paths[shard]}, record {index - self._starts[shard]}"
        try:
            features = records.decode_example(self._maps[shard][offset : offset + length].tobytes())
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        jpeg, label = features["image/encoded"], features["image/class/label"]
        if not 0 <= label < self.num_classes:
            raise DataError(f"{where}: expected a label below {self.num_classes}, got {label}. Run ingest again")
        size = jpeg_size(jpeg)
        if size != (records.IMAGE_SIZE, records.IMAGE_SIZE):
            raise DataError(f"{where}: expected a JPEG of 256x256 pixels, got {size[0]}x{size[1]}. Run ingest again")
        return jpeg, label


def generator(*key: int) -> np.random.Generator:
    """Make a random generator from whole numbers; the stream of Philox is the same on every platform."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@functools.lru_cache(maxsize=2)
def epoch_order(num_examples: int, seed: int, epoch: int, reshuffle: bool) -> np.ndarray:
    """Order the examples of one epoch, each once, int64 [num_examples]; as stored without `reshuffle`, as in 2012."""
    if not reshuffle:
        return np.arange(num_examples)
    return generator(seed, ORDER, epoch).permutation(num_examples)


def noise_basis(recipe: Recipe, statistics: StatisticsContent, color_noise: float) -> np.ndarray:
    """Build the matrix that turns three standard normal draws into RGB offsets (paper, section 4.1).

    Args:
        recipe: says what scales the principal components: their standard deviations, as the original code, or
            their eigenvalues on pixels of 0..1, as the text.
        statistics: components in the rows of `eigenvectors`, grey levels of 0..255.
        color_noise: standard deviation of the multiples of the components, 0.1 in the paper.

    Returns:
        float64 [3, 3]; offsets in grey levels = draws @ matrix.
    """
    if recipe.color_noise_basis == "standard_deviations":
        scales = np.array(statistics["standard_deviations"])
    else:
        scales = np.array(statistics["eigenvalues"]) / 255
    return color_noise * scales[:, None] * np.array(statistics["eigenvectors"])


class TrainingBatches:
    """Makes the training batch of any step.

    Args:
        split: the training examples.
        recipe: batch size, crops and noise.
        statistics: for the colour noise.
        seed: of all draws.
        num_epochs: length of the run.
        mask_units: units of each dropout layer, by name.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        statistics: StatisticsContent,
        seed: int,
        num_epochs: int,
        mask_units: dict[str, int],
    ) -> None:
        self.split, self.recipe, self.statistics, self.seed = split, recipe, statistics, seed
        self.num_epochs, self.mask_units = num_epochs, mask_units
        self.steps_per_epoch = -(-len(split) // recipe.batch_size)

    def position(self, step: int) -> tuple[int, int]:
        """Return the epoch (1-based) of a step (0-based) and its place in the epoch."""
        return step // self.steps_per_epoch + 1, step % self.steps_per_epoch

    def indices(self, step: int) -> np.ndarray:
        """List the examples of a step; the last batch of an epoch may be smaller, none is left out."""
        epoch, place = self.position(step)
        order = epoch_order(len(self.split), self.seed, epoch, self.recipe.reshuffle)
        return order[place * self.recipe.batch_size : (place + 1) * self.recipe.batch_size]

    def draw(self, step: int, num_images: int) -> Batch:
        """Draw the augmentation and dropout of a step (paper, sections 4.1 and 4.2).

        Returns:
            origins int32 [N, 2] (y and x of the crop, 0..32), flips bool [N], noise float32 [N, 3] (RGB, grey levels)
            and for each dropout layer bool [N, U].
        """
        epoch, place = self.position(step)
        rng = generator(self.seed, AUGMENTATION, epoch, place)
        group = np.arange(num_images) // self.recipe.crop_group
        num_groups = group[-1] + 1
        color_noise = self.recipe.phase(epoch, self.num_epochs).color_noise
        origins = rng.integers(0, MAX_OFFSET, (num_groups, 2), np.int32, endpoint=True)[group]
        flips = (rng.random(num_groups) < 0.5)[group]
        if not self.recipe.random_crops:  # drawn all the same, so that noise and masks stay those of the base recipe
            origins, flips = np.full_like(origins, CENTER), np.zeros_like(flips)
        return {
            "origins": origins,
            "flips": flips,
            "noise": (
                rng.standard_normal((num_images, 3)) @ noise_basis(self.recipe, self.statistics, color_noise)
            ).astype(np.float32),
            **{
                name: rng.random((num_images, units), np.float32) < self.recipe.dropout_keep
                for name, units in self.mask_units.items()
            },
        }

    def read(self, step: int) -> Batch:
        """Read and draw the batch of a step, images still encoded."""
        examples = [self.split.read(index) for index in self.indices(step)]
        return {**_encoded(examples), **self.draw(step, len(examples))}


class CenterBatches:
    """Makes batches of centre crops in the stored order, for validation."""

    def __init__(self, split: Split, batch_size: int, num_examples: int) -> None:
        self.split, self.batch_size, self.num_examples = split, batch_size, num_examples
        self.num_steps = -(-num_examples // batch_size)

    def read(self, step: int) -> Batch:
        """Read one batch, images still encoded; the last may be smaller."""
        last = min((step + 1) * self.batch_size, self.num_examples)
        examples = [self.split.read(index) for index in range(step * self.batch_size, last)]
        return {**_encoded(examples), "origins": np.full((len(examples), 2), CENTER, np.int32)}


def _encoded(examples: list[tuple[bytes, int]]) -> Batch:
    jpegs, labels = zip(*examples, strict=True)
    return {"encoded": np.array(jpegs, object), "labels": np.array(labels, np.int32)}


def _decode(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Replace the JPEGs by uint8 crops [N, 224, 224, 3]."""

    def crop(encoded: tf.Tensor, origin: tf.Tensor) -> tf.Tensor:
        window = tf.concat([origin, [CROP_SIZE, CROP_SIZE]], 0)
        # The default method of TensorFlow darkens images by 0.8 grey levels.
        return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, dct_method="INTEGER_ACCURATE")

    rest = {name: value for name, value in batch.items() if name not in ("encoded", "origins")}
    signature = tf.TensorSpec((CROP_SIZE, CROP_SIZE, 3), tf.uint8)
    crops = tf.map_fn(lambda pair: crop(*pair), (batch["encoded"], batch["origins"]), fn_output_signature=signature)
    return {"crops": crops, **rest}


def iterate(read: Callable[[int], Batch], first_step: int, last_step: int) -> Iterator[dict[str, tf.Tensor]]:
    """Read, decode and crop the batches of a range of steps, ahead of their use.

    Args:
        read: makes the encoded batch of a step.
        first_step: 0-based.
        last_step: exclusive.

    Raises:
        DataError: an example is not what it must be.
    """
    example = read(first_step)
    names = list(example)
    failures: list[DataError] = []

    def call(step: np.ndarray) -> list[np.ndarray]:
        try:
            batch = read(int(step))
        except DataError as error:  # TensorFlow would make another exception of it
            failures.append(error)
            raise
        return [batch[name] for name in names]

    def load(step: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(call, [step], [tf.as_dtype(example[name].dtype) for name in names])
        for name, value in zip(names, values, strict=True):
            value.set_shape([None, *example[name].shape[1:]])
        return _decode(dict(zip(names, values, strict=True)))

    options = tf.data.Options()
    options.autotune.enabled = False  # it blocks for seconds when a finite loop is left
    options.deterministic = True
    dataset = tf.data.Dataset.range(first_step, last_step).map(load, num_parallel_calls=PREFETCH_BATCHES)
    try:
        yield from dataset.prefetch(PREFETCH_BATCHES).with_options(options)
    except tf.errors.OpError as error:
        if failures:
            raise failures[0] from error
        raise DataError(f"a JPEG cannot be decoded: {error.message.splitlines()[0]}. Run ingest again") from error
