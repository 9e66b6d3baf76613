"""Names of files that are not there to stay, being written or probes, by which `alexnet gc` knows them."""

import os
import re
import secrets

PATTERN = re.compile(r"\.\d+-[0-9a-f]{8}\.part|\..+\.[0-9a-f]{8}")
PROBE = re.compile(r"probe-[0-9a-f]{8}")


def part() -> str:
    """Name a file that is being written."""
    return f".{os.getpid()}-{secrets.token_hex(4)}.part"


def beside(name: str) -> str:
    """Name a file that is whole and about to get `name`."""
    return f".{name}.{secrets.token_hex(4)}"


def probe() -> str:
    """Name a file that is written to see whether one can write."""
    return f"probe-{secrets.token_hex(4)}"
