"""Evaluate a model: predictions, errors, confusion matrix and the report."""

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
from components.evaluate.evaluation import Evaluation, display_names, measure
from components.evaluate.network import LOGITS, Network
from components.evaluate.predictions import Predictions
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


def load_inputs(config: Evaluate) -> tuple[Manifest, Manifest, Manifest]:
    """Load dataset, statistics and model, and check that they belong together.

    Raises:
        DataError: they do not, or the split is empty.
        UsageError: there is more than one model.
    """
    dataset = manifest.load(config.dataset, "dataset")
    statistics = manifest.load(config.statistics, "statistics")
    model_path, *others = config.models
    if others:
        raise UsageError(f"--models: expected one model, got {len(config.models)}. Evaluate them one by one")
    model = manifest.load(model_path, "model")
    for name, path, entry in (("statistics", config.statistics, statistics), ("model", model_path, model)):
        made_from = entry.content["dataset_digest"]
        if made_from != dataset.digest:
            raise DataError(
                f"{path}: made from dataset {made_from[:16]}, but {config.dataset} is "
                f"{dataset.digest[:16]}. Give the dataset that the {name} step had, or run that step on this one"
            )
    if model.content["statistics_digest"] != statistics.digest:
        raise DataError(
            f"{model_path}: trained with statistics {model.content['statistics_digest'][:16]}, but "
            f"{config.statistics} is {statistics.digest[:16]}. Give the statistics that the train step had"
        )
    wnids = [[c["wnid"] for c in entry.content["classes"]] for entry in (dataset, model)]
    num_logits = model.content["network"][-1]["shape"][-1]
    if wnids[0] != wnids[1] or num_logits != len(wnids[0]) or model.content["network"][-1]["name"] != LOGITS:
        raise DataError(
            f"{model_path}: its {num_logits} outputs are not the {len(wnids[0])} classes of {config.dataset}, in "
            "their order. Train again on this dataset"
        )
    if not dataset.content["splits"][config.split]["num_examples"]:
        raise DataError(f"{config.dataset}: its {config.split} split is empty. Choose the other one with --split")
    return dataset, statistics, model


def load_weights(model: Manifest) -> dict[str, np.ndarray]:
    """Read the weights of a model, verified.

    Raises:
        DataError: the file is not safetensors, or the mean image is not in it.
    """
    path = model.stage("weights.safetensors")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: not a safetensors file ({error}). Run train again") from error
    mean_shape = weights["mean_image"].shape if "mean_image" in weights else None
    if mean_shape != (256, 256, 3):
        raise DataError(f"{path}, mean_image: expected shape (256, 256, 3), got {mean_shape}. Run train again")
    return weights


def find_or_predict(
    config: Evaluate, dataset: Manifest, model: Manifest, weights: dict[str, np.ndarray], log: RunLog
) -> tuple[Manifest, Predictions]:
    """Take the predictions of an earlier run of the same inputs, verified, or compute and publish them."""
    key = manifest.digest_of(
        {
            "source": manifest.source_digest(__file__, "crops", "data", "metrics", "network", "predictions"),
            "split": config.split,
            "batch_size": config.batch_size,  # both may change the last bits of a probability
            "gpus": config.gpus,
            "dataset": dataset.digest,
            "model": model.digest,
        }
    )
    base_uri = storage.join(storage.absolute(config.root_uri), "evaluate", key[:16])
    uri = storage.join(base_uri, "predictions.json")
    if storage.exists(uri):
        kept = dataclasses.replace(manifest.load(uri, "predictions"), base_uri=base_uri)  # the root may have moved
        found = predictions.decode(kept.stage(predictions.FILE_NAME))
        log.info("predictions found", uri=base_uri, num_examples=len(found.labels))
        return kept, found

    network = Network(model.content["network"], weights)
    start = time.monotonic()
    found = predictions.predict(network, weights["mean_image"], dataset, config.split, config.batch_size, log)
    seconds = time.monotonic() - start
    content = predictions.encode(found)
    entry = manifest.publish(content, base_uri, predictions.FILE_NAME)
    made = Manifest(
        kind="predictions",
        base_uri=base_uri,
        files={predictions.FILE_NAME: entry},
        content=manifest.PredictionsContent(
            split=config.split,
            num_examples=len(found.labels),
            dataset_digest=dataset.digest,
            model_digests=[model.digest],
            metrics=measure(found, len(dataset.content["classes"])),
        ),
        info={"seconds": seconds, "images_per_second": len(found.labels) / seconds},
    )
    manifest.save(made, uri)
    return made, found


def run(config: Evaluate) -> dict[str, dict[str, Any]]:
    """Evaluate a model and write all outputs.

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
