"""The tables, and opening the database they live in. Knows no rule of the tasks; `store.py` has those.

Times are seconds since the epoch, UTC; money is integer micro-dollars. Migrations beside this file (`migrations/`)
bring an older database up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ExceptionContext,
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
from sqlalchemy.exc import ArgumentError

from mutoscope.config import SettingsError
from mutoscope.database import Database

metadata = MetaData()

installation = Table(  # one row, made with the tables
    "installation",
    metadata,
    Column("id", String(32), primary_key=True),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("is_unlimited", Boolean, nullable=False, default=False),  # its balance refuses nothing
    Column("is_operator", Boolean, nullable=False, default=False),  # its admin keys reach every account
    Column("floor_micros", BigInteger, nullable=False, default=0),  # what the balance never falls below
    # The sums of the account's entries, kept beside them so that a hold is one guarded UPDATE.
    Column("available_micros", BigInteger, nullable=False, default=0),
    Column("held_micros", BigInteger, nullable=False, default=0),
    # The fair queue's clocks, in seconds of work: the turn of the last task accepted, and of the last one claimed.
    Column("turn", Float, nullable=False, default=0.0),
    Column("served", Float, nullable=False, default=0.0),
    Column("created_at", Float, nullable=False),
    Index("accounts_by_served", "served"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("account_id", String(16), ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # keyed BLAKE2b of the key; the key is never stored
    Column("hint", String(16), nullable=False),  # its first characters, to tell keys apart in a list
    Column("scopes", JSON, nullable=False),
    Column("tier", String(16), nullable=False),
    Column("videos_per_minute", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),  # tasks of this key that run at once; further ones wait
    Column("daily_cap_micros", BigInteger),
    Column("rate_until", Float, nullable=False, default=0.0),  # when the last accepted task's share of the rate is over
    Column("webhook_generation", Integer, nullable=False, default=0),  # counts the webhook secret's rotations
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Index("keys_by_account", "account_id"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # the order of acceptance
    Column("id", String(32), nullable=False, unique=True),
    Column("key_id", String(16), ForeignKey("keys.id"), nullable=False),
    Column("account_id", String(16), ForeignKey("accounts.id"), nullable=False),
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
    Column("preview", Text),  # the key of a strip of frames to come, #, and its version; while it runs
    Column("price_micros", BigInteger, nullable=False, default=0),  # held while it waits and runs
    Column("charged_micros", BigInteger),  # what was settled; nothing yet while it waits and runs
    Column("cost", Float, nullable=False, default=0.0),  # seconds of work that its turn was reckoned with
    Column("turn", Float, nullable=False, default=0.0),  # the order of claiming, fair across accounts
    Column("priority", Integer, nullable=False, default=0),  # within its account; the higher goes first
    Column("deadline_at", Float),  # not claimed by then, it has failed
    Column("webhook_url", Text, nullable=False, default=""),
    Column("base_url", Text, nullable=False, default=""),  # of the URLs in its webhook
    Column("is_favourite", Boolean, nullable=False, default=False),
    Index("tasks_by_status", "status", "engine", "seq"),
    Index("tasks_by_turn", "status", "engine", "turn"),
    Index("tasks_by_priority", "status", "account_id", "priority", "seq"),
    Index("tasks_by_key", "key_id", "created_at", "seq", "status", "model", "is_favourite"),  # covers lists' filters
    Index("tasks_by_account", "account_id", "seq"),
    Index("tasks_by_age", "created_at"),
    Index("tasks_by_deadline", "status", "deadline_at"),
    Index("tasks_by_end", "finished_at"),
    sqlite_autoincrement=True,
)

submissions = Table(  # what makes a repeated submit the same task
    "submissions",
    metadata,
    Column("key_id", String(16), ForeignKey("keys.id"), primary_key=True),
    Column("name", String(255), primary_key=True),  # the caller's Idempotency-Key, or a digest of the body
    Column("body_digest", String(64), nullable=False),
    Column("task_id", String(32), nullable=False),
    Column("created_at", Float, nullable=False),
    Index("submissions_by_age", "created_at"),
)

entries = Table(  # each moves an amount from one book to another, so the sum over all books is always zero
    "entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("account_id", String(16), ForeignKey("accounts.id"), nullable=False),
    Column("kind", String(8), nullable=False),  # credit, hold, settle or release
    Column("debit", String(10), nullable=False),  # the account's books are available and held, ours funding and revenue
    Column("credit", String(10), nullable=False),
    Column("amount_micros", BigInteger, nullable=False),
    Column("task_id", String(32)),  # of a credit that its giver named: a digest of that name
    Column("key_id", String(16)),
    Column("model", Text, nullable=False, default=""),  # tasks go after some days, their entries stay
    Column("note", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Index("entries_by_task", "task_id", "kind", unique=True),  # one hold, one settlement
    Index("entries_by_account", "account_id", "created_at", "seq", "kind"),
    Index("entries_by_key", "key_id", "created_at", "seq", "kind"),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("task_id", String(32), nullable=False, unique=True),
    Column("key_id", String(16), ForeignKey("keys.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("receiver", Text, nullable=False, default=""),  # host and port of the URL
    Column("status", String(10), nullable=False),  # due, delivered, refused (410) or given_up
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),  # of the next attempt; while one is made, when it counts as lost
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("deliveries_by_due", "status", "due_at"),
    Index("deliveries_by_key", "key_id", "created_at"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("delivery_id", String(32), ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("made_at", Float, nullable=False),
    Column("status_code", Integer),  # of the receiver's answer, if there was one
    Column("error", Text, nullable=False, default=""),
    Column("milliseconds", Integer, nullable=False),
    Index("delivery_attempts_by_delivery", "delivery_id", "seq"),
    sqlite_autoincrement=True,
)

duties = Table(  # what only one process does at a time, and who holds it until when
    "duties",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", Float, nullable=False),
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


def open_database(url: str, *, connections: int = 16) -> Database:
    """Connect to `url` and bring its schema up to date; a SQLite file and its folder are made when missing.

    SQLite runs in WAL with synchronous=FULL: what was committed survives a power cut. `connections`: the most that this
    process has to a PostgreSQL server. Raises SettingsError for a URL that can't be used.
    """
    database = Database(make_engine(url, connections=connections), most_kept=connections // 4)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def make_engine(url: str, *, connections: int = 16) -> Engine:
    """Connections to `url`, its tables as they are."""
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
        # hide_parameters: the values of a statement may be prompts or digests of keys, and errors end in logs.
        if kind == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            engine = create_engine(
                parsed,
                connect_args={"timeout": 30, "check_same_thread": False},
                pool_size=16,
                pool_use_lifo=True,  # the connection used last, whose cache is warm: the others cost memory in vain
                hide_parameters=True,
            )
            event.listen(engine, "connect", _set_up_sqlite)
            return engine
        if kind == "postgresql":
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                pool_pre_ping=True,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=10,
                connect_args={name: value for name, value in _POSTGRES.items() if name not in parsed.query},
            )
            event.listen(engine, "handle_error", _keep_first_line)
            return engine
    except ArgumentError:
        raise SettingsError(
            "MUTOSCOPE_DATABASE_URL is no URL: sqlite:///path or postgresql://user@host/name."
        ) from None
    except ImportError:
        raise SettingsError("PostgreSQL needs a driver: pip install 'mutoscope[postgres]'.") from None
    raise SettingsError(f"MUTOSCOPE_DATABASE_URL names {kind}: it must be sqlite or postgresql.")


_POSTGRES = {
    "application_name": "mutoscope",
    "connect_timeout": 5,
    # A server that vanished without a word is noticed within seconds, not when the kernel gives it up.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # No statement of ours takes long; one that does waits for a lock or is lost, and must not hold others up.
    "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s",
}


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Autocommit at the driver: transactions are begun in so many words (see `Database.write`), never implied.
    connection.isolation_level = None
    # The system caches the file's pages already, once for all; SQLite's own cache (KiB) is each connection's.
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", "cache_size=-512")
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")


def _keep_first_line(context: ExceptionContext) -> None:
    # What follows the first line of PostgreSQL's errors quotes the row that was refused, all of it.
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


_MIGRATING = 0x6D75746F  # PostgreSQL's advisory lock for it; any number that nobody else takes


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the tables to `revision`, unless they are there. Of several processes one does it, and the others wait.

    Tables of a newer release are left as they are, and serve as long as they have all that this one's have: so two
    releases run side by side while one replaces the other. Raises SettingsError where they don't.
    """
    config = _alembic()
    with database.engine.connect() as connection:
        if database.is_local:
            # SQLite changes a table by copying it and dropping the first, which its foreign keys would forbid.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif revision != "head" or revision_of(connection) != newest_revision():
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        config.attributes["connection"] = connection
        found = revision_of(connection)
        if found is not None and found not in _revisions():
            _refuse_lacking(connection, found)
        elif found != newest_revision():
            command.upgrade(config, revision)
        connection.commit()
        if database.is_local:
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def revision_of(connection: Connection) -> str | None:
    """The schema's revision; None for a database without our tables."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """The revision that this version works with."""
    newest = ScriptDirectory.from_config(_alembic()).get_current_head()
    assert newest is not None
    return newest


def _revisions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}


def _refuse_lacking(connection: Connection, revision: str) -> None:
    has = inspect(connection).get_multi_columns()
    there = {(name, column["name"]) for (_, name), columns in has.items() for column in columns}
    ours = {(table.name, column.name) for table in metadata.sorted_tables for column in table.columns}
    if lacking := sorted(ours - there):
        names = ", ".join(f"{table}.{column}" for table, column in lacking)
        raise SettingsError(
            f"The database is of a newer release (tables of {revision}) and lacks {names}, which this one needs: "
            "upgrade this process too."
        )


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
