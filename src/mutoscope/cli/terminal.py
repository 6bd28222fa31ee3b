"""What every command shares with the person at the terminal: two streams, and an error that is one sentence."""

from __future__ import annotations

from rich.console import Console

out = Console()
err = Console(stderr=True)


class CommandError(Exception):
    """What the person at the terminal is told, and the exit code: 1 it failed, 2 it was asked wrongly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
