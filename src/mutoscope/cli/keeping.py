"""Commands that keep an installation: doctor, tasks, replay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mutoscope.cli.terminal import CommandError, err, moment, out, printable, show_progress
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.store import Store
    from mutoscope.tasks import Task

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


@tasks_app.command("list")
def list_tasks(limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20) -> None:
    """The newest tasks of all keys."""
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=32)  # whole, because the other commands ask for it
    for heading in ("status", "progress", "created", "prompt"):
        table.add_column(heading)
    with _store() as store:
        newest = store.newest(limit=limit)
    for task in newest:
        prompt = task.request.prompt if len(task.request.prompt) <= 48 else task.request.prompt[:47] + "…"
        share = f"{task.progress:.0%}" if task.status.value == "running" else ""
        table.add_row(task.id, task.status, share, moment(task.created_at), Text(printable(prompt)))
    out.print(table)


@tasks_app.command("show")
def show_task(task_id: Annotated[str, typer.Argument(help="The task's id.")]) -> None:
    """One task, whole."""
    task = _find(task_id)
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
        "output": _where(task.output) if task.output else "",
        "attempt": str(task.attempt),
        "created": moment(task.created_at),
        "started": moment(task.started_at),
        "finished": moment(task.finished_at),
        "timings": ", ".join(f"{stage} {ms} ms" for stage, ms in task.timings.items()),
        "receipt": json.dumps(task.receipt) if task.receipt else "",
    }
    for name, value in rows.items():
        if value:
            print(f"{name:<9} {printable(value)}")


def replay(
    task_id: Annotated[str, typer.Argument(help="The task's id.")],
    keep: Annotated[Path | None, typer.Option("-o", "--output", help="Keep the new video here.")] = None,
) -> None:
    """Render a finished task again, and tell whether the very same video comes out."""
    from mutoscope.replay import Replay

    task = _find(task_id)
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
    with _store() as store:
        task = store.cancel(None, task_id)
    if task is None:
        raise CommandError(f"There is no task {task_id}.")
    words = {"running": "is told to end at its next step", "canceled": "is canceled"}
    err.print(f"Task {task_id} {words.get(task.status, f'had ended already: {task.status}')}.", highlight=False)


@contextmanager
def _store() -> Iterator[Store]:
    from mutoscope.opening import open_store

    store = open_store(load_settings())
    with store.database:
        yield store


def _find(task_id: str) -> Task:
    with _store() as store:
        task = store.find(task_id)
    if task is None:
        raise CommandError(f"There is no task {task_id}.")
    return task


def _where(key: str) -> str:
    from mutoscope.files import open_files

    return open_files(load_settings().files).where(key)
