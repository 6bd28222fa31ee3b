"""Killed for real: SIGKILL at random moments of running tasks, and every accepted task is completed, once.

The moments are drawn from a seed that is printed; MUTOSCOPE_TEST_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from chaos.fleet import Fleet
from chaos.kills import kill_loop

from tests.installation import EXAMPLES, Installation

KILLS = 20
STORM_KILLS = 40
TASKS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("MUTOSCOPE_TEST_SEED", time.time_ns() % 2**32))
    print(f"MUTOSCOPE_TEST_SEED={seed}")
    return seed


@pytest.fixture
def moments(seed: int) -> random.Random:
    return random.Random(seed)


def submit_all(installation: Installation) -> list[str]:
    image = installation.upload(EXAMPLES / "astronaut.jpg")
    return [
        installation.submit(prompt=f"slow push in, take {number}", images=[image], aspect_ratio="1:1")["id"]
        for number in range(TASKS)
    ]


def wait_for_running(installation: Installation) -> None:
    until = time.monotonic() + 60
    while installation.run_count() == 0:
        assert time.monotonic() < until, installation.log.read_text()
        time.sleep(0.05)


def check_all(installation: Installation, task_ids: list[str]) -> None:
    """Every task is completed, once, with a whole video; and nothing else is left."""
    for task_id in task_ids:
        found = installation.wait(task_id)
        assert found["status"] == "completed", found["error"]
        video = installation.http.get(found["outputs"][0])
        assert video.status_code == 200
        path = installation.home / "check.mp4"
        path.write_bytes(video.content)
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 121
    succeeded = [line for line in installation.log.read_text().splitlines() if "task succeeded" in line]
    for task_id in task_ids:
        assert sum(task_id in line for line in succeeded) <= 1, "a task was completed twice"
    outputs = sorted(path.name.partition("-")[0] for path in Path(installation.home, "files/outputs").iterdir())
    assert outputs == sorted([*task_ids, *task_ids]), "one video and one poster for each task, and no other file"
    assert list(Path(installation.home, "scratch").iterdir()) == [], "a partial file was left"


def test_every_task_survives_its_worker_being_killed(
    install: Callable[..., Installation], moments: random.Random
) -> None:
    installation = install().start()
    task_ids = submit_all(installation)
    for _ in range(KILLS):
        wait_for_running(installation)
        time.sleep(moments.uniform(0, 2.5))
        for pid in installation.worker_pids():
            os.kill(pid, signal.SIGKILL)
        if all(installation.result(task_id)["status"] == "completed" for task_id in task_ids):
            task_ids += submit_all(installation)
    check_all(installation, task_ids)


def test_every_task_survives_the_whole_server_being_killed(
    install: Callable[..., Installation], moments: random.Random
) -> None:
    installation = install(lease_seconds=1).start()
    task_ids = submit_all(installation)
    for _ in range(KILLS):
        wait_for_running(installation)
        time.sleep(moments.uniform(0, 2.5))
        installation.kill_group()
        installation.start()
        if all(installation.result(task_id)["status"] == "completed" for task_id in task_ids):
            task_ids += submit_all(installation)
    check_all(installation, task_ids)


def test_a_storm_of_kills_breaks_no_promise(tmp_path: Path, seed: int) -> None:
    asked = Namespace(kills=STORM_KILLS, seed=seed, longest_seconds=0.8, minutes=2)
    found = kill_loop(Fleet(tmp_path / "home"), asked)
    assert (found.broken, found.figures["kills"]) == ([], STORM_KILLS)


def test_a_server_told_to_stop_gives_its_task_back(install: Callable[..., Installation]) -> None:
    installation = install().start()
    image = installation.upload(EXAMPLES / "astronaut.jpg")
    task_id = installation.submit(prompt="pan left", images=[image], aspect_ratio="1:1")["id"]
    wait_for_running(installation)
    assert installation.stop() == 0
    status, attempt, failures, losses = installation.row(task_id, "status, attempt, failures, losses")
    assert (status, attempt, failures, losses) == ("queued", 1, 0, 0)
    assert list(Path(installation.home, "scratch").iterdir()) == []
    installation.start()
    assert installation.wait(task_id)["status"] == "completed"
