"""The rates of an epoch: as the recipe's phases say, or by the validation errors so far.

Both are pure functions of what a checkpoint holds, so a resumed run has the rates of an uninterrupted one.
"""

from collections.abc import Sequence
from dataclasses import replace

from components.train.recipes.recipe import Phase, Recipe

# The paper divides the rate by 10 "when the validation error rate stopped improving", three times, and does not say how
# long it waited: at least 22 epochs with a person watching. Five is this project's choice.
PLATEAU_PATIENCE = 5
PLATEAU_DROPS = 3

EXPONENTIAL_PARTS, EXPONENTIAL_FACTOR = 4, 250


def num_drops(errors: Sequence[float], patience: int) -> int:
    """Count how often the rates have fallen by the validation errors of the epochs so far.

    Args:
        errors: an error an epoch, any unit.
        patience: epochs in a row without an error below all before, after which the rates fall.
    """
    best, waited, drops = float("inf"), 0, 0
    for error in errors:
        waited = 0 if error < best else waited + 1
        best = min(best, error)
        if waited == patience and drops < PLATEAU_DROPS:
            waited, drops = 0, drops + 1
    return drops


def current_phase(recipe: Recipe, epoch: int, num_epochs: int, errors: Sequence[float]) -> Phase:
    """Return the rates of an epoch.

    With a patience they start as the first phase and are divided by 10 at each drop. Biases fall with the weights if
    the recipe has them at one rate, as the paper does; those of the original code never fell. conv1 is never frozen,
    and the colour noise, which is drawn ahead of its use, ends with the epoch at which the phases end it.

    Args:
        recipe: the recipe.
        epoch: 1-based.
        num_epochs: length of the run.
        errors: validation errors of the epochs before.
    """
    phase = recipe.phase(epoch, num_epochs)
    if not recipe.plateau_patience:
        return phase
    first = recipe.phases[0]
    scale = 10.0 ** -num_drops(errors, recipe.plateau_patience)
    rate, bias_rate = first.learning_rate * scale, first.bias_learning_rate
    if all(p.bias_learning_rate == p.learning_rate for p in recipe.phases):
        bias_rate = rate
    return replace(
        phase,
        learning_rate=rate,
        bias_learning_rate=bias_rate,
        conv1_learning_rate=rate,
        conv1_bias_learning_rate=bias_rate,
    )


def exponential_phases(recipe: Recipe) -> tuple[Phase, ...]:
    """Make the later automatic schedule of the original code, config 170, for a recipe.

    There the weights went from 0.01 by equal factors to 0.00004, and the biases from 0.02 to 0.002; a recipe that
    starts at another rate has all of them in proportion. The colour noise stays as the recipe has it.
    """
    start = recipe.phases[0].learning_rate
    phases: list[Phase] = []
    for epoch in range(1, recipe.num_epochs + 1):
        part = (epoch - 1) * EXPONENTIAL_PARTS // recipe.num_epochs
        rate = start * EXPONENTIAL_FACTOR ** (-part / (EXPONENTIAL_PARTS - 1))
        bias_rate = start * (2.0 if 2 * part < EXPONENTIAL_PARTS else 0.2)
        phase = Phase(
            first_epoch=epoch,
            learning_rate=rate,
            bias_learning_rate=bias_rate,
            conv1_learning_rate=rate,
            conv1_bias_learning_rate=bias_rate,
            color_noise=recipe.phase(epoch, recipe.num_epochs).color_noise,
        )
        if not phases or phase != replace(phases[-1], first_epoch=epoch):
            phases.append(phase)
    return tuple(phases)
