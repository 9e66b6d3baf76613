"""The training loop: steps, validation at the end of each epoch, checkpoints, and stopping when it makes no sense."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from components.shared import runlog
from components.shared.errors import AlexNetError, Interrupted
from components.train.checkpoint import Checkpoints
from components.train.data import CenterBatches, Split, TrainingBatches, iterate
from components.train.model import AlexNet
from components.train.optimizer import PaperSGD, rates
from components.train.schedule import current_phase
from components.train.step import make_train_step, make_validation_step

# A validation set larger than this is sampled until the last epoch, as in 2012, which took one file of 1024 images.
LARGE_VALIDATION = 5000
SAMPLED_VALIDATION = 1024
VALIDATION_BATCH = 64

# The loss of a network that says nothing is ln(classes); a run that is still there after this much is stuck.
STUCK_EPOCHS, STUCK_STEPS, STUCK_MARGIN = 10, 2000, 0.02


@dataclass
class State:
    """What a run is besides its arrays: where it stands, what it measured. Plain JSON values only."""

    step: int = 0  # steps done
    history: list[dict[str, Any]] = field(default_factory=list)  # an entry an epoch; the same in every run
    timings: list[dict[str, Any]] = field(default_factory=list)  # an entry an epoch; clocks
    # of the running epoch
    loss_sum: float = 0.0
    num_wrong: int = 0
    num_seen: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0

    def count(self, loss: float, num_wrong: int, num_images: int, seconds: float, data_seconds: float) -> None:
        """Add one step to the running epoch."""
        self.step += 1
        self.loss_sum += loss * num_images
        self.num_wrong += num_wrong
        self.num_seen += num_images
        self.seconds += seconds
        self.data_seconds += data_seconds


@dataclass
class Run:
    """Everything a run needs."""

    model: AlexNet
    optimizer: PaperSGD
    strategy: tf.distribute.Strategy
    training: TrainingBatches
    validation: Split
    mean_HWC: np.ndarray  # float32 [224, 224, 3]
    checkpoints: Checkpoints
    checkpoint_minutes: float
    log: runlog.RunLog


class _StopFlag:
    """Notes the first signal, so that the step in progress can end; the second one interrupts at once."""

    def __init__(self) -> None:
        self.signal = ""

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            raise Interrupted(f"stopped at once by a second {signal.Signals(number).name}. The same command resumes")
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def _stop_flag() -> Iterator[_StopFlag]:
    flag = _StopFlag()
    before = {number: signal.signal(number, flag.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _arrays(run: Run) -> dict[str, np.ndarray]:
    return {
        f"{kind}/{name}": array
        for kind, variables in (("weights", run.optimizer.parameters), ("velocities", run.optimizer.velocities))
        for name, array in run.model.export(variables).items()
    }


def _save(run: Run, state: State, epoch: int, learning_rate: float) -> None:
    """Save a checkpoint, unless the last step has ruined the weights though its loss was finite."""
    arrays = _arrays(run)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise _diverged(state.step, epoch, learning_rate)
    run.checkpoints.save(state.step, arrays, asdict(state))


def _resume(run: Run) -> State:
    """Load the newest checkpoint into the model and optimizer, or start."""
    loaded = run.checkpoints.load()
    if loaded is None:
        return State()
    _, arrays, state = loaded
    for kind, variables in (("weights", run.optimizer.parameters), ("velocities", run.optimizer.velocities)):
        own = {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}
        run.model.restore(variables, own)
    return State(**state)


def train(run: Run) -> State:
    """Train to the end of the last epoch, from the newest checkpoint if there is one.

    Raises:
        AlexNetError: the loss is not finite, or does not move; the last checkpoint stays.
        Interrupted: SIGTERM or SIGINT; the step in progress was finished and saved.
        DataError: an example is not what it must be.
        StorageError: a checkpoint cannot be written.
    """
    recipe, training, log = run.training.recipe, run.training, run.log
    state = _resume(run)
    train_step = make_train_step(run.model, run.optimizer, run.mean_HWC, run.strategy)
    validation_step = make_validation_step(run.model, run.mean_HWC)
    last_step = training.num_epochs * training.steps_per_epoch
    done = len(state.history) * len(training.split) + state.num_seen
    progress = runlog.Progress(log, training.num_epochs * len(training.split), "images", done=done)
    last_save = time.monotonic()
    batches = iterate(training.read, state.step, last_step)
    with _stop_flag() as flag:
        while len(state.history) < training.num_epochs:
            epoch = len(state.history) + 1
            errors = [entry["validation_top1_error"] for entry in state.history]
            phase = current_phase(recipe, epoch, training.num_epochs, errors)
            # ---- one step ----
            if state.num_seen < len(training.split):
                start = time.monotonic()
                batch = next(batches)
                ready = time.monotonic()
                rescale = 1 + phase.color_noise if recipe.color_noise_rescale else 1.0
                loss, wrong = train_step(batch, np.array(rates(phase), np.float32), rescale)
                end = time.monotonic()
                state.count(loss, wrong, len(batch["labels"]), end - start, ready - start)
                if not math.isfinite(loss):
                    raise _diverged(state.step, epoch, phase.learning_rate)
                progress.update(
                    len(state.history) * len(training.split) + state.num_seen,
                    epoch=epoch,
                    loss=state.loss_sum / state.num_seen,
                    learning_rate=phase.learning_rate,
                    data_ms=round(1000 * (ready - start), 1),
                    step_ms=round(1000 * (end - ready), 1),
                )
            # ---- end of an epoch ----
            if state.num_seen == len(training.split):
                validation = _validate(run, validation_step, epoch, flag)
                if validation:
                    _end_epoch(run, state, phase.learning_rate, validation)
            # ---- checkpoint ----
            if flag.signal:
                _save(run, state, epoch, phase.learning_rate)
                raise Interrupted(
                    f"stopped by {flag.signal} after step {state.step} of {last_step}, which is saved. "
                    "The same command resumes"
                )
            due = time.monotonic() - last_save >= 60 * run.checkpoint_minutes
            if due and len(state.history) < training.num_epochs:
                _save(run, state, epoch, phase.learning_rate)
                last_save = time.monotonic()
    return state


def _diverged(step: int, epoch: int, learning_rate: float) -> AlexNetError:
    return AlexNetError(
        f"training diverged: expected finite numbers, got nan or inf at step {step} of epoch {epoch}, learning rate "
        f"{learning_rate}. Use a lower learning rate in the recipe or another --seed; "
        "the checkpoints before that step were kept"
    )


def _validate(run: Run, validation_step: Any, epoch: int, flag: _StopFlag) -> list[float]:
    """Compute mean loss, top-1 and top-5 error of centre crops, every example counted once; [] when interrupted."""
    num_examples = len(run.validation)
    if num_examples > LARGE_VALIDATION and epoch < run.training.num_epochs:
        num_examples = SAMPLED_VALIDATION
    batches = CenterBatches(run.validation, VALIDATION_BATCH, num_examples)
    progress = runlog.Progress(run.log, num_examples, "validation images")
    sums, done = np.zeros(3), 0
    for batch in iterate(batches.read, 0, batches.num_steps):
        sums += validation_step(batch)
        done += len(batch["labels"])
        if num_examples > SAMPLED_VALIDATION:  # a small set takes seconds
            progress.update(done)
        if flag.signal and done < num_examples:
            return []
    return [float(value) for value in sums / num_examples]


def _end_epoch(run: Run, state: State, learning_rate: float, validation: list[float]) -> None:
    """Write down an epoch and begin the next one."""
    num_steps = run.training.steps_per_epoch
    epoch = len(state.history) + 1
    entry = {
        "epoch": epoch,
        "step": state.step,
        "learning_rate": learning_rate,
        "train_loss": state.loss_sum / state.num_seen,
        "train_top1_error": state.num_wrong / state.num_seen,
        "validation_loss": validation[0],
        "validation_top1_error": validation[1],
        "validation_top5_error": validation[2],
    }
    timing = {
        "epoch": epoch,
        "seconds": state.seconds,
        "images_per_second": state.num_seen / state.seconds,
        "data_ms": 1000 * state.data_seconds / num_steps,
        "step_ms": 1000 * (state.seconds - state.data_seconds) / num_steps,
    }
    run.log.info("epoch ended", **entry, **{key: round(value, 1) for key, value in timing.items() if key != "epoch"})
    if not math.isfinite(validation[0]):
        raise _diverged(state.step, epoch, learning_rate)
    state.history.append(entry)
    state.timings.append(timing)
    state.loss_sum = state.seconds = state.data_seconds = 0.0
    state.num_wrong = state.num_seen = 0
    check_stuck(state, run.training.split.num_classes)


def check_stuck(state: State, num_classes: int) -> None:
    """Stop a run whose loss has stayed at that of a network that says nothing.

    Raises:
        AlexNetError: after at least 10 epochs and 2000 steps, the loss of each of the last five is within 0.02 of
            ln(classes).
    """
    recent = [entry["train_loss"] for entry in state.history[-5:]]
    silent = math.log(num_classes)
    if len(state.history) < STUCK_EPOCHS or state.step < STUCK_STEPS:
        return
    if all(abs(loss - silent) < STUCK_MARGIN for loss in recent):
        raise AlexNetError(
            f"training is stuck: after {len(state.history)} epochs ({state.step} steps) the loss is {recent[-1]:.4f}, "
            f"expected below ln({num_classes}) = {silent:.4f}. Nothing passes from the images to the output: "
            "use larger initial weights (alexnet-2012 rather than alexnet-2012-paper), another --seed or a higher rate"
        )
