"""`alexnet compile`: generate pipeline.yaml and docs/reference."""

import argparse
import sys
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import AlexNetError, UsageError
from pipeline.commands.options import CANCELLED
from pipeline.kubeflow.client import Unreachable
from pipeline.spec import ir

CODES = {
    0: "The command succeeded; with `--watch`, so did the run.",
    AlexNetError.exit_code: "A run, task or check failed, a file is not up to date, a place cannot be used, or the "
    "server refused the request.",
    UsageError.exit_code: "A flag, parameter, run or task is unknown, missing or wrong. Nothing was started.",
    Unreachable.exit_code: "The Kubeflow server does not answer.",
    CANCELLED: "The run was cancelled, the command was stopped (Ctrl-C, SIGTERM), or `--timeout` passed.",
}


def _pages(commands: Any, text: str) -> dict[Path, str]:
    """Generate the pages of docs/reference; `text` is that of pipeline.yaml."""
    from pipeline.graph import graph, reference

    texts = {entry.dest: entry.help for entry in commands._choices_actions}
    pages = {
        "artifacts": reference.artifacts(),
        "cli": reference.cli(commands.choices, texts),
        "components": reference.components(),
        "environment": reference.environment(),
        "exit-codes": reference.exit_codes(CODES),
        "parameters": reference.parameters(ir.read(text), graph.PARAMETERS),
    }
    return {reference.FOLDER / f"{name}.md": page for name, page in pages.items()}


def _committed(path: Path) -> str:
    return storage.read_text(str(path)) if path.is_file() else ""


def compile_command(arguments: argparse.Namespace) -> int:
    """Write pipeline.yaml and docs/reference, or check that they are up to date."""
    from pipeline.graph import graph

    text = graph.compiled()
    pages = _pages(arguments.commands, text)  # reads the text, and so refuses what Kubeflow's driver would
    if not arguments.check:
        for path, page in {ir.PIPELINE_PATH: text, **pages}.items():
            storage.write_text(path, page)
        print(f"wrote {ir.PIPELINE_PATH} and {len(pages)} pages in {next(iter(pages)).parent}")
        return 0
    same = ir.documents(_committed(ir.PIPELINE_PATH)) == ir.documents(text)
    stale = [] if same else [ir.PIPELINE_PATH]
    stale += [path for path, page in pages.items() if _committed(path) != page]
    for path in stale:
        sys.stderr.write(f"alexnet: {path} is not up to date. Run `alexnet compile`\n")
    if not stale:
        print("pipeline.yaml and docs/reference are up to date")
    return 1 if stale else 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--check", action="store_true", help="only say whether the committed files are up to date")
    parser.set_defaults(action=compile_command)
