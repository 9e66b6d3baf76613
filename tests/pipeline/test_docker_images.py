"""What the images hold, what they do not hold, and how little they need to run."""

import json
import re
import subprocess
import tarfile

import pytest
from conftest import PROJECT_DIR
from containers import CPU_STAGES, docker, need, python_in
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline import images

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none", "--user", "54321:54321")
HARDENED = (*HARDENED, "--security-opt", "no-new-privileges")
INSTALLERS = ("pip", "pip3", "uv", "easy_install", "apt-get install", "gcc", "cc", "c++", "make")
JPEG = re.compile(rb"\xff\xd8\xff[\xdb\xe0-\xef]")
SECRET = re.compile(
    rb"-----BEGIN (?:RSA |EC |DSA |OPENSSH |ENCRYPTED )?PRIVATE KEY-----\s+[A-Za-z0-9+/]"
    rb"|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|AIza[0-9A-Za-z_-]{35}|xox[baprs]-[0-9A-Za-z-]{10}"
    rb"|://[^/\s:@]{1,64}:[^/\s:@]{1,64}@[a-z]"
)
# What packages publish: full of examples of keys and addresses, and the same for everybody.
PUBLISHED = re.compile(r"/(site|dist)-packages/|/usr/share/doc/|\.so[.\d]*$")
PHOTOGRAPHS = ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",)  # of the US Navy, comes with matplotlib
pytestmark = [pytest.mark.docker, pytest.mark.parametrize("stage", CPU_STAGES)]


def test_help_as_any_user_on_a_read_only_disk(stage):
    done = docker("run", "--rm", *HARDENED, need(stage), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m components.{stage}")


def test_home_is_writable_for_any_user(stage):
    code = "import pathlib; p = pathlib.Path.home() / 'x'; p.write_text('x'); print(p)"
    done = docker("run", "--rm", *HARDENED, "--entrypoint", "python", need(stage), "-c", code)
    assert done.stdout.strip() == "/tmp/x", done.stderr


def test_nothing_can_install_or_compile(stage):
    code = (
        "import importlib.util as u, shutil, subprocess; "
        f"print([name for name in {INSTALLERS} if shutil.which(name)], "
        "[name for name in ('pip', 'ensurepip') if u.find_spec(name)], "
        "[subprocess.call(['/usr/local/bin/python', '-c', f'import {m}'], stderr=-3) for m in ('pip', 'ensurepip')])"
    )
    assert python_in(need(stage), code).strip() == "[] [] [1, 1]"


def test_configuration(stage):
    image = images.client().images.get(need(stage))
    config = image.attrs["Config"]
    environment = dict(item.split("=", 1) for item in config["Env"])
    assert f"{image.attrs['Os']}/{image.attrs['Architecture']}" == images.PLATFORM
    assert config["User"] == "10001:10001"
    assert (environment["PYTHONUNBUFFERED"], environment["HOME"]) == ("1", "/tmp")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}
    assert (labels["title"], labels["version"]) == (f"alexnet/{stage}", images.version())
    assert labels["licenses"] == "Apache-2.0"
    assert {"revision", "source"} <= set(labels)


def test_it_holds_the_shared_room_and_its_own(stage):
    code = "import pathlib; print('\\n'.join(str(p) for p in pathlib.Path('.').rglob('*') if p.is_file()))"
    rooms = [PROJECT_DIR / "components" / name for name in ("shared", stage)]
    sources = [p for room in rooms for p in room.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    expected = {str(p.relative_to(PROJECT_DIR)) for p in sources}
    assert set(python_in(need(stage), code).split()) == expected | {"components/__init__.py"}


def locked(stage):
    """Name and version of every package that a lock gives a Linux machine with the image's Python."""
    python = python_in(need(stage), "import sys; print('%d.%d.%d' % sys.version_info[:3])").strip()
    machine = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": "linux"}
    machine |= {"platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython"}
    machine |= {"platform_python_implementation": "CPython", "os_name": "posix"}
    text = (PROJECT_DIR / "requirements" / f"{stage}.txt").read_text()
    requirements = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match("[a-z0-9]", line)]
    return {
        (canonicalize_name(r.name), next(iter(r.specifier)).version)
        for r in requirements
        if r.marker is None or r.marker.evaluate(machine)
    }


def test_the_sbom_is_the_lock(stage):
    need(stage)
    path = images.write_sbom(stage)
    first = path.read_bytes()
    bom = json.loads(first)
    listed = {
        (canonicalize_name(c["name"]), c["version"]) for c in bom["components"] if c["purl"].startswith("pkg:pypi/")
    }
    assert listed == locked(stage)
    assert [c for c in bom["components"] if c["purl"].startswith("pkg:deb/debian/libc6@")]
    names = {name for name, _ in listed}
    assert "kfp" not in names
    assert ("tensorflow" in names) == (stage in ("statistics", "train", "evaluate"))
    assert ("apache-beam" in names) == (stage in ("ingest", "statistics"))
    assert images.write_sbom(stage).read_bytes() == first
    assert_valid_cyclonedx(path)


def assert_valid_cyclonedx(path):
    validator = PROJECT_DIR / ".venv-lint" / "bin" / "python"
    if not validator.exists():
        return  # `make test` makes it
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import *; "
        "print(JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()))"
    )
    done = subprocess.run([validator, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def layers(image):
    """Yield (name, content) for every file of every layer of an image, also of those deleted later."""
    process = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
        for member in archive:
            if not member.name.endswith(".tar"):
                continue
            with tarfile.open(fileobj=archive.extractfile(member), mode="r|") as layer:
                for entry in layer:
                    if entry.isfile():
                        yield entry.name, layer.extractfile(entry).read()
    assert process.returncode == 0


@pytest.mark.slow
def test_no_layer_holds_image_data_or_secrets(stage):
    """No photograph, archive or record, and no key, outside of what packages publish."""
    found, num_files = [], 0
    for name, data in layers(need(stage)):
        num_files += 1
        published = PUBLISHED.search(name)
        is_data = JPEG.match(data) or name.lower().endswith((".jpeg", ".jpg", ".tfrecord", ".tar"))
        if is_data and not name.endswith(PHOTOGRAPHS):
            found.append(f"image data: {name}")
        if "ILSVRC2010_" in name or re.search(r"n\d{8}_\d+\.JPEG", name) or b"ILSVRC2010_val_0000" in data[:4096]:
            found.append(f"ImageNet: {name}")
        if not published and SECRET.search(data):
            found.append(f"secret: {name}")
    assert num_files > 1000
    assert found == []
    configuration = json.dumps(images.client().images.get(images.tag(stage)).history())
    assert not SECRET.search(configuration.encode())
