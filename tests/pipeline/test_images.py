"""Image references, and what is said where no engine answers."""

import json
import re
import shutil
import tomllib

import pytest
from conftest import PROJECT_DIR, alexnet

from pipeline import components, images
from pipeline.components import COMPONENTS, STAGES
from pipeline.spec import ir


def test_every_list_of_the_components_is_the_one_list():
    text = (PROJECT_DIR / "docker" / "Dockerfile").read_text()
    assert set(re.findall(r"^FROM base AS (\S+)$", text, re.M)) == set(STAGES)
    groups = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["dependency-groups"]
    assert set(STAGES) <= groups.keys()
    (line,) = re.findall(r"^GROUPS := (.*)$", (PROJECT_DIR / "Makefile").read_text(), re.M)
    assert set(STAGES) <= set(line.split())
    assert all((PROJECT_DIR / "requirements" / f"{stage}.txt").is_file() for stage in STAGES)
    rooms = {path.parent.name for path in (PROJECT_DIR / "components").glob("*/contract.py")}
    assert rooms - {"shared"} == COMPONENTS.keys()
    assert [name for name, component in COMPONENTS.items() if name != component.contract.NAME] == []


def test_a_template_is_part_of_what_an_image_holds(tmp_path, monkeypatch):
    for folder in ("components/shared", "components/train", "requirements"):
        shutil.copytree(PROJECT_DIR / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = components.code_digest("train")
    monkeypatch.setattr(components, "SOURCE_DIR", tmp_path)
    assert components.code_digest("train") == before
    with (tmp_path / "components" / "shared" / "templates" / "style.css").open("a") as file:
        file.write("/* other */")
    assert components.code_digest("train") != before


def test_the_cluster_trains_with_the_gpu_image_and_a_laptop_without():
    named = {task.name: task.image for task in ir.load().tasks}
    assert named["train"] == images.image("train-gpu")
    assert images.without_gpus(named["train"]) == images.image("train")
    assert images.without_gpus(named["evaluate"]) == images.image("evaluate")
    assert images.without_gpus(named["ingest"]) == named["ingest"]
    by_digest = "registry.example.org/me/alexnet/train-gpu@sha256:" + "0" * 64
    assert images.without_gpus(by_digest) == images.image("train")


def test_a_digest_takes_the_place_of_a_tag(tmp_path, monkeypatch):
    digests = {"train-gpu": "registry.example.org/alexnet/train-gpu@sha256:" + "0" * 64}
    (tmp_path / "images.json").write_text(json.dumps(digests))
    monkeypatch.setattr(images, "DIGESTS_PATH", tmp_path / "images.json")
    assert images.image("train-gpu") == digests["train-gpu"]
    assert images.image("train") == images.tag("train")


def test_a_registry_is_part_of_the_tag(monkeypatch):
    monkeypatch.setenv("ALEXNET_REGISTRY", "registry.example.org/me")
    assert images.tag("ingest") == f"registry.example.org/me/alexnet/ingest:{images.version()}"


@pytest.mark.slow
def test_an_unknown_image_is_a_usage_error():
    done = alexnet("images", "build", "trian")
    assert done.returncode == 2
    assert "train-gpu" in done.stderr


@pytest.mark.slow
def test_no_engine_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "x").write_text("")
    arguments = ["run", "--runner", "docker", "--release", tmp_path / "release", "--root", tmp_path / "root"]
    for words in (arguments, ["images", "build", "sample"], ["images", "sbom", "sample"]):
        done = alexnet(*words)
        assert done.returncode == 1
        assert "no docker engine answers" in done.stderr.splitlines()[-1]
