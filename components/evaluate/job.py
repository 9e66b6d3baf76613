"""Evaluate one network or the average of several: predictions, errors, confusion matrix and the report."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from safetensors import SafetensorError
from safetensors.numpy import load_file

from components.evaluate import metrics, predictions, report
from components.evaluate.contract import Evaluate
from components.evaluate.evaluation import Evaluation, average_of_singles, display_names, measure
from components.evaluate.network import LOGITS, Network
from components.evaluate.predictions import Member, Predictions
from components.shared import manifest, storage
from components.shared.errors import DataError, UsageError
from components.shared.manifest import Manifest
from components.shared.runlog import RunLog


def choose_device(num_gpus: int) -> None:
    """Hide the GPUs, or make sure that the one asked for is there.

    Raises:
        UsageError: a GPU is asked for and there is none.
    """
    if num_gpus == 0:
        tf.config.set_visible_devices([], "GPU")
        return
    if not tf.config.list_physical_devices("GPU"):
        raise UsageError(
            "--gpus: expected 1 GPU, TensorFlow sees none here. Give the container one (docker run --gpus 1) or say "
            "--gpus 0"
        )
    tf.config.experimental.enable_tensor_float_32_execution(False)  # ten bits of mantissa are not the paper's float32
    tf.config.experimental.enable_op_determinism()


def _check_model(path: str, model: Manifest, dataset: Manifest, statistics: Manifest, config: Evaluate) -> None:
    made_with = model.content["statistics_digest"]
    if made_with != statistics.digest:
        raise DataError(
            f"{path}: trained with statistics {made_with[:16]}, but {config.statistics} is "
            f"{statistics.digest[:16]}. Give the statistics that the train step had"
        )
    wnids = [[c["wnid"] for c in entry.content["classes"]] for entry in (dataset, model)]
    num_logits = model.content["network"][-1]["shape"][-1]
    if wnids[0] != wnids[1] or num_logits != len(wnids[0]) or model.content["network"][-1]["name"] != LOGITS:
        raise DataError(
            f"{path}: its {num_logits} outputs are not the {len(wnids[0])} classes of {config.dataset}, in "
            "their order. Train again on this dataset"
        )


def load_inputs(config: Evaluate) -> tuple[Manifest, Manifest, dict[str, Manifest]]:
    """Load dataset, statistics and models, and check that they belong together.

    Returns:
        The dataset, the statistics, and the models by path, sorted by recipe, seed and digest: whatever follows is the
        same in whichever order they were given.

    Raises:
        DataError: they do not belong together, or the split is empty.
        UsageError: no model is given, or one twice.
    """
    if not config.models:
        raise UsageError("--models: expected at least one model, got none. Give the manifests that train wrote")
    dataset = manifest.load(config.dataset, "dataset")
    statistics = manifest.load(config.statistics, "statistics")
    models = [(path, manifest.load(path, "model")) for path in config.models]
    named = [("statistics", config.statistics, statistics), *(("train", path, model) for path, model in models)]
    for step, path, entry in named:
        made_from = entry.content["dataset_digest"]
        if made_from != dataset.digest:
            raise DataError(
                f"{path}: made from dataset {made_from[:16]}, but {config.dataset} is "
                f"{dataset.digest[:16]}. Give the dataset that the {step} step had, or run that step on this one"
            )
    paths: dict[str, str] = {}
    for path, model in models:
        _check_model(path, model, dataset, statistics, config)
        if model.digest in paths:
            raise UsageError(
                f"--models: {paths[model.digest]} and {path} are the same network, {model.digest[:16]}, which would "
                "count twice in the average. Give each once; another seed trains another network"
            )
        paths[model.digest] = path
    if not dataset.content["splits"][config.split]["num_examples"]:
        raise DataError(f"{config.dataset}: its {config.split} split is empty. Choose the other one with --split")
    return dataset, statistics, dict(sorted(models, key=lambda pair: _order(pair[1])))


def _order(model: Manifest) -> tuple[str, int, str]:
    return model.content["recipe_name"], model.content["seed"], model.digest


def load_member(path: str, model: Manifest) -> Member:
    """Read the weights of a model, verified, and make its network.

    Args:
        path: of the model's manifest, for messages.
        model: the manifest.

    Raises:
        DataError: the file is not safetensors, the mean image is not in it, or the weights are not of the network.
    """
    file = model.stage("weights.safetensors")
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise DataError(f"{file}: not a safetensors file ({error}). Run train again") from error
    mean_shape = weights["mean_image"].shape if "mean_image" in weights else None
    if mean_shape != (256, 256, 3):
        raise DataError(f"{file}, mean_image: expected shape (256, 256, 3), got {mean_shape}. Run train again")
    try:
        return Member(path, Network(model.content["network"], weights), weights["mean_image"])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def find_or_predict(
    config: Evaluate, dataset: Manifest, models: list[Manifest], members: list[Member], log: RunLog
) -> tuple[Manifest, Predictions, list[Predictions]]:
    """Take the predictions of an earlier run of the same inputs, verified, or compute and publish them.

    Returns:
        The manifest, what the networks say together, and what each of them says.
    """
    key = manifest.digest_of(
        {
            "source": manifest.source_digest(__file__, "crops", "data", "metrics", "network", "predictions"),
            "split": config.split,
            "batch_size": config.batch_size,  # both may change the last bits of a probability
            "gpus": config.gpus,
            "dataset": dataset.digest,
            "models": [model.digest for model in models],
        }
    )
    base_uri = storage.join(storage.absolute(config.root_uri), "evaluate", key[:16])
    uri = storage.join(base_uri, "predictions.json")
    if storage.exists(uri):
        kept = dataclasses.replace(manifest.load(uri, "predictions"), base_uri=base_uri)  # the root may have moved
        together, *each = (predictions.decode(kept.stage(name)) for name in predictions.file_names(models))
        log.info("predictions found", uri=base_uri, num_examples=len(together.labels))
        return kept, together, each or [together]

    start = time.monotonic()
    together, each = predictions.predict(members, dataset, config.split, config.batch_size, log)
    seconds = time.monotonic() - start
    files = zip(predictions.file_names(models), [together, *each], strict=False)  # of one network, only the first
    made = Manifest(
        kind="predictions",
        base_uri=base_uri,
        files={name: manifest.publish(predictions.encode(found), base_uri, name) for name, found in files},
        content=manifest.PredictionsContent(
            split=config.split,
            num_examples=len(together.labels),
            dataset_digest=dataset.digest,
            model_digests=[model.digest for model in models],
            metrics=measure(together, len(dataset.content["classes"])),
        ),
        info={"seconds": seconds, "images_per_second": len(together.labels) / seconds},
    )
    manifest.save(made, uri)
    return made, together, each


def run(config: Evaluate) -> dict[str, dict[str, Any]]:
    """Evaluate one model, or the average of several, and write all outputs.

    Returns:
        The metadata of the output artifacts.

    Raises:
        DataError: the inputs do not belong together or are damaged.
        StorageError: the root cannot be written.
        UsageError: the GPU asked for is not there.
    """
    log = RunLog("evaluate")
    # ---- Inputs -------------------------------------------------------------------------------
    storage.check_writable(config.root_uri)
    choose_device(config.gpus)
    dataset, statistics, model = load_inputs(config)
    weights = load_weights(model)

    # ---- Predictions and errors ---------------------------------------------------------------
    made, found = find_or_predict(config, dataset, model, weights, log)
    numbers = {**made.content["metrics"], "images_per_second": made.info["images_per_second"]}
    classes = dataset.content["classes"]
    confusion_CC = metrics.confusion_matrix(found.ten_crop, found.labels, len(classes))
    groups, rows = metrics.group_confusion(confusion_CC, display_names(classes))
    # The form of kfp's ClassificationMetrics.log_confusion_matrix, which the Kubeflow UI draws.
    confusion = {"annotationSpecs": [{"displayName": name} for name in groups], "rows": [{"row": r} for r in rows]}

    # ---- Outputs ------------------------------------------------------------------------------
    evaluation = Evaluation(dataset, statistics, model, made, found, weights, confusion_CC)
    storage.write_text(Path(config.report), report.html(evaluation))
    storage.write_text(Path(config.summary), report.markdown(evaluation))
    storage.write_text(Path(config.metrics), json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    storage.write_text(Path(config.confusion), json.dumps({"confusionMatrix": confusion}, allow_nan=False) + "\n")
    manifest.save(made, config.predictions)
    log.info("evaluated", report=config.report, **{k: v for k, v in numbers.items() if k.startswith("top")})
    return {
        "predictions": {"digest": made.digest, "num_examples": made.content["num_examples"]},
        "metrics": numbers,
        "confusion": {"confusionMatrix": confusion},
        "report": {},
        "summary": {},
    }
