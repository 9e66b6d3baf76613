"""Requests to a Kubeflow Pipelines server: address, credentials, retries, and errors that say what to do.

The transport is kfp's own generated client. Requests and responses are plain JSON because kfp's
models drop fields. Every request has a timeout; `kfp.Client` sets none.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared import settings, storage
from components.shared.errors import AlexNetError

REQUEST_SECONDS = 60
PATIENCE_SECONDS = 10.0  # how long a failing request is repeated; watching a run has more
TRANSIENT = (408, 429, 500, 502, 503, 504)
CONTEXT_PATH = Path("~/.config/kfp/context.json")  # what `kfp` itself remembers: namespace, cookie, header
HEALTH_FIELDS = {"tag_name", "commit_sha", "multi_user", "apiServerReady"}  # one at least is in every answer to healthz
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"  # where Kubeflow mounts a pod's token for its server


class Unreachable(AlexNetError):
    """The server does not answer, or answers that it cannot at the moment."""

    exit_code = 3


class Refused(AlexNetError):
    """The server answered, and the answer is no.

    Args:
        message: for a person.
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _reason(body: str) -> str:
    """Return the message of an error answer: JSON of the gateway, or whatever a proxy in front of it says."""
    with contextlib.suppress(ValueError):
        content = json.loads(body)
        if isinstance(content, dict):
            return str(content.get("message") or content.get("error_message") or content.get("error") or "")
    if body.lstrip().startswith("<"):  # a web page
        body = " ".join(re.sub(r"<style.*?</style>|<[^>]*>", " ", body, flags=re.DOTALL).split())
    return body.strip().partition("\n")[0][:200]


def _token_source(token: str) -> Callable[[], str]:
    """Return a function for the token: the argument, or a file that is read each time, since the cluster renews it."""
    path = settings.TOKEN_PATH.get()
    if token or not (path or Path(TOKEN_PATH).is_file()):
        return lambda: token
    return lambda: storage.read_text(path or TOKEN_PATH).strip()


@dataclass(frozen=True)
class Health:
    """What a server says of itself."""

    version: str  # such as 2.17.0; empty: it does not say
    multi_user: bool  # its users have a namespace each


class Client:
    """A Kubeflow Pipelines server.

    Args:
        endpoint: its URL.
        ui: URL of its web pages; empty: the same.
        namespace: of the user on a shared server; empty: what the server takes.
        token: bearer token; empty: the one that Kubeflow mounts into pods, where there is one.
        cookies: value of the Cookie header, for servers behind a login page.
    """

    def __init__(self, endpoint: str, ui: str = "", namespace: str = "", token: str = "", cookies: str = "") -> None:
        import kfp_server_api

        self.endpoint = endpoint.rstrip("/")
        self.ui = (ui or self.endpoint).rstrip("/")
        context: dict[str, str] = {}
        if (path := CONTEXT_PATH.expanduser()).is_file():
            context = storage.read_json(str(path))
        self.namespace = namespace or context.get("namespace", "")
        self._token = _token_source(token)
        configuration: Any = kfp_server_api.Configuration(host=self.endpoint)
        configuration.retries = False  # ours are timed and say so; nor is a redirect to a login page followed
        if bundle := settings.CERTIFICATES.get():
            configuration.ssl_ca_cert = bundle
        self._api = kfp_server_api.ApiClient(
            configuration,
            header_name=context.get("client_authentication_header_name"),
            header_value=context.get("client_authentication_header_value"),
            cookie=cookies or context.get("client_authentication_cookie"),
        )

    def link(self, run_id: str) -> str:
        """Return the address of a run's page."""
        return f"{self.ui}/#/runs/details/{run_id}"

    def _refusal(self, status: int, body: str, headers: Any, what: str) -> AlexNetError:
        reason = _reason(body).rstrip(".")
        if status in TRANSIENT:
            return Unreachable(f"{what}: the server answers {status} {reason}. Try again later, or look at its pods")
        if status in (301, 302, 303, 307, 308):
            place = (headers or {}).get("Location", "another page")
            return Refused(
                f"{what}: the server sends to {place}, a login page or another address. "
                "Pass --cookies or --existing-token, or the address without redirects as --endpoint",
                status,
            )
        if status in (401, 403):
            return Refused(
                f"{what}: {status}, not allowed: {reason or 'no reason given'}. "
                "Pass --existing-token or --cookies of a user who may, and the user's --namespace",
                status,
            )
        remedy = ". It has several users: pass the --namespace of yours" if "empty namespace" in reason else ""
        return Refused(f"{what}: the server answers {status}: {reason or 'no reason given'}{remedy}", status)

    def _once(self, method: str, path: str, **options: Any) -> bytes:
        import kfp_server_api
        import urllib3

        token = self._token()
        what = f"{method} {self.endpoint}{path}"
        headers = {"Content-Type": "multipart/form-data" if "files" in options else "application/json"}
        try:
            answer = self._api.call_api(
                path,
                method,
                header_params=headers | ({"Authorization": f"Bearer {token}"} if token else {}),
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=REQUEST_SECONDS,
                **options,
            )
            return answer.data  # type: ignore[union-attr]
        except kfp_server_api.ApiException as error:
            if not error.status:
                raise Unreachable(f"{self.endpoint}: no secure connection: {error.reason}") from error
            body = error.body if isinstance(error.body, str) else (error.body or b"").decode(errors="replace")
            raise self._refusal(error.status, body, error.headers, what) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(
                f"{self.endpoint}: no answer ({error}). Check the address, the port-forward and the VPN"
            ) from error

    def fetch(self, method: str, path: str, patience_seconds: float = PATIENCE_SECONDS, **options: Any) -> bytes:
        """Send a request; reading ones are repeated while the server cannot answer.

        Args:
            method: GET, POST, ...
            path: begins with a slash.
            patience_seconds: how long to repeat.
            options: of `ApiClient.call_api`: body, query_params, files.

        Returns:
            The body of the answer.

        Raises:
            Unreachable: no answer.
            Refused: an answer that says no.
        """
        deadline, pause = time.monotonic() + patience_seconds, 0.25
        while True:
            try:
                return self._once(method, path, **options)
            except Unreachable:
                # A request that makes something is not repeated: it may have been heard.
                if method != "GET" or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def call(self, method: str, path: str, patience_seconds: float = PATIENCE_SECONDS, **options: Any) -> Any:
        """Send a request as `fetch`, and decode the answer."""
        data = self.fetch(method, path, patience_seconds, **options)
        try:
            return json.loads(data)
        except ValueError:
            raise Refused(
                f"{self.endpoint}{path}: the answer is no JSON but {data[:60]!r}. "
                "Is it a login page? Pass --cookies or --existing-token; or is the address another service's?",
                200,
            ) from None

    def healthz(self, patience_seconds: float = 2.0) -> Health:
        """Ask the server for its version; without one that answers, this fails soon.

        The server of the web pages answers this request itself, with other fields, and with 200 also while the API
        server behind it is down.

        Raises:
            Unreachable: no answer, or no API server behind the web pages.
            Refused: the answer is not that of Kubeflow Pipelines.
        """
        path, deadline = "/apis/v2beta1/healthz", time.monotonic() + patience_seconds
        while not (found := self._health(path, max(0.0, deadline - time.monotonic()))).get("apiServerReady", True):
            if time.monotonic() + 0.25 > deadline:
                raise Unreachable(
                    f"{self.endpoint}: the web pages of Kubeflow Pipelines answer, and the API server behind them does "
                    "not. Look at the deployment ml-pipeline in the server's namespace"
                )
            time.sleep(0.25)
        version = found.get("apiServerTagName") or found.get("tag_name") or ""
        return Health(str(version), bool(found.get("multi_user") or found.get("apiServerMultiUser")))

    def _health(self, path: str, patience_seconds: float) -> dict[str, Any]:
        found = self.call("GET", path, patience_seconds)
        if not isinstance(found, dict) or not found.keys() & HEALTH_FIELDS:
            raise Refused(f"{self.endpoint}{path}: the answer is not that of Kubeflow Pipelines: {found!r:.60}", 200)
        return found

    def pages(
        self, path: str, key: str, patience_seconds: float = PATIENCE_SECONDS, **query: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list that the server returns in pages."""
        token = ""
        while True:
            params = [(k, v) for k, v in ({"page_size": 100, "page_token": token} | query).items() if v != ""]
            answer = self.call("GET", path, patience_seconds, query_params=params)
            yield from answer.get(key, [])
            if not (token := answer.get("next_page_token", "")):
                return
