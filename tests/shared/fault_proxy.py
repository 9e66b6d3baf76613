"""A proxy on this machine, in front of an object store, that does what networks and stores do on bad days."""

import http.client
import os
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

RESET_AFTER_BYTES = 1000


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    kind: `status` (answered so by the proxy), `stall` (no answer), `refuse` (reset at once), `lost` (the store does its
    work, its answer is lost), `flip_sent` (one byte of the request differs), and of the answer: `reset` (after some
    bytes), `cut` (the connection ends in the middle), `short` (half of it, in good order), `flip` (one byte differs).
    """

    kind: str
    match: str = ""  # pattern within "METHOD path"
    times: int = 1
    every: int = 1  # of so many requests that match, the last
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FaultProxy:
    """Forwards to a server on this machine; `seen` has the matched requests since `set`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self.set(Fault("status", match="nothing matches", times=0))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def set(self, fault: Fault) -> None:
        with self._lock:
            self._fault, self._left, self.seen = fault, fault.times, []

    def take(self, request: str) -> Fault | None:
        with self._lock:
            if not re.search(self._fault.match, request):
                return None
            self.seen.append(request)
            if len(self.seen) % self._fault.every:
                return None
            self._left -= 1
            return self._fault if self._left >= 0 else None

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.take(f"{self.command} {self.path}")
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            return self._answer(fault.status, fault.headers, fault.body)
        if kind == "stall":
            time.sleep(30)  # the client gives up before
        if kind in ("stall", "refuse"):
            return self._reset()
        if kind == "flip_sent":
            sent = flipped(sent, sent.index(b"PAYLOAD"))
        status, headers, data = self._forward(sent)
        if kind == "lost":
            return self._reset()
        if kind == "flip":
            data = flipped(data, len(data) // 2)
        if kind == "short":
            data = data[: len(data) // 2]
        end = {"reset": RESET_AFTER_BYTES, "cut": len(data) // 2}.get(kind)
        self._answer(status, headers, data, end)
        if kind == "reset":
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=20)
        headers = {name: value for name, value in self.headers.items() if name not in ("Expect", "Connection")}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], data: bytes, end: int | None = None) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        hop = ("content-length", "transfer-encoding", "connection", "date", "server")
        for name, value in headers.items():
            if name.lower() not in hop:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:end])
        self.close_connection = True

    def _reset(self) -> None:
        """Close without a word: with this option the kernel sends a reset instead of the usual end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True
