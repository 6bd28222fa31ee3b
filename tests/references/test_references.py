"""From what a caller sent to the images an engine gets, and what the caller is told when that fails."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from urllib.parse import quote

import pytest

from mutoscope.engines import Image
from mutoscope.references import Limits, Picture, Recent, fetch_images
from mutoscope.tasks import ReferenceUnusableError

from .craft import quadrants, save
from .hostile import png_header, zeros
from .servers import Canary, misbehaving, serving

MINE = "http://mutoscope.test/files/abc?signature=s"
PNG = save(quadrants(), "PNG")
LOCAL = Limits(allow_networks=(ip_network("127.0.0.1/32"),))


def fetch(*references: str, limits: Limits = LOCAL, uploads: dict[str, bytes] | None = None) -> list[Image]:
    def resolve(host: str) -> Sequence[str]:
        if host.endswith(".test"):
            return ["127.0.0.1"]
        raise socket.gaierror

    opened = (uploads or {}).get
    return list(fetch_images(references, limits, open_upload=opened, longest_side=None, resolve=resolve))


def refusal(*references: str, limits: Limits = LOCAL, uploads: dict[str, bytes] | None = None) -> str:
    with pytest.raises(ReferenceUnusableError) as refused:
        fetch(*references, limits=limits, uploads=uploads)
    assert refused.value.code == 1402
    return str(refused.value)


def uri(data: bytes, header: str = "image/png;base64") -> str:
    return f"data:{header}," + b64encode(data).decode()


@pytest.fixture
def server() -> Iterator[Canary]:
    with serving("127.0.0.1", body=PNG) as server:
        yield server


def test_every_kind_of_reference_in_order(server: Canary) -> None:
    small = save(quadrants((80, 70)), "PNG")

    images = fetch(
        f"http://a.test:{server.port}/x.png", uri(small), MINE, uploads={MINE: save(quadrants((200, 100)), "JPEG")}
    )

    assert [image.pixels.shape for image in images] == [(64, 96, 3), (70, 80, 3), (100, 200, 3)]


def test_each_image_is_ready_before_the_next_is_fetched(server: Canary) -> None:
    url = f"http://a.test:{server.port}/"
    images = fetch_images(
        [url, url], LOCAL, open_upload=lambda url: None, longest_side=32, resolve=lambda h: ["127.0.0.1"]
    )

    assert server.hits == []
    assert next(images).pixels.shape == (21, 32, 3)
    assert len(server.hits) == 1


def test_files_of_one_name_do_not_meet() -> None:
    with serving("127.0.0.1", body=PNG) as one, serving("127.0.0.1", body=save(quadrants((128, 128)), "PNG")) as other:
        urls = [f"http://a.test:{server.port}/me.png" for server in (one, other, one)]

        assert [image.pixels.shape[1] for image in fetch(*urls)] == [96, 128, 96]
    assert len(one.hits) == 2  # and nothing is kept


def test_pixels_are_held_by_their_bytes_for_the_scope_that_asked_last() -> None:
    recent = Recent()

    def decode(scope: str, data: bytes = PNG, longest_side: int | None = 32) -> Picture:
        return recent.decoder(scope)(data, LOCAL, longest_side=longest_side, deadline=time.monotonic() + 30)

    first = decode("ours")
    assert decode("ours") is first
    assert decode("ours", longest_side=None).pixels.shape == (64, 96, 3)
    assert decode("ours", save(quadrants((70, 70)), "PNG")).pixels.shape == (32, 32, 3)
    assert decode("ours") is first

    theirs = decode("theirs")
    assert theirs is not first
    assert decode("ours") is not first, "what another scope asked for took its place"
    assert decode("") is not decode(""), "without a scope, nothing is held"


def test_no_more_pixels_are_held_than_a_request_needs() -> None:
    decode = Recent().decoder("ours")
    files = [save(quadrants((64 + number, 64)), "PNG") for number in range(5)]

    def pixels(data: bytes) -> Picture:
        return decode(data, LOCAL, longest_side=None, deadline=time.monotonic() + 30)

    first, *others = [pixels(data) for data in files]
    assert [pixels(data) for data in files[1:]] == others
    assert pixels(files[0]) is not first


@pytest.mark.parametrize(
    "reference",
    [
        uri(PNG),
        uri(PNG, ";base64"),
        uri(PNG, "base64"),
        uri(PNG, "image/jpeg;base64"),
        uri(PNG, "application/octet-stream;charset=utf-8;base64"),
        uri(PNG, "image/png; name=a.png; BASE64"),
        uri(PNG).replace("data:", "DATA:"),
        uri(PNG).rstrip("="),
        uri(PNG) + "==",
        "data:image/png;base64," + quote(b64encode(PNG).decode(), safe=""),
        "data:image/png;base64," + urlsafe_b64encode(PNG).decode(),
        "data:image/png;base64,\n" + "\r\n ".join(b64encode(PNG).decode()[at : at + 76] for at in range(0, 9999, 76)),
    ],
)
def test_a_data_uri_is_read_generously(reference: str) -> None:
    assert fetch(reference)[0].pixels.shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("data:text/plain,hello", "it is not base64; a data URI must begin like data:image/png;base64."),
        ("data:image/svg+xml,<svg/>", "it is not base64; a data URI must begin like data:image/png;base64."),
        ("data:image/png;base64", "it is not base64; a data URI must begin like data:image/png;base64."),
        ("data:image/png;base64,", "the file is empty."),
        ("data:image/png;base64,!!!!", "its base64 is broken or cut short."),
        ("data:image/png;base64,äöü=", "its base64 is broken or cut short."),
        ("data:image/png;base64,AAAAA", "its base64 is broken or cut short."),
        (uri(PNG[:60]), "the file is damaged or incomplete."),
        (
            uri(b"<svg/>"),
            "not an image this server reads (JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF); it looks like SVG.",
        ),
    ],
)
def test_a_data_uri_s_fault_is_named(reference: str, message: str) -> None:
    assert refusal(uri(PNG), reference) == f"Image 2 (data URI): {message}"


def test_no_file_may_be_larger_than_the_limit(server: Canary) -> None:
    tiny = Limits(max_bytes=50, allow_networks=LOCAL.allow_networks)
    small = "the file is larger than 4.77e-05 MB."

    assert refusal(uri(PNG), limits=tiny) == f"Image 1 (data URI): {small}"
    assert refusal("data:;base64," + "A" * 200, limits=tiny) == f"Image 1 (data URI): {small}"
    assert refusal(MINE, uploads={MINE: PNG}, limits=tiny) == f"Image 1 (upload): {small}"
    assert refusal(f"http://cdn.test:{server.port}/", limits=tiny) == f"Image 1 (cdn.test): {small}"
    assert "larger than 30 MB" in refusal(MINE, uploads={MINE: bytes(30 * 2**20 + 1)})


def test_a_url_s_fault_is_named_without_its_secrets(server: Canary) -> None:
    secret = "?X-Amz-Signature=verysecret"
    server.redirects |= {f"/private{secret}": (302, "http://10.0.0.7/"), f"/gone{secret}": (410, "")}
    at = f"http://cdn.test:{server.port}"

    assert refusal(f"{at}/gone{secret}") == "Image 1 (cdn.test): the server answered 410 Gone."
    assert refusal(f"http://10.0.0.5/{secret}") == (
        "Image 1 (10.0.0.5): this address is in a private network, which this server does not fetch from."
    )
    assert refusal(f"{at}/private{secret}") == (
        "Image 1 (cdn.test): after a redirect, this address is in a private network, "
        "which this server does not fetch from."
    )
    assert refusal(f"https://nowhere.invalid/{secret}") == "Image 1 (nowhere.invalid): there is no host of this name."
    assert refusal(f"https://user:pass@host/{secret}") == (
        "Image 1: the URL holds a user name or password, which this server does not send."
    )
    assert refusal("me.png") == "Image 1: only http:// and https:// URLs can be fetched."


def test_an_error_carries_no_trace_of_what_was_sent() -> None:
    with serving("127.0.0.1", body=b"<html>Log in at http://10.0.0.1</html>") as server:
        assert refusal(f"http://a.test:{server.port}/").endswith(
            "it looks like a web page (HTML), so link to the picture itself."
        )


def test_the_time_allowed_covers_everything() -> None:
    limits = Limits(timeout_seconds=0.5, allow_networks=LOCAL.allow_networks)

    def slow(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not ended.wait(0.02):
            connection.sendall(b"x")

    started = time.monotonic()
    with misbehaving(slow) as port:
        assert refusal(f"http://a.test:{port}/", limits=limits) == "Image 1 (a.test): it took too long to arrive."
    assert time.monotonic() - started < 1.5


def test_a_bomb_is_named_and_the_next_task_is_served() -> None:
    bomb = uri(png_header(30_000, 30_000, body=zeros(100)))

    assert refusal(bomb) == "Image 1 (data URI): the picture (30000 × 30000) has more than 40 megapixels."
    assert fetch(uri(PNG))[0].pixels.shape == (64, 96, 3)
