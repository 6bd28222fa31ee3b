"""Every knob once: name, default, and one sentence. Environment variables are `MUTOSCOPE_` and the name in capitals.

Frozen: a process reads its settings when it starts. Nothing here opens a file or a connection.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AnyHttpUrl, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SettingsError(Exception):
    """A setting can't be used; the message names it, its value and what is allowed."""


class Settings(BaseSettings):
    """What an operator can set. A variable that is empty counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="MUTOSCOPE_", env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    home: Path = Field(
        default_factory=lambda: Path.home() / ".mutoscope",
        description="The one folder that holds the SQLite file, the files and the secrets.",
    )
    database_url: str = Field(
        "", description="SQLAlchemy URL of the database; empty: a SQLite file in the home folder."
    )
    database_connections: int = Field(
        16, ge=2, description="The most connections that one process has to a PostgreSQL server."
    )
    files_url: str = Field(
        "", description="Where files are kept: file:///folder or s3://bucket/prefix; empty: `files` in the home folder."
    )
    files_public_endpoint: str = Field(
        "", description="Endpoint by which callers reach the bucket, where it is not the one used here."
    )
    public_url: str = Field("", description="Base of the URLs in answers; empty: the base of each request's own URL.")
    sandbox: bool = Field(False, description="Render every model with the animatic, for development without weights.")

    engines: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Engines that tasks are accepted for, separated by commas; empty: those that can run here."
    )

    ray_address: str = Field(
        "auto",
        description="Ray cluster of the workers that render on one: ray://host:10001; auto: the one they run in.",
    )
    metrics_token: str = Field(
        "", description="Bearer token that /metrics asks for; empty: it answers requests from this machine alone."
    )
    log_format: Literal["text", "json"] = Field("text", description="Logs for people, or a JSON object a line.")

    lease_seconds: float = Field(15, gt=0.2, description="A worker that is silent for this long has lost its task.")
    max_attempts: int = Field(3, ge=1, description="A task that ended its worker in error this often has failed.")
    max_losses: int = Field(50, ge=1, description="A task whose worker vanished (killed, power cut) this often failed.")
    stall_seconds: float = Field(900, gt=0, description="An engine that yields nothing for this long is given up.")
    retention_days: float = Field(
        7, gt=0, le=36_500, description="Outputs, uploads and their rows end after this many days."
    )
    sync_seconds: float = Field(90, gt=0, description="How long a request with enable_sync_mode is held open.")
    max_queued: int = Field(100_000, ge=1, description="More queued tasks than this are refused with 429.")
    max_queued_per_account: int = Field(10_000, ge=1, description="The same, for the tasks of one account.")
    max_queue_seconds: float = Field(
        0, ge=0, description="A task that is not started for this long fails, uncharged; 0: it waits."
    )

    prices: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {},
        description="Micro-dollars per second of video by model id, as JSON, where they differ from the list.",
    )
    discount_rate: float = Field(1.0, ge=0, le=1, description="The part of the list's price that is charged.")

    max_body_bytes: int = Field(220 * 2**20, ge=2**10, description="Largest JSON body: four images as data URIs.")
    max_image_bytes: int = Field(30 * 2**20, ge=2**10, description="Largest reference or upload, in bytes.")
    max_image_pixels: int = Field(40_000_000, ge=64 * 64, description="Largest reference, in pixels.")
    min_image_side: int = Field(64, ge=1, description="Least width and height of a reference, in pixels.")
    fetch_seconds: float = Field(10, gt=0, description="Longest time to fetch one reference.")
    max_redirects: int = Field(3, ge=0, description="Redirects followed for one reference.")
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="Private networks that references may be fetched from, as CIDRs separated by commas."
    )

    skyreels_weights: Path = Field(
        Path(), description="Folder of SkyReels-V3's weights; empty: `weights/skyreels-v3` in the home folder."
    )
    skyreels_mode: Literal["fast", "strict"] = Field(
        "fast", description="How SkyReels-V3 rounds: `strict` as the reference does, `fast` sooner."
    )
    skyreels_precision: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="Precision that SkyReels-V3 computes in."
    )
    skyreels_device: str = Field("", description="Device of SkyReels-V3 (cuda:1, cpu, …); empty: the accelerator.")
    skyreels_noise_on_device: bool = Field(
        False, description="Draw noise on the device: the reference's video for a seed, but another on another device."
    )
    skyreels_gpus: int = Field(1, ge=1, le=8, description="GPUs of this machine that render one video together.")
    skyreels_placement: Literal["", "resident", "text offloaded", "blocks offloaded", "int8 weights", "fp8 weights"] = (
        Field("", description="Where the weights lie; empty: the first of these that fits.")
    )
    skyreels_attention: str = Field("", description="diffusers' attention back end; empty: the fastest exact one.")
    skyreels_compile: bool = Field(
        False, description="Have torch compile the network's blocks: faster, after a minute for each new size."
    )
    skyreels_steps: int = Field(8, ge=1, le=50, description="Denoising steps; the model was made for 8.")
    skyreels_text_guidance: float = Field(1.0, ge=1, description="Guidance by the prompt; 1 is none, as published.")
    skyreels_image_guidance: float = Field(1.0, ge=1, description="Guidance by the references; 1 is none.")
    skyreels_negative_prompt: str = Field("", description="What guidance leads away from.")
    skyreels_previews: bool = Field(True, description="Show what a video is going to look like after each step.")
    skyreels_cache_bytes: int = Field(
        2**31, ge=0, description="Disk for prompts and references that SkyReels-V3 has seen; 0: none."
    )
    skyreels_cache_memory_bytes: int = Field(2**28, ge=0, description="Memory of each worker for the same; 0: none.")
    max_resolution: Literal["480p", "540p", "720p"] = Field("720p", description="The largest resolution to accept.")

    @field_validator("home", mode="after")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("public_url", mode="after")
    @classmethod
    def _strip_slash(cls, value: str) -> str:
        if value:
            AnyHttpUrl(value)
        return value.rstrip("/")

    @model_validator(mode="before")
    @classmethod
    def _place_weights(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not values.get("skyreels_weights"):
            home = Path(values.get("home") or Path.home() / ".mutoscope").expanduser().absolute()
            return {**values, "skyreels_weights": home / "weights" / "skyreels-v3"}
        return values

    @field_validator("engines", mode="before")
    @classmethod
    def _split_engines(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
        return value

    @property
    def database(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{quote(str(self.home / 'mutoscope.db'))}"

    @property
    def files(self) -> str:
        """The files' URL, the default filled in."""
        return self.files_url or (self.home / "files").as_uri()

    @property
    def cache(self) -> Path:
        """Folder for what can be computed again."""
        return self.home / "cache"

    @property
    def scratch(self) -> Path:
        """Folder for what is being written; nothing in it outlives its task."""
        return self.home / "scratch"


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process: `overrides` (None: not given), then the environment, then the defaults.

    Raises SettingsError with one sentence a person can act on.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "MUTOSCOPE_" + str(first["loc"][0]).upper()
        why = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name} is {str(first['input'])[:200]!r}, which can't be used: {why}.") from None
