"""Retries of requests to object stores: bounded in number and time, each with a warning.

`ALEXNET_STORAGE_TIMEOUT` (seconds, default 60) is how long a store may stay silent before a request is cut; the waits
between tries and the end of all tries follow from it.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from components.shared import runlog, settings
from components.shared.errors import Interrupted, StorageError, UsageError

MAX_TRIES = 6
MAX_TIMEOUTS = 10  # no try begins later than so many timeouts after the first
SETTINGS = "Check the bucket, the endpoint and the settings of the store's own tools"
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)

Result = TypeVar("Result")


class Damaged(Exception):
    """The bytes that were received or stored differ from the expected ones."""


@dataclass(frozen=True)
class Failure:
    """Why a request failed, as the module of its store tells it."""

    reason: str
    remedy: str = "Check the network and the store, then run again"
    is_transient: bool = False
    retry_after: float = 0.0  # seconds, as the store asks for


def timeout_seconds() -> float:
    """Return how long a store may stay silent.

    Raises:
        UsageError: the environment variable is not a positive number.
    """
    text = settings.STORAGE_TIMEOUT.get()
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise UsageError(f"{settings.STORAGE_TIMEOUT.name}: expected seconds above 0, got {text!r}")
    return seconds


def from_status(status: int, reason: str, retry_after: str | None, credentials: str) -> Failure:
    """Judge a request by the HTTP status of its answer.

    Args:
        status: of the answer.
        reason: the store's own message.
        retry_after: the header of this name.
        credentials: what to do when the store refuses who asks.
    """
    if status in RETRIED_STATUSES:
        seconds = retry_after or ""
        return Failure(reason, is_transient=True, retry_after=float(seconds) if seconds.isdecimal() else 0.0)
    if status in (401, 403):
        return Failure(reason, credentials)
    return Failure(reason, "Check the bucket and the name for spelling" if status == 404 else SETTINGS)


def call(what: str, uri: str, request: Callable[[], Result], judge: Callable[[Exception], Failure | None]) -> Result:
    """Make a request; again, after a wait, while its failure is transient. Each try that fails is one warning.

    The wait is random below a bound that doubles with every try (full jitter), but as long as the store asks for.

    Args:
        what: the request, for people: "read", "write".
        uri: what it is about.
        request: makes it once; must be safe to make twice.
        judge: tells a failure of the store; None for any other exception, which is raised as it is.

    Raises:
        StorageError: the failure is not transient, or the tries or the time are used up.
    """
    timeout = timeout_seconds()
    start, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            return request()
        except Exception as error:
            failure = Failure(str(error), is_transient=True) if isinstance(error, Damaged) else judge(error)
            interruption = _interruption(error)
            if interruption:
                raise interruption from None
            if failure is None:
                raise
            # Seconds for seconds: with the default timeout at most 0.6, 1.2, 2.4, 4.8, 9.6, and never over 15.
            bound = min(timeout / 100 * 2 ** (tries - 1), timeout / 4)
            wait = max(random.SystemRandom().uniform(0, bound), min(failure.retry_after, timeout))
            reason = " ".join(failure.reason.split()).rstrip(".")
            late = time.monotonic() + wait - start > MAX_TIMEOUTS * timeout
            if not failure.is_transient or tries == MAX_TRIES or late:
                after = f" after {tries} tries" if tries > 1 else ""
                raise StorageError(f"{uri}: cannot {what}{after}: {reason}. {failure.remedy}") from error
        runlog.RunLog("storage").warning(
            f"{uri}: cannot {what}, trying again: {reason}", tried=tries, wait_seconds=round(wait, 3)
        )
        time.sleep(wait)


def _interruption(error: BaseException | None) -> Interrupted | None:
    """Find the signal that came during a request: botocore takes whatever is raised inside one for its own failure."""
    while error and not isinstance(error, Interrupted):
        error = error.__context__
    return error
