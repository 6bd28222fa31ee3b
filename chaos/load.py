"""Callers: so many submits a second, whatever becomes of the server, and a record of what each was told.

One in three carries an Idempotency-Key and is sent again until it is answered; some upload, some send what is no
picture, some cancel, some want a webhook. A caller knows nothing of processes, rows or files.
"""

from __future__ import annotations

import base64
import contextlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2
import httpx
import numpy as np
from tests.installation import ANIMATIC

from chaos.invariants import Promised

_PATIENCE_SECONDS = 5.0
_CALLERS = 6


class Load:
    """`rate` submits a second in all, to servers at `urls` by turns; use as a context manager.

    `webhook` is where some webhooks go; empty: none are asked for.
    """

    def __init__(self, urls: Sequence[str], key: str, rate: float, seed: int, webhook: str = "") -> None:
        self.promised = Promised()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []  # answers that nobody should ever get
        self._urls = urls
        self._key = key
        self._pause = _CALLERS / rate
        self._webhook = webhook
        self._picture = picture_of(seed)
        self._upload = ""
        self._stopping = threading.Event()
        self._calling = threading.Event()
        self._calling.set()
        self._busy = 0
        self._open: list[tuple[str, dict[str, Any]]] = []  # idempotent submits that were never answered
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call, args=(random.Random(f"{seed}-{number}"),), daemon=True)
            for number in range(_CALLERS)
        ]

    def start(self) -> None:
        """Upload the picture that most submits show, and begin. The servers have to be up."""
        with self._client() as http:
            self._upload = self._send_file(http, self._urls[0], "picture.png", self._picture)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody calls while the block lasts."""
        self._calling.clear()
        while self._busy:
            time.sleep(0.02)
        yield
        self._calling.set()

    def delete(self, task_id: str) -> None:
        """Have a task ended, or, where it has ended, deleted. Raises OSError when nobody answers."""
        self.promised.deleted.add(task_id)  # which is what a cancel means that comes after the end
        self.counts["cancels"] += 1
        try:
            with self._client() as http:
                http.delete(f"{random.choice(self._urls)}/api/v3/predictions/{task_id}")
        except httpx.HTTPError as error:
            raise OSError(str(error)) from error

    def settle(self, seconds: float = 60) -> None:
        """Repeat what was never answered until it is. The servers have to be up."""
        until = time.monotonic() + seconds
        with self._client() as http:
            for name, body in self._open:
                while not self._submit(http, random.choice(self._urls), name, body):
                    if time.monotonic() > until:
                        self.wrong.append(f"Idempotency-Key {name} is not answered after {seconds:.0f} s of peace")
                        return
                    time.sleep(0.1)
        self._open.clear()

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}"}
        return httpx.Client(headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False)

    def _call(self, chance: random.Random) -> None:
        due = time.monotonic() + chance.uniform(0, self._pause)
        with self._client() as http:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._pause, time.monotonic() - 1)  # what is late by more than this is not sent
                with self._lock:
                    self._busy += 1
                try:
                    if not self._calling.is_set():
                        continue
                    self._once(http, chance)
                except (httpx.HTTPError, OSError):
                    self.counts["calls cut off or refused"] += 1
                finally:
                    with self._lock:
                        self._busy -= 1

    def _once(self, http: httpx.Client, chance: random.Random) -> None:
        url = chance.choice(self._urls)
        body: dict[str, Any] = {"prompt": f"push in, {uuid.uuid4().hex}", "images": [self._upload], "duration": 5}
        draw = chance.random()
        if draw < 0.03:
            body["images"] = [self._send_file(http, url, "own.png", self._picture)]
        elif draw < 0.06:
            body["images"] = ["data:image/png;base64," + base64.b64encode(self._picture).decode()]
        elif draw < 0.09:
            body["images"] = ["data:image/png;base64," + base64.b64encode(b"no picture").decode()]
        if self._webhook and chance.random() < 0.2:
            body["webhook_url"] = self._webhook
        name = uuid.uuid4().hex if chance.random() < 1 / 3 else ""
        if not name and (waiting := list(self._open)) and chance.random() < 0.5:
            name, body = chance.choice(waiting)
        self.counts["submits attempted"] += 1
        task_id = self._submit(http, url, name, body)
        if task_id and chance.random() < 0.05:
            self.delete(task_id)
        elif task_id and chance.random() < 0.2:
            self._look(http, chance.choice(self._urls), task_id)

    def _submit(self, http: httpx.Client, url: str, name: str, body: dict[str, Any]) -> str:
        """The id it was answered with; empty where the answer was no task."""
        headers = {"Idempotency-Key": name} if name else {}
        try:
            answer = http.post(f"{url}/api/v3/{ANIMATIC}", json=body, headers=headers)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.ConnectError):
                self.counts["submits that found nobody"] += 1
                return ""
            self.counts["submits cut off"] += 1
            with self._lock:  # it may have been accepted: only sending it again tells
                if name and (name, body) not in self._open:
                    self._open.append((name, body))
            return ""
        self.counts[f"answers {answer.status_code}"] += 1
        if answer.status_code != 200:
            if answer.status_code not in (429, 503):
                self.wrong.append(f"a submit was answered {answer.status_code}: {answer.text[:200]}")
            return ""
        task_id: str = answer.json()["data"]["id"]
        with self._lock:
            self.promised.tasks.add(task_id)
            if name:
                self.promised.names.setdefault(name, set()).add(task_id)
                self._open = [each for each in self._open if each[0] != name]
        return task_id

    def _look(self, http: httpx.Client, url: str, task_id: str) -> None:
        answer = http.get(f"{url}/api/v3/predictions/{task_id}/result")
        if task_id in self.promised.deleted and answer.status_code == 404:
            return
        if answer.status_code not in (200, 503):
            self.wrong.append(f"task {task_id} was acknowledged and then answered {answer.status_code}")

    def _send_file(self, http: httpx.Client, url: str, name: str, data: bytes) -> str:
        answer = http.post(f"{url}/api/v3/media/upload/binary", files={"file": (name, data)})
        if answer.status_code == 503:
            raise httpx.HTTPError("no place for files now")
        if answer.status_code != 200:
            self.wrong.append(f"an upload was answered {answer.status_code}: {answer.text[:200]}")
            raise httpx.HTTPError("no upload")
        link: str = answer.json()["data"]["download_url"]
        with self._lock:
            self.promised.uploads.add(unquote(urlsplit(link).path.partition("/files/")[2]))
        return link

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def picture_of(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
    done, data = cv2.imencode(".png", pixels)
    assert done
    return data.tobytes()
