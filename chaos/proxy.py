"""An HTTP proxy before a store that hands every request on, until it is told to fail in one way or another."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("answers 500", "answers 503", "slow", "reset before", "reset after", "refused")
_SLOWEST_SECONDS = 8.0
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")
_FAILED = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We failed. Try again.</Message></Error>"


class Proxy(ThreadingHTTPServer):
    """Stands at `endpoint`. `fault` is one of FAULTS, or empty: all is well. `share` of the requests meet it."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.fault = ""
        self.share = 1.0
        self.met: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.server.fault if random.random() < self.server.share else ""
        if fault:
            self.server.met[fault] += 1
        match fault:
            case "answers 500" | "answers 503":
                self._answer(int(fault[-3:]), {"Content-Type": "application/xml"}, _FAILED)
                return
            case "slow":
                time.sleep(random.uniform(0, _SLOWEST_SECONDS))
            case "reset before" | "refused":
                self._reset()
                return
        store = http.client.HTTPConnection(self.server.target.netloc, timeout=30)
        try:
            store.request(self.command, self.path, body or None, dict(self.headers))
            found = store.getresponse()
            data = found.read()
        finally:
            store.close()
        if fault == "reset after":  # it is done, and nobody is told
            self._reset()
            return
        headers = {name: value for name, value in found.getheaders() if name.lower() not in _HOP_BY_HOP}
        length = found.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(found.status, headers, data, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(len(whole))
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, headers: dict[str, str], data: bytes, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def before(target: str) -> Iterator[Proxy]:
    """A proxy before the store at `target`, until the block ends."""
    with Proxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
