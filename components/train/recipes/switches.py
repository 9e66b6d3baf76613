"""Recipes by their full names, `NAME[+SWITCH...]`: each switch changes one thing of a named recipe.

The ablations are those of the paper; 147, 148 and 145-half are the networks of the original code from whose errors the
paper's differences come; 146 is that of its sixth convolution, whose width the text does not give.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from components.shared.errors import UsageError
from components.train.recipes import schedule
from components.train.recipes.known import RECIPES
from components.train.recipes.recipe import Conv, Recipe

Change = Callable[[Recipe], Recipe]


def _fields(**values: Any) -> Change:
    return lambda recipe: replace(recipe, **values)


def _convs(recipe: Recipe, change: Callable[[int, Conv], Conv]) -> Recipe:
    return replace(recipe, convs=tuple(change(number, conv) for number, conv in enumerate(recipe.convs, start=1)))


def _without_norms(recipe: Recipe) -> Recipe:
    norms = ("lrn", "spatial_norm")
    return _convs(recipe, lambda _, conv: replace(conv, then=tuple(op for op in conv.then if op not in norms)))


def _with_plain_pools(recipe: Recipe) -> Recipe:
    padding = {2: (1, 1), 5: (0, 0)}
    recipe = replace(recipe, pool_size=2, pool_stride=2)
    return _convs(recipe, lambda number, conv: replace(conv, padding=padding.get(number, conv.padding)))


def _with_one_tower(recipe: Recipe) -> Recipe:
    recipe = replace(recipe, towers=1)
    return _convs(recipe, lambda number, conv: conv if number == 5 else replace(conv, filters=conv.filters // 2))


def _leave_out(number: int) -> Change:
    return lambda recipe: replace(recipe, left_out=(*recipe.left_out, number))


def _with_conv6(recipe: Recipe) -> Recipe:
    conv6 = replace(recipe.convs[-1], padding=(1, 1), then=("relu",))  # else as conv5
    return replace(recipe, convs=(*recipe.convs, conv6))


# What each does and its words for the report, in the order in which they are applied and stand in a full name.
SWITCHES: dict[str, tuple[Change, str]] = {
    "no-lrn": (_without_norms, "no normalisation, nor the spatial one (network 148 of 2012)"),
    "plain-pool": (
        _with_plain_pools,
        "2x2 pools that do not overlap, conv2 padded by 1 and conv5 by 0 (network 147 of 2012)",
    ),
    "one-tower": (
        _with_one_tower,
        "one tower, half the filters in all convolutions but the last (network 145-half of 2012)",
    ),
    "drop-conv3": (_leave_out(3), "without conv3; the towers still meet there"),
    "drop-conv4": (_leave_out(4), "without conv4"),
    "drop-conv5": (_leave_out(5), "without conv5; its pool stays"),
    "conv6": (_with_conv6, "a sixth convolution after the last pool, which sees both towers (network 146 of 2012)"),
    "tanh": (_fields(nonlinearity="tanh"), "tanh in place of every ReLU"),
    "no-dropout": (_fields(dropout_keep=1.0), "no dropout"),
    "no-crops": (_fields(random_crops=False), "the centre crop of each training image, never mirrored"),
    "no-color-noise": (
        lambda recipe: replace(recipe, phases=tuple(replace(phase, color_noise=0.0) for phase in recipe.phases)),
        "no colour noise, and no rescaling with it",
    ),
    "reshuffle": (_fields(reshuffle=True), "another order in every epoch; 2012 had one order"),
    "independent-crops": (_fields(crop_group=1), "a crop and flip for each image; 2012 drew one for 32 images"),
    "bfloat16": (
        _fields(precision="bfloat16"),
        "layers compute in bfloat16; weights, normalisations, fc8, loss and update in float32, as does evaluate",
    ),
    "plateau": (
        _fields(plateau_patience=schedule.PLATEAU_PATIENCE),
        f"a tenth of the rates, three times, after {schedule.PLATEAU_PATIENCE} epochs without a lower validation error",
    ),
    "exponential": (
        lambda recipe: replace(recipe, phases=schedule.exponential_phases(recipe)),
        "rates of the weights fall by 250 in four equal parts, of the biases by 10 at half time (network 170 of 2012)",
    ),
}


def named(name: str) -> Recipe:
    """Return the recipe of a full name; in its own name the switches stand in the order of `SWITCHES`.

    Args:
        name: `NAME[+SWITCH...]`, each part one that there is, as the contract checks.

    Raises:
        UsageError: two switches contradict each other.
    """
    base, *given = name.split("+")
    if {"plateau", "exponential"} <= set(given):
        raise UsageError(f"--recipe: expected one schedule, got {name!r} with two. Leave out +plateau or +exponential")
    switches = [switch for switch in SWITCHES if switch in given]
    recipe = RECIPES[base]
    for switch in switches:
        recipe = SWITCHES[switch][0](recipe)
    return replace(recipe, name="+".join([base, *switches]))


def described(name: str) -> str:
    """Say in words what the switches of a full name do; empty when there are none."""
    return "; ".join(f"{switch}: {SWITCHES[switch][1]}" for switch in name.split("+")[1:])
