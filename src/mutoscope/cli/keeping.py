"""Commands that keep an installation: doctor, keys, tasks."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mutoscope.cli.terminal import CommandError, err, out, show_progress
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.keys import Keys
    from mutoscope.store import Store

keys_app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
tasks_app = typer.Typer(help="Tasks of this installation: list, show, cancel.", no_args_is_help=True)


def doctor() -> None:
    """What is installed, which engines can run here, and what is missing."""
    from mutoscope.doctor import examine

    settings = load_settings()
    healthy = True
    for finding in examine(settings):
        mark = {"ok": "[green]ok  [/green]", "note": "[yellow]note[/yellow]", "bad": "[red]bad [/red]"}[finding.state]
        out.print(f"{mark}  {finding.subject:<16} {escape(finding.text)}", highlight=False, soft_wrap=True)
        healthy = healthy and finding.state != "bad"
    if not healthy:
        raise typer.Exit(1)


@keys_app.command("create")
def create_key(name: Annotated[str, typer.Argument(help="Whose key it is, to tell it from others.")]) -> None:
    """Make a key and print it, alone, on stdout. It is not stored and can't be shown again."""
    print(_keys().create(name))


@keys_app.command("list")
def list_keys() -> None:
    """The keys, the oldest first."""
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=12)  # whole, because `keys revoke` asks for it
    for heading in ("name", "begins with", "created", "revoked"):
        table.add_column(heading)
    for key in _keys().all():
        table.add_row(
            key.id, Text(_printable(key.name)), key.hint + "…", _moment(key.created_at), _moment(key.revoked_at)
        )
    out.print(table)


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """End a key at once."""
    if not _keys().revoke(key_id):
        raise CommandError(f"There is no active key with the id {key_id}; `mutoscope keys list` shows them.")
    err.print(f"Key {key_id} is revoked.", highlight=False)


@tasks_app.command("list")
def list_tasks(limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20) -> None:
    """The newest tasks of all keys."""
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=32)  # whole, because the other commands ask for it
    for heading in ("status", "progress", "created", "prompt"):
        table.add_column(heading)
    for task in _store().newest(limit=limit):
        prompt = task.request.prompt if len(task.request.prompt) <= 48 else task.request.prompt[:47] + "…"
        share = f"{task.progress:.0%}" if task.status.value == "running" else ""
        table.add_row(task.id, task.status, share, _moment(task.created_at), Text(_printable(prompt)))
    out.print(table)


@tasks_app.command("show")
def show_task(task_id: Annotated[str, typer.Argument(help="The task's id.")]) -> None:
    """One task, whole."""
    task = _store().find(task_id)
    if task is None:
        raise CommandError(f"There is no task {task_id}.")
    request = task.request
    rows = {
        "status": task.status.value,
        "stage": f"{task.stage} {task.progress:.0%}" if task.stage else "",
        "error": task.error,
        "model": task.model,
        "engine": task.engine,
        "prompt": request.prompt,
        "images": "  ".join(request.images),
        "video": f"{request.aspect_ratio}, {request.duration} s, seed {request.seed}",
        "output": str(_settings_files_path(task.output)) if task.output else "",
        "attempt": str(task.attempt),
        "created": _moment(task.created_at),
        "started": _moment(task.started_at),
        "finished": _moment(task.finished_at),
        "timings": ", ".join(f"{stage} {ms} ms" for stage, ms in task.timings.items()),
        "receipt": json.dumps(task.receipt) if task.receipt else "",
    }
    for name, value in rows.items():
        if value:
            print(f"{name:<9} {_printable(value)}")


def replay(
    task_id: Annotated[str, typer.Argument(help="The task's id.")],
    keep: Annotated[Path | None, typer.Option("-o", "--output", help="Keep the new video here.")] = None,
) -> None:
    """Render a finished task again, and tell whether the very same video comes out."""
    from mutoscope.replay import Replay

    task = _store().find(task_id)
    if task is None:
        raise CommandError(f"There is no task {task_id}.")
    with TemporaryDirectory(prefix="mutoscope-") as folder:
        again = Replay(load_settings(), task, Path(folder))
        show_progress(again.run())
        if keep:
            shutil.copyfile(again.video, keep)
    if again.is_same:
        out.print("The same video, byte for byte.")
        return
    reasons = again.reasons()
    raise CommandError(f"Another video: {', '.join(reasons) if reasons else 'and nothing known explains it'}.")


@tasks_app.command("cancel")
def cancel_task(task_id: Annotated[str, typer.Argument(help="The task's id.")]) -> None:
    """End a task: a queued one at once, a running one at its next step."""
    task = _store().cancel(None, task_id)
    if task is None:
        raise CommandError(f"There is no task {task_id}.")
    words = {"running": "is told to end at its next step", "canceled": "is canceled"}
    err.print(f"Task {task_id} {words.get(task.status, f'had ended already: {task.status}')}.", highlight=False)


def _store() -> Store:
    from mutoscope.opening import open_store

    return open_store(load_settings())


def _keys() -> Keys:
    from mutoscope.opening import open_keys

    return open_keys(load_settings())


def _settings_files_path(key: str) -> Path:
    from mutoscope.files import open_files

    return open_files(load_settings().files).path(key)


def _printable(text: str) -> str:
    """What a caller wrote, unable to steer the terminal of whoever reads it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _moment(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
