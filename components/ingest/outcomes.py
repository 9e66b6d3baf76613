"""The record of a finished shard, `<shard>.json`: its name, size, digest, count and what became of its images."""

import json
import re
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What became of one image; a row of a shard's record."""

    name: str
    status: str  # used, repaired or quarantined
    reason: str
    sha256: str  # of the source bytes
    offset: int = 0  # of the stored JPEG in the shard
    num_bytes: int = 0  # of the stored JPEG; 0: it is in no shard
    crc32c: int = 0


def parse_record(data: bytes, name: str) -> dict[str, Any] | None:
    """Decode the record of a shard; None when it is damaged."""
    try:
        record = json.loads(data)
        outcomes = [Outcome(*values) for values in record["images"]]
        numbers = [record["num_bytes"], record["num_examples"], *(n for outcome in outcomes for n in outcome[4:])]
        is_whole = (
            record["name"] == name
            and all(
                re.fullmatch("[0-9a-f]{64}", digest) for digest in (record["sha256"], *(o.sha256 for o in outcomes))
            )
            and all(type(number) is int for number in numbers)
            and {outcome.status for outcome in outcomes} <= {"used", "repaired", "quarantined"}
            and record["num_examples"] == sum(outcome.num_bytes > 0 for outcome in outcomes)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if is_whole else None
