"""A whole fleet for tests: three API processes and four workers on PostgreSQL and S3, behind one address."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.bucket import S3Server
from tests.installation import Installation
from tests.ports import free_port

SERVERS, WORKERS = 3, 4


class Fleet(Installation):
    """Is used as one installation is. Each connection to its address goes to the next API process."""

    def __init__(self, home: Path, database_url: str) -> None:
        self._s3 = S3Server()
        files_url = self._s3.make_bucket("fleet")
        super().__init__(home, workers=0, database_url=database_url, database_connections=8, files_url=files_url)
        self.env |= self._s3.env
        self._processes: list[subprocess.Popen[bytes]] = []
        self._door = socket.create_server(("127.0.0.1", self.port))

    def start(self) -> Fleet:
        """Start everything, and wait until each API process is ready."""
        ports = [free_port() for _ in range(SERVERS)]
        serve = [["serve", "--port", str(port), "--workers", "0", "--sandbox"] for port in ports]
        with self.log.open("ab") as log:
            for arguments in [*serve, *[["worker", "--engine", "animatic"]] * WORKERS]:
                command = [sys.executable, "-m", "mutoscope", *arguments]
                self._processes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))
        until = time.monotonic() + 120
        for port in ports:
            while not _is_ready(port):
                assert time.monotonic() < until, f"an API process did not start:\n{self.log.read_text()}"
                time.sleep(0.1)
        threading.Thread(target=self._open, args=(ports,), daemon=True).start()
        return self

    def _open(self, ports: list[int]) -> None:
        turns = itertools.cycle(ports)
        with suppress(OSError):  # until it is closed
            while True:
                visitor, _ = self._door.accept()
                threading.Thread(target=_connect, args=(visitor, next(turns)), daemon=True).start()

    def outputs(self) -> list[str]:
        return self._s3.names("fleet", "some/prefix/outputs/")

    def close(self) -> None:
        self._door.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(60)
        self._s3.close()
        super().close()


def _connect(visitor: socket.socket, port: int) -> None:
    with visitor, socket.create_connection(("127.0.0.1", port)) as server:
        answering = threading.Thread(target=_pass_on, args=(server, visitor), daemon=True)
        answering.start()
        _pass_on(visitor, server)
        answering.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
