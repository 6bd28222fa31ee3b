"""What Prometheus is told. Workers are other processes, so all but the requests is read from the rows, when asked.

Gauges say how things stand. Counters begin at 0 with this process and count what the rows have gained since, each row
once; Prometheus expects counters to begin again. Several servers on one database each tell of the whole of it: take one
of them, or the maximum. No label holds anything that a caller wrote.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Column, Connection, Row, func, select

from mutoscope.database import Database
from mutoscope.overview import look
from mutoscope.schema import delivery_attempts, entries, tasks
from mutoscope.tasks import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90)
_TASK_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600)


_ATTEMPTS_RUNNING = (
    select(tasks.c.engine, func.sum(tasks.c.attempt))
    .where(tasks.c.status == Status.RUNNING.value)
    .group_by(tasks.c.engine)
)


class Tail:
    """The rows of a table that have come since the last look, by a number that grows.

    Transactions do not commit in the order of their numbers, so the last `overlap` of numbers is looked at again.
    """

    def __init__(self, number: Column[Any], overlap: float, start: float, *columns: Column[Any]) -> None:
        self._number = number
        self._overlap = overlap
        self._from = start
        self._seen: dict[Any, float] = {}
        self._key = number.table.c.seq
        self._columns = columns

    def grown(self, connection: Connection) -> Iterator[Row[Any]]:
        """Each new row once."""
        query = select(self._key, self._number, *self._columns).where(self._number > self._from - self._overlap)
        for row in connection.execute(query.order_by(self._number)):
            if row[0] not in self._seen:
                self._seen[row[0]] = row[1]
                self._from = max(self._from, row[1])
                yield row
        self._seen = {key: number for key, number in self._seen.items() if number > self._from - self._overlap}


class Metrics:
    """The figures of one server. `files` is the folder whose disk is watched."""

    def __init__(self, database: Database, files: Path) -> None:
        self._database = database
        self._files = files
        self._asking = threading.Lock()
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        by_route = ("method", "route", "status")
        self._requests = Counter("mutoscope_requests", "Requests that were answered.", by_route, registry=registry)
        self._request_seconds = Histogram(
            "mutoscope_request_seconds",
            "From a request's arrival to the end of its answer.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._ended = Counter("mutoscope_tasks_ended", "Tasks that ended.", ("engine", "status"), registry=registry)
        self._claims = Counter(
            "mutoscope_claims", "Tasks that workers took, each time they did.", ("engine",), registry=registry
        )
        self._retries = Counter(
            "mutoscope_retries",
            "Attempts of ended tasks that did not end them: `failure`, an error of the worker; `loss`, it vanished.",
            ("engine", "reason"),
            registry=registry,
        )
        self._steps = Counter("mutoscope_steps", "Denoising steps of finished videos.", ("engine",), registry=registry)
        self._video_seconds = Counter(
            "mutoscope_video_seconds", "Seconds of finished video.", ("engine",), registry=registry
        )
        self._wait_seconds = Histogram(
            "mutoscope_wait_seconds",
            "From acceptance to the start of the last attempt, of ended tasks.",
            ("engine",),
            buckets=_TASK_SECONDS,
            registry=registry,
        )
        self._run_seconds = Histogram(
            "mutoscope_run_seconds",
            "The last attempt at finished videos.",
            ("engine",),
            buckets=_TASK_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Counter(
            "mutoscope_stage_seconds", "Where finished videos spent it.", ("engine", "stage"), registry=registry
        )
        self._moved = Counter("mutoscope_ledger_dollars", "What the ledger moved.", ("kind",), registry=registry)
        self._attempts = Counter(
            "mutoscope_webhook_attempts", "Webhooks sent, by what was answered.", ("answer",), registry=registry
        )
        self._attempt_seconds = Counter(
            "mutoscope_webhook_attempt_seconds", "Time that receivers took.", registry=registry
        )
        self._tasks = Tail(
            tasks.c.finished_at,
            60.0,  # of clocks that differ
            database.now(),
            *(
                tasks.c[name]
                for name in ("engine", "status", "attempt", "failures", "losses", "created_at", "started_at")
            ),
            tasks.c.request,
            tasks.c.timings,
            tasks.c.receipt,
        )
        with database.connect() as connection:

            def newest(column: Column[Any]) -> float:
                return connection.execute(select(func.max(column))).scalar() or 0

            self._entries = Tail(entries.c.seq, 1000, newest(entries.c.seq), entries.c.kind, entries.c.amount_micros)
            self._sent = Tail(
                delivery_attempts.c.seq,
                1000,
                newest(delivery_attempts.c.seq),
                delivery_attempts.c.status_code,
                delivery_attempts.c.milliseconds,
            )
            for tail in (self._tasks, self._entries, self._sent):  # what was there before does not count
                list(tail.grown(connection))
            self._attempts_ended = {engine: -attempts for engine, attempts in connection.execute(_ATTEMPTS_RUNNING)}
        self._claims_told: dict[str, int] = {}
        registry.register(self)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is the path's pattern, never the path."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        with self._asking:
            with self._database.snapshot() as connection:
                self._count(connection)
            return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Nothing: asked when it is registered, when the rows need not be read yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges, for `prometheus_client`, which calls this."""
        with self._database.connect() as connection:
            now = look(connection, self._database.now(), 0)
        length = GaugeMetricFamily("mutoscope_queue_length", "Tasks that wait.", labels=["engine"])
        age = GaugeMetricFamily("mutoscope_queue_age_seconds", "How long the oldest has waited.", labels=["engine"])
        for queue in now.queues:
            length.add_metric([queue.engine], queue.length)
            age.add_metric([queue.engine], queue.age_seconds)
        yield from (length, age)
        running = GaugeMetricFamily("mutoscope_tasks_running", "Tasks at work.", labels=["engine"])
        for engine in sorted({task.engine for task in now.running}):
            running.add_metric([engine], sum(task.engine == engine for task in now.running))
        yield running
        balances = GaugeMetricFamily("mutoscope_balance_dollars", "The sum of all accounts.", labels=["book"])
        balances.add_metric(["available"], now.available_micros / 1e6)
        balances.add_metric(["held"], now.held_micros / 1e6)
        yield balances
        disk = disk_usage(self._files)
        for name, text, value in (
            ("webhooks_due", "Webhooks on their way, and those to be tried again.", now.webhooks_due),
            ("webhook_age_seconds", "How late the most overdue webhook is.", now.webhook_age_seconds),
            ("disk_free_bytes", "Of the disk that holds the files.", disk.free),
            ("disk_size_bytes", "Of the disk that holds the files.", disk.total),
        ):
            yield GaugeMetricFamily(f"mutoscope_{name}", text, value=value)

    def _count(self, connection: Connection) -> None:
        for row in self._tasks.grown(connection):
            engine = row.engine
            self._ended.labels(engine, row.status).inc()
            self._attempts_ended[engine] = self._attempts_ended.get(engine, 0) + row.attempt
            self._retries.labels(engine, "failure").inc(row.failures)
            self._retries.labels(engine, "loss").inc(row.losses)
            if row.started_at is not None:
                self._wait_seconds.labels(engine).observe(max(0.0, row.started_at - row.created_at))
            if row.status == Status.SUCCEEDED:
                self._run_seconds.labels(engine).observe(max(0.0, row.finished_at - row.started_at))
                self._video_seconds.labels(engine).inc(row.request["duration"])
                self._steps.labels(engine).inc((row.receipt or {}).get("steps", 0))
                for stage, milliseconds in row.timings.items():
                    if stage != "first_frame":  # which lies within the others
                        self._stage_seconds.labels(engine, stage).inc(milliseconds / 1000)
        self._count_claims(dict(iter(connection.execute(_ATTEMPTS_RUNNING))))
        for row in self._entries.grown(connection):
            self._moved.labels(row.kind).inc(row.amount_micros / 1e6)
        for row in self._sent.grown(connection):
            self._attempts.labels(f"{row.status_code // 100}xx" if row.status_code else "none").inc()
            self._attempt_seconds.inc(row.milliseconds / 1000)

    def _count_claims(self, running: dict[str, int]) -> None:
        # A task counts as soon as it runs. One that went back to the queue is missing until it is taken again.
        for engine in self._attempts_ended | running:
            total = self._attempts_ended.get(engine, 0) + running.get(engine, 0)
            told = self._claims_told.get(engine, 0)
            self._claims.labels(engine).inc(max(0, total - told))
            self._claims_told[engine] = max(told, total)
