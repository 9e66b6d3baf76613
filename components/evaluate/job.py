"""Evaluate one network or the average of several: predictions, errors, confusion matrix and the report."""

import json
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.evaluate import inputs, metrics, neighbours, predictions
from components.evaluate.contract import Evaluate
from components.evaluate.inputs import Inputs
from components.evaluate.predictions import Member, Predictions
from components.evaluate.report import document, summary
from components.evaluate.report.evaluation import Evaluation, display_names, measure
from components.shared import keyed, manifest, storage
from components.shared.errors import UsageError
from components.shared.manifest import Manifest
from components.shared.runlog import RunLog


def choose_device(num_gpus: int) -> None:
    """Hide the GPUs, or check that the requested one exists.

    Raises:
        UsageError: a GPU is requested and there is none.
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


def find_or_predict(
    config: Evaluate, given: Inputs, members: list[Member], log: RunLog
) -> tuple[Manifest, Predictions, list[Predictions]]:
    """Take the predictions of an earlier run of the same inputs, verified, or compute and publish them.

    Returns:
        The manifest, what the networks say together, and what each of them says.
    """
    dataset, digests = given.dataset, [model.digest for model in given.models.values()]
    names = predictions.file_names(digests)
    depends_on = {
        "source": manifest.source_digest(__file__, "crops", "data", "metrics", "network", "predictions"),
        "split": config.split,
        "batch_size": config.batch_size,  # both may change the last bits of a probability
        "gpus": config.gpus,
        "dataset": dataset.digest,
        "models": digests,
    }
    folder = keyed.folder(config.root_uri, "evaluate", "predictions", depends_on)
    if kept := folder.find(log):
        together, *each = (predictions.decode(kept.stage(name)) for name in names)
        return kept, together, each or [together]

    start = time.monotonic()
    together, each = predictions.predict(members, dataset, config.split, config.batch_size, log)
    seconds = time.monotonic() - start
    files = zip(names, [together, *each], strict=False)  # of one network, both are the same
    made = folder.finish(
        files={name: manifest.publish(predictions.encode(found), folder.uri, name) for name, found in files},
        content=manifest.PredictionsContent(
            split=config.split,
            num_examples=len(together.labels),
            dataset_digest=dataset.digest,
            model_digests=digests,
            metrics=measure(together, len(dataset.content["classes"])),
        ),
        info={"seconds": seconds, "images_per_second": len(together.labels) / seconds},
    )
    return made, together, each


def evaluate(config: Evaluate, log: RunLog) -> Evaluation:
    """Measure one network, or the average of several; errors as `run`."""
    storage.check_writable(config.root_uri)
    choose_device(config.gpus)
    given = inputs.load(config)
    members = [inputs.load_member(path, model) for path, model in given.models.items()]
    made, found, each = find_or_predict(config, given, members, log)
    num_classes = len(given.dataset.content["classes"])
    return Evaluation(
        dataset=given.dataset,
        statistics=given.statistics,
        models=list(given.models.values()),
        made=made,
        predictions=found,
        singles=[measure(single, num_classes) for single in each],
        confusion_CC=metrics.confusion_matrix(found.ten_crop, found.labels, num_classes),
        first=members[0],
        neighbours=neighbours.find(members[0], given.dataset, config.split, found.labels, log),
    )


def run(config: Evaluate) -> dict[str, dict[str, Any]]:
    """Evaluate one network, or the average of several, and write all outputs.

    Returns:
        The metadata of the output artifacts.

    Raises:
        DataError: the inputs do not belong together or are damaged.
        StorageError: the root cannot be written.
        UsageError: the requested GPU does not exist, or a network is listed twice.
    """
    log = RunLog("evaluate")
    evaluation = evaluate(config, log)
    made = evaluation.made
    numbers = {**evaluation.numbers, **evaluation.mean_single, "images_per_second": made.info["images_per_second"]}
    groups, rows = metrics.group_confusion(evaluation.confusion_CC, display_names(evaluation.classes))
    # The form of kfp's ClassificationMetrics.log_confusion_matrix, which the Kubeflow UI draws.
    confusion = {"annotationSpecs": [{"displayName": name} for name in groups], "rows": [{"row": r} for r in rows]}
    storage.write_text(Path(config.report), document.html(evaluation))
    storage.write_text(Path(config.summary), summary.markdown(evaluation))
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
