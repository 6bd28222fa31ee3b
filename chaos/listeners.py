"""Thousands who wait for news of a task: what they cost, and that each is told its end."""

from __future__ import annotations

import argparse
import resource
import selectors
import socket
import tempfile
import time
from pathlib import Path

from tests.installation import EXAMPLES, Installation

from chaos import report
from chaos.invariants import Findings
from chaos.soak import resident_mb

IDLE_SECONDS = 10.0
_PATIENCE_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--listeners", type=int, default=5000)


def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="mutoscope-chaos-") as folder:
        installation = Installation(Path(folder, "home"), workers=0)
        try:
            found = listen(installation, arguments.listeners)
        finally:
            installation.close()
    what = (
        f"{arguments.listeners:,} connections follow the events of a task that waits, on one server process, "
        f"{IDLE_SECONDS:.0f} s in silence; then it is canceled, and each has to be told."
    )
    report.conclude(arguments, "listeners", "Idle listeners", what, found)
    return not found.broken


def listen(installation: Installation, count: int) -> Findings:
    """So many listeners to one task, whose end each is to hear. The server inherits our limit of open files."""
    found = Findings()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 1000) if most > 0 else count + 1000, most))
    installation.start()
    assert installation.process is not None
    pid = installation.process.pid
    image = installation.upload(EXAMPLES / "chelsea.jpg")
    task = installation.submit(prompt="a cat", images=[image])
    before = resident_mb(pid)
    asked = (
        f"GET /api/v3/predictions/{task['id']}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {installation.key}\r\n\r\n"
    ).encode()
    sockets = []
    heard: dict[socket.socket, bytes] = {}
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    for _ in range(count):
        listener = socket.create_connection(("127.0.0.1", installation.port), timeout=_PATIENCE_SECONDS)
        listener.sendall(asked)
        selector.register(listener, selectors.EVENT_READ)
        sockets.append(listener)
    _hear(selector, heard, count, b"event: state")
    opening = time.monotonic() - began
    found.expect(len(heard) == count, f"only {len(heard):,} of {count:,} listeners are told how the task stands")
    spent, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    share = (_cpu_seconds(pid) - spent) / (time.monotonic() - began)
    memory = resident_mb(pid)
    began = time.monotonic()
    polled = installation.result(task["id"])
    answering = time.monotonic() - began
    found.expect(polled["status"] == "created", f"the task is {polled['status']}")
    told: dict[socket.socket, bytes] = {}
    began = time.monotonic()
    installation.http.delete(f"/api/v3/predictions/{task['id']}")
    _hear(selector, told, count, b"event: end")
    telling = time.monotonic() - began
    found.expect(len(told) == count, f"only {len(told):,} of {count:,} listeners are told of the end")
    for listener in sockets:
        listener.close()
    found.figures = {
        "listeners": count,
        "seconds until all were told how it stands": opening,
        "server's memory before, MB": before,
        "server's memory with them, MB": memory,
        "a listener, KB": (memory - before) * 1024 / count,
        "share of a core while they wait": share,
        "a poll while they wait, ms": answering * 1000,
        "seconds until all were told of the end": telling,
    }
    return found


def _hear(selector: selectors.BaseSelector, heard: dict[socket.socket, bytes], count: int, word: bytes) -> None:
    """Read until every listener has heard `word`; `heard` are those who have, with what they heard last."""
    until = time.monotonic() + _PATIENCE_SECONDS
    last: dict[socket.socket, bytes] = {}
    while len(heard) < count and time.monotonic() < until:
        for event, _ in selector.select(1):
            listener = event.fileobj
            assert isinstance(listener, socket.socket)
            data = listener.recv(65536)
            if not data:
                selector.unregister(listener)
            last[listener] = last.get(listener, b"")[-100:] + data
            if word in last[listener]:
                heard[listener] = last[listener]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
