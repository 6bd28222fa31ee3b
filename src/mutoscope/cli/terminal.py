"""What every command shares with the person at the terminal: two streams, and an error that is one sentence."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

out = Console()
err = Console(stderr=True)


class Step(Protocol):
    """Anything that tells where work stands: a stage in words, and 0 to 1."""

    @property
    def stage(self) -> str: ...
    @property
    def progress(self) -> float: ...


def show_progress(steps: Iterable[Step]) -> None:
    """Drive work to its end, a bar on stderr following it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        line = bar.add_task("starting", total=1.0)
        for step in steps:
            bar.update(line, description=step.stage, completed=step.progress)


class CommandError(Exception):
    """What the person at the terminal is told, and the exit code: 1 it failed, 2 it was asked wrongly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """What a caller wrote, unable to steer the terminal of whoever reads it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def moment(seconds: float | None) -> str:
    """A time as people read it, here; empty for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
