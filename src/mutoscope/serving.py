"""`serve` (the API and its workers) and `worker`, from start to end. Knows signals and exit codes; no task."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import structlog
import uvicorn

from mutoscope import logs, tracing
from mutoscope.bell import Listener, Ringer
from mutoscope.config import Settings, SettingsError
from mutoscope.database import insist
from mutoscope.deliveries import Deliveries
from mutoscope.files import Links, open_files, read_secret
from mutoscope.gpus import VARIABLE, divide, visible_gpus
from mutoscope.housekeeping import Housekeeper, own_files, tidy
from mutoscope.opening import engines_offered, keys_of, limits_of, open_engine, open_store
from mutoscope.store import Store
from mutoscope.supervisor import Launch, Supervisor, worker_command
from mutoscope.webhooks import Deliverer
from mutoscope.worker import Worker

log = structlog.get_logger()


# The thread that commits gives up the interpreter at every statement; with the default of 5 ms it would wait that long
# for the event loop to hand it back, each time.
_SWITCH_SECONDS = 0.0005

_PATIENCE_SECONDS = 30.0


def run(settings: Settings, host: str, port: int, num_workers: int | None) -> None:
    """Serve until SIGTERM or SIGINT: then finish the answers under way, give running tasks back, and end.

    `num_workers` None: as many as the GPUs of this machine keep busy.
    """
    from mutoscope.api import create_app
    from mutoscope.api.webhooks import body_of

    logs.set_up(settings.log_format)
    tracing.set_up("server")
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Taken before any worker starts: a port in use is told at once, and port 0 becomes a real one.
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
    )
    port = listening.getsockname()[1]
    launches = launches_of(
        settings, num_workers, visible_gpus() if num_workers is None and _has_model(settings) else []
    )
    store = _open_patiently(settings)
    ringer = Ringer(store.database)
    supervisor = Supervisor(store, launches)
    files = open_files(settings.files)
    files.check()
    own_files(store.database, files)
    housekeeper = Housekeeper(store, files, settings.scratch, settings.cache, settings.retention_days)

    def ring() -> None:
        supervisor.ring()
        ringer.ring()

    app = create_app(settings, ring=ring, is_ending=lambda: server.should_exit)
    deliverer = Deliverer(
        Deliveries(store.database),
        lambda task: body_of(app.state.server, task),
        keys_of(settings, store.database).webhook_secret,
        allow_networks=settings.allow_networks,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
    supervisor.start()
    ringer.start()
    housekeeper.start()
    deliverer.start()
    address = settings.public_url or (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    if settings.sandbox:
        log.warning("SANDBOX: every model is rendered by the animatic, a storyboard in motion; this is not SkyReels-V3")
    if sys.stderr.isatty():  # never into a log: whoever reads it within a quarter of an hour could sign in
        link = f"{address}/#sign-in={app.state.server.door.text}"
        print(f"\n  Open the page, signed in (once, within 15 minutes):\n  {link}\n", file=sys.stderr)
    log.info("serving", page=address + "/", api=address + "/api/v3", docs=address + "/docs", workers=len(launches))
    # uvicorn ends on these signals and then raises them again: what is left to do below must still be done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    # What is here now stays; a collector that walked through it again and again would halt every request meanwhile.
    gc.collect()
    gc.freeze()
    try:
        server.run(sockets=[listening])
    finally:
        supervisor.stop()
        ringer.stop()
        housekeeper.stop()
        deliverer.stop()
        store.database.close()
        log.info("stopped")


def launches_of(settings: Settings, num_workers: int | None, gpus: Sequence[str]) -> list[Launch]:
    """How each worker is started. None: one for each group of `gpus` that renders a video together, which it alone
    sees; without GPUs, one.

    Where SkyReels-V3 runs, animatics get a worker of their own: they take seconds, and must not wait behind videos that
    take minutes. Raises SettingsError for GPUs that can't be divided so.
    """
    offered, has_model = engines_offered(settings), _has_model(settings)
    # The workers read their settings for themselves.
    environment = {"MUTOSCOPE_SANDBOX": str(settings.sandbox), "MUTOSCOPE_SKYREELS_GPUS": str(settings.skyreels_gpus)}
    views: list[dict[str, str]] = [{}] * (1 if num_workers is None else num_workers)
    if num_workers is None and has_model and gpus and settings.skyreels_device != "cpu":
        if settings.skyreels_device not in ("", "cuda"):
            raise SettingsError(
                f"MUTOSCOPE_SKYREELS_DEVICE is {settings.skyreels_device!r}, which names one GPU: leave it empty where "
                "workers share out the GPUs."
            )
        views = [{VARIABLE: ",".join(group)} for group in divide(gpus, settings.skyreels_gpus)]
        if idle := len(gpus) % settings.skyreels_gpus:
            log.warning("GPUs are left over", of=len(gpus), idle=idle, gpus_per_video=settings.skyreels_gpus)
    is_apart = has_model and len(offered) > 1 and views
    engines = ["skyreels-v3"] if is_apart else offered
    launches = [Launch(worker_command(engines), {**environment, **view}) for view in views]
    return [Launch(worker_command(["animatic"]), environment), *launches] if is_apart else launches


def _has_model(settings: Settings) -> bool:
    return "skyreels-v3" in engines_offered(settings) and not settings.sandbox


def run_worker(settings: Settings, name: str, engine_names: Sequence[str] = (), *, supervised: bool = False) -> None:
    """Work until told to stop: SIGTERM or SIGINT, or (supervised) the end of standard input."""
    logs.set_up(settings.log_format)
    tracing.set_up("worker")
    store, files = _open_patiently(settings), open_files(settings.files)
    own_files(store.database, files)
    worker = Worker(
        store=store,
        files=files,
        links=Links(read_secret(settings.home, "links")),
        limits=limits_of(settings),
        scratch=settings.scratch,
        engine_names=engine_names or list(engines_offered(settings)),
        open_engine=lambda name: open_engine(name, settings),
        lease_seconds=settings.lease_seconds,
        stall_seconds=settings.stall_seconds,
    )
    if name:
        worker.name = name

    def stop(_signal: int, _frame: FrameType | None) -> None:
        worker.stopping.set()
        worker.bell.set()
        if not worker.is_ready:  # opening an engine may take long: for a place on a cluster, for as long as it likes
            sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if not supervised:  # else its server does it
        tidy(store, settings.scratch, settings.cache, settings.retention_days)
    if supervised:
        threading.Thread(target=_listen, args=(worker,), name="lifeline", daemon=True).start()
    listener = Listener(worker.store.database, worker.bell.set)
    listener.start()
    try:
        worker.run()
    except SettingsError:
        raise
    except Exception:
        log.exception("unexpected error: the task was given back, and this worker ends")
        sys.exit(70)
    finally:
        listener.stop()
        worker.store.database.close()


def _open_patiently(settings: Settings) -> Store:
    """The store; a database server that starts at the same time as we do is waited for."""
    return insist(lambda: open_store(settings), threading.Event().wait, seconds=_PATIENCE_SECONDS)


def _listen(worker: Worker) -> None:
    """Hear the supervisor: a byte rings the bell; the end of the pipe means that the server is gone."""
    while os.read(0, 4096):
        worker.bell.set()
    worker.stopping.set()
    worker.bell.set()
