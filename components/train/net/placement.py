"""Where the parts of a network are: a training step asks its placement to run it, and knows no devices itself."""

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from components.shared.layers import Layer
from components.train.net.model import AlexNet, Tensor

Variables = dict[str, keras.Variable]


class Placement(Protocol):
    """A network on its devices."""

    network: list[Layer]  # of the recipe, whoever runs them

    def parameters(self) -> Variables:
        """Name the trainable variables."""
        ...

    def prepare(self, make: Callable[[], Tensor]) -> Any:
        """Make the input of the network where it is needed; the result is for `__call__`."""
        ...

    def __call__(self, images: Any, masks: dict[str, Tensor] | None = None) -> Tensor:
        """Compute logits [N, C]; masks as in `AlexNet.activations`."""
        ...

    def gradients(
        self, loss: Callable[[], tuple[Tensor, Tensor]], variables: list[Any]
    ) -> tuple[Tensor, Tensor, list[Any]]:
        """Compute loss, logits and the gradient of the loss by each variable."""
        ...

    def export(self, variables: Variables) -> dict[str, np.ndarray]:
        """Read parameters or velocities, by the names and in the shapes that they have on one device."""
        ...

    def restore(self, variables: Variables, arrays: dict[str, np.ndarray]) -> None:
        """Set parameters or velocities to what `export` read."""
        ...


class OneDevice:
    """The whole network on one device, or a copy of it on each of several."""

    def __init__(self, model: AlexNet) -> None:
        self.model, self.network = model, model.network

    def parameters(self) -> Variables:
        return self.model.parameters()

    def prepare(self, make: Callable[[], Tensor]) -> Tensor:
        return make()

    def __call__(self, images: Tensor, masks: dict[str, Tensor] | None = None) -> Tensor:
        return self.model(images, masks)

    def gradients(
        self, loss: Callable[[], tuple[Tensor, Tensor]], variables: list[Any]
    ) -> tuple[Tensor, Tensor, list[Any]]:
        with tf.GradientTape() as tape:
            value, logits_NC = loss()
        return value, logits_NC, tape.gradient(value, variables)

    def export(self, variables: Variables) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in variables.items()}

    def restore(self, variables: Variables, arrays: dict[str, np.ndarray]) -> None:
        for name, variable in variables.items():
            variable.assign(arrays[name])
