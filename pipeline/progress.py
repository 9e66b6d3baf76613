"""The progress of tasks in numbers, as their log entries tell it, laid out for a width."""

import time
from dataclasses import dataclass, field
from typing import Any

from components.shared import runlog

MIN_BAR, MAX_BAR, GAP = 8, 30, 2  # characters
TITLES = {
    "task": "task",
    "bar": "",
    "percent": "done",
    "rate": "rate",
    "left": "left",
    "epoch": "epoch",
    "loss": "loss",
    "errors": "validation",
    "elapsed": "elapsed",
}
BY_IMPORTANCE = ("task", "percent", "left", "rate", "epoch", "loss", "errors", "bar", "elapsed")


@dataclass
class Row:
    """A task in progress: the fields of its last log entries, or a text where it does not count."""

    task: str
    text: str
    started: float = field(default_factory=time.monotonic)
    fields: dict[str, Any] = field(default_factory=dict)

    def update(self, entry: dict[str, Any]) -> None:
        """Take in a log entry; a message in the middle of counted work is for the log only."""
        if entry["message"] == "epoch ended" and "steps" in self.fields:  # of the whole training
            entry = {**entry, "epochs": self.fields["steps"] * entry["epoch"] // entry["step"]}
        self.fields |= entry
        if entry["message"] == "progress":
            self.text = ""
        elif entry["message"] != "epoch ended" and (self.text or self.share >= 1):
            self.text = runlog.format_human(entry).partition(": ")[2]

    @property
    def share(self) -> float:
        """The share of the work that is done."""
        return self.fields["done"] / (self.fields["total"] or 1) if "total" in self.fields else 1.0

    def cells(self) -> dict[str, str]:
        """Return what each column shows."""
        fields = self.fields
        rate = fields["rate"]
        result = {
            "task": self.task,
            "percent": f"{100 * self.share:.0f} %",
            "rate": f"{f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'} {fields['unit']}/s",
            "left": runlog.format_seconds(fields["eta_seconds"]),
            "elapsed": runlog.format_seconds(time.monotonic() - self.started),
        }
        if "loss" in fields:
            result |= {"epoch": epoch_of(fields), "loss": f"{fields['loss']:.3f}"}
        if "validation_top1_error" in fields:
            result["errors"] = validation_of(fields)
        return result


def epoch_of(fields: dict[str, Any]) -> str:
    """Return the number of an epoch, and of how many once one has ended."""
    return f"{fields['epoch']}/{fields['epochs']}" if "epochs" in fields else str(fields["epoch"])


def validation_of(fields: dict[str, Any]) -> str:
    """Return the top-1 and top-5 error of the validation images in percent."""
    top1, top5 = fields["validation_top1_error"], fields["validation_top5_error"]
    return f"{100 * top1:.1f} / {100 * top5:.1f} %"


def epoch_line(task: str, fields: dict[str, Any], width: int | None = None) -> str:
    """Say how a finished epoch of training went; loss and time are left out where it is narrow."""
    parts = {
        "task": task,
        "epoch": f"epoch {epoch_of(fields)}",
        "loss": f"loss {fields['train_loss']:.3f}",
        "train": f"train error {100 * fields['train_top1_error']:.1f} %",
        "errors": f"validation {validation_of(fields)}",
        "time": runlog.format_seconds(fields["seconds"]),
    }
    for name in ("loss", "time"):
        if width and len("  ".join(parts.values())) > width:
            del parts[name]
    return "  ".join(parts.values())


def columns_for(rows: list[dict[str, str]], width: int) -> dict[str, int]:
    """Choose the columns that fit, and their widths; the bar takes the space that is left over."""
    chosen: dict[str, int] = {}
    left = width
    for name in BY_IMPORTANCE:
        texts = [row[name] for row in rows if name in row]
        if not texts and name != "bar":
            continue
        needed = max(map(len, (TITLES[name], *texts))) or MIN_BAR
        if chosen and needed + GAP > left:
            break
        chosen[name] = needed
        left -= needed + (GAP if len(chosen) > 1 else 0)
    if "bar" in chosen:
        chosen["bar"] = min(MAX_BAR, chosen["bar"] + left)
    return {name: chosen[name] for name in TITLES if name in chosen}
