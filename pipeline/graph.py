"""The pipeline as Kubeflow sees it, and pipeline.yaml made from it."""

import tempfile
from pathlib import Path
from typing import Any, cast

import yaml
from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from components.evaluate.contract import Evaluate
from components.ingest.contract import Ingest
from components.shared import storage
from components.statistics.contract import Statistics
from components.train.contract import Train
from pipeline import resources
from pipeline.component import container_component
from pipeline.images import image

ingest, statistics, evaluate = (
    container_component(contract, image(contract.NAME)) for contract in (Ingest, Statistics, Evaluate)
)
train = container_component(Train, image("train-gpu"))


@dsl.pipeline(name="alexnet")
def alexnet(
    release_uri: str,
    root_uri: str,
    release_fingerprint: str = "",
    subset: str = "all",
    jpeg_quality: int = 95,
    patches: str = "auto",
    recipe: str = "alexnet-2012",
    num_epochs: int = 0,
    seed: int = 0,
    gpus: int = resources.NUM_GPUS,
    parallel: str = "data",
    split: str = "test",
):
    """From the ILSVRC-2010 release to the error rates of Krizhevsky, Sutskever and Hinton 2012.

    1. ingest: nested tars to 256x256 TFRecords, every image accounted for.
    2. statistics: mean image and RGB PCA of the training set, exact.
    3. train: the network of 2012, on a two-GPU node.
    4. evaluate: centre crop and ten crops, errors beside the paper's, the report.

    Args:
        release_uri: folder or URI with the ILSVRC2010_*.tar files and the devkit.
        root_uri: folder or URI under which every step keeps its bulk data.
        release_fingerprint: identity of the release's files; when they change, so does it, and ingest runs again.
        subset: all | classes=N,per_class=M,seed=S | wnids=n01,n02.
        jpeg_quality: quality of the stored JPEG; 2012 used 85.
        patches: auto | required | waived: whether patch_images.tar must be there.
        recipe: alexnet-2012 | alexnet-2012-paper | smoke, and switches such as alexnet-2012+no-lrn.
        num_epochs: length of training; 0 is the recipe's.
        seed: seed of training: weights, order, crops, noise and dropout.
        gpus: GPUs to train on; 0 is CPU only.
        parallel: data | towers: parts of every batch, or a tower of the network, on each GPU.
        split: test | validation: what to evaluate on.
    """
    dataset = ingest(
        release_uri=release_uri,
        release_fingerprint=release_fingerprint,
        root_uri=root_uri,
        subset=subset,
        jpeg_quality=jpeg_quality,
        patches=patches,
    )
    numbers = statistics(dataset=dataset.outputs["dataset"], root_uri=root_uri)
    network = train(
        dataset=dataset.outputs["dataset"],
        statistics=numbers.outputs["statistics"],
        root_uri=root_uri,
        recipe=recipe,
        num_epochs=num_epochs,
        seed=seed,
        gpus=gpus,
        parallel=parallel,
    )
    errors = evaluate(
        dataset=dataset.outputs["dataset"],
        statistics=numbers.outputs["statistics"],
        model=network.outputs["model"],
        root_uri=root_uri,
        split=split,
    )
    resources.apply(dataset, numbers, network, errors)


def compiled() -> str:
    """Compile the pipeline to the text of pipeline.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(cast(BaseComponent, alexnet), str(path))
        return storage.read_bytes(str(path)).decode()


def documents(text: str) -> list[Any]:
    """Parse pipeline.yaml; the comment header does not count when two are compared."""
    return list(yaml.safe_load_all(text))
