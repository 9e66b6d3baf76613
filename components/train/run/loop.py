"""The training loop: steps, validation at the end of each epoch, checkpoints, and stopping when it makes no sense."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from components.shared import runlog
from components.shared.errors import AlexNetError, Interrupted
from components.train.input.draws import CenterBatches, TrainingBatches
from components.train.input.loader import iterate
from components.train.input.split import Split
from components.train.net.optimizer import PaperSGD, rates
from components.train.net.placement import Placement
from components.train.recipes.recipe import Phase
from components.train.recipes.schedule import current_phase
from components.train.run.checkpoint import Checkpoints
from components.train.run.saver import Saver
from components.train.run.step import Batch, make_train_step, make_validation_step
from components.train.run.stopping import StopFlag, stop_flag
from components.train.run.trace import Logs, Trace, cause_of, note_rates

# A validation set larger than this is sampled until the last epoch, as in 2012, which took one file of 1024 images.
LARGE_VALIDATION = 5000
SAMPLED_VALIDATION = 1024
VALIDATION_BATCH = 64

# The loss of a network that says nothing is ln(classes); a run that is still there after this much is stuck.
STUCK_EPOCHS, STUCK_STEPS, STUCK_MARGIN = 10, 2000, 0.02

# Fewer steps than these say nothing about who waits for whom: the first one traces the program.
WAITING_STEPS = 50


@dataclass
class State:
    """What a run is besides its arrays: where it stands, what it measured. Plain JSON values, but for the trace."""

    step: int = 0  # steps done
    trace: Trace = field(default_factory=Trace)
    rates: list[dict[str, Any]] = field(default_factory=list)  # an entry a change
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
        self.trace.loss.append(loss)
        self.trace.data_ms.append(1000 * data_seconds)
        self.trace.step_ms.append(1000 * (seconds - data_seconds))
        self.loss_sum += loss * num_images
        self.num_wrong += num_wrong
        self.num_seen += num_images
        self.seconds += seconds
        self.data_seconds += data_seconds


@dataclass
class Run:
    """Everything a run needs."""

    placement: Placement
    optimizer: PaperSGD
    strategy: tf.distribute.Strategy
    training: TrainingBatches
    validation: Split
    mean_HWC: np.ndarray  # float32 [224, 224, 3]
    checkpoints: Checkpoints
    logs: Logs
    checkpoint_minutes: float
    log: runlog.RunLog


def _arrays(run: Run) -> dict[str, np.ndarray]:
    return {
        f"{kind}/{name}": array
        for kind, variables in (("weights", run.optimizer.parameters), ("velocities", run.optimizer.velocities))
        for name, array in run.placement.export(variables).items()
    }


def _snapshot(run: Run, state: State, epoch: int, learning_rate: float) -> Callable[[], None]:
    """Copy all that a checkpoint holds; returns what writes it, unless the last step has ruined the weights."""
    arrays, trace = _arrays(run), state.trace.arrays()
    plain = {name: value for name, value in asdict(state).items() if name != "trace"}

    def write() -> None:
        if not all(np.isfinite(array).all() for array in arrays.values()):  # though the loss was finite
            raise _diverged(plain["step"], epoch, learning_rate)
        traces = {f"trace/{name}": array for name, array in trace.items()}
        run.checkpoints.save(plain["step"], arrays | traces, plain)
        run.logs.publish(Trace.restored(trace), plain["rates"], plain["history"], plain["timings"])

    return write


def _resume(run: Run) -> State:
    """Load the newest checkpoint into the model and optimizer, or start."""
    loaded = run.checkpoints.load()
    if loaded is None:
        return State()
    _, arrays, plain = loaded

    def of_kind(kind: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}

    run.placement.restore(run.optimizer.parameters, of_kind("weights"))
    run.placement.restore(run.optimizer.velocities, of_kind("velocities"))
    return State(trace=Trace.restored(of_kind("trace")), **plain)


def _current_phase(run: Run, state: State) -> Phase:
    """Return the rates of the running epoch; a change is written down."""
    recipe, epoch = run.training.recipe, len(state.history) + 1
    errors = [entry["validation_top1_error"] for entry in state.history]
    phase = current_phase(recipe, epoch, run.training.num_epochs, errors)
    if note_rates(state.rates, phase, state.step, epoch, cause_of(recipe, epoch, errors)):
        run.log.info("rates", **state.rates[-1])
    return phase


def _measured(state: State) -> dict[str, float]:
    """Return the mean loss of the running epoch and the validation errors of the last one, for the progress line."""
    errors = ("validation_top1_error", "validation_top5_error")
    last = {name: state.history[-1][name] for name in errors} if state.history else {}
    return {"loss": state.loss_sum / state.num_seen, **last}


def train(run: Run) -> State:
    """Train to the end of the last epoch, from the newest checkpoint if there is one.

    Raises:
        AlexNetError: the loss is not finite, or does not move; the last checkpoint stays.
        Interrupted: SIGTERM or SIGINT; the step in progress was finished and saved.
        DataError: an example is not what it must be.
        StorageError: a checkpoint cannot be written, or no input comes.
    """
    training, log = run.training, run.log
    state = _resume(run)
    train_step = make_train_step(run.placement, run.optimizer, run.mean_HWC, run.strategy)
    validation_step = make_validation_step(run.placement, run.mean_HWC)
    last_step = training.num_epochs * training.steps_per_epoch
    done = len(state.history) * len(training.split) + state.num_seen
    progress = runlog.Progress(log, training.num_epochs * len(training.split), "images", done=done)
    with (
        stop_flag() as flag,
        Saver(run.checkpoint_minutes, log) as saver,
        closing(iterate(training, state.step, last_step, flag.is_set)) as batches,
    ):
        for epoch in range(len(state.history) + 1, training.num_epochs + 1):
            phase = _current_phase(run, state)
            rescale = 1 + phase.color_noise if training.recipe.color_noise_rescale else 1.0
            for batch, data_seconds in _rest_of_epoch(batches, state, len(training.split)):
                start = time.monotonic()
                loss, wrong = train_step(batch, np.array(rates(phase), np.float32), rescale)
                step_seconds = time.monotonic() - start
                state.count(loss, wrong, len(batch["labels"]), data_seconds + step_seconds, data_seconds)
                if not math.isfinite(loss):
                    raise _diverged(state.step, epoch, phase.learning_rate)
                progress.update(
                    len(state.history) * len(training.split) + state.num_seen,
                    epoch=epoch,
                    learning_rate=phase.learning_rate,
                    **_measured(state),
                    data_ms=round(1000 * data_seconds, 1),
                    step_ms=round(1000 * step_seconds, 1),
                )
                saver.step_ended(data_seconds + step_seconds)
                if state.num_seen < len(training.split):
                    _checkpoint(run, state, saver, flag, epoch, phase.learning_rate)
            # Fewer were seen where a signal stopped the batches.
            complete = state.num_seen == len(training.split)
            if complete and (validation := _validate(run, validation_step, epoch, flag)):
                _end_epoch(run, state, phase.learning_rate, validation)
            _checkpoint(run, state, saver, flag, epoch, phase.learning_rate)
    return state


def _checkpoint(run: Run, state: State, saver: Saver, flag: StopFlag, epoch: int, learning_rate: float) -> None:
    """Save if it is time to, or if this is the end; a signal ends the run once all is saved."""
    training = run.training
    ends = flag.is_set() or len(state.history) == training.num_epochs
    if ends or saver.due():
        saver.start(state.step, partial(_snapshot, run, state, epoch, learning_rate))
    if ends:
        saver.finish()
    if flag.is_set():
        raise Interrupted(
            f"stopped by {flag.signal} after step {state.step} of {training.num_epochs * training.steps_per_epoch}, "
            "which is saved. The same command resumes"
        )


def _rest_of_epoch(batches: Iterator[Batch], state: State, num_images: int) -> Iterator[tuple[Batch, float]]:
    """Yield the batches that are left of an epoch, each with the seconds that it was waited for."""
    while state.num_seen < num_images:
        start = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - start


def _diverged(step: int, epoch: int, learning_rate: float) -> AlexNetError:
    return AlexNetError(
        f"training diverged: expected finite numbers, got nan or inf at step {step} of epoch {epoch}, learning rate "
        f"{learning_rate}. Use a lower learning rate in the recipe or another --seed; "
        "the checkpoints before that step were kept"
    )


def _validate(run: Run, validation_step: Any, epoch: int, flag: StopFlag) -> list[float]:
    """Compute mean loss, top-1 and top-5 error of centre crops, every example counted once; [] when interrupted."""
    num_examples = len(run.validation)
    if num_examples > LARGE_VALIDATION and epoch < run.training.num_epochs:
        num_examples = SAMPLED_VALIDATION
    batches = CenterBatches(run.validation, VALIDATION_BATCH, num_examples)
    progress = runlog.Progress(run.log, num_examples, "validation images")
    sums, done = np.zeros(3), 0
    for batch in iterate(batches, 0, batches.num_steps, flag.is_set):
        sums += validation_step(batch)
        done += len(batch["labels"])
        if num_examples > SAMPLED_VALIDATION:  # a small set takes seconds
            progress.update(done)
        if flag.is_set():
            break
    return [float(value) for value in sums / num_examples] if done == num_examples else []


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
    warn_of_slow_input(run.log, timing["data_ms"], timing["step_ms"], num_steps)
    run.log.info("epoch ended", **entry, **{key: round(value, 1) for key, value in timing.items() if key != "epoch"})
    if not math.isfinite(validation[0]):
        raise _diverged(state.step, epoch, learning_rate)
    state.history.append(entry)
    state.timings.append(timing)
    state.loss_sum = state.seconds = state.data_seconds = 0.0
    state.num_wrong = state.num_seen = 0
    run.logs.publish(state.trace, state.rates, state.history, state.timings)
    check_stuck(state, run.training.split.num_classes)


def warn_of_slow_input(log: runlog.RunLog, data_ms: float, step_ms: float, num_steps: int) -> None:
    """Warn when the steps of an epoch waited longer than they worked."""
    if num_steps >= WAITING_STEPS and data_ms > step_ms:
        log.warning(
            f"the input is slower than the step: {data_ms:.0f} ms of waiting for {step_ms:.0f} ms of work. "
            "Give this container more cores, or the shards a faster disk"
        )


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
