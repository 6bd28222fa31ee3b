"""Two releases side by side on one database: the next one's API and worker come, and these go on until they are ended.

The next release is this one with a migration more, which adds what a migration may add.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

import mutoscope
from mutoscope.config import SettingsError
from mutoscope.schema import newest_revision, open_database
from tests.installation import EXAMPLES, Installation

NEXT = "9999"
MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{NEXT}", "{newest_revision()}", None, None


def upgrade():
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("task_id", sa.String(32)))
    op.add_column("tasks", sa.Column("note", sa.Text))
    op.add_column("accounts", sa.Column("colour", sa.Text, nullable=False, server_default="red"))
    op.create_index("tasks_by_note", "tasks", ["note"])
"""
TABLES = """
Table("notes", metadata, Column("id", Integer, primary_key=True), Column("task_id", String(32)))
tasks.append_column(Column("note", Text))
accounts.append_column(Column("colour", Text, nullable=False, server_default="red"))
"""


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to import the next release from."""
    folder = tmp_path_factory.mktemp("next")
    package = folder / "mutoscope"
    shutil.copytree(Path(mutoscope.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    Path(package, "migrations/versions", f"{NEXT}_next.py").write_text(MIGRATION)
    with Path(package, "schema.py").open("a") as module:
        module.write(TABLES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("empty", ["postgresql"], indirect=True)  # who has SQLite has one machine, and may stop it
def test_one_release_replaces_the_other_under_load(
    empty: str, install: Callable[..., Installation], next_release: Path
) -> None:
    old = install(workers=1, database_url=empty)
    new = Installation(old.home, workers=1, database_url=empty)
    new.env["PYTHONPATH"] = str(next_release)
    new.http.headers = old.http.headers
    wanted = {"prompt": "static", "images": [old.start().upload(EXAMPLES / "chelsea.jpg")], "aspect_ratio": "1:1"}
    try:
        ids = [old.submit(**wanted)["id"]]
        new.start()  # its migration runs while the old worker renders
        assert NEXT in new.run("db", "migrate").stderr
        ids += [new.submit(**wanted)["id"]]
        assert [new.wait(task_id)["status"] for task_id in ids] == ["completed"] * 2
        assert [old.result(task_id)["status"] for task_id in ids] == ["completed"] * 2

        assert new.stop() == 0  # the upgrade is taken back: the tables stay as they are
        assert old.stop() == 0
        old.start()
        assert "newer release than this one" in old.run("db", "migrate").stderr
        again = old.submit(**wanted)["id"]
        assert old.wait(again)["status"] == "completed"
        assert "The books agree" in new.run("db", "check").stderr
    finally:
        new.close()


def test_tables_that_lack_what_this_release_needs_are_refused(empty: str) -> None:
    with open_database(empty) as database, database.write() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{NEXT}'"))
        connection.execute(text("ALTER TABLE tasks RENAME COLUMN receipt TO sales_slip"))
    with pytest.raises(SettingsError, match=f"of {NEXT}.*lacks tasks.receipt.*upgrade this process"):
        open_database(empty)
