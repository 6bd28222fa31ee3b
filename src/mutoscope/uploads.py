"""Uploads as rows: files that callers have sent, or have a ticket to send. The bytes are `files.py`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import RowMapping, delete, insert, select

from mutoscope.database import Database
from mutoscope.schema import uploads


class Uploads:
    """The uploads of one installation."""

    def __init__(self, database: Database, *, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._clock = clock or database.now

    def add(self, upload_id: str, key_id: str, *, filename: str, content_type: str, size: int, file: str) -> None:
        """Note a file that a caller has sent, or has a ticket to send; `file` is its key among the files."""
        row = {
            "id": upload_id,
            "key_id": key_id,
            "filename": filename,
            "content_type": content_type,
            "size": size,
            "file": file,
            "created_at": self._clock(),
        }
        with self._database.write() as connection:
            connection.execute(insert(uploads), row)

    def get(self, upload_id: str) -> RowMapping | None:
        """The upload of this id."""
        with self._database.connect() as connection:
            return connection.execute(select(uploads).where(uploads.c.id == upload_id)).mappings().first()

    def before(self, moment: float, limit: int = 500) -> Sequence[RowMapping]:
        """Uploads whose retention is over."""
        query = select(uploads).where(uploads.c.created_at < moment).limit(limit)
        with self._database.connect() as connection:
            return connection.execute(query).mappings().all()

    def remove(self, upload_ids: Sequence[str]) -> None:
        """Forget uploads. Their files are the caller's to delete, first."""
        with self._database.write() as connection:
            connection.execute(delete(uploads).where(uploads.c.id.in_(upload_ids)))
