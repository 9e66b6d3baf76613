"""Components and the whole pipeline in containers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import PROJECT_DIR, alexnet
from containers import CPU_STAGES, docker, need
from kfp import compiler, dsl

from pipeline.components import COMPONENTS
from pipeline.console import Console
from pipeline.graph import reference
from pipeline.local.engine import DockerEngine
from pipeline.local.runner import TaskFailed, new_run, run_pipeline
from pipeline.spec import ir

pytestmark = pytest.mark.docker
SMOKE = ("--json", "--param", "recipe=smoke", "--param", "num_epochs=2")
CALLER = 12345  # who runs docker in these tests, when root can become somebody else


def single(folder, image, command):
    """A pipeline of one task with one output, in an image."""

    @dsl.container_component
    def script(out: dsl.Output[dsl.Artifact]):
        return dsl.ContainerSpec(image=image, command=["sh", "-c"], args=[command, "sh", out.path])

    @dsl.pipeline(name="single")
    def pipeline():
        script()

    compiler.Compiler().compile(pipeline, str(folder / "pipeline.yaml"))
    return ir.load(folder / "pipeline.yaml")


# ---- one component ----


@pytest.mark.parametrize(
    ("stage", "flags", "code", "message"),
    [
        ("statistics", ["--datset", "x"], 2, "--datset"),
        ("statistics", ["--dataset", "/nothing.json"], 69, "/nothing.json"),
        ("statistics", ["--dataset", "/etc/hostname"], 65, "not a manifest"),
        ("train", ["--gpus", "2"], 2, "asked for 2, found 0"),
    ],
)
def test_exit_codes_are_kept(stage, flags, code, message):
    contract = COMPONENTS[stage].contract
    required = [f.flag for f in reference.fields(contract) if f.required and f.flag not in flags]
    words = [word for flag in required for word in (flag, f"/tmp/{flag}")]
    done = docker("run", "--rm", "--network", "none", need(stage), *words, *flags)
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_missing_gpus_are_refused_before_anything_slow_is_imported():
    words = [w for f in reference.fields(COMPONENTS["train"].contract) if f.required for w in (f.flag, "/tmp/x")]
    python = ["--entrypoint", "python", need("train"), "-X", "importtime", "-m", "components.train"]
    done = docker("run", "--rm", "--network", "none", *python, *words, "--gpus", "2")
    assert done.returncode == 2, done.stderr
    assert "asked for 2, found 0" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "components.train.contract" in imported
    assert imported.isdisjoint({"tensorflow", "keras", "numpy"})


def documented_line(name, data_dir, *more):
    """The docker line of a component in the reference, with another folder for /data, as a shell would run it."""
    text = (reference.FOLDER / "components.md").read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    line = re.search(r"```sh\n(docker run .*?)\n```", text, re.DOTALL).group(1)
    assert "-v /data:/data" in line
    line = line.replace("-v /data:/data", f"-v {data_dir}:/data --network none --read-only --tmpfs /tmp --cap-drop ALL")
    return " ".join([line, *more])


@pytest.mark.slow
def test_the_lines_of_the_reference_work_one_after_another(tmp_path):
    extra = {
        "sample": ("--classes", "4", "--images-per-class", "24"),
        "train": ("--recipe", "smoke", "--num-epochs", "1"),
    }
    for stage in ("sample", "ingest", "statistics", "train", "evaluate", "outcome"):
        need(stage)
        line = documented_line(stage, tmp_path, *extra.get(stage, ()))
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    metrics = json.loads((tmp_path / "evaluate" / "metrics.json").read_text())
    assert 0 <= metrics["top1_error"] <= 1
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {os.getuid()}


@pytest.mark.slow
def test_docker_stop_ends_training_with_75_and_the_same_line_goes_on(docker_run, tmp_path):
    result, _, _ = docker_run
    folder = Path(result["run_dir"])
    image = need("train")

    def start(name):
        words = [
            "python",
            "-m",
            "components.train",
            "--recipe",
            "smoke",
            "--num-epochs",
            "3",
            "--checkpoint-minutes",
            "0",
        ]
        words += ["--dataset", folder / "ingest" / "dataset.json"]
        words += ["--statistics", folder / "statistics" / "statistics.json", "--root-uri", tmp_path / "root"]
        words += [w for n in ("model", "metrics", "report") for w in (f"--{n}", tmp_path / f"{n}.out")]
        mounts = ["-v", f"{tmp_path}:{tmp_path}", "-v", f"{folder.parents[1]}:{folder.parents[1]}:ro"]
        done = docker(
            "run", "-d", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}", *mounts, image, *words[3:]
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = start("first")
    deadline = time.monotonic() + 120
    while '"epoch"' not in docker("logs", first).stderr and time.monotonic() < deadline:
        time.sleep(0.3)
    docker("stop", "--time", "60", first)
    assert docker("wait", first).stdout.strip() == "75", docker("logs", first).stderr
    assert not (tmp_path / "model.out").exists()
    second = start("second")
    assert docker("wait", second).stdout.strip() == "0", docker("logs", second).stderr
    assert "resum" in docker("logs", second).stderr
    assert json.loads((tmp_path / "model.out").read_text())["content"]["num_epochs"] == 3
    docker("rm", first, second)


# ---- the engine ----


@pytest.mark.slow
def test_a_fast_failure_is_a_failure_100_times(tmp_path):
    pipeline = single(tmp_path, need("sample"), "exit 7")
    engine = DockerEngine({tmp_path: True}, "none")
    failures = 0
    for _ in range(100):
        with pytest.raises(TaskFailed, match="script failed with exit code 7"):
            run_pipeline(pipeline, new_run(tmp_path, {}), engine, None, Console())
        failures += 1
    assert failures == 100


def test_what_the_engine_cannot_start_is_a_failure_that_says_so(tmp_path):
    pipeline = single(tmp_path, need("sample"), "true")
    with pytest.raises(TaskFailed, match="did not write out"):
        run_pipeline(pipeline, new_run(tmp_path, {}), DockerEngine({tmp_path: True}, "none"), None, Console())
    done = alexnet("rerun", max((tmp_path / "runs").glob("*/script/task.json")), "--image", "alexnet/nothing:0")
    assert done.returncode == 2
    assert "alexnet/nothing:0: no such image" in done.stderr


def test_a_task_may_write_to_its_root_and_tmp_only(tmp_path):
    script = 'echo x > "$1"; echo x > /tmp/x; for p in /app /venv /readonly; do echo x > $p/x && exit 9; done; exit 0'
    pipeline = single(tmp_path, need("sample"), script.replace("/readonly", str(tmp_path / "other")))
    (tmp_path / "other").mkdir()
    (tmp_path / "home").mkdir()
    engine = DockerEngine({tmp_path / "home": True, tmp_path / "other": False}, "none")
    this = new_run(tmp_path / "home", {})
    run_pipeline(pipeline, this, engine, None, Console())
    assert Path(this.outputs["script"]["out"]["path"]).stat().st_uid == os.getuid()


def test_ctrl_c_stops_the_container_in_order(tmp_path):
    script = 'cd $(dirname $1); trap "touch saved; exit 75" TERM; touch started; while :; do sleep 0.1; done'
    single(tmp_path, need("sample"), script)
    driver = (
        "import sys; from pathlib import Path; from pipeline.spec import ir; from pipeline.console import Console; "
        "from pipeline.local.engine import DockerEngine; from pipeline.local.runner import new_run, run_pipeline; "
        "home = Path(sys.argv[1]); engine = DockerEngine({home: True}, 'none'); "
        "run_pipeline(ir.load(home / 'pipeline.yaml'), new_run(home, {}), engine, None, Console())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver, tmp_path], stderr=subprocess.PIPE, text=True, cwd=PROJECT_DIR
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/script/started")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "Interrupted" in stderr
    assert list(tmp_path.glob("runs/*/script/saved"))
    assert docker("ps", "-aq", "--filter", f"volume={tmp_path}").stdout == ""


# ---- the whole pipeline ----


@pytest.fixture(scope="session")
def docker_run(sample_release):
    """`alexnet run --runner docker` by somebody who is not root: (result of --json, root, uid)."""
    for stage in CPU_STAGES:
        need(stage)
    home = Path(tempfile.mkdtemp(prefix="alexnet-docker-"))
    shutil.copytree(sample_release, home / "release")
    words, uid = [], os.getuid()
    if uid == 0:
        socket_gid = Path("/var/run/docker.sock").stat().st_gid
        uid = CALLER
        words = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--groups", str(socket_gid)]
        os.chown(home, uid, uid)
    command = [sys.executable, "-m", "pipeline.commands.alexnet", "run", "--runner", "docker", *SMOKE]
    command += ["--release", home / "release", "--root", home / "root"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_DIR), "HOME": str(home)}
    done = subprocess.run(
        [*words, *map(str, command)], capture_output=True, text=True, cwd=home, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout), home / "root", uid
    shutil.rmtree(home)


@pytest.mark.slow
def test_outputs_belong_to_the_caller(docker_run):
    _, root, uid = docker_run
    assert {(path.stat().st_uid, path.stat().st_gid) for path in root.rglob("*")} == {
        (uid, uid if uid == CALLER else os.getgid())
    }


@pytest.mark.slow
def test_containers_make_what_processes_make(docker_run, finished_run):
    for name in ("dataset", "statistics", "model"):
        contained, plain = (json.loads(Path(result[name]).read_text()) for result in (docker_run[0], finished_run[0]))
        assert contained["digest"] == plain["digest"], name
    for name in ("top1_error", "top5_error", "top1_error_center", "top5_error_center"):
        assert docker_run[0]["metrics"][name] == finished_run[0]["metrics"][name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "parameter", "expected"),
    [
        ("statistics", (), "output statistics: the same"),
        ("evaluate", ("--param", "split=validation"), "parameter split: test -> validation"),
        ("train", ("--param", "seed=1"), "parameter seed: 0 -> 1"),
    ],
)
def test_a_rerun_uses_the_same_image_and_says_what_differs(docker_run, task, parameter, expected):
    result, root, _ = docker_run
    before = {path: path.read_bytes() for path in Path(result["run_dir"]).rglob("*") if path.is_file()}
    done = alexnet("rerun", Path(result["run_dir"]) / task / "task.json", "--root", root.parent / "again", *parameter)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert "code: the same, image sha256:" in done.stdout
    assert ("differs" in done.stdout) == bool(parameter)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_gpus_that_the_engine_does_not_have_are_refused(docker_run):
    result, root, _ = docker_run
    if "nvidia" in docker("info", "--format", "{{.Runtimes}}").stdout:
        pytest.skip("this engine has GPUs to give")
    done = alexnet("rerun", result["run_id"], "train", "--root", root, "--gpus", "2")
    assert done.returncode == 1
    assert "gpus=0 uses the CPU" in done.stderr


@pytest.mark.slow
def test_a_shell_has_everything_mounted(docker_run):
    result, root, _ = docker_run
    arguments = ["rerun", result["run_id"], "evaluate", "--root", root, "--shell"]
    dataset = Path(result["dataset"])
    asked = f"id -u; ls {dataset.parent}; echo x > {dataset.parent}/x || echo read-only; exit 3"
    done = alexnet(*arguments, input=asked)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[0] == str(os.getuid())
    assert "dataset.json" in done.stdout
    assert "read-only" in done.stdout
    assert "python -m components.evaluate" in done.stderr
