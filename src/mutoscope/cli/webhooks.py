"""Commands about webhooks: what became of them, and sending one again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.table import Table
from rich.text import Text

from mutoscope.cli.terminal import CommandError, err, moment, out, printable
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.deliveries import Deliveries

webhooks_app = typer.Typer(help="Webhooks of this installation: list, replay.", no_args_is_help=True)


@webhooks_app.command("list")
def list_webhooks(limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1)] = 20) -> None:
    """The newest webhooks of all keys, and what came of the last attempt at each."""
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=32)  # whole, because `replay` asks for it
    for heading in ("status", "attempts", "next", "receiver", "last"):
        table.add_column(heading)
    with _deliveries() as deliveries:
        _, found = deliveries.page(1, limit)
    for one in found:
        parts = urlsplit(one.row["url"])  # without its query, which is its owner's secret
        receiver = Text(printable(f"{parts.scheme}://{parts.netloc}{parts.path}"))
        due = moment(one.row["due_at"]) if one.row["status"] == "due" else ""
        last = one.log[-1]["error"] or str(one.log[-1]["status_code"]) if one.log else ""
        table.add_row(one.row["id"], one.row["status"], str(one.row["attempts"]), due, receiver, Text(last))
    out.print(table)


@webhooks_app.command("replay")
def replay(delivery_id: Annotated[str, typer.Argument(help="The delivery's id.")]) -> None:
    """Send a webhook again, whatever came of it before; a running server does it."""
    with _deliveries() as deliveries:
        if not deliveries.replay(delivery_id):
            raise CommandError(f"There is no delivery {delivery_id}.")
    err.print(f"Delivery {delivery_id} is sent again.", highlight=False)


@contextmanager
def _deliveries() -> Iterator[Deliveries]:
    from mutoscope.deliveries import Deliveries
    from mutoscope.opening import open_store

    with open_store(load_settings()).database as database:
        yield Deliveries(database)
