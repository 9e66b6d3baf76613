"""Other engines than the default one: the same job, the same digest."""

import contextlib
import functools
import shutil
import socket
import subprocess
import time

import apache_beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, WorkerOptions
from dask_cluster import PROJECT_DIR, ingest, statistics

from components.ingest import shards
from components.shared import beam, engines, records
from components.shared.errors import UsageError

ENGINES_DIR = PROJECT_DIR / "build" / "engines"  # what is fetched once
FLINK_VERSION = "1.19"


def _bytes(dataset):
    return {name: dataset.stage(name).read_bytes() for name in dataset.files}


@pytest.fixture(scope="module")
def in_process(sample_release, tmp_path_factory):
    return ingest(sample_release, tmp_path_factory.mktemp("in-process"))


def _check_same(found, in_process):
    assert found.digest == in_process.digest
    assert _bytes(found) == _bytes(in_process)
    assert found.base_uri != in_process.base_uri


@pytest.mark.slow
def test_worker_processes(in_process, sample_release, tmp_path):
    options = "--direct_running_mode=multi_processing --direct_num_workers=2"
    _check_same(ingest(sample_release, tmp_path, f"--runner-options={options}"), in_process)


def _fetch(command, result):
    """Fetch an engine through its language's own registry, or skip."""
    if result.exists():
        return result
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here to fetch the engine with")
    ENGINES_DIR.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000, cwd=ENGINES_DIR)
    if done.returncode or not result.exists():
        pytest.skip(f"{command[0]} could not fetch {result.name}: the registry does not have it or is not reached")
    return result


def _free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _server(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
                break
            assert time.monotonic() < deadline and process.poll() is None, "the job server does not start"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a loaded machine builds Go for long
def test_portable_job_server(in_process, sample_release, tmp_path):
    """Beam's Prism, an engine in Go behind the job API that Flink's and Spark's servers speak too."""
    module = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"
    prism = _fetch(["env", f"GOBIN={ENGINES_DIR}", "go", "install", module], ENGINES_DIR / "prism")
    port = _free_port()
    with _server([prism, f"-job_port={port}", "-serve_http=false"], port):
        options = f"--job_endpoint=localhost:{port} --environment_type=LOOPBACK"
        flags = "--runner=PortableRunner", f"--runner-options={options}"
        _check_same(ingest(sample_release, tmp_path, *flags), in_process)
        sums = statistics(tmp_path / "dataset.json", tmp_path, *flags)
    assert sums.digest == statistics(tmp_path / "dataset.json", tmp_path / "in-process").digest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_flink(in_process, sample_release, tmp_path):
    if shutil.which("java") is None:
        pytest.skip("no java here")
    artifact, version = f"beam-runners-flink-{FLINK_VERSION}-job-server", apache_beam.__version__
    command = ["mvn", "--batch-mode", "--quiet", "dependency:copy", f"-DoutputDirectory={ENGINES_DIR}"]
    jar = _fetch(
        [*command, f"-Dartifact=org.apache.beam:{artifact}:{version}"], ENGINES_DIR / f"{artifact}-{version}.jar"
    )
    options = f"--flink_version={FLINK_VERSION} --flink_job_server_jar={jar} --flink_master=[local] --parallelism=2"
    found = ingest(
        sample_release, tmp_path, "--runner=FlinkRunner", f"--runner-options={options} --environment_type=LOOPBACK"
    )
    _check_same(found, in_process)


DATAFLOW = ["--project=a-project", "--region=europe-west4", "--temp_location=gs://bucket/temp", "--dry_run=True"]


def test_dataflow_options_compile():
    """Nothing is submitted, and `--dry_run` keeps the checks off the network."""
    names = [records.shard_name("train", k, 1432) for k in range(1432)]  # of the full release
    settings = shards.Settings("gs://bucket/release", "gs://bucket/root", 95, {1: "n1"}, {1: 0})
    more = ["--max_num_workers=20", "--machine_type=n2-highcpu-4", "--sdk_container_image=a-registry/ingest@sha256:0"]
    work = functools.partial(shards.write_shard, settings=settings)
    engine = engines.check("DataflowRunner", " ".join([*DATAFLOW, *more]))
    pipeline = beam.build(engine.runner, engine.options, shards.STEP, names, work)
    proto = pipeline.to_runner_api()
    assert proto.ByteSize() < 500_000, "the service takes graphs of at most 10 MB"
    shutil.rmtree(pipeline.local_tempdir)  # a pipeline that runs does this itself
    names = {transform.unique_name for transform in proto.components.transforms.values()}
    assert {"write shards: elements", "write shards: spread", "write shards"} <= names
    assert pipeline.options.view_as(GoogleCloudOptions).region == "europe-west4"
    assert pipeline.options.view_as(WorkerOptions).sdk_container_image == "a-registry/ingest@sha256:0"
    assert pipeline.options.view_as(WorkerOptions).max_num_workers == 20
    with pytest.raises(UsageError, match=r"--runner DataflowRunner: .*option: project"):
        engines.check("DataflowRunner", " ".join(DATAFLOW[1:]))
