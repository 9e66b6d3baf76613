"""`alexnet completion`: print what completes the command in a shell."""

import argparse

SHELLS = ("bash", "zsh", "tcsh")


def completion_command(arguments: argparse.Namespace) -> int:
    """Print the completion script of a shell."""
    import shtab

    arguments.commands.help = "command"  # shtab leaves out what the help does not list
    print(shtab.complete(arguments.parser, shell=arguments.shell))
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = 'In bash: eval "$(alexnet completion bash)"'
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or tcsh")
    parser.set_defaults(action=completion_command)
