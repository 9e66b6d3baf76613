"""The network that train writes down is the one that evaluate runs: two interpreters, one list of layers."""

import numpy as np
import pytest
import tensorflow as tf

from components.evaluate.network import Network
from components.train.model import AlexNet
from components.train.network import build
from components.train.recipe import RECIPES


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_keras_model_and_interpreter_agree(name):
    layers = build(RECIPES[name], num_classes=7)
    model = AlexNet(layers, RECIPES[name], seed=3)
    weights = {key: np.asarray(variable) for key, variable in model.parameters().items()}
    crops_NHWC = tf.constant(np.random.default_rng(0).uniform(-120, 130, (2, 224, 224, 3)).astype(np.float32))
    expected = model.activations(crops_NHWC)
    logits, features = Network(layers, weights)(crops_NHWC)
    for found, reference in ((logits, expected["fc8"]), (features, expected["fc7_relu"])):
        spread = float(np.std(reference))
        assert spread > 0
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-3 * spread)
