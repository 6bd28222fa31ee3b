"""Files in an S3 bucket, under a prefix: Amazon's own or any store that speaks its protocol.

Who may read a file gets a presigned URL and reads it from the bucket itself; so do uploads go. Credentials, region and
endpoint are those of AWS's own tools (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …).
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from mutoscope.files import FilesAwayError, FilesError, FileTooLargeError, ReadMethod, type_of

_LONGEST_SECONDS = 7 * 86_400  # S3 honours no presigned URL for longer
_MARK = ".installation"
_PART_BYTES = 8 * 2**20  # larger files are sent in parts of this size, several at once
_CHECKED_SECONDS = 30.0  # a bucket that was well a moment ago need not be asked by each probe of readiness
_IN_DOUBT = re.compile(r"PermanentRedirect|AuthorizationHeaderMalformed|301|IllegalLocationConstraint")


class S3Files:
    """Files of one bucket and prefix. `url` is `s3://bucket/prefix`.

    `public_endpoint` is the endpoint that callers reach the bucket by, where it is not the one used here.
    """

    def __init__(self, url: str, public_endpoint: str = "") -> None:
        """Raises FilesError for a URL or credentials that can't be used; `check` asks the bucket itself."""
        parts = urlsplit(url)
        self.url = url
        self.disk = None
        self.bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        if not self.bucket or parts.query or parts.fragment or ".." in self._prefix.split("/"):
            raise FilesError(f"MUTOSCOPE_FILES_URL is {url!r}: it must be s3://bucket or s3://bucket/prefix.")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._store = self._open(endpoint)
        self._signer = self._open(public_endpoint) if public_endpoint else self._store
        self._well_until = float("-inf")

    def _open(self, endpoint: str) -> S3Store:
        try:
            return S3Store(
                self.bucket,
                prefix=self._prefix or None,
                config={"endpoint": endpoint} if endpoint else None,
                client_options={"allow_http": endpoint.startswith("http://")},
                retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=20)},
                checksum_algorithm="SHA256",
            )
        except BaseError as error:
            raise FilesError(f"The bucket {self.bucket} can't be used: {_first_line(error)}.") from error

    def check(self) -> None:
        """Write, read and delete a small file, unless that went well a moment ago.

        Raises FilesError, in a sentence that says what to mend.
        """
        if time.monotonic() < self._well_until:
            return
        key = f"scratch/check-{secrets.token_hex(8)}"
        try:
            obstore.put(self._store, key, b"mutoscope")
            obstore.get(self._store, key).bytes()
            obstore.delete(self._store, key)
        except (BaseError, FileNotFoundError) as error:
            raise FilesError(self._explain(error)) from error
        self._well_until = time.monotonic() + _CHECKED_SECONDS

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What the store says of a file is for who asked; all else says that it can't be used."""
        try:
            yield
        except (NotFoundError, AlreadyExistsError):
            raise
        except BaseError as error:
            self._well_until = float("-inf")
            raise FilesAwayError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        where = f"The bucket {self.bucket} can't be used"
        match error:
            case NotFoundError() | FileNotFoundError():
                return f"{where}: there is no such bucket at this endpoint; create it, or mend MUTOSCOPE_FILES_URL."
            case PermissionDeniedError():
                return (
                    f"{where}: these credentials may not write, read and delete there; they need s3:PutObject, "
                    "s3:GetObject, s3:DeleteObject and s3:ListBucket."
                )
            case UnauthenticatedError():
                return f"{where}: the credentials are not known there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        if _IN_DOUBT.search(str(error)):
            return f"{where}: it lies in another region; set AWS_REGION to the bucket's."
        return f"{where}: {_first_line(error)}."

    def owner(self, candidate: str) -> str:
        """The id of the installation whose files these are: from now on `candidate`, where they were nobody's."""
        with suppress(AlreadyExistsError, FileExistsError), self._asking():
            obstore.put(self._store, _MARK, candidate.encode(), mode="create", use_multipart=False)
        with self._asking():
            return bytes(obstore.get(self._store, _MARK).bytes()).decode()

    def put(self, key: str, source: Path, *, replace: bool = True) -> None:
        """Move the finished file `source` here: whole, or not at all.

        Raises FileExistsError where there is one that is not to be replaced.
        """
        _check_key(key)
        try:
            with self._asking():
                obstore.put(
                    self._store,
                    key,
                    source,
                    attributes={"Content-Type": type_of(key), "Cache-Control": "private, immutable"},
                    mode="overwrite" if replace else "create",
                    use_multipart=None if replace else False,
                    chunk_size=_PART_BYTES,
                )
        except (AlreadyExistsError, FileExistsError) as error:
            raise FileExistsError(key) from error
        source.unlink()

    def read(self, key: str, at_most: int | None = None) -> bytes | None:
        """The bytes of a file; None if there is none. Raises FileTooLargeError where there are more than `at_most`."""
        _check_key(key)
        try:
            with self._asking():
                found = obstore.get(self._store, key)
                if at_most is not None and found.meta["size"] > at_most:  # a presigned PUT can't bound what is sent
                    raise FileTooLargeError(key)
                return bytes(found.bytes())
        except (NotFoundError, FileNotFoundError):
            return None

    @contextmanager
    def local(self, key: str) -> Iterator[Path | None]:
        """A copy of a file on this machine, for as long as the block lasts; None if there is none."""
        data = self.read(key)
        if data is None:
            yield None
            return
        with TemporaryDirectory(prefix="mutoscope-") as folder:
            path = Path(folder, Path(key).name)
            path.write_bytes(data)
            yield path

    def has(self, key: str) -> bool:
        """Whether there is such a file."""
        _check_key(key)
        try:
            with self._asking():
                obstore.head(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove a file; no error if it is gone already."""
        _check_key(key)
        try:
            with self._asking():
                obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return

    def list(self, folder: str) -> Iterator[str]:
        """The keys below a folder."""
        batches = iter(obstore.list(self._store, prefix=folder))
        while True:
            with self._asking():
                batch = next(batches, None)
            if batch is None:
                return
            for found in batch:
                yield found["path"]

    def where(self, key: str) -> str:
        """The address of a file in its bucket."""
        _check_key(key)
        return f"{self.url.rstrip('/')}/{key}"

    def link(self, key: str, expires_at: float, method: ReadMethod = "GET") -> str | None:
        """A URL by which anybody may read a file from the bucket until then, or for a week if that is sooner."""
        return self._sign(method, key, expires_at)

    def upload_link(self, key: str, expires_at: float) -> str | None:
        """A URL by which anybody may send a file to the bucket until then."""
        return self._sign("PUT", key, expires_at)

    def _sign(self, method: Literal["GET", "HEAD", "PUT"], key: str, expires_at: float) -> str:
        _check_key(key)
        seconds = max(1, min(_LONGEST_SECONDS, round(expires_at - time.time())))
        return obstore.sign(self._signer, method, key, timedelta(seconds=seconds))


def _check_key(key: str) -> None:
    if not key or key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is not the key of a file")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason was given"])[0].strip().rstrip(".")[:300]
