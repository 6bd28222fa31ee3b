"""Lost writes: a run is recorded write by write, and a power cut is made at many moments of it; what was acknowledged
until then must be there, and the server must go on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import text
from tests.installation import Installation

from chaos import disk, invariants, report
from chaos.fleet import Fleet
from chaos.invariants import Findings, Promised
from chaos.journal import Disk, records
from chaos.load import Load
from mutoscope import ledger
from mutoscope.config import Settings
from mutoscope.files import Files, FilesError, open_files
from mutoscope.housekeeping import own_files, sweep, tidy
from mutoscope.opening import keys_of, open_store
from mutoscope.store import Store

_SETTINGS = {"max_queued": 100, "lease_seconds": 5, "engines": "animatic"}
_FIRST_START = 0.15  # of the cuts, before the load began
_LIES = {"mutoscope.db": "the database's files", "scratch/": "uploads, videos and posters"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cuts", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=30, help="of load that are recorded")
    parser.add_argument("--start-every", type=int, default=10, help="a server is started on every so many-th state")


def run(arguments: argparse.Namespace) -> bool:
    with recorded(arguments.seconds, arguments.seed) as run:
        found = run.lose_writes(arguments.cuts, arguments.seed, start_every=arguments.start_every)
        for part, of in _LIES.items():
            blind = run.lose_writes(max(20, arguments.cuts // 5), arguments.seed, deaf=part)
            found.figures[f"the same without the flushes of {of}: broken states"] = (
                f"{blind.figures['broken states']} of {blind.figures['power cuts']}"
            )
            found.expect(blind.broken, f"without the flushes of {of}, nothing is found to be lost")
    what = (
        "Every write, flush and rename below the home folder is recorded, in all processes, from the first start of an "
        "empty folder on. Power cuts are then made at random moments of the record: what was flushed is kept, of the "
        "rest any part, and writes are torn between sectors; a name lasts only when its folder was flushed. Each state "
        f"is opened and checked, and on every {arguments.start_every}th a server is started, which has to bring every "
        "task to its end. The same record without some of the flushes has to fail."
    )
    report.conclude(arguments, "lost-writes", "Power cuts that lose what was not flushed", what, found)
    return not found.broken


@contextlib.contextmanager
def recorded(seconds: float, seed: int) -> Iterator[Run]:
    """Record a run under so many seconds of load."""
    with tempfile.TemporaryDirectory(prefix="mutoscope-chaos-") as folder:
        run = Run(Path(folder))
        recording = [sys.executable, "-m", "chaos.lostwrites", str(run.home), str(run.journal), str(seconds), str(seed)]
        subprocess.run(recording, env={**os.environ, **disk.recorded(run.home, run.journal)}, check=True)
        yield run


class Run:
    """A run that was recorded: its home, and all that happened there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.journal = folder / "home", folder / "journal"
        self._left = folder / "left"

    def lose_writes(self, cuts: int, seed: int, *, start_every: int = 0, deaf: str = "") -> Findings:
        """Cut its power so often, and start a server on every so many-th state. `deaf` as in Disk."""
        chance = random.Random(seed)
        found = Findings()
        kinds = [kind for kind, *_ in records(self.journal)]
        begin = kinds.index(b"B")
        num_first = round(cuts * _FIRST_START)
        moments = Counter(chance.randrange(begin) for _ in range(num_first))
        moments.update(chance.randrange(begin, len(kinds)) for _ in range(cuts - num_first))
        num_broken = num_started = count = 0
        state = Disk(self.home, deaf)
        for number, each in enumerate(records(self.journal)):
            state.play(*each)
            for _ in range(moments[number]):
                count += 1
                state.cut(self._left, chance)
                wrong = check(self._left, state)
                if not wrong and start_every and number > begin and count % start_every == 0:
                    num_started += 1
                    wrong = go_on(self._left, state)
                found.broken += [f"cut {count}, after record {number:,}: {fault}" for fault in wrong]
                num_broken += bool(wrong)
                shutil.rmtree(self._left)
                if count % 25 == 0:
                    print(f"{count} power cuts, {num_broken} broken states", flush=True)
        counted = Counter(kinds)
        found.figures = {
            "power cuts": count,
            "broken states": num_broken,
            "states that a server was started on": num_started,
            "writes recorded": counted[b"W"],
            "flushes of files and of folders": f"{counted[b'S']:,} and {counted[b'D']:,}",
            "tasks acknowledged by the end": counted[b"A"],
        }
        return found


def check(home: Path, state: Disk) -> list[str]:
    """What is wrong with what a power cut left, a sentence each, when it is opened as a server would."""
    settings = _settings(home)
    try:
        store = open_store(settings)
    except Exception as error:
        return [f"the database can't be opened: {error}"]
    try:
        return _check_opened(settings, store, state)
    except Exception as error:  # whatever a damaged file makes of the code that reads it
        return [f"the installation can't be read: {error}"]
    finally:
        store.database.close()


def _check_opened(settings: Settings, store: Store, state: Disk) -> list[str]:
    wrong: list[str] = []
    files = open_files(settings.files)
    try:
        own_files(store.database, files)
        keys = keys_of(settings, store.database)
        tidy(store, settings.scratch, settings.cache, 7)
        sweep(store, files, 7)
    except (FilesError, OSError) as error:
        return [f"the installation can't be used: {error}"]
    for key in state.marks[b"K"]:
        if keys.caller(keys.digest(key)) is None:
            wrong.append("an API key that was shown is not known")
    with store.database.connect() as connection:
        answers = connection.execute(text("PRAGMA integrity_check")).scalars().all()
        if answers != ["ok"]:
            wrong.append(f"SQLite's integrity_check says: {answers[0]}")
        rows = {row["id"]: row for row in connection.execute(text("SELECT * FROM tasks")).mappings()}
        wrong += [f"the ledger's audit: {each}" for each in ledger.audit(connection)]
    wrong += [f"task {each} was acknowledged and is lost" for each in state.marks[b"A"] if each not in rows]
    for row in rows.values():
        if row["status"] == "succeeded":
            wrong += _check_video(files, row["output"], row["poster"], row["receipt"])
    for key in state.marks[b"P"]:
        if files.read(key) != state.content(f"files/{key}"):
            wrong.append(f"{key} was acknowledged and is gone or damaged")
    return wrong


def _check_video(files: Files, output: str, poster: str, receipt: str) -> list[str]:
    video, picture = files.read(output), files.read(poster)
    if video is None or picture is None:
        return [f"the files of {output} are gone, though its task is finished"]
    if f'"video_sha256": "{sha256(video).hexdigest()}"' not in receipt:
        return [f"{output} is not what its receipt says"]
    is_whole = picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9"
    return [] if is_whole else [f"{poster} is not whole"]


def go_on(home: Path, state: Disk) -> list[str]:
    """Start a server on what was left; what is wrong when every task has ended."""
    installation = Installation(home, **{**_SETTINGS, "lease_seconds": 1})  # type: ignore[arg-type]
    inject = Path(__file__).parent / "inject"
    paths = [str(inject), str(inject.parent.parent), installation.env.get("PYTHONPATH", "")]
    installation.env["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        installation.start()
        until = time.monotonic() + 60
        while invariants.unended(installation.database_url):
            if time.monotonic() > until:
                return ["a minute after the start, not every task has ended"]
            time.sleep(0.1)
        installation.stop()
    finally:
        installation.close()
    files = open_files(_settings(home).files)
    promised = Promised(tasks=set(state.marks[b"A"]), uploads=set(state.marks[b"P"]))
    return invariants.check(installation.database_url, files, home / "scratch", promised).broken


def _settings(home: Path) -> Settings:
    values: dict[str, Any] = {"home": home}
    return Settings(**values)


class _Noted(set[str]):
    """Acknowledgements, each noted in the journal as it comes."""

    def __init__(self, journal: Path, kind: bytes) -> None:
        super().__init__()
        self._journal, self._kind = journal, kind

    def add(self, acknowledged: str) -> None:
        disk.note(self._journal, self._kind, acknowledged)
        super().add(acknowledged)


def record(home: Path, journal: Path, seconds: float, seed: int) -> None:
    """Run an installation under load. Everything is noted in this process, and in all that it starts."""
    fleet = Fleet(home, dict(_SETTINGS))
    fleet.members = [fleet.member("server")]
    for key in (fleet.key, fleet.installation.key):
        disk.note(journal, b"K", key)
    with contextlib.ExitStack() as stack:
        stack.callback(fleet.close)
        fleet.tend()
        fleet.wait_ready()
        disk.note(journal, b"B", "")
        load = Load(fleet.urls, fleet.key, 20, seed)
        load.promised.tasks, load.promised.uploads = _Noted(journal, b"A"), _Noted(journal, b"P")
        with load:
            time.sleep(seconds)
        assert not load.wrong, load.wrong
        fleet.stop()


if __name__ == "__main__":
    record(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
