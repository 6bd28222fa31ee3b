"""`serve` (the API and its workers) and `worker`, from start to end. Knows signals and exit codes; no task."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import structlog
import uvicorn

from mutoscope.config import Settings, SettingsError
from mutoscope.files import Links, open_files, read_secret
from mutoscope.housekeeping import Housekeeper
from mutoscope.opening import engines_offered, limits_of, open_engine, open_store
from mutoscope.supervisor import Supervisor, worker_command
from mutoscope.worker import Worker

log = structlog.get_logger()


# The thread that commits gives up the interpreter at every statement; with the default of 5 ms it would wait that long
# for the event loop to hand it back, each time.
_SWITCH_SECONDS = 0.0005


def set_up_logging() -> None:
    """Logs go to stderr, so that stdout carries only what was asked for."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def run(settings: Settings, host: str, port: int, num_workers: int) -> None:
    """Serve until SIGTERM or SIGINT: then finish the answers under way, give running tasks back, and end."""
    from mutoscope.api import create_app

    set_up_logging()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Taken before any worker starts: a port in use is told at once, and port 0 becomes a real one.
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
    )
    port = listening.getsockname()[1]
    if settings.sandbox:
        os.environ["MUTOSCOPE_SANDBOX"] = "1"  # the workers read their settings for themselves

    store = open_store(settings)
    supervisor = Supervisor(store, _workers(settings, num_workers))
    files = open_files(settings.files)
    housekeeper = Housekeeper(store, files, settings.scratch, settings.cache, settings.retention_days)
    app = create_app(settings, ring=supervisor.ring)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, server_header=False)
    )
    supervisor.start()
    housekeeper.start()
    address = settings.public_url or (f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    if settings.sandbox:
        log.warning("SANDBOX: every model is rendered by the animatic, a storyboard in motion; this is not SkyReels-V3")
    log.info("serving", page=address + "/", api=address + "/api/v3", docs=address + "/docs", workers=num_workers)
    # uvicorn ends on these signals and then raises them again: what is left to do below must still be done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    try:
        server.run(sockets=[listening])
    finally:
        supervisor.stop()
        housekeeper.stop()
        log.info("stopped")


def _workers(settings: Settings, num_workers: int) -> list[list[str]]:
    """The command line of each worker. Where SkyReels-V3 runs, animatics get a worker of their own: they take seconds,
    and must not wait behind videos that take minutes."""
    offered = engines_offered(settings)
    if num_workers == 0 or len(offered) == 1 or settings.sandbox:
        return [worker_command(offered)] * num_workers
    return [worker_command(["animatic"])] + [worker_command(["skyreels-v3"])] * num_workers


def run_worker(settings: Settings, name: str, engine_names: Sequence[str] = (), *, supervised: bool = False) -> None:
    """Work until told to stop: SIGTERM or SIGINT, or (supervised) the end of standard input."""
    set_up_logging()
    worker = Worker(
        store=open_store(settings),
        files=open_files(settings.files),
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

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if supervised:
        threading.Thread(target=_listen, args=(worker,), name="lifeline", daemon=True).start()
    try:
        worker.run()
    except SettingsError:
        raise
    except Exception:
        log.exception("unexpected error: the task was given back, and this worker ends")
        sys.exit(70)


def _listen(worker: Worker) -> None:
    """Hear the supervisor: a byte rings the bell; the end of the pipe means that the server is gone."""
    while os.read(0, 4096):
        worker.bell.set()
    worker.stopping.set()
    worker.bell.set()
