"""What the command line does with a request: over HTTP to a server, or in this very process.

Both yield the same Progress, so whoever draws a bar need not know which it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import httpx

from mutoscope.config import Settings
from mutoscope.tasks import TaskError, VideoRequest

_AGAIN_SECONDS = 0.5  # between attempts to listen
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
        return dict(self._call("POST", f"/api/v3/{model}", json=dict(inputs)))

    def result(self, task_id: str) -> dict[str, Any]:
        """The prediction as it stands."""
        return dict(self._call("GET", f"/api/v3/predictions/{task_id}/result"))

    def cancel(self, task_id: str) -> dict[str, Any]:
        """End a task; one that has ended already is forgotten, and its video with it."""
        return dict(self._call("DELETE", f"/api/v3/predictions/{task_id}"))

    def price(self, model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a task of these inputs would cost, in dollars."""
        return dict(self._call("POST", "/api/v3/model/price", json={"model_id": model, "inputs": dict(inputs)}))

    def list(self, **wanted: Any) -> dict[str, Any]:
        """A page of the key's predictions, the newest first; `wanted` as in `POST /api/v3/predictions`."""
        return dict(self._call("POST", "/api/v3/predictions", json=wanted))

    def wait(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yield the prediction as it changes until it has ended; the last one is its end. Raises ClientError.

        A server that is gone for a while is waited for.
        """
        heard_at, last = time.monotonic(), ""
        while True:
            try:
                for event_id, found in self._events(task_id, last):
                    last = event_id
                    yield found
                    if found["status"] == "completed":
                        return
                    if found["status"] not in ("created", "processing"):
                        raise ClientError(found["error"] or f"The task was {found['status']}.")
                heard_at = time.monotonic()  # it was there, and is ending
            except UnreachableError as error:
                if time.monotonic() - heard_at > _PATIENCE_SECONDS:
                    raise ClientError(f"{error} The task goes on there; its id is {task_id}.") from error
            time.sleep(_AGAIN_SECONDS)

    def _events(self, task_id: str, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What follows the event called `last`, each with its own name, until the server ends the stream."""
        headers = {"Last-Event-ID": last} if last else {}
        request = self._http.build_request("GET", f"/api/v3/predictions/{task_id}/events", headers=headers)
        kind = ""
        try:
            answer = self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        with closing(answer):
            if answer.status_code != 200:
                self._data(answer)
            try:
                for line in answer.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        kind = value
                    elif field == "id":
                        last = value
                    elif field == "data" and kind in ("state", "end"):
                        yield last, json.loads(value)
            except httpx.HTTPError:  # it is gone, and asked again
                return

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

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return self._data(answer)

    def _data(self, answer: httpx.Response) -> Any:
        try:
            body = json.loads(answer.read())
            refused = answer.status_code != 200
            data = None if refused else body["data"]
            message = str(body["message"]) if refused else ""
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except (ValueError, TypeError, KeyError):
            raise ClientError(f"What answers at {self._http.base_url} is not a Mutoscope server.") from None
        if refused:
            raise UnreachableError(message) if answer.status_code == 503 else ClientError(message)
        return data

    def _unreachable(self, error: httpx.HTTPError) -> UnreachableError:
        return UnreachableError(f"The server at {self._http.base_url} can't be reached: {error}.")


def make_there(client: Client, model: str, inputs: Mapping[str, Any]) -> Iterator[tuple[Progress, dict[str, Any]]]:
    """Have a server make a video, its local files among the images uploaded first; each time with its prediction, if
    there is one yet. The last one is whole. Raises ClientError."""
    images: list[str] = []
    for number, image in enumerate(inputs["images"], start=1):
        yield Progress(f"uploading image {number}", 0.0), {}
        images.append(image if is_address(image) else client.upload(Path(image)))
    task_id = client.submit(model, {**inputs, "images": images})["id"]
    for found in client.wait(task_id):
        place = found["queue_position"]
        waiting = f"waiting, place {place}" if place else "waiting"
        stage = found["stage"] or (waiting if found["status"] == "created" else "rendering")
        yield Progress(stage, found["progress"]), found


def render_there(client: Client, model: str, request: VideoRequest, seed: int, output: Path) -> Iterator[Progress]:
    """Render on a server and save the video at `output`; local files among the images are uploaded first."""
    inputs = {
        "prompt": request.prompt,
        "images": list(request.images),
        "aspect_ratio": request.aspect_ratio,
        "duration": request.duration,
        "seed": seed,
        "resolution": request.resolution,
    }
    found: dict[str, Any] = {}
    for progress, prediction in make_there(client, model, inputs):
        found = prediction
        yield progress
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
