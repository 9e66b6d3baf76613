"""`alexnet completion`: print the script that completes commands in a shell.

In bash: eval "$(alexnet completion bash)"
In zsh: alexnet completion zsh > a folder of $fpath/_alexnet
In tcsh: alexnet completion tcsh > FILE; source FILE
"""

import argparse

FOLDERS, FILES = ("--root", "--release", "--out"), ("--params",)


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Say which arguments are paths, and that commands complete although no help lists them."""
    import shtab

    for action in parser._actions:
        if set(action.option_strings) & {*FOLDERS, *FILES}:
            kind = shtab.FILE if set(action.option_strings) & set(FILES) else shtab.DIRECTORY
            action.complete = kind  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            action.help = "command"
            for command in action.choices.values():
                _prepare(command)


def completion_command(arguments: argparse.Namespace) -> int:
    """Print the script of a shell."""
    import shtab

    _prepare(arguments.command_line)
    print(shtab.complete(arguments.command_line, arguments.shell))
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "shell",
        metavar="SHELL",
        choices=["bash", "zsh", "tcsh"],
        help='%(choices)s; for instance in ~/.bashrc: eval "$(alexnet completion bash)"',
    )
    parser.set_defaults(action=completion_command)
