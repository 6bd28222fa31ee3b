"""SkyReels-V3 as a service, with the tiny checkpoint: found, accepted, rendered by a worker, refused when broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mutoscope.config import load_settings
from mutoscope.files import Links, open_files
from mutoscope.models import SKYREELS
from mutoscope.opening import engines_offered, limits_of, open_engine, open_store
from mutoscope.tasks import Status, Task, VideoRequest
from mutoscope.worker import Worker
from tests.installation import EXAMPLES, Installation
from tests.rows import make_caller

CHECKPOINT = Path(__file__).parent / "golden" / "tiny-r2v"

pytestmark = pytest.mark.slow


class House:
    """A home with one reference, and workers on it."""

    def __init__(self, home: Path) -> None:
        self.settings = load_settings(
            home=home, skyreels_weights=CHECKPOINT, skyreels_precision="float32", skyreels_steps=2, lease_seconds=1
        )
        self.store, self.files = open_store(self.settings), open_files(self.settings.files)
        self.settings.scratch.mkdir()
        self.caller = make_caller(self.store.database)
        reference = home / "reference.jpg"
        shutil.copy(EXAMPLES / "astronaut.jpg", reference)
        self.files.put("uploads/1/a.jpg", reference)

    def add(self) -> str:
        """A task for a single frame: the contract's durations take a GPU."""
        task_id = uuid.uuid4().hex
        request = VideoRequest("An astronaut smiles.", ("file:uploads/1/a.jpg",), "1:1", 0, 3, "480p")
        with self.store.database.write() as connection:
            self.store.add(task_id, self.caller, SKYREELS, "skyreels-v3", request, connection=connection)
        return task_id

    def find(self, task_id: str) -> Task:
        task = self.store.find(task_id)
        assert task is not None
        return task

    def render(self, task_id: str) -> Task:
        """The only task that waits, from start to end, by a worker of this process."""
        worker = Worker(
            store=self.store,
            files=self.files,
            links=Links(bytes(32)),
            limits=limits_of(self.settings),
            scratch=self.settings.scratch,
            engine_names=["skyreels-v3"],
            open_engine=lambda name: open_engine(name, self.settings),
            lease_seconds=15,
            stall_seconds=self.settings.stall_seconds,
        )
        until = time.monotonic() + 10
        while (task := self.store.claim(worker.name, ["skyreels-v3"])) is None:  # the lease of a killed one runs out
            assert time.monotonic() < until
            time.sleep(0.1)
        worker.run_once(task, open_engine("skyreels-v3", self.settings))
        return self.find(task_id)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker process of its own."""
        settings = self.settings
        changed = {
            "HOME": settings.home,
            "SKYREELS_WEIGHTS": CHECKPOINT,
            "SKYREELS_PRECISION": "float32",
            "SKYREELS_STEPS": 2,
            "LEASE_SECONDS": 1,
        }
        environment = os.environ | {f"MUTOSCOPE_{name}": str(value) for name, value in changed.items()}
        return subprocess.Popen([sys.executable, "-m", "mutoscope", "worker"], env=environment)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("skyreels"))
    yield house
    house.store.database.close()


@pytest.fixture(scope="module")
def done(house: House) -> Task:
    return house.render(house.add())


def test_a_worker_renders_it_and_the_receipt_says_how(house: House, done: Task) -> None:
    assert engines_offered(house.settings) == ("animatic", "skyreels-v3")
    assert (done.status, done.error) == (Status.SUCCEEDED, "")
    assert done.receipt is not None
    assert (done.receipt["width"], done.receipt["height"], done.receipt["frames"]) == (640, 640, 1)
    assert len(done.receipt["sigmas"]) in (2, 3)
    assert done.receipt["libraries"]["torch"]
    assert done.receipt["cache"] == {"prompt_misses": 1, "reference_misses": 1}


def test_each_stage_has_its_time(done: Task) -> None:
    assert done.timings.keys() == {
        "references",
        "checking the weights",
        "loading the text encoder",
        "loading the VAE",
        "loading the transformer",
        "reading the prompt",
        "looking at the references",
        "denoising",
        "previews",
        "rendering",
        "encoding",
        "storing",
        "first_frame",
    }
    assert done.finished_at is not None
    assert done.started_at is not None
    whole = 1000 * (done.finished_at - done.started_at)
    spent = sum(done.timings.values()) - done.timings["first_frame"]
    assert 0.8 * whole < spent <= whole + 10
    assert done.timings["denoising"] < done.timings["first_frame"] <= spent


def test_a_task_whose_worker_was_killed_becomes_the_same_video_on_another(house: House, done: Task) -> None:
    task_id = house.add()
    killed = house.start_worker()
    try:
        until = time.monotonic() + 120
        while not house.find(task_id).stage.startswith("denoising, step 2"):
            assert killed.poll() is None, "the worker ended"
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        killed.kill()
        killed.wait()
    again = house.render(task_id)
    assert (again.status, again.attempt) == (Status.SUCCEEDED, 2)
    assert again.receipt is not None
    assert done.receipt is not None
    assert again.receipt["video_sha256"] == done.receipt["video_sha256"]
    # What the killed one and the first task had computed was found, and made no difference.
    assert again.receipt["cache"] == {"prompt_hits": 1, "reference_hits": 1}


def test_a_server_with_weights_accepts_the_model(install: Callable[..., Installation]) -> None:
    installation = install(sandbox=False, workers=0, skyreels_weights=CHECKPOINT, max_resolution="540p").start()
    inputs = {"prompt": "a cat", "images": ["https://example.com/cat.jpg"]}
    task = installation.submit(SKYREELS, **inputs, resolution="480p")
    assert (task["engine"], task["input"]["resolution"]) == ("skyreels-v3", "480p")
    answer = installation.http.post(f"/api/v3/{SKYREELS}", json={**inputs, "resolution": "720p"})
    assert (answer.status_code, "540p at most" in answer.json()["message"]) == (400, True)
    assert installation.http.delete(f"/api/v3/predictions/{task['id']}").json()["data"]["status"] == "cancelled"


def test_broken_weights_are_one_sentence(install: Callable[..., Installation], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(CHECKPOINT, broken)
    (broken / "transformer" / "config.json").unlink()
    installation = install(skyreels_weights=broken)
    done = installation.run("worker", "--engine", "skyreels-v3", check=False)
    assert done.returncode == 2
    assert "transformer" in done.stderr
    assert "Traceback" not in done.stderr
