"""The network as a Keras model: one interpreter over the layers of `network.py`, and what turns crops into its input.

Towers are separate convolutions, never `groups=2`: on a CPU that is four times faster, and it is the paper's form.
Shape suffixes: N images, H height, W width, C channels or classes, U units.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from components.shared.layers import LOGITS, Layer
from components.train.net.network import base_name
from components.train.recipes.recipe import Recipe

Tensor = Any  # of the Keras backend
MEAN_MARGIN = 16  # the centre 224x224 of the 256x256 mean image


def _power(x: Tensor, exponent: float) -> Tensor:
    """Raise to a power; the paper's -3/4 by square roots, which is four times faster on a CPU."""
    if exponent == -0.75:
        root = ops.rsqrt(x)
        return ops.multiply(root, ops.sqrt(root))
    return ops.power(x, exponent)


def local_response_norm(x_NHWC: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Divide each unit by a power of the activity of its neighbouring channels (paper, section 3.3).

    The sum over the window is a product with a banded matrix of ones: with its gradient four times faster on a CPU
    than `tf.nn.local_response_normalization`, and the same on every backend.

    Args:
        x_NHWC: float32 [N, H, W, C], the channels of one tower: the window is cut at its first and last.
        size: channels in the window, odd.
        k: added to the sum.
        alpha: multiplies the plain sum of squares; not divided by `size` again.
        beta: the power.
    """
    num_channels = x_NHWC.shape[-1]
    channels = np.arange(num_channels)
    band_CC = (np.abs(channels[:, None] - channels) <= size // 2).astype("float32")
    squares = ops.reshape(ops.square(x_NHWC), (-1, num_channels))  # one large product, not one for each row of pixels
    sums = ops.reshape(ops.matmul(squares, band_CC), ops.shape(x_NHWC))
    return x_NHWC * _power(ops.add(ops.multiply(sums, alpha), k), -beta)


def spatial_norm(x_NHWC: Tensor, size: int, k: float, alpha: float, beta: float) -> Tensor:
    """Divide each unit by a power of the activity around it in its own map, in a window clipped at the borders.

    The original network has this after the second local response normalisation (layers-145.cfg, `cnorm2a`); the paper
    does not mention it. Arguments as `local_response_norm`.
    """
    margin = size // 2
    padded = ops.pad(ops.square(x_NHWC), [[0, 0], [margin, margin], [margin, margin], [0, 0]])
    means = ops.average_pool(padded, size, strides=1, padding="valid", data_format="channels_last")
    sums = ops.multiply(means, size**2)
    return x_NHWC * _power(ops.add(ops.multiply(sums, alpha), k), -beta)


def _normalize(norm: Callable[..., Tensor], layer: Layer, x_NHWC: Tensor) -> Tensor:
    """Normalise in float32, whatever the input is: sums of squares do not fit into the eight digits of a bfloat16."""
    x = ops.cast(x_NHWC, "float32")
    return ops.cast(norm(x, layer["size"], layer["k"], layer["alpha"], layer["beta"]), x_NHWC.dtype)


def max_pool(x_NHWC: Tensor, size: int, stride: int, padding: list[list[int]] | None = None) -> Tensor:
    """Max-pool. `padding` lets the last window overlap the border; values outside count as -inf."""
    if padding:
        x_NHWC = ops.pad(x_NHWC, [[0, 0], *padding, [0, 0]], constant_values=-np.inf)
    return ops.max_pool(x_NHWC, size, stride, "valid", data_format="channels_last")


# What a layer without weights does to its inputs.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "relu": lambda layer, x: ops.relu(x),
    "tanh": lambda layer, x: ops.tanh(x),
    "lrn": lambda layer, x: _normalize(local_response_norm, layer, x),
    "spatial_norm": lambda layer, x: _normalize(spatial_norm, layer, x),
    "max_pool": lambda layer, x: max_pool(x, layer["size"], layer["stride"], layer.get("padding")),
    "concat": lambda layer, *xs: ops.concatenate(xs, axis=-1),
    "flatten": lambda layer, x: ops.reshape(x, (-1, layer["shape"][0])),
}


def initial_seed(seed: int, index: int) -> int:
    """Derive the seed of the weights of layer `index` from the seed of the run."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _weighted(layer: Layer, index: int, recipe: Recipe, seed: int) -> keras.layers.Layer:
    """Make the Keras layer of a convolution or dense layer, with its weights drawn (paper, section 5)."""
    base = base_name(layer["name"])
    number = int(base[-1])
    spec = recipe.convs[number - 1] if layer["op"] == "conv" else recipe.denses[number - 6]
    settings = {
        "name": layer["name"],
        # RandomNormal does not truncate: 0.27 % of the weights lie beyond three standard deviations.
        "kernel_initializer": keras.initializers.RandomNormal(0.0, spec.weight_std, seed=initial_seed(seed, index)),
        "bias_initializer": keras.initializers.Constant(spec.bias),
        "data_format": "channels_last",
        # The weights are float32 in both; fc8 computes so too, for softmax and loss.
        "dtype": "mixed_bfloat16" if recipe.precision == "bfloat16" and base != "fc8" else "float32",
    }
    if layer["op"] == "dense":
        del settings["data_format"]
        result = keras.layers.Dense(layer["kernel"][1], **settings)
        result.build((None, layer["kernel"][0]))
    else:
        kh, kw, cin, cout = layer["kernel"]
        padding = "same" if _is_same(layer) else "valid"
        result = keras.layers.Conv2D(cout, (kh, kw), strides=layer["stride"], padding=padding, **settings)
        result.build((None, None, None, cin))
    return result


def _is_same(layer: Layer) -> bool:
    """Tell whether the padding is what `same` means, which needs no padded copy of the input."""
    margin = (layer["kernel"][0] - 1) // 2
    return layer["stride"] == 1 and layer["padding"] == [[margin, margin], [margin, margin]]


def run_layer(
    layer: Layer,
    inputs: list[Tensor],
    weighted: dict[str, keras.layers.Layer],
    masks: dict[str, Tensor] | None,
) -> Tensor:
    """Compute the output of one layer.

    Args:
        layer: what to compute.
        inputs: the outputs of the layers that it names.
        weighted: the layers with weights, by name.
        masks: as in `AlexNet.activations`.
    """
    name = layer["name"]
    if layer["op"] == "dropout":
        return inputs[0] * (layer["keep"] if masks is None else ops.cast(masks[name], inputs[0].dtype))
    if name in weighted:
        pad = layer["op"] == "conv" and not _is_same(layer)
        x = ops.pad(inputs[0], [[0, 0], *layer["padding"], [0, 0]]) if pad else inputs[0]
        return weighted[name](x)
    return OPERATIONS[layer["op"]](layer, *inputs)


def weights_of(weighted: dict[str, keras.layers.Layer]) -> dict[str, keras.Variable]:
    """Name the variables of layers as `weights.safetensors` does: `conv1a/kernel`, `conv1a/bias`, ..."""
    return {f"{name}/{kind}": getattr(layer, kind) for name, layer in weighted.items() for kind in ("kernel", "bias")}


class AlexNet(keras.Model):
    """The network of a recipe.

    Args:
        network: the layers, from `network.build`.
        recipe: for the initial weights.
        seed: of the initial weights; each layer draws from its own.
    """

    def __init__(self, network: list[Layer], recipe: Recipe, seed: int) -> None:
        super().__init__(name=recipe.name.replace("-", "_").replace("+", "_"))
        self.network = network
        self.weighted = {
            layer["name"]: _weighted(layer, index, recipe, seed)
            for index, layer in enumerate(network)
            if "kernel" in layer
        }
        self.built = True

    def parameters(self) -> dict[str, keras.Variable]:
        """Name the trainable variables."""
        return weights_of(self.weighted)

    def call(self, images_NHWC: Tensor, masks: dict[str, Tensor] | None = None) -> Tensor:
        """Compute logits [N, C]; see `activations`."""
        return self.activations(images_NHWC, masks)[LOGITS]

    def activations(self, images_NHWC: Tensor, masks: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Compute the output of every layer.

        Args:
            images_NHWC: float32 [N, 224, 224, 3], RGB 0..255 minus the mean.
            masks: in training, for each dropout layer bool [N, U], true where a unit stays; None at test. Dropout is
                not inverted: units that stay keep their value in training and are halved at test (paper, section 4.2).
        """
        values: dict[str, Tensor] = {"input": images_NHWC}
        for layer in self.network[1:]:
            inputs = [values[source] for source in layer["inputs"]]
            values[layer["name"]] = run_layer(layer, inputs, self.weighted, masks)
        return values


def center_mean(mean_image_HWC: np.ndarray) -> np.ndarray:
    """Cut the centre 224x224 of the mean image, which is subtracted from every crop wherever it was cut [C]."""
    return mean_image_HWC[MEAN_MARGIN:-MEAN_MARGIN, MEAN_MARGIN:-MEAN_MARGIN].astype("float32")


def _mirror(crops_NHWC: Tensor, flips_N: Tensor) -> Tensor:
    """Mirror the images that are to be flipped."""
    if keras.backend.backend() == "tensorflow":  # moves only those; a select is four times slower on a CPU
        import tensorflow as tf

        kept, flipped = tf.dynamic_partition(crops_NHWC, tf.cast(flips_N, "int32"), 2)
        places = tf.dynamic_partition(tf.range(tf.shape(flips_N)[0]), tf.cast(flips_N, "int32"), 2)
        return tf.reshape(tf.dynamic_stitch(places, [kept, tf.reverse(flipped, [2])]), tf.shape(crops_NHWC))
    return ops.where(flips_N[:, None, None, None], ops.flip(crops_NHWC, axis=2), crops_NHWC)


def prepare_training(
    crops_NHWC: Tensor, flips_N: Tensor, noise_NC: Tensor, mean_HWC: Tensor, rescale: Tensor | float
) -> Tensor:
    """Turn crops into the network's input: flip, subtract the mean, add the colour noise, rescale (paper, 4.1; [C]).

    Args:
        crops_NHWC: uint8 [N, 224, 224, 3], RGB.
        flips_N: bool [N], which images to mirror.
        noise_NC: float32 [N, 3], RGB offsets in grey levels.
        mean_HWC: float32 [224, 224, 3], from `center_mean`; not mirrored with the image.
        rescale: divides the sum; 1: off.
    """
    images_NHWC = ops.cast(_mirror(crops_NHWC, flips_N), "float32")
    return (images_NHWC - mean_HWC + noise_NC[:, None, None, :]) / rescale


def prepare_test(crops_NHWC: Tensor, mean_HWC: Tensor) -> Tensor:
    """Turn crops into the network's input at test: subtract the mean, nothing else; arguments as above."""
    return ops.cast(crops_NHWC, "float32") - mean_HWC
