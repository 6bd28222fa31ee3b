"""Both ways to upload a file, and that what was uploaded is a reference like any other."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from mutoscope.api.uploads import safe_name
from mutoscope.files import Links
from tests.installation import EXAMPLES, Installation

PICTURE = (EXAMPLES / "chelsea.jpg").read_bytes()
LIMIT = 200_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server that takes files of 200 kB at most and fetches from no private network."""
    installation = Installation(tmp_path_factory.mktemp("small") / "home", max_image_bytes=LIMIT)
    installation.env["MUTOSCOPE_ALLOW_NETWORKS"] = ""
    yield installation.start()
    installation.close()


def send(installation: Installation, file: Any, version: str = "v3", name: str = "file") -> httpx.Response:
    return installation.http.post(f"/api/{version}/media/upload/binary", files={name: file})


def ticket(installation: Installation, version: str = "v3", **asked: Any) -> httpx.Response:
    return installation.http.post(f"/api/{version}/media/uploads", json=asked)


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == status
    message: str = answer.json()["message"]
    return message


def put(upload: dict[str, Any], data: bytes) -> httpx.Response:
    """Send the bytes as clients do: with exactly the ticket's headers, and no key."""
    assert upload["method"] == "PUT"
    return httpx.put(upload["url"], content=data, headers=upload["headers"])


# Multipart


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", None])
def test_multipart(small: Installation, version: str, kind: str | None) -> None:
    if kind is None:  # an old client sends the part without a type
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="me.jpg"\r\n\r\n'
            + PICTURE
            + b"\r\n--b--\r\n"
        )
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = small.http.post(f"/api/{version}/media/upload/binary", content=body, headers=headers)
    else:
        answer = send(small, ("me.jpg", PICTURE, kind), version)
    assert answer.status_code == 200, answer.text
    assert {name: answer.json()[name] for name in ("code", "message")} == {"code": 200, "message": "success"}
    data = answer.json()["data"]
    assert set(data) == {"type", "download_url", "filename", "size"}
    assert (data["type"], data["filename"], data["size"]) == ("image", "me.jpg", len(PICTURE))
    assert httpx.URL(data["download_url"]).path.endswith("/me.jpg")
    downloaded = httpx.get(data["download_url"])
    assert downloaded.content == PICTURE
    assert downloaded.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.png", "x.png"),
        ("..\\..\\x.png", "x.png"),
        ("/abs/x.png", "x.png"),
        ("C:\\me\\x.png", "x.png"),
        ("Grüße an Åsa 😀.png", "Gr-e-an-sa-.png"),
        ("写真.png", "png"),
        (".htaccess", "htaccess"),
        ("..", "file"),
        ("...---", "file"),
        ("a b%20c#d?e.png", "a-b-20c-d-e.png"),
        ("x\r\nSet-Cookie: a=b.png", "x-Set-Cookie-a-b.png"),
        ("a" * 300 + ".png", "a" * 76 + ".png"),
        ("page.html", "page.html"),
    ],
)
def test_any_name_becomes_a_safe_one(small: Installation, name: str, kept: str) -> None:
    assert safe_name(name) == kept
    answer = send(small, (name, PICTURE, "image/jpeg"))
    if answer.status_code == 400:  # httpx writes no line breaks into a header, nor may anybody
        assert "\r" in name
        return
    data = answer.json()["data"]
    downloaded = httpx.get(data["download_url"])
    assert (downloaded.status_code, downloaded.content) == (200, PICTURE)
    assert downloaded.headers["content-type"] in ("image/png", "application/octet-stream")


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a.js", "a.xml", "a", "a.png.exe"])
def test_nothing_uploaded_is_served_as_a_page(small: Installation, name: str) -> None:
    url = send(small, (name, b"<script>alert(1)</script>", "text/html")).json()["data"]["download_url"]
    headers = httpx.get(url).headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def test_multipart_can_be_wrong_in_many_ways(small: Installation) -> None:
    path = "/api/v3/media/upload/binary"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert "empty" in refused(send(small, ("a.png", b"", "image/png")), 400)
    assert "field `file`" in refused(send(small, ("a.png", PICTURE), name="image"), 400)
    assert "field `file`" in refused(small.http.post(path, data={"file": "text"}, files={"x": b"y"}), 400)
    assert "field `file`" in refused(small.http.post(path, content=PICTURE), 415)
    assert "field `file`" in refused(small.http.post(path, json={"file": "x"}), 415)
    refused(small.http.post(path, content=b"", headers=kind), 400)
    refused(small.http.post(path, content=b"no parts", headers=kind), 400)
    refused(small.http.post(path, content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)
    both = [("file", ("a.png", PICTURE)), ("file", ("b.png", PICTURE))]
    refused(small.http.post(path, files=both), 400)


def test_a_file_that_is_too_large_is_413(small: Installation) -> None:
    assert send(small, ("a.png", bytes(LIMIT))).status_code == 200
    for size in (LIMIT + 1, LIMIT * 2):
        assert "larger than 0.191 MB" in refused(send(small, ("a.png", bytes(size))), 413)
    chunks = iter([b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', bytes(LIMIT * 2)])
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(small.http.post("/api/v3/media/upload/binary", content=chunks, headers=headers), 413)


# Tickets


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_ticket_and_a_put(small: Installation, version: str) -> None:
    answer = ticket(small, version, filename="ref.jpg", size=len(PICTURE), content_type="image/jpeg")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["type"], data["filename"], data["size"]) == ("image", "ref.jpg", len(PICTURE))
    assert data["upload"]["headers"] == {"Content-Type": "image/jpeg", "If-None-Match": "*"}
    assert httpx.get(data["download_url"]).status_code == 404  # nothing was sent yet
    assert put(data["upload"], PICTURE).status_code == 200
    assert httpx.get(data["download_url"]).content == PICTURE


def test_a_ticket_knows_the_type_by_the_name(small: Installation) -> None:
    for name, kind in (
        ("a.png", "image/png"),
        ("a", "application/octet-stream"),
        ("a.html", "application/octet-stream"),
    ):
        data = ticket(small, filename=name, size=5).json()["data"]
        assert data["upload"]["headers"]["Content-Type"] == kind


def test_the_same_bytes_may_be_sent_again_and_others_not(small: Installation) -> None:
    data = ticket(small, filename="a.png", size=len(PICTURE)).json()["data"]
    for _ in range(2):
        assert put(data["upload"], PICTURE).status_code == 200
    assert "Another file" in refused(put(data["upload"], PICTURE[::-1]), 412)
    assert httpx.get(data["download_url"]).content == PICTURE


def test_of_different_bytes_sent_at_once_one_wins(small: Installation) -> None:
    files = [bytes([number]) * LIMIT for number in range(8)]
    data = ticket(small, filename="a.png", size=LIMIT).json()["data"]
    with ThreadPoolExecutor(len(files)) as senders:
        answers = list(senders.map(lambda file: put(data["upload"], file).status_code, files))
    assert sorted(answers) == [200] + [412] * (len(files) - 1)
    assert httpx.get(data["download_url"]).content == files[answers.index(200)]


def test_only_the_announced_size_is_taken(small: Installation) -> None:
    data = ticket(small, filename="a.png", size=100).json()["data"]
    assert refused(put(data["upload"], bytes(99)), 400) == "The ticket was for 100 bytes, and 99 were sent."
    assert refused(put(data["upload"], bytes(101)), 400) == "The ticket was for 100 bytes, and more were sent."
    assert refused(put(data["upload"], bytes(5_000_000)), 400)
    assert refused(put(data["upload"], b""), 400)
    assert httpx.get(data["download_url"]).status_code == 404
    assert put(data["upload"], bytes(100)).status_code == 200
    assert list((small.home / "scratch").glob("upload-*")) == []


def test_a_ticket_is_for_one_file_one_method_and_one_hour(small: Installation) -> None:
    data = ticket(small, filename="a.png", size=3).json()["data"]
    url = httpx.URL(data["upload"]["url"])
    assert 3500 < int(url.params["expires"]) - time.time() <= 3600
    refused(httpx.get(url), 403)
    refused(httpx.put(data["download_url"], content=b"abc"), 403)
    refused(httpx.put(url.copy_with(path=url.path.replace("a.png", "b.png")), content=b"abc"), 403)
    key = url.path.removeprefix("/files/")
    links = Links((small.home / "secrets" / "links").read_bytes())
    refused(httpx.put(small.url + links.sign(key, time.time() - 2, "PUT"), content=b"abc"), 403)
    refused(httpx.put(small.url + links.sign("uploads/0/a.png", time.time() + 60, "PUT"), content=b"abc"), 404)
    refused(httpx.put(small.url + links.sign("outputs/a.mp4", time.time() + 60, "PUT"), content=b"abc"), 404)
    assert put(data["upload"], b"abc").status_code == 200


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, "filename"),
        ({"filename": "a"}, "size"),
        ({"filename": "a", "size": 0}, "size is 0"),
        ({"filename": "a", "size": -1}, "size is -1"),
        ({"filename": "a", "size": "x"}, 'size is "x"'),
        ({"filename": "a", "size": 1.5}, "size is 1.5"),
        ({"filename": "", "size": 5}, 'filename is ""'),
        ({"filename": ["a"], "size": 5}, 'filename is ["a"]'),
        ({"filename": "a", "size": 5, "content_type": "a\r\nb"}, "content_type is "),
        ({"filename": "a", "size": 5, "content_type": "é"}, "content_type is "),
    ],
)
def test_a_ticket_can_be_asked_wrongly(small: Installation, asked: dict[str, Any], named: str) -> None:
    assert refused(ticket(small, **asked), 400).startswith(named)


def test_a_ticket_for_too_much_is_413(small: Installation) -> None:
    for size in (LIMIT + 1, 10**30):
        refused(ticket(small, filename="a.png", size=size), 413)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_ticket_without_json(small: Installation, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused(small.http.post("/api/v3/media/uploads", content=body, headers=headers), 400)


# As references


def test_an_upload_is_a_reference_though_private_networks_are_closed(small: Installation) -> None:
    by_ticket = ticket(small, filename="a.jpg", size=len(PICTURE)).json()["data"]
    put(by_ticket["upload"], PICTURE)
    for url in (by_ticket["download_url"], small.upload(EXAMPLES / "chelsea.jpg")):
        task = small.submit(prompt="a", images=[url], aspect_ratio="1:1")
        while (found := small.result(task["id"]))["progress"] <= 0.05:
            assert not found["error"], found["error"]
            time.sleep(0.02)
        small.http.delete(f"/api/v3/predictions/{task['id']}")
        small.wait(task["id"])
    other = small.wait(small.submit(prompt="a", images=[f"{small.url}/healthz"])["id"])
    assert (other["status"], other["code"]) == ("failed", 1402)


def test_files_of_one_name_never_meet(install: Callable[..., Installation]) -> None:
    installation = install(workers=0).start()
    key = installation.run("keys", "create", "second").stdout.strip()
    urls: dict[str, bytes] = {}
    with httpx.Client(base_url=installation.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False) as second:
        for number, client in enumerate((installation.http, second, installation.http, second)):
            data = hashlib.sha256(bytes([number])).digest()
            sent = client.post("/api/v3/media/upload/binary", files={"file": ("me.png", data)}).json()["data"]
            urls[sent["download_url"]] = data
            asked = client.post("/api/v3/media/uploads", json={"filename": "me.png", "size": 32}).json()["data"]
            put(asked["upload"], data[::-1])
            urls[asked["download_url"]] = data[::-1]
    assert len(urls) == 8
    for url, data in urls.items():
        assert httpx.get(url).content == data
