"""Commands for the database: migrate, check, copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mutoscope.cli.terminal import CommandError, err, out
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.database import Database

db_app = typer.Typer(help="The database: migrate, check, copy.", no_args_is_help=True)


@db_app.command("migrate")
def migrate_database() -> None:
    """Bring the tables up to date, as every command does that uses them."""
    from mutoscope.schema import migrate, newest_revision, revision_of

    with _database() as database:
        with database.connect() as connection:
            before = revision_of(connection)
        migrate(database)
        with database.connect() as connection:
            after = revision_of(connection)
    said = f"The tables are those of {after} already." if before == after else f"The tables are now those of {after}."
    if after != newest_revision():
        said += f" That is a newer release than this one, of {newest_revision()}, which goes on beside it."
    err.print(said, highlight=False)


@db_app.command("check")
def check_database() -> None:
    """Tell what is in it, and hold it against itself; exit code 1 when anything is wrong."""
    from sqlalchemy import func, select

    from mutoscope import ledger
    from mutoscope.schema import metadata, newest_revision, revision_of

    table = Table(box=None)
    table.add_column("table")
    table.add_column("rows", justify="right")
    with _database() as database, database.snapshot() as connection:
        revision = revision_of(connection)
        if revision != newest_revision():
            has = f"has the tables of {revision}" if revision else "has no tables"
            raise CommandError(f"The database {has}; this version needs {newest_revision()}: `mutoscope db migrate`.")
        for each in metadata.sorted_tables:
            count = connection.execute(select(func.count()).select_from(each)).scalar_one()
            table.add_row(each.name, f"{count:,}")
        wrong = ledger.audit(connection)
        if database.is_local:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars()
            wrong += [line for line in found if line != "ok"]
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            wrong += [f"table {row[0]}: row {row[1]} belongs to nothing in {row[2]}" for row in broken]
    out.print(f"{database.engine.url.render_as_string()}, tables of {revision}", highlight=False, soft_wrap=True)
    out.print(table)
    if wrong:
        raise CommandError("The database does not agree with itself: " + "; ".join(wrong) + ".")
    err.print("The books agree.", highlight=False)


@db_app.command("copy")
def copy_database(
    target: Annotated[str, typer.Argument(help="Where to: postgresql+psycopg://user@host/name, or sqlite:///path.")],
) -> None:
    """Copy everything to another, empty database, and verify it. Stop servers and workers first.

    Then set MUTOSCOPE_DATABASE_URL to it. Files and secrets stay where they are.
    """
    from mutoscope.copying import CopyError, copy

    try:
        with _database() as source, _database(target) as into:
            counts = copy(source, into)
    except CopyError as error:
        raise CommandError(str(error)) from None
    rows = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    err.print(f"Copied and verified: {rows}.", highlight=False)


@contextmanager
def _database(url: str = "") -> Iterator[Database]:
    """A database with its tables as they are."""
    from mutoscope.database import Database
    from mutoscope.schema import make_engine

    with Database(make_engine(url or load_settings().database)) as database:
        yield database
