"""A disk that is full, or read-only, wherever something is written: a clear answer, nothing half-done, and it mends."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, text
from tests.installation import ANIMATIC, Installation

from chaos import invariants, report
from chaos.disk import FULL, READ_ONLY, Faults
from chaos.fleet import Fleet, Member
from chaos.invariants import Findings, Promised
from chaos.load import picture_of

ANSWERS = {FULL: (507, "disk_full"), READ_ONLY: (503, "disk_unavailable")}
NAMES = {FULL: "full", READ_ONLY: "read-only"}
_MENDED_SECONDS = 60.0
_BROKEN_SECONDS = 2.0  # a worker is watched for so long


@dataclass(frozen=True, slots=True)
class Site:
    """A place where something is written: a part of the paths there, and who is to feel it."""

    name: str
    part: str
    submits: bool = False
    uploads: bool = False
    renders: bool = False


SITES = (
    Site("database", "/mutoscope.db", submits=True, uploads=True, renders=True),
    Site("write-ahead log", "/mutoscope.db-wal", submits=True, uploads=True, renders=True),
    Site("uploads", "/files/uploads", uploads=True),
    Site("scratch folder", "/scratch/", uploads=True, renders=True),
    Site("videos", ".mp4", renders=True),
    Site("posters and previews", ".jpg", renders=True),
    Site("everything", "/", submits=True, uploads=True, renders=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", help="the name of one place")


def run(arguments: argparse.Namespace) -> bool:
    found = fill_up([site for site in SITES if arguments.only in ("", site.name)])
    what = (
        "Writing fails with ENOSPC (full) or EROFS (read-only), at one place after the other, while a server and a "
        "worker run: submits and uploads have to be answered 507 or 503 in the API's own words, with nothing kept or "
        "charged; a worker keeps its task or gives it back, and no attempt counts as failed. When the disk works again "
        "so does all else, without a restart."
    )
    report.conclude(arguments, "disk", "A disk that is full, or read-only", what, found)
    return not found.broken


def fill_up(sites: list[Site]) -> Findings:
    """Each place, full and read-only."""
    found = Findings()
    with tempfile.TemporaryDirectory(prefix="mutoscope-chaos-") as folder:
        home = Path(folder, "home")
        _start_on_a_full_disk(Path(folder), found)
        faults = Faults(home, Path(folder, "control"))
        fleet = Fleet(home, {}, faults.environment, [Member.serving("server", 1)])
        with contextlib.ExitStack() as stack:
            stack.callback(fleet.close)
            fleet.tend()
            fleet.wait_ready()
            callers = Callers(fleet)
            stack.callback(callers.close)
            for site in sites:
                for error in (FULL, READ_ONLY):
                    trial = Trial(site, error, faults, callers, found)
                    told = trial.run()
                    found.figures[f"{site.name}, {NAMES[error]}"] = told
                    print(f"{site.name}, {NAMES[error]}: {told}", flush=True)
            _until(lambda: invariants.unended(fleet.database_url) == 0)
            found.expect(fleet.member("server").starts == 1, "the server ended by itself")
            found.broken += fleet.stop()
            checked = invariants.check(fleet.database_url, fleet.files(), fleet.scratch, callers.promised)
            found.broken += checked.broken
            found.figures |= {"tasks acknowledged": len(callers.promised.tasks)}
    return found


def _start_on_a_full_disk(folder: Path, found: Findings) -> None:
    # The first start, which makes the secrets, says what is wrong, and the next one goes on.
    home = folder / "first"
    faults = Faults(home, folder / "first control")
    installation = Installation(home)  # whose secrets and key are there
    for secret in (home / "secrets").iterdir():
        secret.unlink()
    for error in (FULL, READ_ONLY):
        faults.fail(error, "/secrets/")
        environment = {**installation.env, **faults.environment}
        command = ["keys", "create", "second"]
        done = installation_run(command, environment)
        is_told = done.returncode != 0 and "Traceback" not in done.stderr and "can't be used" in done.stderr
        found.expect(is_told, f"a first start on a disk that is {NAMES[error]} says: {done.stderr[-300:]}")
        found.figures[f"first start, secrets, {NAMES[error]}"] = "one sentence" if is_told else "**no sentence**"
        faults.mend()
    done = installation_run(command, environment)
    found.expect(done.returncode == 0, f"a first start after it says: {done.stderr[-300:]}")
    left = [path.name for path in (home / "secrets").iterdir() if path.name.startswith(".")]
    found.expect(not left, f"a first start left {left}")
    installation.close()


def installation_run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `mutoscope …` in this environment."""
    return subprocess.run(
        [sys.executable, "-m", "mutoscope", *command], env=environment, capture_output=True, text=True
    )


class Callers:
    """Whoever asks, and what they were told."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.promised = Promised()
        self._picture = picture_of(1)
        self._http = httpx.Client(
            base_url=fleet.urls[0], headers={"Authorization": f"Bearer {fleet.key}"}, timeout=60, trust_env=False
        )
        self._image = self.upload().json()["data"]["download_url"]

    def close(self) -> None:
        self._http.close()

    def upload(self) -> httpx.Response:
        return self._http.post("/api/v3/media/upload/binary", files={"file": ("a.png", self._picture)})

    def submit(self) -> httpx.Response:
        body = {"prompt": "push in", "images": [self._image], "duration": 5}
        answer = self._http.post(f"/api/v3/{ANIMATIC}", json=body)
        if answer.status_code == 200:
            self.promised.tasks.add(answer.json()["data"]["id"])
        return answer

    def balance(self) -> float:
        found: float = self._http.get("/api/v3/balance").raise_for_status().json()["data"]["balance"]
        return found

    def row(self, task_id: str) -> dict[str, Any]:
        engine = create_engine(self.fleet.database_url)
        with engine.connect() as connection:
            query = text("SELECT status, attempt, failures, losses FROM tasks WHERE id = :id")
            row = connection.execute(query, {"id": task_id}).mappings().one()
        engine.dispose()
        return dict(row)

    def count(self) -> tuple[int, int]:
        """Rows of tasks and of uploads."""
        engine = create_engine(self.fleet.database_url)
        with engine.connect() as connection:
            counts = [
                connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in ("tasks", "uploads")
            ]
        engine.dispose()
        return counts[0], counts[1]


@dataclass
class Trial:
    """One place that fails in one way."""

    site: Site
    error: int
    faults: Faults
    callers: Callers
    found: Findings

    def run(self) -> str:
        """What came of it, in a few words."""
        told = []
        if self.site.submits:
            told.append(f"submit {self._refused(self.callers.submit)}")
        if self.site.uploads:
            told.append(f"upload {self._refused(self.callers.upload)}")
        if self.site.renders:
            told.append(self._rendered())
        return "; ".join(told)

    def _expect(self, kept: object, sentence: str) -> None:
        self.found.expect(kept, f"{self.site.name}, {NAMES[self.error]}: {sentence}")

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        self.faults.fail(self.error, self.site.part)
        try:
            yield
        finally:
            self.faults.mend()

    def _refused(self, ask: Callable[[], httpx.Response]) -> str:
        _until(lambda: invariants.unended(self.callers.fleet.database_url) == 0)
        balance, rows = self.callers.balance(), self.callers.count()
        with self._failing():
            answer = ask()
            self._expect(self.callers.balance() == balance, "the balance has changed")
        body = answer.json() if answer.headers["content-type"] == "application/json" else {}
        said = (answer.status_code, body.get("error_code"))
        self._expect(said == ANSWERS[self.error], f"answered {answer.status_code}: {answer.text[:200]}")
        self._expect(set(body) == {"code", "message", "error_code"}, f"the answer has the fields {sorted(body)}")
        self._expect(self.callers.count() == rows, f"{rows} rows have become {self.callers.count()}")
        scratch = self.callers.fleet.scratch
        left = [path.name for path in scratch.glob("upload-*")] if scratch.is_dir() else []
        self._expect(not left, f"{left} was left in the scratch folder")
        self._expect(_until(lambda: ask().status_code == 200, 10), "it is not accepted when the disk works again")
        return str(answer.status_code)

    def _rendered(self) -> str:
        fleet = self.callers.fleet
        workers = fleet.worker_pids()
        task_id = self.callers.submit().json()["data"]["id"]
        with self._failing():
            time.sleep(_BROKEN_SECONDS)
        began = time.monotonic()
        ended = _until(lambda: self.callers.row(task_id)["status"] == "succeeded")
        row = self.callers.row(task_id)
        self._expect(ended, f"the task is {row['status']} a minute after the disk works again")
        self._expect(row["failures"] == 0 and row["losses"] == 0, f"it counts {row['failures']} failed attempts")
        self._expect(fleet.worker_pids() == workers, "the worker ended")
        return f"a task is made in attempt {row['attempt']}, {time.monotonic() - began:.0f} s after"


def _until(is_so: Callable[[], bool], seconds: float = _MENDED_SECONDS) -> bool:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
