"""The migrations end where the tables begin."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mutoscope.schema import metadata, open_database


def test_migrations_make_the_tables_that_the_code_names(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/m.db")
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.dispose()
