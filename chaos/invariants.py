"""What was promised, held against rows and files after a storm. Reads them by itself, so that no rule is checked by its
own code; only the ledger's audit is the product's, beside sums made here.

A trigger that `watch` leaves in the database notes each move of a task in the transaction that makes it: so a task that
ended twice is known, whatever its row says at the end.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
from sqlalchemy import Connection, RowMapping, create_engine, make_url, text

from mutoscope import ledger
from mutoscope.database import Database
from mutoscope.files import Files
from mutoscope.housekeeping import sweep, tidy
from mutoscope.schema import make_engine
from mutoscope.store import Store

ENDED = ("succeeded", "failed", "canceled")
FRAMES = 121  # of a video of 5 seconds, which is what the load asks for

_MOVES = "CREATE TABLE chaos_moves (task_id VARCHAR(32), before VARCHAR(10), after VARCHAR(10), attempt INTEGER)"
_SQLITE = """
CREATE TRIGGER chaos_move AFTER UPDATE OF status ON tasks WHEN OLD.status <> NEW.status
BEGIN INSERT INTO chaos_moves VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt); END
"""
_POSTGRES = """
CREATE FUNCTION chaos_note() RETURNS trigger AS $$
BEGIN INSERT INTO chaos_moves VALUES (NEW.id, OLD.status, NEW.status, NEW.attempt); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE TRIGGER chaos_move AFTER UPDATE OF status ON tasks FOR EACH ROW WHEN (OLD.status <> NEW.status)
EXECUTE FUNCTION chaos_note()
"""


@dataclass
class Promised:
    """What callers were told: ids of acknowledged tasks, the id each Idempotency-Key was answered with, the keys of
    uploads that were answered; and tasks that somebody asked to have deleted, which may be there or not."""

    tasks: set[str] = field(default_factory=set)
    names: dict[str, set[str]] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


@dataclass
class Findings:
    """`broken` are the promises that were not kept, a sentence each."""

    broken: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    delivered: int = 0

    def expect(self, kept: object, sentence: str) -> None:
        if not kept:
            self.broken.append(sentence)


def watch(database_url: str) -> None:
    """Have every move of every task noted from now on. The tables have to be there."""
    engine = create_engine(_driven(database_url))
    with engine.begin() as connection:
        connection.execute(text(_MOVES))
        connection.execute(text(_SQLITE if engine.dialect.name == "sqlite" else _POSTGRES))
    engine.dispose()


def unended(database_url: str) -> int:
    """How many tasks have not ended yet."""
    return _count(database_url, "SELECT count(*) FROM tasks WHERE status IN ('queued', 'running')")


def running(database_url: str) -> int:
    """How many tasks somebody holds."""
    return _count(database_url, "SELECT count(*) FROM tasks WHERE status = 'running'")


def undelivered(database_url: str) -> int:
    """How many webhooks are still to be delivered."""
    return _count(database_url, "SELECT count(*) FROM deliveries WHERE status = 'due'")


def check(database_url: str, files: Files, scratch: Path, promised: Promised, *, in_full: bool = True) -> Findings:
    """Hold everything against everything, when nothing works on it any more; sweeps first, as the product would.

    `in_full`: videos are opened too, and every webhook has to be delivered.
    """
    found = Findings()
    database = Database(make_engine(database_url))
    with database:
        swept = _sweep(database, files, scratch)
        with database.connect() as connection:
            rows = {row["id"]: row for row in connection.execute(text("SELECT * FROM tasks")).mappings()}
            _check_tasks(found, connection, rows, promised)
            _check_money(found, connection, rows, promised)
            _check_webhooks(found, connection, rows, in_full)
            uploads = set(connection.execute(text("SELECT file FROM uploads")).scalars())
            if database.is_local:
                answer = connection.execute(text("PRAGMA integrity_check")).scalar_one()
                found.expect(answer == "ok", f"SQLite's integrity_check says: {answer}")
    _check_files(found, files, scratch, rows.values(), uploads, promised, in_full)
    states = Counter(str(row["status"]) for row in rows.values())
    found.figures |= {
        "tasks acknowledged": len(promised.tasks),
        "tasks found": len(rows),
        **{f"… {state}": states[state] for state in sorted(states)},
        "most attempts of one task": max((row["attempt"] for row in rows.values()), default=0),
        "files of attempts that were killed, swept": swept,
    }
    return found


def _check_tasks(found: Findings, connection: Connection, rows: Mapping[str, RowMapping], promised: Promised) -> None:
    for task_id in promised.tasks - promised.deleted - rows.keys():
        found.broken.append(f"task {task_id} was acknowledged and is lost")
    for task_id, row in rows.items():
        found.expect(row["status"] in ENDED, f"task {task_id} is still {row['status']}")
    ends: Counter[str] = Counter()
    for task_id, before, after, attempt in connection.execute(text("SELECT * FROM chaos_moves")):
        found.expect(before not in ENDED, f"task {task_id} went from {before} to {after} in attempt {attempt}")
        ends[task_id] += after in ENDED
    for task_id, count in ends.items():
        found.expect(count <= 1, f"task {task_id} ended {count} times")
        found.expect(task_id in rows or task_id in promised.deleted, f"task {task_id} has moved and is gone")
    known: dict[str, set[str]] = {}
    for name, task_id in connection.execute(text("SELECT name, task_id FROM submissions")):
        known.setdefault(name, set()).add(task_id)
    for name, ids in promised.names.items():
        stands_for = known.get("key:" + sha256(name.encode()).hexdigest())
        found.expect(ids == stands_for, f"Idempotency-Key {name} was answered {ids}, and stands for {stands_for}")


def _check_money(found: Findings, connection: Connection, rows: Mapping[str, RowMapping], promised: Promised) -> None:
    found.broken += [f"the ledger's audit: {each}" for each in ledger.audit(connection)]
    entries: dict[str, dict[str, list[int]]] = {}
    books: Counter[tuple[str, str]] = Counter()
    for entry in connection.execute(text("SELECT * FROM entries")).mappings():
        amount, account = int(entry["amount_micros"]), entry["account_id"]
        books[account, entry["credit"]] += amount
        books[account, entry["debit"]] -= amount
        if entry["task_id"] is not None:
            entries.setdefault(entry["task_id"], {}).setdefault(entry["kind"], []).append(amount)
    for account in {account for account, _ in books}:
        found.expect(books[account, "held"] == 0, f"account {account}: {books[account, 'held']} is held for nobody")
    for task_id in entries.keys() - rows.keys() - promised.deleted:
        found.broken.append(f"the books have task {task_id}, of which there is no row")
    charged = 0
    for task_id, row in rows.items():
        price, kinds = row["price_micros"], entries.get(task_id, {})
        held, settled, released = (kinds.get(kind, []) for kind in ("hold", "settle", "release"))
        found.expect(held == [price], f"task {task_id} costs {price} and was held {held}")
        found.expect(
            max(len(settled), len(released)) <= 1, f"task {task_id} was settled {settled}, released {released}"
        )
        found.expect(sum(settled) + sum(released) == price, f"task {task_id}: {settled} + {released} is not {price}")
        found.expect(
            sum(settled) == row["charged_micros"], f"task {task_id} says {row['charged_micros']}, not {settled}"
        )
        if row["status"] == "succeeded":
            found.expect(settled == [price], f"task {task_id} succeeded and was charged {settled} of {price}")
        if row["status"] == "failed":
            found.expect(settled == [], f"task {task_id} failed and was charged {settled}")
        charged += sum(settled)
    found.expect(sum(books.values()) == 0, f"the books sum to {sum(books.values())}")
    found.figures["charged, micro-dollars"] = charged


def _check_webhooks(found: Findings, connection: Connection, rows: Mapping[str, RowMapping], in_full: bool) -> None:
    asked = connection.execute(text("SELECT task_id, status FROM deliveries")).all()
    due = {task_id for task_id, row in rows.items() if row["webhook_url"] and row["status"] in ("succeeded", "failed")}
    found.expect(
        sorted(task_id for task_id, _ in asked) == sorted(due),
        f"{len(due)} webhooks are owed, and {len(asked)} deliveries written",
    )
    left = Counter(status for _, status in asked if status != "delivered")
    found.expect(not left or not in_full, f"webhooks are not delivered: {dict(left)}")
    found.delivered = found.figures["webhooks delivered"] = sum(status == "delivered" for _, status in asked)


def _check_files(
    found: Findings,
    files: Files,
    scratch: Path,
    rows: Iterable[RowMapping],
    uploads: set[str],
    promised: Promised,
    in_full: bool,
) -> None:
    made = [row for row in rows if row["status"] == "succeeded"]
    expected = {row[column] for row in made for column in ("output", "poster")}
    there = set(files.list("outputs"))
    for key in sorted(expected - there):
        found.broken.append(f"{key} is gone, though its task is finished")
    for key in sorted((there - expected) | set(files.list("previews"))):
        found.broken.append(f"{key} belongs to no finished task")
    kept = set(files.list("uploads"))
    for key in sorted(promised.uploads - kept):
        found.broken.append(f"{key} was acknowledged and is gone")
    for key in sorted(kept - uploads):
        found.broken.append(f"{key} is an upload that no row knows")
    for path in scratch.iterdir() if scratch.is_dir() else ():
        found.broken.append(f"scratch/{path.name} was left")
    for path in files.disk.iterdir() if files.disk is not None else ():
        found.expect(
            path.name in (".installation", "outputs", "uploads", "previews"), f"{path.name} was left among the files"
        )
    for row in made if in_full else ():
        with files.local(row["output"]) as video:
            frames = _count_frames(video) if video is not None else 0
        found.expect(frames == FRAMES, f"{row['output']} has {frames} frames")


def _sweep(database: Database, files: Files, scratch: Path) -> int:
    """One round of housekeeping, as of an hour later: what a killed upload left may lie so long."""
    before = time.time() - 2 * 3600
    for path in scratch.glob("upload-*"):
        os.utime(path, (before, before))
    store = Store(database)
    count = _count_files(files, scratch)
    tidy(store, scratch, scratch / "no cache", retention_days=7)
    sweep(store, files, retention_days=7)
    return count - _count_files(files, scratch)


def _count_files(files: Files, scratch: Path) -> int:
    stored = sum(1 for folder in ("outputs", "previews") for _ in files.list(folder))
    return stored + sum(1 for _ in scratch.iterdir() if scratch.is_dir())


def _count_frames(video: Path) -> int:
    try:
        with av.open(str(video)) as container:
            return sum(1 for _ in container.decode(video=0))
    except av.FFmpegError:
        return 0


def _count(database_url: str, query: str) -> int:
    engine = create_engine(_driven(database_url))
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())
    finally:
        engine.dispose()


def _driven(database_url: str) -> Any:
    return make_url(re.sub(r"^postgresql:", "postgresql+psycopg:", database_url))
