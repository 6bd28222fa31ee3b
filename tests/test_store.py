"""What every database must do for the queue: a contract, and SQLite and PostgreSQL keeping it."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from mutoscope.housekeeping import ended_before
from mutoscope.keys import Keys
from mutoscope.schema import open_database, tasks
from mutoscope.store import Hold, Store
from mutoscope.tasks import Caller, Status, Task, VideoRequest
from mutoscope.uploads import Uploads
from tests.postgres import Postgres
from tests.rows import make_caller

LEASE = 10.0
REQUEST = VideoRequest("a cat", ("https://example.com/a.png", "file:uploads/1/a"), "1:1", 7, 2**63 - 1)

CLAIM_ALL = """
import sys
from mutoscope.schema import open_database
from mutoscope.store import Store
store = Store(open_database(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
while (task := store.claim(sys.argv[2], ["animatic"])) is not None:
    print(task.id, task.attempt, flush=True)
"""


def caller_of(task: Task) -> Caller:
    return Caller(task.key_id, task.account_id, frozenset({"generate"}))


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_lease(self) -> None:
        self.now += LEASE + 1


class StoreContract:
    """What holds for any database; a subclass gives `url`, an empty one."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, url: str, clock: Clock) -> Iterator[Store]:
        store = Store(open_database(url), lease_seconds=LEASE, max_attempts=3, max_losses=4, clock=clock)
        yield store
        store.database.close()

    @pytest.fixture
    def add(self, store: Store) -> Callable[..., Task]:
        """Adds tasks of one key."""
        caller = make_caller(store.database)

        def add(engine: str = "animatic") -> Task:
            with store.database.write() as connection:
                return store.add(uuid.uuid4().hex, caller, "a/model", engine, REQUEST, connection=connection)

        return add

    @pytest.fixture
    def task(self, store: Store, add: Callable[..., Task]) -> Task:
        """A task that worker `a` holds."""
        add()
        task = store.claim("a", ["animatic"])
        assert task is not None
        return task

    def found(self, store: Store, task: Task) -> Task:
        found = store.find(task.id)
        assert found is not None
        return found

    def row(self, store: Store, task: Task) -> dict[str, Any]:
        with store.database.connect() as connection:
            return dict(connection.execute(select(tasks).where(tasks.c.id == task.id)).mappings().one())

    # Adding and reading

    def test_what_is_added_is_read_back_whole(self, store: Store, add: Callable[..., Task], clock: Clock) -> None:
        added = add()
        assert added == store.find(added.id) == store.get(added.key_id, added.id)
        assert added.request == REQUEST
        assert (added.status, added.attempt, added.created_at) == (Status.QUEUED, 0, clock.now)
        assert store.get("another", added.id) is None
        assert store.find("another") is None

    def test_a_transaction_that_fails_adds_nothing(self, store: Store, add: Callable[..., Task]) -> None:
        first = add()

        def fail() -> None:
            with store.database.write() as connection:
                store.add("f" * 32, caller_of(first), "m", "animatic", REQUEST, connection=connection)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert store.find("f" * 32) is None
        add()  # and the next transaction is not disturbed

    def test_an_id_is_used_once(self, store: Store, add: Callable[..., Task]) -> None:
        first = add()
        with pytest.raises(IntegrityError), store.database.write() as connection:
            store.add(first.id, caller_of(first), "m", "animatic", REQUEST, connection=connection)

    def test_the_newest_are_listed_first(self, store: Store, add: Callable[..., Task]) -> None:
        added = [add().id for _ in range(5)]
        assert [task.id for task in store.newest(limit=3)] == added[:1:-1]

    def test_a_caller_is_known_by_digest_until_revoked(self, store: Store, add: Callable[..., Task]) -> None:
        keys = Keys(store.database, b"k" * 32)
        key = keys.create("second")
        task = add()
        owner, other = keys.all()
        digest = keys.digest(key)
        known = keys.caller(digest)
        assert known == Caller(other.id, "default", frozenset({"generate", "read"}), is_operator=True)
        assert store.poll(digest, task.id) == (True, None)  # it is the first key's
        assert keys.caller(digest[:-1]) is None
        assert keys.caller(Keys(store.database, b"l" * 32).digest(key)) is None
        assert keys.revoke(other.id)
        assert not keys.revoke(other.id)
        assert keys.caller(digest) is None
        assert store.poll(digest, task.id) == (False, None)
        assert store.get(owner.id, task.id) == task

    # Claiming

    def test_the_oldest_is_claimed_first(self, store: Store, add: Callable[..., Task], clock: Clock) -> None:
        added = [add().id for _ in range(3)]
        claimed = [store.claim("a", ["animatic"]) for _ in range(4)]
        assert [task.id for task in claimed if task] == added
        assert claimed[3] is None
        first = claimed[0]
        assert first is not None
        assert first == store.find(first.id)
        assert (first.status, first.attempt, first.started_at) == (Status.RUNNING, 1, clock.now)

    def test_only_what_an_engine_can_render_is_claimed(self, store: Store, add: Callable[..., Task]) -> None:
        other, mine = add("skyreels-v3"), add("animatic")
        assert store.claim("a", []) is None
        claimed = store.claim("a", ["animatic", "x"])
        assert claimed is not None
        assert claimed.id == mine.id
        assert store.claim("a", ["animatic"]) is None
        assert self.found(store, other).status is Status.QUEUED

    def test_a_stage_of_any_length_is_noted(self, store: Store, task: Task) -> None:
        assert store.advance(task, "a" * 100, 0.5) is Hold.KEPT
        found = store.find(task.id)
        assert found is not None
        assert found.stage == "a" * 64

    def test_a_lease_that_is_renewed_is_kept(self, store: Store, task: Task, clock: Clock) -> None:
        for _ in range(5):
            clock.now += LEASE - 1
            assert store.renew(task) is Hold.KEPT
            assert store.claim("b", ["animatic"]) is None
            clock.now += LEASE - 1
            assert store.advance(task, "rendering", 0.5) is Hold.KEPT
            assert store.claim("b", ["animatic"]) is None
        assert (self.found(store, task).stage, self.found(store, task).progress) == ("rendering", 0.5)

    def test_a_lapsed_lease_is_claimed_again_with_the_next_attempt(
        self, store: Store, task: Task, clock: Clock
    ) -> None:
        store.advance(task, "rendering", 0.5)
        clock.pass_lease()
        again = store.claim("b", ["animatic"])
        assert again is not None
        assert (again.id, again.attempt, again.progress) == (task.id, 2, 0.0)
        assert self.row(store, task)["worker"] == "b"
        assert (self.row(store, task)["losses"], self.row(store, task)["failures"]) == (1, 0)

    @pytest.mark.parametrize("how", ["lapsed", "given back", "released"])
    def test_who_lost_the_lease_writes_nothing(self, store: Store, task: Task, clock: Clock, how: str) -> None:
        if how == "lapsed":
            clock.pass_lease()
        elif how == "given back":
            assert store.give_back(task) is Hold.KEPT
        else:
            assert store.release("a", failed=False) == 1
        again = store.claim("a", ["animatic"])  # even if it is the same worker
        assert again is not None
        for moment in ("held by another", "ended"):
            before = self.row(store, task)
            assert store.renew(task) is Hold.LOST, moment
            assert store.advance(task, "late", 0.9) is Hold.LOST, moment
            assert store.succeed(task, "late.mp4", "late.jpg", {"late": 1}) is Hold.LOST, moment
            assert store.fail(task, "late", 1) is Hold.LOST, moment
            assert store.end_canceled(task) is Hold.LOST, moment
            assert store.give_back(task) is Hold.LOST, moment
            assert store.give_back(task, failed=True) is Hold.LOST, moment
            assert self.row(store, task) == before, moment
            store.succeed(again, "o.mp4", "o.jpg", {"inference": 5})
        assert self.found(store, task).output == "o.mp4"

    # Ending

    def test_success(self, store: Store, task: Task, clock: Clock) -> None:
        clock.now += 3
        assert store.succeed(task, "o.mp4", "o.jpg", {"inference": 5}) is Hold.KEPT
        found = self.found(store, task)
        assert (found.status, found.progress, found.stage) == (Status.SUCCEEDED, 1.0, "")
        assert (found.output, found.poster, found.timings) == ("o.mp4", "o.jpg", {"inference": 5})
        assert (found.finished_at, found.error, found.error_code) == (clock.now, "", 0)
        assert (self.row(store, task)["worker"], self.row(store, task)["lease_until"]) == (None, None)

    def test_a_success_that_is_written_twice_is_one(self, store: Store, task: Task, clock: Clock) -> None:
        # A connection that broke as it was committed leaves the worker in doubt: it asks again.
        assert store.succeed(task, "o.mp4", "o.jpg", {}) is Hold.KEPT
        before = self.row(store, task)
        clock.now += 1
        assert store.succeed(task, "o.mp4", "o.jpg", {}) is Hold.KEPT
        assert self.row(store, task) == before

    def test_failure(self, store: Store, task: Task, clock: Clock) -> None:
        assert store.fail(task, "Image 1 is no picture.", 1402) is Hold.KEPT
        found = self.found(store, task)
        assert (found.status, found.error, found.error_code) == (Status.FAILED, "Image 1 is no picture.", 1402)
        assert (found.finished_at, found.output) == (clock.now, None)

    @pytest.mark.parametrize("end", ["succeed", "fail", "cancel"])
    def test_terminal_is_terminal(self, store: Store, task: Task, clock: Clock, end: str) -> None:
        if end == "succeed":
            store.succeed(task, "o.mp4", "o.jpg", {})
        elif end == "fail":
            store.fail(task, "no", 1403)
        else:
            store.cancel(None, task.id)
            store.end_canceled(task)
        before = self.row(store, task)
        assert before["status"] == {"succeed": "succeeded", "fail": "failed", "cancel": "canceled"}[end]
        clock.pass_lease()
        assert store.claim("b", ["animatic"]) is None
        assert store.release("a", failed=True) == 0
        canceled = store.cancel(None, task.id)
        assert canceled is not None
        assert canceled.status == before["status"]
        for write in (store.renew, store.give_back, store.end_canceled):
            assert write(task) is Hold.LOST
        assert self.row(store, task) == before

    # Canceling

    def test_a_queued_task_is_canceled_at_once(self, store: Store, add: Callable[..., Task], clock: Clock) -> None:
        task = add()
        assert store.cancel("another", task.id) is None
        assert self.found(store, task).status is Status.QUEUED
        canceled = store.cancel(task.key_id, task.id)
        assert canceled is not None
        assert (canceled.status, canceled.finished_at) == (Status.CANCELED, clock.now)
        assert store.claim("a", ["animatic"]) is None
        assert store.cancel(task.key_id, "another") is None

    def test_a_running_task_learns_of_it_at_its_next_step(self, store: Store, task: Task) -> None:
        canceled = store.cancel(task.key_id, task.id)
        assert canceled is not None
        assert (canceled.status, canceled.cancel_requested) == (Status.RUNNING, True)
        assert store.advance(task, "x", 0.5) is Hold.CANCEL
        assert store.renew(task) is Hold.CANCEL
        assert store.end_canceled(task) is Hold.KEPT
        assert self.found(store, task).status is Status.CANCELED

    @pytest.mark.parametrize("how", ["lapsed", "given back", "failed", "released"])
    def test_a_canceled_task_that_comes_back_is_not_queued_again(
        self, store: Store, task: Task, clock: Clock, how: str
    ) -> None:
        store.cancel(None, task.id)
        if how == "released":
            store.release("a", failed=False)
        elif how != "lapsed":
            store.give_back(task, failed=how == "failed")
        clock.pass_lease()
        assert store.claim("b", ["animatic"]) is None
        found = self.found(store, task)
        assert (found.status, found.error, found.finished_at is not None) == (Status.CANCELED, "", True)

    def test_a_cancel_counts_more_than_the_last_failed_attempt(self, store: Store, task: Task) -> None:
        for _ in range(2):
            store.give_back(task, failed=True)
            task = store.claim("a", ["animatic"]) or task
        store.cancel(None, task.id)
        assert store.give_back(task, failed=True) is Hold.KEPT
        found = self.found(store, task)
        assert (found.status, found.error, found.error_code) == (Status.CANCELED, "", 0)

    def test_a_cancel_after_the_last_step_wins_over_success(self, store: Store, task: Task) -> None:
        store.cancel(None, task.id)
        assert store.succeed(task, "o.mp4", "o.jpg", {}) is Hold.CANCEL
        found = self.found(store, task)
        assert (found.status, found.output) == (Status.RUNNING, None)
        assert store.end_canceled(task) is Hold.KEPT
        assert store.succeed(task, "o.mp4", "o.jpg", {}) is Hold.LOST
        assert self.found(store, task).status is Status.CANCELED

    # Bounds

    def test_being_told_to_stop_does_not_count(self, store: Store, task: Task) -> None:
        for attempt in range(1, 20):
            assert task.attempt == attempt
            assert store.give_back(task) is Hold.KEPT
            again = store.claim("a", ["animatic"])
            assert again is not None
            task = again
        assert (self.row(store, task)["failures"], self.row(store, task)["losses"]) == (0, 0)

    @pytest.mark.parametrize("how", ["given back", "released"])
    def test_three_failed_attempts_are_the_end(self, store: Store, task: Task, clock: Clock, how: str) -> None:
        for attempt in range(1, 4):
            assert task.attempt == attempt
            assert self.found(store, task).status is Status.RUNNING
            if how == "given back":
                assert store.give_back(task, failed=True) is Hold.KEPT
            else:
                assert store.release("a", failed=True) == 1
            task = store.claim("a", ["animatic"]) or task
        found = self.found(store, task)
        assert (found.status, found.error_code, found.finished_at) == (Status.FAILED, 1406, clock.now)
        assert found.error.endswith(".")

    @pytest.mark.parametrize("how", ["lapsed", "released"])
    def test_losses_are_bounded_too(self, store: Store, task: Task, clock: Clock, how: str) -> None:
        for attempt in range(1, 5):
            assert task.attempt == attempt
            if how == "lapsed":
                clock.pass_lease()
            else:
                assert store.release("a", failed=False) == 1
            task = store.claim("a", ["animatic"]) or task
        found = self.found(store, task)
        assert (found.status, found.error_code) == (Status.FAILED, 1406)

    def test_release_frees_what_one_worker_held(self, store: Store, add: Callable[..., Task]) -> None:
        for _ in range(3):
            add()
        mine, other = store.claim("a", ["animatic"]), store.claim("b", ["animatic"])
        assert mine is not None
        assert other is not None
        assert store.release("nobody", failed=True) == 0
        assert store.release("a", failed=False) == 1
        assert self.found(store, mine).status is Status.QUEUED
        assert self.found(store, other).status is Status.RUNNING
        again = store.claim("c", ["animatic"])
        assert again is not None
        assert (again.id, again.attempt) == (mine.id, 2)  # it keeps its place in the queue

    # Ends of retention

    def test_only_ended_tasks_are_removed(self, store: Store, add: Callable[..., Task], clock: Clock) -> None:
        old, running, queued = add(), add(), add()
        first, second = store.claim("a", ["animatic"]), store.claim("a", ["animatic"])
        assert first is not None
        assert second is not None
        store.succeed(first, "o", "p", {})
        clock.now += 100
        assert [task.id for task in ended_before(store.database, clock.now)] == [old.id]
        assert ended_before(store.database, clock.now - 100) == []
        store.remove([old.id, running.id, queued.id])
        assert store.find(old.id) is None
        assert {task.id for task in store.newest()} == {running.id, queued.id}

    def test_a_place_in_the_queue_is_never_given_twice(self, store: Store, add: Callable[..., Task]) -> None:
        first = add()
        store.cancel(None, first.id)
        store.remove([first.id])
        assert add().seq > first.seq

    def test_uploads(self, store: Store, add: Callable[..., Task], clock: Clock) -> None:
        key_id = add().key_id
        uploads = Uploads(store.database, clock=clock)
        uploads.add("u1", key_id, filename="a.png", content_type="image/png", size=5, file="uploads/u1/a.png")
        found = uploads.get("u1")
        assert found is not None
        assert (found["filename"], found["size"], found["created_at"]) == ("a.png", 5, clock.now)
        assert uploads.get("u2") is None
        assert list(uploads.before(clock.now)) == []
        assert [upload["id"] for upload in uploads.before(clock.now + 1)] == ["u1"]
        uploads.remove(["u1"])
        assert uploads.get("u1") is None

    # Many at once

    @pytest.mark.slow
    def test_four_processes_claim_300_tasks_once_each(self, store: Store, add: Callable[..., Task], url: str) -> None:
        added = [add().id for _ in range(300)]
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", CLAIM_ALL, url, f"worker-{number}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number in range(4)
        ]  # fmt: skip
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        claimed: list[list[str]] = []
        for worker in workers:
            output, _ = worker.communicate(timeout=120)
            assert worker.returncode == 0
            lines = [line.split() for line in output.splitlines()]
            assert {attempt for _, attempt in lines} <= {"1"}
            claimed.append([task_id for task_id, _ in lines])
        assert sorted(chain(*claimed)) == sorted(added)
        order = {task_id: number for number, task_id in enumerate(added)}
        for theirs in claimed:
            assert all(order[one] < order[next_one] for one, next_one in pairwise(theirs))

    def test_threads_share_a_store(self, store: Store, add: Callable[..., Task]) -> None:
        first = add()
        claimed: list[str] = []

        def work(number: int) -> None:
            for _ in range(20):
                with store.database.write() as connection:
                    store.add(uuid.uuid4().hex, caller_of(first), "m", "animatic", REQUEST, connection=connection)
                task = store.claim(str(number), ["animatic"])
                if task is not None and store.succeed(task, "o", "p", {}) is Hold.KEPT:
                    claimed.append(task.id)
                store.get(first.key_id, first.id)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while (task := store.claim("last", ["animatic"])) is not None:
            store.succeed(task, "o", "p", {})
            claimed.append(task.id)
        assert len(claimed) == len(set(claimed)) == 161


class TestPostgres(StoreContract):
    @pytest.fixture
    def url(self, postgres: Postgres) -> str:
        return postgres.fresh()


class TestSqlite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/mutoscope.db"

    def test_what_is_committed_survives_a_power_cut(self, store: Store) -> None:
        with store.database.connect() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def test_an_open_reader_sees_what_another_process_wrote(self, store: Store, task: Task, url: str) -> None:
        assert store.get(task.key_id, task.id) == task  # by the connection that is kept for such reads
        other = Store(open_database(url))
        with other.database.write() as connection:
            connection.execute(update(tasks).where(tasks.c.id == task.id).values(stage="changed"))
        other.database.close()
        found = store.get(task.key_id, task.id)
        assert found is not None
        assert found.stage == "changed"
