"""Named, frozen configurations of network and training: every number of a run lives here.

Sources in comments: [P] the paper's text; [C] the original code as released, network 145 with its ILSVRC-2010
parameters, whose recorded errors are the ones of the paper's Table 1. Where they differ, `alexnet-2012` follows [C],
`alexnet-2012-paper` follows [P], and each difference is one field.
"""

from dataclasses import dataclass
from typing import Literal

Follower = Literal["relu", "lrn", "spatial_norm", "pool"]


@dataclass(frozen=True, kw_only=True)
class Conv:
    """One convolution and what follows it. Filters are counted over all towers."""

    filters: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int]  # zeros (top and left, bottom and right)
    then: tuple[Follower, ...]
    weight_std: float
    bias: float


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One fully connected layer; ReLU and dropout follow all but the last, whose units are the classes."""

    units: int
    weight_std: float
    bias: float


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The rates from one epoch on. A rate of 0 freezes its parameters: no decay, no momentum."""

    first_epoch: int  # 1-based
    learning_rate: float
    bias_learning_rate: float
    conv1_learning_rate: float
    conv1_bias_learning_rate: float
    color_noise: float  # standard deviation of the multiple of each principal component; 0: off


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and how to train it."""

    name: str
    # network
    towers: Literal[1, 2] = 2
    convs: tuple[Conv, ...]  # conv1 to conv5, or to conv6
    left_out: tuple[int, ...] = ()  # numbers of convolutions to omit; their pooling layers are kept
    nonlinearity: Literal["relu", "tanh"] = "relu"  # what "relu" stands for, and what follows fc6 and fc7
    denses: tuple[Dense, Dense, Dense]  # fc6, fc7, fc8; the units of fc8 are replaced by the number of classes
    pool_size: int = 3
    pool_stride: int = 2
    lrn_size: int = 5
    lrn_k: float = 2.0
    lrn_alpha: float  # effective: multiplies the plain sum of squares
    lrn_beta: float = 0.75
    spatial_norm_size: int = 5
    spatial_norm_k: float = 1.0
    spatial_norm_alpha: float = 4e-5  # effective; [C] 0.001 / 25
    spatial_norm_beta: float = 0.75
    dropout_keep: float = 0.5  # 1: no dropout
    precision: Literal["float32", "bfloat16"] = "float32"  # of the layers; weights and update are float32 always
    # optimiser
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 0.0005  # kernels only
    num_epochs: int
    phases: tuple[Phase, ...]
    plateau_patience: int = 0  # epochs without a better validation error before the rates fall; 0: as `phases` say
    # input
    random_crops: bool = True  # and flips; else the centre crop
    crop_group: int  # consecutive images that share one crop and flip
    color_noise_basis: Literal["standard_deviations", "eigenvalues"]
    color_noise_rescale: bool  # divide the training input by 1 + noise while the noise is on
    reshuffle: bool  # another order in every epoch; 2012 read the shuffled files in one order

    def phase(self, epoch: int, num_epochs: int) -> Phase:
        """Return the rates of an epoch when the schedule is stretched to another length.

        Args:
            epoch: 1-based, at most `num_epochs`.
            num_epochs: length of the run; the recipe's own length gives the recipe's own schedule.
        """
        equivalent = 1 + (epoch - 1) * self.num_epochs // num_epochs
        return [phase for phase in self.phases if phase.first_epoch <= equivalent][-1]


def phase(
    first_epoch: int,
    rate: float,
    bias: float,
    noise: float,
    conv1: float | None = None,
    conv1_bias: float | None = None,
) -> Phase:
    """Make a phase; what is not given for conv1 is as for the others."""
    return Phase(
        first_epoch=first_epoch,
        learning_rate=rate,
        bias_learning_rate=bias,
        conv1_learning_rate=rate if conv1 is None else conv1,
        conv1_bias_learning_rate=bias if conv1_bias is None else conv1_bias,
        color_noise=noise,
    )
