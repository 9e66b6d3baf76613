"""`alexnet compile` and `alexnet images`: pipeline.yaml and the images that it names."""

import argparse
import sys
import time
from typing import Any

from components.shared import runlog, storage
from components.shared.errors import UsageError
from pipeline import images, ir
from pipeline.console import Console


def compile_command(arguments: argparse.Namespace) -> int:
    """Write pipeline.yaml and the tables of README.md, or check that they are up to date."""
    from pipeline import graph, reference

    text = graph.compiled()
    ir.read(text)  # refuses what Kubeflow's driver would
    readme = storage.read_bytes(str(reference.README_PATH)).decode()
    if not arguments.check:
        storage.write_text(ir.PIPELINE_PATH, text)
        storage.write_text(reference.README_PATH, reference.rewritten(readme))
        print(f"wrote {ir.PIPELINE_PATH} and the tables of {reference.README_PATH}")
        return 0
    committed = storage.read_bytes(str(ir.PIPELINE_PATH)).decode()
    stale = [ir.PIPELINE_PATH] if graph.documents(committed) != graph.documents(text) else []
    stale += [reference.README_PATH] if reference.rewritten(readme) != readme else []
    for path in stale:
        sys.stderr.write(f"alexnet: {path} is not what graph and contracts say. Run `alexnet compile`\n")
    if not stale:
        print("pipeline.yaml and README.md are up to date")
    return 1 if stale else 0


def images_command(arguments: argparse.Namespace) -> int:
    """Build, push or list the component images, or write images.json."""
    stages: list[str] = arguments.stage or list(images.STAGES)
    if unknown := set(stages) - set(images.STAGES):
        raise UsageError(f"{', '.join(sorted(unknown))}: expected images among {', '.join(images.STAGES)}")
    console = Console()
    if arguments.action_name == "digests":
        for stage, digest in images.write_digests(stages).items():
            print(f"{stage:<11} {digest}")
        print(f"wrote {images.DIGESTS_PATH}; `alexnet compile` puts them into pipeline.yaml")
        return 0
    for stage in stages:
        start = time.monotonic()
        if arguments.action_name == "sbom":
            print(images.write_sbom(stage))
            continue
        {"build": images.build, "push": images.push}[arguments.action_name](stage, console)
        console.line(f"{stage:<11} {arguments.action_name} done in {runlog.format_seconds(time.monotonic() - start)}")
    return 0


def register(commands: Any) -> None:
    """Add the commands."""
    compiling = commands.add_parser("compile", help="make pipeline.yaml from the graph", allow_abbrev=False)
    compiling.add_argument("--check", action="store_true", help="only say whether the committed file is up to date")
    compiling.set_defaults(action=compile_command)
    building = commands.add_parser("images", help="build, push or list the component images", allow_abbrev=False)
    building.add_argument(
        "action_name", metavar="ACTION", choices=["build", "push", "digests", "sbom"], help="%(choices)s"
    )
    building.add_argument(
        "stage", nargs="*", metavar="COMPONENT", help="which, also train-gpu and evaluate-gpu (default: all)"
    )
    building.set_defaults(action=images_command)
