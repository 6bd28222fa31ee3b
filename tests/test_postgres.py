"""What PostgreSQL has to do besides SQLite's part: a clock and a bell for all machines, limits that hold across
processes, and coming back."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from sqlalchemy import func, select, text, update

from mutoscope import ledger
from mutoscope.admission import Admission, Admitted, OverCap, Submission, TooFast
from mutoscope.bell import Listener, Ringer
from mutoscope.config import SettingsError
from mutoscope.database import Database
from mutoscope.keys import Keys
from mutoscope.models import ANIMATIC
from mutoscope.schema import accounts, keys, metadata, open_database, submissions, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, VideoRequest
from tests.installation import EXAMPLES, Installation
from tests.postgres import Postgres
from tests.rows import make_caller

REQUEST = VideoRequest("a cat", ("https://example.com/a.png",))
PROCESSES = 4


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.fresh()


@pytest.fixture
def databases(url: str) -> Iterator[list[Database]]:
    """As many as there are processes: each has connections of its own, and nothing is shared between them."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_database(url)) for _ in range(PROCESSES)]


def at_once(databases: list[Database], work: Callable[[Database], object]) -> None:
    """Each does its work in a thread of its own; all begin at one moment."""
    barrier, failed = threading.Barrier(len(databases)), []

    def run(database: Database) -> None:
        barrier.wait()
        try:
            work(database)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def submit(database: Database, caller: Caller, name: str = "", price: int = 0) -> object:
    admission = Admission(Store(database))
    asked = Submission(uuid.uuid4().hex, caller, ANIMATIC, "animatic", REQUEST, price, name=name, body_digest=name)
    with database.write() as connection:
        return admission.admit(asked, connection)


def limit(database: Database, caller: Caller, **values: object) -> None:
    with database.write() as connection:
        connection.execute(update(keys).where(keys.c.id == caller.key_id).values(**values))


def count(database: Database, table: object = tasks) -> int:
    with database.connect() as connection:
        found: int = connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]
    return found


def test_a_name_makes_one_task_of_all_that_are_sent_at_once(databases: list[Database]) -> None:
    caller = make_caller(databases[0])
    outcomes: list[object] = []

    def work(database: Database) -> None:
        outcomes.extend(submit(database, caller, name=f"take {number}") for number in range(10))

    at_once(databases, work)
    assert count(databases[0]) == count(databases[0], submissions) == 10
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Admitted)]
    assert len(admitted) == 10 * PROCESSES
    assert sum(one.is_new for one in admitted) == 10
    assert len({one.task.id for one in admitted}) == 10


def test_a_rate_is_the_key_s_and_not_each_process_s(databases: list[Database]) -> None:
    caller = make_caller(databases[0])
    limit(databases[0], caller, videos_per_minute=6)
    outcomes: list[object] = []
    at_once(databases, lambda database: outcomes.extend(submit(database, caller) for _ in range(6)))
    assert sum(isinstance(outcome, Admitted) for outcome in outcomes) == 6
    assert sum(isinstance(outcome, TooFast) for outcome in outcomes) == 6 * PROCESSES - 6


def test_a_cap_and_a_balance_are_not_overdrawn(databases: list[Database]) -> None:
    account = Keys(databases[0], b"k" * 32).create_account("poor")
    caller, capped = make_caller(databases[0], account.id), make_caller(databases[0], account.id)
    limit(databases[0], capped, daily_cap_micros=30)
    with databases[0].write() as connection:
        ledger.credit(connection, account.id, 100, note="", now=0.0)
    outcomes: list[object] = []
    at_once(databases, lambda database: outcomes.extend(submit(database, capped, price=10) for _ in range(5)))
    assert sum(isinstance(outcome, OverCap) for outcome in outcomes) == 5 * PROCESSES - 3
    at_once(databases, lambda database: outcomes.extend(submit(database, caller, price=10) for _ in range(5)))
    assert sum(isinstance(outcome, ledger.Missing) for outcome in outcomes) == 5 * PROCESSES - 7
    with databases[0].snapshot() as connection:
        assert ledger.audit(connection) == []


def test_credit_of_one_name_is_given_once_by_all(databases: list[Database]) -> None:
    account = Keys(databases[0], b"k" * 32).create_account("lucky").id
    outcomes: list[object] = []

    def work(database: Database) -> None:
        for number in range(10):
            with database.write() as connection:
                name = f"invoice {number}"
                outcomes.append(ledger.credit(connection, account, 100, note="", now=0.0, name=name))

    at_once(databases, work)
    assert (outcomes.count(None), outcomes.count(ledger.Before(100))) == (10, 10 * PROCESSES - 10)
    with databases[0].snapshot() as connection:
        assert connection.execute(select(accounts.c.available_micros).where(accounts.c.id == account)).scalar() == 1000
        assert ledger.audit(connection) == []


def test_a_key_s_tasks_never_run_beyond_its_concurrency(databases: list[Database]) -> None:
    caller, other = make_caller(databases[0]), make_caller(databases[0])
    limit(databases[0], caller, concurrency=1)
    for _ in range(4):
        submit(databases[0], caller)
    submit(databases[0], other)
    for _ in range(10):
        claimed: list[str] = []

        def work(database: Database) -> None:
            if (task := Store(database).claim("worker", ["animatic"])) is not None:
                claimed.append(task.key_id)  # noqa: B023 - over before the next round

        at_once(databases, work)
        assert sorted(claimed) == sorted([caller.key_id, other.key_id])
        assert Store(databases[0]).release("worker", failed=False) == 2


def test_many_processes_add_end_and_sweep_without_waiting_for_each_other_in_a_circle(databases: list[Database]) -> None:
    made = Keys(databases[0], b"k" * 32)
    callers = [make_caller(databases[0], made.create_account(name, is_unlimited=True).id) for name in "abcd"]

    def work(database: Database) -> None:
        store = Store(database, lease_seconds=-1)  # each lease has run out as it is given
        admission = Admission(store)
        for turn in range(12):
            with database.write() as connection:  # a group commit: several accounts in one transaction
                for caller in sorted(callers, key=lambda caller: caller.account_id):
                    asked = Submission(uuid.uuid4().hex, caller, ANIMATIC, "animatic", REQUEST, 5)
                    admission.admit(asked, connection)
            for _ in range(3):
                task = store.claim("worker", ["animatic"])
                if task is not None and turn % 2:
                    store.succeed(task, "o", "p", {})

    at_once(databases, work)
    assert count(databases[0]) == 12 * 4 * PROCESSES
    with databases[0].snapshot() as connection:
        assert ledger.audit(connection) == []


def test_times_are_the_server_s(postgres: Postgres) -> None:
    with postgres.empty() as url, open_database(url) as database:
        name = url.rpartition("/")[2]
        # Found before the system's own function: a server whose clock is an hour ahead of this machine's.
        postgres.run(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
        postgres.run(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "'SELECT pg_catalog.clock_timestamp() + interval ''1 hour'''",
            name,
        )
        database.close()
        caller = make_caller(database)
        submit(database, caller)
        task = Store(database, lease_seconds=10).claim("worker", ["animatic"])
        assert task is not None
        with database.connect() as connection:
            row = connection.execute(select(tasks.c.created_at, tasks.c.lease_until)).one()
        assert abs(row.created_at - time.time() - 3600) < 60
        assert abs(row.lease_until - time.time() - 3610) < 60


def test_the_bell_is_heard_by_every_process_and_again_after_the_connection_broke(
    databases: list[Database], postgres: Postgres
) -> None:
    heard = [threading.Semaphore(0) for _ in databases[1:]]
    ringer = Ringer(databases[0])
    listeners = [Listener(database, rung.release) for database, rung in zip(databases[1:], heard, strict=True)]
    for part in (ringer, *listeners):
        part.start()
    try:
        for _ in range(2):
            assert all(rung.acquire(timeout=20) for rung in heard)  # it listens: it may have missed something
            for _ in range(3):
                ringer.ring()
                assert all(rung.acquire(timeout=20) for rung in heard)
            postgres.cut("mutoscope")
    finally:
        for part in (*listeners, ringer):
            part.stop()


def test_several_processes_may_migrate_at_once(postgres: Postgres) -> None:
    with postgres.empty() as url:
        opened: list[Database] = []
        at_once([None] * 4, lambda _: opened.append(open_database(url)))  # type: ignore[list-item]
        for database in opened:
            assert count(database, accounts) == 1
            database.close()


def test_a_read_of_many_statements_sees_one_moment(databases: list[Database]) -> None:
    caller = make_caller(databases[0])
    with databases[0].snapshot() as connection:
        before = connection.execute(select(func.count()).select_from(tasks)).scalar()
        submit(databases[1], caller)
        assert connection.execute(select(func.count()).select_from(tasks)).scalar() == before == 0
    assert count(databases[0]) == 1


def test_a_look_up_outlives_the_connections_that_were_kept_for_it(databases: list[Database]) -> None:
    asking, other = databases[:2]
    known = Keys(asking, b"k" * 32)
    digest = known.digest(known.create("tests"))
    before = known.caller(digest)
    assert before is not None
    with other.write() as connection:
        ours = text("SELECT pg_backend_pid()")
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :me"
        )
        ended = connection.execute(text(others), {"me": connection.execute(ours).scalar_one()}).scalars().all()
    assert len(ended) > 0
    for _ in range(5):  # more than are kept
        assert known.caller(digest) == before


def test_a_statement_that_takes_too_long_is_ended(databases: list[Database]) -> None:
    with databases[0].connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"


@pytest.mark.parametrize(
    ("given", "told"),
    [("mysql://host/name", "names mysql"), ("no url", "is no URL"), ("postgresql+nodriver", "is no URL")],
)
def test_a_url_that_can_t_be_used_is_told_in_a_sentence(given: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        open_database(given)


def test_every_table_s_times_and_amounts_keep_all_their_digits(databases: list[Database]) -> None:
    kinds = {str(column.type) for table in metadata.sorted_tables for column in table.columns}
    with databases[0].connect() as connection:
        found = set(
            connection.execute(
                text("SELECT data_type FROM information_schema.columns WHERE table_schema = 'public'")
            ).scalars()
        )
    assert "FLOAT" in kinds
    assert "double precision" in found
    assert "real" not in found


@pytest.mark.slow
def test_a_restart_of_the_server_in_mid_work_loses_nothing(
    install: Callable[..., Installation], postgres: Postgres, url: str
) -> None:
    installation = install(database_url=url, lease_seconds=3).start()
    image = installation.upload(EXAMPLES / "chelsea.jpg")
    task_id = installation.submit(prompt="slow push in", images=[image], aspect_ratio="1:1")["id"]
    until = time.monotonic() + 60
    while installation.result(task_id)["progress"] < 0.1:
        assert time.monotonic() < until
        time.sleep(0.05)
    workers = installation.worker_pids()
    postgres.stop()
    try:
        wanted = {"prompt": "pan left", "images": [image]}
        answers: list[httpx.Response] = [
            installation.http.post(f"/api/v3/{ANIMATIC}", json=wanted),
            installation.http.get(f"/api/v3/predictions/{task_id}/result"),
            installation.http.get("/api/v3/predictions"),
            installation.http.get("/healthz"),
        ]
        time.sleep(4)  # past the lease
    finally:
        postgres.start()
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["error_code"] == "database_unavailable"
        assert int(answer.headers["retry-after"]) > 0
    found = installation.wait(task_id)
    assert found["status"] == "completed", found
    assert installation.http.get(found["outputs"][0]).status_code == 200
    assert installation.submit(prompt="pan left", images=[image])["status"] == "created"
    assert installation.worker_pids() == workers, "a worker ended"
    with open_database(url) as database, database.snapshot() as connection:
        assert connection.execute(select(tasks.c.attempt, tasks.c.failures).where(tasks.c.id == task_id)).one() in (
            (1, 0),
            (2, 0),
        )
        assert ledger.audit(connection) == []
