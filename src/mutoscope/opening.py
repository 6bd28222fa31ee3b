"""From settings to the open parts that API, worker and command line share: the store, and the limits of references."""

from __future__ import annotations

from mutoscope.config import Settings
from mutoscope.files import read_secret
from mutoscope.keys import Keys
from mutoscope.references import Limits
from mutoscope.schema import open_database
from mutoscope.store import Store


def open_store(settings: Settings) -> Store:
    """The store that these settings name, its database brought up to date."""
    return Store(
        open_database(settings.database),
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
        max_losses=settings.max_losses,
    )


def limits_of(settings: Settings) -> Limits:
    """What a reference may be, by these settings."""
    return Limits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        min_side=settings.min_image_side,
        timeout_seconds=settings.fetch_seconds,
        max_redirects=settings.max_redirects,
        allow_networks=settings.allow_networks,
    )


def open_keys(settings: Settings) -> Keys:
    """The keys of this installation."""
    return Keys(open_store(settings).database, read_secret(settings.home, "keys"))
