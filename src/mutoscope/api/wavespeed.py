"""WaveSpeed's v3 dialect: its envelope, its words, its numbers. No other module knows them; this one knows no route.

Success is HTTP 200 with `{"code": 200, "message": "success", "data": …}` and no top-level `error`; a refusal is a real
HTTP status with `{"code", "message", "error_code"}`. A prediction is always complete and never null, because old
clients validate each field.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from mutoscope.api.callers import ApiError
from mutoscope.models import MODELS, shown
from mutoscope.pricing import usd
from mutoscope.tasks import Status, Task
from mutoscope.usage import Charge, ChargeKind, Used

WORDS = {
    Status.QUEUED: "created",
    Status.RUNNING: "processing",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "cancelled",
}
"""Our states in the dialect's words."""

_NEVER_HERE = ("timeout", "deleted")  # clients know these words; no task of ours is ever so

MODEL_TYPE = "image-to-video"

_CHARGES: dict[str, tuple[ChargeKind, ...]] = {
    "": ("hold", "release"),
    "deduct": ("hold",),
    "refund": ("release",),
    "credit": ("credit",),  # ours: clients know the other two, and are told of this one when they ask for it
}
"""Words for lines of a bill."""

_COMPACT = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one each time

UNLIMITED_BALANCE = 1_000_000.0
"""The balance in dollars that clients are told of an account whose balance refuses nothing: they compare numbers."""

SYNC_TIMED_OUT = 5004


class Refusal(BaseModel):
    """What a refused request is answered with, beside its HTTP status."""

    code: int
    message: str
    error_code: str


REFUSED: dict[int | str, dict[str, Any]] = {"4XX": {"model": Refusal, "description": "Refused; `message` says why."}}
"""For the documentation of routes."""


def success(data: Any) -> Response:
    """HTTP 200 and the envelope."""
    return _json(200, {"code": 200, "message": "success", "data": data})


def refusal(error: ApiError) -> Response:
    """The error's HTTP status and its envelope."""
    body = {"code": error.status, "message": error.message, "error_code": error.error_code}
    return _json(error.status, body, error.headers)


def prediction(
    task: Task,
    *,
    base: str,
    outputs: list[str],
    poster: str,
    preview: str,
    images: list[str],
    queue_position: int,
    eta_seconds: float,
) -> dict[str, Any]:
    """The prediction object of a task; `base` is the server's public URL, the lists hold URLs for the caller."""
    request = task.request
    started, ended = task.started_at, task.finished_at
    run_ms = round((ended - started) * 1000) if started is not None and ended is not None else 0
    found: dict[str, Any] = {
        "id": task.id,
        "model": task.model,
        "outputs": outputs,
        "urls": {"get": f"{base}/api/v3/predictions/{task.id}/result"},
        "has_nsfw_contents": [False] * len(outputs),
        "status": WORDS[task.status],
        "created_at": rfc3339(task.created_at),
        "error": task.error,
        "executionTime": run_ms,
        "timings": {"inference": run_ms, **{name: ms for name, ms in task.timings.items() if name != "inference"}},
        # What follows is ours: clients ignore it, people want it.
        "engine": task.engine,
        "seed": request.seed,
        "progress": round(task.progress, 4),
        "stage": task.stage,
        "queue_position": queue_position,
        "eta_seconds": eta_seconds,
        "poster": poster,
        "preview": preview,
        "favourite": task.is_favourite,
        "input": {
            name: images if name == "images" else getattr(request, name)
            for name in MODELS[task.model].accepts.model_fields
        },
    }
    if task.error_code:
        found["code"] = task.error_code
    return found


def statuses(word: str) -> tuple[Status, ...]:
    """The states that a word of the dialect stands for. Raises ApiError (400) for a word that is none."""
    found = tuple(status for status, said in WORDS.items() if said == word)
    if not found and word not in _NEVER_HERE:
        message = f"status is {shown(word)}: it must be one of {', '.join(WORDS.values())}."
        raise ApiError(400, message, "invalid_parameter")
    return found


def charge_kinds(word: str) -> tuple[ChargeKind, ...]:
    """The lines of a bill that a word of the dialect stands for. Raises ApiError (400) for a word that is none."""
    if word not in _CHARGES:
        message = f"billing_type is {shown(word)}: it must be one of deduct, refund, credit."
        raise ApiError(400, message, "invalid_parameter")
    return _CHARGES[word]


def billing(charge: Charge) -> dict[str, Any]:
    """A line of a bill."""
    kind = next(word for word, kinds in _CHARGES.items() if word and charge.kind in kinds)
    price = usd(charge.amount_micros)
    is_open = charge.kind == "hold" and charge.ended_at is None
    number = blake2b(f"{charge.seq} {charge.created_at}".encode(), digest_size=16).hexdigest()
    status = WORDS[Status(charge.status)] if charge.status else "deleted" if charge.task_id else ""
    return {
        "uuid": number,
        "access_key_id": charge.key_id,
        "access_key_name": charge.key_name,
        "billing_type": kind,
        "price": price,
        "created_at": rfc3339(charge.created_at),
        "updated_at": rfc3339(charge.ended_at or charge.created_at),
        "order": {"uuid": number, "state": "pre" if is_open else "done", "price": price, "status": ""},
        "prediction": {"uuid": charge.task_id, "model_uuid": charge.model, "status": status},
    }


def usage_stats(found: list[Used]) -> dict[str, Any]:
    """Statistics of usage, from what was used by day and model, the oldest first."""
    by_model: dict[str, list[Used]] = {}
    by_day: dict[str, list[Used]] = {}
    for used in found:
        by_model.setdefault(used.model, []).append(used)
        by_day.setdefault(_date(used.day), []).append(used)

    def spent(of: list[Used]) -> float:
        return usd(sum(used.spent_micros for used in of))

    def count(of: list[Used]) -> int:
        return sum(used.num_requests for used in of)

    return {
        "per_model_usage": [
            {
                "model_uuid": model,
                "model_type": MODEL_TYPE,
                "unit_price": round(spent(of) / count(of), 6),
                "total_cost": spent(of),
                "total_count": count(of),
                "last_used_date": _date(of[-1].last_at),
            }
            for model, of in by_model.items()
        ],
        "daily_usage": [
            {
                "date": date,
                "amount": spent(of),
                "count": count(of),
                "models": [
                    {"model_uuid": used.model, "amount": usd(used.spent_micros), "count": used.num_requests}
                    for used in of
                ],
            }
            for date, of in by_day.items()
        ],
        "summary": {
            "total_cost": spent(found),
            "total_requests": count(found),
            "success_requests": sum(used.num_made for used in found),
        },
    }


def _date(seconds: float) -> str:
    return rfc3339(seconds)[:10]


def sync_timed_out(found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The answer to a held request whose time is over, from its prediction; clients look for this very text."""
    return {
        **found,
        "status": "processing",
        "code": SYNC_TIMED_OUT,
        "error": f"Sync mode timed out after {seconds:g} seconds. The prediction is still processing asynchronously. "
        f"Poll {found['urls']['get']} for its result.",
    }


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as clients parse them: UTC, milliseconds, Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(body: Any) -> bytes:
    """JSON as it is sent."""
    return _COMPACT.encode(body).encode()


def _json(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(encode(body), status, headers, media_type="application/json")
