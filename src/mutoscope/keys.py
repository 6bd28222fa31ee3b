"""Accounts and their bearer keys. A key is made once, shown once, and kept only as a keyed BLAKE2b digest.

Knows who may ask and how much at once; what a task costs is `pricing`, what was paid `ledger`.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from hashlib import blake2b, sha256
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from mutoscope import schema
from mutoscope.database import Database, LookUp
from mutoscope.schema import accounts, keys
from mutoscope.tasks import SCOPES, Caller

PREFIX = "wsk_"

DEFAULT_ACCOUNT = "default"
"""The account of whoever runs the installation: its balance refuses nothing. Keys are its own unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Tier:
    """How many videos a key may ask for in a minute, and how many of them run at once; further ones wait."""

    videos_per_minute: int
    concurrency: int


TIERS: dict[str, Tier] = {
    "bronze": Tier(2, 2),
    "silver": Tier(500, 300),
    "gold": Tier(3_000, 3_000),
    "ultra": Tier(5_000, 10_000),
}
"""WaveSpeed's account levels."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key after it was shown; `hint` is how it begins."""

    id: str
    account_id: str
    name: str
    hint: str
    scopes: list[str]
    tier: str
    videos_per_minute: int
    concurrency: int
    daily_cap_micros: int | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays: what is there to spend, and what is set aside for tasks that wait or run, in micro-dollars."""

    id: str
    name: str
    is_unlimited: bool
    is_operator: bool
    floor_micros: int
    available_micros: int
    held_micros: int
    created_at: float


class KeysError(ValueError):
    """An account or a key can't be made as asked; says why."""


_KEY = [keys.c[field.name] for field in fields(Key)]
_OF_ID = LookUp(select(*_KEY).where(keys.c.id == bindparam("id")))
_ACCOUNT = [accounts.c[field.name] for field in fields(Account)]

GOOD_KEY = (keys.c.digest == bindparam("digest"), keys.c.revoked_at.is_(None))
"""Conditions on a key that was not revoked; whether it has expired is asked of its row."""

_CALLER = LookUp(
    select(keys.c.id, keys.c.account_id, keys.c.scopes, keys.c.expires_at, accounts.c.is_operator)
    .select_from(keys.join(accounts))
    .where(*GOOD_KEY)
)


class Keys:
    """The accounts and keys of one installation.

    `secret` (32 bytes) keys the digests, so that a stolen database alone opens nothing.
    """

    def __init__(self, database: Database, secret: bytes, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock or database.now

    def digest(self, key: str) -> str:
        """What is stored of a key, and looked up by: equal digests, equal keys. No comparison of secrets is left."""
        return blake2b(key.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=32).hexdigest()

    def caller(self, digest: str) -> Caller | None:
        """Who bears the key of this digest, unless it was revoked or has expired."""
        row = self._database.look_up(_CALLER, {"digest": digest})
        return caller_from_row(row, self._clock()) if row else None

    # Keys

    def create(
        self,
        name: str,
        *,
        account_id: str = DEFAULT_ACCOUNT,
        scopes: Iterable[str] = ("generate", "read"),
        tier: str = "ultra",
        videos_per_minute: int | None = None,
        concurrency: int | None = None,
        daily_cap_micros: int | None = None,
        expires_at: float | None = None,
    ) -> str:
        """Make a key of 256 random bits: `wsk_` and 43 characters of base64url. It can't be read again.

        Raises KeysError.
        """
        wanted = [scope for scope in SCOPES if scope in set(scopes)]
        if not wanted or set(scopes) - set(SCOPES):
            raise KeysError(f"scopes are {', '.join(scopes) or 'empty'}: each must be one of {', '.join(SCOPES)}")
        if tier not in TIERS:
            raise KeysError(f"tier is {tier!r}: it must be one of {', '.join(TIERS)}")
        if daily_cap_micros is not None and daily_cap_micros < 0:
            raise KeysError("the daily cap is negative: it must be 0 or more")
        key = PREFIX + secrets.token_urlsafe(32)
        row = {
            "id": secrets.token_hex(6),
            "account_id": account_id,
            "name": name,
            "digest": self.digest(key),
            "hint": key[:8],
            "scopes": wanted,
            "tier": tier,
            "videos_per_minute": videos_per_minute or TIERS[tier].videos_per_minute,
            "concurrency": concurrency or TIERS[tier].concurrency,
            "daily_cap_micros": daily_cap_micros,
            "created_at": self._clock(),
            "expires_at": expires_at,
        }
        with self._database.write() as connection:
            if connection.execute(select(accounts.c.id).where(accounts.c.id == account_id)).first() is None:
                raise KeysError(f"there is no account {account_id}")
            connection.execute(insert(keys), row)
        return key

    def all(self, account_id: str | None = None) -> list[Key]:
        """All keys, or those of one account, the oldest first."""
        query = select(*_KEY).order_by(keys.c.created_at, keys.c.id)
        if account_id is not None:
            query = query.where(keys.c.account_id == account_id)
        with self._database.connect() as connection:
            return [Key(*row) for row in connection.execute(query)]

    def get(self, key_id: str) -> Key | None:
        """The key of this id."""
        row = self._database.look_up(_OF_ID, {"id": key_id})
        return Key(**row) if row else None

    def revoke(self, key_id: str, account_id: str | None = None) -> bool:
        """End a key at once, by its id; False when there is no such key (of that account) or it was revoked before."""
        statement = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        if account_id is not None:
            statement = statement.where(keys.c.account_id == account_id)
        with self._database.write() as connection:
            return connection.execute(statement.values(revoked_at=self._clock())).rowcount > 0

    def webhook_secret(self, key_id: str) -> str:
        """What signs the webhooks of a key's tasks. It is derived, not stored: rotating it counts its number up."""
        row = self._database.look_up(_GENERATION, {"id": key_id})
        generation = row["webhook_generation"] if row else 0
        made = hmac.new(self._secret, f"webhook\n{key_id}\n{generation}".encode(), sha256).digest()
        return "whsec_" + base64.b64encode(made).decode()

    def rotate_webhook_secret(self, key_id: str) -> str:
        """Give a key another webhook secret; the former one signs nothing any more."""
        with self._database.write() as connection:
            statement = update(keys).where(keys.c.id == key_id)
            connection.execute(statement.values(webhook_generation=keys.c.webhook_generation + 1))
        return self.webhook_secret(key_id)

    # Accounts

    def create_account(self, name: str, *, is_unlimited: bool = False, floor_micros: int = 0) -> Account:
        """Open an account with an empty balance. Raises KeysError for a name that is taken."""
        row = {
            "id": secrets.token_hex(6),
            "name": name,
            "is_unlimited": is_unlimited,
            "is_operator": False,
            "floor_micros": floor_micros,
            "available_micros": 0,
            "held_micros": 0,
            "created_at": self._clock(),
        }
        try:
            with self._database.write() as connection:
                connection.execute(insert(accounts), row)
        except IntegrityError:
            raise KeysError(f"there is an account called {name!r} already") from None
        return Account(**row)  # type: ignore[arg-type]

    def accounts(self) -> list[Account]:
        """All accounts, the oldest first."""
        with self._database.connect() as connection:
            rows = connection.execute(select(*_ACCOUNT).order_by(accounts.c.created_at, accounts.c.id))
            return [Account(*row) for row in rows]

    def account(self, id_or_name: str) -> Account | None:
        """The account of this id, or else of this name."""
        with self._database.connect() as connection:
            for column in (accounts.c.id, accounts.c.name):
                if row := connection.execute(select(*_ACCOUNT).where(column == id_or_name)).first():
                    return Account(*row)
        return None


_GENERATION = LookUp(select(schema.keys.c.webhook_generation).where(schema.keys.c.id == bindparam("id")))


def caller_from_row(row: Any, now: float) -> Caller | None:
    """The bearer of a key's row (id, account_id, scopes, expires_at, is_operator), unless it has expired."""
    if row["expires_at"] is not None and row["expires_at"] <= now:
        return None
    return Caller(row["id"], row["account_id"], frozenset(row["scopes"]), bool(row["is_operator"]))
