"""The API describes itself, and whatever is thrown at it, it answers in its own words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.installation import ANIMATIC, SKYREELS, Installation


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A sandbox server without workers, which holds no request open for long."""
    installation = Installation(tmp_path_factory.mktemp("fuzz") / "home", workers=0, sync_seconds=0.05).start()
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def spec(idle: Installation) -> Any:
    with httpx.Client(base_url=idle.url, trust_env=False) as client:
        answer = client.get("/openapi.json")
        assert client.get("/docs").headers["content-type"].startswith("text/html")
    assert answer.status_code == 200
    return answer.json()


# The description


def test_the_routes_are_listed(spec: Any) -> None:
    assert spec["openapi"].startswith("3.")
    routes = {(method, path) for path, operations in spec["paths"].items() for method in operations}
    assert routes >= {
        ("post", "/api/v3/{model_id}"),
        ("get", "/api/v3/predictions/{task_id}/result"),
        ("get", "/api/v3/predictions/{task_id}"),
        ("delete", "/api/v3/predictions/{task_id}"),
        ("post", "/api/v3/media/uploads"),
        ("post", "/api/v3/media/upload/binary"),
        ("get", "/api/v3/models"),
        ("get", "/files/{key}"),
        ("put", "/files/{key}"),
    }


def test_every_operation_is_described_whole(spec: Any) -> None:
    names = []
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            names.append(operation["operationId"])
            assert operation["description"], (method, path)
            declared = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
            assert declared == set(re.findall(r"{(\w+)}", path)), (method, path)
            assert "422" not in operation["responses"]  # this API says 400
            refused = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            dialect = "Refused" if path.startswith("/v1/") else "Refusal"
            assert refused == {"$ref": f"#/components/schemas/{dialect}"}
            needs_key = path.startswith(("/api/", "/v1/")) and path != "/api/v3/session"
            assert bool(operation.get("security")) == needs_key, (method, path)
    assert len(names) == len(set(names))
    assert set(spec["components"]["schemas"]["Refusal"]["required"]) == {"code", "message", "error_code"}
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(spec)):
        found = spec
        for part in reference.split("/"):
            found = found[part]


def test_submit_documents_its_body(spec: Any) -> None:
    operation = spec["paths"]["/api/v3/{model_id}"]["post"]
    assert operation["parameters"][0]["schema"]["enum"] == [SKYREELS, ANIMATIC]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["prompt", "images"]
    properties = schema["properties"]
    assert list(properties) == [
        "prompt", "images", "aspect_ratio", "duration", "seed", "resolution", "enable_sync_mode",
        "enable_base64_output", "webhook_url", "priority", "max_queue_seconds",
    ]  # fmt: skip
    assert (properties["images"]["minItems"], properties["images"]["maxItems"]) == (1, 4)
    assert (properties["enable_sync_mode"]["type"], properties["enable_sync_mode"]["default"]) == ("boolean", False)
    assert all(field["description"] for field in properties.values())


# Whatever is thrown at it

urls = st.sampled_from(["https://h/a.png", "http://10.0.0.1/", "data:image/png;base64,AAAA"]) | st.text(max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=20) | values,
        "images": st.lists(urls, max_size=5) | values,
        "aspect_ratio": st.sampled_from(["16:9", "9:16", "1:1", "4:3"]) | values,
        "duration": st.integers(4, 11) | values,
        "seed": st.integers(-2, 2**63) | values,
        "enable_sync_mode": st.booleans() | values,
        "enable_base64_output": st.booleans() | values,
        "extra": values,
    },
)


def is_whole(value: Any, low: int, high: int) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and low <= value <= high


def may_be_accepted(body: dict[str, Any]) -> bool:
    """The rules once more, written by another hand."""
    given_ = {name: value for name, value in body.items() if value is not None}
    prompt, images = given_.get("prompt"), given_.get("images")
    return (
        isinstance(prompt, str)
        and 1 <= len(prompt.strip()) <= 5000
        and isinstance(images, list)
        and 1 <= len(images) <= 4
        and all(
            isinstance(url, str) and url.strip().lower().startswith(("http://", "https://", "data:")) for url in images
        )
        and given_.get("aspect_ratio", "16:9") in ("16:9", "9:16", "1:1")
        and is_whole(given_.get("duration", 5), 5, 10)
        and is_whole(given_.get("seed", -1), -1, 2**63 - 1)
        and all(isinstance(given_.get(name, False), bool) for name in ("enable_sync_mode", "enable_base64_output"))
    )


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500
    body = answer.json()
    assert body["code"] == answer.status_code
    assert set(body) == (
        {"code", "message", "data"} if answer.status_code == 200 else {"code", "message", "error_code"}
    )


@settings(max_examples=300)
@given(bodies)
@example({"prompt": "a", "images": ["https://h/a.png"]})
@example({"prompt": "\ud800", "images": ["https://h/a.png"]})
@example({"prompt": "\0", "images": ["https://h/\0"]})
def test_any_json_body_is_accepted_or_refused_rightly(idle: Installation, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    answer = idle.http.post(f"/api/v3/{ANIMATIC}", content=content, headers={"Content-Type": "application/json"})
    check(answer)
    has_surrogate = re.search(r"\\\\?ud[89a-f]", json.dumps([body.get("prompt"), body.get("images")])) is not None
    if not has_surrogate:
        assert (answer.status_code == 200) == may_be_accepted(body), answer.text


@settings(max_examples=100)
@given(
    st.binary(max_size=60),
    st.sampled_from(
        [f"/api/v3/{ANIMATIC}", "/api/v3/references/inspect", "/api/v3/media/uploads", "/api/v3/model/price"]
    ),
)
def test_any_bytes_are_refused(idle: Installation, content: bytes, path: str) -> None:
    answer = idle.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404)
    check(answer)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from(["", "--b\r\n", "--b\r\nContent-Disposition: form-data; name=file; "]))
def test_any_multipart_is_refused_or_taken(idle: Installation, content: bytes, start: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    check(idle.http.post("/api/v3/media/upload/binary", content=start.encode() + content, headers=headers))


parts_of_paths = st.sampled_from(["api", "v3", "v2", "predictions", "files", "models", "result", "..", "%2e%2e", "%00"])


@settings(max_examples=100)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]),
    st.lists(parts_of_paths | st.text("a%/.é", max_size=4), max_size=5),
)
def test_any_path_is_answered(idle: Installation, method: str, parts: list[str]) -> None:
    answer = idle.http.request(method, f"{idle.url}/{'/'.join(parts)}")
    assert answer.status_code < 500


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.slow
def test_every_operation_answers_what_it_documents(idle: Installation) -> None:
    """MUTOSCOPE_TEST_CASES=300 makes more than 10,000 requests."""
    key = idle.run(
        "keys", "create", "fuzz", "--scope", "generate", "--scope", "read", "--scope", "admin"
    ).stdout.strip()
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{idle.url}/openapi.json", "--phases", "fuzzing",
        "-H", f"Authorization: Bearer {key}", "-n", os.environ.get("MUTOSCOPE_TEST_CASES", "5"), "--no-shrink",
        "-c", CHECKS, "--warnings", "off", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout
    print("\n".join(line.strip() for line in done.stdout.splitlines() if "generated" in line or "Tested" in line))


def test_nothing_of_this_was_a_fault(idle: Installation) -> None:
    assert "Traceback" not in idle.log.read_text()
