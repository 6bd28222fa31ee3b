"""A line to PostgreSQL that can be cut at the worst moment: the server has committed, and nobody is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class LosingLine:
    """Relays connections to the server at `port`. `lose` commits: each goes through, and its line is then cut."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._to_lose = 0
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, commits: int) -> None:
        """Cut the line at the next `commits` of them that write."""
        self._to_lose, self.lost = commits, 0

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        losing = threading.Event()
        back = threading.Thread(target=self._answer, args=(far, near, losing), daemon=True)
        back.start()
        has_written = False
        with suppress(OSError):
            while data := near.recv(2**16):
                has_written |= b"INSERT INTO entries" in data
                if b"COMMIT" in data and has_written and self._to_lose:
                    self._to_lose -= 1
                    losing.set()
                far.sendall(data)
        _end(far)
        back.join()
        near.close()
        far.close()

    def _answer(self, far: socket.socket, near: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(2**16):
                if losing.is_set():  # it is committed
                    self.lost += 1
                    break
                near.sendall(data)
        _end(near)

    def close(self) -> None:
        self._listening.close()


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)  # or whoever is reading it would go on waiting


@contextmanager
def losing_line(port: int) -> Iterator[LosingLine]:
    line = LosingLine(port)
    try:
        yield line
    finally:
        line.close()
