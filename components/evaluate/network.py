"""Runs a network that is written down as plain data: a small interpreter, for inference only.

The layers are in the language of `components.shared.layers`; each operation reads its own parameters from its layer.

Shapes: N images, H height, W width, C channels or classes.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from components.shared.errors import DataError
from components.shared.layers import FEATURES, LOGITS, Layer

Operation = Callable[[Layer, list[tf.Tensor], Callable[[str], tf.Tensor]], tf.Tensor]


def conv(layer: Layer, inputs: list[tf.Tensor], weight: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Cross-correlate with explicit zero padding: conv1 of 2012 pads 0 before and 3 after (T6)."""
    padding = [[0, 0], *layer["padding"], [0, 0]]
    sums = tf.nn.conv2d(inputs[0], weight("kernel"), layer["stride"], padding)  # pyright: ignore[reportArgumentType]
    return sums + weight("bias")


def dense(layer: Layer, inputs: list[tf.Tensor], weight: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Multiply by the kernel and add the bias."""
    return tf.matmul(inputs[0], weight("kernel")) + weight("bias")


def lrn(layer: Layer, inputs: list[tf.Tensor], weight: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Normalise across neighbouring channels of one tower: x (k + alpha sum x^2)^-beta (paper, section 3.3; T7, T8)."""
    return tf.nn.local_response_normalization(
        inputs[0], depth_radius=layer["size"] // 2, bias=layer["k"], alpha=layer["alpha"], beta=layer["beta"]
    )


def spatial_norm(layer: Layer, inputs: list[tf.Tensor], weight: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Normalise within one map by a window that is clipped at the borders: the second norm of the 2012 code (T12)."""
    x, size = inputs[0], layer["size"]
    around = size // 2
    squares = tf.pad(tf.square(x), [[0, 0], [around, around], [around, around], [0, 0]])
    sums = tf.nn.avg_pool2d(squares, size, 1, "VALID") * size**2  # zeros outside: the mean of size^2 is the clipped sum
    return x * (layer["k"] + layer["alpha"] * sums) ** -layer["beta"]


def max_pool(layer: Layer, inputs: list[tf.Tensor], weight: Callable[[str], tf.Tensor]) -> tf.Tensor:
    """Take maxima of windows (T13); `padding` says how far the last ones reach over the border, if at all (T4)."""
    x = tf.pad(inputs[0], [[0, 0], *layer.get("padding", [[0, 0], [0, 0]]), [0, 0]], constant_values=-math.inf)
    return tf.nn.max_pool2d(x, layer["size"], layer["stride"], "VALID")


OPERATIONS: dict[str, Operation] = {
    "conv": conv,
    "dense": dense,
    "lrn": lrn,
    "spatial_norm": spatial_norm,
    "max_pool": max_pool,
    "relu": lambda layer, inputs, weight: tf.nn.relu(inputs[0]),
    "tanh": lambda layer, inputs, weight: tf.tanh(inputs[0]),
    "concat": lambda layer, inputs, weight: tf.concat(inputs, axis=-1),
    "flatten": lambda layer, inputs, weight: tf.reshape(inputs[0], [-1, *layer["shape"]]),
    # Not inverted: training multiplies by 0 or 1, so the test multiplies by the share kept (paper, section 4.2).
    "dropout": lambda layer, inputs, weight: inputs[0] * layer["keep"],
}


def _check_weights(network: list[Layer], weights: dict[str, np.ndarray]) -> None:
    for layer in network:
        if layer["op"] not in ("conv", "dense"):
            continue
        kernel = list(layer["kernel"])
        for name, shape in ((f"{layer['name']}/kernel", kernel), (f"{layer['name']}/bias", kernel[-1:])):
            if name not in weights:
                raise DataError(f"weights.safetensors: no tensor {name!r}, which the network needs. Run train again")
            found = weights[name]
            if list(found.shape) != shape or found.dtype != np.float32:
                raise DataError(
                    f"weights.safetensors, {name}: expected float32 {shape}, got {found.dtype} {list(found.shape)}. "
                    "The weights are not of this network; run train again"
                )
            if not np.isfinite(found).all():
                raise DataError(f"weights.safetensors, {name}: holds NaN or infinity. The training diverged")


class Network:
    """A network with its weights, ready to run."""

    def __init__(self, network: list[Layer], weights: dict[str, np.ndarray]) -> None:
        """Check that weights and network belong together.

        Args:
            network: the layers in topological order.
            weights: float32 arrays by `<layer>/kernel` (HWIO or [in, out]) and `<layer>/bias`.

        Raises:
            DataError: a tensor is missing, of another shape or not finite; a layer is unknown or out of order.
        """
        seen: set[str] = set()
        for layer in network:
            if layer["op"] not in OPERATIONS and layer["op"] != "input":
                raise DataError(f"network, layer {layer['name']}: unknown operation {layer['op']!r}")
            if missing := set(layer["inputs"]) - seen:
                raise DataError(f"network, layer {layer['name']}: its inputs {sorted(missing)} do not come before it")
            seen.add(layer["name"])
        features = [name for name in FEATURES if name in seen]
        if LOGITS not in seen or not features:
            raise DataError(f"network: expected the layers {LOGITS} and {' or '.join(FEATURES)}, got {sorted(seen)}")
        self._features = features[0]
        _check_weights(network, weights)
        self._network = network
        needed = [f"{layer['name']}/{kind}" for layer in network if "kernel" in layer for kind in ("kernel", "bias")]
        # Not tf.constant, which keeps the NumPy array as well until the next operation runs: twice the memory.
        self._weights = {name: tf.identity(weights[name]) for name in needed}

    def input_kernels(self) -> list[np.ndarray]:
        """Return the kernels that look at the photograph itself, float32 [H, W, 3, F], tower by tower."""
        return [self._weights[f"{e['name']}/kernel"].numpy() for e in self._network if e["inputs"] == ["input"]]

    def __call__(self, crops_NHWC: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Run the network as in the 2012 test.

        Args:
            crops_NHWC: float32 [N, 224, 224, 3], RGB 0..255 minus the centre crop of the mean image.

        Returns:
            logits_NC float32 [N, num_classes], and features_NC, the last hidden layer after its nonlinearity.

        Raises:
            DataError: the output of a layer has another shape than the network says.
        """
        outputs: dict[str, tf.Tensor] = {}
        for layer in self._network:
            name = layer["name"]
            if layer["op"] == "input":
                output = crops_NHWC
            else:
                inputs = [outputs[i] for i in layer["inputs"]]
                output = OPERATIONS[layer["op"]](layer, inputs, lambda kind, name=name: self._weights[f"{name}/{kind}"])
            if list(output.shape[1:]) != list(layer["shape"]):
                raise DataError(
                    f"network, layer {name}: expected shape {list(layer['shape'])}, got {list(output.shape[1:])}"
                )
            outputs[name] = output
        return outputs[LOGITS], outputs[self._features]
