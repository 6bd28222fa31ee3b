"""One task's journey, with small engines of the real contract: every way that it can end."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from mutoscope.config import Settings, load_settings
from mutoscope.engines import Engine, Event, Frames, Image, Preview, Step
from mutoscope.files import FilesAwayError, Links, LocalFiles, open_files
from mutoscope.models import ANIMATIC
from mutoscope.opening import limits_of, open_engine, open_store
from mutoscope.store import Hold, Store
from mutoscope.tasks import InvalidRequestError, Status, Task, VideoRequest
from mutoscope.worker import Worker
from tests.rows import make_caller

PICTURE = "data:image/bmp;base64," + base64.b64encode(
    b"BM" + (54 + 64 * 64 * 3).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    + (40).to_bytes(4, "little") + (64).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little")
    + (24).to_bytes(2, "little") + bytes(24) + bytes([40, 90, 200]) * 64 * 64
).decode()  # fmt: skip


class Painter:
    """Paints the first image's mean colour; counts what is alive, and does as it is told at a frame."""

    name = "animatic"
    version = "test"
    longest_side = 256

    def __init__(self) -> None:
        self.ended = 0

    def receipt(self) -> dict[str, Any]:
        return {"paint": "oil"}

    def at_frame(self, number: int) -> None:
        """What happens before this frame; nothing, for an engine that works."""

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        width, height = request.size
        frame = np.empty((1, height, width, 3), np.uint8)
        frame[:] = images[0].rgb().mean((0, 1)).astype(np.uint8)
        try:
            yield Step("mixing paint, 1 of 2", 0)
            time.sleep(0.03)
            yield Step("mixing paint, 2 of 2", 0.05)
            yield Step("rendering", 0.1)
            for number in range(request.num_frames):
                self.at_frame(number)
                yield Frames(frame, 0.1 + 0.9 * (number + 1) / request.num_frames)
        finally:
            self.ended += 1


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, lease_seconds=2)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    settings.scratch.mkdir(parents=True)
    worker = Worker(
        store=open_store(settings),
        files=open_files(settings.files),
        links=Links(bytes(32)),
        limits=limits_of(settings),
        scratch=settings.scratch,
        engine_names=["animatic"],
        open_engine=lambda name: open_engine(name, settings),
        lease_seconds=settings.lease_seconds,
        stall_seconds=settings.stall_seconds,
    )
    yield worker
    worker.store.database.close()


def add(worker: Worker, *images: str, duration: int = 5) -> str:
    caller = make_caller(worker.store.database)
    task_id = uuid.uuid4().hex
    request = VideoRequest("a wall is painted", images or (PICTURE,), "1:1", duration, 1)
    with worker.store.database.write() as connection:
        worker.store.add(task_id, caller, ANIMATIC, "animatic", request, connection=connection)
    return task_id


def run(worker: Worker, engine: Engine) -> None:
    task = worker.store.claim(worker.name, ["animatic"])
    assert task is not None
    worker.run_once(task, engine)


def find(worker: Worker, task_id: str) -> Task:
    task = worker.store.find(task_id)
    assert task is not None
    return task


def take(worker: Worker) -> Task:
    """Claim the running task for another, as if its worker had been frozen past its lease."""
    while True:
        with worker.store.database.write() as connection:
            connection.exec_driver_sql("UPDATE tasks SET lease_until = 0")
        if (task := worker.store.claim("another", ["animatic"])) is not None:  # else its lease was renewed in between
            return task


def files_of(worker: Worker) -> list[str]:
    return [
        *worker.files.list("outputs"),
        *worker.files.list("previews"),
        *(path.name for path in worker.scratch.iterdir()),
    ]


def test_a_task_becomes_a_video_and_a_poster(worker: Worker) -> None:
    task_id = add(worker)
    run(worker, Painter())
    task = find(worker, task_id)
    assert (task.status, task.progress, task.error) == (Status.SUCCEEDED, 1.0, "")
    assert files_of(worker) == [task.poster, task.output]
    assert set(task.timings) == {"references", "mixing paint", "rendering", "encoding", "storing", "first_frame"}
    assert 30 <= task.timings["mixing paint"] < task.timings["first_frame"]
    assert task.receipt is not None
    assert (task.receipt["paint"], task.receipt["seed"], task.receipt["frames"]) == ("oil", 1, 121)
    assert task.receipt["video_sha256"] == sha256(worker.files.read(task.output or "") or b"").hexdigest()


def test_an_engine_is_told_whose_task_it_renders(worker: Worker) -> None:
    class Listening(Painter):
        def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
            scopes.append(scope)
            yield from super().generate(request, images)

    scopes: list[str] = []
    task = find(worker, add(worker))
    run(worker, Listening())
    assert scopes == [task.account_id]
    assert task.account_id


def test_what_the_caller_can_mend_fails_the_task_and_not_the_worker(worker: Worker) -> None:
    class Refusing(Painter):
        def at_frame(self, number: int) -> None:
            raise InvalidRequestError("The prompt asks for what this engine can't film.")

    task_id = add(worker)
    run(worker, Refusing())
    task = find(worker, task_id)
    assert (task.status, task.error_code) == (Status.FAILED, 1401)
    assert task.error == "The prompt asks for what this engine can't film."
    assert files_of(worker) == []


def test_a_reference_that_cannot_be_read_fails_the_task_with_1402(worker: Worker) -> None:
    task_id = add(worker, PICTURE, "data:image/png;base64,aGVsbG8=")
    run(worker, Painter())
    task = find(worker, task_id)
    assert (task.status, task.error_code) == (Status.FAILED, 1402)
    assert task.error.startswith("Image 2 (data URI): ")


@pytest.mark.parametrize("wrong", ["raises", "too few frames"])
def test_an_unexpected_error_gives_the_task_back_and_ends_the_worker(worker: Worker, wrong: str) -> None:
    class Broken(Painter):
        def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
            yield Step("mixing paint", 0)
            if wrong == "raises":
                raise ZeroDivisionError

    task_id = add(worker)
    for attempt in (1, 2):
        with pytest.raises((ZeroDivisionError, RuntimeError)):
            run(worker, Broken())
        assert (find(worker, task_id).status, find(worker, task_id).attempt) == (Status.QUEUED, attempt)
    with pytest.raises((ZeroDivisionError, RuntimeError)):
        run(worker, Broken())
    task = find(worker, task_id)
    assert (task.status, task.error_code, task.attempt) == (Status.FAILED, 1406, 3)
    assert files_of(worker) == []


def test_a_canceled_task_ends_at_the_next_step_and_frees_its_engine(worker: Worker) -> None:
    class Watched(Painter):
        def at_frame(self, number: int) -> None:
            frames.append(number)
            if number == 3:
                worker.store.cancel(None, task_id)
            time.sleep(0.02)

    frames: list[int] = []
    task_id, engine = add(worker), Watched()
    run(worker, engine)
    assert find(worker, task_id).status is Status.CANCELED
    assert 3 <= frames[-1] < 60
    assert engine.ended == 1
    assert files_of(worker) == []


def test_a_cancel_after_the_last_frame_leaves_no_video(worker: Worker) -> None:
    class Watched(Painter):
        def receipt(self) -> dict[str, Any]:  # asked for when all frames are there
            worker.store.cancel(None, task_id)
            return {}

    task_id = add(worker)
    run(worker, Watched())
    assert (find(worker, task_id).status, find(worker, task_id).output) == (Status.CANCELED, None)
    assert files_of(worker) == []


def test_a_worker_told_to_stop_gives_its_task_back_unblamed(worker: Worker) -> None:
    class Watched(Painter):
        def at_frame(self, number: int) -> None:
            if number == 3:
                worker.stopping.set()

    task_id, engine = add(worker), Watched()
    run(worker, engine)
    assert find(worker, task_id).status is Status.QUEUED
    assert engine.ended == 1
    assert files_of(worker) == []
    worker.stopping.clear()
    for _ in range(5):  # more often than attempts are allowed: being told to stop is no failure
        run_and_stop(worker)
    assert find(worker, task_id).status is Status.QUEUED


def run_and_stop(worker: Worker) -> None:
    worker.stopping.set()
    run(worker, Painter())
    worker.stopping.clear()


def test_a_worker_that_lost_its_lease_writes_nothing(worker: Worker) -> None:
    class Overtaken(Painter):
        def at_frame(self, number: int) -> None:
            if number == 3:  # as if this process had been frozen past its lease, and another had claimed
                other.append(take(worker))
                time.sleep(0.3)

    other: list[Task] = []
    task_id, engine = add(worker), Overtaken()
    run(worker, engine)
    task = find(worker, task_id)
    assert (task.status, task.attempt) == (Status.RUNNING, 2)
    assert engine.ended == 1
    assert files_of(worker) == []
    assert worker.store.renew(other[0]) is Hold.KEPT


def test_files_that_the_next_attempt_removed_are_no_fault_of_the_worker(worker: Worker) -> None:
    class Overtaken(Painter):
        def at_frame(self, number: int) -> None:
            if number == 120:  # frozen for longer than its lease, while the next attempt did as it does first
                other.append(take(worker))
                for path in worker.scratch.iterdir():
                    path.unlink()

    other: list[Task] = []
    task_id = add(worker)
    run(worker, Overtaken())
    task = find(worker, task_id)
    assert (task.status, task.attempt, files_of(worker)) == (Status.RUNNING, 2, [])
    assert worker.store.renew(other[0]) is Hold.KEPT


def test_a_lease_is_renewed_while_one_step_outlasts_it(worker: Worker) -> None:
    class Slow(Painter):
        def at_frame(self, number: int) -> None:
            if number == 1:
                time.sleep(3)  # the lease is 2 s

    task_id = add(worker)
    thief = threading.Timer(2.5, lambda: stolen.append(worker.store.claim("thief", ["animatic"])))
    stolen: list[Task | None] = []
    thief.start()
    run(worker, Slow())
    thief.join()
    assert stolen == [None]
    assert find(worker, task_id).status is Status.SUCCEEDED


def test_a_database_that_is_busy_for_a_moment_costs_no_lease(worker: Worker) -> None:
    class Busy(Store):
        num_renewals = 0

        def renew(self, task: Task) -> Hold:
            self.num_renewals += 1
            if self.num_renewals == 1:
                raise OperationalError("UPDATE tasks", {}, Exception("database is locked"))
            return super().renew(task)

    class Slow(Painter):
        def at_frame(self, number: int) -> None:
            if number == 1:
                time.sleep(3)  # the lease is 2 s

    task_id = add(worker)
    worker.store = busy = Busy(worker.store.database, lease_seconds=worker.lease_seconds)
    thief = threading.Timer(2.5, lambda: stolen.append(busy.claim("thief", ["animatic"])))
    stolen: list[Task | None] = []
    thief.start()
    run(worker, Slow())
    thief.join()
    assert stolen == [None]
    assert (busy.num_renewals > 1, find(worker, task_id).status) == (True, Status.SUCCEEDED)


def test_a_place_for_files_that_is_away_for_a_moment_costs_no_attempt(worker: Worker) -> None:
    class Away(LocalFiles):
        num_refusals = 0

        def put(self, key: str, source: Path, *, replace: bool = True) -> None:
            if self.num_refusals < 2:
                self.num_refusals += 1
                raise FilesAwayError("The bucket can't be used: it answers 500.")
            super().put(key, source, replace=replace)

    task_id = add(worker)
    worker.files = away = Away(worker.files.disk or Path())
    run(worker, Painter())
    task = find(worker, task_id)
    assert (task.status, task.attempt, away.num_refusals) == (Status.SUCCEEDED, 1, 2)
    assert files_of(worker) == [f"outputs/{task_id}-1.jpg", f"outputs/{task_id}-1.mp4"]


def test_an_engine_that_hangs_loses_its_task(worker: Worker) -> None:
    class Hanging(Painter):
        def at_frame(self, number: int) -> None:
            if number == 1:
                time.sleep(4)

    worker.stall_seconds = 0.2
    task_id = add(worker)
    claimed: list[Task | None] = []
    other = threading.Timer(3.5, lambda: claimed.append(worker.store.claim("another", ["animatic"])))
    other.start()
    run(worker, Hanging())
    other.join()
    assert claimed[0] is not None
    assert claimed[0].id == task_id
    assert find(worker, task_id).attempt == 2


def test_the_next_attempt_clears_what_a_killed_one_left(worker: Worker) -> None:
    task_id = add(worker)
    killed = worker.store.claim("killed", ["animatic"])
    assert killed is not None
    (worker.scratch / f"{task_id}-1.mp4").write_bytes(b"half a video")
    stored = worker.scratch / "whole"
    stored.write_bytes(b"a whole video that no row names")
    worker.files.put(f"outputs/{task_id}-1.mp4", stored)
    worker.store.release("killed", failed=False)
    run(worker, Painter())
    assert files_of(worker) == [f"outputs/{task_id}-2.jpg", f"outputs/{task_id}-2.mp4"]


def test_progress_moves_forward_and_names_its_stages(worker: Worker) -> None:
    seen: list[tuple[str, float]] = []

    class Watched(Painter):
        def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
            for event in super().generate(request, images):
                seen.append((find(worker, task_id).stage, find(worker, task_id).progress))
                yield event
                time.sleep(0.01)

    task_id = add(worker)
    run(worker, Watched())
    stages = [stage for stage, _ in seen]
    assert stages[:3] == ["fetching references", "mixing paint, 1 of 2", "mixing paint, 2 of 2"]
    assert set(stages[3:]) == {"rendering"}
    assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
    assert seen[-1][1] > 0.5


def test_a_bell_saves_the_wait(worker: Worker) -> None:
    worker.engine_names = []
    runner = threading.Thread(target=worker.run, args=(60,))
    runner.start()
    time.sleep(0.2)
    worker.stopping.set()
    worker.bell.set()
    runner.join(5)
    assert not runner.is_alive()


class Foretelling(Painter):
    """Shows two previews, a red one and a blue one, before it renders, and has a look after each."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look = look

    def generate(self, request: VideoRequest, images: Sequence[Image], scope: str = "") -> Iterator[Event]:
        for colour in ((250, 0, 0), (0, 0, 250)):
            yield Step("mixing paint", 0.1)
            yield Preview(np.full((20, 60, 3), colour, np.uint8))
            self.look()
        yield from super().generate(request, images)


def test_the_newest_preview_is_there_while_the_task_runs_and_goes_with_it(worker: Worker) -> None:
    seen: list[tuple[str, tuple[int, ...], list[int]]] = []

    def look() -> None:
        task = find(worker, task_id)
        key, _, version = (task.preview or "").partition("#")
        pixels = cv2.imdecode(np.frombuffer(worker.files.read(key) or b"", np.uint8), cv2.IMREAD_COLOR_RGB)
        assert key == f"previews/{task_id}-1.jpg"
        assert list(worker.files.list("previews")) == [key]
        seen.append((version, pixels.shape, [round(level / 250) for level in pixels[10, 30].tolist()]))

    task_id = add(worker)
    run(worker, Foretelling(look))
    assert seen == [("1", (20, 60, 3), [1, 0, 0]), ("2", (20, 60, 3), [0, 0, 1])]
    task = find(worker, task_id)
    assert (task.status, task.preview) == (Status.SUCCEEDED, None)
    assert files_of(worker) == [task.poster, task.output]
    assert task.timings["previews"] >= 0


@pytest.mark.parametrize("end", ["canceled", "fails", "stops", "breaks"])
def test_no_preview_outlives_its_attempt(worker: Worker, end: str) -> None:
    def look() -> None:
        assert find(worker, task_id).preview
        if end == "canceled":
            worker.store.cancel(None, task_id)
        elif end == "fails":
            raise InvalidRequestError("No.")
        elif end == "stops":
            worker.stopping.set()
        else:
            raise ZeroDivisionError

    task_id = add(worker)
    with pytest.raises(ZeroDivisionError) if end == "breaks" else contextlib.nullcontext():
        run(worker, Foretelling(look))
    task = find(worker, task_id)
    assert task.status is {"canceled": Status.CANCELED, "fails": Status.FAILED}.get(end, Status.QUEUED)
    assert (task.preview, files_of(worker)) == (None, [])


def test_a_worker_that_lost_its_lease_shows_no_preview(worker: Worker) -> None:
    def look() -> None:
        taken.append(take(worker))

    taken: list[Task] = []
    task_id = add(worker)
    run(worker, Foretelling(look))
    assert (find(worker, task_id).attempt, find(worker, task_id).preview, len(taken)) == (2, None, 1)
    assert files_of(worker) == []


def test_the_next_attempt_clears_a_killed_one_s_preview(worker: Worker) -> None:
    task_id = add(worker)
    assert worker.store.claim("killed", ["animatic"]) is not None
    left = worker.scratch / "left"
    left.write_bytes(b"a strip")
    worker.files.put(f"previews/{task_id}-1.jpg", left)
    worker.store.release("killed", failed=False)
    run(worker, Painter())
    assert files_of(worker) == [f"outputs/{task_id}-2.jpg", f"outputs/{task_id}-2.mp4"]


def test_an_upload_that_is_gone_is_told_by_its_number(worker: Worker) -> None:
    task_id = add(worker, PICTURE, "file:uploads/0/gone.png")
    run(worker, Painter())
    assert find(worker, task_id).error.startswith("Image 2: this upload is gone")
