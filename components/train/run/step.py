"""One training step and one validation step, the same on one device or several."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from components.train.net.model import Tensor, prepare_test, prepare_training
from components.train.net.optimizer import PaperSGD
from components.train.net.placement import Placement

Batch = dict[str, tf.Tensor]


def strategy_for(gpus: int, parallel: str) -> tf.distribute.Strategy:
    """Choose how the devices share a batch: one takes it whole, and so do towers; several take a part each."""
    if gpus < 2 or parallel == "towers":
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(gpus)])


def shares(batch: Batch, strategy: tf.distribute.Strategy) -> Any:
    """Give each device its part of a batch; the parts differ by at most one image."""
    count = strategy.num_replicas_in_sync
    if count == 1:
        return batch
    size = len(batch["labels"])
    bounds = [size * replica // count for replica in range(count + 1)]

    def share(context: Any) -> Batch:
        replica = context.replica_id_in_sync_group
        return {name: value[bounds[replica] : bounds[replica + 1]] for name, value in batch.items()}

    return strategy.experimental_distribute_values_from_function(share)


def any_size(batch: Batch) -> dict[str, tf.TensorSpec]:
    """Describe batches like this one of any number of images, so that the last of an epoch needs no second trace."""
    return {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in batch.items()}


def cross_entropy(labels_N: Tensor, logits_NC: Tensor) -> Tensor:
    """Compute the loss of each image, -log softmax of its label."""
    return ops.sparse_categorical_crossentropy(labels_N, logits_NC, from_logits=True)


def num_larger(labels_N: Tensor, logits_NC: Tensor) -> Tensor:
    """Count the classes that are judged likelier than the label, for each image: 0 is a top-1 hit."""
    own_N1 = ops.take_along_axis(logits_NC, labels_N[:, None], axis=1)
    return ops.sum(ops.cast(logits_NC > own_N1, "int32"), axis=1)


def make_train_step(
    placement: Placement, optimizer: PaperSGD, mean_HWC: np.ndarray, strategy: tf.distribute.Strategy
) -> Callable[[Batch, np.ndarray, float], tuple[float, int]]:
    """Make the function that takes one step of the paper's rule on the mean gradient of a batch.

    Returns:
        A function of batch (as `TrainingBatches` makes it, decoded), rates float32 [4] and rescale, which returns the
        mean loss and the number of images that are classified wrongly, both before the step.
    """
    variables = [variable.value for variable in optimizer.parameters.values()]

    def replica_step(
        batch: Batch, batch_size: tf.Tensor, rates: tf.Tensor, rescale: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def make_images() -> tf.Tensor:
            return prepare_training(batch["crops"], batch["flips"], batch["noise"], tf.constant(mean_HWC), rescale)

        images = placement.prepare(make_images)
        masks = {layer["name"]: batch[layer["name"]] for layer in placement.network if layer["op"] == "dropout"}

        def forward() -> tuple[tf.Tensor, tf.Tensor]:
            logits = placement(images, masks)
            # Over the whole batch, so that the sum over replicas is its mean.
            return tf.reduce_sum(cross_entropy(batch["labels"], logits)) / batch_size, logits

        loss, logits, gradients = placement.gradients(forward, variables)
        optimizer.apply(gradients, rates)
        return loss, tf.math.count_nonzero(num_larger(batch["labels"], logits))

    def whole_step(
        batch: Any, batch_size: tf.Tensor, rates: tf.Tensor, rescale: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        loss, wrong = strategy.run(replica_step, args=(batch, batch_size, rates, rescale))
        total = tf.distribute.ReduceOp.SUM
        return strategy.reduce(total, loss, axis=None), strategy.reduce(total, wrong, axis=None)

    several = strategy.num_replicas_in_sync > 1
    traced: list[Callable] = []

    def run(batch: Batch, rates: np.ndarray, rescale: float) -> tuple[float, int]:
        size = tf.constant(len(batch["labels"]), tf.float32)
        if not traced:
            scalars = [tf.TensorSpec(shape) for shape in ([], [len(rates)], [])]
            # Values that are spread over devices have no signature; their shapes are traced as they come.
            signature = None if several else [any_size(batch), *scalars]
            traced.append(tf.function(whole_step, input_signature=signature))
        loss, wrong = traced[0](shares(batch, strategy), size, tf.constant(rates, tf.float32), tf.constant(rescale))
        return float(loss), int(wrong)

    return run


def make_validation_step(placement: Placement, mean_HWC: np.ndarray) -> Callable[[Batch], np.ndarray]:
    """Make the function that sums over a batch of centre crops, on one device.

    Returns:
        A function of the batch, which returns float64 [3]: sum of losses, top-1 errors, top-5 errors.
    """

    def step(batch: Batch) -> tf.Tensor:
        logits = placement(placement.prepare(lambda: prepare_test(batch["crops"], tf.constant(mean_HWC))))
        larger = num_larger(batch["labels"], logits)
        return tf.stack(
            [
                tf.reduce_sum(tf.cast(cross_entropy(batch["labels"], logits), tf.float64)),
                tf.cast(tf.math.count_nonzero(larger >= 1), tf.float64),
                tf.cast(tf.math.count_nonzero(larger >= 5), tf.float64),
            ]
        )

    traced: list[Callable] = []

    def run(batch: Batch) -> np.ndarray:
        if not traced:
            traced.append(tf.function(step, input_signature=[any_size(batch)]))
        return traced[0](batch).numpy()

    return run
