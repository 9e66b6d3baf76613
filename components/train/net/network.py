"""A recipe's network as plain data: the layers in order, with shapes, and their counts.

The list travels in the model manifest, in the language of `components.shared.layers`: whoever runs the network needs
nothing else of this component.
"""

import math
from typing import Any, cast

from components.shared.layers import INPUT_SHAPE, LOGITS, Layer, Op
from components.train.recipes.recipe import Conv, Follower, Recipe

# The convolutions that see both towers: paper, Figure 2; conv6, where there is one, as in [C] layers-146-2009.cfg.
CROSSING_CONVS = (3, 6)


def base_name(name: str) -> str:
    """Return the name of a layer without its tower: `conv3a` is `conv3`."""
    return name.rstrip("ab")


class _Builder:
    """Collects layers and computes their shapes."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.layers: dict[str, Layer] = {}

    def add(self, name: str, op: Op, inputs: list[str], shape: list[int], **params: Any) -> str:
        layer = {"name": name, "op": op, "inputs": inputs, "shape": shape, **params}
        self.layers[name] = cast(Layer, layer)
        return name

    def shape(self, name: str) -> list[int]:
        return self.layers[name]["shape"]

    def conv(self, name: str, source: str, conv: Conv, filters: int) -> str:
        height, width, channels = self.shape(source)
        sizes = [(size + sum(conv.padding) - conv.kernel) // conv.stride + 1 for size in (height, width)]
        return self.add(
            name,
            "conv",
            [source],
            [*sizes, filters],
            kernel=[conv.kernel, conv.kernel, channels, filters],
            stride=conv.stride,
            padding=[list(conv.padding), list(conv.padding)],
        )

    def follow(self, op: Follower, suffix: str, source: str) -> str:
        """Add one of the layers without weights that follow a convolution; its name ends in `suffix`, as `1a`."""
        r, shape = self.recipe, self.shape(source)
        if op == "relu":
            return self.add(f"{r.nonlinearity}{suffix}", r.nonlinearity, [source], shape)
        if op == "lrn":
            params = {"size": r.lrn_size, "k": r.lrn_k, "alpha": r.lrn_alpha, "beta": r.lrn_beta}
            return self.add(f"lrn{suffix}", "lrn", [source], shape, **params)
        if op == "spatial_norm":
            params = {
                "size": r.spatial_norm_size,
                "k": r.spatial_norm_k,
                "alpha": r.spatial_norm_alpha,
                "beta": r.spatial_norm_beta,
            }
            return self.add(f"spatial_norm{suffix}", "spatial_norm", [source], shape, **params)
        return self.pool(f"pool{suffix}", source)

    def pool(self, name: str, source: str) -> str:
        """Add a max-pool whose last window may reach over the border and is cut there, as in [C] layer.py."""
        size, stride, shape = self.recipe.pool_size, self.recipe.pool_stride, self.shape(source)
        sizes = [-(-(length - size) // stride) + 1 for length in shape[:2]]
        over = [(count - 1) * stride + size - length for count, length in zip(sizes, shape[:2], strict=True)]
        # Only where there is something to cut, so never in the networks of 2012: 55, 27 and 13 are covered exactly.
        params = {"padding": [[0, cells] for cells in over]} if any(over) else {}
        return self.add(name, "max_pool", [source], [*sizes, shape[2]], size=size, stride=stride, **params)

    def concat(self, name: str, sources: list[str]) -> str:
        if len(sources) == 1:
            return sources[0]
        shape = self.shape(sources[0])
        return self.add(name, "concat", sources, [*shape[:2], sum(self.shape(s)[2] for s in sources)])

    def dense(self, name: str, source: str, units: int) -> str:
        return self.add(name, "dense", [source], [units], kernel=[self.shape(source)[0], units])


def build(recipe: Recipe, num_classes: int) -> list[Layer]:
    """List the layers of a recipe's network, each after its inputs (paper, section 3.5 and Figure 2).

    Args:
        recipe: the recipe.
        num_classes: units of fc8.
    """
    b = _Builder(recipe)
    suffixes = ("a", "b") if recipe.towers == 2 else ("",)
    tops = {suffix: b.add("input", "input", [], INPUT_SHAPE) for suffix in suffixes}
    for number, conv in enumerate(recipe.convs, start=1):
        if number in CROSSING_CONVS:
            tops = dict.fromkeys(suffixes, b.concat(f"concat{number - 1}", list(tops.values())))
        for suffix in suffixes:
            top = tops[suffix]
            then: tuple[Follower, ...] = conv.then
            if number in recipe.left_out:
                then = tuple(op for op in conv.then if op == "pool")
            else:
                top = b.conv(f"conv{number}{suffix}", top, conv, conv.filters // recipe.towers)
            for op in then:
                top = b.follow(op, f"{number}{suffix}", top)
            tops[suffix] = top
    top = b.concat(f"concat{len(recipe.convs)}", list(tops.values()))
    top = b.add("flatten", "flatten", [top], [math.prod(b.shape(top))])
    for number, dense in zip((6, 7), recipe.denses[:2], strict=True):
        top = b.dense(f"fc{number}", top, dense.units)
        top = b.add(f"fc{number}_{recipe.nonlinearity}", recipe.nonlinearity, [top], b.shape(top))
        if recipe.dropout_keep < 1:
            top = b.add(f"fc{number}_dropout", "dropout", [top], b.shape(top), keep=recipe.dropout_keep)
    b.dense(LOGITS, top, num_classes)
    return list(b.layers.values())


def num_parameters(layer: Layer) -> int:
    """Count the weights and biases of a layer."""
    return math.prod(layer["kernel"]) + layer["kernel"][-1] if "kernel" in layer else 0


def num_neurons(layer: Layer) -> int:
    """Count the units of a layer with weights; the paper's 650,000 are these, 659,272 when Figure 2 is corrected."""
    return math.prod(layer["shape"]) if "kernel" in layer else 0


def num_macs(layer: Layer) -> int:
    """Count the multiply-accumulates of one image. Ignores biases and counts padded positions."""
    return math.prod(layer["kernel"]) * math.prod(layer["shape"][:-1]) if "kernel" in layer else 0


def totals(network: list[Layer]) -> dict[str, int]:
    """Sum the counts over a network."""
    return {
        "num_parameters": sum(map(num_parameters, network)),
        "num_neurons": sum(map(num_neurons, network)),
        "num_macs": sum(map(num_macs, network)),
    }
