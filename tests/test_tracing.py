"""A task's way from submit to webhook is one trace, told to a real collector."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.installation import ANIMATIC, Installation
from tests.receiver import receiving


class Collector(ThreadingHTTPServer):
    """Keeps the spans that are sent to it, with the role of the process each is from."""

    daemon_threads = True

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.raw = b""
        super().__init__(("127.0.0.1", 0), _Collect)


class _Collect(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.raw += body
        for told in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {pair.key: pair.value.string_value for pair in told.resource.attributes}
            for scope in told.scope_spans:
                self.server.spans += [(names["mutoscope.role"], span) for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_submit_render_and_webhook_are_one_trace(
    install: Callable[..., Installation], collector: Collector, data_uri: str
) -> None:
    server = install()
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    server.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    server.start()
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with receiving() as receiver:
        body = {"prompt": "canary-prompt", "images": [data_uri], "webhook_url": receiver.url("/ok?canary=hook")}
        answer = server.http.post(f"/api/v3/{ANIMATIC}", json=body, headers={"traceparent": theirs})
        task_id = answer.json()["data"]["id"]
        receiver.wait(1, 60)
        until = time.monotonic() + 30
        while len(collector.spans) < 3:
            assert time.monotonic() < until, collector.spans
            time.sleep(0.05)
    assert {(role, span.name) for role, span in collector.spans} == {
        ("server", "submit"),
        ("worker", "render"),
        ("server", "webhook"),
    }
    assert {span.trace_id.hex() for _, span in collector.spans} == {task_id}
    submit = next(span for _, span in collector.spans if span.name == "submit")
    assert [link.trace_id.hex() for link in submit.links] == ["0af7651916cd43dd8448eb211c80319c"]
    signature = server.result(task_id)["outputs"][0].rpartition("signature=")[2]
    assert len(signature) == 64
    secret = server.http.get("/api/v3/webhook/secret").json()["data"]["secret"].removeprefix("whsec_")
    for canary in (b"canary", server.key.encode(), signature.encode(), secret.encode()):
        assert canary not in collector.raw
