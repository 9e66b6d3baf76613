"""alexnet-2012-paper: the text read literally. Its drops are the epochs at which [C] found that the error had stalled.

Source: [P], the paper, sections 3 to 5; [C] is the original code.
Command: as above with recipe=alexnet-2012-paper
Cost: 90 epochs, 886,950 steps. Expected error: none recorded; with 0.01 in every layer the signal reaches fc8 sixteen
times weaker than in alexnet-2012, and replications report a flat loss.
"""

from dataclasses import replace

from components.train.recipes.alexnet_2012 import ALEXNET_2012
from components.train.recipes.recipe import phase

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
        phase(first, rate, rate, 0.1) for first, rate in ((1, 0.01), (23, 0.001), (51, 0.0001), (78, 0.00001))
    ),
    crop_group=1,
    color_noise_basis="eigenvalues",
    color_noise_rescale=False,
)
