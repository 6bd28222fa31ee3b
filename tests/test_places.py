"""Where files are kept: what holds for a folder and for a bucket alike, and what a bucket does besides."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from mutoscope.files import Files, FilesError, FileTooLargeError, open_files
from tests.bucket import S3Server
from tests.installation import EXAMPLES, Installation


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], None]:
    """Points this process's AWS settings at a server."""

    def point(server: S3Server) -> None:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)

    return point


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path, use: Callable[[S3Server], None]) -> Files:
    if request.param == "folder":
        return open_files((tmp_path / "files").as_uri())
    s3: S3Server = request.getfixturevalue("s3")
    use(s3)
    return open_files(s3.make_bucket(f"b{uuid.uuid4().hex}"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


def test_it_can_be_used(files: Files) -> None:
    files.check()
    assert list(files.list("scratch")) == []


def test_it_belongs_to_who_came_first(files: Files) -> None:
    assert [files.owner(name) for name in ("one", "two", "one")] == ["one", "one", "one"]


def test_a_file_is_put_whole_and_gone_when_deleted(files: Files, source: Path) -> None:
    for data in (b"one", b"two"):
        source.write_bytes(data)
        files.put("outputs/a.mp4", source)
        assert not source.exists()
        assert files.read("outputs/a.mp4") == data
    assert files.has("outputs/a.mp4")
    assert list(files.list("outputs")) == ["outputs/a.mp4"]
    files.delete("outputs/a.mp4")
    files.delete("outputs/a.mp4")
    assert files.read("outputs/a.mp4") is None
    assert not files.has("outputs/a.mp4")
    assert list(files.list("outputs")) == list(files.list("nothing")) == []


def test_what_is_too_large_is_not_read(files: Files, source: Path) -> None:
    source.write_bytes(b"four")
    files.put("uploads/1/a.png", source)
    assert files.read("uploads/1/a.png", 4) == b"four"
    with pytest.raises(FileTooLargeError):
        files.read("uploads/1/a.png", 3)


def test_what_is_there_may_be_kept(files: Files, source: Path) -> None:
    for data in (b"first", b"second"):
        source.write_bytes(data)
        if data == b"first":
            files.put("uploads/1/a.png", source, replace=False)
        else:
            with pytest.raises(FileExistsError):
                files.put("uploads/1/a.png", source, replace=False)
    assert files.read("uploads/1/a.png") == b"first"


def test_a_large_file_is_whole(files: Files, source: Path) -> None:
    data = os.urandom(20 * 2**20 + 7)
    source.write_bytes(data)
    files.put("outputs/large.mp4", source)
    assert files.read("outputs/large.mp4") == data


def test_a_file_can_be_had_on_this_machine(files: Files, source: Path) -> None:
    source.write_bytes(b"bytes")
    files.put("outputs/a.mp4", source)
    with files.local("outputs/a.mp4") as path:
        assert path is not None
        assert path.read_bytes() == b"bytes"
        assert path.suffix == ".mp4"
    with files.local("outputs/b.mp4") as path:
        assert path is None
    assert files.read("outputs/a.mp4") == b"bytes"


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a/../../x", ".", "", "a/.."])
def test_a_key_stays_inside(files: Files, key: str) -> None:
    for ask in (files.read, files.has, files.delete):
        with pytest.raises(ValueError, match="not the key of a file"):
            ask(key)


# A bucket


@pytest.fixture
def bucket(s3: S3Server, use: Callable[[S3Server], None]) -> Files:
    use(s3)
    return open_files(s3.make_bucket(f"b{uuid.uuid4().hex}"))


def test_its_links_are_good_for_one_key_and_one_method(bucket: Files, source: Path) -> None:
    source.write_bytes(b"bytes")
    bucket.put("outputs/a.mp4", source)
    read, head, send = (
        bucket.link("outputs/a.mp4", 9e9),
        bucket.link("outputs/a.mp4", 9e9, "HEAD"),
        bucket.upload_link("uploads/1/a.png", 9e9),
    )
    assert read
    assert head
    assert send
    assert urlsplit(read).path.endswith("/some/prefix/outputs/a.mp4")
    assert "X-Amz-Expires=604800" in read  # the longest that S3 honours
    answer = httpx.get(read, headers={"Range": "bytes=1-2"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"yt", "video/mp4")
    assert httpx.head(head).status_code == 200
    assert httpx.put(send, content=b"sent", headers={"Content-Type": "image/png"}).status_code == 200
    assert bucket.read("uploads/1/a.png") == b"sent"


def test_callers_may_reach_it_by_another_endpoint(s3: S3Server, use: Callable[[S3Server], None]) -> None:
    use(s3)
    link = open_files("s3://bucket/x", "https://media.example.com").link("outputs/a.mp4", 9e9)
    assert link is not None
    assert link.startswith("https://media.example.com/bucket/x/outputs/a.mp4?")


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://bucket/../x", "s3://bucket?x=1"])
def test_an_address_that_is_none(url: str, s3: S3Server, use: Callable[[S3Server], None]) -> None:
    use(s3)
    with pytest.raises(FilesError, match=r"it must be s3://bucket or s3://bucket/prefix"):
        open_files(url)


def test_what_is_wrong_with_a_bucket_is_said_when_it_is_opened(
    s3: S3Server, use: Callable[[S3Server], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3)
    with pytest.raises(FilesError, match="there is no such bucket at this endpoint; create it"):
        open_files("s3://nobody-made-this").check()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FilesError, match="bucket can't be used"):
        open_files("s3://bucket").check()
    strict = S3Server(is_strict=True)
    try:
        url = strict.make_bucket("closed")
        use(strict)
        with pytest.raises(FilesError, match=r"these credentials may not write|credentials are not known"):
            open_files(url).check()
    finally:
        strict.close()


@pytest.mark.slow
def test_a_task_from_its_uploads_to_its_end(s3: S3Server, install: Callable[..., Installation]) -> None:
    url = s3.make_bucket(f"b{uuid.uuid4().hex}")
    installation = install(files_url=url)
    installation.env |= s3.env
    installation.start()
    api = installation.http

    data = (EXAMPLES / "chelsea.jpg").read_bytes()
    asked = {"filename": "chelsea.jpg", "size": len(data), "content_type": "image/jpeg"}
    ticket = api.post("/api/v3/media/uploads", json=asked).json()["data"]
    upload = ticket["upload"]
    assert upload["url"].startswith(s3.endpoint)  # straight to the bucket
    assert httpx.put(upload["url"], content=data, headers=upload["headers"]).status_code == 200
    back = httpx.get(ticket["download_url"], follow_redirects=True)
    assert (back.content, back.headers["content-type"]) == (data, "image/jpeg")

    by_form = installation.upload(EXAMPLES / "chelsea.jpg")
    task = installation.submit(prompt="slow push in", images=[ticket["download_url"], by_form], aspect_ratio="1:1")
    found = installation.wait(task["id"])
    assert found["status"] == "completed", found
    output = found["outputs"][0]
    assert output.startswith(s3.endpoint)
    assert urlsplit(output).path.endswith(".mp4")
    video = httpx.get(output)
    assert (video.content[4:8], video.headers["content-type"]) == (b"ftyp", "video/mp4")
    assert httpx.get(found["poster"]).content[:2] == b"\xff\xd8"
    sheet = api.get(f"/v1/videos/{task['id']}/content?variant=spritesheet", follow_redirects=True)
    assert sheet.content[:2] == b"\xff\xd8", sheet.text
    assert not list((installation.home / "files").glob("**/*.mp4"))

    assert api.delete(f"/api/v3/predictions/{task['id']}").json()["data"]["status"] == "deleted"
    assert httpx.get(output).status_code == 404


def test_serve_says_what_is_wrong_before_it_serves(s3: S3Server, install: Callable[..., Installation]) -> None:
    installation = install(files_url="s3://nobody-made-this")
    installation.env |= s3.env
    done = installation.run("serve", "--sandbox", "--port", str(installation.port), check=False)
    assert done.returncode == 1
    assert "there is no such bucket at this endpoint" in done.stderr
    assert "Traceback" not in done.stderr
