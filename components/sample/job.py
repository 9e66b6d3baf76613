"""Write the sample release: the tars, the devkit and the ground truth of ILSVRC-2010, with drawn images."""

import functools
import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.io
from PIL import Image

from components.sample.contract import Sample
from components.sample.patterns import PATTERNS, draw
from components.shared import runlog, storage
from components.shared.errors import StorageError
from components.shared.release import DEVKIT_TAR, FILES, PATCH_TAR, TEST_TAR, TEST_TRUTH, TRAIN_TAR, VALIDATION_TAR

MARKER = "sample.json"
JPEG_QUALITY = 90
STREAMS = {"plan": 0, "train": 1, "val": 2, "test": 3}  # independent random streams of one seed
README = """A generated sample in the layout of the ILSVRC-2010 development kit.

data/meta.mat holds synsets and cost_matrix. Line k of a ground truth file is the ILSVRC2010_ID of image k in the
ascending order of the file names. IDs are not in the order of the WNIDs. patch_images.tar replaces blank images.
"""


@dataclass(frozen=True)
class Plan:
    """Everything about the release but its pixels."""

    seed: int
    wnids: list[str]  # by class; class k has ILSVRC2010_ID k + 1
    group_wnids: dict[str, str]
    num_train: list[int]  # by class, odd members included
    train_numbers: list[list[int]]  # by class: the numbers in the member names, ascending
    truth: dict[str, list[int]]  # by "val" and "test": the class of image k in the order of the names


def make_plan(config: Sample) -> Plan:
    """Decide names, counts and labels from the seed."""
    rng = np.random.default_rng([config.seed, STREAMS["plan"]])
    groups = ["pattern", *dict.fromkeys(p.group for p in PATTERNS[: config.classes])]
    numbers = rng.choice(10_000_000, size=config.classes + len(groups), replace=False)
    wnids = [f"n9{number:07d}" for number in numbers]
    classes = wnids[: config.classes]
    if classes == sorted(classes):  # labels by sorted WNID must be wrong, as they are in the real release
        classes.reverse()
    spread = np.rint(np.linspace(-0.15, 0.15, config.classes) * config.images_per_class).astype(int)
    num_train = [int(n) for n in config.images_per_class + rng.permutation(spread)]
    truth = {}
    for split, share in (("val", 8), ("test", 4)):
        each = max(2, config.images_per_class // share)
        truth[split] = rng.permutation(np.repeat(np.arange(config.classes), each)).tolist()
    return Plan(
        seed=config.seed,
        wnids=classes,
        group_wnids=dict(zip(groups, wnids[config.classes :], strict=True)),
        num_train=num_train,
        train_numbers=[sorted(rng.choice(n * 12, size=n, replace=False).tolist()) for n in num_train],
        truth=truth,
    )


def _jpeg(image_HWC: np.ndarray) -> bytes:
    _, data = cv2.imencode(".jpg", image_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _pillow_jpeg(image_HWC: np.ndarray, mode: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image_HWC).convert(mode).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


@functools.cache
def _blank() -> bytes:
    """Draw "image not available"; patch_images.tar has the picture."""
    return _jpeg(np.full((300, 400, 3), 255, np.uint8))


ODD_MEMBERS = {  # what the real training set also has, by the running number of the class and of the image in it
    (0, 1): lambda image: _pillow_jpeg(image, "L"),
    (1, 1): lambda image: _pillow_jpeg(image, "CMYK"),
    (0, 3): lambda image: gzip.compress(_jpeg(image), mtime=0),
    (1, 3): lambda image: _jpeg(image)[: len(_jpeg(image)) // 2],  # cannot be decoded
}
PATCHED = {"train": (0, 5), "val": (0, 0), "test": (0, 1)}  # (class, or 0, and image) with a blank in the release


def _image(plan: Plan, split: str, label: int, index: int) -> np.ndarray:
    rng = np.random.default_rng([plan.seed, STREAMS[split], label if split == "train" else 0, index])
    return draw(PATTERNS[label], rng)


def _train_member(plan: Plan, label: int, index: int) -> bytes:
    if (label, index) == PATCHED["train"]:
        return _blank()
    return ODD_MEMBERS.get((label, index), _jpeg)(_image(plan, "train", label, index))


def _write_tar(file: io.IOBase, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar that depends on nothing but its members; a name that ends with `/` is a folder."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info, io.BytesIO(data))


def _tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    _write_tar(out, members)
    return out.getvalue()


def _train_members(plan: Plan, progress: runlog.Progress) -> Iterator[tuple[str, bytes]]:
    for label in sorted(range(len(plan.wnids)), key=plan.wnids.__getitem__):
        wnid = plan.wnids[label]
        images = []
        for index, number in enumerate(plan.train_numbers[label]):
            images.append((f"{wnid}_{number}.JPEG", _train_member(plan, label, index)))
            progress.update(progress.done + 1)
        if label % 2:  # as in the real release, members are not always in the order of their names
            images.reverse()
        yield f"{wnid}.tar", _tar_bytes(images)


def _flat_members(plan: Plan, split: str, progress: runlog.Progress) -> Iterator[tuple[str, bytes]]:
    yield f"{split}/", b""
    labels = plan.truth[split]
    for index in np.random.default_rng([plan.seed, STREAMS[split]]).permutation(len(labels)).tolist():
        blank = index == PATCHED[split][1]
        data = _blank() if blank else _jpeg(_image(plan, split, labels[index], index))
        yield f"{split}/ILSVRC2010_{split}_{index + 1:08d}.JPEG", data
        progress.update(progress.done + 1)


def _patch_members(plan: Plan) -> Iterator[tuple[str, bytes]]:
    yield "patch_images/", b""
    label, index = PATCHED["train"]
    name = f"{plan.wnids[label]}_{plan.train_numbers[label][index]}.JPEG"
    yield "patch_images/train/", b""
    yield f"patch_images/train/{name}", _jpeg(_image(plan, "train", label, index))
    for split in ("val", "test"):
        index = PATCHED[split][1]
        yield f"patch_images/{split}/", b""
        name = f"ILSVRC2010_{split}_{index + 1:08d}.JPEG"
        yield f"patch_images/{split}/{name}", _jpeg(_image(plan, split, plan.truth[split][index], index))


def _meta_mat(plan: Plan) -> bytes:
    """Make meta.mat: classes first, then the root and the groups, as in the real one."""
    num_classes = len(plan.wnids)
    groups = [name for name in plan.group_wnids if name != "pattern"]
    parents = [groups.index(PATTERNS[label].group) for label in range(num_classes)]
    rows = [
        (plan.wnids[label], PATTERNS[label].words, PATTERNS[label].gloss, [], 0, plan.num_train[label])
        for label in range(num_classes)
    ]
    root_id = num_classes + 1
    group_ids = [root_id + 1 + k for k in range(len(groups))]
    rows.append((plan.group_wnids["pattern"], "pattern, design", "a decorative or artistic work", group_ids, 2, 0))
    for k, name in enumerate(groups):
        children = [label + 1 for label in range(num_classes) if parents[label] == k]
        rows.append((plan.group_wnids[name], name, f"a pattern of the kind {name}", children, 1, 0))
    names = ("ILSVRC2010_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    synsets = np.empty((len(rows), 1), dtype=[(name, object) for name in (*names, "num_train_images")])
    for k, (wnid, words, gloss, children, height, num_train) in enumerate(rows):
        numbers = [np.array([[n]], np.min_scalar_type(n)) for n in (k + 1, len(children), height, num_train)]
        child_ids = np.array(children, np.uint8).reshape(1, -1)
        synsets[k, 0] = (numbers[0], wnid, words, gloss, numbers[1], child_ids, numbers[2], numbers[3])
    # The height of the lowest common ancestor: the group when both classes are of one, else the root.
    same = np.equal.outer(parents, parents)
    cost_matrix = np.where(np.eye(num_classes, dtype=bool), 0, np.where(same, 1, 2)).astype(np.uint8)
    out = io.BytesIO()
    scipy.io.savemat(out, {"synsets": synsets, "cost_matrix": cost_matrix}, do_compression=True)
    # The first 116 bytes are free text, in which scipy writes the time of day.
    return b"MATLAB 5.0 MAT-file, generated sample release".ljust(116) + out.getvalue()[116:]


def _truth_text(plan: Plan, split: str) -> bytes:
    return "".join(f"{label + 1}\n" for label in plan.truth[split]).encode()


def _devkit(plan: Plan) -> bytes:
    members = [
        ("devkit-1.0/", b""),
        ("devkit-1.0/readme.txt", README.encode()),
        ("devkit-1.0/data/", b""),
        ("devkit-1.0/data/meta.mat", _meta_mat(plan)),
        ("devkit-1.0/data/ILSVRC2010_validation_ground_truth.txt", _truth_text(plan, "val")),
    ]
    return gzip.compress(_tar_bytes(members), mtime=0)


def _is_done(out_uri: str, parameters: dict[str, int]) -> bool:
    """Tell whether the same sample is there already.

    Raises:
        StorageError: the folder holds something else.
    """
    found = {entry.name: entry.num_bytes for entry in storage.list_files(out_uri)}
    foreign = sorted(set(found) - {*FILES, MARKER})
    if foreign:
        raise StorageError(
            f"{out_uri}: holds {foreign[0]}, which is no part of a sample release. Give --out an empty folder"
        )
    if MARKER not in found:
        return False
    marker = storage.read_json(storage.join(out_uri, MARKER))
    if marker["parameters"] != parameters:
        raise StorageError(
            f"{out_uri}: holds a sample with {marker['parameters']}, asked was {parameters}. "
            "Give --out another folder, or remove this one"
        )
    damaged = [name for name, entry in marker["files"].items() if found.get(name) != entry["num_bytes"]]
    if damaged:
        raise StorageError(f"{out_uri}: {damaged[0]} is missing or of another size. Remove the folder and run again")
    return True


def run(config: Sample) -> dict[str, dict[str, float | str]]:
    """Write the release; the marker `sample.json` comes last, and what is there already is kept.

    Args:
        config: folder, counts and seed; the same values give the same bytes.

    Returns:
        Nothing: the sample is not an artifact of a pipeline.

    Raises:
        StorageError: the folder holds something else or cannot be written.
    """
    log = runlog.RunLog("sample")
    out_uri = storage.absolute(config.out)
    parameters = {"classes": config.classes, "images_per_class": config.images_per_class, "seed": config.seed}
    if _is_done(out_uri, parameters):
        log.info("already there", uri=out_uri)
        return {}
    plan = make_plan(config)
    progress = runlog.Progress(log, sum(plan.num_train) + len(plan.truth["val"]) + len(plan.truth["test"]), "images")
    contents = {
        TRAIN_TAR: lambda file: _write_tar(file, _train_members(plan, progress)),
        VALIDATION_TAR: lambda file: _write_tar(file, _flat_members(plan, "val", progress)),
        TEST_TAR: lambda file: _write_tar(file, _flat_members(plan, "test", progress)),
        PATCH_TAR: lambda file: _write_tar(file, _patch_members(plan)),
        DEVKIT_TAR: lambda file: file.write(_devkit(plan)),
        TEST_TRUTH: lambda file: file.write(_truth_text(plan, "test")),
    }
    for name, write in contents.items():
        with storage.create(storage.join(out_uri, name)) as file:
            write(file)
    sizes = {entry.name: entry.num_bytes for entry in storage.list_files(out_uri)}
    digests = {name: storage.sha256(storage.join(out_uri, name)) for name in FILES}
    files = {name: {"num_bytes": sizes[name], "sha256": digests[name]} for name in FILES}
    marker = json.dumps({"parameters": parameters, "files": files}, indent=1) + "\n"
    storage.publish_bytes(marker.encode(), storage.join(out_uri, MARKER))
    log.info("sample release written", uri=out_uri, num_bytes=sum(sizes.values()))
    return {}
