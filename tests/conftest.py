"""Fixtures: one running installation for the tests that only talk to it, fresh ones for those that break it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from mutoscope.schema import open_database
from tests.fleet import Fleet
from tests.installation import ANIMATIC, EXAMPLES, Installation
from tests.postgres import Postgres, find_binaries

# Other work on the machine must not fail a property, and a server's answer takes the time it takes. Explaining a
# failure needs a trace of every line that runs, several times the test's own time, even while nothing fails.
settings.register_profile(
    "mutoscope",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.load_profile("mutoscope")


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running sandbox server with one worker, shared: don't stop it. With MUTOSCOPE_TEST_FLEET=1, a whole fleet."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with ExitStack() as left_open:
        if os.environ.get("MUTOSCOPE_TEST_FLEET"):
            installation: Installation = Fleet(
                home, left_open.enter_context(request.getfixturevalue("postgres").empty())
            )
        else:
            installation = Installation(home)
        left_open.callback(installation.close)
        yield installation.start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this session's own."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: scripts/install-system-packages")
    server = Postgres(binaries)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file as a new installation has it, to be copied: that takes less time than to make its tables."""
    file = tmp_path_factory.mktemp("empty") / "mutoscope.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of a database that holds nothing; called again, the former is gone. Tests run on both kinds."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.fresh
    empty: Path = request.getfixturevalue("empty_sqlite")

    def fresh() -> str:
        for former in tmp_path.glob("mutoscope.db*"):
            former.unlink()
        shutil.copyfile(empty, tmp_path / "mutoscope.db")
        return f"sqlite:///{tmp_path}/mutoscope.db"

    return fresh


@pytest.fixture
def database_url(fresh_database: Callable[[], str]) -> str:
    """The URL of a database that holds nothing: each test that asks for it runs on both kinds."""
    return fresh_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without a table, gone with the test: for what changes the tables themselves."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/m.db"
    else:
        with request.getfixturevalue("postgres").empty() as url:
            yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """What tells a module's own installation which kind of database it has."""
    if request.param == "sqlite":
        return {}
    server: Postgres = request.getfixturevalue("postgres")
    return {"database_url": server.fresh()}


@pytest.fixture(scope="session")
def image(running: Installation) -> str:
    """The URL of an uploaded reference on the shared server."""
    return running.upload(EXAMPLES / "chelsea.jpg")


@pytest.fixture(scope="session")
def data_uri() -> str:
    """A small picture as a data URI, which any server accepts without fetching anything."""
    pixels = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
    done, data = cv2.imencode(".png", cv2.GaussianBlur(pixels, (0, 0), 8))
    assert done
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()


@pytest.fixture(scope="session")
def completed(running: Installation, image: str) -> dict[str, Any]:
    """The prediction of a finished square 5 s animatic with seed 7 on the shared server."""
    task = running.submit(ANIMATIC, prompt="a cat, slow push in", images=[image], aspect_ratio="1:1", seed=7)
    found = running.wait(task["id"])
    assert found["status"] == "completed", found
    return found


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Makes installations that end with the test."""
    made: list[Installation] = []

    def make(**settings: object) -> Installation:
        made.append(Installation(tmp_path / f"home{len(made)}", **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for installation in made:
        installation.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, with its key, for pictures.test alone."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=pictures.test"
    command = [*made.split(), "-addext", "subjectAltName=DNS:pictures.test", "-keyout", str(file), "-out", "-"]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    file.write_bytes(file.read_bytes() + done.stdout)
    return file
