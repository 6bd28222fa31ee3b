"""Outputs and uploads over HTTP: signed links, byte ranges, validators; and the folder they lie in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mutoscope.files import FilesError, Links, LocalFiles, open_files, read_secret
from tests.installation import Installation


@pytest.fixture(scope="module")
def link(completed: dict[str, Any]) -> httpx.URL:
    """The link to a finished video on the shared server."""
    return httpx.URL(completed["outputs"][0])


@pytest.fixture(scope="module")
def video(link: httpx.URL) -> bytes:
    return httpx.get(link).content


@pytest.fixture(scope="module")
def bare() -> Iterator[httpx.Client]:
    """A caller without a key."""
    with httpx.Client(trust_env=False) as client:
        yield client


def ask(client: httpx.Client, link: httpx.URL, **headers: str) -> httpx.Response:
    return client.get(link, headers={name.replace("_", "-"): value for name, value in headers.items()})


# Reading


def test_an_output_is_an_absolute_mp4_url_that_needs_no_key(bare: httpx.Client, link: httpx.URL) -> None:
    assert link.is_absolute_url
    assert link.path.endswith(".mp4")
    answer = bare.get(link)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content[4:8] == b"ftyp"


def test_head_tells_without_sending(bare: httpx.Client, link: httpx.URL, video: bytes) -> None:
    answer = bare.head(link)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["content-type"], int(answer.headers["content-length"])) == ("video/mp4", len(video))
    assert answer.headers["etag"] == bare.get(link).headers["etag"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=7-7", 7, 7),
        ("bytes=100-", 100, -1),
        ("bytes=-10", -10, -1),
        ("bytes=0-99999999999", 0, -1),
        ("bytes=-99999999999", 0, -1),
        ("BYTES = 3 - 4".replace(" ", ""), 3, 4),
    ],
)
def test_a_range(bare: httpx.Client, link: httpx.URL, video: bytes, asked: str, first: int, last: int) -> None:
    start, end = first % len(video), last % len(video)
    answer = ask(bare, link, Range=asked)
    assert answer.status_code == 206
    assert answer.content == video[start : end + 1]
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(video)}"
    assert answer.headers["content-type"] == "video/mp4"


def test_many_ranges(bare: httpx.Client, link: httpx.URL, video: bytes) -> None:
    answer = ask(bare, link, Range="bytes=0-1, 10-14,-3")
    assert answer.status_code == 206
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    parts = answer.content.split(b"--" + boundary.encode())
    bodies = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:-1]]
    assert bodies == [video[0:2], video[10:15], video[-3:]]
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    "asked",
    ["bytes=99999999-", "bytes=5-2", "bytes=", "bytes=-", "bytes=x-y", "bytes=-0", "bytes=1", "lines=0-1", "0-1",
     "bytes=0-1,x", "bytes=0-1,99999999-", "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_a_range_that_cannot_be_read_is_416(bare: httpx.Client, link: httpx.URL, video: bytes, asked: str) -> None:
    answer = ask(bare, link, Range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(video)}"
    assert answer.json()["error_code"] == "range_not_satisfiable"


def test_if_none_match(bare: httpx.Client, link: httpx.URL, video: bytes) -> None:
    etag = bare.head(link).headers["etag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = ask(bare, link, If_None_Match=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    for other in ('"other"', etag.strip('"')):
        assert ask(bare, link, If_None_Match=other).content == video


def test_if_range(bare: httpx.Client, link: httpx.URL, video: bytes) -> None:
    headers = bare.head(link).headers
    for same in (headers["etag"], headers["last-modified"]):
        assert ask(bare, link, Range="bytes=0-1", If_Range=same).content == video[:2]
        assert ask(bare, link, Range="bytes=x", If_Range=same).status_code == 416
    for changed in ('"other"', "W/" + headers["etag"]):
        for asked in ("bytes=0-1", "bytes=x"):
            answer = ask(bare, link, Range=asked, If_Range=changed)
            assert (answer.status_code, answer.content) == (200, video)


# Links


def edited(link: httpx.URL, **query: str) -> httpx.URL:
    return link.copy_merge_params(query)


def test_a_link_is_good_for_its_key_its_method_and_its_time(
    running: Installation, bare: httpx.Client, link: httpx.URL, completed: dict[str, Any]
) -> None:
    signature, expires = link.params["signature"], int(link.params["expires"])
    assert time.time() + 6.9 * 86_400 < expires < time.time() + 7 * 86_400 + 60
    poster = httpx.URL(completed["poster"])
    bad = [
        link.copy_with(query=None),
        edited(link, signature=""),
        edited(link, signature=signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        edited(link, signature=signature.upper()),
        edited(link, signature="é"),
        edited(link, expires=str(expires + 1)),
        edited(link, expires=f"0{expires}"[:1] + f"{expires}x"),
        edited(link, expires="-1"),
        edited(link, expires="٣"),
        edited(link, expires="9" * 5000),
        edited(poster, signature=signature, expires=str(expires)),
        link.copy_with(path=poster.path),
        link.copy_with(path="/files/outputs/x.mp4"),
        link.copy_with(path="/files/"),
    ]
    for wrong in bad:
        answer = bare.get(wrong)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "bad_link"), wrong
    assert bare.put(link, content=b"x").status_code == 403
    assert running.http.put(str(link), content=b"x").status_code == 403  # a key does not help
    assert bare.get(link).status_code == 200


def test_an_expired_link_is_refused(running: Installation, bare: httpx.Client, link: httpx.URL) -> None:
    links = Links((running.home / "secrets" / "links").read_bytes())
    key = link.path.removeprefix("/files/")
    assert bare.get(running.url + links.sign(key, time.time() + 60)).status_code == 200
    assert bare.get(running.url + links.sign(key, time.time() - 2)).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["../mutoscope.db", "..%2fmutoscope.db", "outputs/../../mutoscope.db", "%2e%2e/%2e%2e/etc/passwd",
     "/etc/passwd", "%2fetc%2fpasswd", "outputs/%00.mp4", "..%5cmutoscope.db", "outputs", ".", "%2e%2e", "a" * 3000],
)  # fmt: skip
def test_no_path_leaves_the_folder(running: Installation, path: str) -> None:
    import http.client
    from contextlib import closing

    with closing(http.client.HTTPConnection("127.0.0.1", running.port)) as connection:  # it sends paths as they are
        connection.request("GET", f"/files/{path}?expires=9999999999&signature={'0' * 64}")
        assert connection.getresponse().status == 403


def test_even_a_signed_path_does_not_leave_the_folder(running: Installation, bare: httpx.Client) -> None:
    links = Links((running.home / "secrets" / "links").read_bytes())
    for key in ("../mutoscope.db", "../secrets/keys", "/etc/passwd", "outputs/../../mutoscope.db", "x\0"):
        url = running.url + links.sign(key, time.time() + 60).replace("..", "%2e%2e")
        assert bare.get(url).status_code == 403, key


def test_a_signed_link_to_what_is_gone_is_404(running: Installation, bare: httpx.Client) -> None:
    links = Links((running.home / "secrets" / "links").read_bytes())
    for key in ("outputs/none.mp4", "outputs", "outputs/none.mp4/below"):
        answer = bare.get(running.url + links.sign(key, time.time() + 60))
        assert (answer.status_code, answer.json()["error_code"]) == (404, "file_gone"), key


def test_our_own_link_is_known_whatever_host_it_names() -> None:
    links = Links(b"s" * 32)
    path = links.sign("uploads/1f/a b.png", time.time() + 60)
    for base in ("http://127.0.0.1:8787", "https://video.example", "https://video.example/behind/a/path"):
        assert links.key_of(base + path) == "uploads/1f/a b.png"
    for other in (
        "https://video.example" + path[:-1],
        "https://video.example" + path.replace("uploads", "outputs"),
        "https://video.example" + path.partition("?")[0],
        "https://video.example" + links.sign("uploads/1f/a b.png", time.time() + 60, "PUT"),
        "https://video.example" + links.sign("uploads/1f/a b.png", time.time() - 2),
        "https://video.example/files/uploads/1f/a.png",
        "https://[broken" + path,
    ):
        assert links.key_of(other) is None
    assert Links(b"t" * 32).key_of("https://video.example" + path) is None


# The folder


def test_a_folder_goes_with_its_only_file(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    for key in ("uploads/1/a.png", "uploads/2/a.png", "uploads/2/b.png", "outputs/a.mp4", "alone"):
        (tmp_path / "source").write_bytes(b"bytes")
        files.put(key, tmp_path / "source")
    for key in ("uploads/1/a.png", "uploads/2/a.png", "outputs/a.mp4", "alone"):
        files.delete(key)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "outputs",
        "uploads",
        "uploads/2",
        "uploads/2/b.png",
    ]


def test_a_file_comes_from_another_file_system_too(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    files = LocalFiles(tmp_path)
    source = shared_memory / f"mutoscope-{tmp_path.name}"
    source.write_bytes(b"bytes")
    files.put("a/b", source)
    assert (files.read("a/b"), source.exists()) == (b"bytes", False)
    source.write_bytes(b"others")
    with pytest.raises(FileExistsError):
        files.put("a/b", source, replace=False)
    source.unlink()
    assert list(files.list("a")) == ["a/b"]


def test_a_symlink_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "files")
    (tmp_path / "files" / "out").symlink_to("/etc")
    with pytest.raises(ValueError, match="not the key of a file"):
        files.path("out/passwd")


def test_a_folder_with_odd_letters(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d%41é"
    files = open_files(folder.as_uri())
    assert isinstance(files, LocalFiles)
    assert files.root == folder


@pytest.mark.parametrize("url", ["ftp://bucket", "/plain/path", "file://elsewhere/x", ""])
def test_another_place_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(FilesError, match="it must be file:///folder or s3://bucket/prefix"):
        open_files(url)


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FilesError, match="can't be used: Not a directory"):
        open_files((tmp_path / "file" / "below").as_uri())


def test_a_secret_is_made_once_and_must_be_whole(tmp_path: Path) -> None:
    secret = read_secret(tmp_path, "links")
    assert len(secret) == 32
    assert read_secret(tmp_path, "links") == secret
    assert read_secret(tmp_path, "keys") != secret
    path = tmp_path / "secrets" / "links"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"")
    with pytest.raises(FilesError, match="has 0 bytes instead of 32"):
        read_secret(tmp_path, "links")
