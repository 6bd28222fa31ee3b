"""What becomes a task and what does not: repetitions, rates, and whose turn it is."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutoscope.admission import REMEMBERED_SECONDS, Admitted, Reused, TooFast, forget_submissions
from mutoscope.keys import Keys
from mutoscope.tasks import Caller, Status
from tests.rows import make_caller
from tests.test_ledger import Books


class Time:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def books(database_url: str, time: Time) -> Iterator[Books]:
    books = Books(database_url, time)
    books.credit(10**12)
    yield books
    assert books.audit() == []
    books.database.close()


def caller_with(books: Books, **limits: int) -> Caller:
    keys = Keys(books.database, b"k" * 32)
    caller = keys.caller(keys.digest(keys.create("limited", account_id=books.account_id, **limits)))  # type: ignore[arg-type]
    assert caller is not None
    return caller


# Repetitions


def test_a_name_means_one_task(books: Books, time: Time) -> None:
    first = books.submit(name="key:a", body_digest="1")
    time.now += REMEMBERED_SECONDS - 1
    again = books.submit(name="key:a", body_digest="1")
    assert (first.is_new, again.is_new) == (True, False)
    assert again.task == first.task
    assert len(books.store.newest()) == 1
    assert [kind for kind, *_ in books.moves()] == ["credit", "hold"]


def test_a_name_of_another_body_or_another_key_is_another_matter(books: Books) -> None:
    books.submit(name="key:a", body_digest="1")
    assert books.submit(name="key:a", body_digest="2") == Reused(is_gone=False)
    other = make_caller(books.database, books.account_id)
    assert books.submit(name="key:a", body_digest="2", caller=other).is_new


def test_a_name_is_free_again_after_its_time(books: Books, time: Time) -> None:
    first = books.submit(name="sync:a", body_digest="1", window_seconds=60)
    time.now += 61
    again = books.submit(name="sync:a", body_digest="1", window_seconds=60)
    assert again.is_new
    assert again.task.id != first.task.id
    time.now += REMEMBERED_SECONDS
    forget_submissions(books.database, time.now - REMEMBERED_SECONDS + 1)
    assert books.submit(name="sync:a", body_digest="other", window_seconds=1e9).is_new


def test_a_held_request_whose_task_came_to_nothing_is_made_anew(books: Books) -> None:
    first = books.submit(name="sync:a", body_digest="1")
    books.store.cancel(None, first.task.id)
    again = books.submit(name="sync:a", body_digest="1")
    assert again.is_new
    assert books.submit(name="sync:a", body_digest="1").task.id == again.task.id
    books.store.cancel(None, again.task.id)
    books.store.remove([again.task.id])
    assert books.submit(name="sync:a", body_digest="1").is_new


def test_the_name_of_a_deleted_task_starts_no_other(books: Books) -> None:
    first = books.submit(name="key:a", body_digest="1")
    books.store.cancel(None, first.task.id)
    books.store.remove([first.task.id])
    assert books.submit(name="key:a", body_digest="1") == Reused(is_gone=True)


def test_a_refusal_is_not_remembered(books: Books, time: Time) -> None:
    slow = caller_with(books, videos_per_minute=1)
    assert books.submit(caller=slow, name="key:a", body_digest="1").is_new
    assert isinstance(books.submit(caller=slow, name="key:b", body_digest="1"), TooFast)
    time.now += 60
    assert books.submit(caller=slow, name="key:b", body_digest="1").is_new


# Rates


def test_a_key_has_so_many_videos_a_minute(books: Books, time: Time) -> None:
    bronze = caller_with(books, videos_per_minute=2)
    assert isinstance(books.submit(caller=bronze), Admitted)
    assert isinstance(books.submit(caller=bronze), Admitted)
    assert books.submit(caller=bronze) == TooFast(2, 30.0)
    assert isinstance(books.submit(), Admitted)  # another key is not slowed down
    time.now += 29
    assert books.submit(caller=bronze) == TooFast(2, 1.0)
    time.now += 1
    assert isinstance(books.submit(caller=bronze), Admitted)
    time.now += 600  # what was not used is not saved up
    outcomes = [books.submit(caller=bronze) for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Admitted, Admitted, TooFast, TooFast]


# Turns


def test_a_key_runs_no_more_at_once_than_it_may(books: Books) -> None:
    narrow = caller_with(books, concurrency=2)
    mine = [books.submit(caller=narrow).task.id for _ in range(3)]
    theirs = books.submit().task.id
    claimed = [books.store.claim(str(number), ["animatic"]) for number in range(4)]
    assert [task.id for task in claimed if task] == [*mine[:2], theirs]
    assert claimed[0] is not None
    books.store.fail(claimed[0], "no", 1403)
    third = books.store.claim("again", ["animatic"])
    assert third is not None
    assert third.id == mine[2]


def test_within_an_account_the_urgent_goes_first_and_others_lose_nothing(books: Books) -> None:
    mine = [books.submit().task.id for _ in range(3)]
    other = make_caller(books.database)
    theirs = books.submit(caller=other).task.id
    urgent = books.submit(priority=5).task.id
    order = []
    while task := books.store.claim("worker", ["animatic"]):
        order.append(task.id)
    assert order.index(urgent) == 0
    assert order.index(theirs) <= 2  # as without the urgent one: the two accounts take turns
    assert [task_id for task_id in order if task_id in mine] == mine


def test_a_deadline_fails_what_nobody_started(books: Books, time: Time) -> None:
    admitted = books.submit(deadline_at=time.now + 10)
    in_time = books.submit(deadline_at=time.now + 100)
    time.now += 11
    task = books.store.claim("worker", ["animatic"])
    assert task is not None
    assert task.id == in_time.task.id
    late = books.store.find(admitted.task.id)
    assert late is not None
    assert (late.status, late.error_code) == (Status.FAILED, 5004)


def test_a_task_that_was_started_in_time_waits_when_it_goes_back(books: Books, time: Time) -> None:
    admitted = books.submit(deadline_at=time.now + 10)
    task = books.store.claim("worker", ["animatic"])
    assert task is not None
    time.now += 60
    books.store.give_back(task)
    assert books.store.expire() == 0
    again = books.store.claim("worker", ["animatic"])
    assert again is not None
    assert again.id == admitted.task.id


def waits(
    books: Books, time: Time, arrivals: list[tuple[float, Caller]], num_workers: int = 2
) -> dict[str, list[float]]:
    """Seconds that each account's tasks waited, simulated on the real statements: each task takes 5 s."""
    found: dict[str, list[float]] = {}
    events: list[tuple[float, int, Caller | None]] = [(at, n, caller) for n, (at, caller) in enumerate(arrivals)]
    heapq.heapify(events)
    free, number, start = num_workers, len(events), time.now
    running: list[tuple[float, int, object]] = []
    while events:
        at, _, caller = heapq.heappop(events)
        time.now = start + at
        if caller is None:
            _, _, task = heapq.heappop(running)
            books.store.succeed(task, "o", "p", {})  # type: ignore[arg-type]
            free += 1
        else:
            books.submit(price=0, caller=caller)
        while free and (claimed := books.store.claim("worker", ["animatic"])):
            found.setdefault(claimed.account_id, []).append(time.now - claimed.created_at)
            free, number = free - 1, number + 1
            heapq.heappush(events, (at + 5.0, number, None))
            heapq.heappush(running, (at + 5.0, number, claimed))
    return found


@pytest.mark.slow
def test_a_tenant_with_a_hundred_times_the_load_starves_nobody(tmp_path: Path, time: Time) -> None:
    draw = random.Random(7)
    small_at = sorted(draw.uniform(0, 120) for _ in range(5))

    def run(name: str, flood: int) -> list[float]:
        books = Books(f"sqlite:///{tmp_path / name}", time)
        books.store._lease_seconds = 1e9  # no lease runs out in simulated time
        small = make_caller(books.database, books.account_id)
        large = make_caller(books.database)
        arrivals = [(at, small) for at in small_at] + [(at / flood * 20, large) for at in range(flood)]
        found = sorted(waits(books, time, arrivals)[books.account_id])
        books.database.close()
        return found

    alone, beside = run("alone.db", 0), run("beside.db", 500)
    worst_alone, worst_beside = alone[-1] + 5, beside[-1] + 5  # from submit to video, of 5 the worst
    assert worst_beside <= 2 * worst_alone, (alone, beside)
    # From submit to start: alone it finds a worker free. Beside, it waits for a video under way to end, and no longer.
    assert beside[-1] <= 2 * alone[-1] + 5, (alone, beside)
