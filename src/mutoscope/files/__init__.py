"""Where bytes are kept, and the links that let them be read without a key.

A file is put whole or not at all, under a key such as `outputs/3f…-1.mp4`. Nothing here knows tasks or accounts.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import mimetypes
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import structlog

log = structlog.get_logger()

Method = Literal["GET", "PUT"]
ReadMethod = Literal["GET", "HEAD"]


_MARK = ".installation"


class FilesError(Exception):
    """The place for files can't be used; says why."""


class FilesAwayError(FilesError):
    """The place for files can't be used right now, and may be well in a moment; says why."""


class FileTooLargeError(Exception):
    """A file holds more than the reader has use for."""


def read_secret(home: Path, name: str) -> bytes:
    """The 32 secret bytes of this installation called `name`, made on first use and readable by its owner alone."""
    folder = home / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    if not path.exists():
        fresh = folder / f".{name}.{os.getpid()}"
        with fresh.open("wb") as file:
            fresh.chmod(0o600)
            file.write(os.urandom(32))
        _fsync(fresh)
        try:
            os.link(fresh, path)  # fails if another process was first: then its secret is the secret
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        _fsync(folder)
    secret = path.read_bytes()
    if len(secret) != 32:  # an empty one would sign, too
        raise FilesError(f"The secret in {path} has {len(secret)} bytes instead of 32: put it back from a backup.")
    return secret


class Files(Protocol):
    """The contract: a place for files, each whole or absent, named by keys such as `outputs/3f…-1.mp4`.

    Each may raise FilesAwayError; then the same may be tried again.

    `disk` is a folder of the disk that they fill; None where that is not this machine's.
    """

    @property
    def disk(self) -> Path | None: ...

    def check(self) -> None:
        """Raises FilesError when the place can't be used."""
        ...

    def owner(self, candidate: str) -> str:
        """The id of the installation whose files these are: from now on `candidate`, where they were nobody's."""
        ...

    def put(self, key: str, source: Path, *, replace: bool = True) -> None:
        """Move the finished file `source` here, durably. Raises FileExistsError where none is to be replaced."""
        ...

    def read(self, key: str, at_most: int | None = None) -> bytes | None:
        """The bytes of a file; None if there is none. Raises FileTooLargeError where there are more than `at_most`."""
        ...

    def local(self, key: str) -> AbstractContextManager[Path | None]:
        """A file as one of this machine, for as long as the block lasts; None if there is none."""
        ...

    def has(self, key: str) -> bool:
        """Whether there is such a file."""
        ...

    def delete(self, key: str) -> None:
        """Remove a file; no error if it is gone already."""
        ...

    def list(self, folder: str) -> Iterator[str]:
        """The keys below a folder."""
        ...

    def where(self, key: str) -> str:
        """Where a file lies, for a person to read."""
        ...

    def link(self, key: str, expires_at: float, method: ReadMethod = "GET") -> str | None:
        """A URL of the place itself by which anybody may read until then; None where there is none but ours."""
        ...

    def upload_link(self, key: str, expires_at: float) -> str | None:
        """The same, to send a file."""
        ...


_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}


def type_of(name: str) -> str:
    """The media type that a file's name stands for; what browsers would run or render as a page is not among them."""
    suffix = PurePosixPath(name).suffix.lower()
    guessed = _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "")
    safe = guessed.startswith(("image/", "video/", "audio/")) and "svg" not in guessed
    return guessed if safe else "application/octet-stream"


class LocalFiles:
    """Files in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = self.disk = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, key: str) -> Path:
        """Where the file of this key lies. Raises ValueError for a key that would leave the folder."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()) or path == self.root.resolve():
            raise ValueError(f"{key!r} is not the key of a file")
        return path

    def put(self, key: str, source: Path, *, replace: bool = True) -> None:
        """Move the finished file `source` here, durably: after a crash it is here whole, or not here.

        Raises FileExistsError where there is one that is not to be replaced.
        """
        target = self.path(key)
        _make_folder(target.parent)
        _fsync(source)
        try:
            _move(source, target, replace)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another file system: copy beside the target, then the same rename.
            beside = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                shutil.copyfile(source, beside)
                _fsync(beside)
                _move(beside, target, replace)
            finally:
                beside.unlink(missing_ok=True)
            source.unlink()
        _fsync(target.parent)

    def owner(self, candidate: str) -> str:
        """The id of the installation whose files these are: from now on `candidate`, where they were nobody's."""
        mark = self.root / _MARK
        if not mark.exists():
            fresh = self.root / f"{_MARK}.{os.getpid()}"
            fresh.write_text(candidate)
            _fsync(fresh)
            try:
                _move(fresh, mark, replace=False)
            except FileExistsError:  # another process was first
                fresh.unlink()
            _fsync(self.root)
        return mark.read_text()

    def read(self, key: str, at_most: int | None = None) -> bytes | None:
        """The bytes of a file; None if there is none. Raises FileTooLargeError where there are more than `at_most`."""
        path = self.path(key)
        try:
            if at_most is not None and path.stat().st_size > at_most:
                raise FileTooLargeError(key)
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def check(self) -> None:
        """Nothing more to ask: the folder was made when this was."""

    @contextmanager
    def local(self, key: str) -> Iterator[Path | None]:
        """The file itself; None if there is none."""
        path = self.path(key)
        yield path if path.is_file() else None

    def has(self, key: str) -> bool:
        """Whether there is such a file."""
        return self.path(key).is_file()

    def where(self, key: str) -> str:
        """The path of a file."""
        return str(self.path(key))

    def link(self, key: str, expires_at: float, method: ReadMethod = "GET") -> str | None:
        """None: a folder has no URLs."""
        return None

    def upload_link(self, key: str, expires_at: float) -> str | None:
        """None: a folder has no URLs."""
        return None

    def delete(self, key: str) -> None:
        """Remove a file, and the folder that it had to itself; no error if they are gone already."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        if len(path.relative_to(self.root.resolve()).parts) > 2:
            with contextlib.suppress(OSError):  # it holds something else
                path.parent.rmdir()

    def list(self, folder: str) -> Iterator[str]:
        """The keys below a folder."""
        for below, _, names in os.walk(self.root / folder):
            prefix = Path(below).relative_to(self.root).as_posix()
            for name in sorted(names):
                yield f"{prefix}/{name}"


def open_files(url: str, public_endpoint: str = "") -> Files:
    """The files at `url`: file:///folder, or s3://bucket/prefix. Raises FilesError for what can't be used."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        from mutoscope.files.s3 import S3Files

        return S3Files(url, public_endpoint)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise FilesError(f"MUTOSCOPE_FILES_URL is {url!r}: it must be file:///folder or s3://bucket/prefix.")
    try:
        return LocalFiles(Path(unquote(parts.path)))
    except OSError as error:
        raise FilesError(f"The folder for files, {unquote(parts.path)}, can't be used: {error.strerror}.") from error


def discard(files: Files, keys: Iterable[str]) -> None:
    """Delete files that are nobody's any more, as far as can be; housekeeping removes what is left of them."""
    for key in keys:
        try:
            files.delete(key)
        except FilesAwayError as error:
            log.warning("a file could not be deleted: it is left to housekeeping", file=key, error=str(error))


class Links:
    """Signed links: `/files/{key}?expires=…&signature=…`, good for one method and one key until they expire.

    The signature is HMAC-SHA256 over method, key and expiry; who holds the link may use it, nobody can make one.
    """

    prefix = "/files/"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def _signature(self, method: Method, key: str, expires: int) -> str:
        return hmac.new(self._secret, f"{method}\n{key}\n{expires}".encode(), sha256).hexdigest()

    def sign(self, key: str, expires_at: float, method: Method = "GET") -> str:
        """Path and query of a link to `key` that works until `expires_at` (seconds since the epoch)."""
        expires = int(expires_at)
        query = urlencode({"expires": expires, "signature": self._signature(method, key, expires)})
        return f"{self.prefix}{quote(key)}?{query}"

    def allows(self, method: Method, key: str, expires: str, signature: str) -> bool:
        """Whether such a link was made here and has not expired."""
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12 or int(expires) < time.time():
            return False
        return hmac.compare_digest(self._signature(method, key, int(expires)).encode(), signature.encode())

    def key_of(self, url: str) -> str | None:
        """The key that an absolute link of ours gives read access to, whatever host it names; None for other URLs."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        query = parse_qs(parts.query)
        # The public URL may have a path of its own in front; whatever is read here, the signature must be for it.
        _, is_ours, quoted = parts.path.rpartition(self.prefix)
        if not is_ours or "signature" not in query or "expires" not in query:
            return None
        key = unquote(quoted)
        return key if self.allows("GET", key, query["expires"][0], query["signature"][0]) else None


def _move(source: Path, target: Path, replace: bool) -> None:
    if replace:
        source.replace(target)
    else:
        os.link(source, target)  # the one way to take a name that fails if another was first
        source.unlink()


def _make_folder(folder: Path) -> None:
    # A new folder lasts only once the one that names it was flushed.
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _fsync(folder.parent)


def _fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
