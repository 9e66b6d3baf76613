"""Where the command of a task runs: a process of this interpreter, or a container of the component's image.

Both keep what the command prints in a log file, show its progress, report its true exit code, and on SIGINT or
SIGTERM ask it to save and end before they kill it.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from components.shared import settings, storage
from components.shared.errors import Interrupted, UsageError
from pipeline import images
from pipeline.components import SOURCE_DIR, code_digest
from pipeline.console import Console
from pipeline.spec.ir import Task

GRACE_SECONDS = 60


class Engine(Protocol):
    """Runs the commands of tasks."""

    def identity(self, task: Task) -> str:
        """Return what the cache knows a task's code by."""
        ...

    def execute(self, task: Task, words: list[str], log_path: Path, console: Console, gpus: int) -> tuple[int, str]:
        """Run a task's command; `gpus` are how many it may use.

        Returns:
            Exit code and the message of the last error that it logged.

        Raises:
            Interrupted: SIGINT or SIGTERM came, and the command was stopped.
        """
        ...


def follow(name: str, lines: Iterable[bytes], log_path: Path, console: Console) -> str:
    """Copy a command's output to its log and to the console.

    Returns:
        The message of the last error that it logged.
    """
    last_error = ""
    with contextlib.ExitStack() as stack:
        with storage.disk_errors(str(log_path)):
            log = stack.enter_context(log_path.open("wb", buffering=0))
        for raw in lines:
            with storage.disk_errors(str(log_path)):
                log.write(raw)
            entry = console.entry(name, raw.decode(errors="replace"))
            if entry and entry["level"] == "error":
                last_error = entry["message"]
    return last_error


def _stopped(name: str) -> Interrupted:
    return Interrupted(f"{name}: stopped. The same command goes on from what is finished")


class ProcessEngine:
    """One process of this interpreter per task."""

    def identity(self, task: Task) -> str:
        return code_digest(task.component)

    def execute(self, task: Task, words: list[str], log_path: Path, console: Console, gpus: int) -> tuple[int, str]:
        return self.call(task.name, words, log_path, console)

    def call(self, name: str, words: list[str], log_path: Path, console: Console) -> tuple[int, str]:
        """Run any command; `python` is this interpreter. Returns and raises as `execute`."""
        words = [sys.executable if word == "python" else word for word in words]
        environment = {**os.environ, settings.LOG.name: "json", "PYTHONUNBUFFERED": "1"}
        storage.make_parent(log_path)  # the task may write beside its log at once
        # A session of its own: Ctrl-C reaches this process only, which then ends the task in order.
        with subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=SOURCE_DIR,
            start_new_session=True,
        ) as process:
            try:
                last_error = follow(name, process.stdout or (), log_path, console)
                return process.wait(), last_error
            except KeyboardInterrupt:
                self._stop(process, console, name)
                raise _stopped(name) from None

    def _stop(self, process: subprocess.Popen[bytes], console: Console, name: str) -> None:
        """Terminate the process group; kill it if it does not end, or at a second interrupt."""
        console.line(f"{name:<12} stopping; once more to kill it")
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(GRACE_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class DockerEngine:
    """One container per task, of the image that the task names, as this user, on a read-only disk.

    Args:
        mounts: folders and files that the tasks see under the same path, and whether they may write there.
        network: docker network mode; `none` when all data is local.
    """

    def __init__(self, mounts: dict[Path, bool], network: str) -> None:
        self._client = images.client()
        self._network = network
        self._user = f"{os.getuid()}:{os.getgid()}"
        passed = {v: os.environ[v.name] for v in settings.VARIABLES if v.in_containers and v.name in os.environ}
        self._environment = {settings.LOG.name: "json"} | {v.name: value for v, value in passed.items()}
        keys = [Path(value) for v, value in passed.items() if v.is_file]
        self._mounts = dict.fromkeys(keys, False) | mounts

    def identity(self, task: Task) -> str:
        from docker.errors import ImageNotFound

        try:
            return str(self._client.images.get(task.image).id)
        except ImageNotFound:
            raise UsageError(
                f"{task.image}: no such image here. Build it with `alexnet images build`, or name another one"
            ) from None

    def shell(self, task: Task, words: list[str], gpus: int) -> int:
        """Open a shell in a task's container, everything mounted; the task's own command is printed first.

        Returns:
            The exit code of the shell.
        """
        options = ["--platform", images.PLATFORM, "--user", self._user, "--network", self._network, "--cap-drop", "ALL"]
        for path, writable in self._mounts.items():
            options += ["--mount", f"type=bind,source={path},target={path}" + ("" if writable else ",readonly")]
        for name in self._environment:
            options += ["--env", name]  # without its value, which may be secret
        options += ["--gpus", str(gpus)] if gpus else []
        options += ["--tty"] if sys.stdin.isatty() else []
        sys.stderr.write(f"the task's command: {shlex.join(words)}\n")
        sys.stderr.flush()
        command = ["docker", "run", "--rm", "--interactive", *options, "--entrypoint", "sh", task.image]
        return subprocess.call(command, env=os.environ | self._environment)

    def _create(self, task: Task, words: list[str], gpus: int) -> Any:
        from docker import types

        mounts = [
            types.Mount(str(path), str(path), type="bind", read_only=not writable)
            for path, writable in self._mounts.items()
        ]
        # Temporary files on disk rather than in memory: whatever comes from an object store is staged there.
        mounts.append(types.Mount("/tmp", None, type="volume"))
        return self._client.containers.create(
            task.image,
            words[1:],
            entrypoint=words[:1],
            mounts=mounts,
            read_only=True,
            network_mode=self._network,
            platform=images.PLATFORM,
            user=self._user,
            environment=self._environment,
            shm_size="2g",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            device_requests=[types.DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else [],
        )

    def execute(self, task: Task, words: list[str], log_path: Path, console: Console, gpus: int) -> tuple[int, str]:
        with images.engine_errors(task.name):
            storage.make_parent(log_path)
            container = self._create(task, words, gpus)
            try:
                container.start()
                lines = _lines(container.logs(stream=True, follow=True))
                last_error = follow(task.name, lines, log_path, console)
                # The container is kept until its exit code is read: one that is gone tells nothing.
                return int(container.wait()["StatusCode"]), last_error
            except KeyboardInterrupt:
                console.line(f"{task.name:<12} stopping; once more to kill it")
                container.stop(timeout=GRACE_SECONDS)
                storage.write_text(
                    log_path, container.logs().decode(errors="replace")
                )  # with what it said while it ended
                raise _stopped(task.name) from None
            finally:
                container.remove(force=True, v=True)


def _lines(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Cut a stream of chunks into lines."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
