"""`serve` and `worker` as processes: started, restarted, woken and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mutoscope.client import Client, ClientError
from mutoscope.config import load_settings
from mutoscope.opening import open_store
from mutoscope.supervisor import Launch, Supervisor
from tests.installation import EXAMPLES, Installation

pytestmark = pytest.mark.slow


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def served(install: Callable[..., Installation]) -> Installation:
    installation = install(workers=2).start()
    wait_until(lambda: len(installation.worker_pids()) == 2)
    return installation


def test_a_worker_that_dies_is_replaced(served: Installation) -> None:
    before = served.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(served.worker_pids()) == 2 and before[0] not in served.worker_pids())
    assert before[1] in served.worker_pids()


def test_workers_end_when_their_server_is_killed(served: Installation) -> None:
    wait_until(lambda: served.log.read_text().count("worker is ready") == 2)
    workers = served.worker_pids()
    assert served.process is not None
    os.kill(served.process.pid, signal.SIGKILL)  # the server alone: its workers only see their pipe end
    served.process.wait()
    wait_until(lambda: not any(map(is_alive, workers)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_workers_cleanly(served: Installation, number: signal.Signals) -> None:
    workers = served.worker_pids()
    assert served.stop(number) == 0
    assert not any(map(is_alive, workers))
    log = served.log.read_text()
    assert "stopped" in log
    assert "Traceback" not in log


def test_a_worker_that_keeps_failing_is_restarted_ever_more_slowly(install: Callable[..., Installation]) -> None:
    installation = install(workers=1).start()
    wait_until(lambda: "worker is ready" in installation.log.read_text())
    blocked = installation.home / "scratch"
    blocked.rmdir()
    blocked.write_text("not a folder, so that a worker ends as it starts")
    for pid in installation.worker_pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(6)
    endings = installation.log.read_text().count("worker ended")
    assert 2 <= endings <= 5
    blocked.unlink()
    wait_until(lambda: installation.log.read_text().count("worker is ready") >= 2, 30)


def test_a_worker_that_could_not_be_started_is_tried_again(tmp_path: Path) -> None:
    program, sign = tmp_path / "worker", tmp_path / "it ran"
    store = open_store(load_settings(home=tmp_path))
    supervisor = Supervisor(store, [Launch([str(program)])])
    supervisor.start()
    try:
        time.sleep(0.5)  # there is no such program, yet
        program.write_text(f"#!/bin/sh\ntouch '{sign}'\ncat")
        program.chmod(0o700)
        wait_until(sign.exists)
    finally:
        supervisor.stop()
        store.database.close()


def test_a_worker_of_its_own_renders_what_a_server_without_workers_accepted(
    install: Callable[..., Installation],
) -> None:
    installation = install(workers=0).start()
    image = installation.upload(EXAMPLES / "astronaut.jpg")
    task = installation.submit(prompt="static", images=[image], aspect_ratio="1:1")
    assert task["queue_position"] == 1
    worker = subprocess.Popen([sys.executable, "-m", "mutoscope", "worker"], env=installation.env)
    try:
        assert installation.wait(task["id"])["status"] == "completed"
        worker.terminate()
        assert worker.wait(10) == 0
    finally:
        worker.kill()


def test_an_idle_worker_starts_at_once(running: Installation) -> None:
    image = running.upload(EXAMPLES / "astronaut.jpg")
    waits = []
    for _ in range(5):
        task_id = running.submit(prompt="static", images=[image], aspect_ratio="1:1")["id"]
        wait_until(lambda: running.result(task_id)["status"] != "created")  # noqa: B023 - called in this turn alone
        created, started = running.row(task_id, "created_at, started_at")
        waits.append(started - created)
        running.http.delete(f"/api/v3/predictions/{task_id}")
        assert running.wait(task_id)["status"] in ("cancelled", "completed")
    assert sorted(waits)[2] < 0.25  # without the bell it would look once a second


def test_a_port_in_use_is_one_sentence(install: Callable[..., Installation]) -> None:
    installation = install()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = installation.run("serve", "--port", str(taken.getsockname()[1]), check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_client_waits_for_a_server_that_starts_again(install: Callable[..., Installation]) -> None:
    installation = install(workers=0).start()
    image = installation.upload(EXAMPLES / "astronaut.jpg")
    task_id = installation.submit(prompt="static", images=[image])["id"]
    with contextlib.closing(Client(installation.url, installation.key)) as client:
        looks = client.wait(task_id)
        assert next(looks)["status"] == "created"
        installation.kill_group()

        def start_and_cancel() -> None:
            installation.start().http.delete(f"/api/v3/predictions/{task_id}")

        starter = threading.Timer(2, start_and_cancel)
        starter.start()
        with pytest.raises(ClientError, match="cancelled"):
            list(looks)
        starter.join()
