"""Real HTTP servers on loopback: one that counts its visitors, and some that misbehave on the wire."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Canary(ThreadingHTTPServer):
    """Answers every request with `body` and remembers it: (request line's path, headers)."""

    daemon_threads = True

    def __init__(self, host: str, port: int = 0, body: bytes = b"canary") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.body = body
        self.redirects: dict[str, tuple[int, str]] = {}
        self.hits: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        super().__init__((host, port), _Answer)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, object]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor who leaves early is no news."""


class _Answer(BaseHTTPRequestHandler):
    server: Canary

    def do_GET(self) -> None:
        self.server.hits.append((self.path, dict(self.headers)))
        status, location = self.server.redirects.get(self.path, (200, ""))
        if self.path.startswith("/status/"):
            status = int(self.path.rsplit("/", 1)[1])
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Set-Cookie", "tracked=yes")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(
    host: str, port: int = 0, *, body: bytes = b"canary", tls: ssl.SSLContext | None = None
) -> Iterator[Canary]:
    with Canary(host, port, body) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def misbehaving(script: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A server whose every connection `script` answers, once the request has been read; yields its port.

    The event is set when the server is to end.
    """
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                script(connection, ended)

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    connection.settimeout(30)
                    threads.append(threading.Thread(target=answer, args=(connection,)))
                    threads[-1].start()

        threads: list[threading.Thread] = []
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            for thread in (acceptor, *threads):
                thread.join()
