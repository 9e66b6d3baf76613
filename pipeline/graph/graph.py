"""The pipeline as Kubeflow sees it, and pipeline.yaml made from it."""

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from components.shared import storage
from pipeline.components import COMPONENTS
from pipeline.graph import resources
from pipeline.graph.component import container_component
from pipeline.images import image

HEADER = "# Made from pipeline/graph/graph.py by `alexnet compile`. `alexnet run` and Kubeflow run it as it is.\n"

STEPS = """
1. ingest: nested tars to 256x256 TFRecords, every image accounted for.
2. statistics: mean image and RGB PCA of the training set, exact.
3. train: the network of 2012, on a node with GPUs; one for each seed, side by side.
4. evaluate: centre crop and ten crops of all networks, errors beside the paper's, the report.
And whatever happened, outcome: how the run ended.
"""
PARAMETERS = {
    "release_uri": "folder or URI with the ILSVRC2010_*.tar files and the devkit.",
    "root_uri": "folder or URI under which every step keeps its bulk data.",
    "release_fingerprint": "identity of the release's files; when they change, so does it, and ingest runs again.",
    "subset": "all | classes=N,per_class=M,seed=S | wnids=n01,n02.",
    "jpeg_quality": "quality of the stored JPEG; 2012 used 85.",
    "order_seed": "seed of the order of the examples in the shards.",
    "max_bad_per_million": "unusable training images that are allowed, per million; one is always allowed.",
    "patches": "auto | required | waived: whether patch_images.tar must be there.",
    "ingest_runner": "Beam runner of ingest; the default uses the cores of its own pod.",
    "ingest_runner_options": "options of that runner, as on a command line.",
    "statistics_runner": "Beam runner of statistics; the default uses the cores of its own pod.",
    "statistics_runner_options": "options of that runner, as on a command line.",
    "recipe": "alexnet-2012 | alexnet-2012-paper | smoke, and switches such as alexnet-2012+no-lrn.",
    "num_epochs": "length of training; 0 is the recipe's.",
    "seeds": "a network is trained for each: the seed of its weights, order, crops, noise and dropout.",
    "gpus": "number of GPUs to train each network on, as a text; 0 is CPU only.",
    "parallel": "data | towers: parts of every batch, or a tower of the network, on each GPU.",
    "checkpoint_minutes": "time between two checkpoints of training.",
    "split": "test | validation: what to evaluate on.",
    "evaluate_batch_size": "images in a forward pass of evaluate, each of ten crops.",
    "evaluate_gpus": "1 or 0 GPUs to evaluate on, as a text.",
    "node_selector": "labels of nodes to train on, an object; the number of GPUs alone selects nodes with GPUs.",
    "tolerations": "taints of nodes with GPUs that training and evaluate tolerate, a list of objects.",
}


THIS_RUN = {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, "run_name": dsl.PIPELINE_JOB_NAME_PLACEHOLDER}


def _described(pipeline: Callable[..., Any]) -> Callable[..., Any]:
    """Add steps and parameters to the docstring, where kfp looks for descriptions."""
    lines = "\n".join(f"    {name}: {text}" for name, text in PARAMETERS.items())

    @functools.wraps(pipeline)
    def described(*args: Any, **kwargs: Any) -> Any:
        return pipeline(*args, **kwargs)

    described.__doc__ = f"{pipeline.__doc__}\n{STEPS}\nArgs:\n{lines}\n"
    return described


def _components() -> Iterator[Any]:
    """Make the components of the graph, in the order of its steps."""
    for name in ("ingest", "statistics", "train", "evaluate", "outcome"):
        component = COMPONENTS[name]
        yield container_component(component.contract, image(f"{name}-gpu" if component.uses_gpus else name))


def alexnet(
    release_uri: str,
    root_uri: str,
    release_fingerprint: str = "",
    subset: str = "all",
    jpeg_quality: int = 95,
    order_seed: int = 0,
    max_bad_per_million: int = 1000,
    patches: str = "auto",
    ingest_runner: str = "FnApiRunner",
    ingest_runner_options: str = "",
    statistics_runner: str = "FnApiRunner",
    statistics_runner_options: str = "",
    recipe: str = "alexnet-2012",
    num_epochs: int = 0,
    seeds: list[int] = [0],  # noqa: B006  kfp only reads it
    gpus: str = "2",
    parallel: str = "data",
    checkpoint_minutes: float = 2.0,
    split: str = "test",
    evaluate_batch_size: int = 16,
    evaluate_gpus: str = "1",
    node_selector: dict = {},  # noqa: B006
    tolerations: list = resources.TOLERATIONS,
):
    """From the ILSVRC-2010 release to the error rates of Krizhevsky, Sutskever and Hinton 2012."""
    ingest, statistics, train, evaluate, outcome = _components()
    end = outcome(
        **THIS_RUN,
        root_uri=root_uri,
        release_uri=release_uri,
        release_fingerprint=release_fingerprint,
        subset=subset,
        recipe=recipe,
        num_epochs=num_epochs,
        seeds=seeds,
    )
    with dsl.ExitHandler(end, name="steps"):
        dataset = ingest(
            release_uri=release_uri,
            release_fingerprint=release_fingerprint,
            root_uri=root_uri,
            subset=subset,
            jpeg_quality=jpeg_quality,
            seed=order_seed,
            max_bad_per_million=max_bad_per_million,
            patches=patches,
            runner=ingest_runner,
            runner_options=ingest_runner_options,
        )
        numbers = statistics(
            dataset=dataset.outputs["dataset"],
            root_uri=root_uri,
            runner=statistics_runner,
            runner_options=statistics_runner_options,
        )
        with dsl.ParallelFor(cast(Any, seeds), name="networks") as seed:
            network = train(
                dataset=dataset.outputs["dataset"],
                statistics=numbers.outputs["statistics"],
                root_uri=root_uri,
                recipe=recipe,
                num_epochs=num_epochs,
                seed=seed,
                gpus=gpus,
                parallel=parallel,
                checkpoint_minutes=checkpoint_minutes,
            )
        errors = evaluate(
            dataset=dataset.outputs["dataset"],
            statistics=numbers.outputs["statistics"],
            models=dsl.Collected(network.outputs["model"]),
            root_uri=root_uri,
            split=split,
            batch_size=evaluate_batch_size,
            gpus=evaluate_gpus,
        )
    resources.apply(dataset, numbers, network, errors, end)
    resources.use_gpus(network, gpus, tolerations, node_selector)
    resources.use_gpus(errors, evaluate_gpus, tolerations)


def compiled() -> str:
    """Compile the pipeline to the text of pipeline.yaml, the same at every call.

    The SDK begins the file with a comment that lists the parameters, objects among them in an order of the day. All
    that it says stands in the file itself.
    """
    pipeline = dsl.pipeline(name="alexnet")(_described(alexnet))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(cast(BaseComponent, pipeline), str(path))
        lines = storage.read_text(str(path)).splitlines(keepends=True)
    return "".join([HEADER, *itertools.dropwhile(lambda line: line.startswith("#"), lines)])
