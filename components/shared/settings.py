"""Every environment variable of the project: its name, its default and what it means.

`docs/reference/environment.md` is made from this list. Nothing else reads the environment.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    help: str
    default: str = ""
    shown: str = ""  # the default in words, where it is not a value
    reader: str = ""  # the library or folder that reads it; empty: the product itself
    in_containers: bool = False  # `alexnet run --runner docker` passes it on
    is_file: bool = False  # it names a file, which a container must see too

    def get(self) -> str:
        """Return its value; the default where it is not set or empty."""
        return os.environ.get(self.name) or self.default


# ---- of this project
LOG = Variable("ALEXNET_LOG", "form of the log: human or json", shown="human on a terminal, else json")
CACHE_GB = Variable("ALEXNET_CACHE_GB", "limit of the cache of remote files, in gigabytes", "100", in_containers=True)
STORAGE_TIMEOUT = Variable(
    "ALEXNET_STORAGE_TIMEOUT",
    "seconds after which a store that stays silent is asked again",
    "60",
    in_containers=True,
)
REGISTRY = Variable("ALEXNET_REGISTRY", "registry and path before alexnet/NAME:VERSION of the images")
SOURCE = Variable("ALEXNET_SOURCE", "label org.opencontainers.image.source of the images")
BASE_IMAGE = Variable("BASE_IMAGE", "base of the images", shown="that of docker/Dockerfile")
IMAGE = Variable("ALEXNET_IMAGE", "image of this pod, for the record of the task; pipeline.yaml sets it")
TERM = Variable("TERM", "with dumb or unknown, plain lines instead of the live table")
# ---- of Kubeflow
ENDPOINT = Variable("KF_PIPELINES_ENDPOINT", "URL of the server: the default of --endpoint")
UI_ENDPOINT = Variable("KF_PIPELINES_UI_ENDPOINT", "URL of the web pages, for links and logs", shown="the endpoint")
TOKEN_PATH = Variable(
    "KF_PIPELINES_SA_TOKEN_PATH",
    "file with a bearer token, read at every request",
    shown="the token that Kubeflow mounts in pods",
)
CERTIFICATES = Variable("SSL_CERT_FILE", "certificates that sign the server's", shown="the system's")
KUBECONFIG = Variable("KUBECONFIG", "files that say which cluster", shown="~/.kube/config")
POD_NAME = Variable("KFP_POD_NAME", "name of this pod; Kubeflow sets it", shown="the host name")
# ---- of the stores
EMULATOR = Variable(
    "STORAGE_EMULATOR_HOST",
    "address of an emulator of Google Cloud Storage; no credentials are used",
    in_containers=True,
)
S3_ENDPOINT = Variable("AWS_ENDPOINT_URL_S3", "URL of another store than AWS; selects path style", in_containers=True)
AWS_ENDPOINT = Variable("AWS_ENDPOINT_URL", "the same, of less weight", in_containers=True)
AWS_REGION = Variable("AWS_REGION", "region of the bucket", shown="AWS's own files", in_containers=True)

VARIABLES = (
    *(LOG, CACHE_GB, STORAGE_TIMEOUT, REGISTRY, SOURCE, BASE_IMAGE, IMAGE, TERM),
    *(ENDPOINT, UI_ENDPOINT, TOKEN_PATH, CERTIFICATES, KUBECONFIG, POD_NAME),
    *(EMULATOR, S3_ENDPOINT, AWS_ENDPOINT, AWS_REGION),
    Variable(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "file with credentials",
        shown="application default credentials",
        reader="google-auth",
        in_containers=True,
        is_file=True,
    ),
    *(
        Variable(name, text, shown="AWS's own", reader="boto3", in_containers=True)
        for name, text in (
            ("AWS_ACCESS_KEY_ID", "credentials"),
            ("AWS_SECRET_ACCESS_KEY", "credentials"),
            ("AWS_SESSION_TOKEN", "credentials"),
            ("AWS_DEFAULT_REGION", "region of the bucket, of less weight than AWS_REGION"),
            ("AWS_PROFILE", "profile in the files below"),
        )
    ),
    *(
        Variable(name, text, shown="AWS's own", reader="boto3", in_containers=True, is_file=True)
        for name, text in (
            ("AWS_CONFIG_FILE", "file with settings"),
            ("AWS_SHARED_CREDENTIALS_FILE", "file with credentials"),
            ("AWS_CA_BUNDLE", "certificates that sign the store's"),
        )
    ),
    # ---- of libraries
    Variable(
        "TMPDIR",
        "folder of temporary files; copies of remote files are in its alexnet-stage/",
        "/tmp",
        reader="Python",
    ),
    Variable("DASK_SCHEDULER_ADDRESS", "the scheduler of --runner DaskRunner", reader="Dask"),
    Variable("TF_CPP_MIN_LOG_LEVEL", "least level of TensorFlow's own messages", "2", reader="TensorFlow"),
    Variable(
        "TF_ENABLE_ONEDNN_OPTS",
        "kernels of TensorFlow, which decide the last bits of numbers",
        shown="TensorFlow's own",
        reader="TensorFlow",
        in_containers=True,
    ),
    Variable(
        "OPENBLAS_CORETYPE",
        "kernels of OpenBLAS, which decide the last bits of numbers",
        shown="OpenBLAS's own",
        reader="OpenBLAS",
        in_containers=True,
    ),
    Variable("ALEXNET_NEEDS_IMAGES", "when set, a container test that would skip fails", reader="tests"),
    Variable("TORCH_PYTHON", "an interpreter with PyTorch", shown="this Python", reader="benchmarks"),
    Variable("PRISM", "Beam's Prism program", reader="benchmarks"),
    Variable("NO_COLOR", "no colours on a terminal, whatever the value", reader="rich"),
)
