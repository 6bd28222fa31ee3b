"""A receipt says how a video was made, and a replay that the same comes out again."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest

from tests.installation import Installation

pytestmark = pytest.mark.slow


def test_a_receipt_is_its_owners(running: Installation, completed: dict[str, Any]) -> None:
    answer = running.http.get(f"/api/v3/predictions/{completed['id']}/receipt")
    receipt = answer.json()["data"]
    assert (receipt["engine"], receipt["seed"], receipt["frames"]) == ("animatic", completed["seed"], 121)
    assert len(receipt["images_sha256"]) == len(completed["input"]["images"])
    assert receipt["timings"]["rendering"] > 0
    other = running.run("keys", "create", "other").stdout.strip()
    answer = running.http.get(
        f"/api/v3/predictions/{completed['id']}/receipt", headers={"Authorization": f"Bearer {other}"}
    )
    assert answer.status_code == 404


def test_a_replay_makes_the_same_bytes(running: Installation, completed: dict[str, Any]) -> None:
    done = running.run("replay", completed["id"])
    assert "byte for byte" in done.stdout


def test_a_replay_says_what_differs(running: Installation, completed: dict[str, Any]) -> None:
    with contextlib.closing(sqlite3.connect(running.home / "mutoscope.db")) as database, database:
        query = "SELECT receipt FROM tasks WHERE id = ?"
        before = database.execute(query, [completed["id"]]).fetchone()[0]
        changed = "json_set(receipt, '$.video_sha256', 'x', '$.engine_version', '0')"
        database.execute(f"UPDATE tasks SET receipt = {changed} WHERE id = ?", [completed["id"]])
    done = running.run("replay", completed["id"], check=False)
    with contextlib.closing(sqlite3.connect(running.home / "mutoscope.db")) as database, database:
        database.execute("UPDATE tasks SET receipt = ? WHERE id = ?", [before, completed["id"]])
    assert done.returncode == 1
    assert "the engine is another version" in done.stderr


def test_what_has_no_receipt_cannot_be_replayed(running: Installation) -> None:
    done = running.run("replay", "0" * 32, check=False)
    assert (done.returncode, "There is no task" in done.stderr) == (1, True)
