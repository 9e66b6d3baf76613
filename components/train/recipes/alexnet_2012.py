"""alexnet-2012: the network and training that gave the paper's Table 1, as the original code ran them.

[P] is the paper, [C] the original code as released; where they differ, this follows [C].

Source: [C] layers-145.cfg, layer-params-145-2010.cfg and convdata_jpeg.py (order, init, rates, phases, crops, noise).
Command: alexnet run --release URI --root URI --param recipe=alexnet-2012 --param gpus=1
Cost: 93 epochs of 1,261,406 images, 916,515 steps; 5 to 6 days in 2012 on two GTX 580; days on two CPU cores: ~19.
Expected error, ILSVRC-2010 test, top-1 / top-5: ten crops 37.47 / 17.00 %, centre crop 39.02 / 18.30 % (+-0.5).
"""

from components.train.recipes.recipe import Conv, Dense, Recipe, phase

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
        phase(1, 0.01, 0.002, 0.1),
        phase(23, 0.001, 0.002, 0.1),
        phase(51, 0.0001, 0.002, 0.1),
        phase(68, 0.0001, 0.002, 0.0, conv1=0.00001),
        phase(72, 0.0001, 0.002, 0.0, conv1=0.0, conv1_bias=0.0),
        phase(78, 0.00001, 0.002, 0.0, conv1=0.0, conv1_bias=0.0),
    ),
    crop_group=32,
    color_noise_basis="standard_deviations",
    color_noise_rescale=True,
    reshuffle=False,
)
