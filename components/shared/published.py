"""The colour statistics that the paper's first author released, to compare ours with (cuda-convnet2, `input_meta`).

Computed by him on 256x256 images of ILSVRC-2012. Grey levels of 0..255.
"""

STANDARD_DEVIATIONS = (19.720833, 37.093889, 121.780061)  # along the components, ascending
COMPONENTS = (  # directions in RGB
    (0.417955, -0.816981, 0.397311),
    (-0.712579, -0.023542, 0.701196),
    (-0.563510, -0.576184, -0.592003),
)
MEAN_RGB = (127.304901, 119.715416, 104.912605)  # of the mean image
