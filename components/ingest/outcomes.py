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


STATUSES = {"used", "repaired", "quarantined"}


def _is_digest(value: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_outcome(outcome: Outcome) -> bool:
    return (
        type(outcome.name) is str
        and outcome.status in STATUSES
        and type(outcome.reason) is str
        and _is_digest(outcome.sha256)
        and all(type(number) is int and number >= 0 for number in outcome[4:])
        and outcome.crc32c < 1 << 32
    )


def parse_record(data: bytes, name: str) -> dict[str, Any] | None:
    """Decode the record of a shard; None when it is damaged."""
    try:
        record = json.loads(data)
        outcomes = [Outcome(*values) for values in record["images"]]
        is_whole = (
            record["name"] == name
            and type(record["num_bytes"]) is type(record["num_examples"]) is int
            and record["num_bytes"] >= 0
            and _is_digest(record["sha256"])
            and all(map(_is_outcome, outcomes))
            and record["num_examples"] == sum(outcome.num_bytes > 0 for outcome in outcomes)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if is_whole else None
