"""Every image of the release has exactly one row, and the rows add up to what the devkit promises.

Rows are columns of arrays, about 70 bytes an image: objects for all of them would not fit beside each other.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from components.ingest import plan, shards
from components.ingest.devkit import Devkit
from components.ingest.outcomes import Outcome
from components.ingest.subset import Subset
from components.shared import manifest, records
from components.shared.errors import DataError, StorageError
from components.shared.manifest import Manifest

STATUSES = ("excluded", "used", "repaired", "quarantined")
EXCLUDED, USED, REPAIRED, QUARANTINED = range(4)
NUM_THREADS = 16  # waiting for an object store
RECORDS_AT_ONCE = 64  # in memory
TSV_ROWS = 10_000  # formatted at once


class Row(NamedTuple):
    """One image of the release; the columns of images.tsv."""

    split: str
    filename: str
    wnid: str
    label: str  # empty for an excluded image
    status: str  # one of STATUSES
    reason: str  # of a repair or quarantine
    sha256: str  # of the source bytes, empty when they were not read
    shard: str  # empty when the image is in none


class Rows:
    """The rows of one split, in the order of its table of images.

    Args:
        split: train, validation or test.
        images: the table.
        settings: names and labels of the classes.
        names: of the shards.
    """

    def __init__(self, split: str, images: np.ndarray, settings: shards.Settings, names: list[str]) -> None:
        self.split, self.images, self._settings, self._names = split, images, settings, names
        self.status = np.zeros(len(images), np.uint8)  # a position in STATUSES
        self.sha256 = np.zeros((len(images), 32), np.uint8)
        self._reason = np.zeros(len(images), np.int32)
        self._reasons = {"": 0}
        self._shard = np.full(len(images), -1, np.int32)

    def __len__(self) -> int:
        return len(self.images)

    def enter(self, shard: int, positions: np.ndarray, outcomes: list[Outcome]) -> None:
        """Enter what became of the images of one shard."""
        self.status[positions] = [STATUSES.index(outcome.status) for outcome in outcomes]
        self._reason[positions] = [self._reasons.setdefault(o.reason, len(self._reasons)) for o in outcomes]
        digests = bytes.fromhex("".join(outcome.sha256 for outcome in outcomes))
        self.sha256[positions] = np.frombuffer(digests, np.uint8).reshape(-1, 32)
        self._shard[positions] = np.where(self.status[positions] == QUARANTINED, -1, shard)

    def select(self, positions: np.ndarray) -> Iterator[Row]:
        """Yield the rows at some positions of the table."""
        reasons, wnids, labels = list(self._reasons), self._settings.wnids, self._settings.labels
        columns = (self.images["name"], self.images["ilsvrc_id"], self.status, self._reason, self._shard)
        values = zip(*(column[positions].tolist() for column in columns), self.sha256[positions], strict=True)
        for name, ilsvrc_id, status, reason, shard, digest in values:
            is_in = status != EXCLUDED
            yield Row(
                self.split,
                name.decode(),
                wnids[ilsvrc_id],
                str(labels[ilsvrc_id]) if is_in else "",
                STATUSES[status],
                reasons[reason],
                digest.tobytes().hex() if is_in else "",
                self._names[shard] if shard >= 0 else "",
            )

    def of_status(self, *statuses: int) -> Iterator[Row]:
        """Yield the rows of some statuses by name."""
        positions = np.flatnonzero(np.isin(self.status, statuses))
        return self.select(positions[np.argsort(self.images["name"][positions], kind="stable")])

    def tsv(self) -> Iterator[bytes]:
        """Yield the lines of images.tsv by name, many at once."""
        order = np.argsort(self.images["name"], kind="stable")
        for first in range(0, len(order), TSV_ROWS):
            some = self.select(order[first : first + TSV_ROWS])
            yield "".join("\t".join(row) + "\n" for row in some).encode()


def images_tsv(rows: list[Rows]) -> Iterator[bytes]:
    """Yield images.tsv in pieces."""
    return chain(["\t".join(Row._fields).encode() + b"\n"], *(of_split.tsv() for of_split in rows))


def _num_allowed(split: str, num_images: int, max_bad_per_million: int) -> int:
    """Count the images of a split that may be unusable; of the training images one always may."""
    return max(num_images * max_bad_per_million // 1_000_000, 1 if split == "train" else 0)


def splits_over_budget(dataset: Manifest, max_bad_per_million: int) -> list[str]:
    """List the splits of a finished dataset that have too many quarantined images."""
    counts = ("used", "repaired", "quarantined", "excluded")
    return [
        split
        for split, entry in dataset.content["splits"].items()
        if entry["quarantined"] > _num_allowed(split, sum(entry[name] for name in counts), max_bad_per_million)
    ]


def check_budget(rows: Rows, max_bad_per_million: int) -> None:
    """Refuse a split with too many quarantined images.

    Raises:
        DataError: names the first files and their reasons.
    """
    num_bad = int(np.count_nonzero(rows.status == QUARANTINED))
    allowed = _num_allowed(rows.split, len(rows), max_bad_per_million)
    if num_bad > allowed:
        bad = zip(range(10), rows.of_status(QUARANTINED), strict=False)
        listed = ", ".join(f"{row.filename} ({row.reason})" for _, row in bad)
        raise DataError(
            f"{rows.split}: {num_bad} of {len(rows):,} images are unusable, allowed are {allowed}: {listed}. "
            "Repair the release, or raise --max-bad-per-million if they may be left out"
        )


def account(
    split: str, images: np.ndarray, parts: list[plan.Part], settings: shards.Settings
) -> tuple[Rows, list[dict[str, Any]], np.ndarray]:
    """Join the records of the shards with the table of a split.

    Returns:
        A row for every image; the records without their images; and the index of the split, an array of
        `records.INDEX_COLUMNS`.

    Raises:
        DataError: a record is of other images than planned.
        StorageError: a shard has no record.
    """
    rows = Rows(split, images, settings, [part.name for part in parts])
    shard_records, places = [], [np.empty(0, records.INDEX_COLUMNS)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for first in range(0, len(parts), RECORDS_AT_ONCE):
            some = parts[first : first + RECORDS_AT_ONCE]
            found = pool.map(lambda part: shards.read_record(part.name, settings), some)
            for number, (part, record) in enumerate(zip(some, found, strict=True), first):
                where = f"{settings.base_uri}/{part.name}.json"
                if record is None:
                    raise StorageError(f"{where}: the runner ended without writing it. Run again; what is done stays")
                outcomes = [Outcome(*values) for values in record.pop("images")]
                if [outcome.name.encode() for outcome in outcomes] != images["name"][part.positions].tolist():
                    raise DataError(f"{where}: lists other images than planned. Remove the folder")
                rows.enter(number, part.positions, outcomes)
                labels = [settings.labels[k] for k in images["ilsvrc_id"][part.positions].tolist()]
                places.append(_places(outcomes, labels))
                shard_records.append(record)
    return rows, shard_records, np.concatenate(places)


def _places(outcomes: list[Outcome], labels: list[int]) -> np.ndarray:
    stored = [
        (outcome.offset, outcome.num_bytes, outcome.crc32c, label)
        for outcome, label in zip(outcomes, labels, strict=True)
        if outcome.num_bytes
    ]
    return np.array(stored, records.INDEX_COLUMNS)


def class_entries(kit: Devkit, chosen: Subset, rows: list[Rows]) -> list[manifest.ClassEntry]:
    """Describe the kept classes, with the counts of their usable images.

    Raises:
        DataError: a class has no usable training image.
    """
    counts = {
        of_split.split: np.bincount(
            of_split.images["ilsvrc_id"][np.isin(of_split.status, (USED, REPAIRED))], minlength=len(kit.synsets) + 1
        ).tolist()
        for of_split in rows
    }
    entries = [
        manifest.ClassEntry(
            label=label,
            ilsvrc_id=ilsvrc_id,
            wnid=synset.wnid,
            words=synset.words,
            num_train=counts["train"][ilsvrc_id],
            num_validation=counts["validation"][ilsvrc_id],
            num_test=counts["test"][ilsvrc_id],
        )
        for label, ilsvrc_id in enumerate(chosen.ilsvrc_ids)
        for synset in [kit.synsets[ilsvrc_id - 1]]
    ]
    empty = [entry["wnid"] for entry in entries if not entry["num_train"]]
    if empty:
        raise DataError(f"class {empty[0]}: no usable training image. Leave it out by --subset or repair the release")
    return entries


def split_entry(rows: Rows, shard_records: list[dict[str, Any]], num_devkit: int) -> manifest.SplitEntry:
    """Describe a split.

    Raises:
        DataError: the images do not add up to the devkit's count.
    """
    excluded, used, repaired, quarantined = np.bincount(rows.status, minlength=len(STATUSES)).tolist()
    entry = manifest.SplitEntry(
        shards=[manifest.ShardEntry(name=r["name"], num_examples=r["num_examples"]) for r in shard_records],
        num_examples=sum(r["num_examples"] for r in shard_records),
        num_devkit=num_devkit,
        used=used,
        repaired=repaired,
        quarantined=quarantined,
        excluded=excluded,
    )
    if len(rows) != num_devkit or entry["num_examples"] != used + repaired:
        raise DataError(
            f"{rows.split}: used {used} + repaired {repaired} + quarantined {quarantined} + excluded {excluded} "
            f"is not the devkit's {num_devkit}. Remove the shards and run again"
        )
    return entry
