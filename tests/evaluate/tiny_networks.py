"""Networks as plain data, small enough to run in milliseconds, and random weights for them."""

import numpy as np

NUM_CLASSES = 6

NETWORK = [
    {"name": "input", "op": "input", "inputs": [], "shape": [224, 224, 3]},
    *(
        layer
        for t in "ab"
        for layer in (
            {
                "name": f"conv1{t}",
                "op": "conv",
                "inputs": ["input"],
                "shape": [28, 28, 4],
                "kernel": [11, 11, 3, 4],
                "stride": 8,
                "padding": [[0, 3], [0, 3]],
            },
            {
                "name": f"lrn1{t}",
                "op": "lrn",
                "inputs": [f"conv1{t}"],
                "shape": [28, 28, 4],
                "size": 5,
                "k": 2.0,
                "alpha": 2e-5,
                "beta": 0.75,
            },
            {
                "name": f"pool1{t}",
                "op": "max_pool",
                "inputs": [f"lrn1{t}"],
                "shape": [13, 13, 4],
                "size": 3,
                "stride": 2,
            },
            {"name": f"relu1{t}", "op": "relu", "inputs": [f"pool1{t}"], "shape": [13, 13, 4]},
        )
    ),
    {"name": "concat1", "op": "concat", "inputs": ["relu1a", "relu1b"], "shape": [13, 13, 8]},
    {
        "name": "spatial1",
        "op": "spatial_norm",
        "inputs": ["concat1"],
        "shape": [13, 13, 8],
        "size": 5,
        "k": 1.0,
        "alpha": 4e-5,
        "beta": 0.75,
    },
    {"name": "flatten", "op": "flatten", "inputs": ["spatial1"], "shape": [1352]},
    {"name": "fc7", "op": "dense", "inputs": ["flatten"], "shape": [16], "kernel": [1352, 16]},
    {"name": "fc7_relu", "op": "relu", "inputs": ["fc7"], "shape": [16]},
    {"name": "fc7_dropout", "op": "dropout", "inputs": ["fc7_relu"], "shape": [16], "keep": 0.5},
    {"name": "fc8", "op": "dense", "inputs": ["fc7_dropout"], "shape": [NUM_CLASSES], "kernel": [16, NUM_CLASSES]},
]

ONE_TOWER = [
    NETWORK[0],
    {
        "name": "conv1",
        "op": "conv",
        "inputs": ["input"],
        "shape": [28, 28, 8],
        "kernel": [11, 11, 3, 8],
        "stride": 8,
        "padding": [[0, 3], [0, 3]],
    },
    {"name": "relu1", "op": "relu", "inputs": ["conv1"], "shape": [28, 28, 8]},
    {"name": "flatten", "op": "flatten", "inputs": ["relu1"], "shape": [6272]},
    {"name": "fc7", "op": "dense", "inputs": ["flatten"], "shape": [24], "kernel": [6272, 24]},
    {"name": "fc7_relu", "op": "relu", "inputs": ["fc7"], "shape": [24]},
    {"name": "fc8", "op": "dense", "inputs": ["fc7_relu"], "shape": [NUM_CLASSES], "kernel": [24, NUM_CLASSES]},
]


def random_weights(network: list[dict], seed: int = 0) -> dict[str, np.ndarray]:
    """Draw weights that keep signals at their size."""
    rng = np.random.default_rng(seed)
    weights = {}
    for layer in network:
        if "kernel" in layer:
            shape = layer["kernel"]
            scale = (2 / np.prod(shape[:-1])) ** 0.5
            weights[f"{layer['name']}/kernel"] = rng.normal(0, scale, shape).astype(np.float32)
            weights[f"{layer['name']}/bias"] = rng.normal(0, 0.1, shape[-1:]).astype(np.float32)
    return weights
