"""What evaluate reads: dataset, statistics and networks, and whether they belong together."""

from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.numpy import load_file

from components.evaluate.contract import Evaluate
from components.evaluate.network import Network
from components.evaluate.predictions import Member
from components.shared import manifest
from components.shared.errors import DataError, UsageError
from components.shared.layers import LOGITS
from components.shared.manifest import Manifest


@dataclass(frozen=True)
class Inputs:
    """Manifests that belong together."""

    dataset: Manifest
    statistics: Manifest
    models: dict[str, Manifest]  # by path; sorted by recipe, seed and digest, in whichever order they were given


def _check_dataset(path: str, step: str, entry: Manifest, config: Evaluate, dataset: Manifest) -> None:
    made_from = entry.content["dataset_digest"]
    if made_from != dataset.digest:
        raise DataError(
            f"{path}: made from dataset {made_from[:16]}, but {config.dataset} is {dataset.digest[:16]}. "
            f"Give the dataset that the {step} step had, or run that step on this one"
        )


def _check_model(path: str, model: Manifest, config: Evaluate, dataset: Manifest, statistics: Manifest) -> None:
    _check_dataset(path, "train", model, config, dataset)
    trained_with = model.content["statistics_digest"]
    if trained_with != statistics.digest:
        raise DataError(
            f"{path}: trained with statistics {trained_with[:16]}, but {config.statistics} is "
            f"{statistics.digest[:16]}. Give the statistics that the train step had"
        )
    wnids = [[c["wnid"] for c in entry.content["classes"]] for entry in (dataset, model)]
    last = model.content["network"][-1]
    num_logits = last["shape"][-1]
    if wnids[0] != wnids[1] or num_logits != len(wnids[0]) or last["name"] != LOGITS:
        raise DataError(
            f"{path}: its {num_logits} outputs are not the {len(wnids[0])} classes of {config.dataset}, in "
            "their order. Train again on this dataset"
        )


def load(config: Evaluate) -> Inputs:
    """Load dataset, statistics and models, and check that they belong together.

    Networks may differ in recipe and geometry, but all must be of this dataset, these statistics and these classes.

    Raises:
        DataError: they do not belong together, or the split is empty.
        UsageError: two models are the same network.
    """
    dataset = manifest.load(config.dataset, "dataset")
    statistics = manifest.load(config.statistics, "statistics")
    _check_dataset(config.statistics, "statistics", statistics, config, dataset)
    models = [(path, manifest.load(path, "model")) for path in config.models]
    paths: dict[str, str] = {}
    for path, model in models:
        _check_model(path, model, config, dataset, statistics)
        if model.digest in paths:
            raise UsageError(
                f"--models: {paths[model.digest]} and {path} are the same network, {model.digest[:16]}, which would "
                "count twice in the average. Give each once; another seed trains another network"
            )
        paths[model.digest] = path
    if not dataset.content["splits"][config.split]["num_examples"]:
        raise DataError(f"{config.dataset}: its {config.split} split is empty. Choose the other one with --split")
    models.sort(key=lambda pair: (pair[1].content["recipe_name"], pair[1].content["seed"], pair[1].digest))
    return Inputs(dataset, statistics, dict(models))


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
