"""The network that train writes down is the one that evaluate runs: two interpreters, one list of layers."""

import numpy as np
import pytest
import tensorflow as tf

from components.evaluate.network import Network
from components.train.net.model import AlexNet
from components.train.net.network import build
from components.train.recipes.known import RECIPES
from components.train.recipes.switches import named

OTHER_NETWORKS = ["plain-pool", "no-lrn", "one-tower", "drop-conv3+drop-conv4+drop-conv5", "tanh", "no-dropout"]
OTHER_NETWORKS += ["conv6", "plain-pool+drop-conv5+conv6", "one-tower+conv6"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RECIPES) + [f"smoke+{switches}" for switches in OTHER_NETWORKS])
def test_keras_model_and_interpreter_agree(name):
    recipe = named(name)
    layers = build(recipe, num_classes=7)
    model = AlexNet(layers, recipe, seed=3)
    weights = {key: np.asarray(variable) for key, variable in model.parameters().items()}
    crops_NHWC = tf.constant(np.random.default_rng(0).uniform(-120, 130, (2, 224, 224, 3)).astype(np.float32))
    expected = model.activations(crops_NHWC)
    logits, features = Network(layers, weights)(crops_NHWC)
    for found, reference in ((logits, expected["fc8"]), (features, expected[f"fc7_{recipe.nonlinearity}"])):
        spread = float(np.std(reference))
        assert spread > 0
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-3 * spread)
