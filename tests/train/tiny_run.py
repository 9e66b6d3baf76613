"""Trainings of the tiny recipe on the tiny dataset: settings, a whole one, how to stop one."""

import pytest
from tiny_dataset import tiny, write_inputs

from components.shared import manifest
from components.train import job
from components.train.contract import Train
from components.train.recipes.known import RECIPES
from components.train.run.checkpoint import Checkpoints


def settings_of(inputs, out, **changes):
    """The settings of a run on the inputs in one folder, whose outputs go to another."""
    settings = {
        "dataset": str(inputs / "dataset.json"),
        "statistics": str(inputs / "statistics.json"),
        "root_uri": str(out / "root"),
        "recipe": "smoke",
        "model": str(out / "model.json"),
        "metrics": str(out / "metrics.json"),
        "report": str(out / "report.html"),
    }
    return settings | changes


def config_of(inputs, out, **changes):
    return Train(**settings_of(inputs, out, **changes))


def digest(out):
    return manifest.load(str(out / "model.json"), "model").digest


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """A folder with dataset.json and statistics.json. No test changes it."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture
def recipes(monkeypatch):
    """The recipe `smoke` made tiny, and a way to change it further."""

    def change(**changes):
        monkeypatch.setitem(RECIPES, "smoke", tiny(name="smoke", **changes))

    change()
    return change


@pytest.fixture(scope="session")
def whole(inputs, tmp_path_factory):
    """An uninterrupted run of the tiny recipe."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "smoke", tiny(name="smoke"))
        metadata = job.run(config_of(inputs, out))
    return out, metadata


def stop_after(monkeypatch, num_checkpoints):
    """Let the process seem to be killed right after a checkpoint."""
    save = Checkpoints.save
    saved = []

    def counting(self, step, arrays, state):
        save(self, step, arrays, state)
        saved.append(step)
        if len(saved) == num_checkpoints:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", counting)
