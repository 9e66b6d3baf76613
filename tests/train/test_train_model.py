"""The network's arithmetic, weights and input. Numbers in names: the assertions of the fidelity specification."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_dataset import NUM_CLASSES, tiny

from components.train.net import network
from components.train.net.model import (
    AlexNet,
    center_mean,
    local_response_norm,
    max_pool,
    prepare_test,
    prepare_training,
    spatial_norm,
)
from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.alexnet_2012_paper import ALEXNET_2012_PAPER
from components.train.recipes.smoke import SMOKE

CODE = {"size": 5, "k": 2.0, "alpha": 2e-5, "beta": 0.75}
PAPER = {**CODE, "alpha": 1e-4}
SPATIAL = {"size": 5, "k": 1.0, "alpha": 4e-5, "beta": 0.75}
VECTOR = np.array([10, -20, 30, -40, 50, 60, -70, 80], np.float32)


def eager_and_traced(function, x):
    """Run an op eagerly and in a tf.function; both must agree."""
    eager = function(tf.constant(x)).numpy()
    np.testing.assert_allclose(tf.function(function)(tf.constant(x)).numpy(), eager, rtol=1e-6)
    return eager


def lrn(values, **settings):
    x = np.asarray(values, np.float32).reshape(1, 1, 1, -1)
    return eager_and_traced(lambda x: local_response_norm(x, **settings), x).ravel()


def small_net(recipe=SMOKE, seed=0, num_classes=NUM_CLASSES):
    layers = network.build(recipe, num_classes)
    return layers, AlexNet(layers, recipe, seed)


@pytest.mark.parametrize(
    ("settings", "constant", "expected"),
    [
        (CODE, 10, [5.932692, 5.928260, 5.923835, 5.923835]),
        (CODE, 100, [48.839363, 46.198883, 43.869134, 43.869134]),
        (PAPER, 1, [0.594537, 0.594514, 0.594492, 0.594492]),
        (PAPER, 10, [5.880009, 5.858378, 5.836932, 5.836932]),
        (PAPER, 100, [29.906976, 26.084743, 23.236808, 23.236808]),
    ],
)
@pytest.mark.slow
def test_t07_lrn_of_a_constant(settings, constant, expected):
    np.testing.assert_allclose(lrn([constant] * 8, **settings), expected + expected[::-1], rtol=1e-5)


def test_t08_lrn_of_a_vector():
    code = [5.884357, -11.631335, 17.135998, -22.295521, 27.036509, 31.312557, -36.904087, 42.862497]
    paper = [5.651838, -10.708635, 14.866753, -17.999544, 20.192328, 21.619856, -26.028212, 31.330759]
    np.testing.assert_allclose(lrn(VECTOR, **CODE), code, rtol=1e-5)
    np.testing.assert_allclose(lrn(VECTOR, **PAPER), paper, rtol=1e-5)
    np.testing.assert_allclose(
        lrn(VECTOR, **{**CODE, "beta": 0.5}), VECTOR / (VECTOR / lrn(VECTOR, **CODE)) ** (2 / 3), rtol=1e-5
    )


@pytest.mark.slow
def test_t09_order_of_layer_1():
    def first_layer(recipe):
        one = replace(recipe.convs[0], filters=16)  # 8 a tower
        layers, model = small_net(replace(recipe, convs=(one, *recipe.convs[1:]), denses=SMOKE.denses))
        model.weighted["conv1a"].kernel.assign(np.zeros((11, 11, 3, 8)))
        model.weighted["conv1a"].bias.assign(VECTOR)
        before_conv2 = next(layer for layer in layers if layer["name"] == "conv2a")["inputs"][0]
        return model.activations(tf.zeros((1, 224, 224, 3)))[before_conv2].numpy()[0, 3, 3]

    code = [5.884357, 0, 17.135998, 0, 27.036509, 31.312557, 0, 42.862497]
    paper = [5.732387, 0, 15.805941, 0, 23.738167, 24.787843, 0, 35.095307]
    np.testing.assert_allclose(first_layer(ALEXNET_2012), code, rtol=1e-5)
    np.testing.assert_allclose(first_layer(ALEXNET_2012_PAPER), paper, rtol=1e-5)


def test_t10_lrn_stops_at_the_tower():
    towers = np.concatenate([lrn([100] * 48, **CODE), lrn([100] * 48, **CODE)])
    expected = [43.869134, 46.198883, 48.839363, 48.839363, 46.198883, 43.869134]
    np.testing.assert_allclose(towers[45:51], expected, rtol=1e-5)
    layers, _ = small_net()
    assert [layer["inputs"] for layer in layers if layer["name"] in ("lrn1a", "lrn1b")] == [["conv1a"], ["conv1b"]]


def test_t11_lrn_gradient():
    def gradient(values, settings, unit=None):
        x = tf.constant(np.asarray(values, np.float32).reshape(1, 1, 1, -1))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = local_response_norm(x, **settings)
            total = tf.reduce_sum(y if unit is None else y[..., unit])
        return tape.gradient(total, x).numpy().ravel()

    np.testing.assert_allclose(gradient([100] * 5, CODE, 2)[[2, 0]], [0.394822, -0.043869], rtol=2e-5)
    np.testing.assert_allclose(gradient([100] * 5, PAPER, 2)[[2, 0]], [0.182575, -0.049793], rtol=2e-5)
    expected = [0.586823, 0.578656, 0.564846, 0.578166, 0.529865, 0.489882, 0.586005, 0.497162]
    np.testing.assert_allclose(gradient(VECTOR, CODE), expected, rtol=2e-5)


def test_t12_spatial_norm():
    def norm(image):
        x = np.asarray(image, np.float32)[None, :, :, None]
        return eager_and_traced(lambda x: spatial_norm(x, **SPATIAL), x)[0, :, :, 0]

    ten, hundred, ramp = norm(np.full((7, 7), 10)), norm(np.full((7, 7), 100)), norm(np.arange(1, 26).reshape(5, 5))
    np.testing.assert_allclose([ten[3, 3], ten[0, 3], ten[0, 0]], [9.310124, 9.572395, 9.738233], rtol=1e-5)
    np.testing.assert_allclose(
        [hundred[3, 3], hundred[0, 3], hundred[0, 0]], [16.556003, 23.236808, 31.836963], rtol=1e-5
    )
    np.testing.assert_allclose([ramp[0, 0], ramp[2, 2], ramp[4, 4]], [0.982456, 11.191972, 22.716892], rtol=1e-5)
    both = spatial_norm(local_response_norm(tf.fill((1, 7, 7, 8), 100.0), **CODE), **SPATIAL).numpy()
    np.testing.assert_allclose(both[0, 3, 3, 3], 19.616442, rtol=1e-5)


@pytest.mark.slow
def test_t05_towers_do_not_touch_before_conv3():
    images = np.random.default_rng(0).normal(0, 50, (2, 224, 224, 3)).astype(np.float32)
    _, model = small_net()
    before = model.activations(images)
    model.weighted["conv1b"].kernel.assign(keras.ops.zeros_like(model.weighted["conv1b"].kernel))
    after = model.activations(images)
    np.testing.assert_array_equal(before["conv2a"], after["conv2a"])
    assert not np.array_equal(before["conv2b"], after["conv2b"])
    for name in ("conv3a", "conv3b"):
        assert np.all(np.any(before[name].numpy() != after[name].numpy(), axis=(0, 1, 2)))
    _, model = small_net()
    model.weighted["conv3b"].kernel.assign(keras.ops.zeros_like(model.weighted["conv3b"].kernel))
    after = model.activations(images)
    np.testing.assert_array_equal(before["conv5a"], after["conv5a"])
    assert not np.array_equal(before["conv5b"], after["conv5b"])


def test_t06_conv1_pads_right_and_bottom():
    _, model = small_net()
    model.weighted["conv1a"].kernel.assign(keras.ops.ones_like(model.weighted["conv1a"].kernel))
    out = model.activations(tf.ones((1, 224, 224, 3)))["conv1a"].numpy()[0, :, :, 0]
    assert out.shape == (55, 55)
    assert [out[0, 0], out[53, 53], out[27, 54], out[54, 27], out[54, 54]] == [363, 363, 264, 264, 192]
    assert out.sum(dtype=np.float64) == 1087212


def test_t13_max_pooling_overlaps():
    found = eager_and_traced(lambda x: max_pool(x, 3, 2), np.arange(49, dtype=np.float32).reshape(1, 7, 7, 1))
    assert found[0, :, :, 0].tolist() == [[16, 18, 20], [30, 32, 34], [44, 46, 48]]
    _, model = small_net()
    values = model.activations(np.random.default_rng(0).normal(0, 50, (1, 224, 224, 3)).astype(np.float32))
    x = values["conv5a"].numpy()[0, :, :, 0]
    expected = [[x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(6)] for i in range(6)]
    np.testing.assert_array_equal(values["pool5a"].numpy()[0, :, :, 0], expected)


@pytest.mark.slow
def test_every_shape_is_the_one_that_the_network_promises():
    for recipe in (SMOKE, replace(SMOKE, towers=1), replace(ALEXNET_2012_PAPER, denses=SMOKE.denses), tiny()):
        layers, model = small_net(recipe)
        values = model.activations(tf.zeros((2, 224, 224, 3)))
        assert {layer["name"]: [2, *layer["shape"]] for layer in layers} == {
            n: list(v.shape) for n, v in values.items()
        }
        counted = sum(int(np.prod(v.shape)) for v in model.parameters().values())
        assert counted == network.totals(layers)["num_parameters"]


@pytest.mark.slow
def test_t18_initial_weights_are_gaussian_and_not_truncated():
    _, model = small_net(replace(ALEXNET_2012, denses=SMOKE.denses))
    for name, expected in {"conv1": 0.01, "conv2": 0.01, "conv3": 0.03, "conv4": 0.03, "conv5": 0.03}.items():
        weights = np.concatenate([model.parameters()[f"{name}{tower}/kernel"].numpy().ravel() for tower in "ab"])
        assert abs(weights.std() - expected) < 5 * expected / np.sqrt(2 * weights.size)
        assert abs(np.mean(np.abs(weights) > 3 * expected) - 0.0027) < 0.001
    a, b = (model.parameters()[f"conv2{tower}/kernel"].numpy() for tower in "ab")
    assert not np.array_equal(a, b)
    assert {conv.weight_std for conv in (*ALEXNET_2012_PAPER.convs, *ALEXNET_2012_PAPER.denses)} == {0.01}
    assert [dense.weight_std for dense in ALEXNET_2012.denses] == [0.01] * 3


@pytest.mark.slow
def test_initial_weights_depend_on_the_seed_only():
    weights = [small_net(seed=seed)[1].parameters()["fc6/kernel"].numpy() for seed in (1, 1, 2)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_t19_initial_biases():
    _, model = small_net()
    ones = {name for name, value in model.parameters().items() if name.endswith("bias") and np.all(value.numpy() == 1)}
    zeros = {name for name, value in model.parameters().items() if name.endswith("bias") and np.all(value.numpy() == 0)}
    assert ones == {f"{n}/bias" for n in ("conv2a", "conv2b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7")}
    assert zeros == {f"{n}/bias" for n in ("conv1a", "conv1b", "conv3a", "conv3b", "fc8")}
    biases = [conv.bias for conv in ALEXNET_2012.convs] + [dense.bias for dense in ALEXNET_2012.denses]
    assert biases == [0, 1, 0, 1, 1, 1, 1, 0]


@pytest.mark.slow
def test_t21_dropout_is_not_inverted():
    _, model = small_net()
    images = np.random.default_rng(0).normal(0, 50, (2, 224, 224, 3)).astype(np.float32)
    masks = {
        name: tf.constant(np.random.default_rng(1).integers(0, 2, (2, 1024)), tf.float32)
        for name in ("fc6_dropout", "fc7_dropout")
    }
    train, test = model.activations(images, masks), model.activations(images)
    np.testing.assert_array_equal(train["fc6_dropout"], train["fc6_relu"] * masks["fc6_dropout"])
    np.testing.assert_array_equal(test["fc6_dropout"], 0.5 * test["fc6_relu"])
    np.testing.assert_array_equal(test["fc7_dropout"], 0.5 * test["fc7_relu"])


def test_t22_the_centre_of_the_mean_is_subtracted_wherever_the_crop_was():
    mean = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.float32)
    crops = np.stack([mean[16:240, 16:240], mean[:224, :224]]).astype(np.uint8)
    none = np.zeros(2, bool), np.zeros((2, 3), np.float32)
    for images in (prepare_training(crops, *none, center_mean(mean), 1.0), prepare_test(crops, center_mean(mean))):
        assert np.all(images[0] == 0)
        assert np.any(images[1] != 0)


@pytest.mark.slow
def test_t23_noise_and_rescaling_of_a_pixel():
    mean = np.full((224, 224, 3), 100, np.float32)
    crops = np.broadcast_to(np.array([150, 80, 110], np.uint8), (3, 224, 224, 3))
    noise = np.array([[0, 0, 0], [-11.579008, -15.601045, -14.935806], [0, 0, 0]], np.float32)
    images = eager_and_traced(lambda crops: prepare_training(crops, np.zeros(3, bool), noise, mean, 1.1), crops)
    np.testing.assert_allclose(images[1, 5, 7], [34.928175, -32.364587, -4.487096], rtol=1e-6)
    np.testing.assert_allclose(images[[0, 2], 100, 100], [[50 / 1.1, -20 / 1.1, 10 / 1.1]] * 2, rtol=1e-6)
    assert np.all(images[1] == images[1, 0, 0])


def test_flips_mirror_the_image_but_not_the_mean():
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (5, 224, 224, 3)).astype(np.uint8)
    mean = rng.uniform(0, 255, (224, 224, 3)).astype(np.float32)
    for flips in ([1, 0, 0, 1, 1], [0] * 5, [1] * 5):
        flips = np.array(flips, bool)
        images = eager_and_traced(
            lambda x, f=flips: prepare_training(x, f, np.zeros((5, 3), np.float32), mean, 1.0), crops
        )
        expected = np.where(flips[:, None, None, None], crops[:, :, ::-1], crops).astype(np.float32) - mean
        np.testing.assert_array_equal(images, expected)


@pytest.mark.slow
def test_t20_alexnet_2012_starts_near_chance_with_signals_of_the_right_scale():
    layers, model = small_net(ALEXNET_2012, num_classes=1000)
    assert network.totals(layers)["num_parameters"] == 60965224
    assert sum(int(np.prod(v.shape)) for v in model.parameters().values()) == 60965224
    rng = np.random.default_rng(0)
    spectrum = 1 / np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(224), np.fft.fftfreq(224))), 1 / 224)
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(16, 224, 224))) * spectrum).real  # as smooth as photographs
    images = np.repeat((images / images.std() * 70).astype(np.float32)[..., None], 3, axis=-1)
    masks = {n: tf.constant(rng.integers(0, 2, (16, 4096)), tf.float32) for n in ("fc6_dropout", "fc7_dropout")}
    values = model.activations(images, masks)
    labels = rng.integers(0, 1000, 16)
    loss = keras.ops.mean(keras.ops.sparse_categorical_crossentropy(labels, values["fc8"], from_logits=True))
    assert 6.7 <= float(loss) <= 7.8
    expected = keras.ops.logsumexp(values["fc8"], axis=1) - keras.ops.mean(values["fc8"], axis=1)  # over all labels
    assert 6.9 <= float(keras.ops.mean(expected)) <= 7.6
    assert 5 <= float(np.std(values["conv1a"])) <= 30
    for name, tolerance in (("fc6", 6e-6), ("fc8", 1.7e-5)):  # T18
        assert abs(model.parameters()[f"{name}/kernel"].numpy().std() - 0.01) < tolerance
