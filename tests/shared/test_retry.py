"""How often, how long and for what a request is made again."""

import json
import time

import pytest

from components.shared import settings
from components.shared.errors import Interrupted, StorageError
from components.shared.storage import retry
from components.shared.storage.retry import Damaged, Failure


class Flaky:
    """A request that fails some times, slowly if asked to."""

    def __init__(self, times: int, error: Exception, seconds: float = 0.0) -> None:
        self.times, self.error, self.seconds, self.tries = times, error, seconds, 0

    def __call__(self) -> str:
        self.tries += 1
        time.sleep(self.seconds)
        if self.tries <= self.times:
            raise self.error
        return "done"


def judge(error: Exception) -> Failure | None:
    return Failure("slow\n down.", is_transient=True, retry_after=30) if isinstance(error, LookupError) else None


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.STORAGE_TIMEOUT.name, "0.05")


def test_each_wait_is_told_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    request = Flaky(retry.MAX_TRIES - 1, Damaged("half of it"))
    assert retry.call("read", "gs://a/b", request, judge) == "done"
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [entry["message"] for entry in told] == ["gs://a/b: cannot read, trying again: half of it"] * 5
    assert all(entry["wait_seconds"] <= 0.05 / 100 * 2**index + 1e-3 for index, entry in enumerate(told))


def test_the_store_may_ask_for_a_longer_wait_but_not_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert retry.call("read", "gs://a/b", Flaky(1, LookupError()), judge) == "done"
    (entry,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (entry["wait_seconds"], entry["message"]) == (0.05, "gs://a/b: cannot read, trying again: slow down")


@pytest.mark.slow
def test_no_try_begins_after_the_deadline() -> None:
    request = Flaky(100, Damaged("half of it"), seconds=0.2)
    with pytest.raises(StorageError, match=r"^gs://a/b: cannot read after 3 tries: half of it\. Check the network"):
        retry.call("read", "gs://a/b", request, judge)
    assert request.tries == 3


def test_what_is_no_failure_of_the_store_is_raised_as_it_is() -> None:
    request = Flaky(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        retry.call("read", "gs://a/b", request, judge)
    assert request.tries == 1


def test_a_signal_inside_a_request_ends_it() -> None:
    def request() -> None:
        try:
            raise Interrupted("stopped")
        except Interrupted as error:
            raise LookupError from error

    with pytest.raises(Interrupted, match="stopped"):
        retry.call("read", "gs://a/b", request, judge)
