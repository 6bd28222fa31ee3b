"""The books: what each move writes, and that they agree after any sequence of moves and crashes."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import event, func, select

from mutoscope import ledger
from mutoscope.admission import Admission, Admitted, OverCap, Submission
from mutoscope.keys import Keys
from mutoscope.ledger import Missing
from mutoscope.schema import accounts, entries, open_database, tasks
from mutoscope.store import Store
from mutoscope.tasks import Caller, Status, VideoRequest
from tests.rows import make_caller

PRICE = 200_000
REQUEST = VideoRequest("a cat", ("https://example.com/a.png",))
MODEL = "skywork-ai/skyreels-v3/reference-to-video"


class Books:
    """A store with an account of its own that has to pay."""

    def __init__(self, url: str, clock: Callable[[], float] = lambda: 1_000_000.0) -> None:
        self.database = open_database(url)
        self.store = Store(self.database, lease_seconds=10, max_attempts=2, max_losses=3, clock=clock)
        self.admission = Admission(self.store, clock=clock)
        self.account_id = Keys(self.database, b"k" * 32).create_account("payer").id
        self.caller = make_caller(self.database, self.account_id)
        self._clock = clock

    def credit(self, amount: int) -> Missing | None:
        with self.database.write() as connection:
            return ledger.credit(connection, self.account_id, amount, note="", now=self._clock())

    def submit(self, price: int = PRICE, caller: Caller | None = None, **wishes: Any) -> Any:
        asked = Submission(uuid.uuid4().hex, caller or self.caller, MODEL, "animatic", REQUEST, price, 5.0, **wishes)
        with self.database.write() as connection:
            return self.admission.admit(asked, connection)

    def balance(self) -> tuple[int, int]:
        """(available, held)"""
        with self.database.connect() as connection:
            row = connection.execute(select(accounts).where(accounts.c.id == self.account_id)).mappings().one()
        return row["available_micros"], row["held_micros"]

    def moves(self) -> list[tuple[str, str, str, int]]:
        """Every entry of the account: kind, from, to, amount."""
        columns = (entries.c.kind, entries.c.debit, entries.c.credit, entries.c.amount_micros)
        query = select(*columns).where(entries.c.account_id == self.account_id).order_by(entries.c.seq)
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def audit(self) -> list[str]:
        with self.database.connect() as connection:
            return ledger.audit(connection)


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    books = Books(database_url)
    yield books
    assert books.audit() == []
    books.database.close()


def test_a_video_that_was_made_is_paid(books: Books) -> None:
    books.credit(1_000_000)
    assert isinstance(books.submit(), Admitted)
    assert books.balance() == (800_000, PRICE)
    task = books.store.claim("worker", ["animatic"])
    assert task is not None
    books.store.succeed(task, "o", "p", {})
    assert books.balance() == (800_000, 0)
    assert books.moves()[1:] == [("hold", "available", "held", PRICE), ("settle", "held", "revenue", PRICE)]
    found = books.store.find(task.id)
    assert found is not None
    assert found.charged_micros == PRICE


@pytest.mark.parametrize("how", ["failed", "canceled while it waited", "given up", "too late"])
def test_what_was_not_made_costs_nothing(books: Books, how: str) -> None:
    books.credit(PRICE)
    admitted = books.submit(deadline_at=999_999.0 if how == "too late" else None)
    if how == "failed":
        task = books.store.claim("worker", ["animatic"])
        assert task is not None
        books.store.fail(task, "no", 1402)
    elif how == "canceled while it waited":
        books.store.cancel(None, admitted.task.id)
    elif how == "given up":
        while task := books.store.claim("worker", ["animatic"]):
            books.store.give_back(task, failed=True)
    else:
        assert books.store.expire() == 1
    found = books.store.find(admitted.task.id)
    assert found is not None
    assert (found.status, found.charged_micros) == (
        Status.CANCELED if how.startswith("canceled") else Status.FAILED,
        0,
    )
    assert books.balance() == (PRICE, 0)
    assert books.moves()[2:] == [("release", "held", "available", PRICE)]


def test_a_cancel_in_mid_work_pays_for_what_was_done_rounded_down(books: Books) -> None:
    books.credit(PRICE)
    books.submit(price=100_001)
    task = books.store.claim("worker", ["animatic"])
    assert task is not None
    books.store.cancel(None, task.id)
    books.store.end_canceled(task, 3 / 8)
    assert books.moves()[2:] == [("settle", "held", "revenue", 37_500), ("release", "held", "available", 62_501)]
    assert books.balance() == (PRICE - 37_500, 0)


def test_a_balance_that_is_too_small_refuses_and_keeps_nothing(books: Books) -> None:
    books.credit(PRICE - 1)
    before = books.moves()
    assert books.submit() == Missing(1)
    assert (books.moves(), books.store.newest()) == (before, [])
    books.credit(1)
    assert isinstance(books.submit(), Admitted)
    assert books.submit() == Missing(PRICE)


def test_an_unlimited_account_owes_what_it_used(books: Books) -> None:
    caller = make_caller(books.database)
    assert isinstance(books.submit(caller=caller), Admitted)
    with books.database.connect() as connection:
        owed = connection.execute(select(accounts.c.available_micros).where(accounts.c.id == "default")).scalar_one()
    assert owed == -PRICE


def test_credit_is_taken_back_no_further_than_the_floor(books: Books) -> None:
    books.credit(500)
    assert books.credit(-501) == Missing(1)
    assert books.credit(-500) is None
    assert books.moves() == [("credit", "funding", "available", 500), ("credit", "available", "funding", 500)]


def test_the_cap_of_a_day_counts_what_was_spent_and_forgives_what_was_not(books: Books) -> None:
    books.credit(10 * PRICE)
    keys = Keys(books.database, b"k" * 32)
    capped = keys.caller(keys.digest(keys.create("capped", account_id=books.account_id, daily_cap_micros=2 * PRICE)))
    first = books.submit(caller=capped)
    assert isinstance(books.submit(caller=capped), Admitted)
    assert books.submit(caller=capped) == OverCap(PRICE)
    assert isinstance(books.submit(), Admitted)  # another key of the account has no cap
    books.store.cancel(None, first.task.id)
    assert isinstance(books.submit(caller=capped), Admitted)


@pytest.mark.slow
def test_of_200_submits_at_once_a_balance_for_7_takes_7(tmp_path: Path) -> None:
    for race in range(int(os.environ.get("MUTOSCOPE_TEST_RACES", "5"))):
        books = Books(f"sqlite:///{tmp_path / f'{race}.db'}")
        books.credit(7 * PRICE)
        outcomes: list[Any] = []

        def submit_all(books: Books = books, outcomes: list[Any] = outcomes) -> None:
            outcomes.extend(books.submit() for _ in range(25))

        threads = [threading.Thread(target=submit_all) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(type(outcome) for outcome in outcomes) == {Admitted: 7, Missing: 193}
        assert books.balance() == (0, 7 * PRICE)
        assert books.audit() == []
        books.database.close()


class Crash(Exception):
    """The process is gone between two statements."""


class Bookkeeping(RuleBasedStateMachine):
    """Tasks of two accounts come, run and end in every way, and any move may crash before any of its statements."""

    def __init__(self, url: str, made: Counter[str]) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.books = Books(url, lambda: self.now)
        self.statements_left: int | None = None
        event.listen(self.books.database.engine, "before_cursor_execute", self._count)
        self.made = made

    def _count(self, *_: Any) -> None:
        if self.statements_left is None:
            return
        self.statements_left -= 1
        if self.statements_left < 0:
            raise Crash

    @contextmanager
    def crashing(self, after: int | None) -> Iterator[None]:
        """Run what may crash once `after` statements were made; None: it does not."""
        self.made["moves"] += 1
        self.statements_left = after
        try:
            yield
        except Crash:
            self.made["crashes"] += 1
        self.statements_left = None

    @initialize(amount=st.sampled_from([0, 2 * PRICE, 100 * PRICE]))
    def open(self, amount: int) -> None:
        self.books.credit(amount)

    crash = st.one_of(st.none(), st.integers(0, 12))

    @rule(after=crash, amount=st.sampled_from([PRICE, 3 * PRICE, 1, -PRICE]))
    def credit(self, after: int | None, amount: int) -> None:
        with self.crashing(after):
            self.books.credit(amount)

    @rule(after=crash, price=st.sampled_from([0, 1, PRICE]), late=st.booleans(), name=st.sampled_from(["", "", "a"]))
    def submit(self, after: int | None, price: int, late: bool, name: str) -> None:
        with self.crashing(after):
            deadline = self.now + 3 if late else None
            wishes = {"deadline_at": deadline, "webhook_url": "http://x", "name": name, "body_digest": name}
            self.made[type(self.books.submit(price, **wishes)).__name__] += 1

    @rule(
        after=crash,
        how=st.sampled_from(["succeed", "fail", "cancel", "give back", "break", "hold"]),
        done=st.floats(0, 1),
    )
    def work(self, after: int | None, how: str, done: float) -> None:
        store = self.books.store
        with self.crashing(after):
            task = store.claim("worker", ["animatic"])
            if task is None:  # or most moves would find nothing to do
                self.books.submit()
                task = store.claim("worker", ["animatic"])
            if task is None:
                return
            if how == "succeed":
                store.succeed(task, "o", "p", {})
            elif how == "fail":
                store.fail(task, "no", 1403)
            elif how == "cancel":
                store.cancel(None, task.id)
                store.end_canceled(task, done)
            elif how in ("give back", "break"):
                store.give_back(task, failed=how == "break")
            self.made[how] += 1

    @rule(after=crash, which=st.integers(0, 5))
    def cancel(self, after: int | None, which: int) -> None:
        waiting = self.books.store.newest(limit=6)
        if which < len(waiting):
            with self.crashing(after):
                self.books.store.cancel(None, waiting[which].id)

    @rule(after=crash, seconds=st.sampled_from([1.0, 11.0]))
    def wait(self, after: int | None, seconds: float) -> None:
        self.now += seconds
        with self.crashing(after):
            self.books.store.expire()

    @rule(after=crash, failed=st.booleans())
    def bury(self, after: int | None, failed: bool) -> None:
        with self.crashing(after):
            self.books.store.release("worker", failed=failed)

    @invariant()
    def the_books_agree(self) -> None:
        assert self.books.audit() == []
        with self.books.database.connect() as connection:
            held = select(entries.c.task_id, func.sum(entries.c.amount_micros)).group_by(entries.c.task_id)
            holds = dict(iter(connection.execute(held.where(entries.c.kind == "hold"))))
            closed = dict(iter(connection.execute(held.where(entries.c.kind.in_(("settle", "release"))))))
            for task in connection.execute(select(tasks)).mappings():
                price = task["price_micros"]
                assert holds.get(task["id"]) == price  # no task without its hold
                assert closed.get(task["id"]) == (price if Status(task["status"]).is_terminal else None)
                assert (task["charged_micros"] is not None) == Status(task["status"]).is_terminal

    def teardown(self) -> None:
        self.books.database.close()


def test_the_books_agree_after_any_moves_and_crashes(fresh_database: Callable[[], str]) -> None:
    # MUTOSCOPE_TEST_EXAMPLES=6000 makes more than 200,000 moves; -s shows how many of which kind.
    examples = int(os.environ.get("MUTOSCOPE_TEST_EXAMPLES", "25"))
    made: Counter[str] = Counter()
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            lambda: Bookkeeping(fresh_database(), made),
            settings=settings(max_examples=examples, stateful_step_count=60),
        )
    finally:
        print(dict(made))
    assert made["moves"] > 20 * examples
    if examples >= 1000:
        kinds = ("Admitted", "Missing", "crashes", "succeed", "fail", "cancel", "give back", "break", "hold")
        assert min(made[kind] for kind in kinds) > examples / 10
