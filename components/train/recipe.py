"""Named, frozen configurations of network and training: every number of a run lives here.

Sources in comments: [P] the paper's text; [C] the original code as released, network 145 with its ILSVRC-2010
parameters, whose recorded errors are the ones of the paper's Table 1. Where they differ, `alexnet-2012` follows [C],
`alexnet-2012-paper` follows [P], and each difference is one field.
"""

from dataclasses import dataclass, replace
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
    left_out: tuple[int, ...] = ()  # numbers of convolutions that are not there; what they are pooled by stays
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


def _phase(
    first_epoch: int,
    rate: float,
    bias: float,
    noise: float,
    conv1: float | None = None,
    conv1_bias: float | None = None,
) -> Phase:
    return Phase(
        first_epoch=first_epoch,
        learning_rate=rate,
        bias_learning_rate=bias,
        conv1_learning_rate=rate if conv1 is None else conv1,
        conv1_bias_learning_rate=bias if conv1_bias is None else conv1_bias,
        color_noise=noise,
    )


# alexnet-2012: the network and training that gave the paper's Table 1, as the original code ran them.
# Source: [C] layers-145.cfg, layer-params-145-2010.cfg and convdata_jpeg.py (order, init, rates, phases, crops, noise).
# Command: alexnet run --release URI --root URI --param recipe=alexnet-2012 --param gpus=1
# Cost: 93 epochs of 1,261,406 images, 916,515 steps; 5 to 6 days in 2012 on two GTX 580; days on two CPU cores: ~19.
# Expected error, ILSVRC-2010 test, top-1 / top-5: ten crops 37.47 / 17.00 %, centre crop 39.02 / 18.30 % (+-0.5).
ALEXNET_2012 = Recipe(
    name="alexnet-2012",
    convs=(
        # The normalisation sees the linear output, negative values too.
        Conv(filters=96, kernel=11, stride=4, padding=(0, 3), then=("lrn", "pool", "relu"), weight_std=0.01, bias=0),
        Conv(
            filters=256, kernel=5, padding=(2, 2), then=("relu", "lrn", "spatial_norm", "pool"), weight_std=0.01, bias=1
        ),
        Conv(filters=384, kernel=3, padding=(1, 1), then=("relu",), weight_std=0.03, bias=0),
        Conv(filters=384, kernel=3, padding=(1, 1), then=("relu",), weight_std=0.03, bias=1),
        Conv(filters=256, kernel=3, padding=(1, 1), then=("pool", "relu"), weight_std=0.03, bias=1),
    ),
    denses=(
        Dense(units=4096, weight_std=0.01, bias=1),
        Dense(units=4096, weight_std=0.01, bias=1),
        Dense(units=1000, weight_std=0.01, bias=0),
    ),
    lrn_alpha=2e-5,  # [C] 0.0001 divided by the window of 5
    batch_size=128,
    num_epochs=93,
    phases=(
        _phase(1, 0.01, 0.002, 0.1),
        _phase(23, 0.001, 0.002, 0.1),
        _phase(51, 0.0001, 0.002, 0.1),
        _phase(68, 0.0001, 0.002, 0.0, conv1=0.00001),
        _phase(72, 0.0001, 0.002, 0.0, conv1=0.0, conv1_bias=0.0),
        _phase(78, 0.00001, 0.002, 0.0, conv1=0.0, conv1_bias=0.0),
    ),
    crop_group=32,
    color_noise_basis="standard_deviations",
    color_noise_rescale=True,
    reshuffle=False,
)

# alexnet-2012-paper: the text read literally. Its drops are the epochs at which [C] found that the error had stalled.
# Source: [P] sections 3 to 5.
# Command: as above with recipe=alexnet-2012-paper
# Cost: 90 epochs, 886,950 steps. Expected error: none recorded; with 0.01 in every layer the signal reaches fc8 sixteen
# times weaker than in alexnet-2012, and replications report a flat loss.
ALEXNET_2012_PAPER = replace(
    ALEXNET_2012,
    name="alexnet-2012-paper",
    convs=(
        replace(ALEXNET_2012.convs[0], then=("relu", "lrn", "pool")),
        replace(ALEXNET_2012.convs[1], then=("relu", "lrn", "pool")),
        replace(ALEXNET_2012.convs[2], weight_std=0.01),
        replace(ALEXNET_2012.convs[3], weight_std=0.01),
        replace(ALEXNET_2012.convs[4], weight_std=0.01, then=("relu", "pool")),
    ),
    lrn_alpha=1e-4,
    num_epochs=90,
    phases=tuple(
        _phase(first, rate, rate, 0.1) for first, rate in ((1, 0.01), (23, 0.001), (51, 0.0001), (78, 0.00001))
    ),
    crop_group=1,
    color_noise_basis="eigenvalues",
    color_noise_rescale=False,
)

# smoke: the topology, update rule and augmentation of alexnet-2012 at a quarter of the width, for two CPU cores and a
# dozen classes. Weights start at twice the standard deviation wherever the fan-in is a quarter, so that signals keep
# their scale; batches are a quarter as large and so are the rates. With the rates of 2012, six epochs on
# 12 classes end at 67 % validation error instead of 57 %.
# Source: the experiments of this project.
# Command: alexnet run --release URI --param recipe=smoke
# Cost: 32 epochs; 5 ms of one core an image, so 11 minutes of one core for 4,028 images.
# Expected error: 39.0 % by the centre crop on the validation images of 12 real classes (chance 91.7 %).
SMOKE = replace(
    ALEXNET_2012,
    name="smoke",
    convs=(
        replace(ALEXNET_2012.convs[0], filters=24),
        replace(ALEXNET_2012.convs[1], filters=64, weight_std=0.02),
        replace(ALEXNET_2012.convs[2], filters=96, weight_std=0.06),
        replace(ALEXNET_2012.convs[3], filters=96, weight_std=0.06),
        replace(ALEXNET_2012.convs[4], filters=64, weight_std=0.06),
    ),
    denses=(
        Dense(units=1024, weight_std=0.02, bias=1),
        Dense(units=1024, weight_std=0.02, bias=1),
        Dense(units=1000, weight_std=0.02, bias=0),
    ),
    batch_size=32,
    num_epochs=32,
    phases=(
        _phase(1, 0.0025, 0.0005, 0.1),
        _phase(22, 0.00025, 0.0005, 0.1),
        _phase(29, 0.000025, 0.0005, 0.0),
    ),
    crop_group=1,
    reshuffle=True,
)

RECIPES = {recipe.name: recipe for recipe in (ALEXNET_2012, ALEXNET_2012_PAPER, SMOKE)}
