"""The `alexnet` command: one module a command, which adds its own arguments."""

import argparse
import signal
import subprocess
import sys
from typing import NoReturn

from components.shared import storage
from components.shared.errors import AlexNetError, StorageError
from pipeline.commands import artifacts, compile, doctor, gc, images, logs, rerun, run, status, submit
from pipeline.commands.options import CANCELLED

# Each has register(commands): it adds a parser whose default `action` takes the arguments and returns the exit code.
COMMANDS = (run, submit, status, logs, artifacts, rerun, doctor, compile, images, gc)


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Hand over to a component's own command line."""
    sys.exit(subprocess.call([sys.executable, "-m", module, *arguments]))


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    description = "AlexNet as a Kubeflow pipeline, here or on a cluster."
    result = argparse.ArgumentParser(prog="alexnet", description=description, allow_abbrev=False)
    commands = result.add_subparsers(dest="command", required=True)
    for module in COMMANDS:
        module.register(commands)
    commands.add_parser("sample", help="draw a small release in the layout of ILSVRC-2010", add_help=False)
    commands.add_parser("describe", help="print a recipe's layers, parameters and operations", add_help=False)
    return result


def main() -> NoReturn:
    """Run the `alexnet` command and exit with its code."""
    modules = {"sample": "components.sample", "describe": "components.train.describe"}
    if sys.argv[1:2] and sys.argv[1] in modules:
        _become(modules[sys.argv[1]], sys.argv[2:])
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals stop the tasks in order
    try:
        code = arguments.action(arguments)
    except (AlexNetError, OSError) as error:
        failure = error if isinstance(error, AlexNetError) else storage.explain(error)
        sys.stderr.write(f"alexnet: {failure}\n")
        # A place that cannot be used is a failed run; exit code 69 is for components.
        code = 1 if isinstance(failure, StorageError) else failure.exit_code
    except KeyboardInterrupt:
        code = CANCELLED
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
