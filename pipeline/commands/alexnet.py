"""The `alexnet` command: one module a command, which adds its own arguments."""

import argparse
import os
import signal
import subprocess
import sys
from types import ModuleType

from components.shared.errors import AlexNetError, StorageError
from pipeline.commands import (
    artifacts,
    compile,
    completion,
    doctor,
    gc,
    images,
    logs,
    rerun,
    run,
    runs,
    status,
    submit,
)
from pipeline.commands.options import CANCELLED
from pipeline.images import version

# Each has register(parser): it adds arguments, and as default `action` a function that takes them
# and returns the exit code. The first line of its docstring is `alexnet NAME`, a colon, and the
# help, which the overview and `alexnet NAME --help` show.
COMMANDS = {
    "on this machine": (run, rerun, gc),
    "on Kubeflow": (submit, doctor),
    "runs, here or there": (runs, status, logs, artifacts),
    "the project itself": (compile, images, completion),
}
# Component command lines of their own, under a short name: module, and what the overview says.
COMPONENTS = {
    "sample": ("components.sample", "draw a small release in the layout of ILSVRC-2010."),
    "describe": ("components.train.describe", "print a recipe's layers, parameters and operations."),
}


def _help_of(module: ModuleType) -> tuple[str, str]:
    """Return the name of a command and its help."""
    first_line = (module.__doc__ or "").partition("\n")[0]
    return module.__name__.rpartition(".")[2], first_line.partition(": ")[2]


def _overview() -> str:
    """List all commands, a line each."""
    groups = {title: [_help_of(module) for module in modules] for title, modules in COMMANDS.items()}
    groups["components"] = [(name, text) for name, (_, text) in COMPONENTS.items()]
    lines = []
    for title, commands in groups.items():
        lines += ["", f"{title}:", *(f"  {name:<11} {text}" for name, text in commands)]
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
    result.add_argument("--version", action="version", version=f"alexnet {version()}")
    commands = result.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for modules in COMMANDS.values():
        for module in modules:
            name, text = _help_of(module)
            module.register(commands.add_parser(name, help=text, description=text, allow_abbrev=False))
    for name, (_, text) in COMPONENTS.items():
        commands.add_parser(name, help=text, add_help=False)
    # For the page of docs/reference, and for the scripts of shells.
    result.set_defaults(commands=commands, command_line=result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the `alexnet` command.

    Args:
        argv: its words; None: those of this process.

    Returns:
        The exit code.

    Raises:
        SystemExit: the arguments are wrong, or only help was wanted.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMPONENTS:
        return subprocess.call([sys.executable, "-m", COMPONENTS[words[0]][0], *words[1:]])
    # Both signals stop the tasks in order.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not words:
            parser().print_help()
            return 0
        arguments = parser().parse_args(words)
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
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
