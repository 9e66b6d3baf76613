"""The same ingest on several engines: one digest, and what each takes longer than threads of one process.

    [PRISM=PROGRAM] python -m benchmarks.engines RELEASE FOLDER [ROUNDS]

Each run is a process of its own, from scratch, with two workers; the engines take turns. Dask is the cluster that
`--runner DaskRunner` starts on this machine. PRISM names Beam's engine in Go; `docs/howto/beam-runners.md` says how to
get it.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from components.shared import manifest

ENGINES = {
    "threads": ["--runner-options=--direct_running_mode=multi_threading --direct_num_workers=2"],
    "processes": ["--runner-options=--direct_running_mode=multi_processing --direct_num_workers=2"],
    "Dask": ["--runner=DaskRunner", "--runner-options=--direct_num_workers=2"],
}


def run(release: str, folder: Path, flags: list[str]) -> tuple[float, str]:
    """Run ingest from scratch; return its seconds and the digest of the dataset."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "components.ingest", f"--release-uri={release}", f"--root-uri={folder}/root"]
    command += [f"--dataset={folder}/dataset.json", f"--summary={folder}/ingest.md", *flags]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds, manifest.load(f"{folder}/dataset.json", "dataset").digest


def serve_prism(program: str) -> tuple[subprocess.Popen, list[str]]:
    """Start Prism; return its process and the flags that name it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([program, f"-job_port={port}", "-serve_http=false"], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            break
        time.sleep(0.1)
    options = f"--job_endpoint=localhost:{port} --environment_type=LOOPBACK"
    return process, ["--runner=PortableRunner", f"--runner-options={options}"]


def main() -> None:
    """Print the digests and the times."""
    release, folder, rounds = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["3"])[0])
    engines, server = dict(ENGINES), None
    if program := os.environ.get("PRISM"):
        server, engines["Prism"] = serve_prism(program)
    try:
        found = [{name: run(release, folder, flags) for name, flags in engines.items()} for _ in range(rounds)]
    finally:
        if server:
            server.terminate()
    print(f"{len(os.sched_getaffinity(0))} cores, {release}, medians of {rounds} rounds")
    for name in engines:
        seconds = median(entry[name][0] for entry in found)
        ratio = median(entry[name][0] / entry["threads"][0] for entry in found)
        digests = ", ".join(sorted({entry[name][1][:16] for entry in found}))
        print(f"{name:10} {seconds:6.1f} s, {ratio:.2f} of threads, digest {digests}")


if __name__ == "__main__":
    main()
