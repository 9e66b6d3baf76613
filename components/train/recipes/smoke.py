"""smoke: the topology, update rule and augmentation of alexnet-2012 at a quarter of the width, for two CPU cores.

For a dozen classes. Weights start at twice the standard deviation wherever the fan-in is a quarter, so that signals
keep their scale; batches are a quarter as large and so are the rates. With the rates of 2012, six epochs on 12 classes
end at 67 % validation error instead of 57 %.

Source: the experiments of this project.
Command: alexnet run --release URI --param recipe=smoke
Cost: 32 epochs; 5 ms of one core an image, so 11 minutes of one core for 4,028 images.
Expected error: 39.0 % by the centre crop on the validation images of 12 real classes (chance 91.7 %).
"""

from dataclasses import replace

from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.recipe import Dense, phase

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
        phase(1, 0.0025, 0.0005, 0.1),
        phase(22, 0.00025, 0.0005, 0.1),
        phase(29, 0.000025, 0.0005, 0.0),
    ),
    crop_group=1,
    reshuffle=True,
)
