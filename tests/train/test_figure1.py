"""The four-layer network of Figure 1. Numbers in names: the assertions of the fidelity specification."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks import figure1


def test_t13_average_pooling_is_cut_at_the_border():
    model, parameters = figure1.build(figure1.RELU)
    assert sum(int(np.prod(variable.shape)) for variable in parameters.values()) == 89578
    pools = [layer for layer in model.layers if "pooling" in layer.name]
    assert [pool.output.shape[1:] for pool in pools] == [(16, 16, 32), (8, 8, 32), (4, 4, 64)]
    assert [type(pool) for pool in pools[1:]] == [keras.layers.AveragePooling2D] * 2
    found = keras.layers.AveragePooling2D.from_config(pools[1].get_config())(np.arange(16.0).reshape(1, 4, 4, 1))
    assert np.asarray(found)[0, :, :, 0].tolist() == [[5, 6.5], [11, 12.5]]


def test_rows_of_the_binary_version_are_planes_of_colour(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (10, 32, 32, 3), np.uint8), np.arange(10)
    for part in range(5):
        rows = [
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for label, image in zip(labels[2 * part :][:2], images[2 * part :][:2], strict=True)
        ]
        (tmp_path / f"data_batch_{part + 1}.bin").write_bytes(b"".join(rows))
    found_images, found_labels = figure1.load(tmp_path)
    np.testing.assert_array_equal(found_images, images)
    np.testing.assert_array_equal(found_labels, labels)


@pytest.fixture(scope="module")
def stripes():
    """Ten directions of stripes, which a network of any kind learns."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1280).astype(np.int32)
    y, x = np.mgrid[:32, :32] / 32
    angle = labels[:, None, None] * np.pi / 10
    waves = np.sin(2 * np.pi * 4 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6, (1280, 1, 1)))
    return np.repeat((128 + 100 * waves).astype(np.uint8)[..., None], 3, axis=-1), labels


@pytest.mark.slow
@pytest.mark.parametrize("base", [figure1.RELU, figure1.TANH], ids=lambda config: config.nonlinearity)
def test_both_learn_the_same_way_twice(stripes, base):
    config = replace(base, learning_rate=0.0003, max_epochs=2, weight_stds=(0.003, 0.05, 0.05, 0.05))
    curves = [list(figure1.errors(config, *stripes)) for _ in range(2)]
    assert curves[0] == curves[1]
    assert curves[0][-1] < min(0.7, curves[0][0])


@pytest.mark.slow
def test_a_rate_that_diverges_is_never_the_best(stripes):
    def train(config):
        return figure1.errors(replace(config, max_epochs=2), *stripes)

    assert list(train(replace(figure1.RELU, learning_rate=1e6)))[-1] == 1
    assert figure1.epochs_until([0.8, 0.5, 0.3], 0.4) == pytest.approx(2.5)
    assert figure1.epochs_until([0.8, 0.5], 0.4) is None
