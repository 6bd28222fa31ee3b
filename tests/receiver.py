"""A real receiver of webhooks that takes them, or fails in the way that the request's path names."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One POST that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(ThreadingHTTPServer):
    """Remembers what arrives; `on_arrival` is called with each before it is answered."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, on_arrival: Callable[[Received], None] = lambda _: None) -> None:
        self.received: list[Received] = []
        self.on_arrival = on_arrival
        self.ending = threading.Event()
        self.sent = 0  # bytes of endless answers
        super().__init__(("127.0.0.1", 0), _Answer)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def wait(self, count: int, seconds: float = 30) -> list[Received]:
        """The first `count` that arrive."""
        until = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < until, f"{len(self.received)} of {count} webhooks arrived in {seconds} s"
            time.sleep(0.01)
        return self.received[:count]

    def handle_error(self, request: object, client_address: object) -> None:
        """A sender that leaves early is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        arrived = Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time())
        self.server.received.append(arrived)
        self.server.on_arrival(arrived)
        match self.path.partition("?")[0].split("/")[1:]:
            case ["status", number]:
                self.answer(int(number))
            case ["later", retry_after]:
                self.answer(429, {"Retry-After": retry_after.replace("_", " ")})
            case ["redirect"]:
                self.answer(302, {"Location": self.server.url("/elsewhere")})
            case ["reset"]:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case ["hang"]:
                self.server.ending.wait(60)
            case ["slow-headers"]:
                self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000)
            case ["slow-body"]:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                self.drip(b"x" * 1000)
            case ["gigabyte"]:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
                with suppress(OSError):
                    while self.server.sent < 2**30:
                        self.server.sent += self.connection.send(bytes(2**16))
            case ["garbage"]:
                self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
            case _:
                self.answer(200)

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def drip(self, data: bytes) -> None:
        with suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                if self.server.ending.wait(0.1):
                    return

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def receiving(
    on_arrival: Callable[[Received], None] = lambda _: None, *, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver that listens on loopback until the block ends."""
    with Receiver(on_arrival) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()
