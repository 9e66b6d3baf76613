"""Which reasons to skip are allowed: any other fails the run, so that none goes unseen."""

import re

import pytest


def allowed_reasons(path):
    """Read the regular expressions, one a line; what follows two spaces and a # is a comment."""
    lines = [re.split(r"(?:^|\s\s)#", line)[0] for line in path.read_text().splitlines()]
    return [re.compile(line.strip()) for line in lines if line.strip()]


class SkipList:
    """A pytest plugin: compares the reason of each skip with those in a file."""

    def __init__(self, path):
        self.path, self.allowed, self.offending = path, allowed_reasons(path), []

    def _look_at(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if not any(pattern.fullmatch(reason) for pattern in self.allowed):
                self.offending.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report):
        self._look_at(report)

    def pytest_collectreport(self, report):
        self._look_at(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        good = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.offending and session.exitstatus in good:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.offending:
            title = f"skipped for reasons that {self.path.name} does not allow"
            terminalreporter.section(title, red=True)
            for line in self.offending:
                terminalreporter.line(line)
