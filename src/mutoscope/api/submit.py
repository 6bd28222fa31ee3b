"""Submit: a request body becomes a task, or a refusal. Durable when it answers.

`accept` is every dialect's way in; the route below speaks WaveSpeed's. It runs on the event loop instead of a thread:
with SQLite its read costs less than the hop to a thread would, and its write waits for a group commit without holding
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import uuid
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends
from pydantic import Field
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mutoscope import ledger, pricing, tracing
from mutoscope.admission import REMEMBERED_SECONDS, SYNC, Admitted, OverCap, Refusal, Reused, Submission, TooFast
from mutoscope.api import answers, wavespeed
from mutoscope.api.bodies import parse_object, read_json
from mutoscope.api.callers import ApiError, base_url, bearer, digest_of_key, require, unknown_key
from mutoscope.api.predictions import LeanRoute, path_parameter, read, show_async, unknown_task
from mutoscope.api.uploads import keep
from mutoscope.files import discard
from mutoscope.models import ANIMATIC, MAX_URL, MODELS, InputError, Model, ReferenceToVideo, parse_input, shown
from mutoscope.references import FetchError, open_data_uri
from mutoscope.references.targets import parse
from mutoscope.tasks import RESOLUTIONS, Caller, Task, VideoRequest

_LISTENED_SECONDS = 1.0  # until it is seen whether who asked to be held is still there
_SAME_SYNC_SECONDS = 60.0  # clients that give up on a held request send it again: that is no new task
_MAX_PRIORITY = 100
_IDEMPOTENCY_KEY = re.compile(r"[!-~ ]{1,255}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a task is to be treated, beside what its video shall be.

    `name` is what makes another submission of the same `body` this one again, for `window_seconds`.
    """

    base64_output: bool = False
    priority: int = 0
    queue_seconds: float | None = None
    webhook_url: str = ""
    name: str = ""
    body: bytes = b""
    window_seconds: float = REMEMBERED_SECONDS


async def accept(request: Request, caller: Caller, model: Model, asked: VideoRequest, wishes: Wishes) -> Admitted:
    """Make a task of what a caller asks for. Raises ApiError when it is refused: then nothing is kept or held."""
    server = request.app.state.server
    settings = server.settings
    if RESOLUTIONS.index(asked.resolution) > RESOLUTIONS.index(settings.max_resolution):
        here = f"here it is {settings.max_resolution} at most"
        raise ApiError(400, f"resolution is {asked.resolution!r}: {here}.", "invalid_parameter")
    estimates = server.estimates
    if estimates.num_queued() >= settings.max_queued:
        raise ApiError(429, "The queue is full: try again in a minute.", "queue_full", {"Retry-After": "60"})
    if estimates.num_queued_of(caller.account_id) >= settings.max_queued_per_account:
        message = f"This account has {settings.max_queued_per_account:,} tasks waiting, as many as it may: try later."
        raise ApiError(429, message, "queue_full", {"Retry-After": "60"})
    digest = ""
    if wishes.name:
        digest = hashlib.sha256(model.id.encode() + b"\n" + wishes.body).hexdigest()
    sent = asked
    if any(image[:5].lower() == "data:" for image in asked.images):
        asked = await run_in_threadpool(_keep_data_uris, server, caller.key_id, asked)
    engine = "animatic" if settings.sandbox else model.engine
    queue_seconds = wishes.queue_seconds or settings.max_queue_seconds or None
    submission = Submission(
        task_id=uuid.uuid4().hex,
        caller=caller,
        model=model.id,
        engine=engine,
        request=asked,
        price_micros=server.prices.quote(model.id, asked.duration).micros,
        cost=estimates.seconds(engine, asked.duration),
        base64_output=wishes.base64_output,
        priority=wishes.priority,
        deadline_at=server.store.database.now() + queue_seconds if queue_seconds else None,
        webhook_url=wishes.webhook_url,
        base_url=base_url(request) if wishes.webhook_url else "",
        name=wishes.name,
        body_digest=digest,
        window_seconds=wishes.window_seconds,
    )
    try:
        with tracing.span("submit", submission.task_id, caller=request.headers.get("traceparent", "")):
            outcome = await server.commits.run(
                lambda connection: server.admission.admit(submission, connection), order=caller.account_id
            )
    except IntegrityError:
        # Where the connection broke as it was committed, it was tried again, and found there.
        task = await read(server, server.store.get, caller.key_id, submission.task_id)
        if task is None:
            raise
        outcome = Admitted(task, is_new=True)
    if not isinstance(outcome, Admitted):
        # The same, where the first try had spent what the second was refused for.
        task = await read(server, server.store.get, caller.key_id, submission.task_id)
        outcome = Admitted(task, is_new=True) if task is not None else outcome
    if not isinstance(outcome, Admitted) or outcome.task.id != submission.task_id:
        kept = [new[5:] for new, old in zip(asked.images, sent.images, strict=True) if new != old]
        await run_in_threadpool(discard, server.files, kept)
    if not isinstance(outcome, Admitted):
        raise refused(outcome)
    if outcome.is_new:
        estimates.add(outcome.task)
        server.ring()
    return outcome


def refused(why: Refusal) -> ApiError:
    """An admission's refusal as an error."""
    match why:
        case ledger.Missing(micros=missing):
            message = f"The balance is too small: {_usd(missing)} are missing. Nothing was started or charged."
            return ApiError(402, message, "insufficient_credits")
        case OverCap(missing_micros=missing):
            message = f"This key's cap for the day leaves too little: {_usd(missing)} are missing until 00:00 UTC."
            return ApiError(402, message, "daily_cap_reached")
        case TooFast(videos_per_minute=limit, retry_seconds=seconds):
            wait = math.ceil(seconds)
            message = f"Too many requests: this key may ask for {limit:,} videos a minute. Try again in {wait} s."
            return ApiError(429, message, "rate_limited", {"Retry-After": str(wait)})
        case Reused(is_gone=True):
            return ApiError(
                409, "The task of this Idempotency-Key was deleted: use another key.", "idempotency_conflict"
            )
        case Reused():
            message = "This Idempotency-Key was used for another request: use another key for this one."
            return ApiError(409, message, "idempotency_conflict")


class Body(ReferenceToVideo):
    """What a model accepts, and how to answer."""

    enable_sync_mode: bool = Field(False, description="Hold the answer back until the video is made.")
    enable_base64_output: bool = Field(False, description="Give the video as a data URI instead of a URL.")
    webhook_url: str = Field("", description="Where the prediction is POSTed when it has ended.")
    priority: int = Field(
        0, ge=-_MAX_PRIORITY, le=_MAX_PRIORITY, description="Of one's own waiting tasks, the higher goes first."
    )
    max_queue_seconds: float | None = Field(None, gt=0, description="Fail, uncharged, if not started by then.")


# Lean routes declare no parameters that could be read off them.
_SUBMIT_DOC = {
    "parameters": [
        path_parameter("model_id", enum=list(MODELS)),
        {"name": "webhook", "in": "query", "schema": {"type": "string"}},
        {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}},
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Body.model_json_schema()}},
    },
}


async def submit(request: Request) -> Response:
    """Accept a task: HTTP 200, the full prediction, status `created`. Durable when it answers."""
    server = request.app.state.server
    caller = await read(server, server.keys.caller, digest_of_key(request))
    if caller is None:
        raise unknown_key()
    require(caller, "generate")
    model = find_model(server, request.path_params["model_id"])
    raw = await read_json(request, server.settings.max_body_bytes)
    body = await parse_object(raw)
    try:
        # `image` is what old clients call the one picture that they send.
        images = body.get("images") if body.get("images") is not None else _listed(body.get("image"))
        asked = parse_input(model, {**body, "images": images})
    except InputError as error:
        raise ApiError(400, str(error), "invalid_parameter") from None
    is_held = _flag(body, "enable_sync_mode")
    admitted = await accept(request, caller, model, asked, _wishes(request, model, body, raw, is_held))
    task = admitted.task
    found = await (_hold(request, task) if is_held else show_async(request, task))
    answer = wavespeed.success(found)
    if not admitted.is_new:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


submits = APIRouter(tags=["predictions"], route_class=LeanRoute, dependencies=[Depends(bearer)])
submits.add_api_route(
    "/api/v3/{model_id:path}",
    submit,
    methods=["POST"],
    response_model=answers.Success[answers.Prediction],
    openapi_extra=_SUBMIT_DOC,
)


def find_model(server: Any, model_id: str) -> Model:
    """The model of this id. Raises ApiError for one that is unknown, or can't be rendered here."""
    model = MODELS.get(model_id)
    if model is None:
        raise ApiError(404, f"Unknown model {model_id[:200]!r}. Models here: {', '.join(MODELS)}.", "unknown_model")
    if model.engine not in server.engines and not server.settings.sandbox:
        raise ApiError(
            503,
            f"{model.id} can't be rendered here: this server runs no SkyReels-V3. Use {ANIMATIC} for a free animatic "
            "of the same shot. The operator can add the model (`mutoscope doctor` says what is missing, `mutoscope "
            "pull` fetches the weights), or start the server with --sandbox to have animatics in its place.",
            "engine_unavailable",
        )
    return model


def webhook_address(value: Any, name: str) -> str:
    """A webhook's URL as it was given. Raises ApiError for what can't be one."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or len(value) > MAX_URL:
        allowed = f"it must be an http(s) URL of at most {MAX_URL:,} characters"
        raise ApiError(400, f"{name} is {shown(value)}: {allowed}.", "invalid_parameter")
    try:
        parse(value.strip())  # as strictly as when it is sent
    except FetchError as error:
        message = f"{name} is {shown(value)}, where nothing can be sent: {error}."
        raise ApiError(400, message, "invalid_parameter") from None
    return value.strip()


def idempotency_key(request: Request) -> str:
    """The request's Idempotency-Key; empty without one. Raises ApiError (400)."""
    given = request.headers.get("idempotency-key")
    if given is not None and _IDEMPOTENCY_KEY.fullmatch(given) is None:
        message = f"Idempotency-Key is {shown(given)}: it must be 1 to 255 characters of ASCII."
        raise ApiError(400, message, "invalid_parameter")
    return given or ""


def idempotency_name(request: Request) -> str:
    """What the request's Idempotency-Key makes of a submission's name; empty without one. Raises ApiError (400)."""
    given = idempotency_key(request)
    return "key:" + hashlib.sha256(given.encode()).hexdigest() if given else ""


def _wishes(request: Request, model: Model, body: dict[str, Any], raw: bytes, is_held: bool) -> Wishes:
    name, window = idempotency_name(request), float(REMEMBERED_SECONDS)
    if is_held and not name:
        name, window = SYNC + hashlib.sha256(model.id.encode() + b"\n" + raw).hexdigest(), _SAME_SYNC_SECONDS
    priority = body.get("priority")
    priority = 0 if priority is None else priority
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > _MAX_PRIORITY:
        allowed = f"priority must be a whole number from -{_MAX_PRIORITY} to {_MAX_PRIORITY}"
        raise ApiError(400, f"priority is {shown(priority)}: {allowed}.", "invalid_parameter")
    seconds = body.get("max_queue_seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0):
        message = f"max_queue_seconds is {shown(seconds)}: it must be a number above 0."
        raise ApiError(400, message, "invalid_parameter")
    webhook = webhook_address(_webhook_in(request.scope["query_string"].decode(errors="replace")), "webhook")
    return Wishes(
        base64_output=_flag(body, "enable_base64_output"),
        priority=priority,
        queue_seconds=float(min(seconds, 1e9)) if seconds is not None else None,
        webhook_url=webhook or webhook_address(body.get("webhook_url"), "webhook_url"),
        name=name,
        body=raw,
        window_seconds=window,
    )


def _webhook_in(query: str) -> str:
    """The query's `webhook`; old clients append it as it is, so that its own query looks like the rest of ours."""
    _, found, rest = ("&" + query).partition("&webhook=")
    if not found:
        return ""
    return rest if rest.startswith(("http://", "https://")) else unquote(rest.partition("&")[0].replace("+", " "))


async def _hold(request: Request, task: Task) -> dict[str, Any]:
    """Wait for the task to end; answer what has become of it, or that it goes on."""
    server = request.app.state.server
    with server.watcher.watch(task) as watched, contextlib.suppress(TimeoutError):
        async with asyncio.timeout(server.settings.sync_seconds):
            while not await request.is_disconnected() and not watched.has_ended:
                await watched.news_within(_LISTENED_SECONDS)
        if watched.is_gone:  # deleted while we waited
            raise unknown_task()
    task = watched.task
    shown = await show_async(request, task)
    return shown if task.status.is_terminal else wavespeed.sync_timed_out(shown, server.settings.sync_seconds)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) and value else value


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"{name} is {shown(value)}: it must be true or false.", "invalid_parameter")
    return bool(value)


def _usd(micros: int) -> str:
    return f"{pricing.usd(micros):.6f}".rstrip("0").rstrip(".") + " USD"


def _keep_data_uris(server: Any, key_id: str, asked: VideoRequest) -> VideoRequest:
    """The request with its data URIs stored as files of the caller, so that the row stays small."""
    images: list[str] = []
    for index, image in enumerate(asked.images):
        if image[:5].lower() != "data:":
            images.append(image)
            continue
        try:
            data = open_data_uri(image, server.limits)
        except FetchError as error:
            raise ApiError(400, f"images[{index}] can't be read: {error}.", "invalid_parameter") from None
        images.append("file:" + keep(server, key_id, data, f"image-{index + 1}"))
    return replace(asked, images=tuple(images))
