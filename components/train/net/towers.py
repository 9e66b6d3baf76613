"""The paper's way to use two GPUs: half of every layer on each, which meet at conv3 and in the dense layers only.

Each device holds one tower. conv3 and the dense layers read both towers: each device joins the halves for itself, so a
half is copied once to the other device and nothing else is. fc6 and fc7 are split by their units; fc8 is on the first
device, as in 2012 (paper, Figure 2; [C] layers-145.cfg). Weights leave under the names and in the shapes of the network
on one device, so checkpoints and models do not know where they were trained.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.shared.errors import UsageError
from components.shared.layers import LOGITS, Layer
from components.train.net.model import AlexNet, Tensor, run_layer, weights_of
from components.train.net.network import base_name
from components.train.net.placement import Variables
from components.train.recipes.recipe import Recipe

TOWERS = "ab"
DEVICES = ("/device:GPU:0", "/device:GPU:1")


def check(recipe: Recipe, gpus: int) -> None:
    """Check that a recipe can be trained as two towers.

    Raises:
        UsageError: it has one tower, halves that are not whole, or there are not two GPUs.
    """
    if gpus != len(TOWERS):
        raise UsageError(f"--parallel towers: expected --gpus 2, a GPU for each tower, got {gpus}. Use --parallel data")
    odd = [dense.units for dense in recipe.denses[:-1] if dense.units % len(TOWERS)]
    if recipe.towers != len(TOWERS) or odd:
        what = f"dense layers of {odd} units" if odd else f"{recipe.towers} tower"
        raise UsageError(
            f"--parallel towers: expected a recipe of two equal towers, got {recipe.name} with {what}. "
            "Use --parallel data"
        )


def half_name(name: str, tower: str) -> str:
    """Name the half of a layer: `fc6_relu` becomes `fc6a_relu`."""
    head, *rest = name.split("_", 1)
    return "_".join([head + tower, *rest])


class Placed(Layer):
    """A layer and who runs it."""

    tower: str  # "a" or "b"
    whole: str  # the layer of the network that it is, or belongs to
    half: bool  # it is half of that layer's units


def place(network: list[Layer]) -> list[Placed]:
    """Write a network of two towers as the layers that two devices run.

    Args:
        network: the layers, from `network.build`.

    Returns:
        The layers in an order in which they can be run.
    """
    placed: list[Placed] = []
    halved: set[str] = set()
    shapes = {layer["name"]: layer["shape"] for layer in network}
    own = {layer["name"] for layer in network if base_name(layer["name"]) != layer["name"]}

    def source(name: str, tower: str, op: str) -> str:
        if name in own:
            return name
        if name not in halved or op != "dense":
            return half_name(name, tower)
        joined = f"concat_{half_name(name, tower)}"
        halves = [half_name(name, each) for each in TOWERS]
        shape = shapes[name]
        placed.append(Placed(name=joined, op="concat", inputs=halves, shape=shape, tower=tower, whole=name, half=False))
        return joined

    for layer in network:
        name, op, is_last = layer["name"], layer["op"], layer is network[-1]
        if not is_last and (op == "dense" or halved.intersection(layer["inputs"])):
            halved.add(name)  # fc6 and fc7, their ReLU and dropout
        for tower in name[-1] if name in own else TOWERS[0] if is_last else TOWERS:
            half = name in halved
            part: Placed = {**layer, "tower": tower, "whole": name, "half": half}
            if half and "kernel" in layer:
                part["kernel"] = [layer["kernel"][0], layer["kernel"][1] // len(TOWERS)]
            part["name"] = name if name in own or is_last else half_name(name, tower)
            part["inputs"] = [source(each, tower, op) for each in layer["inputs"]]
            placed.append(part)
    return placed


def _copy(layer: keras.layers.Layer, device: str, index: int, count: int, name: str) -> keras.layers.Layer:
    """Copy the `index`-th of `count` equal parts of a layer's units to a device."""
    size = layer.kernel.shape[-1] // count
    units = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    config = {**layer.get_config(), "name": name, "kernel_initializer": "zeros", units: size}
    with tf.device(device):
        result = type(layer).from_config(config)
        result.build((*(None,) * (len(layer.kernel.shape) - 1), layer.kernel.shape[-2]))
        for own, whole in ((result.kernel, layer.kernel), (result.bias, layer.bias)):
            own.assign(whole.numpy()[..., index * size : (index + 1) * size])
    return result


class TwoDevices:
    """The placement of a network whose towers are on two devices.

    Args:
        whole: the network with its weights, which are copied.
        devices: of tower a and tower b.
    """

    def __init__(self, whole: AlexNet, devices: tuple[str, str]) -> None:
        self.network = whole.network
        self.placed = place(whole.network)
        self.devices = dict(zip(TOWERS, devices, strict=True))
        self.weighted: dict[str, keras.layers.Layer] = {}
        for layer in self.placed:
            if "kernel" in layer:
                index, count = (TOWERS.index(layer["tower"]), len(TOWERS)) if layer["half"] else (0, 1)
                device = self.devices[layer["tower"]]
                self.weighted[layer["name"]] = _copy(
                    whole.weighted[layer["whole"]], device, index, count, layer["name"]
                )

    def parameters(self) -> Variables:
        """Name the trainable variables, halves apart: `fc6a/kernel`."""
        return weights_of(self.weighted)

    def __call__(self, images: list[Tensor], masks: dict[str, Tensor] | None = None) -> Tensor:
        """Compute logits [N, C]; images as `prepare` returns them, masks as in `AlexNet.activations`."""
        values: dict[str, Tensor] = {}
        for layer in self.placed:
            index = TOWERS.index(layer["tower"])
            with tf.device(self.devices[layer["tower"]]):
                if layer["op"] == "input":
                    values[layer["name"]] = images[index]
                    continue
                own = masks
                if masks is not None and layer["op"] == "dropout":
                    size = layer["shape"][0] // len(TOWERS)
                    own = {layer["name"]: masks[layer["whole"]][:, index * size : (index + 1) * size]}
                inputs = [values[each] for each in layer["inputs"]]
                values[layer["name"]] = run_layer(layer, inputs, self.weighted, own)
        return values[LOGITS]

    def prepare(self, make: Callable[[], Tensor]) -> list[Tensor]:
        """Make the input on each device, which is less to copy than the input of one to the other."""
        images = []
        for device in self.devices.values():
            with tf.device(device):
                images.append(make())
        return images

    def gradients(
        self, loss: Callable[[], tuple[Tensor, Tensor]], variables: list[Any]
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Compute loss, logits and gradients, each gradient where its layer is; a tape would leave that to chance."""
        with tf.device(self.devices[TOWERS[0]]):  # where fc8 is
            value, logits_NC = loss()
        return value, logits_NC, tf.compat.v1.gradients(value, variables, colocate_gradients_with_ops=True)

    def _names(self) -> dict[str, tuple[str, int, int]]:
        """Find, for each parameter, the one that it is part of, which part and of how many."""
        names = {}
        for layer in self.placed:
            if "kernel" in layer:
                index, count = (TOWERS.index(layer["tower"]), len(TOWERS)) if layer["half"] else (0, 1)
                for kind in ("kernel", "bias"):
                    names[f"{layer['name']}/{kind}"] = (f"{layer['whole']}/{kind}", index, count)
        return names

    def export(self, variables: Variables) -> dict[str, np.ndarray]:
        """Read parameters or velocities, halves joined."""
        parts: dict[str, list[np.ndarray]] = {}
        for name, (whole, _, _) in self._names().items():
            parts.setdefault(whole, []).append(variables[name].numpy())
        return {whole: np.concatenate(halves, axis=-1) for whole, halves in parts.items()}

    def restore(self, variables: Variables, arrays: dict[str, np.ndarray]) -> None:
        """Set parameters or velocities, each to its half."""
        for name, (whole, index, count) in self._names().items():
            variables[name].assign(np.split(arrays[whole], count, axis=-1)[index])
