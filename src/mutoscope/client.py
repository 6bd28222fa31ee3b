"""What the command line does with a request: over HTTP to a server, or in this very process.

Both yield the same Progress, so whoever draws a bar need not know which it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import httpx

from mutoscope.config import Settings
from mutoscope.tasks import TaskError, VideoRequest

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 120  # with a server that can't be reached: it may be starting again, and the task is safe


class ClientError(Exception):
    """A request was refused or failed; the message is for the person who made it."""


class UnreachableError(ClientError):
    """The server can't be reached, now."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a request stands: a stage in words, and 0 to 1."""

    stage: str
    progress: float


class Client:
    """A server spoken to over HTTP with a key; use as a context manager, or `close` it."""

    def __init__(self, server: str, key: str) -> None:
        try:
            self._http = httpx.Client(
                base_url=server.rstrip("/"), headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ClientError(f"The server's address or the key can't be used: {error}.") from None

    def close(self) -> None:
        """End the connections to the server."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def upload(self, path: Path) -> str:
        """Send a file; returns the URL to use in `images`."""
        with path.open("rb") as data:
            answer = self._call("POST", "/api/v3/media/upload/binary", files={"file": (path.name, data)})
        url: str = answer["download_url"]
        return url

    def submit(self, model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Create a task; returns its prediction."""
        return self._call("POST", f"/api/v3/{model}", json=dict(inputs))

    def result(self, task_id: str) -> dict[str, Any]:
        """The prediction as it stands."""
        return self._call("GET", f"/api/v3/predictions/{task_id}/result")

    def cancel(self, task_id: str) -> dict[str, Any]:
        """End a task."""
        return self._call("DELETE", f"/api/v3/predictions/{task_id}")

    def wait(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yield the prediction again and again until it has ended; the last one is its end. Raises ClientError.

        A server that is gone for a while is waited for.
        """
        answered_at = time.monotonic()
        while True:
            try:
                found = self.result(task_id)
            except UnreachableError as error:
                if time.monotonic() - answered_at > _PATIENCE_SECONDS:
                    raise ClientError(f"{error} The task goes on there; its id is {task_id}.") from error
                time.sleep(_POLL_SECONDS)
                continue
            answered_at = time.monotonic()
            yield found
            if found["status"] == "completed":
                return
            if found["status"] not in ("created", "processing"):
                raise ClientError(found["error"] or f"The task was {found['status']}.")
            time.sleep(_POLL_SECONDS)

    def download(self, url: str, path: Path) -> None:
        """Save a file, whole or not at all."""
        part = path.with_name(f".{path.name}.part")
        try:
            with httpx.stream("GET", url, timeout=60, trust_env=False) as answer, part.open("wb") as file:
                if answer.status_code != 200:
                    raise ClientError(f"The video can't be downloaded: the server answered {answer.status_code}.")
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            part.replace(path)
        except httpx.HTTPError as error:
            raise ClientError(f"The video can't be downloaded: {error}.") from error
        finally:
            part.unlink(missing_ok=True)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **arguments)
            body = answer.json()
            refused = answer.status_code != 200
            data: dict[str, Any] = {} if refused else body["data"]
            message = str(body["message"]) if refused else ""
        except httpx.HTTPError as error:
            raise UnreachableError(f"The server at {self._http.base_url} can't be reached: {error}.") from error
        except (ValueError, TypeError, KeyError):
            raise ClientError(f"What answers at {self._http.base_url} is not a Mutoscope server.") from None
        if refused:
            raise ClientError(message)
        return data


def render_there(client: Client, model: str, request: VideoRequest, seed: int, output: Path) -> Iterator[Progress]:
    """Render on a server and save the video at `output`; local files among the images are uploaded first."""
    images: list[str] = []
    for number, image in enumerate(request.images, start=1):
        yield Progress(f"uploading image {number}", 0.0)
        images.append(image if is_address(image) else client.upload(Path(image)))
    inputs = {
        "prompt": request.prompt,
        "images": images,
        "aspect_ratio": request.aspect_ratio,
        "duration": request.duration,
        "seed": seed,
        "resolution": request.resolution,
    }
    task_id = client.submit(model, inputs)["id"]
    found: dict[str, Any] = {}
    for found in client.wait(task_id):
        place = found["queue_position"]
        waiting = f"waiting, place {place}" if place else "waiting"
        yield Progress(found["stage"] or (waiting if found["status"] == "created" else "rendering"), found["progress"])
    client.download(found["outputs"][0], output)


def render_here(settings: Settings, engine_name: str, request: VideoRequest, output: Path) -> Iterator[Progress]:
    """Render in this process and save the video at `output`. Raises ClientError."""
    from mutoscope.film import Film
    from mutoscope.opening import limits_of, open_engine

    yield Progress("loading", 0.0)
    engine = open_engine(engine_name, settings)
    try:
        # Beside the output, so that the finished video is moved into place in one step.
        with TemporaryDirectory(prefix=".mutoscope-", dir=output.parent) as folder:
            video, poster = Path(folder, "video.mp4"), Path(folder, "poster.jpg")
            for shot in Film(engine, request, video, poster).shoot(limits_of(settings), open_local):
                yield Progress(shot.stage, shot.progress)
            video.replace(output)
    except TaskError as error:
        raise ClientError(str(error)) from error


def is_address(reference: str) -> bool:
    """Whether a reference is a URL or a data URI rather than a file of this machine."""
    return reference.lower().startswith(("http://", "https://", "data:"))


def open_local(reference: str) -> bytes | None:
    """The bytes of a reference that is a file of this machine; None for an address."""
    return None if is_address(reference) else Path(reference).read_bytes()


def check_files(references: Sequence[str]) -> None:
    """Raises ClientError for the first reference that is neither an address nor a readable file."""
    for reference in references:
        if not is_address(reference) and not Path(reference).is_file():
            raise ClientError(f"{reference} is not a file, and not a URL.")
