"""The HTTP side: one FastAPI application that adds rows, reads rows and serves files. It renders nothing.

One file per noun or dialect. A worker is never called from here: the row is all they share, and the bell only saves the
worker a moment of sleep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from mutoscope import __version__
from mutoscope.admission import Admission
from mutoscope.api import (
    account,
    billing,
    events,
    files,
    inspection,
    lists,
    operations,
    operators,
    page,
    predictions,
    prices,
    session,
    submit,
    system,
    uploads,
    videos,
    wavespeed,
    webhooks,
)
from mutoscope.api.busy import BusyRoutes
from mutoscope.api.refusals import tell_refusals
from mutoscope.api.watching import Watcher
from mutoscope.commits import GroupCommit
from mutoscope.config import Settings
from mutoscope.deliveries import Deliveries
from mutoscope.estimates import Estimates
from mutoscope.files import Files, Links, open_files, read_secret
from mutoscope.inspection import Inspector
from mutoscope.keys import Keys
from mutoscope.metrics import Metrics
from mutoscope.opening import engines_offered, keys_of, limits_of, open_store, opener
from mutoscope.pricing import Prices
from mutoscope.references import Limits
from mutoscope.store import Store
from mutoscope.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Server:
    """What the routes work with: `request.app.state.server`."""

    settings: Settings
    store: Store
    uploads: Uploads
    files: Files
    links: Links
    keys: Keys
    admission: Admission
    deliveries: Deliveries
    metrics: Metrics
    prices: Prices
    commits: GroupCommit
    estimates: Estimates
    limits: Limits
    inspector: Inspector
    watcher: Watcher
    engines: tuple[str, ...]  # that tasks are accepted for
    ring: Callable[[], None]  # there may be work for a worker
    door: session.OneTimeToken


def create_app(
    settings: Settings, *, ring: Callable[[], None] = lambda: None, is_ending: Callable[[], bool] = lambda: False
) -> FastAPI:
    """The application. `ring` is called after tasks were accepted; `is_ending` tells whether to hold no answer open."""
    store = open_store(settings)
    files_kept = open_files(settings.files, settings.files_public_endpoint)
    links = Links(read_secret(settings.home, "links"))
    estimates = Estimates(store)
    server = Server(
        settings=settings,
        store=store,
        uploads=Uploads(store.database),
        files=files_kept,
        links=links,
        keys=keys_of(settings, store.database),
        admission=Admission(store),
        deliveries=Deliveries(store.database),
        metrics=Metrics(store.database, files_kept.disk or settings.home),
        prices=Prices(settings.prices, settings.discount_rate),
        commits=GroupCommit(store.database),
        estimates=estimates,
        limits=limits_of(settings),
        inspector=Inspector(limits_of(settings), opener(links, files_kept, settings.max_image_bytes)),
        watcher=Watcher(store, estimates, is_ending),
        engines=engines_offered(settings),
        ring=ring,
        door=session.OneTimeToken(),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.inspector.close()
        server.commits.close()
        store.database.close()

    app = FastAPIOffline(  # its documentation page asks nobody outside for a script
        redoc_url=None,
        favicon_url="/web/icon.svg",
        title="Mutoscope",
        version=__version__,
        summary="Reference images and a prompt in, a video out.",
        lifespan=lifespan,
    )
    app.state.server = server
    app.add_middleware(BusyRoutes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],  # clients add headers of their own, and If-None-Match when they send an upload
        expose_headers=["retry-after", "etag", "content-range", "accept-ranges", "idempotent-replayed"],
        max_age=600,
    )
    app.add_middleware(operations.CountRequests, metrics=server.metrics)
    tell_refusals(app)
    # Model ids collide with every other path under /api/v3, so the literal routes come first.
    for router in (
        page.router,
        session.router,
        system.router,
        operations.router,
        files.router,
        uploads.router,
        inspection.router,
        account.router,
        billing.router,
        prices.router,
        operators.router,
        lists.router,
        predictions.router,
        events.router,
        predictions.busy,
        webhooks.router,
        submit.submits,
    ):
        app.include_router(router, responses=wavespeed.REFUSED)
    app.include_router(videos.router)
    return app
