"""What Kubeflow's UI shows of a finished run, in its own way: tables, and reports in a sandboxed iframe."""

import http.server
import json
import math
import re
import threading
from pathlib import Path

import pytest
from browser import OVERFLOW, WIDTHS, shown_in_iframe

MAX_REPORT_BYTES = 2_000_000
# Elements that have no size, or pictures that could not be decoded.
NOT_LAID_OUT = """[...document.querySelectorAll("h1, h2, section, table, img")].filter(e =>
    !e.getBoundingClientRect().height || (e.tagName == "IMG" && !(e.complete && e.naturalWidth))
).map(e => e.outerHTML.slice(0, 80))"""


def outputs(run):
    """For each task with outputs: its name, schema title and metadata by artifact, folder."""
    run_dir = Path(run[0]["run_dir"])
    found = {}
    for path in sorted(run_dir.rglob("executor_output.json")):
        written = json.loads(path.read_text())["artifacts"]
        found[path.parent.relative_to(run_dir).as_posix()] = {n: e["artifacts"][0] for n, e in written.items()}
    return found


def titled(artifacts, title):
    return [a for a in artifacts.values() if a["type"]["schemaTitle"] == title]


@pytest.mark.slow
def test_each_task_shows_at_most_one_report_and_one_summary(finished_run):
    tasks = outputs(finished_run).values()
    assert max(len(titled(artifacts, "system.HTML")) for artifacts in tasks) == 1
    assert max(len(titled(artifacts, "system.Markdown")) for artifacts in tasks) == 1
    summaries = [artifact for artifacts in tasks for artifact in titled(artifacts, "system.Markdown")]
    assert len(summaries) >= 3
    for summary in summaries:
        assert 0 < len(Path(summary["uri"]).read_text()) < 400_000  # the UI cuts there


@pytest.mark.slow
def test_metrics_are_flat_and_finite_and_the_matrix_is_small(finished_run):
    tasks = outputs(finished_run)
    assert {"top1_error", "top5_error"} <= tasks["evaluate"]["metrics"]["metadata"].keys()
    for artifacts in tasks.values():
        for artifact in artifacts.values():
            if artifact["type"]["schemaTitle"] == "system.ClassificationMetrics":
                matrix = artifact["metadata"]["confusionMatrix"]
                size = len(matrix["annotationSpecs"])
                assert 2 <= size <= 40
                assert [len(row["row"]) for row in matrix["rows"]] == [size] * size
                continue
            for value in artifact.get("metadata", {}).values():
                assert isinstance(value, str) or (not isinstance(value, bool) and math.isfinite(value))


@pytest.mark.slow
def test_reports_open_in_the_iframe(finished_run, tmp_path):
    tasks = outputs(finished_run)
    reports = {task: titled(artifacts, "system.HTML") for task, artifacts in tasks.items()}
    reports = {task: Path(found[0]["uri"]) for task, found in reports.items() if found}
    assert len(reports) >= 2
    for task, path in reports.items():
        assert path.stat().st_size < MAX_REPORT_BYTES
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", path.read_text())
        assert not re.search(r"https?:|(src|href)=[\"']?//|url\(|@import", text), task
        folder = tmp_path / task.replace("/", "-")
        folder.mkdir()
        with shown_in_iframe(path.read_text(), folder) as shown:
            assert shown.evaluate("origin") == "null"  # sandboxed as in the UI
            assert shown.evaluate(NOT_LAID_OUT) == []
            assert shown.evaluate("document.querySelectorAll('img').length") >= 2
            assert shown.evaluate("document.querySelector('h1').innerText")
            for width in WIDTHS:
                shown.resize(width)
                assert shown.evaluate(OVERFLOW) == 0, (task, width)
            assert shown.errors == []
            assert shown.requests == []


@pytest.mark.slow
def test_a_script_error_in_a_report_is_seen(tmp_path):
    with shown_in_iframe("<h1>Report</h1><script>missing.call()</script>", tmp_path) as shown:
        assert [line.splitlines()[0] for line in shown.errors] == ["ReferenceError: missing is not defined"]


@pytest.mark.slow
def test_the_sandbox_keeps_a_report_from_the_page_around_it(tmp_path):
    with shown_in_iframe("<script>parent.document.title</script>", tmp_path) as shown:
        (error,) = shown.errors
        assert error.startswith("SecurityError")


@pytest.mark.slow
def test_a_report_that_fetches_is_seen(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/logo.png"
        with shown_in_iframe(f'<h1></h1><img src="{url}">', tmp_path) as shown:
            assert shown.requests == [url]
            lost = shown.evaluate(NOT_LAID_OUT)
        server.shutdown()
    assert lost == ["<h1></h1>", f'<img src="{url}">']
