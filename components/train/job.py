"""Trains a recipe's network on a dataset and publishes weights, history, metrics and a report."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from components.shared import keyed, manifest, runlog, storage
from components.shared.errors import DataError, UsageError
from components.shared.keyed import KeyedFolder
from components.shared.layers import Layer
from components.shared.manifest import Manifest, ModelContent
from components.shared.records import IMAGE_SIZE
from components.train.contract import Train
from components.train.net import network
from components.train.recipes import switches
from components.train.recipes.recipe import Recipe
from components.train.run import report

with runlog.hold_stderr():
    import tensorflow as tf

    from components.train.input.draws import TrainingBatches
    from components.train.input.split import Split
    from components.train.net import towers
    from components.train.net.model import AlexNet, center_mean
    from components.train.net.optimizer import PaperSGD
    from components.train.net.placement import OneDevice, Placement
    from components.train.run import devices
    from components.train.run.checkpoint import Arrays, Checkpoints
    from components.train.run.loop import Run, State, train
    from components.train.run.step import strategy_for
    from components.train.run.trace import Logs, json_lines

Metadata = dict[str, dict[str, Any]]


def load_inputs(config: Train) -> tuple[Manifest, Manifest]:
    """Load dataset and statistics.

    Raises:
        DataError: the statistics were computed from another dataset.
    """
    dataset = manifest.load(config.dataset, "dataset")
    statistics = manifest.load(config.statistics, "statistics")
    if statistics.content["dataset_digest"] != dataset.digest:
        raise DataError(
            f"{config.statistics}: expected statistics of dataset {dataset.digest[:16]} ({config.dataset}), "
            f"got those of {statistics.content['dataset_digest'][:16]}. Run statistics on this dataset"
        )
    return dataset, statistics


def check_classes(dataset: Manifest, split: Split) -> None:
    """Refuse to train on classes without images.

    Raises:
        DataError: there are some; names them.
    """
    counts = np.bincount(split.labels, minlength=split.num_classes)
    empty = [entry for entry, count in zip(dataset.content["classes"], counts, strict=True) if not count]
    if empty:
        named = ", ".join(f"{entry['wnid']} (label {entry['label']})" for entry in empty[:5])
        raise DataError(
            f"{dataset.base_uri}: expected training images of all {split.num_classes} classes, got none of "
            f"{len(empty)}: {named}. Choose a --subset of ingest that leaves these classes out, or has images of them"
        )


def load_mean_image(statistics: Manifest) -> np.ndarray:
    """Load the mean image, float32 [256, 256, 3] of 0..255.

    Raises:
        DataError: the file holds something else.
    """
    mean_image = np.load(statistics.stage("mean_image.npy"), allow_pickle=False)
    found = (mean_image.dtype.name, mean_image.shape)
    if found != ("float32", (IMAGE_SIZE, IMAGE_SIZE, 3)) or not np.all((mean_image >= 0) & (mean_image <= 255)):
        raise DataError(
            f"{statistics.uri('mean_image.npy')}: expected float32 (256, 256, 3) of 0 to 255, got {found[0]} "
            f"{found[1]} of {mean_image.min()} to {mean_image.max()}. Run statistics on this dataset again"
        )
    return mean_image


def run(config: Train) -> Metadata:
    """Train, or adopt what an earlier run with the same inputs and configuration published.

    Raises:
        AlexNetError: see `components.train.run.loop.train`.
        DataError: the inputs do not belong together or are damaged.
        StorageError: an input cannot be read or the root cannot be written.
        UsageError: there are fewer GPUs than requested, the network cannot be shared among them as asked, or switches
            of the recipe contradict each other.
    """
    log = runlog.RunLog("train")
    recipe = switches.named(config.recipe)
    if config.parallel == "towers":
        towers.check(recipe, config.gpus)
    storage.check_writable(config.root_uri)
    machine = devices.use(config.gpus, recipe.precision, log)
    dataset, statistics = load_inputs(config)
    num_epochs = config.num_epochs or recipe.num_epochs
    # Devices are no part of the key: draws do not depend on them, and a run may go on with others, shared otherwise.
    depends_on = {
        "recipe": dataclasses.asdict(recipe),
        "num_epochs": num_epochs,
        "seed": config.seed,
        "dataset": dataset.digest,
        "statistics": statistics.digest,
        "source": manifest.source_digest(
            __file__,
            *("input/draws", "input/loader", "input/split", "net/model", "net/network", "net/optimizer"),
            *("net/placement", "net/towers", "recipes/schedule", "run/step"),
        ),
    }
    folder = keyed.folder(config.root_uri, "train", "model", depends_on)
    checkpoints = Checkpoints(storage.join(folder.uri, "checkpoints"), folder.key, log)
    model = folder.find(log)
    if model is None:
        model = train_and_publish(config, recipe, num_epochs, dataset, statistics, folder, checkpoints, machine, log)
    checkpoints.clear()
    metadata = write_outputs(config, model)
    manifest.save(model, storage.absolute(config.model))
    return metadata


def make_network(
    config: Train, recipe: Recipe, layers: list[Layer], strategy: tf.distribute.Strategy
) -> tuple[Placement, PaperSGD]:
    """Make the network and its optimizer on the devices that share the work."""
    with strategy.scope():
        model = AlexNet(layers, recipe, config.seed)
        in_towers = config.parallel == "towers"
        placement = towers.TwoDevices(model, towers.DEVICES) if in_towers else OneDevice(model)
        return placement, PaperSGD(placement.parameters(), recipe)


def train_and_publish(
    config: Train,
    recipe: Recipe,
    num_epochs: int,
    dataset: Manifest,
    statistics: Manifest,
    folder: KeyedFolder,
    checkpoints: Checkpoints,
    machine: dict[str, Any],
    log: runlog.RunLog,
) -> Manifest:
    """Train from the newest checkpoint on, and publish the model in its folder."""
    # ---- data ----
    training_split, validation_split = Split(dataset, "train", log), Split(dataset, "validation", log)
    check_classes(dataset, training_split)
    mean_image = load_mean_image(statistics)
    # ---- network ----
    layers = network.build(recipe, training_split.num_classes)
    strategy = strategy_for(config.gpus, config.parallel)
    placement, optimizer = make_network(config, recipe, layers, strategy)
    masks = {layer["name"]: layer["shape"][0] for layer in layers if layer["op"] == "dropout"}
    training = TrainingBatches(training_split, recipe, statistics.content, config.seed, num_epochs, masks)
    check_batches(training, strategy)
    log.info("network", recipe=recipe.name, **network.totals(layers), steps=num_epochs * training.steps_per_epoch)
    # ---- steps ----
    logs = Logs(storage.join(folder.uri, "logs"), training.steps_per_epoch)
    log.info("logs", command=f"tensorboard --logdir {logs.base_uri}")
    state = train(
        Run(
            placement=placement,
            optimizer=optimizer,
            strategy=strategy,
            training=training,
            validation=validation_split,
            mean_HWC=center_mean(mean_image),
            checkpoints=checkpoints,
            logs=logs,
            checkpoint_minutes=config.checkpoint_minutes,
            log=log,
        )
    )
    # ---- publish ----
    logs.finish()
    files = publish_files(placement.export(placement.parameters()) | {"mean_image": mean_image}, state, folder.uri)
    content = model_content(config, recipe, dataset, statistics, layers, state)
    info = {"timings": state.timings, "logs_uri": logs.base_uri, "gpus": config.gpus, "parallel": config.parallel}
    return folder.finish(files, content, info | machine)


def check_batches(training: TrainingBatches, strategy: tf.distribute.Strategy) -> None:
    """Refuse more devices than the smallest batch has images.

    Raises:
        UsageError: there are more.
    """
    smallest, num_devices = len(training.indices(training.steps_per_epoch - 1)), strategy.num_replicas_in_sync
    if smallest < num_devices:
        raise UsageError(
            f"--gpus: the last batch of an epoch has {smallest} images, fewer than {num_devices} GPUs. Ask for fewer"
        )


def publish_files(weights: Arrays, state: State, base_uri: str) -> dict[str, manifest.FileEntry]:
    """Publish weights, history, changes of rate and the loss of every step."""
    losses = io.BytesIO()
    np.save(losses, state.trace.arrays()["loss"])
    contents = {
        "weights.safetensors": safetensors.numpy.save(weights),
        "history.jsonl": json_lines(state.history),
        "rates.jsonl": json_lines(state.rates),
        "losses.npy": losses.getvalue(),
    }
    return {name: manifest.publish(data, base_uri, name) for name, data in contents.items()}


def model_content(
    config: Train,
    recipe: Recipe,
    dataset: Manifest,
    statistics: Manifest,
    layers: list[Layer],
    state: State,
) -> ModelContent:
    """Build what the manifest's digest covers; clocks go into its `info`, which it does not."""
    return ModelContent(
        recipe_name=recipe.name,
        recipe=json.loads(manifest.canonical_json(dataclasses.asdict(recipe))),
        network=layers,
        num_parameters=network.totals(layers)["num_parameters"],
        classes=dataset.content["classes"],
        dataset_digest=dataset.digest,
        statistics_digest=statistics.digest,
        seed=config.seed,
        num_epochs=len(state.history),
        num_steps=state.step,
    )


def write_outputs(config: Train, model: Manifest) -> Metadata:
    """Write metrics and report from the published files, verified."""
    history, rates = (
        [json.loads(line) for line in storage.read_bytes(str(model.stage(name))).splitlines()]
        for name in ("history.jsonl", "rates.jsonl")
    )
    weights = safetensors.numpy.load_file(model.stage("weights.safetensors"))
    content, timings, last = model.content, model.info["timings"], history[-1]
    seconds = sum(timing["seconds"] for timing in timings)
    num_train = sum(entry["num_train"] for entry in content["classes"])
    metrics = {
        **{name: last[name] for name in last if name.startswith(("train_", "validation_"))},
        "num_parameters": content["num_parameters"],
        "num_epochs": content["num_epochs"],
        "num_steps": content["num_steps"],
        "train_seconds": round(seconds, 1),
        "images_per_second": round(content["num_epochs"] * num_train / seconds, 1),
    }
    facts = {
        "recipe": content["recipe_name"],
        "switches": switches.described(content["recipe_name"]) or "none",
        "seed": content["seed"],
        "training images": num_train,
        "classes": len(content["classes"]),
        "GPUs": model.info["gpus"],
        "device": model.info["device"],
        "precision": model.info["precision"],
        "TensorBoard": f"tensorboard --logdir {model.info['logs_uri']}",
        "model digest": model.digest,
        "dataset digest": content["dataset_digest"],
        "statistics digest": content["statistics_digest"],
    }
    kernels = [weights[name] for name in sorted(weights) if name.startswith("conv1") and name.endswith("/kernel")]
    storage.write_text(Path(config.metrics), json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    page = report.build(facts, metrics, history, timings, rates, kernels, len(content["classes"]))
    storage.write_text(Path(config.report), page)
    summary = {"digest": model.digest, "recipe": content["recipe_name"], "num_parameters": content["num_parameters"]}
    return {"model": summary, "metrics": metrics}
