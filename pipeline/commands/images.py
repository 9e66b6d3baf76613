"""`alexnet images`: build, push or list the images that pipeline.yaml names."""

import argparse
import time

from components.shared import runlog
from components.shared.errors import UsageError
from pipeline import images
from pipeline.components import STAGES
from pipeline.console import Console


def images_command(arguments: argparse.Namespace) -> int:
    """Build, push or list the component images, or write images.json."""
    stages: list[str] = arguments.stage or list(STAGES)
    if unknown := set(stages) - set(STAGES):
        raise UsageError(f"{', '.join(sorted(unknown))}: expected images among {', '.join(STAGES)}")
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
        with Console() as console:
            {"build": images.build, "push": images.push}[arguments.action_name](stage, console)
            took = runlog.format_seconds(time.monotonic() - start)
            console.finish(stage, f"{arguments.action_name} done in {took}")
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "action_name", metavar="ACTION", choices=["build", "push", "digests", "sbom"], help="%(choices)s"
    )
    parser.add_argument(
        "stage", nargs="*", metavar="COMPONENT", help="which, also train-gpu and evaluate-gpu (default: all)"
    )
    parser.set_defaults(action=images_command)
