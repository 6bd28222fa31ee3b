"""What else queues work behind HTTP, served as its own documentation says; and a receiver that is never in the way.

Each takes the benchmark's submit and answers a poll of it; nothing renders. Only what is installed is measured:
`pip install bentoml`, or `pip install "celery[redis]"` with a redis-server on the PATH. Neither keeps its queue through
a power cut as it comes, Redis not through a kill either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from benchmarks.api import INPUTS, http
from tests.ports import free_port

Rival = Callable[[Path], AbstractContextManager[tuple[str, int, bytes, bytes]]]
"""Given a folder, a running server: (its name, its port, a submit, a poll of a task that exists)."""

BENTO = """
import bentoml

@bentoml.service(workers=1)
class Videos:
    @bentoml.task
    def make(self, prompt: str, images: list[str], duration: int) -> str:
        return "made"
"""
CELERY = """
import os
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

queue = Celery("videos", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app = FastAPI()

class Wanted(BaseModel):
    prompt: str
    images: list[str]
    duration: int

@app.post("/videos")
def submit(wanted: Wanted):
    return {"id": queue.send_task("make", kwargs=wanted.model_dump()).id}

@app.get("/videos/{task_id}")
def poll(task_id: str):
    return {"id": task_id, "status": queue.AsyncResult(task_id).status}
"""


def installed() -> list[Rival]:
    """Those that can be measured here."""
    found: list[Rival] = []
    if find_spec("bentoml"):
        found.append(_bento)
    if find_spec("celery") and find_spec("redis") and shutil.which("redis-server"):
        found.append(_celery)
    return found


def first_answer(port: int, request: bytes, seconds: float = 60) -> Any:
    """The JSON that a server answers `request` with, once it is up."""
    method, path = request.decode().split(" ")[:2]
    body = request.partition(b"\r\n\r\n")[2]
    until = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", content=body, headers=_JSON, timeout=10)
            return answer.raise_for_status().json()
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


_JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def _bento(folder: Path) -> Iterator[tuple[str, int, bytes, bytes]]:
    (folder / "bento_service.py").write_text(BENTO)
    port = free_port()
    command = ["-m", "bentoml", "serve", "bento_service:Videos", "--port", str(port), "--host", "127.0.0.1"]
    with _running([sys.executable, *command], folder, BENTOML_HOME=str(folder / "bento"), BENTOML_DO_NOT_TRACK="1"):
        submit = http("POST", "/make/submit", "", json.dumps(INPUTS).encode())
        task_id = first_answer(port, submit)["task_id"]
        yield "BentoML tasks", port, submit, http("GET", f"/make/status?task_id={task_id}", "")


@contextlib.contextmanager
def _celery(folder: Path) -> Iterator[tuple[str, int, bytes, bytes]]:
    (folder / "celery_service.py").write_text(CELERY)
    port, redis_port = free_port(), free_port()
    redis = ["redis-server", "--port", str(redis_port), "--save", "", "--dir", str(folder)]
    serve = [sys.executable, "-m", "uvicorn", "celery_service:app", "--port", str(port), "--log-level", "warning"]
    with (
        _running(redis, folder),
        _running([*serve, "--no-access-log"], folder, REDIS=f"redis://127.0.0.1:{redis_port}/0"),
    ):
        submit = http("POST", "/videos", "", json.dumps(INPUTS).encode())
        task_id = first_answer(port, submit)["id"]
        yield "FastAPI, Celery, Redis", port, submit, http("GET", f"/videos/{task_id}", "")


@contextlib.contextmanager
def _running(command: list[str], folder: Path, **variables: str) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Receiver:
    """Takes every POST, in a process of its own, and counts them."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._count = context.Value("l", 0)
        self.port = free_port()
        self._process = context.Process(target=_receive, args=(self.port, self._count), daemon=True)
        self._process.start()

    def count(self) -> int:
        count: int = self._count.value
        return count

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _receive(port: int, count: Any) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                count.value += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(take, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(serve())
