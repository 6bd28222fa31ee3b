"""Bearer keys: made once, shown once, kept only as a keyed BLAKE2b digest."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from hashlib import blake2b

from sqlalchemy import Engine, insert, select, update

from mutoscope import schema

PREFIX = "wsk_"


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key after it was shown; `hint` is how it begins."""

    id: str
    name: str
    hint: str
    created_at: float
    revoked_at: float | None


class Keys:
    """The keys of one installation. `secret` (32 bytes) keys the digests: a stolen database alone opens nothing."""

    def __init__(self, database: Engine, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    def digest(self, key: str) -> str:
        """What is stored of a key, and looked up by: equal digests, equal keys. No comparison of secrets is left."""
        return blake2b(key.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=32).hexdigest()

    def create(self, name: str) -> str:
        """Make a key of 256 random bits: `wsk_` and 43 characters of base64url. It can't be read again."""
        key = PREFIX + secrets.token_urlsafe(32)
        row = {
            "id": secrets.token_hex(6),
            "name": name,
            "digest": self.digest(key),
            "hint": key[:8],
            "created_at": time.time(),
        }
        with self._database.begin() as connection:
            connection.execute(insert(schema.keys), row)
        return key

    def all(self) -> list[Key]:
        """All keys, the oldest first."""
        columns = [schema.keys.c[name] for name in ("id", "name", "hint", "created_at", "revoked_at")]
        with self._database.connect() as connection:
            rows = connection.execute(select(*columns).order_by(schema.keys.c.created_at)).all()
        return [Key(*row) for row in rows]

    def revoke(self, key_id: str) -> bool:
        """End a key at once, by its id; False when there is no such key or it was revoked before."""
        statement = (
            update(schema.keys)
            .where(schema.keys.c.id == key_id, schema.keys.c.revoked_at.is_(None))
            .values(revoked_at=time.time())
        )
        with self._database.begin() as connection:
            return connection.execute(statement).rowcount > 0
