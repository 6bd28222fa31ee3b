"""`mutoscope top`: queue, workers and throughput, as they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mutoscope.cli.terminal import out, printable
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.overview import Overview

_WINDOW_SECONDS = 600
_BAR = 20


def top(
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print, and end.")] = False,
) -> None:
    """Queue, workers and throughput, live; Ctrl+C ends it."""
    from mutoscope.opening import open_store
    from mutoscope.overview import look

    with open_store(load_settings()).database as database:

        def now() -> RenderableType:
            with database.connect() as connection:
                return _shown(look(connection, database.now(), _WINDOW_SECONDS))

        if once:
            out.print(now())
            return
        with Live(now(), console=out, auto_refresh=False, screen=out.is_terminal) as live:
            try:
                while True:
                    time.sleep(every)
                    live.update(now(), refresh=True)
            except KeyboardInterrupt:
                return


def _shown(seen: Overview) -> RenderableType:
    engines = sorted({queue.engine for queue in seen.queues} | {task.engine for task in seen.running})
    queues = {queue.engine: queue for queue in seen.queues}
    table = Table(box=None, title_justify="left")
    for heading in ("engine", "queue", "oldest", "running"):
        table.add_column(heading)
    for engine in engines:
        queue = queues.get(engine)
        running = sum(task.engine == engine for task in seen.running)
        table.add_row(
            engine,
            f"{queue.length if queue else 0:,} waiting",
            f"{queue.age_seconds:,.0f} s" if queue else "",
            str(running),
        )
    work = Table(box=None)
    for heading in ("worker", "task", "", "stage", "time"):
        work.add_column(heading)
    for task in seen.running:
        filled = round(task.progress * _BAR)
        stage = Text(printable(task.stage))
        if task.silent_seconds:
            stage = Text(f"silent for {task.silent_seconds:.0f} s", style="red")
        bar = Text("█" * filled, style="green") + Text("░" * (_BAR - filled), style="dim")
        work.add_row(task.worker[-24:], task.task_id[:12], bar, stage, f"{task.seconds:.0f} s")
    minutes = _WINDOW_SECONDS // 60
    ended = ", ".join(f"{count:,} {status}" for status, count in sorted(seen.ended.items())) or "nothing ended"
    lines = Text(
        f"last {minutes} minutes  {ended}; {seen.video_seconds:,} s of video, "
        f"{seen.video_seconds * 60 / _WINDOW_SECONDS:.1f} s a minute\n"
        f"webhooks         {seen.webhooks_due:,} due"
        + (f", the oldest {seen.webhook_age_seconds:.0f} s late" if seen.webhook_age_seconds > 1 else "")
        + f"\nheld             {seen.held_micros / 1e6:,.2f} USD"
    )
    return Group(
        *((table,) if engines else (Text("Nothing waits and nothing runs."),)),
        Text(),
        *((work, Text()) if seen.running else ()),
        lines,
    )
