"""The shapes of what is answered in WaveSpeed's dialect, for the documentation of routes.

Nothing is checked against them on its way out, which would cost more than most routes do; the tests hold real answers
against them instead.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from mutoscope.tasks import Resolution, Scope, Shape

Data = TypeVar("Data")
Item = TypeVar("Item")


class Success(BaseModel, Generic[Data]):
    """What every request that is not refused is answered with, at HTTP 200."""

    code: Literal[200]
    message: Literal["success"]
    data: Data


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    page: int
    page_size: int
    total: int
    has_more: bool
    items: list[Item]


# Predictions


class Input(BaseModel):
    """What a video is made of, every default filled in."""

    prompt: str
    images: list[str]
    aspect_ratio: Shape
    duration: int
    seed: int
    resolution: Resolution


class Urls(BaseModel):
    """Where to ask again."""

    get: str


class ListedPrediction(BaseModel):
    """A task as lists show it."""

    id: str
    model: str
    outputs: list[str] = Field(description="The address of the video, or the video as a data URI; empty until then.")
    urls: Urls
    has_nsfw_contents: list[bool]
    status: Literal["created", "processing", "completed", "failed", "cancelled"]
    created_at: str
    error: str = Field(description="Why it failed; empty otherwise.")
    code: int = Field(0, description="Of the error; only where there is one.")
    executionTime: int = Field(description="Milliseconds from the start to the end.")
    timings: dict[str, int] = Field(description="Milliseconds of each stage, and `inference`, all of them.")
    engine: str
    seed: int
    progress: float = Field(description="From 0 to 1.")
    stage: str
    queue_position: int = Field(description="1 is next; 0 once it was started.")
    eta_seconds: float
    poster: str
    preview: str = Field(description="The address of frames as they are foreseen, while there are any.")
    favourite: bool
    inputs: Input | None = Field(None, description="Only where `include_inputs` asked for it.")


class Prediction(ListedPrediction):
    """A task."""

    input: Input


class Deleted(BaseModel):
    """A task is no more."""

    id: str
    status: Literal["deleted"]


class DeletedCount(BaseModel):
    """How many tasks are no more."""

    deleted_count: int


# Uploads


class Uploaded(BaseModel):
    """A file that is kept."""

    type: Literal["image", "video", "audio", "file"]
    download_url: str = Field(description="What to put in `images`.")
    filename: str
    size: int


class UploadedBriefly(BaseModel):
    """The same for older clients."""

    url: str


class Put(BaseModel):
    """How to send a file's bytes."""

    method: Literal["PUT"]
    url: str
    headers: dict[str, str] = Field(description="To be sent as they are, and no Authorization.")


class TicketFor(Uploaded):
    """A file that is awaited."""

    upload: Put


# Models and prices


class ApiSchema(BaseModel):
    """How a model is run."""

    type: Literal["model_run"]
    method: Literal["POST"]
    server: str
    api_path: str
    request_schema: dict[str, Any] = Field(description="JSON Schema of the input.")


class ApiSchemas(BaseModel):
    """The ways to run a model: one."""

    api_schemas: list[ApiSchema]


class OfferedModel(BaseModel):
    """A model on offer."""

    model_id: str
    name: str
    title: str
    engine: str
    description: str
    tips: list[str]
    type: str
    base_price: float = Field(description="Dollars for 5 seconds.")
    sort_order: int
    formula: str = Field(description="JSONata: what an input costs.")
    api_schema: ApiSchemas


class Price(BaseModel):
    """What a request would cost, in dollars."""

    model_id: str
    price: float
    discounted_price: float = Field(description="What will be charged.")
    discount_rate: float
    currency: Literal["USD"]
    assumed: list[str] = Field(description="Inputs that were not given and took their default.")


class UnitPrice(BaseModel):
    """What will be charged for a request, in dollars."""

    model_id: str
    unit_price: float
    currency: Literal["USD"]


# Accounts, keys, money


class Balance(BaseModel):
    """What is left to spend, in dollars."""

    balance: float
    currency: Literal["USD"]


class Key(BaseModel):
    """A key, without what it opens."""

    id: str
    name: str
    hint: str = Field(description="How it begins.")
    scopes: list[Scope]
    tier: str
    videos_per_minute: int
    concurrency: int
    daily_cap: float | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    current: bool = Field(description="Whether it is the one that asks.")


class AskingKey(Key):
    """The key that asks."""

    spent_today: float


class MadeKey(Key):
    """A new key, shown this one time."""

    key: str


class Session(BaseModel):
    """A new key, shown this one time."""

    key: str


class RevokedKey(BaseModel):
    """A key opens nothing any more."""

    id: str
    status: Literal["revoked"]


class _Owner(BaseModel):
    id: str
    name: str
    unlimited: bool
    balance: float
    held: float = Field(description="Set aside for tasks that wait or run.")
    currency: Literal["USD"]


class OwnAccount(_Owner):
    """The caller's account, in dollars."""

    key: AskingKey


class Account(_Owner):
    """An account as the operator sees it, in dollars."""

    overdraft: float
    created_at: str


class ModelUsage(BaseModel):
    """What a model was used for."""

    model_uuid: str
    model_type: str
    unit_price: float
    total_cost: float
    total_count: int
    last_used_date: str


class ModelOfDay(BaseModel):
    """The same, of one day."""

    model_uuid: str
    amount: float
    count: int


class DayUsage(BaseModel):
    """What was used on a day (UTC)."""

    date: str
    amount: float
    count: int
    models: list[ModelOfDay]


class UsageSummary(BaseModel):
    """What was used in all."""

    total_cost: float
    total_requests: int
    success_requests: int


class Usage(BaseModel):
    """What was used and what it cost, in dollars."""

    per_model_usage: list[ModelUsage]
    daily_usage: list[DayUsage]
    summary: UsageSummary


class Order(BaseModel):
    """What was paid."""

    uuid: str
    state: Literal["pre", "done"]
    price: float
    status: str


class BilledPrediction(BaseModel):
    """What was paid for; empty for credit."""

    uuid: str
    model_uuid: str
    status: str


class Billing(BaseModel):
    """A line of the bill, in dollars."""

    uuid: str
    access_key_id: str
    access_key_name: str
    billing_type: Literal["deduct", "refund", "credit"]
    price: float
    created_at: str
    updated_at: str
    order: Order
    prediction: BilledPrediction


# Webhooks


class WebhookSecret(BaseModel):
    """What webhooks are signed with."""

    secret: str


class Attempt(BaseModel):
    """An attempt at a delivery."""

    at: str
    status_code: int | None
    error: str
    milliseconds: int


class WebhookDelivery(BaseModel):
    """What became of a webhook."""

    id: str
    prediction_id: str
    url: str
    status: Literal["due", "delivered", "refused", "given_up"]
    attempts: int
    due_at: str
    created_at: str
    ended_at: str
    log: list[Attempt]


class Replayed(BaseModel):
    """A webhook will be sent again."""

    id: str
    status: Literal["due"]


# The server


class Health(BaseModel):
    """It is alive."""

    version: str
    sandbox: bool


class Readiness(BaseModel):
    """It can do its work."""

    database: Literal["ok"]
    files: Literal["ok"]
    disk_free_bytes: int
