"""The command `mutoscope`: each command a few lines that call what does the work.

Errors are one sentence on stderr: exit code 1 when it could not be done, 2 when it was asked wrongly.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mutoscope import __version__
from mutoscope.config import SettingsError, load_settings
from mutoscope.models import ANIMATIC, MODELS

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.keys import Keys
    from mutoscope.store import Store

app = typer.Typer(
    name="mutoscope",
    help="Reference images and a prompt in, a video out.\n\n"
    "Start with [bold]mutoscope serve --sandbox[/bold], or make one video right here with "
    '[bold]mutoscope render "the camera pushes in" -r photo.jpg -o out.mp4[/bold].',
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys_app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
tasks_app = typer.Typer(help="Tasks of this installation: list, show, cancel.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(tasks_app, name="tasks")

out = Console()
err = Console(stderr=True)


class CommandError(Exception):
    """What the person at the terminal is told, and the exit code: 1 it failed, 2 it was asked wrongly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main() -> None:
    """Run the command line; every expected error becomes one sentence."""
    try:
        app()
    except KeyboardInterrupt:
        _leave("Interrupted.", 130)
    except Exception as error:
        sentence = _explain(error)
        if sentence is None:  # a fault of ours: its trace is what helps
            raise
        asked_wrongly = isinstance(error, SettingsError)
        _leave(sentence, error.exit_code if isinstance(error, CommandError) else 2 if asked_wrongly else 1)


def _explain(error: Exception) -> str | None:
    from sqlalchemy.exc import SQLAlchemyError

    from mutoscope.client import ClientError
    from mutoscope.files import FilesError

    match error:
        case CommandError() | SettingsError() | ClientError() | FilesError():
            return str(error)
        case ModuleNotFoundError():
            return f"The Python package {error.name} is needed for this, and is not installed."
        case SQLAlchemyError():
            return f"The database can't be used: {str(error).splitlines()[0]}."
        case OSError():
            why = f"{error.strerror or error}."
            return f"{error.filename} can't be used: {why}" if error.filename else why
    return None


def _leave(message: str, code: int) -> None:
    err.print(f"[red]mutoscope:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8787,
    workers: Annotated[int, typer.Option(help="Worker processes to run beside the API; 0 for none.", min=0)] = 1,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Render every model with the animatic.")] = False,
) -> None:
    """Run the API, the page and its workers until Ctrl+C.

    Whatever was accepted survives a crash: start it again, and it goes on where it was.
    """
    from mutoscope.serving import run

    run(load_settings(sandbox=sandbox or None), host, port, workers)


@app.command()
def worker(
    name: Annotated[str, typer.Option(help="A name that no other worker has; drawn when left out.")] = "",
    engine: Annotated[
        list[str] | None, typer.Option(help="An engine to render with; may be given again. Else: all that run here.")
    ] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Render tasks from the queue until Ctrl+C; run it on as many machines as share the database and the files."""
    from mutoscope.engines import ENGINES
    from mutoscope.serving import run_worker

    for asked in engine or ():
        if asked not in ENGINES:
            raise CommandError(f"There is no engine {asked!r}. Engines: {', '.join(ENGINES)}.", 2)
    run_worker(load_settings(), name, engine or (), supervised=supervised)


@app.command()
def render(
    prompt: Annotated[str, typer.Argument(help="What happens in the video: subjects, action, camera, light.")],
    reference: Annotated[
        list[str], typer.Option("-r", "--reference", help="A reference image: a file or a URL; give it 1 to 4 times.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The mp4 to write.")],
    shape: Annotated[str, typer.Option("--shape", help="16:9, 9:16 or 1:1.")] = "16:9",
    duration: Annotated[int, typer.Option("--duration", help="Seconds, 5 to 10.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same video; -1 draws one.")] = -1,
    engine: Annotated[
        str, typer.Option("--engine", help="animatic, or skyreels-v3 where it is installed.")
    ] = "animatic",
    server: Annotated[str, typer.Option("--server", help="Render on this server instead of in this process.")] = "",
    key: Annotated[str, typer.Option("--key", help="The API key for --server.", envvar="MUTOSCOPE_API_KEY")] = "",
) -> None:
    """Make one video, in this process or on a server.

    mutoscope render "slow push in on her face" -r person.jpg -o out.mp4
    """
    from mutoscope.client import Client, check_files, render_here, render_there
    from mutoscope.models import InputError, parse_input

    inputs = {"prompt": prompt, "aspect_ratio": shape, "duration": duration, "seed": seed}
    try:  # files are no URLs, so they are checked by themselves
        asked = parse_input(MODELS[ANIMATIC], {**inputs, "images": ["https://file"] * len(reference)})
    except InputError as error:
        raise CommandError(str(error), 2) from None
    check_files(reference)
    request = replace(asked, images=tuple(reference))
    if output.is_dir():
        raise CommandError(f"{output} is a folder; name the mp4 to write.", 2)
    if not output.parent.is_dir():
        raise CommandError(f"The folder {output.parent} does not exist.", 2)
    here = {str(model.engine): model.id for model in MODELS.values()}
    if engine not in here:
        raise CommandError(f"There is no engine {engine!r} in this installation. Engines here: {', '.join(here)}.", 2)
    if server and not key:
        raise CommandError("--server needs a key: give --key, or set MUTOSCOPE_API_KEY.", 2)
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar, ExitStack() as leaving:
        line = bar.add_task("starting", total=1.0)
        if server:
            client = leaving.enter_context(Client(server, key))
            steps = render_there(client, here[engine], request, request.seed, output)
        else:
            steps = render_here(load_settings(), engine, request, output)
        for step in steps:
            bar.update(line, description=step.stage, completed=step.progress)
    size = output.stat().st_size / 2**20
    err.print(
        f"{request.duration} s of {request.aspect_ratio} video by the {engine} engine, seed {request.seed}, "
        f"{size:.1f} MB, made in {time.monotonic() - started:.1f} s",
        highlight=False,
    )
    print(output)


@app.command()
def models() -> None:
    """The models on offer: their ids, prices and inputs."""
    from mutoscope import pricing

    for model in MODELS.values():
        micros = pricing.quote_micros(model.id, 1)
        price = f"${pricing.usd(micros):.2f} per second" if micros else "free"
        out.print(f"[bold]{model.id}[/bold]  {price}  engine {model.engine}", highlight=False)
        out.print(f"  {model.description}\n", highlight=False)
        for name, field in model.accepts.model_fields.items():
            extra = field.json_schema_extra
            allowed = extra["x-allowed"] if isinstance(extra, dict) else ""
            default = "required" if field.is_required() else f"default {field.default}"
            out.print(f"  {name:<13} {allowed} ({default})", highlight=False)
        out.print()


@app.command()
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
    }
    for name, value in rows.items():
        if value:
            print(f"{name:<9} {_printable(value)}")


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
