"""The update rule of the paper, section 5, on one device or with the gradients of several summed.

The learning rate is inside the velocity and the weight decay goes through it:

    v <- momentum v - decay rate w - rate g        w <- w + v

Keras' `SGD(weight_decay=...)` is another rule (decay outside the momentum), and has no rate for each parameter.
"""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from components.train.net.network import base_name
from components.train.recipes.recipe import Phase, Recipe

Tensor = Any


def paper_update(
    weight: Tensor, velocity: Tensor, gradient: Tensor, rate: Tensor, decay: float, momentum: float
) -> tuple[Tensor, Tensor]:
    """Compute weight and velocity after one step.

    Args:
        weight: float32, any shape.
        velocity: as the weight.
        gradient: as the weight, of the loss averaged over the batch.
        rate: scalar; at 0 the parameter is skipped entirely, as in the original code.
        decay: coefficient of the weight in the gradient; 0 for biases.
        momentum: coefficient of the velocity.
    """
    if decay:
        gradient = gradient + decay * weight
    new_velocity = momentum * velocity - rate * gradient
    active = rate > 0
    return ops.where(active, weight + new_velocity, weight), ops.where(active, new_velocity, velocity)


def rates(phase: Phase) -> list[float]:
    """List the rates of a phase in the order that `rate_index` points into."""
    return [
        phase.learning_rate,
        phase.bias_learning_rate,
        phase.conv1_learning_rate,
        phase.conv1_bias_learning_rate,
    ]


def rate_index(name: str) -> int:
    """Find the rate of a parameter, `conv1a/kernel` for instance."""
    layer, kind = name.split("/")
    return 2 * (base_name(layer) == "conv1") + (kind == "bias")


def weight_decay(name: str, recipe: Recipe) -> float:
    """Find the weight decay of a parameter; biases have none, as in the original code."""
    return recipe.weight_decay if name.endswith("/kernel") else 0.0


def _beside(variable: Any) -> AbstractContextManager:
    """Place what follows on the device of a variable; one that has a copy on each device is placed by its strategy."""
    mirrored = isinstance(variable, tf.distribute.DistributedValues)
    return contextlib.nullcontext() if mirrored else tf.device(variable.device)


class PaperSGD:
    """Holds the velocities of named variables and steps them.

    Args:
        parameters: the variables by name.
        recipe: momentum and weight decay.
    """

    def __init__(self, parameters: dict[str, keras.Variable], recipe: Recipe) -> None:
        self.parameters = parameters
        self.recipe = recipe
        self.velocities = {}
        for name, variable in parameters.items():
            with _beside(variable.value):
                zeros, own_name = ops.zeros(variable.shape), name.replace("/", "_") + "_velocity"
                self.velocities[name] = keras.Variable(zeros, trainable=False, name=own_name)

    def apply(self, gradients: list[Tensor], step_rates: Tensor) -> None:
        """Step all variables; to be called in a replica context.

        Args:
            gradients: this replica's share of each gradient, in the order of the parameters; the shares are summed.
            step_rates: float32 [4], in the order of `rates`.
        """
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        context.merge_call(self._update_all, args=(gradients, step_rates))

    def _update_all(self, strategy: tf.distribute.Strategy, gradients: list[Tensor], step_rates: Tensor) -> None:
        for (name, weight), gradient in zip(self.parameters.items(), gradients, strict=True):

            def update(weight, velocity, gradient, step_rates, name=name):
                with _beside(weight):
                    rate, decay = step_rates[rate_index(name)], weight_decay(name, self.recipe)
                    new = paper_update(weight, velocity, gradient, rate, decay, self.recipe.momentum)
                    weight.assign(new[0])
                    velocity.assign(new[1])

            velocity = self.velocities[name].value
            strategy.extended.update(weight.value, update, args=(velocity, gradient, step_rates))
