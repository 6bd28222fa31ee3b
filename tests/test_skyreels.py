"""SkyReels-V3 as a service, with the tiny checkpoint: found, accepted, rendered by a worker, refused when broken."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from mutoscope.config import load_settings
from mutoscope.files import Links, open_files
from mutoscope.models import SKYREELS
from mutoscope.opening import engines_offered, limits_of, open_engine, open_store
from mutoscope.tasks import Status, VideoRequest
from mutoscope.worker import Worker
from tests.installation import EXAMPLES, Installation
from tests.rows import make_caller

CHECKPOINT = Path(__file__).parent / "golden" / "tiny-r2v"

pytestmark = pytest.mark.slow


def test_a_worker_renders_it_and_the_receipt_says_how(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, skyreels_weights=CHECKPOINT, skyreels_precision="float32")
    assert engines_offered(settings) == ("animatic", "skyreels-v3")
    worker = Worker(
        store=open_store(settings),
        files=open_files(settings.files),
        links=Links(bytes(32)),
        limits=limits_of(settings),
        scratch=settings.scratch,
        engine_names=["skyreels-v3"],
        open_engine=lambda name: open_engine(name, settings),
        lease_seconds=settings.lease_seconds,
        stall_seconds=settings.stall_seconds,
    )
    settings.scratch.mkdir()
    caller = make_caller(worker.store.database)
    reference = tmp_path / "reference.jpg"
    shutil.copy(EXAMPLES / "astronaut.jpg", reference)
    worker.files.put("uploads/1/a.jpg", reference)
    task_id = uuid.uuid4().hex
    # A single frame: the contract's durations take a GPU.
    request = VideoRequest("An astronaut smiles.", ("file:uploads/1/a.jpg",), "1:1", 0, 3, "480p")
    with worker.store.database.write() as connection:
        worker.store.add(task_id, caller, SKYREELS, "skyreels-v3", request, connection=connection)
    task = worker.store.claim(worker.name, ["skyreels-v3"])
    assert task is not None
    worker.run_once(task, open_engine("skyreels-v3", settings))
    done = worker.store.find(task_id)
    assert done is not None
    assert (done.status, done.error) == (Status.SUCCEEDED, "")
    assert {"denoising", "looking at the references", "rendering"} <= set(done.timings)
    assert done.receipt is not None
    assert (done.receipt["width"], done.receipt["height"], done.receipt["frames"]) == (640, 640, 1)
    assert len(done.receipt["sigmas"]) in (8, 9)
    assert done.receipt["libraries"]["torch"]


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
