"""`alexnet gc`: list or delete leftovers of interrupted runs."""

import argparse
import time

from components.shared import storage
from pipeline.local import leftovers

DEFAULT_HOURS = 168.0  # a training that waits for its GPUs over a weekend is not left over


def gc_command(arguments: argparse.Namespace) -> int:
    """List leftovers of interrupted runs under a root; `--delete` removes them."""
    found = leftovers.find(storage.absolute(arguments.root), arguments.older_than)
    for one in found:
        age = (time.time() - one.modified) / 3600
        print(f"{one.num_bytes:>15,} bytes  {age:>8.1f} h  {one.uri}  ({one.reason})")
    if arguments.delete:
        leftovers.delete(found)
    total = f"{len(found)} leftovers, {sum(one.num_bytes for one in found):,} bytes"
    outcome = "deleted" if arguments.delete else "nothing was deleted; --delete does it" if found else "all is well"
    print(f"{total}: {outcome}")
    return 0


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", required=True, help="folder or URI for everything that is made")
    parser.add_argument(
        "--older-than",
        type=float,
        default=DEFAULT_HOURS,
        metavar="HOURS",
        help="only what nobody touched for so long (default %(default)s)",
    )
    parser.add_argument("--delete", action="store_true", help="delete it; without, it is only listed")
    parser.set_defaults(action=gc_command)
