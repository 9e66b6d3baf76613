"""The language of layers: a network as plain data, which `train` writes into the model and `evaluate` runs.

A network is a list of layers in topological order. Shapes are [height, width, channels] or [channels], without the
batch.
"""

from typing import Literal, NotRequired, TypedDict

Op = Literal[
    "input", "conv", "dense", "relu", "tanh", "lrn", "spatial_norm", "max_pool", "concat", "flatten", "dropout"
]
INPUT_SHAPE = [224, 224, 3]  # RGB, 0..255 minus the mean
LOGITS = "fc8"
FEATURES = ("fc7_relu", "fc7_tanh")  # the last hidden layer after its nonlinearity, whichever there is


class Layer(TypedDict):
    """One layer: what every layer has, and the parameters of its operation."""

    name: str
    op: Op
    inputs: list[str]  # names of earlier layers
    shape: list[int]  # of its output
    # conv and dense
    kernel: NotRequired[list[int]]  # [kh, kw, in, out] or [in, out]
    # conv and max_pool
    stride: NotRequired[int]
    padding: NotRequired[list[list[int]]]  # before and after, of height and width
    # lrn, spatial_norm and max_pool
    size: NotRequired[int]
    # lrn and spatial_norm
    k: NotRequired[float]
    alpha: NotRequired[float]  # multiplies the plain sum of squares
    beta: NotRequired[float]
    # dropout
    keep: NotRequired[float]  # share of the units that stay in training; multiplies all at test
