"""The interpreter: each operation against the numbers of the fidelity reference, and the whole against numpy."""

import copy

import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import NETWORK, random_weights

from components.evaluate.network import OPERATIONS, Network
from components.shared.errors import DataError

LRN = {"op": "lrn", "size": 5, "k": 2.0, "alpha": 2e-5, "beta": 0.75}
SPATIAL = {"op": "spatial_norm", "size": 5, "k": 1.0, "alpha": 4e-5, "beta": 0.75}


def apply(layer, x, weights=None):
    graph = tf.function(lambda t: OPERATIONS[layer["op"]](layer, [t], lambda kind: tf.constant(weights[kind])))
    eager = OPERATIONS[layer["op"]](layer, [tf.constant(x)], lambda kind: tf.constant(weights[kind])).numpy()
    np.testing.assert_allclose(graph(tf.constant(x)).numpy(), eager, rtol=1e-6)
    return eager


def test_conv_pads_right_and_bottom_only():
    layer = {"op": "conv", "stride": 4, "padding": [[0, 3], [0, 3]]}
    weights = {"kernel": np.ones((11, 11, 3, 1), np.float32), "bias": np.zeros(1, np.float32)}
    out = apply(layer, np.ones((1, 224, 224, 3), np.float32), weights)[0, :, :, 0]
    assert out.shape == (55, 55)
    found = [out[0, 0], out[53, 53], out[27, 54], out[54, 27], out[54, 54], out.sum()]
    np.testing.assert_allclose(found, [363, 363, 264, 264, 192, 1_087_212])


@pytest.mark.parametrize(
    ("value", "alpha", "expected"),
    [
        (10, 2e-5, [5.932692, 5.928260, 5.923835, 5.923835]),
        (100, 2e-5, [48.839363, 46.198883, 43.869134, 43.869134]),
        (1, 1e-4, [0.594537, 0.594514, 0.594492, 0.594492]),
        (100, 1e-4, [29.906976, 26.084743, 23.236808, 23.236808]),
    ],
)
def test_lrn_of_a_constant(value, alpha, expected):
    out = apply({**LRN, "alpha": alpha}, np.full((1, 2, 2, 8), value, np.float32))
    np.testing.assert_allclose(out[0, 1, 0], expected + expected[::-1], rtol=1e-5)


def test_lrn_of_a_vector():
    x = np.array([10, -20, 30, -40, 50, 60, -70, 80], np.float32).reshape(1, 1, 1, 8)
    expected = [5.884357, -11.631335, 17.135998, -22.295521, 27.036509, 31.312557, -36.904087, 42.862497]
    np.testing.assert_allclose(apply(LRN, x).ravel(), expected, rtol=1e-5)


def test_spatial_norm():
    out = apply(SPATIAL, np.full((1, 7, 7, 2), 10, np.float32))
    np.testing.assert_allclose(
        [out[0, 3, 3, 0], out[0, 0, 3, 1], out[0, 0, 0, 0]], [9.310124, 9.572395, 9.738233], 1e-5
    )
    out = apply(SPATIAL, np.full((1, 7, 7, 2), 100, np.float32))
    np.testing.assert_allclose(
        [out[0, 3, 3, 0], out[0, 0, 3, 1], out[0, 0, 0, 0]], [16.556003, 23.236808, 31.836963], 1e-5
    )
    out = apply(SPATIAL, np.arange(1, 26, dtype=np.float32).reshape(1, 5, 5, 1))[0, :, :, 0]
    np.testing.assert_allclose([out[0, 0], out[2, 2], out[4, 4]], [0.982456, 11.191972, 22.716892], 1e-5)


def test_max_pool_overlaps():
    layer = {"op": "max_pool", "size": 3, "stride": 2}
    out = apply(layer, np.arange(49, dtype=np.float32).reshape(1, 7, 7, 1))
    assert out[0, :, :, 0].tolist() == [[16, 18, 20], [30, 32, 34], [44, 46, 48]]
    assert apply(layer, np.zeros((1, 27, 27, 1), np.float32)).shape == (1, 13, 13, 1)


def test_dropout_halves_at_test():
    assert apply({"op": "dropout", "keep": 0.5}, np.array([[4.0, 0.0]], np.float32)).tolist() == [[2.0, 0.0]]


def numpy_run(crops_NHWC, weights):
    """The tiny network, written out in numpy."""
    towers = []
    for t in "ab":
        padded = np.pad(crops_NHWC.astype(np.float64), ((0, 0), (0, 3), (0, 3), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(1, 2))[:, ::8, ::8]
        x = np.einsum("nyxcij,ijcf->nyxf", windows, weights[f"conv1{t}/kernel"]) + weights[f"conv1{t}/bias"]
        squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
        x = x * (2 + 2e-5 * sum(squares[..., i : i + 4] for i in range(5))) ** -0.75
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
        towers.append(np.maximum(windows.max(axis=(-1, -2)), 0))
    x = np.concatenate(towers, axis=-1)
    squares = np.pad(x**2, ((0, 0), (2, 2), (2, 2), (0, 0)))
    sums = sum(squares[:, i : i + 13, j : j + 13] for i in range(5) for j in range(5))
    x = (x * (1 + 4e-5 * sums) ** -0.75).reshape(len(x), -1)
    features = np.maximum(x @ weights["fc7/kernel"] + weights["fc7/bias"], 0)
    return features * 0.5 @ weights["fc8/kernel"] + weights["fc8/bias"], features


def test_network_equals_numpy():
    weights = random_weights(NETWORK)
    crops_NHWC = np.random.default_rng(3).uniform(-120, 130, (2, 224, 224, 3)).astype(np.float32)
    network = Network(NETWORK, weights)
    expected = numpy_run(crops_NHWC, weights)
    for run in (network, tf.function(network, autograph=False)):
        for found, reference in zip(run(tf.constant(crops_NHWC)), expected, strict=True):
            np.testing.assert_allclose(found.numpy(), reference, rtol=2e-4, atol=2e-4)


def broken(change):
    network, weights = copy.deepcopy(NETWORK), random_weights(NETWORK)
    change({layer["name"]: layer for layer in network}, weights)
    return network, weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, w: w.pop("fc7/bias"), r"no tensor 'fc7/bias'"),
        (
            lambda n, w: w.update({"conv1b/kernel": w["fc7/kernel"]}),
            r"conv1b/kernel: expected float32 \[11, 11, 3, 4\]",
        ),
        (lambda n, w: w.update({"fc8/bias": w["fc8/bias"].astype(np.float64)}), r"fc8/bias: expected float32"),
        (lambda n, w: w["fc8/kernel"].fill(np.nan), r"fc8/kernel: holds NaN"),
        (lambda n, w: n["relu1a"].update(op="gelu"), r"relu1a: unknown operation 'gelu'"),
        (lambda n, w: n["concat1"].update(inputs=["relu1a", "later"]), r"concat1: its inputs \['later'\]"),
        (lambda n, w: n["fc7_relu"].update(name="hidden"), r"inputs \['fc7_relu'\]"),
    ],
)
def test_weights_must_fit_the_network(change, message):
    with pytest.raises(DataError, match=message):
        Network(*broken(change))


def test_shapes_must_be_as_written():
    network, weights = broken(lambda n, w: n["pool1a"].update(shape=[14, 14, 4]))
    with pytest.raises(DataError, match=r"pool1a: expected shape \[14, 14, 4\], got \[13, 13, 4\]"):
        tf.function(Network(network, weights), autograph=False)(tf.zeros([1, 224, 224, 3]))
