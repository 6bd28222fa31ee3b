"""Commands of whoever runs the service: accounts, their keys, and credit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mutoscope.cli.terminal import CommandError, err, moment, out, printable
from mutoscope.config import load_settings

if TYPE_CHECKING:  # the database would make `--help` slow
    from mutoscope.keys import Account, Keys

keys_app = typer.Typer(help="API keys: make, list, revoke.", no_args_is_help=True)
accounts_app = typer.Typer(help="Accounts: open, list. Each owns keys and a balance.", no_args_is_help=True)

_ACCOUNT = typer.Option("--account", help="An account's id or name; the operator's own if not given.")


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is, to tell it from others.")],
    account: Annotated[str, _ACCOUNT] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: generate, read, admin. Give it several times.")
    ] = None,
    tier: Annotated[str, typer.Option(help="Its limits: bronze, silver, gold or ultra.")] = "ultra",
    videos_per_minute: Annotated[int | None, typer.Option(min=1, help="Instead of the tier's.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Videos at once, instead of the tier's.")] = None,
    daily_cap: Annotated[str | None, typer.Option(help="The most it may spend in a day, in dollars.")] = None,
    expires: Annotated[datetime | None, typer.Option(help="When it ends, in UTC: 2027-01-31.")] = None,
) -> None:
    """Make a key and print it, alone, on stdout. It is not stored and can't be shown again."""
    from mutoscope.pricing import micros

    with _keys() as keys:
        print(
            keys.create(
                name,
                account_id=_account(keys, account).id,
                scopes=scope or ("generate", "read"),
                tier=tier,
                videos_per_minute=videos_per_minute,
                concurrency=concurrency,
                daily_cap_micros=micros(daily_cap) if daily_cap is not None else None,
                expires_at=expires.replace(tzinfo=UTC).timestamp() if expires else None,
            )
        )


@keys_app.command("list")
def list_keys() -> None:
    """The keys, the oldest first."""
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=12)  # whole, because `keys revoke` asks for it
    for heading in ("name", "begins with", "account", "scopes", "created", "ends"):
        table.add_column(heading)
    with _keys() as keys:
        names = {account.id: account.name for account in keys.accounts()}
        for key in keys.all():
            ended = f"revoked {moment(key.revoked_at)}" if key.revoked_at else moment(key.expires_at)
            account, scopes = Text(printable(names[key.account_id])), ", ".join(key.scopes)
            name = Text(printable(key.name))
            table.add_row(key.id, name, key.hint + "…", account, scopes, moment(key.created_at), ended)
    out.print(table)


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """End a key at once."""
    with _keys() as keys:
        if not keys.revoke(key_id):
            raise CommandError(f"There is no active key with the id {key_id}; `mutoscope keys list` shows them.")
    err.print(f"Key {key_id} is revoked.", highlight=False)


@accounts_app.command("create")
def create_account(
    name: Annotated[str, typer.Argument(help="Whose account it is.")],
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Its balance refuses nothing.")] = False,
    overdraft: Annotated[str, typer.Option(help="How far below zero its balance may fall, in dollars.")] = "0",
) -> None:
    """Open an account with an empty balance and print its id, alone, on stdout."""
    from mutoscope.pricing import micros

    with _keys() as keys:
        print(keys.create_account(name, is_unlimited=unlimited, floor_micros=-abs(micros(overdraft))).id)


@accounts_app.command("list")
def list_accounts() -> None:
    """The accounts with their balances, the oldest first."""
    from mutoscope.pricing import usd

    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=12)
    table.add_column("name")
    for heading in ("balance, USD", "held, USD"):
        table.add_column(heading, justify="right")
    with _keys() as keys:
        for account in keys.accounts():
            balance = f"{usd(account.available_micros):.2f}" + (" (unlimited)" if account.is_unlimited else "")
            table.add_row(account.id, Text(printable(account.name)), balance, f"{usd(account.held_micros):.2f}")
    out.print(table)


@accounts_app.command("check")
def check_accounts() -> None:
    """Hold every balance against its entries and the tasks under way; exit code 1 when the books don't agree."""
    from mutoscope import ledger
    from mutoscope.opening import open_store

    with open_store(load_settings()).database as database, database.snapshot() as connection:
        found = ledger.audit(connection)
    if found:
        raise CommandError("The books don't agree: " + "; ".join(found) + ".")
    err.print("The books agree.", highlight=False)


def credit(
    account: Annotated[str, typer.Argument(help="An account's id or name.")],
    dollars: Annotated[str, typer.Argument(help="How much; a negative amount takes some back.")],
    note: Annotated[str, typer.Option(help="What for; it is kept in the books.")] = "",
    once: Annotated[str, typer.Option(help="A name for this credit: given again, it is not credited twice.")] = "",
) -> None:
    """Add credit to an account."""
    from mutoscope import ledger
    from mutoscope.opening import open_store
    from mutoscope.pricing import micros, usd

    amount = micros(dollars)
    if amount == 0:
        raise CommandError("The amount is 0: nothing to do.")
    with _keys() as keys:
        found = _account(keys, account)
    with open_store(load_settings()).database as database:
        now = database.now()
        with database.write() as connection:
            outcome = ledger.credit(connection, found.id, amount, note=note, now=now, name=once)
        if isinstance(outcome, ledger.Missing):
            raise CommandError(f"The balance of {found.name} is too small: {usd(outcome.micros):.2f} USD are missing.")
        if outcome is not None and outcome.micros != amount:
            raise CommandError(f"{once} was credited before, with {usd(outcome.micros):.2f} USD: name this otherwise.")
    added = 0 if outcome is not None else amount
    before = " It was credited before." if outcome is not None else ""
    err.print(f"{found.name}: {usd(found.available_micros + added):.2f} USD.{before}", highlight=False)


def _account(keys: Keys, id_or_name: str) -> Account:
    account = keys.account(id_or_name)
    if account is None:
        raise CommandError(f"There is no account {id_or_name}; `mutoscope accounts list` shows them.")
    return account


@contextmanager
def _keys() -> Iterator[Keys]:
    from mutoscope.keys import KeysError
    from mutoscope.opening import keys_of, open_store

    settings = load_settings()
    with open_store(settings).database as database:
        try:
            yield keys_of(settings, database)
        except KeysError as error:
            raise CommandError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
