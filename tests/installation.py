"""A real installation for tests: a home folder, a key, and `mutoscope serve` as a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_port

EXAMPLES = Path(__file__).parent.parent / "examples"
ANIMATIC = "mutoscope/animatic/reference-to-video"
SKYREELS = "skywork-ai/skyreels-v3/reference-to-video"


class Installation:
    """One home folder and the server on it. `settings` are MUTOSCOPE_* variables without their prefix."""

    def __init__(self, home: Path, *, workers: int | str = 1, sandbox: bool = True, **settings: object) -> None:
        self.home = home
        self.database_url = str(settings.get("database_url") or f"sqlite:///{home}/mutoscope.db")
        self.workers = workers
        self.sandbox = sandbox
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MUTOSCOPE_")}
        self.env |= {f"MUTOSCOPE_{name.upper()}": str(value) for name, value in settings.items()}
        self.env |= {"MUTOSCOPE_HOME": str(home), "MUTOSCOPE_ALLOW_NETWORKS": "127.0.0.0/8"}
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.parent / f"{home.name}.log"
        self.key = self.run("keys", "create", "tests").stdout.strip()
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30, trust_env=False
        )

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `mutoscope …` on this installation."""
        return subprocess.run(
            [sys.executable, "-m", "mutoscope", *arguments], env=self.env, capture_output=True, text=True, check=check
        )

    def start(self) -> Installation:
        """Start the server, in a process group of its own, and wait until it is ready."""
        command = [sys.executable, "-m", "mutoscope", "serve", "--port", str(self.port), "--workers", str(self.workers)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *(["--sandbox"] if self.sandbox else [])],
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + 30
        while True:
            try:
                if self.http.get("/healthz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the server and wait for its end; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill_group(self) -> None:
        """SIGKILL the server and its workers at one stroke."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def worker_pids(self) -> list[int]:
        """The worker processes that run now."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        others = [path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/children")]
        found = {int(pid) for text in [children, *others] for pid in text.split()}
        return [pid for pid in found if b"\0worker\0" in _command_line(pid)]

    def run_count(self) -> int:
        """How many tasks are running, by the database itself."""
        with contextlib.closing(sqlite3.connect(self.home / "mutoscope.db")) as database:
            count: int = database.execute("SELECT count(*) FROM tasks WHERE status = 'running'").fetchone()[0]
        return count

    def row(self, task_id: str, columns: str) -> tuple[Any, ...]:
        """Columns of a task's row, by the database itself."""
        with contextlib.closing(sqlite3.connect(self.home / "mutoscope.db")) as database:
            found: tuple[Any, ...] = database.execute(f"SELECT {columns} FROM tasks WHERE id = ?", [task_id]).fetchone()
        return found

    def submit(self, model: str = ANIMATIC, **inputs: Any) -> dict[str, Any]:
        """Create a task; returns its prediction."""
        answer = self.http.post(f"/api/v3/{model}", json=inputs)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def result(self, task_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v3/predictions/{task_id}/result")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def wait(self, task_id: str, seconds: float = 120) -> dict[str, Any]:
        """The prediction once it has ended."""
        until = time.monotonic() + seconds
        while (found := self.result(task_id))["status"] in ("created", "processing"):
            assert time.monotonic() < until, f"still {found['status']} after {seconds} s:\n{self.log.read_text()}"
            time.sleep(0.1)
        return found

    def upload(self, path: Path) -> str:
        """Upload a file; returns its URL."""
        with path.open("rb") as data:
            answer = self.http.post("/api/v3/media/upload/binary", files={"file": (path.name, data)})
        assert answer.status_code == 200, answer.text
        url: str = answer.json()["data"]["download_url"]
        return url

    def outputs(self) -> list[str]:
        """The names of the files that were made."""
        return [path.name for path in Path(self.home, "files/outputs").iterdir()]

    def close(self) -> None:
        if self.process is not None:
            self.kill_group()
        self.http.close()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
