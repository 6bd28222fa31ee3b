"""Traces, for who runs OpenTelemetry: what happened to a task in API, worker and webhook is one trace.

A task's id is its trace's id: both are 128 random bits, so nothing has to be handed from process to process. Traces go
where OTEL_EXPORTER_OTLP_ENDPOINT says; without it nothing is loaded. Spans hold no key, prompt or URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import structlog

log = structlog.get_logger()

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_tracer: Any = None


def set_up(role: str) -> None:
    """Begin to trace, where an endpoint is set; `role` is this process's part: `server` or `worker`."""
    global _tracer
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        log.warning("traces are asked for, but OpenTelemetry is missing: pip install 'mutoscope[traces]'")
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service = os.environ.get("OTEL_SERVICE_NAME") or "mutoscope"
    provider = TracerProvider(resource=Resource.create({"service.name": service, "mutoscope.role": role}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("mutoscope")


@contextmanager
def span(name: str, task_id: str, *, caller: str = "", **attributes: str | int) -> Iterator[None]:
    """A span of a task's trace around the block. `caller` is the traceparent of who asked, whose trace is linked."""
    if _tracer is None:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    known = trace.SpanContext(
        int(task_id, 16), int(task_id[:16], 16), is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
    )
    theirs = TraceContextTextMapPropagator().extract({"traceparent": caller}) if caller else None
    asking = trace.get_current_span(theirs).get_span_context() if theirs is not None else None
    with _tracer.start_as_current_span(
        name,
        context=trace.set_span_in_context(trace.NonRecordingSpan(known)),
        links=[trace.Link(asking)] if asking is not None and asking.is_valid else [],
        attributes={"mutoscope.task": task_id, **{f"mutoscope.{key}": value for key, value in attributes.items()}},
        record_exception=False,  # its text may name a host
        set_status_on_exception=False,
    ) as made:
        try:
            yield
        except Exception as error:
            made.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
