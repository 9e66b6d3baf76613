"""The index of a release in an object store: time, requests and bytes at several latencies, and when it is kept.

    python -m benchmarks.index FOLDER [gs|s3] [LATENCY_MS ...]

FOLDER is what `benchmarks.release` wrote; with GAP_BYTES its images are holes, so that a few gigabytes cost no disk. A
server of its own process here answers as Google Cloud Storage or S3 does, each request after the latency. The
time for the whole release is that of its bytes: images a block, and so requests and their waits, go with the bytes.
"""

import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from components.ingest import archives, devkit, index
from components.shared import runlog, storage
from components.shared.storage import registry

RELEASE_BYTES = 146e9  # 124 GB of training images, 22 GB of validation and test
LATENCIES_MS = [0, 30, 100]
CREATED = "2010-01-01T00:00:00Z"


class Store(BaseHTTPRequestHandler):
    """Lists a folder and serves ranges of its files."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path
    latency: float
    counted: Any  # requests for content, and their bytes, of all processes

    def do_GET(self) -> None:
        """Answer one request."""
        time.sleep(self.latency)
        path = unquote(urlsplit(self.path).path)
        in_s3, name = path.startswith("/bucket"), path.partition("r/")[2]
        if not name:
            return self._send(200, self._list(in_s3))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        with (self.folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, last = (int(found[1]), min(int(found[2]), size - 1)) if found else (0, size - 1)
            data = os.pread(file.fileno(), last + 1 - first, first)
        with self.counted:
            self.counted[0] += 1
            self.counted[1] += len(data)
        self._send(206 if found else 200, data, f"bytes {first}-{last}/{size}")

    def _list(self, in_s3: bool) -> bytes:
        sizes = {f"r/{file.name}": file.stat().st_size for file in sorted(self.folder.iterdir())}
        if not in_s3:
            items = [
                {"name": name, "size": str(size), "generation": "1", "updated": CREATED} for name, size in sizes.items()
            ]
            return json.dumps({"items": items}).encode()
        items = "".join(
            f'<Contents><Key>{name}</Key><LastModified>{CREATED}</LastModified><ETag>"1"</ETag><Size>{size}</Size></Contents>'
            for name, size in sizes.items()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()

    def _send(self, status: int, data: bytes, content_range: str = "") -> None:
        self.send_response_only(status)
        if content_range:
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path, latency: float, counted: Any, told: Connection) -> None:
    """Serve until the process is ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Store,), dict(locals())))
    server.daemon_threads = True
    told.send(server.server_address[1])
    server.serve_forever()


def measure(folder: Path, scheme: str, latency: float, scratch: Path) -> None:
    """Print a line for the index as it is made, and one for it as it is found."""
    ours, theirs = multiprocessing.Pipe()
    counted = multiprocessing.Array("q", 2)
    server = multiprocessing.Process(target=serve, args=(folder, latency, counted, theirs), daemon=True)
    server.start()
    os.environ["STORAGE_EMULATOR_HOST"] = os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{ours.recv()}"
    registry.forget()
    release = f"{scheme}://bucket/r"
    kit, quiet = devkit.read(release), runlog.RunLog("benchmark", (scratch / "log").open("w"))
    tars = {
        entry.name: archives.Tar(storage.join(release, entry.name), 0, entry.num_bytes)
        for entry in storage.list_files(release)
        if entry.name in archives.TARS
    }
    total = sum(tar.end for tar in tars.values())
    place = str(scratch / f"index-{latency}")
    for what in ("made", "found"):
        counted[:] = [0, 0]
        start, cpu = time.perf_counter(), time.process_time()
        splits = index.of_release(place, tars, kit, "auto", quiet)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        line = (
            f"{latency * 1000:4.0f} ms, {what}: {seconds:6.2f} s, {cpu:5.2f} s of processor, {counted[0]:,} requests, "
        )
        line += f"{counted[1] / 1e9:.2f} of {total / 1e9:.2f} GB, {sum(map(len, splits.values())):,} images"
        if what == "made":
            line += f"; {RELEASE_BYTES / 1e9:.0f} GB: {seconds / total * RELEASE_BYTES / 60:.1f} minutes"
        print(line, flush=True)
    server.terminate()
    server.join()


def main() -> None:
    """Print a table."""
    folder, *rest = sys.argv[1:]
    scheme = rest.pop(0) if rest[:1] in (["gs"], ["s3"]) else "gs"
    latencies = [int(text) for text in rest] or LATENCIES_MS
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory() as scratch:
        for latency in latencies:
            measure(Path(folder), scheme, latency / 1000, Path(scratch))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
