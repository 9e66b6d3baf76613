"""Trains a recipe's network on a dataset and publishes weights, history, metrics and a report."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from components.shared import manifest, runlog, storage
from components.shared.errors import DataError, UsageError
from components.shared.manifest import Manifest, ModelContent
from components.train import network, report, switches
from components.train.contract import Train
from components.train.recipe import Recipe

with runlog.hold_stderr():
    import keras
    import tensorflow as tf

    from components.train import towers
    from components.train.checkpoint import Checkpoints
    from components.train.data import Split, TrainingBatches
    from components.train.loop import Run, State, train
    from components.train.model import AlexNet, center_mean
    from components.train.optimizer import PaperSGD
    from components.train.step import strategy_for

Metadata = dict[str, dict[str, Any]]


def use_devices(gpus: int, log: runlog.RunLog) -> None:
    """Make exactly the GPUs that were asked for visible.

    Raises:
        UsageError: there are fewer.
    """
    with runlog.hold_stderr():
        found = tf.config.list_physical_devices("GPU")
    if gpus > len(found):
        raise UsageError(
            f"--gpus: asked for {gpus}, found {len(found)} ({', '.join(gpu.name for gpu in found) or 'none'}). "
            f"Ask for --gpus {len(found)}, or check the driver and the container's GPU runtime"
        )
    if len(found) > gpus:
        tf.config.set_visible_devices(found[:gpus], "GPU")
    log.info(
        "devices",
        gpus=gpus,
        cpus=len(tf.config.list_physical_devices("CPU")),
        tensorflow=tf.__version__,
        keras=keras.__version__,
    )


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


def run(config: Train) -> Metadata:
    """Train, or adopt what an earlier run with the same inputs and configuration published.

    Raises:
        AlexNetError: see `components.train.loop.train`.
        DataError: the inputs do not belong together or are damaged.
        StorageError: an input cannot be read or the root cannot be written.
        UsageError: there are fewer GPUs than asked for, the network cannot be shared among them as asked, or switches
            of the recipe contradict each other.
    """
    log = runlog.RunLog("train")
    recipe = switches.named(config.recipe)
    if config.parallel == "towers":
        towers.check(recipe, config.gpus)
    storage.check_writable(config.root_uri)
    use_devices(config.gpus, log)
    dataset, statistics = load_inputs(config)
    num_epochs = config.num_epochs or recipe.num_epochs
    # Devices are no part of the key: draws do not depend on them, and a run may go on with others, shared otherwise.
    key = manifest.digest_of(
        {
            "recipe": dataclasses.asdict(recipe),
            "num_epochs": num_epochs,
            "seed": config.seed,
            "dataset": dataset.digest,
            "statistics": statistics.digest,
            "source": manifest.source_digest(
                __file__, "data", "model", "network", "optimizer", "schedule", "step", "towers"
            ),
        }
    )[:16]
    base_uri = storage.join(storage.absolute(config.root_uri), "train", key)
    finished_uri = storage.join(base_uri, "model.json")
    if storage.exists(finished_uri):
        model = manifest.load(finished_uri, "model")
        log.info("this training was done before, nothing to do", uri=base_uri)
    else:
        model = train_and_publish(config, recipe, num_epochs, dataset, statistics, base_uri, log)
        manifest.save(model, finished_uri)
    Checkpoints(storage.join(base_uri, "checkpoints"), key, log).clear()
    metadata = write_outputs(config, model)
    manifest.save(model, storage.absolute(config.model))
    return metadata


def make_network(
    config: Train, recipe: Recipe, layers: list[network.Layer], strategy: tf.distribute.Strategy
) -> tuple[AlexNet, PaperSGD]:
    """Make the network and its optimizer on the devices that share the work."""
    with strategy.scope():
        model = AlexNet(layers, recipe, config.seed)
        if config.parallel == "towers":
            model = towers.TowerNet(model, towers.DEVICES)
        return model, PaperSGD(model.parameters(), recipe)


def train_and_publish(
    config: Train,
    recipe: Recipe,
    num_epochs: int,
    dataset: Manifest,
    statistics: Manifest,
    base_uri: str,
    log: runlog.RunLog,
) -> Manifest:
    """Train from the newest checkpoint on, and publish weights and history under `base_uri`."""
    # ---- data ----
    training_split, validation_split = Split(dataset, "train", log), Split(dataset, "validation", log)
    mean_image = np.load(statistics.stage("mean_image.npy"))
    # ---- network ----
    layers = network.build(recipe, training_split.num_classes)
    strategy = strategy_for(config.gpus, config.parallel)
    model, optimizer = make_network(config, recipe, layers, strategy)
    mask_units = {layer["name"]: layer["shape"][0] for layer in layers if layer["op"] == "dropout"}
    training = TrainingBatches(training_split, recipe, statistics.content, config.seed, num_epochs, mask_units)
    smallest = len(training.indices(training.steps_per_epoch - 1))
    if smallest < strategy.num_replicas_in_sync:
        raise UsageError(
            f"--gpus: the last batch of an epoch has {smallest} images, fewer than {config.gpus} GPUs. Ask for fewer"
        )
    log.info("network", recipe=recipe.name, **network.totals(layers), steps=num_epochs * training.steps_per_epoch)
    # ---- steps ----
    state = train(
        Run(
            model=model,
            optimizer=optimizer,
            strategy=strategy,
            training=training,
            validation=validation_split,
            mean_HWC=center_mean(mean_image),
            checkpoints=Checkpoints(storage.join(base_uri, "checkpoints"), base_uri.rsplit("/", 1)[-1], log),
            checkpoint_minutes=config.checkpoint_minutes,
            log=log,
        )
    )
    # ---- publish ----
    weights = model.export(model.parameters()) | {"mean_image": mean_image}
    history = "".join(json.dumps(entry) + "\n" for entry in state.history).encode()
    files = {
        name: manifest.publish(data, base_uri, name)
        for name, data in (("weights.safetensors", safetensors.numpy.save(weights)), ("history.jsonl", history))
    }
    return describe_model(config, recipe, dataset, statistics, base_uri, files, layers, state)


def describe_model(
    config: Train,
    recipe: Recipe,
    dataset: Manifest,
    statistics: Manifest,
    base_uri: str,
    files: dict[str, manifest.FileEntry],
    layers: list[network.Layer],
    state: State,
) -> Manifest:
    """Build the manifest; clocks go into its `info`, which its digest does not cover."""
    content = ModelContent(
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
    devices = {"gpus": config.gpus, "parallel": config.parallel}
    info = {"timings": state.timings, **devices, "tensorflow": tf.__version__, "keras": keras.__version__}
    return Manifest("model", base_uri, files, content, info)


def write_outputs(config: Train, model: Manifest) -> Metadata:
    """Write metrics and report from the published files, verified."""
    history = [json.loads(line) for line in storage.read_bytes(str(model.stage("history.jsonl"))).splitlines()]
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
        "model digest": model.digest,
        "dataset digest": content["dataset_digest"],
        "statistics digest": content["statistics_digest"],
    }
    kernels = [weights[name] for name in sorted(weights) if name.startswith("conv1") and name.endswith("/kernel")]
    storage.write_text(Path(config.metrics), json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    storage.write_text(Path(config.report), report.build(facts, metrics, history, kernels, len(content["classes"])))
    summary = {"digest": model.digest, "recipe": content["recipe_name"], "num_parameters": content["num_parameters"]}
    return {"model": summary, "metrics": metrics}
