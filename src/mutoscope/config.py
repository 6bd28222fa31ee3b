"""Every knob once: name, default, and one sentence. Environment variables are `MUTOSCOPE_` and the name in capitals.

Frozen: a process reads its settings when it starts. Nothing here opens a file or a connection.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AnyHttpUrl, Field, ValidationError, field_validator
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
    files_url: str = Field("", description="Where files are kept, as a file:// URL; empty: `files` in the home folder.")
    public_url: str = Field("", description="Base of the URLs in answers; empty: the base of each request's own URL.")
    sandbox: bool = Field(False, description="Render every model with the animatic, for development without weights.")

    lease_seconds: float = Field(15, gt=0.2, description="A worker that is silent for this long has lost its task.")
    max_attempts: int = Field(3, ge=1, description="A task that ended its worker in error this often has failed.")
    max_losses: int = Field(50, ge=1, description="A task whose worker vanished (killed, power cut) this often failed.")
    stall_seconds: float = Field(900, gt=0, description="An engine that yields nothing for this long is given up.")
    retention_days: float = Field(
        7, gt=0, le=36_500, description="Outputs, uploads and their rows end after this many days."
    )
    sync_seconds: float = Field(90, gt=0, description="How long a request with enable_sync_mode is held open.")
    max_queued: int = Field(100_000, ge=1, description="More queued tasks than this are refused with 429.")

    max_body_bytes: int = Field(220 * 2**20, ge=2**10, description="Largest JSON body: four images as data URIs.")
    max_image_bytes: int = Field(30 * 2**20, ge=2**10, description="Largest reference or upload, in bytes.")
    max_image_pixels: int = Field(40_000_000, ge=64 * 64, description="Largest reference, in pixels.")
    min_image_side: int = Field(64, ge=1, description="Least width and height of a reference, in pixels.")
    fetch_seconds: float = Field(10, gt=0, description="Longest time to fetch one reference.")
    max_redirects: int = Field(3, ge=0, description="Redirects followed for one reference.")
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (), description="Private networks that references may be fetched from, as CIDRs separated by commas."
    )

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
