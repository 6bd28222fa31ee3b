"""Where weights come from: Hugging Face, ModelScope or a folder. Each says what it offers, and brings file by file.

Knows no model: which of the files are wanted, what they must hold and where they end up is decided elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from mutoscope.weights.errors import WeightsError
from mutoscope.weights.transfer import download

REPOSITORY = "Skywork/SkyReels-V3-R2V-14B"

_COPY_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Published:
    """A file that a source offers. `path` is relative, with slashes.

    `sha256` is the digest that the source states, hex, or empty; `git_sha1` names git's blob where only that is stated.
    """

    path: str
    num_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def digest(self) -> str:
        """What tells this content from any other as far as the source says: a digest, or the size."""
        return self.sha256 or self.git_sha1 or f"{self.num_bytes}-bytes"


@dataclass(frozen=True, slots=True)
class Release:
    """What a source offers at one revision."""

    revision: str
    files: tuple[Published, ...]


class Source(Protocol):
    """The contract: `kind` is what `--from` takes, `name` what sentences and the manifest say."""

    kind: str
    name: str

    def release(self) -> Release:
        """What is offered now. Raises WeightsError."""
        ...

    def fetch(self, file: Published, revision: str, part: Path) -> Iterator[int]:
        """Bring a file to `part`, going on with what is there; yields how many bytes that is. Raises WeightsError."""
        ...


def open_source(text: str) -> Source:
    """The source that `--from` names: `hf`, `modelscope`, or a folder. Raises WeightsError."""
    if text == HuggingFace.kind:
        return HuggingFace(os.environ.get("HF_ENDPOINT") or None)
    if text == ModelScope.kind:
        return ModelScope(os.environ.get("MODELSCOPE_ENDPOINT") or None)
    if Path(text).is_dir():
        return Folder(Path(text))
    raise WeightsError(f"Weights can come from hf, from modelscope or from a folder; {text!r} is none of them.")


class HuggingFace:
    """The hub's API through its own client, the bytes by ranged requests.

    The client downloads too, but since its version 2 it throws away what a broken download had brought. The access
    token is found where the client looks for it (HF_TOKEN, or `hf auth login`).
    """

    kind = "hf"

    def __init__(
        self,
        endpoint: str | None = None,
        repository: str = REPOSITORY,
        revision: str = "main",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = f"Hugging Face, {repository}"
        self._endpoint = endpoint
        self._repository = repository
        self._revision = revision
        self._pause = pause

    def release(self) -> Release:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            found = HfApi(endpoint=self._endpoint).model_info(
                self._repository, revision=self._revision, files_metadata=True, timeout=60
            )
        except GatedRepoError as error:
            raise WeightsError(
                f"{self._repository} is only given to those who asked for it: do so on its page, then log in with "
                "`hf auth login` or set HF_TOKEN."
            ) from error
        except RevisionNotFoundError as error:
            raise WeightsError(f"{self._repository} has no revision {self._revision}.") from error
        except RepositoryNotFoundError as error:
            raise WeightsError(
                f"{self._repository} is not there, or not for everyone: if you have access, log in with "
                "`hf auth login` or set HF_TOKEN."
            ) from error
        except OfflineModeIsEnabled as error:
            raise WeightsError("HF_HUB_OFFLINE is set, so nothing can be downloaded.") from error
        except HfHubHTTPError as error:
            raise WeightsError(f"Hugging Face answered: {str(error).splitlines()[0]}") from error
        except OSError as error:
            raise WeightsError(f"Hugging Face can't be reached: {error}.") from error
        except Exception as error:  # the client's HTTP library differs between its versions, and so do its errors
            if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
                raise
            raise WeightsError(f"Hugging Face can't be reached: {error}.") from error
        files = []
        for sibling in found.siblings or ():
            stated = sibling.lfs.sha256 if sibling.lfs is not None else ""
            blob = "" if stated else sibling.blob_id or ""
            files.append(Published(sibling.rfilename, sibling.size or 0, stated, blob))
        return Release(found.sha or self._revision, tuple(files))

    def fetch(self, file: Published, revision: str, part: Path) -> Iterator[int]:
        from huggingface_hub import get_token, hf_hub_url

        url = hf_hub_url(self._repository, file.path, revision=revision, endpoint=self._endpoint)
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with _client() as http:
            yield from download(http, url, headers, part, file.path, file.num_bytes, self._pause)


class ModelScope:
    """ModelScope's HTTP API, as its own client (modelscope 1.x, `hub/api.py` and `hub/file_download.py`) calls it."""

    kind = "modelscope"

    def __init__(
        self,
        endpoint: str | None = None,
        repository: str = REPOSITORY,
        revision: str = "master",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = f"ModelScope, {repository}"
        self._root = f"{(endpoint or 'https://www.modelscope.cn').rstrip('/')}/api/v1/models/{repository}"
        self._repository = repository
        self._revision = revision
        self._pause = pause

    def release(self) -> Release:
        query = {"Revision": self._revision, "Recursive": "true"}
        try:
            with _client() as http:
                answer = http.get(f"{self._root}/repo/files", params=query)
        except httpx.HTTPError as error:
            raise WeightsError(f"ModelScope can't be reached: {error}.") from error
        if answer.status_code == 404:
            raise WeightsError(f"ModelScope has no {self._repository} with a revision {self._revision}.")
        try:
            body = answer.json()
            if not body.get("Success", answer.status_code == 200):
                raise WeightsError(f"ModelScope answered: {body.get('Message') or answer.status_code}")
            listed: list[Mapping[str, Any]] = body["Data"]["Files"]
            files = [
                Published(str(entry["Path"]), int(entry["Size"]), str(entry.get("Sha256") or ""))
                for entry in listed
                if entry.get("Type") != "tree"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"ModelScope's answer ({answer.status_code}) is not the list of files it used to be: try --from hf."
            ) from error
        return Release(self._revision, tuple(files))

    def fetch(self, file: Published, revision: str, part: Path) -> Iterator[int]:
        url = f"{self._root}/repo?Revision={quote(revision, safe='')}&FilePath={quote(file.path, safe='')}"
        with _client() as http:
            yield from download(http, url, {}, part, file.path, file.num_bytes, self._pause)


class Folder:
    """A checkpoint that is on this machine already, in the published layout. States no digests."""

    kind = "folder"

    def __init__(self, folder: Path) -> None:
        self.name = str(folder.absolute())
        self.folder = folder

    def release(self) -> Release:
        files = (
            Published(path.relative_to(self.folder).as_posix(), path.stat().st_size)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        )
        return Release("", tuple(files))

    def fetch(self, file: Published, revision: str, part: Path) -> Iterator[int]:
        copied = 0
        with (self.folder / file.path).open("rb") as source, part.open("wb") as target:
            while chunk := source.read(_COPY_BYTES):
                target.write(chunk)
                copied += len(chunk)
                yield copied


def _client() -> httpx.Client:
    # Credentials stay with the host they are for: httpx drops them when a redirect leads to another.
    return httpx.Client(timeout=httpx.Timeout(60, connect=15), follow_redirects=True)
