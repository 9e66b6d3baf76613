"""The records of a training: the loss of every step, every change of rate, and logs for people.

The first two are files of the model, the same in every run of the same training. The logs hold
clocks, too, and lie beside the checkpoints: TensorBoard events and `metrics*.jsonl`. An object
store cannot append, so they come in parts, each named by the step and the epoch at its end and
written once. Each part starts where the previous one ended, so a resumed run has no gaps and no
duplicates.
"""

import io
import json
import re
import threading
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] - made at run time
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from components.shared import records, storage
from components.train.recipes.recipe import Phase, Recipe
from components.train.recipes.schedule import num_drops

POINTS_PER_EPOCH = 100  # of the logs, each the mean of the steps before it
# In the order in which they become visible: metrics first, so that whoever sees events can read the numbers, too.
PARTS = {"metrics": "metrics.{}.jsonl", "events": "events.out.tfevents.{}"}

Entry = dict[str, Any]


@dataclass
class Trace:
    """Numbers of every step: float32, a value a step."""

    loss: array = field(default_factory=lambda: array("f"))  # mean of the batch, before the step
    data_ms: array = field(default_factory=lambda: array("f"))  # waiting for the batch
    step_ms: array = field(default_factory=lambda: array("f"))

    def arrays(self) -> dict[str, np.ndarray]:
        """Copy the numbers, for a checkpoint."""
        return {name: np.array(values, np.float32) for name, values in asdict(self).items()}

    @classmethod
    def restored(cls, arrays: dict[str, np.ndarray]) -> "Trace":
        """Undo `arrays`."""
        return cls(**{name: array("f", values.tobytes()) for name, values in arrays.items()})


def cause_of(recipe: Recipe, epoch: int, errors: Sequence[float]) -> str:
    """Say why the rates of an epoch are not those of the epoch before."""
    if epoch == 1:
        return "start"
    if recipe.plateau_patience:
        drops = num_drops(errors, recipe.plateau_patience)
        if drops > num_drops(errors[:-1], recipe.plateau_patience):
            best = min(errors[: -recipe.plateau_patience])
            return f"drop {drops}: {recipe.plateau_patience} epochs without a validation error below {best:.6f}"
    return "schedule of the recipe"


def note_rates(rates: list[Entry], phase: Phase, step: int, epoch: int, cause: str) -> bool:
    """Write down the rates of an epoch if they differ from those before; tells whether they do."""
    values = {name: value for name, value in asdict(phase).items() if name != "first_epoch"}
    if rates and values.items() <= rates[-1].items():
        return False
    rates.append({"step": step, "epoch": epoch, **values, "cause": cause})
    return True


def replayed(recipe: Recipe, num_epochs: int, rates: Sequence[Entry]) -> Recipe:
    """Make the recipe that has from the start the rates that a run wrote down.

    Args:
        recipe: the recipe of that run, whichever its schedule.
        num_epochs: its length.
        rates: the lines of its rates.jsonl.
    """
    names = [name for name in Phase.__dataclass_fields__ if name != "first_epoch"]
    phases = tuple(Phase(first_epoch=entry["epoch"], **{name: entry[name] for name in names}) for entry in rates)
    return replace(recipe, phases=phases, num_epochs=num_epochs, plateau_patience=0)


def json_lines(entries: Iterable[Entry]) -> bytes:
    """Encode one object a line."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def points(trace: Trace, rates: Sequence[Entry], steps_per_epoch: int, begin: int, end: int) -> list[Entry]:
    """Take means over the steps of a run, about a hundred an epoch.

    Args:
        trace: numbers of at least `end` steps.
        rates: changes of rate, in the order of the steps.
        steps_per_epoch: of the run.
        begin: steps that the logs had before.
        end: steps done.
    """
    width = max(1, steps_per_epoch // POINTS_PER_EPOCH)
    found = []
    for last in range((begin // width + 1) * width, end + 1, width):
        means = {name: float(np.mean(values[last - width : last])) for name, values in vars(trace).items()}
        rate = [entry["learning_rate"] for entry in rates if entry["step"] < last][-1]
        found.append({"step": last, "epoch": (last - 1) // steps_per_epoch + 1, **means, "learning_rate": rate})
    return found


def encode_events(entries: Sequence[Entry], now: float) -> bytes:
    """Encode entries as a TensorBoard events file.

    Args:
        entries: numbers by name, with `step`; each name becomes a curve over the steps.
        now: the time to show for them, in seconds since 1970.
    """
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    for entry in entries:
        group = "steps" if "loss" in entry else "epochs"
        values = [
            Summary.Value(tag=f"{group}/{name}", simple_value=value)
            for name, value in entry.items()
            if name not in ("step", "epoch")
        ]
        events.append(Event(wall_time=now, step=entry["step"], summary=Summary(value=values)))
    data = io.BytesIO()
    records.write_records(data, (event.SerializeToString() for event in events))
    return data.getvalue()


class Logs:
    """The logs of one run, for people.

    Args:
        base_uri: their folder.
        steps_per_epoch: of the run.
    """

    def __init__(self, base_uri: str, steps_per_epoch: int) -> None:
        self.base_uri, self.steps_per_epoch = base_uri, steps_per_epoch
        self.publishing = threading.Lock()  # by checkpoints in the background and by ends of epochs

    def publish(self, trace: Trace, rates: list[Entry], history: list[Entry], timings: list[Entry]) -> None:
        """Publish what is new since the last part of each kind.

        Args:
            trace: of all steps so far.
            rates: changes of rate so far.
            history: an entry an epoch so far.
            timings: clocks of the same epochs.

        Raises:
            StorageError: the place cannot be written.
        """
        with self.publishing:
            names = [entry.name for entry in storage.list_files(self.base_uri)]
            now, end = time.time(), (len(trace.loss), len(history))
            for kind, pattern in PARTS.items():
                ends = [re.fullmatch(pattern.format(r"(\d+)-(\d+)"), name) for name in names]
                begin = max(((int(match[1]), int(match[2])) for match in ends if match), default=(0, 0))
                if begin >= end:
                    continue
                epochs = [{**entry, **timings[index]} for index, entry in enumerate(history)][begin[1] :]
                entries = [*points(trace, rates, self.steps_per_epoch, begin[0], end[0]), *epochs]
                entries.sort(key=lambda entry: entry["step"])
                data = json_lines(entries) if kind == "metrics" else encode_events(entries, now)
                storage.publish_bytes(data, storage.join(self.base_uri, pattern.format(f"{end[0]:08d}-{end[1]:04d}")))

    def finish(self) -> None:
        """Join the parts of the metrics into `metrics.jsonl`, when the run is over."""
        uri = storage.join(self.base_uri, "metrics.jsonl")
        if not storage.exists(uri):
            names = sorted(entry.name for entry in storage.list_files(self.base_uri))
            parts = [storage.join(self.base_uri, name) for name in names if name.startswith("metrics.")]
            storage.publish_bytes(b"".join(map(storage.read_bytes, parts)), uri)
