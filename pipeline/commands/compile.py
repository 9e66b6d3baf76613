"""`alexnet compile`: make pipeline.yaml and README's tables from the graph."""

import argparse
import sys

from components.shared import storage
from pipeline.spec import ir


def compile_command(arguments: argparse.Namespace) -> int:
    """Write pipeline.yaml and the tables of README.md, or check that they are up to date."""
    from pipeline.graph import graph, reference

    text = graph.compiled()
    ir.read(text)  # refuses what Kubeflow's driver would
    readme = storage.read_bytes(str(reference.README_PATH)).decode()
    if not arguments.check:
        storage.write_text(ir.PIPELINE_PATH, text)
        storage.write_text(reference.README_PATH, reference.rewritten(readme))
        print(f"wrote {ir.PIPELINE_PATH} and the tables of {reference.README_PATH}")
        return 0
    committed = storage.read_bytes(str(ir.PIPELINE_PATH)).decode()
    stale = [ir.PIPELINE_PATH] if ir.documents(committed) != ir.documents(text) else []
    stale += [reference.README_PATH] if reference.rewritten(readme) != readme else []
    for path in stale:
        sys.stderr.write(f"alexnet: {path} is not what graph and contracts say. Run `alexnet compile`\n")
    if not stale:
        print("pipeline.yaml and README.md are up to date")
    return 1 if stale else 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--check", action="store_true", help="only say whether the committed file is up to date")
    parser.set_defaults(action=compile_command)
