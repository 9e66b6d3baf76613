"""Ingest over its floor, Beam over plain processes and the usual script, in one interleaved run: only ratios count.

    python -m benchmarks.ingest FOLDER [NUM_IMAGES]

FOLDER holds photographs at their original size (JPEG files or tars of them). The floor is what libjpeg-turbo needs
at least: a full decode and the encoding of 256x256. Every variant does one image before any does the next, and of
ROUNDS times the shortest counts, so that other work on the machine hits all alike.
"""

import io
import itertools
import multiprocessing
import os
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from components.ingest import archives, images, plan, shards, tables
from components.ingest.process import prepare_process
from components.ingest.resize import resize, resized_size
from components.shared import engines, records
from components.shared.runlog import RunLog

ROUNDS = 5
NUM_TASKS = 8
RELEASE_IMAGES = 1_261_406 + 50_000 + 150_000
QUALITY = 95
LANCZOS, BICUBIC, BILINEAR, BOX = (Image.Resampling[name] for name in ("LANCZOS", "BICUBIC", "BILINEAR", "BOX"))


def read_photographs(folder: Path) -> list[bytes]:
    """Read the colour JPEGs of a folder and of the tars in it, those that have to be shrunk."""
    found = [path.read_bytes() for path in sorted(folder.rglob("*.JPEG"))]
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            found += [tar.extractfile(member).read() for member in tar if member.name.endswith(".JPEG")]
    headers = [(data, *simplejpeg.decode_jpeg_header(data)) for data in found]
    return [data for data, height, width, space, _ in headers if space == "YCbCr" and min(height, width) > 256]


def centre_box(height: int, width: int) -> tuple[float, float, float, float]:
    """Compute what part of the source the crop shows: left, top, right, bottom."""
    new_height, new_width = resized_size(height, width)
    left, top = (new_width - 256) // 2, (new_height - 256) // 2
    x, y = width / new_width, height / new_height
    return left * x, top * y, (left + 256) * x, (top + 256) * y


def with_pillow(image_HWC: np.ndarray, filter_: Image.Resampling) -> np.ndarray:
    """Resize by Pillow, the crop's box only."""
    box = centre_box(*image_HWC.shape[:2])
    return np.asarray(Image.fromarray(image_HWC).resize((256, 256), filter_, box=box))


def with_cv2(image_HWC: np.ndarray) -> np.ndarray:
    """Resize by OpenCV's INTER_AREA and crop."""
    height, width = resized_size(*image_HWC.shape[:2])
    whole_HWC = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (height - 256) // 2, (width - 256) // 2
    return np.ascontiguousarray(whole_HWC[top : top + 256, left : left + 256])


def exact_area(image_HWC: np.ndarray) -> np.ndarray:
    """Average areas in float64, by differences of running sums: a formula of its own."""
    box = centre_box(*image_HWC.shape[:2])
    for axis, (start, stop) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        sums = np.insert(np.cumsum(image_HWC, axis=axis, dtype=np.float64), 0, 0, axis=axis)
        at = np.linspace(start, stop, 257)
        whole = np.minimum(at.astype(int), sums.shape[axis] - 2)
        part = np.expand_dims(at - whole, [k for k in range(3) if k != axis])
        edges = np.take(sums, whole, axis) * (1 - part) + np.take(sums, whole + 1, axis) * part
        image_HWC = np.diff(edges, axis=axis) * 256 / (stop - start)
    return image_HWC


def exact_lanczos(image_HWC: np.ndarray) -> np.ndarray:
    """Resize by Lanczos-3 in float32."""
    box = centre_box(*image_HWC.shape[:2])
    planes = [Image.fromarray(image_HWC[..., c].astype(np.float32)) for c in range(3)]
    return np.stack([np.asarray(plane.resize((256, 256), LANCZOS, box=box)) for plane in planes], axis=2)


def usual_script(data: bytes) -> bytes:
    """Do what the common ImageNet-to-TFRecord script does with an image, by Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        height, width = resized_size(image.height, image.width)
        small = image.convert("RGB").resize((width, height), BICUBIC)
    left, top = (width - 256) // 2, (height - 256) // 2
    out = io.BytesIO()
    small.crop((left, top, left + 256, top + 256)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def psnr(image_HWC: np.ndarray, reference_HWC: np.ndarray) -> float:
    """Compute the peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((image_HWC - reference_HWC) ** 2)))


def seconds(call: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare_variants(photographs: list[bytes]) -> tuple[float, float]:
    """Print cost and fidelity of each resize; return the seconds an image of the floor and of ingest's functions."""
    resizes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "ingest: sparse area average": resize,
        "cv2 INTER_AREA": with_cv2,
        "Pillow box": lambda image: with_pillow(image, BOX),
        "Pillow bilinear": lambda image: with_pillow(image, BILINEAR),
        "Pillow bicubic": lambda image: with_pillow(image, BICUBIC),
    }
    totals = dict.fromkeys(["floor", *resizes, "usual script"], 0.0)
    fidelity: dict[str, list[tuple[float, float]]] = {name: [] for name in resizes}
    for data in photographs:
        image_HWC = images.decode(data).image_HWC
        small_HWC = resize(image_HWC)
        calls: dict[str, Callable[[], object]] = {
            "floor": lambda d=data, s=small_HWC: (simplejpeg.decode_jpeg(d), images.encode(s, QUALITY)),
            "usual script": lambda d=data: usual_script(d),
        }
        for name, variant in resizes.items():
            calls[name] = lambda d=data, v=variant: images.encode(v(images.decode(d).image_HWC), QUALITY)
        times = [{name: seconds(call) for name, call in calls.items()} for _ in range(ROUNDS)]
        for name in calls:
            totals[name] += min(one[name] for one in times)
        references = exact_area(image_HWC), exact_lanczos(image_HWC)
        for name, variant in resizes.items():
            fidelity[name].append(tuple(psnr(variant(image_HWC), reference) for reference in references))
    floor = totals["floor"] / len(photographs)
    print(f"one core, {len(photographs)} photographs; floor {floor * 1e6:.0f} us an image")
    for name, total in sorted(totals.items(), key=lambda item: item[1]):
        area, lanczos = np.mean(fidelity[name], axis=0) if name in fidelity else (np.nan, np.nan)
        print(f"  {total / totals['floor']:5.2f} x floor   PSNR area {area:5.1f}  lanczos {lanczos:5.1f} dB   {name}")
    return floor, totals["ingest: sparse area average"] / len(photographs)


def write_plan(photographs: list[bytes], folder: Path, base_uri: str, num_images: int) -> None:
    """Write one flat file of all photographs, and a plan that cuts `num_images` references to it into shards."""
    offsets = [0, *itertools.accumulate(len(data) for data in photographs)]
    (folder / archives.TRAIN_TAR).write_bytes(b"".join(photographs))
    spans = [(offsets[k % len(photographs)], len(photographs[k % len(photographs)])) for k in range(num_images)]
    table = tables.make([f"n1_{k}.JPEG" for k in range(num_images)], 1, archives.TARS.index(archives.TRAIN_TAR), spans)
    parts = [
        plan.Part(records.shard_name("train", k, NUM_TASKS), np.arange(k, num_images, NUM_TASKS))
        for k in range(NUM_TASKS)
    ]
    plan.write(parts, table, base_uri)


def write_plainly(work: tuple[list[str], shards.Settings]) -> None:
    """Write shards in a loop, without Beam."""
    for name in work[0]:
        shards.write_shard(name, work[1])


def compare_drivers(photographs: list[bytes], num_images: int) -> float:
    """Print Beam's share and the gain of two workers; return the seconds an image of one plain process."""
    with tempfile.TemporaryDirectory() as scratch, Path(os.devnull).open("w") as quiet:
        fresh, tasks = itertools.count(), [records.shard_name("train", k, NUM_TASKS) for k in range(NUM_TASKS)]

        def settings() -> shards.Settings:
            base_uri = f"{scratch}/{next(fresh)}"
            write_plan(photographs, Path(scratch), base_uri, num_images)
            return shards.Settings(scratch, base_uri, QUALITY, {1: "n1"}, {1: 0})

        def beam(num_workers: int, some: list[str]) -> float:
            mode = "multi_threading" if num_workers > 1 else "in_memory"
            options = f"--direct_running_mode={mode} --direct_num_workers={num_workers}"
            log, place = RunLog("benchmark", quiet), settings()
            engine = engines.check("FnApiRunner", options)
            return seconds(lambda: shards.write_all(some, num_images, place, engine, log))

        beam(2, tasks[:2])  # what Beam does only once
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(write_plainly, [([], settings())] * 2)
            times: list[tuple[float, ...]] = []
            for _ in range(3):
                place = settings()
                halves = [(tasks[k::2], place) for k in range(2)]
                two = seconds(lambda halves=halves: pool.map(write_plainly, halves, chunksize=1))
                fresh_place = settings()
                one = seconds(lambda place=fresh_place: write_plainly((tasks, place)))
                times.append((one, two, *(beam(n, some) for n in (1, 2) for some in (tasks[:2], tasks))))
    one, two, few_1, all_1, few_2, all_2 = (min(column) for column in zip(*times, strict=True))
    rest = (NUM_TASKS - 2) / NUM_TASKS  # by the difference of two sizes, so without the start-up
    print(f"{num_images} images, {len(os.sched_getaffinity(0))} cores, read, decoded, resized, encoded, written")
    print(f"  rate of Beam's two workers over two plain processes: {rest * two / (all_2 - few_2):.2f}")
    print(f"  one Beam worker over one plain process: {rest * one / (all_1 - few_1):.2f}")
    print(f"  Beam's start-up, stated apart: {few_1 - (all_1 - few_1) / rest * (1 - rest):.2f} s")
    print(f"  two plain processes over one: {one / two:.2f} (2.00 when this run has both cores for itself)")
    return one / num_images


def main() -> None:
    """Print all ratios and the cost of the full release."""
    prepare_process()
    photographs = read_photographs(Path(sys.argv[1]))
    num_images = int(sys.argv[2]) if len(sys.argv) > 2 else 800
    floor, functions = compare_variants(photographs[:100])
    whole = compare_drivers(photographs, num_images)
    print(f"  whole job over floor, one process: {whole / floor:.2f} (its functions alone {functions / floor:.2f})")
    print(f"peak memory of this process, two workers and all photographs: {_peak_mb():.0f} MB")
    core_hours = RELEASE_IMAGES * whole / 3600
    read_gb = RELEASE_IMAGES * statistics.mean(map(len, photographs)) / 1e9
    stored = [len(images.encode(resize(images.decode(data).image_HWC), QUALITY)) for data in photographs]
    print(
        f"the full release, {RELEASE_IMAGES:,} images: {core_hours:.2f} core-hours, {read_gb:.0f} GB read, "
        f"{RELEASE_IMAGES * statistics.mean(stored) / 1e9:.0f} GB written; minutes on N cores: "
        + ", ".join(f"{n}: {60 * core_hours / n:.1f}" for n in (1, 2, 8, 32, 128))
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
