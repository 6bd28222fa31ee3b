"""A PostgreSQL server of the tests' own: Debian's binaries, a folder and a port of its own, gone at the end.

It gives up durability for speed (no fsync) unless told otherwise: what is tested is our use of it, not its disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from mutoscope.schema import metadata, open_database
from tests.ports import free_port

_ROOMY = ("shared_buffers=64MB", "max_connections=120")
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_SHARED = "mutoscope"


def find_binaries() -> Path | None:
    """The folder of the newest PostgreSQL that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def _end_with_parent() -> None:
    """On Linux, have this process told to end when whoever started it is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


class Postgres:
    """One server. `fresh` is a database to begin with; `stop` and `start` are as hard as SIGQUIT."""

    def __init__(self, binaries: Path, *, is_durable: bool = False) -> None:
        self._binaries = binaries
        self._options = _ROOMY if is_durable else (*_ROOMY, *_FAST)
        self._folder = Path(tempfile.mkdtemp(prefix="mutoscope-postgres-"))
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self._folder, "postgres", "postgres")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_made = False
        self._empty = ""
        initdb = ["initdb", "-D", "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "-N"]
        subprocess.run(
            [binaries / initdb[0], *initdb[1:]], cwd=self._folder, check=True, capture_output=True, **self._as
        )

    def url(self, name: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for option in self._options for part in ("-c", option)]
        self._process = subprocess.Popen(
            [self._binaries / "postgres", "-D", "data", "-p", str(self.port), "-k", self._folder, *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
            **self._as,
        )
        until = time.monotonic() + 30
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, "PostgreSQL did not start"
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it, cutting every connection: at once, as a crash would, or (SIGINT) in order."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def run(self, statements: str, name: str = "postgres") -> None:
        """Run statements on one of the databases, each committed by itself."""
        with psycopg.connect(self.url(name).replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statements.encode())

    def fresh(self) -> str:
        """The URL of a database as a new installation has it. It is the same one each time, emptied of what was."""
        if not self._is_made:
            self.run(f"CREATE DATABASE {_SHARED}")
            open_database(self.url(_SHARED)).close()
            # What the migrations themselves put there is kept aside, to be put back.
            tables = [table.name for table in metadata.sorted_tables]
            keep = "".join(f"CREATE TABLE aside.{name} AS TABLE {name};" for name in tables)
            self.run("CREATE SCHEMA aside;" + keep, _SHARED)
            # Rows are few: deleting them is faster than the new files that TRUNCATE makes.
            self._empty = "".join(f"DELETE FROM {name};" for name in reversed(tables))
            self._empty += "".join(f"INSERT INTO {name} TABLE aside.{name};" for name in tables)
            self._empty += "SELECT setval(oid::regclass, 1, false) FROM pg_class WHERE relkind = 'S'"
            self._is_made = True
        self.cut(_SHARED)
        self.run(self._empty, _SHARED)
        return self.url(_SHARED)

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database without any table, dropped at the end."""
        name = f"t{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name}")
        yield self.url(name)
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def cut(self, name: str) -> None:
        """End every connection to a database, as an administrator or a fail-over would."""
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
