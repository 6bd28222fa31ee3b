"""OpenAI's Videos API: its own package, unchanged, and what other clients send; the same tasks as the other dialect."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import openai
import pytest
from PIL import Image

from tests.installation import ANIMATIC, EXAMPLES, SKYREELS, Installation

# The package says that OpenAI's own service of this API has ended.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

CHELSEA = EXAMPLES / "chelsea.jpg"
URLENCODED = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def client(running: Installation) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=running.key, base_url=f"{running.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A sandbox server without workers."""
    installation = Installation(tmp_path_factory.mktemp("videos") / "home", workers=0).start()
    yield installation
    installation.close()


# With OpenAI's own package


@pytest.mark.slow
def test_the_openai_package_makes_lists_downloads_and_deletes(
    client: openai.OpenAI, running: Installation, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"model": ANIMATIC, "seconds": "5", "size": "640x640"}
    video = client.videos.create_and_poll(
        prompt="a cat, slow push in", input_reference=CHELSEA, poll_interval_ms=200, **asked
    )
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.object, video.model, video.seconds, video.size) == ("video", ANIMATIC, "5", "640x640")
    assert video.completed_at is not None
    assert video.created_at <= video.completed_at < (video.expires_at or 0)
    assert client.videos.retrieve(video.id) == video
    assert running.result(video.id)["input"]["resolution"] == "480p"  # the other dialect knows the same task

    target = tmp_path / "video.mp4"
    client.videos.download_content(video.id).write_to_file(target)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (640, 640, 121)

    thumbnail = Image.open(BytesIO(client.videos.download_content(video.id, variant="thumbnail").read()))
    assert thumbnail.size == (640, 640)
    sheet = client.videos.download_content(video.id, variant="spritesheet")
    grid = Image.open(BytesIO(sheet.read()))
    assert grid.size == (5 * 256, 5 * 256)
    first, last = (grid.crop((x, x, x + 256, x + 256)) for x in (0, 4 * 256))
    assert len(set(first.resize((8, 8)).get_flattened_data())) > 8  # pictures, and not the same
    assert first.tobytes() != last.tobytes()
    kept = sorted(name for name in running.outputs() if name.startswith(video.id))
    assert kept == [f"{video.id}-1.{suffix}" for suffix in ("jpg", "mp4", "mp4.sheet.jpg")]
    assert client.videos.download_content(video.id, variant="spritesheet").read() == sheet.read()

    newest = client.videos.list(limit=1)
    assert [found.id for found in newest.data] == [video.id]
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    assert not [name for name in running.outputs() if name.startswith(video.id)]
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_its_exceptions_are_the_right_ones(client: openai.OpenAI, running: Installation) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="a cat", input_reference=CHELSEA, seconds="4")
    fault = caught.value
    assert (fault.param, fault.code, fault.type) == ("seconds", "invalid_value", "invalid_request_error")
    assert 'seconds is "4": it must be a whole number from 5 to 10.' in fault.message
    with pytest.raises(openai.BadRequestError, match=r"input_reference must be 1 to 4 images.*none was sent"):
        client.videos.create(prompt="a cat")
    with pytest.raises(openai.NotFoundError) as caught_unknown:
        client.videos.create(prompt="a cat", input_reference=CHELSEA, model="sora-2")
    assert caught_unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="Task not found"):
        client.videos.retrieve("0" * 32)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key="sk-wrong", base_url=f"{running.url}/v1", max_retries=0).videos.list()


def test_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [SKYREELS, ANIMATIC, "skyreels-v3"]


def test_pages_follow_each_other(idle: Installation) -> None:
    with openai.OpenAI(api_key=idle.run("keys", "create", "pages").stdout.strip(), base_url=f"{idle.url}/v1") as client:
        url = {"input_reference": URLS[0]}
        made = [client.videos.create(prompt=f"cat {number}", extra_body=url).id for number in range(5)]
        assert [video.id for video in client.videos.list(limit=2)] == made[::-1]  # it asks for page after page
        assert [video.id for video in client.videos.list(limit=2, order="asc")] == made
        assert [video.id for video in client.videos.list(limit=2, order="asc", after=made[1]).data] == made[2:4]
        with pytest.raises(openai.NotFoundError):
            client.videos.list(after="0" * 32)


# What other clients send


def create(idle: Installation, **sent: Any) -> dict[str, Any]:
    answer = idle.http.post("/v1/videos", **sent)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


URLS = ["http://127.0.0.1:1/a.png", "http://127.0.0.1:1/b.png"]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (URLS[0], URLS[:1]),
        (URLS, URLS),
        ({"image_url": URLS[0]}, URLS[:1]),
        ([{"image_url": {"url": URLS[0]}}, URLS[1]], URLS),
    ],
    ids=["url", "urls", "object", "objects"],
)
def test_references_in_json(idle: Installation, reference: Any, expected: list[str]) -> None:
    body = {"prompt": "a cat", "model": "skyreels-v3", "input_reference": reference, "seconds": 7, "fps": 24}
    made = create(idle, json=body)
    assert (made["status"], made["progress"], made["seconds"]) == ("queued", 0, "7")
    found = idle.result(made["id"])
    assert (found["model"], found["input"]["images"], found["input"]["duration"]) == (SKYREELS, expected, 7)


def test_references_in_forms(idle: Installation, data_uri: str) -> None:
    picture = CHELSEA.read_bytes()
    fields = {"prompt": "two cats", "seconds": "6", "size": "480x848", "seed": "11"}
    files = [("input_reference", ("a.jpg", picture, "image/jpeg")), ("input_reference[]", ("b", picture))]
    sent = {**fields, "input_reference": [URLS[0], data_uri]}
    made = create(idle, data=sent, files=files)
    assert (made["size"], made["seconds"]) == ("480x848", "6")
    found = idle.result(made["id"])["input"]
    assert (found["aspect_ratio"], found["resolution"], found["seed"]) == ("9:16", "480p", 11)
    assert len(found["images"]) == 4
    assert URLS[0] in found["images"]
    kept = [url for url in found["images"] if url.startswith(idle.url)]
    downloaded = [httpx.get(url, trust_env=False).content for url in kept]
    assert downloaded.count(picture) == 2
    assert base64.b64decode(data_uri.partition(",")[2]) in downloaded

    urlencoded = create(idle, data={**fields, "input_reference": URLS[:2]})
    assert (urlencoded["size"], urlencoded["seconds"]) == ("480x848", "6")
    assert idle.result(urlencoded["id"])["input"]["images"] == URLS[:2]

    texts = {"prompt": "a cat", "image_reference": json.dumps({"image_url": URLS[1]})}
    plain = create(idle, files=[(name, (None, text)) for name, text in texts.items()])
    assert idle.result(plain["id"])["input"]["images"] == [URLS[1]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("1280x720", ("16:9", "720p", "1280x720")),
        ("960x544", ("16:9", "540p", "960x544")),
        ("848x480", ("16:9", "480p", "848x480")),
        ("720x720", ("1:1", "540p", "720x720")),
        ("1792x1024", ("16:9", "720p", "1280x720")),  # OpenAI's own, of nearly this shape
        ("1024x1792", ("9:16", "720p", "720x1280")),
        ("512x512", ("1:1", "720p", "960x960")),
        (None, ("16:9", "720p", "1280x720")),
    ],
)
def test_sizes(idle: Installation, size: str | None, expected: tuple[str, str, str]) -> None:
    made = create(idle, json={"prompt": "a cat", "input_reference": URLS[0], "size": size})
    found = idle.result(made["id"])["input"]
    assert (found["aspect_ratio"], found["resolution"], made["size"]) == expected


@pytest.mark.parametrize(
    ("change", "param", "sentence"),
    [
        ({"size": "640x480"}, "size", 'size is "640x480": it must be one of 1280x720, 720x1280, 960x960,'),
        ({"size": 720}, "size", "size is 720: it must be"),
        ({"seconds": "5.5"}, "seconds", 'seconds is "5.5": it must be a whole number from 5 to 10.'),
        ({"seconds": True}, "seconds", "seconds is true: it must be"),
        ({"seed": "many"}, "seed", 'seed is "many": seed must be a whole number'),
        ({"prompt": None}, "prompt", "prompt is missing: it must be a text of 1 to 5,000 characters."),
        ({"input_reference": "cat.png"}, "input_reference", 'input_reference[0] is "cat.png": input_reference must be'),
        ({"input_reference": URLS * 3}, "input_reference", "1 to 4 images, as files or as URLs: 6 were sent."),
        ({"input_reference": {"file_id": "file-1"}}, "input_reference", "no files are kept here"),
        ({"input_reference": 7}, "input_reference", "input_reference is 7: it must be a file or a URL."),
        ({"input_reference": "{"}, "input_reference", "not valid JSON"),
        ({"model": 3}, "model", "model is 3: it must be one of skyreels-v3, skywork-ai/"),
    ],
)
def test_what_is_wrong_is_told(idle: Installation, change: dict[str, Any], param: str, sentence: str) -> None:
    body = {"prompt": "a cat", "input_reference": URLS[0], **change}
    answer = idle.http.post("/v1/videos", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert sentence in error["message"]
    assert len(re.findall(r"[.!] ?", error["message"])) < 4


def test_refusals_of_every_kind_have_its_shape(idle: Installation) -> None:
    bare = httpx.Client(base_url=idle.url, trust_env=False)
    body = {"prompt": "a cat", "input_reference": URLS[0]}
    answers = [
        (bare.get("/v1/videos"), 401, "authentication_error"),
        (bare.get("/v1/nothing"), 404, "invalid_request_error"),
        (bare.patch("/v1/videos"), 405, "invalid_request_error"),
        (idle.http.get("/v1/videos?limit=0"), 400, "invalid_request_error"),
        (idle.http.get("/v1/videos?order=up"), 400, "invalid_request_error"),
        (idle.http.post("/v1/videos", content=b"{"), 400, "invalid_request_error"),
        (idle.http.post("/v1/videos", content=b"a", headers={"Content-Type": "text/plain"}), 415, None),
        (
            idle.http.post("/v1/videos", content=b"-", headers={"Content-Type": "multipart/form-data; boundary=b"}),
            400,
            None,
        ),
        (
            idle.http.post("/v1/videos", content=b"prompt=%ff&" * 101, headers={"Content-Type": URLENCODED}),
            400,
            "invalid_request_error",
        ),
        (idle.http.post("/v1/videos", content=b"\xff=a", headers={"Content-Type": URLENCODED}), 400, None),
        (
            idle.http.post("/v1/videos", json=body, headers={"Idempotency-Key": b"\xe9"}),
            400,
            None,
        ),
    ]
    for answer, status, kind in answers:
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert kind is None or error["type"] == kind
    bare.close()


def test_what_no_model_here_can_do_is_told(client: openai.OpenAI, completed: dict[str, Any]) -> None:
    asked: list[Callable[[], object]] = [
        lambda: client.videos.remix(completed["id"], prompt="at night"),
        lambda: client.videos.edit(prompt="at night", video=b"a"),
        lambda: client.videos.extend(prompt="at night", seconds="4", video=b"a"),
        lambda: client.videos.create_character(name="a", video=b"a"),
    ]
    for ask in asked:
        with pytest.raises(openai.BadRequestError, match="create another, of the same input_reference") as caught:
            ask()
        assert caught.value.code == "unsupported_operation"


def test_money_and_limits_are_told_in_its_words(idle: Installation) -> None:
    idle.run("accounts", "create", "poor")
    key = idle.run("keys", "create", "poor", "--account", "poor").stdout.strip()
    with openai.OpenAI(api_key=key, base_url=f"{idle.url}/v1", max_retries=0) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.videos.create(prompt="a cat", extra_body={"input_reference": URLS[0]})
        assert (caught.value.status_code, caught.value.type) == (402, "insufficient_quota")
        assert client.videos.list().data == []


def test_an_idempotency_key_holds_for_forms_whose_boundaries_differ(idle: Installation) -> None:
    headers = {"Idempotency-Key": "the same"}
    sent = {"data": {"prompt": "a cat"}, "files": {"input_reference": ("a.jpg", CHELSEA.read_bytes())}}
    first, again = (create(idle, headers=headers, **sent) for _ in range(2))
    assert first == again
    answer = idle.http.post("/v1/videos", headers=headers, json={"prompt": "a dog", "input_reference": URLS[0]})
    assert answer.status_code == 409


def test_what_has_not_been_made_has_no_content(idle: Installation) -> None:
    made = create(idle, json={"prompt": "a cat", "input_reference": URLS[0]})
    answer = idle.http.get(f"/v1/videos/{made['id']}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_ready")
    idle.http.delete(f"/api/v3/predictions/{made['id']}")
    found = idle.http.get(f"/v1/videos/{made['id']}").json()
    assert (found["status"], found["error"]["code"]) == ("failed", "cancelled")
    assert idle.http.delete(f"/v1/videos/{made['id']}").json()["deleted"] is True
    assert idle.http.delete(f"/v1/videos/{made['id']}").status_code == 404


def test_a_waiting_video_is_deleted_at_once(idle: Installation) -> None:
    made = create(idle, json={"prompt": "a cat", "input_reference": URLS[0]})
    assert idle.http.delete(f"/v1/videos/{made['id']}").status_code == 200
    assert idle.http.get(f"/api/v3/predictions/{made['id']}").status_code == 404


def test_a_task_of_the_other_dialect_is_seen_and_read_in_parts(
    completed: dict[str, Any], running: Installation
) -> None:
    found = running.http.get(f"/v1/videos/{completed['id']}").json()
    assert (found["status"], found["size"], found["prompt"]) == ("completed", "960x960", "a cat, slow push in")
    path = f"/v1/videos/{completed['id']}/content"
    whole = running.http.get(path)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.content == httpx.get(completed["outputs"][0], trust_env=False).content
    part = running.http.get(path, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    beyond = running.http.get(path, headers={"Range": "bytes=999999999-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    same = running.http.get(path, headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
