"""Fixtures: one running installation for the tests that only talk to it, fresh ones for those that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.installation import Installation


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running sandbox server with one worker, shared: don't stop it."""
    installation = Installation(tmp_path_factory.mktemp("shared") / "home").start()
    yield installation
    installation.close()


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
