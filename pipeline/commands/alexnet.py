"""The `alexnet` command: one module a command, which adds its own arguments."""

import argparse
import os
import signal
import subprocess
import sys
from typing import NoReturn

from components.shared.errors import AlexNetError, StorageError
from pipeline.commands import artifacts, compile, doctor, gc, images, logs, rerun, run, status, submit
from pipeline.commands.options import CANCELLED
from pipeline.images import VERSION

# Each has register(commands): it adds a parser whose default `action` takes the arguments and returns the exit code.
# The first line of its text is `alexnet NAME`, a colon, and what the overview says of it.
COMMANDS = {
    "on this machine": (run, rerun, gc),
    "on Kubeflow": (submit, doctor),
    "runs, here or there": (status, logs, artifacts),
    "the project itself": (compile, images),
}
# Component command lines of their own, under a short name: module, and what the overview says.
COMPONENTS = {
    "sample": ("components.sample", "draw a small release in the layout of ILSVRC-2010."),
    "describe": ("components.train.describe", "print a recipe's layers, parameters and operations."),
}


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Hand over to a component's own command line."""
    sys.exit(subprocess.call([sys.executable, "-m", module, *arguments]))


def _overview() -> str:
    """List all commands, a line each."""
    groups = {
        title: [(module.__name__.rpartition(".")[2], (module.__doc__ or "").splitlines()[0]) for module in modules]
        for title, modules in COMMANDS.items()
    }
    groups["components"] = [(name, f": {text}") for name, (_, text) in COMPONENTS.items()]
    lines = []
    for title, commands in groups.items():
        lines += ["", f"{title}:", *(f"  {name:<10} {text.partition(': ')[2]}" for name, text in commands)]
    return "\n".join([*lines, "", "`alexnet COMMAND --help` says more."]).lstrip("\n")


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(
        prog="alexnet",
        usage="alexnet [--help] [--version] COMMAND ...",
        description="AlexNet as a Kubeflow pipeline, here or on a cluster.",
        epilog=_overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--version", action="version", version=f"alexnet {VERSION}")
    commands = result.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for modules in COMMANDS.values():
        for module in modules:
            module.register(commands)
    for name in COMPONENTS:
        commands.add_parser(name, add_help=False)
    return result


def main() -> NoReturn:
    """Run the `alexnet` command and exit with its code."""
    if sys.argv[1:2] and sys.argv[1] in COMPONENTS:
        _become(COMPONENTS[sys.argv[1]][0], sys.argv[2:])
    if not sys.argv[1:]:
        parser().print_help()
        sys.exit(0)
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both signals stop the tasks in order
    try:
        code = arguments.action(arguments)
        sys.stdout.flush()
    except AlexNetError as error:
        sys.stderr.write(f"alexnet: {error}\n")
        # A place that cannot be used is a failed run; exit code 69 is for components.
        code = 1 if isinstance(error, StorageError) else error.exit_code
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os._exit(0)  # without the flush at the end of a process, which would fail too
    except KeyboardInterrupt:
        code = CANCELLED
    sys.exit(code)


if __name__ == "__main__":
    main()
