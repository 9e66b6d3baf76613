"""What the training and validation batches hold: a pure function of (seed, epoch, step).

The host draws everything that is random: order, crops, flips, noise and dropout masks. Any step can be made without
the ones before it, so a run resumes where it stopped, on any devices.
Shape suffixes: N images, H height, W width, C channels, U units.
"""

import functools
import math
from typing import Protocol

import numpy as np

from components.shared import records
from components.shared.manifest import StatisticsContent
from components.train.input.split import Split
from components.train.recipes.recipe import Recipe

CROP_SIZE = 224
MAX_OFFSET = records.IMAGE_SIZE - CROP_SIZE  # 32: 33 start positions on each axis
CENTER = MAX_OFFSET // 2

# What a draw is for; part of its seed, so that no two draws are the same stream.
ORDER, AUGMENTATION = 0, 1

Batch = dict[str, np.ndarray]


class Batches(Protocol):
    """Makes the batch of any step, images still encoded."""

    split: Split

    def indices(self, step: int) -> np.ndarray: ...
    def read(self, step: int) -> Batch: ...


def generator(*key: int) -> np.random.Generator:
    """Make a random generator from whole numbers; the stream of Philox is the same on every platform."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def bernoulli(rng: np.random.Generator, shape: tuple[int, ...], probability: float) -> np.ndarray:
    """Draw bool [shape], the same bits as `rng.random(shape, np.float32) < probability` in half of the time.

    NumPy makes such a number of the upper 24 of 32 bits of the stream, so the bits themselves can be compared.

    Args:
        rng: a generator of `generator`.
        shape: of the result.
        probability: above 0, at most 1.
    """
    count, bit_generator = math.prod(shape), rng.bit_generator
    if bit_generator.state["has_uint32"] or count % 2:  # half of a 64-bit number is left from before, or for later
        words = rng.integers(0, 2**32, count, np.uint32)
    else:
        words = bit_generator.random_raw(count // 2).view(np.uint32)
    largest = (math.ceil(float(np.float32(probability)) * 2**24) << 8) - 1
    return (words <= np.uint32(largest)).reshape(shape)


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
                name: bernoulli(rng, (num_images, units), self.recipe.dropout_keep)
                for name, units in self.mask_units.items()
            },
        }

    def read(self, step: int) -> Batch:
        """Read and draw the batch of a step, images still encoded."""
        return {**_encoded(self.split, self.indices(step)), **self.draw(step, len(self.indices(step)))}


class CenterBatches:
    """Makes batches of centre crops in the stored order, for validation."""

    def __init__(self, split: Split, batch_size: int, num_examples: int) -> None:
        self.split, self.batch_size, self.num_examples = split, batch_size, num_examples
        self.num_steps = -(-num_examples // batch_size)

    def indices(self, step: int) -> np.ndarray:
        """List the examples of a step; the last batch may be smaller."""
        return np.arange(step * self.batch_size, min((step + 1) * self.batch_size, self.num_examples))

    def read(self, step: int) -> Batch:
        """Read one batch, images still encoded."""
        indices = self.indices(step)
        return {**_encoded(self.split, indices), "origins": np.full((len(indices), 2), CENTER, np.int32)}


def _encoded(split: Split, indices: np.ndarray) -> Batch:
    return {"encoded": np.array(split.read(indices), object), "labels": split.labels[indices]}
