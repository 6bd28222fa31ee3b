"""The tables, and opening the database they live in. Knows no rule of the tasks; `store.py` has those.

Times are seconds since the epoch, UTC. Migrations beside this file (`migrations/`) bring an older database up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
)

metadata = MetaData()

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # keyed BLAKE2b of the key; the key is never stored
    Column("hint", String(16), nullable=False),  # its first characters, to tell keys apart in a list
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

tasks = Table(
    "tasks",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # the order of acceptance
    Column("id", String(32), nullable=False, unique=True),
    Column("key_id", String(16), ForeignKey("keys.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("engine", String(32), nullable=False),
    Column("request", JSON, nullable=False),
    Column("base64_output", Boolean, nullable=False, default=False),
    Column("status", String(10), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),  # the fencing token: every claim counts it up
    Column("failures", Integer, nullable=False, default=0),  # attempts that ended in an error of ours
    Column("losses", Integer, nullable=False, default=0),  # attempts whose worker vanished
    Column("worker", String(64)),
    Column("lease_until", Float),
    Column("stage", String(64), nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("error", Text, nullable=False, default=""),
    Column("error_code", Integer, nullable=False, default=0),
    Column("output", Text),
    Column("poster", Text),
    Column("timings", JSON, nullable=False, default=dict),
    Column("receipt", JSON),
    Index("tasks_by_status", "status", "engine", "seq"),
    Index("tasks_by_key", "key_id", "seq"),
    Index("tasks_by_age", "created_at"),
    sqlite_autoincrement=True,
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key_id", String(16), ForeignKey("keys.id"), nullable=False),
    Column("filename", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("file", Text, nullable=False),  # the key under which `files` holds the bytes
    Column("created_at", Float, nullable=False),
    Index("uploads_by_age", "created_at"),
)


def open_database(url: str) -> Engine:
    """Connect to `url` and bring its schema up to date; a SQLite file and its folder are made when missing.

    SQLite runs in WAL with synchronous=FULL: what was committed survives a power cut.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False}, pool_size=16)
        event.listen(engine, "connect", _set_up_sqlite)
    else:
        engine = create_engine(parsed, pool_pre_ping=True)
    _migrate(engine)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Autocommit at the driver: transactions are begun in so many words (see `store.Store.write`), never implied.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # Several processes may start at once; the first one in migrates, the others find it done.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        if not inspect(connection).has_table("alembic_version") or not _is_current(connection, config):
            command.upgrade(config, "head")
        connection.commit()


def _is_current(connection: Any, config: Config) -> bool:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(config).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head
