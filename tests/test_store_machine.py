"""Any order of moves by several workers, with a clock that jumps: the promises of the queue hold all the way."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from mutoscope.schema import open_database, tasks
from mutoscope.store import Hold, Store
from mutoscope.tasks import Status, Task, VideoRequest
from tests.rows import make_caller

LEASE = 10.0
MAX_ATTEMPTS, MAX_LOSSES = 3, 4
WORKERS = st.sampled_from(["a", "b", "c"])
REQUEST = VideoRequest("a cat", ("https://example.com/a.png",))


class Queue(RuleBasedStateMachine):
    """Workers claim, write, vanish and come back; `held` is who may write to each task, by our own book-keeping."""

    claims = Bundle("claims")  # every claim ever made, lost or not: a worker may come back after any time

    def __init__(self, url: str) -> None:
        super().__init__()
        self.now = 1000.0
        self.store = Store(
            open_database(url),
            lease_seconds=LEASE,
            max_attempts=MAX_ATTEMPTS,
            max_losses=MAX_LOSSES,
            clock=lambda: self.now,
        )
        self.caller = make_caller(self.store.database)
        self.added: list[str] = []
        self.held: dict[str, tuple[int, str]] = {}  # task → the attempt whose writes count, and whose it is
        self.leases: dict[str, float] = {}
        self.ended: dict[str, dict[str, object]] = {}
        self.canceled: set[str] = set()

    @rule()
    def add(self) -> None:
        with self.store.database.write() as connection:
            task = self.store.add(uuid.uuid4().hex, self.caller, "m", "animatic", REQUEST, connection=connection)
        self.added.append(task.id)

    @rule(seconds=st.sampled_from([0.5, LEASE / 2, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=claims, worker=WORKERS)
    def claim(self, worker: str) -> object:
        for task_id, until in list(self.leases.items()):  # a look at the queue frees what nobody renewed
            if until < self.now:
                self.let_go(task_id)
        task = self.store.claim(worker, ["animatic"])
        if task is None:
            assert all(self.rows()[task_id]["status"] != "queued" for task_id in self.added)
            return multiple()
        assert task.id not in self.held, "two workers hold one task"
        assert task.id not in self.ended
        assert task.id not in self.canceled
        waiting = [row["seq"] for row in self.rows().values() if row["status"] == "queued"]
        assert all(task.seq < seq for seq in waiting), "an older task was passed over"
        self.held[task.id] = (task.attempt, worker)
        self.leases[task.id] = self.now + LEASE
        return task

    @rule(task=claims, progress=st.floats(0, 1))
    def advance(self, task: Task, progress: float) -> None:
        self.check(task, self.store.advance(task, "x", progress))

    @rule(task=claims)
    def renew(self, task: Task) -> None:
        self.check(task, self.store.renew(task))

    @rule(task=consumes(claims))
    def succeed(self, task: Task) -> None:
        counted = self.check(task, self.store.succeed(task, f"{task.attempt}.mp4", "p", {"x": 1}))
        if counted and task.id not in self.canceled:
            assert self.rows()[task.id]["output"] == f"{task.attempt}.mp4"
            self.let_go(task.id)

    @rule(task=claims)
    def fail(self, task: Task) -> None:
        self.check_end(task, self.store.fail(task, "no", 1403))

    @rule(task=claims)
    def end_canceled(self, task: Task) -> None:
        self.check_end(task, self.store.end_canceled(task))

    @rule(task=claims, failed=st.booleans())
    def give_back(self, task: Task, failed: bool) -> None:
        self.check_end(task, self.store.give_back(task, failed=failed))

    @rule(worker=WORKERS, failed=st.booleans())
    def die(self, worker: str, failed: bool) -> None:
        theirs = [task_id for task_id, (_, holder) in self.held.items() if holder == worker]
        assert self.store.release(worker, failed=failed) == len(theirs)
        for task_id in theirs:
            self.let_go(task_id)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.added:
            return
        task_id = data.draw(st.sampled_from(self.added))
        before = self.rows()[task_id]["status"]
        task = self.store.cancel(self.caller.key_id, task_id)
        assert task is not None
        if before == "queued":
            assert task.status is Status.CANCELED
        elif before == "running":
            assert task.status is Status.RUNNING
            self.canceled.add(task_id)
        else:
            assert task.status == before

    @invariant()
    def terminal_is_terminal_and_nothing_is_lost(self) -> None:
        rows = self.rows()
        assert set(rows) == set(self.added)
        for task_id, row in rows.items():
            status = Status(str(row["status"]))
            if task_id in self.ended:
                assert row == self.ended[task_id]
            elif status.is_terminal:
                self.ended[task_id] = row
                assert row["finished_at"] is not None
                assert row["worker"] is None
            assert (status is Status.RUNNING) == (task_id in self.held)
            if status is Status.QUEUED:
                assert row["worker"] is None
                assert row["lease_until"] is None
            if status is Status.SUCCEEDED:
                assert row["output"] == f"{row['attempt']}.mp4"
            assert int(str(row["failures"])) <= MAX_ATTEMPTS
            assert int(str(row["losses"])) <= MAX_LOSSES
            if not status.is_terminal:
                assert int(str(row["failures"])) < MAX_ATTEMPTS
                assert int(str(row["losses"])) < MAX_LOSSES

    def is_held(self, task: Task) -> bool:
        held = self.held.get(task.id)
        return held is not None and held[0] == task.attempt

    def check(self, task: Task, hold: Hold) -> bool:
        """A write was answered rightly; returns whether it counted."""
        if not self.is_held(task):
            assert hold is Hold.LOST
            return False
        assert hold is (Hold.CANCEL if task.id in self.canceled else Hold.KEPT)
        self.leases[task.id] = self.now + LEASE
        return True

    def check_end(self, task: Task, hold: Hold) -> None:
        """Letting go of a task counts if it was held, whether or not a cancel was asked for."""
        assert (hold is Hold.KEPT) == self.is_held(task)
        if hold is Hold.KEPT:
            self.let_go(task.id)

    def let_go(self, task_id: str) -> None:
        del self.held[task_id], self.leases[task_id]

    def rows(self) -> dict[str, dict[str, object]]:
        with self.store.database.connect() as connection:
            return {row["id"]: dict(row) for row in connection.execute(select(tasks)).mappings()}

    def teardown(self) -> None:
        # Whatever happened: a worker that goes on ends every task.
        self.now += LEASE + 1
        while (task := self.store.claim("last", ["animatic"])) is not None:
            self.store.succeed(task, f"{task.attempt}.mp4", "p", {})
        assert all(Status(str(row["status"])).is_terminal for row in self.rows().values())
        self.store.database.close()


def test_the_queue_keeps_its_promises_in_any_order_of_moves(fresh_database: Callable[[], str]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Queue(fresh_database()), settings=settings(max_examples=40, stateful_step_count=40)
    )
