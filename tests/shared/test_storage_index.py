"""How ingest reads the headers of a release that lies in an object store: in few requests, and once."""

import os

import pytest
from fault_proxy import Fault, FaultProxy

from components.ingest import archives, devkit, index
from components.shared import runlog, storage
from components.shared.storage import registry


@pytest.mark.slow
@pytest.mark.parametrize("gs_or_s3", ["gs", "s3"])
def test_the_index_takes_few_requests(gs_or_s3, sample_release, request, monkeypatch, tmp_path):
    store = request.getfixturevalue(f"{gs_or_s3}_store")
    variable = "STORAGE_EMULATOR_HOST" if gs_or_s3 == "gs" else "AWS_ENDPOINT_URL"
    proxy = FaultProxy(os.environ[variable])
    monkeypatch.setenv(variable, proxy.url)
    registry.forget()
    folder = f"{store}/few-requests"
    for path in sample_release.iterdir():
        storage.publish_file(path, f"{folder}/{path.name}")
    proxy.set(Fault("status", match=r"GET .*\.tar(\?|$)", times=0))
    kit, tars = devkit.read(folder), {}
    for entry in storage.list_files(folder):
        if entry.name in archives.TARS:
            tars[entry.name] = archives.Tar(storage.join(folder, entry.name), 0, entry.num_bytes)
    try:
        for _ in range(2):
            index.of_release(str(tmp_path / "index"), tars, kit, "auto", runlog.RunLog("test"))
            # One a class for its header and one for its content, one for each other tar, and the ends.
            assert 4 * 2 + 3 <= len(proxy.seen) <= 4 * 2 + 3 + 2
    finally:
        registry.forget()
        proxy.stop()
