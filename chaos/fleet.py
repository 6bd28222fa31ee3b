"""An installation as several processes that are killed and started again: a server with a worker, an API by itself, and
a worker by itself. Whoever tends it is what systemd or Kubernetes would be, and no cleverer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.installation import ANIMATIC, Installation
from tests.ports import free_port

from chaos import invariants
from mutoscope.config import Settings
from mutoscope.files import Files, open_files

_HERE = Path(__file__).parent
_START_SECONDS = 60.0
_MUTOSCOPE = [sys.executable, "-m", "mutoscope"]


@dataclass
class Member:
    """One process that has to run; `port` is 0 where it listens to nobody."""

    name: str
    command: list[str]
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def serving(cls, name: str, workers: int) -> Member:
        """An API on a port of its own, with so many workers."""
        port = free_port()
        return cls(name, [*_MUTOSCOPE, "serve", "--port", str(port), "--workers", str(workers)], port)

    @classmethod
    def working(cls, name: str) -> Member:
        """A worker by itself."""
        return cls(name, [*_MUTOSCOPE, "worker"])


@dataclass
class Fleet:
    """The processes of one home folder; `settings` are MUTOSCOPE_* variables without their prefix.

    Its key belongs to an account with credit, so that money moves. `environment` is for the processes alone.
    """

    home: Path
    settings: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        defaults = {
            "prices": f'{{"{ANIMATIC}": 1000}}',
            "lease_seconds": 5,
            "max_queued": 60,
            "max_losses": 1000,
            "engines": "animatic",
        }
        settings: dict[str, Any] = {**defaults, **self.settings}
        self.installation = Installation(self.home, **settings)
        environment = self.installation.env
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(_HERE / "inject"), str(_HERE.parent), *filter(None, [environment.get("PYTHONPATH", "")])]
        )
        environment.update(self.environment)
        self.installation.run("accounts", "create", "storm")
        self.installation.run("credit", "storm", "1000000")
        limits = ("--videos-per-minute", "1000000", "--concurrency", "1000000")
        self.key = self.installation.run("keys", "create", "storm", "--account", "storm", *limits).stdout.strip()
        self.database_url = self.installation.database_url
        invariants.watch(self.database_url)
        self.members = self.members or [
            Member.serving("server", 1),
            Member.serving("api", 0),
            Member.working("worker"),
        ]

    @property
    def urls(self) -> list[str]:
        """Where the API listens."""
        return [member.url for member in self.members if member.port]

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def tend(self) -> int:
        """Start what does not run; returns how many processes those were."""
        ended = [member for member in self.members if member.process is None or member.process.poll() is not None]
        with self.installation.log.open("ab") as log:
            for member in ended:
                member.starts += 1
                member.process = subprocess.Popen(
                    member.command,
                    env=self.installation.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return len(ended)

    def tend_for(self, seconds: float) -> None:
        """So long, start again whatever ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.tend()
            time.sleep(0.02)

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until every API answers. Raises AssertionError with the log's end."""
        until = time.monotonic() + seconds
        waiting = self.urls
        while waiting:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{waiting[0]}/healthz", timeout=5, trust_env=False).status_code == 200:
                    waiting.pop(0)
                    continue
            if time.monotonic() > until:
                raise AssertionError(f"{waiting[0]} does not answer:\n{self.log_end()}")
            self.tend()
            time.sleep(0.05)

    def worker_pids(self) -> list[int]:
        """The workers that run now, supervised ones and the one by itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = path.joinpath("cmdline").read_bytes().split(b"\0")
                if b"worker" in command and f"MUTOSCOPE_HOME={self.home}".encode() in path.joinpath(
                    "environ"
                ).read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def kill(self, name: str) -> bool:
        """SIGKILL one member; whether it ran."""
        process = self.member(name).process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def kill_group(self, name: str) -> bool:
        """SIGKILL one member and what it started, at one stroke; whether it ran."""
        process = self.member(name).process
        if process is None or process.poll() is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True

    def credit(self, dollars: int) -> None:
        """Give the account that pays some more; it may be killed at that."""
        self.installation.run("credit", "storm", str(dollars), check=False)

    def stop(self) -> list[str]:
        """Tell everybody to end, and wait; returns what went wrong at that, a sentence each."""
        wrong = []
        running = [each for each in self.members if each.process is not None and each.process.poll() is None]
        for member in running:
            assert member.process is not None
            member.process.terminate()
        for member in running:
            assert member.process is not None
            try:
                code = member.process.wait(40)
                if code != 0:
                    wrong.append(f"{member.name} ended with code {code} when told to stop")
            except subprocess.TimeoutExpired:
                wrong.append(f"{member.name} did not end within 40 s when told to stop")
                self.kill_group(member.name)
        wrong += [f"worker process {pid} outlived its server" for pid in self.worker_pids()]
        return wrong

    def close(self) -> None:
        """End what is left, hard."""
        for member in self.members:
            self.kill_group(member.name)
        for pid in self.worker_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.installation.http.close()

    def files(self) -> Files:
        """Where its files are kept."""
        settings = {
            name.removeprefix("MUTOSCOPE_").lower(): value
            for name, value in self.installation.env.items()
            if name in ("MUTOSCOPE_HOME", "MUTOSCOPE_FILES_URL")
        }
        return open_files(Settings(**settings).files)  # type: ignore[arg-type]

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    def log_end(self, size: int = 4000) -> str:
        """The last of what its processes said."""
        return self.installation.log.read_text(errors="replace")[-size:]
