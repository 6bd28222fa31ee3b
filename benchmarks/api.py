"""How many submits and polls one server process answers: SQLite with synchronous=FULL, 32 connections.

    python benchmarks/api.py [--seconds 3] [--connections 32]

`cpu` is what one request costs the server's process: it hardly depends on what else the machine does.

The load comes from a second process that writes prepared requests to plain sockets, so that it costs the machine as
little as it can. Every answer is checked to be a 200. No worker runs: what is measured is accepting and answering.
"""

from __future__ import annotations

import sys

sys.path[0] = sys.path[0].removesuffix("benchmarks")  # where a `platform` lies that is not the standard library's

import argparse
import json
import multiprocessing
import os
import selectors
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.installation import ANIMATIC, Installation

INPUTS = {"prompt": "a cat looks up, slow push in", "images": ["https://example.com/cat.jpg"], "duration": 5}


@dataclass(frozen=True)
class Load:
    """What came of some seconds of load: a latency in ms for each answer, and how many were not a 200."""

    latencies: list[float]
    errors: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


def load(port: int, request: bytes, seconds: float, connections: int, results: multiprocessing.Queue) -> None:
    """Keep `connections` sockets busy with `request` for `seconds`; puts a Load into `results`."""
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    buffers: dict[socket.socket, bytes] = {}
    latencies: list[float] = []
    errors = 0
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        buffers[connection] = b""
        started[connection] = time.perf_counter()
        connection.sendall(request)
    begin = time.perf_counter()
    until = begin + seconds
    while (now := time.perf_counter()) < until:
        for event, _ in selector.select(0.1):
            connection = event.fileobj
            assert isinstance(connection, socket.socket)
            buffers[connection] += connection.recv(65536)
            head, separator, body = buffers[connection].partition(b"\r\n\r\n")
            if not separator:
                continue
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(body) < length:
                continue
            now = time.perf_counter()
            latencies.append((now - started[connection]) * 1000)
            errors += not head.startswith(b"HTTP/1.1 200")
            buffers[connection] = b""
            started[connection] = time.perf_counter()
            connection.sendall(request)
    results.put(Load(latencies, errors, time.perf_counter() - begin))


def put_under_load(port: int, request: bytes, seconds: float, connections: int) -> Load:
    """Load from a process of its own."""
    results: multiprocessing.Queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=load, args=(port, request, seconds, connections, results))
    process.start()
    found: Load = results.get()
    process.join()
    return found


def measure(name: str, installation: Installation, request: bytes, seconds: float, connections: int) -> None:
    spent = cpu_seconds(installation)
    found = put_under_load(installation.port, request, seconds, connections)
    spent = cpu_seconds(installation) - spent
    percentile = statistics.quantiles(found.latencies, n=100)
    print(
        f"{name:<8} {found.rate:8,.0f}/s   p50 {percentile[49]:6.1f} ms   p99 {percentile[98]:6.1f} ms   "
        f"max {max(found.latencies):6.1f} ms   cpu {spent / len(found.latencies) * 1e6:4.0f} µs   errors {found.errors}"
    )


def cpu_seconds(installation: Installation) -> float:
    """What the server's process has used of processors until now, in all."""
    assert installation.process is not None
    fields = Path(f"/proc/{installation.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def http(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def install(home: Path, **settings: object) -> tuple[Installation, str]:
    """A running server, and a key of it: neither refuses anything for being too much."""
    installation = Installation(home, workers=0, max_queued=10**7, max_queued_per_account=10**7, **settings)
    fast = ("--videos-per-minute", "1000000", "--concurrency", "1000000")
    key = installation.run("keys", "create", "load", *fast).stdout.strip()
    return installation.start(), key


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--connections", type=int, default=32)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        installation, key = install(Path(folder, "home"))
        try:
            submit = http("POST", f"/api/v3/{ANIMATIC}", key, json.dumps(INPUTS).encode())
            measure("submit", installation, submit, asked.seconds, asked.connections)
            task = installation.submit(**INPUTS)
            poll = http("GET", f"/api/v3/predictions/{task['id']}/result", installation.key)
            measure("poll", installation, poll, asked.seconds, asked.connections)
        finally:
            installation.close()


if __name__ == "__main__":
    main()
