"""A key's webhooks: its secret, what became of each delivery, and having one sent again; and what a webhook says."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from mutoscope.api import answers, wavespeed
from mutoscope.api.callers import ApiError, maker, reader
from mutoscope.api.predictions import shown_at
from mutoscope.deliveries import Listed
from mutoscope.tasks import Caller, Task

router = APIRouter(tags=["webhooks"], prefix="/api/v3")


def body_of(server: Any, task: Task) -> bytes:
    """What a task's webhook says: its prediction, bare; the video as a link, however the result shows it."""
    return wavespeed.encode(shown_at(server, task, task.base_url, embeds=False))


@router.get("/webhook/secret", response_model=answers.Success[answers.WebhookSecret])
def secret(request: Request, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """What the webhooks of this key's tasks are signed with."""
    return wavespeed.success({"secret": request.app.state.server.keys.webhook_secret(asking.key_id)})


@router.post("/webhook/secret/rotate", response_model=answers.Success[answers.WebhookSecret])
def rotate(request: Request, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Another secret for this key, from now on."""
    return wavespeed.success({"secret": request.app.state.server.keys.rotate_webhook_secret(asking.key_id)})


@router.get("/webhooks/deliveries", response_model=answers.Success[answers.Page[answers.WebhookDelivery]])
def listed(
    request: Request,
    asking: Annotated[Caller, Depends(reader)],
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """The webhooks of this key's tasks, the newest first, each with the attempts at it."""
    total, found = request.app.state.server.deliveries.page(page, page_size, asking.key_id)
    return wavespeed.success(
        {
            "page": page,
            "page_size": page_size,
            "total": total,
            "has_more": page * page_size < total,
            "items": [_shown(one) for one in found],
        }
    )


@router.post("/webhooks/deliveries/{delivery_id}/replay", response_model=answers.Success[answers.Replayed])
def replay(request: Request, delivery_id: str, asking: Annotated[Caller, Depends(maker)]) -> Response:
    """Send a webhook again, whatever came of it before."""
    if not request.app.state.server.deliveries.replay(delivery_id, asking.key_id):
        raise ApiError(404, "Delivery not found.", "delivery_not_found")
    return wavespeed.success({"id": delivery_id, "status": "due"})


def _shown(listed: Listed) -> dict[str, Any]:
    row = listed.row
    return {
        "id": row["id"],
        "prediction_id": row["task_id"],
        "url": row["url"],
        "status": row["status"],
        "attempts": row["attempts"],
        "due_at": wavespeed.rfc3339(row["due_at"]) if row["status"] == "due" else "",
        "created_at": wavespeed.rfc3339(row["created_at"]),
        "ended_at": wavespeed.rfc3339(row["ended_at"]) if row["ended_at"] else "",
        "log": [
            {
                "at": wavespeed.rfc3339(made["made_at"]),
                "status_code": made["status_code"],
                "error": made["error"],
                "milliseconds": made["milliseconds"],
            }
            for made in listed.log
        ],
    }
