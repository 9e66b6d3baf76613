"""What a batch holds, by position. Numbers in names: the assertions of the fidelity specification."""

import hashlib
import itertools

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_dataset import LOG, MASKS, NUM_CLASSES, PUBLISHED, tiny, write_inputs

from components.train.input.draws import CenterBatches, TrainingBatches, bernoulli, epoch_order, generator, noise_basis
from components.train.input.loader import iterate
from components.train.input.split import Split
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.alexnet_2012_paper import ALEXNET_2012_PAPER

GOLDEN = {  # sha256 of draws by the code of the first commits
    "origins": "a6776de6659b495a",
    "flips": "33489300528ee81a",
    "fc6_dropout": "656019050aea4d76",
    "fc7_dropout": "d7dd243c71081e5e",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def split(inputs):
    return Split(inputs[0], "train", LOG)


def batches_of(split, num_epochs=3, seed=0, **changes):
    return TrainingBatches(split, tiny(**changes), PUBLISHED, seed, num_epochs, MASKS)


class Numbered:
    """As many examples as needed, none of which is read."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return self.number


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 2**31), st.booleans())
def test_every_image_once_an_epoch(num_examples, batch_size, seed, reshuffle):
    batches = batches_of(Numbered(num_examples), seed=seed, batch_size=batch_size, reshuffle=reshuffle)
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        seen = np.concatenate([batches.indices(step) for step in steps])
        assert sorted(seen) == list(range(num_examples))
        assert {len(batches.indices(step)) for step in steps[:-1]} <= {batch_size}
    if not reshuffle:
        assert list(seen) == list(range(num_examples))


def test_order_depends_on_seed_and_epoch():
    orders = [tuple(epoch_order(50, seed, epoch, True)) for seed, epoch in itertools.product((0, 1), (1, 2))]
    assert len(set(orders)) == 4


def test_t28_minibatches_of_the_full_set():
    batches = TrainingBatches(Numbered(1261406), ALEXNET_2012, PUBLISHED, 0, 93, {})
    assert batches.steps_per_epoch == 9855
    assert len(batches.indices(9854)) == 94
    assert batches.position(9855) == (2, 0)


@pytest.mark.slow
def test_any_step_can_be_made_without_the_ones_before(split):
    whole = list(iterate(batches_of(split), 0, 12))
    for first in (1, 4, 11):
        for expected, batch in zip(whole[first:], iterate(batches_of(split), first, 12), strict=True):
            for name, value in expected.items():
                np.testing.assert_array_equal(batch[name], value)
    other = next(iterate(batches_of(split, seed=1), 0, 12))
    assert not any(np.array_equal(other[name], whole[0][name]) for name in ("crops", "flips", "noise", "fc6_dropout"))


def test_crops_are_windows_of_the_decoded_image(split):
    batches = batches_of(split)
    batch, encoded = next(iterate(batches, 2, 3)), batches.read(2)
    for crop, jpeg, (y, x) in zip(batch["crops"].numpy(), encoded["encoded"], encoded["origins"], strict=True):
        np.testing.assert_array_equal(crop, simplejpeg.decode_jpeg(jpeg)[y : y + 224, x : x + 224])
    assert batch["crops"].dtype == np.uint8


def test_validation_takes_centre_crops_of_all_in_stored_order(inputs):
    split = Split(inputs[0], "validation", LOG)
    seen = list(iterate(CenterBatches(split, 4, len(split)), 0, 3))
    assert [len(batch["labels"]) for batch in seen] == [4, 4, 2]
    assert np.concatenate([batch["labels"] for batch in seen]).tolist() == [i % NUM_CLASSES for i in range(10)]
    image = simplejpeg.decode_jpeg(split.read(np.array([5]))[0])[16:240, 16:240]
    np.testing.assert_array_equal(seen[1]["crops"][1], image)


def test_t22_offsets_and_flips():
    draws = [batches_of(Numbered(10**6), batch_size=1000).draw(step, 1000) for step in range(8)]
    origins = np.concatenate([draw["origins"] for draw in draws])
    assert set(origins[:, 0]) == set(origins[:, 1]) == set(range(33))
    flips = np.concatenate([draw["flips"] for draw in draws])
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / np.sqrt(flips.size)


def test_one_crop_and_flip_for_32_consecutive_images():
    batches = TrainingBatches(Numbered(10**6), ALEXNET_2012, PUBLISHED, 0, 93, {})
    origins = batches.draw(0, 128)["origins"].reshape(4, 32, 2)
    assert np.all(origins == origins[:, :1])
    assert len({tuple(origin) for origin in origins[:, 0]}) > 1
    assert len(batches.draw(0, 94)["origins"]) == 94
    assert len(np.unique(batches.draw(0, 128)["noise"], axis=0)) == 128


def test_t21_masks_keep_half():
    masks = batches_of(Numbered(10**6)).draw(0, 20000)["fc6_dropout"]
    assert masks.dtype == bool
    assert abs(masks.mean() - 0.5) < 0.005


def test_t23_offsets_of_the_colour_noise():
    z = np.array([1, -0.5, 2])
    code, paper = noise_basis(ALEXNET_2012, PUBLISHED, 0.1), noise_basis(ALEXNET_2012_PAPER, PUBLISHED, 0.1)
    np.testing.assert_allclose(z @ code, [-11.579008, -15.601045, -14.935806], rtol=1e-6)
    np.testing.assert_allclose(z @ paper, [-6.298575, -6.820238, -7.014569], rtol=1e-6)


def test_t24_colour_noise_over_the_epochs():
    batches = TrainingBatches(Numbered(128 * 10), ALEXNET_2012, PUBLISHED, 0, 93, {})
    noise = np.concatenate([batches.draw(step, 5000)["noise"] for step in range(10)])
    np.testing.assert_allclose(noise.std(0), [7.399936, 7.199903, 7.704210], rtol=0.02)
    assert np.all(np.abs(noise.mean(0)) < 0.2)
    assert np.any(batches.draw(67 * 10 - 1, 128)["noise"])
    assert not np.any(batches.draw(67 * 10, 128)["noise"])  # the first batch of epoch 68


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 400), st.integers(0, 3), st.floats(0.01, 1))
def test_bernoulli_draws_what_a_comparison_of_floats_draws(seed, count, words_before, probability):
    fast, plain = generator(seed), generator(seed)
    for rng in (fast, plain):
        rng.integers(0, 2**32, words_before, np.uint32)  # an odd number of them leaves half of a 64-bit number
    for shape in ((count, 3), (2, count)):
        expected = plain.random(shape, np.float32) < probability
        np.testing.assert_array_equal(bernoulli(fast, shape, probability), expected)
    assert fast.random() == plain.random()


def test_the_draws_are_those_of_the_first_trainings():
    """Holds the bits, so that no change of the code changes what a seed means."""
    batches = TrainingBatches(Numbered(1000), ALEXNET_2012, PUBLISHED, 7, 93, {"fc6_dropout": 4096, "fc7_dropout": 64})
    draw = batches.draw(3, 128)
    assert {name: hashlib.sha256(draw[name].tobytes()).hexdigest()[:16] for name in GOLDEN} == GOLDEN
