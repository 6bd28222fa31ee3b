"""From settings to the open parts that API, worker and command line share: store, keys, limits, engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mutoscope.config import Settings, SettingsError
from mutoscope.database import Database
from mutoscope.engines import ENGINES, ON_RAY
from mutoscope.files import Files, FileTooLargeError, Links, read_secret
from mutoscope.keys import Keys
from mutoscope.references import FetchError, Limits
from mutoscope.schema import open_database
from mutoscope.store import Store

if TYPE_CHECKING:
    from mutoscope.engines import Engine
    from mutoscope.engines.skyreels_v3.engine import SkyreelsV3


def open_store(settings: Settings) -> Store:
    """The store that these settings name, its database brought up to date."""
    return Store(
        open_database(settings.database, connections=settings.database_connections),
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


def opener(links: Links, files: Files, max_bytes: int) -> Callable[[str], bytes | None]:
    """What reads a reference that is a file of our own: one kept with its task, or a signed link of ours."""

    def open_own(reference: str) -> bytes | None:
        key = reference.removeprefix("file:") if reference.startswith("file:") else links.key_of(reference)
        if key is None:
            return None
        try:
            data = files.read(key, max_bytes)
        except FileTooLargeError:
            raise FetchError(f"the file is larger than {max_bytes / 2**20:.3g} MB") from None
        if data is None:
            raise FetchError("this upload is gone; uploads are kept for some days, so send it again")
        return data

    return open_own


def keys_of(settings: Settings, database: Database) -> Keys:
    """The accounts and keys of this installation, in its open database."""
    return Keys(database, read_secret(settings.home, "keys"))


def open_engine(name: str, settings: Settings) -> Engine:
    """The engine called `name`. Its libraries are imported here and not before.

    "ray:" before the name opens it on a Ray cluster. Raises SettingsError when its weights can't be used or the cluster
    can't be reached, KeyError for another name.
    """
    if name.startswith(ON_RAY):
        return _open_on_ray(name.removeprefix(ON_RAY), settings)
    if name == "animatic":
        from mutoscope.engines.animatic import Animatic

        return Animatic()
    if name == "skyreels-v3":
        return open_skyreels(settings)
    raise KeyError(name)


def _open_on_ray(name: str, settings: Settings) -> Engine:
    if name not in ENGINES:
        raise KeyError(name)
    if find_spec("ray") is None:
        raise SettingsError("Ray is not installed: pip install 'mutoscope[ray]'.")
    from mutoscope.engines.ray import ClusterError, OnRay

    takes_gpus = name == "skyreels-v3" and not settings.skyreels_device.startswith("cpu")
    try:
        return OnRay(
            partial(open_engine, name, settings),
            address=settings.ray_address,
            num_gpus=settings.skyreels_gpus if takes_gpus else 0,
        )
    except ClusterError as error:
        raise SettingsError(f"MUTOSCOPE_RAY_ADDRESS is {settings.ray_address!r}: {error}") from error


def open_skyreels(settings: Settings) -> SkyreelsV3:
    """SkyReels-V3 with the operator's options. Raises SettingsError when its weights can't be used."""
    if missing := missing_for_skyreels(settings):
        raise SettingsError(f"SkyReels-V3 can't run here: {missing}.")
    from mutoscope.engines.skyreels_v3.checkpoint import CheckpointError
    from mutoscope.engines.skyreels_v3.engine import SkyreelsV3
    from mutoscope.engines.skyreels_v3.spec import Options

    try:
        options = Options(
            checkpoint=settings.skyreels_weights,
            mode=settings.skyreels_mode,
            precision=settings.skyreels_precision,
            device=settings.skyreels_device,
            noise_on_device=settings.skyreels_noise_on_device,
            gpus=settings.skyreels_gpus,
            placement=settings.skyreels_placement or None,
            attention=settings.skyreels_attention or None,
            compiled=settings.skyreels_compile,
            steps=settings.skyreels_steps,
            text_guidance=settings.skyreels_text_guidance,
            image_guidance=settings.skyreels_image_guidance,
            negative_prompt=settings.skyreels_negative_prompt,
            has_previews=settings.skyreels_previews,
            cache_folder=settings.cache,
            cache_bytes=settings.skyreels_cache_bytes,
            cache_memory_bytes=settings.skyreels_cache_memory_bytes,
        )
        return SkyreelsV3(options)
    except (CheckpointError, ValueError) as error:
        raise SettingsError(str(error)) from error


def missing_for_skyreels(settings: Settings) -> str:
    """What keeps SkyReels-V3 from running here, as a sentence that names the fix; empty when nothing does."""
    absent = [name for name in ("torch", "diffusers", "transformers", "tokenizers") if find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: pip install 'mutoscope[skyreels]'"
    if not (settings.skyreels_weights / "model_index.json").is_file():
        return f"no weights in {settings.skyreels_weights}: mutoscope pull"
    return ""


def engines_offered(settings: Settings) -> tuple[str, ...]:
    """The engines that tasks are accepted for: those the operator names, or else those that can run here."""
    if not settings.engines:
        return ENGINES if not missing_for_skyreels(settings) else ("animatic",)
    for name in settings.engines:
        if name not in ENGINES:
            raise SettingsError(f"MUTOSCOPE_ENGINES names {name!r}: it must be of {', '.join(ENGINES)}.")
    return settings.engines
