"""WaveSpeed's own Python SDK, unchanged: only its base URL is ours."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import wavespeed
from wavespeed import Client

from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation

INPUTS = {"prompt": "a cat, slow push in", "aspect_ratio": "1:1", "duration": 5}


@pytest.fixture(scope="module")
def sdk(running: Installation) -> Client:
    return Client(api_key=running.key, base_url=running.url)


@pytest.mark.slow
def test_upload_and_run(sdk: Client) -> None:
    with (EXAMPLES / "chelsea.jpg").open("rb") as file:  # or the path of one, as below
        url = sdk.upload(file)
    found = sdk.run(SKYREELS, {**INPUTS, "images": [url]}, poll_interval=0.2)
    (output,) = found["outputs"]
    assert httpx.URL(output).path.endswith(".mp4")
    assert httpx.get(output, follow_redirects=True).content[4:8] == b"ftyp"


@pytest.mark.slow
def test_run_in_sync_mode(sdk: Client, image: str) -> None:
    found = sdk.run(SKYREELS, {**INPUTS, "images": [image]}, enable_sync_mode=True)
    assert httpx.get(found["outputs"][0], follow_redirects=True).headers["content-type"] == "video/mp4"


@pytest.mark.slow
def test_the_package_s_own_functions(running: Installation) -> None:
    wavespeed.config.api.api_key, wavespeed.config.api.base_url = running.key, running.url
    url = wavespeed.upload(str(EXAMPLES / "chelsea.jpg"))
    assert httpx.get(url, follow_redirects=True).content == (EXAMPLES / "chelsea.jpg").read_bytes()
    found = wavespeed.run(ANIMATIC, {**INPUTS, "images": [url]}, poll_interval=0.2)
    assert httpx.get(found["outputs"][0], follow_redirects=True).status_code == 200


def test_a_failure_is_raised_with_its_reason(sdk: Client, running: Installation) -> None:
    images = [f"{running.url}/nothing.png"]
    for options in ({"poll_interval": 0.1}, {"enable_sync_mode": True}):
        with pytest.raises(RuntimeError, match=r"Image 1 \(127\.0\.0\.1\): the server answered 404"):
            sdk.run(SKYREELS, {**INPUTS, "images": images}, **options)


def test_run_no_throw_tells_the_failure(sdk: Client, running: Installation) -> None:
    found: dict[str, Any] = sdk.run_no_throw(
        SKYREELS, {**INPUTS, "images": [f"{running.url}/nothing.png"]}, poll_interval=0.1
    )
    assert (found["status"], found["outputs"]) == ("failed", None)
    assert "Image 1 (127.0.0.1): the server answered 404" in found["error"]
    assert running.result(found["task_id"])["status"] == "failed"


def test_refusals_carry_our_sentence(sdk: Client, running: Installation, image: str) -> None:
    with pytest.raises(RuntimeError, match=r"HTTP 400.*duration is 3: duration must be a whole number from 5 to 10"):
        sdk.run(SKYREELS, {**INPUTS, "duration": 3, "images": [image]})
    with pytest.raises(RuntimeError, match=r"HTTP 404.*Models here: skywork-ai"):
        sdk.run("nobody/nothing", {**INPUTS, "images": [image]})
    with pytest.raises(RuntimeError, match=r"HTTP 401.*Invalid authentication"):
        Client(api_key="wsk_wrong", base_url=running.url).run(SKYREELS, {**INPUTS, "images": [image]})


def test_the_result_of_an_unknown_task(sdk: Client) -> None:
    with pytest.raises(RuntimeError, match=r"HTTP 404.*Task not found"):
        sdk.get_result("0" * 32)


def test_get_result(sdk: Client, completed: dict[str, Any]) -> None:
    assert sdk.get_result(completed["id"])["data"] == completed


def test_sync_mode_that_runs_out(install: Any, data_uri: str) -> None:
    installation = install(workers=0, sync_seconds=1).start()
    client = Client(api_key=installation.key, base_url=installation.url)
    with pytest.raises(RuntimeError, match="Sync mode timed out after 1 seconds"):
        client.run(SKYREELS, {**INPUTS, "images": [data_uri]}, enable_sync_mode=True)
    found = client.run_no_throw(SKYREELS, {**INPUTS, "images": [data_uri]}, enable_sync_mode=True)
    assert found["status"] == "processing"
    assert installation.result(found["task_id"])["status"] == "created"
