"""What has had its time goes; what is in use stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, update

from mutoscope.config import load_settings
from mutoscope.duties import Duties
from mutoscope.files import FilesError, LocalFiles, open_files
from mutoscope.housekeeping import Housekeeper, sweep, tidy
from mutoscope.models import ANIMATIC
from mutoscope.opening import open_store
from mutoscope.schema import tasks, uploads
from mutoscope.store import Hold, Store
from mutoscope.tasks import VideoRequest
from mutoscope.uploads import Uploads
from tests.rows import make_caller

DAY = 86_400


class House:
    def __init__(self, home: Path, database_url: str) -> None:
        settings = load_settings(home=home, database_url=database_url)
        self.store: Store = open_store(settings)
        self.files: LocalFiles = open_files(settings.files)
        self.scratch = settings.scratch
        self.scratch.mkdir(parents=True)
        self.cache = settings.cache
        self.caller = make_caller(self.store.database)
        self.uploads = Uploads(self.store.database)

    def add(self, number: int) -> str:
        task_id = f"{number:032x}"
        request = VideoRequest("a cat", ("https://example.com/cat.jpg",))
        with self.store.database.write() as connection:
            self.store.add(task_id, self.caller, ANIMATIC, "animatic", request, connection=connection)
        return task_id

    def put(self, key: str) -> None:
        part = self.scratch / "part"
        part.write_bytes(b"bytes")
        self.files.put(key, part)

    def succeed(self, number: int) -> str:
        task_id = self.add(number)
        task = self.store.claim("worker", ["animatic"])
        assert task is not None
        self.put(f"outputs/{task_id}-1.mp4")
        self.put(f"outputs/{task_id}-1.jpg")
        self.store.succeed(task, f"outputs/{task_id}-1.mp4", f"outputs/{task_id}-1.jpg", {})
        return task_id

    def sweep(self) -> int:
        tidy(self.store, self.scratch, self.cache, retention_days=7)
        return sweep(self.store, self.files, retention_days=7)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    house = House(tmp_path, database_url)
    yield house
    house.store.database.close()


def test_an_old_video_goes_with_its_row_and_a_young_one_stays(house: House) -> None:
    old, young = house.succeed(1), house.succeed(2)
    with house.store.database.write() as connection:
        times = {"created_at": time.time() - 9 * DAY, "finished_at": time.time() - 8 * DAY}
        connection.execute(update(tasks).where(tasks.c.id == old).values(times))
    assert house.sweep() == 1
    assert house.store.find(old) is None
    assert house.store.find(young) is not None
    assert list(house.files.list("outputs")) == [f"outputs/{young}-1.jpg", f"outputs/{young}-1.mp4"]


def test_an_old_upload_goes_and_a_young_one_stays(house: House) -> None:
    for name in ("old", "young"):
        house.put(f"uploads/{name}/a.png")
        house.uploads.add(
            name, house.caller.key_id, filename="a.png", content_type="image/png", size=5, file=f"uploads/{name}/a.png"
        )
    with house.store.database.write() as connection:
        connection.execute(update(uploads).where(uploads.c.id == "old").values(created_at=time.time() - 8 * DAY))
    assert house.sweep() == 1
    assert list(house.files.list("uploads")) == ["uploads/young/a.png"]
    assert house.uploads.get("old") is None
    assert [path.name for path in house.files.path("uploads").iterdir()] == ["young"]


def test_what_a_dead_attempt_left_goes_and_what_a_running_one_writes_stays(house: House) -> None:
    running = house.add(1)
    task = house.store.claim("worker", ["animatic"])
    assert task is not None
    dead = f"{99:032x}"
    for name in (f"{running}-1.mp4", f"{dead}-1.mp4"):
        (house.scratch / name).write_bytes(b"half")
    house.put(f"outputs/{dead}-1.mp4")
    house.put(f"outputs/.{dead}-1.mp4.4711")  # copied from another file system, up to the crash
    house.put(f"outputs/{running}-1.jpg")
    won = house.add(2)
    winner = house.store.claim("worker", ["animatic"])
    assert winner is not None
    assert house.store.succeed(winner, "outputs/won.mp4", "outputs/won.jpg", {}) is Hold.KEPT
    for name in (f"{running}-1", f"{dead}-1", f"{won}-1"):  # the winner died before it had tidied up
        house.put(f"previews/{name}.jpg")
    assert house.sweep() == 0
    assert [path.name for path in house.scratch.iterdir()] == [f"{running}-1.mp4"]
    assert list(house.files.list("outputs")) == [f"outputs/{running}-1.jpg"]
    assert list(house.files.list("previews")) == [f"previews/{running}-1.jpg"]


def test_what_a_finished_attempt_could_not_remove_goes(house: House) -> None:
    made = house.succeed(1)
    (house.scratch / f"{made}-1.mp4").write_bytes(b"was moved, and is here again after a power cut")
    house.put(f"previews/{made}-1.jpg")
    house.sweep()
    assert list(house.scratch.iterdir()) == []
    assert sorted(house.files.list("outputs")) == [f"outputs/{made}-1.jpg", f"outputs/{made}-1.mp4"]
    assert list(house.files.list("previews")) == []


def test_what_is_kept_to_save_work_goes_when_it_was_not_used_for_as_long(house: House) -> None:
    assert house.sweep() == 0  # where nothing was ever kept
    house.cache.mkdir()
    for name in ("old", "young"):
        (house.cache / name).write_bytes(b"numbers")
    os.utime(house.cache / "old", (0, time.time() - 8 * DAY))
    house.sweep()
    assert [path.name for path in house.cache.iterdir()] == ["young"]


def test_a_sweep_looks_up_many_files_at_once(house: House) -> None:
    won = [house.succeed(number) for number in range(1, 41)]
    for number in range(100, 140):
        house.put(f"outputs/{number:032x}-1.mp4")
    looks: list[str] = []
    event.listen(house.store.database.engine, "before_cursor_execute", lambda *asked: looks.append(asked[2]))
    house.sweep()
    assert len(looks) < 10
    assert len(list(house.files.list("outputs"))) == 2 * len(won)


def test_one_process_at_a_time_sweeps(house: House) -> None:
    def keeper() -> Housekeeper:
        return Housekeeper(house.store, house.files, house.scratch, house.cache, 7, every_seconds=3600)

    def leave_orphan() -> None:
        house.put(f"outputs/{99:032x}-1.mp4")

    first, second = keeper(), keeper()
    for has_duty, other in ((first, second), (second, first)):
        leave_orphan()
        has_duty.keep()
        assert list(house.files.list("outputs")) == []
        leave_orphan()
        (house.scratch / f"{98:032x}-1.mp4").write_bytes(b"half")
        other.keep()
        assert len(list(house.files.list("outputs"))) == 1
        assert list(house.scratch.iterdir()) == []  # each machine has its own
        has_duty.keep()
        assert list(house.files.list("outputs")) == []
        has_duty.start()
        has_duty.stop()  # and lays its duty down


def test_the_duty_of_a_process_that_vanished_is_another_s(house: House) -> None:
    now = 1000.0
    first, second = (Duties(house.store.database, clock=lambda: now) for _ in range(2))
    assert first.take("sweeping", 10)
    assert not second.take("sweeping", 10)
    assert second.take("dusting", 10)
    second.lay_down("sweeping")  # which is not its own
    now += 9
    assert not second.take("sweeping", 10)
    now += 1
    assert second.take("sweeping", 10)
    assert not first.take("sweeping", 10)


def test_a_folder_of_files_is_swept_by_its_own_installation_alone(house: House, tmp_path: Path) -> None:
    won = house.succeed(1)
    house.sweep()
    other = House(tmp_path / "other", f"sqlite:///{tmp_path}/other.db")
    other.files = house.files
    with pytest.raises(FilesError, match="belongs to an installation with another database"):
        other.sweep()
    other.store.database.close()
    house.sweep()
    assert list(house.files.list("outputs")) == [f"outputs/{won}-1.jpg", f"outputs/{won}-1.mp4"]
