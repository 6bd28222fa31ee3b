"""No URL leads a stranger into the network behind this server, and no server holds it up or fills it."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mutoscope.references.addresses import refusal
from mutoscope.references.fetch import get, post
from mutoscope.references.targets import FetchError, parse

from .servers import Canary, misbehaving, serving
from .urls import FORBIDDEN, NAMES

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
LOOPBACK = (ip_network("127.0.0.1/32"), ip_network("::1/128"))
NOWHERE_NEAR = "no connection could be made"


def fetch(url: str, *, seconds: float = 5, max_bytes: int = 10_000, **options: Any) -> bytes:
    options = {"max_redirects": 3, "resolve": names} | options
    return get(url, max_bytes=max_bytes, deadline=time.monotonic() + seconds, **options)


def names(host: str) -> Sequence[str]:
    if host not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")
    return NAMES[host]


@pytest.fixture
def canaries() -> Iterator[list[Canary]]:
    """Two servers on one port: IPv4 on every address (so 0.0.0.0 and all of 127/8 reach it), and IPv6."""
    with ExitStack() as stack:
        first = stack.enter_context(serving("0.0.0.0"))
        yield [first, stack.enter_context(serving("::1", first.port))]


class TestForbiddenAddresses:
    def test_the_canaries_sing(self, canaries: list[Canary]) -> None:
        port = canaries[0].port
        reaching = ("127.0.0.1", "127.0.0.53", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "loopback.test", "aaaa.test")

        for host in reaching:
            assert fetch(f"http://{host}:{port}/", allow_networks=EVERYWHERE) == b"canary"

        assert [len(canary.hits) for canary in canaries] == [5, 2]

    def test_no_url_reaches_them(self, canaries: list[Canary]) -> None:
        assert len(FORBIDDEN) >= 120
        for url in FORBIDDEN:
            with pytest.raises(FetchError) as refused:
                fetch(url.replace("{port}", str(canaries[0].port)))
            # Refused by rule, not by luck: no connection was even tried.
            assert NOWHERE_NEAR not in str(refused.value), url
        assert [canary.connections for canary in canaries] == [0, 0]

    def test_no_delivery_reaches_them(self, canaries: list[Canary]) -> None:
        for url in FORBIDDEN:
            url = url.replace("{port}", str(canaries[0].port))
            with pytest.raises(FetchError) as refused:
                post(url, b"{}", {}, deadline=time.monotonic() + 5, resolve=names)
            assert NOWHERE_NEAR not in str(refused.value), url
        assert [canary.connections for canary in canaries] == [0, 0]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_reaches_them(self, status: int, canaries: list[Canary]) -> None:
        with serving("127.0.0.2") as server:
            for url in FORBIDDEN:
                # A relative one leads back to where the stranger may be; "" is checked elsewhere.
                location = url.replace("{port}", str(canaries[0].port))
                if not location.strip(" \0").startswith("http://") or "\n" in location or "\t" in location:
                    continue
                server.redirects["/"] = (status, location.encode().decode("latin-1"))
                with pytest.raises(FetchError) as refused:
                    fetch(f"http://127.0.0.2:{server.port}/", allow_networks=[ip_network("127.0.0.2/32")])
                assert NOWHERE_NEAR not in str(refused.value), url
        assert [canary.connections for canary in canaries] == [0, 0]

    def test_a_name_is_looked_up_once_and_that_address_is_used(self, canaries: list[Canary]) -> None:
        answers = itertools.chain([["127.0.0.2"]], itertools.repeat(["127.0.0.1"]))
        asked: list[str] = []

        def rebind(host: str) -> Sequence[str]:
            asked.append(host)
            return next(answers)

        with serving("127.0.0.2", body=b"public") as server:
            url = f"http://rebind.test:{server.port}/"
            assert fetch(url, resolve=rebind, allow_networks=[ip_network("127.0.0.2/32")]) == b"public"
        assert asked == ["rebind.test"]

    def test_a_name_that_changes_its_address_between_redirects(self, canaries: list[Canary]) -> None:
        answers = itertools.chain([["127.0.0.2"]], itertools.repeat(["127.0.0.1"]))
        with serving("127.0.0.2") as server:
            server.redirects["/"] = (302, f"http://rebind.test:{canaries[0].port}/")
            with pytest.raises(FetchError, match="after a redirect, this host's address is in the loopback network"):
                fetch(
                    f"http://rebind.test:{server.port}/",
                    resolve=lambda host: next(answers),
                    allow_networks=[ip_network("127.0.0.2/32")],
                )
        assert canaries[0].connections == 0

    def test_a_thousand_rebindings(self, canaries: list[Canary]) -> None:
        turns = itertools.cycle([["93.184.215.14", "127.0.0.1"], ["127.0.0.1"], ["::1", "2606:4700::1"], ["10.0.0.1"]])
        for _ in range(1000):
            with pytest.raises(FetchError, match="which this server does not fetch from"):
                fetch(f"http://rebind.test:{canaries[0].port}/", resolve=lambda host: next(turns))
        assert [canary.connections for canary in canaries] == [0, 0]

    def test_proxies_of_the_environment_are_not_asked(self, canaries: list[Canary], monkeypatch: Any) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canaries[0].port}")
        with serving("127.0.0.2", body=b"direct") as server:
            assert fetch(f"http://127.0.0.2:{server.port}/", allow_networks=EVERYWHERE) == b"direct"
        assert canaries[0].connections == 0

    @pytest.mark.parametrize("text", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "2a00:1450:4001:80f::200e"])
    def test_the_public_internet_is_open(self, text: str) -> None:
        assert refusal(ip_address(text)) is None

    def test_an_opened_network_opens_no_other(self) -> None:
        opened = [ip_network("10.0.0.0/8")]

        assert refusal(ip_address("10.1.2.3"), opened) is None
        assert refusal(ip_address("192.168.0.1"), opened) == "a private network"
        assert refusal(ip_address("::ffff:10.1.2.3"), opened) == "a network that wraps IPv4 addresses"


class TestRedirects:
    @pytest.fixture
    def server(self) -> Iterator[Canary]:
        with serving("127.0.0.1") as server:
            yield server

    def at(self, server: Canary, path: str, **options: Any) -> bytes:
        return fetch(f"http://127.0.0.1:{server.port}{path}", allow_networks=LOOPBACK, **options)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("location", ["/b", "b", "//127.0.0.1:{port}/b", "http://127.0.0.1:{port}/b#part"])
    def test_are_followed(self, server: Canary, status: int, location: str) -> None:
        server.redirects["/a"] = (status, location.replace("{port}", str(server.port)))

        assert self.at(server, "/a") == b"canary"
        assert [path for path, _ in server.hits] == ["/a", "/b"]

    def test_three_are_followed_and_four_are_not(self, server: Canary) -> None:
        server.redirects |= {f"/{at}": (302, f"/{at + 1}") for at in range(4)}

        assert self.at(server, "/1") == b"canary"
        with pytest.raises(FetchError, match="redirects more than 3 times"):
            self.at(server, "/0")

    def test_a_loop_ends(self, server: Canary) -> None:
        server.redirects["/a"] = (302, "/a")

        with pytest.raises(FetchError, match="redirects more than 3 times"):
            self.at(server, "/a")
        assert len(server.hits) == 4

    @pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "data:,x", "gopher://a/", "a\tb"])
    def test_to_other_schemes_are_refused(self, server: Canary, location: str) -> None:
        server.redirects["/a"] = (302, location)

        with pytest.raises(FetchError, match=r"only http:// and https://|can't be read"):
            self.at(server, "/a")

    def test_a_redirect_to_nowhere(self, server: Canary) -> None:
        with pytest.raises(FetchError, match="redirects to a URL that can't be read"):
            self.at(server, "/status/302")

    def test_no_cookie_and_no_credential_is_sent(self, server: Canary) -> None:
        server.redirects["/a"] = (302, "/b")
        self.at(server, "/a?secret=1")
        self.at(server, "/a")

        sent = {name.lower() for _, headers in server.hits for name in headers}
        assert sent == {"host", "user-agent", "accept", "accept-encoding", "connection"}

    @pytest.mark.parametrize(
        ("status", "words"), [(404, "404 Not Found"), (503, "503 Service Unavailable"), (599, "599"), (304, "304 Not")]
    )
    def test_other_answers_are_named(self, server: Canary, status: int, words: str) -> None:
        with pytest.raises(FetchError, match=f"the server answered {words}"):
            self.at(server, f"/status/{status}")

    def test_post_follows_none(self, server: Canary) -> None:
        server.redirects["/a"] = (307, "/b")
        url = f"http://127.0.0.1:{server.port}/a"

        reply = post(url, b"{}", {"X-Id": "1"}, deadline=time.monotonic() + 5, allow_networks=LOOPBACK)

        assert reply.status == 307
        assert [(path, headers["X-Id"]) for path, headers in server.hits] == [("/a", "1")]


def drip(connection: socket.socket, ended: Event) -> None:
    """Slow loris: a byte now and then, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not ended.wait(0.05):
        connection.sendall(b"x")


def drip_headers(connection: socket.socket, ended: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not ended.wait(0.05):
        connection.sendall(b"X-Slow: yes\r\n")


def endless_interim(connection: socket.socket, ended: Event) -> None:
    while not ended.is_set():
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50)


def silent(connection: socket.socket, ended: Event) -> None:
    ended.wait()


def endless(connection: socket.socket, ended: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")


def endless_unframed(connection: socket.socket, ended: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"x" * 1024)


def bomb(connection: socket.socket, ended: Event) -> None:
    body = gzip.compress(bytes(2**26))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def reset(connection: socket.socket, ended: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says(answer: bytes) -> Callable[[socket.socket, Event], None]:
    return lambda connection, ended: connection.sendall(answer)


MISBEHAVING: dict[str, tuple[Callable[[socket.socket, Event], None], str]] = {
    "slow-body": (drip, "it took too long to arrive"),
    "slow-headers": (drip_headers, "it took too long to arrive|ended before the server had answered"),
    "endless-interim-answers": (endless_interim, "it took too long to arrive"),
    "silent": (silent, "it took too long to arrive"),
    "endless-chunks": (endless, "larger than"),
    "endless-unframed": (endless_unframed, "larger than"),
    "gzip-bomb": (bomb, "larger than"),
    "reset": (reset, "ended before the file was complete"),
    "too-short": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"), "ended before the file was complete"),
    "claims-too-much": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "larger than"),
    "two-lengths": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        "had answered in HTTP",
    ),
    "negative-length": (says(b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"), "had answered in HTTP"),
    "cut-chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"), "the file was complete"),
    "bad-chunk": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"), "the file was complete"),
    "cut-gzip": (
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 99)[:12]),
        "the file was complete",
    ),
    "not-gzip": (says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nabc"), "compression of the file is broken"),
    "brotli": (says(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nabc"), "sent the file compressed"),
    "no-http": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "had answered in HTTP"),
    "nothing": (says(b""), "had answered in HTTP"),
    "huge-header": (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"), "had answered in HTTP"),
    "switches": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "had answered",
    ),
}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_misbehaving_server_is_left_in_time(name: str) -> None:
    script, reason = MISBEHAVING[name]
    started = time.monotonic()

    with misbehaving(script) as port, pytest.raises(FetchError, match=reason):
        fetch(f"http://127.0.0.1:{port}/", seconds=0.6, allow_networks=LOOPBACK)

    assert time.monotonic() - started < 3


def test_more_than_the_declared_length_is_not_read() -> None:
    with misbehaving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef")) as port:
        assert fetch(f"http://127.0.0.1:{port}/", allow_networks=LOOPBACK) == b"abc"


def test_what_a_server_compresses_is_read() -> None:
    body = gzip.compress(b"picture" * 99)
    with misbehaving(says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + body)) as port:
        assert fetch(f"http://127.0.0.1:{port}/", allow_networks=LOOPBACK) == b"picture" * 99


def test_a_slow_name_server_is_left_in_time() -> None:
    release = Event()
    started = time.monotonic()

    with pytest.raises(FetchError, match="it took too long to arrive"):
        fetch("http://slow.test/", seconds=0.2, resolve=lambda host: [str(release.wait(5))])

    assert time.monotonic() - started < 1
    release.set()


def test_no_host_and_no_answer() -> None:
    with pytest.raises(FetchError, match="there is no host of this name"):
        fetch("http://unknown.test/")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchError, match="no connection could be made"):
        fetch(f"http://127.0.0.1:{port}/", allow_networks=LOOPBACK)


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with serving("127.0.0.1") as server:
        url = f"http://two.test:{server.port}/"
        assert fetch(url, resolve=lambda host: ["::1", "127.0.0.1"], allow_networks=LOOPBACK) == b"canary"


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://example.com", "example.com", "/"),
        ("HTTPS://Example.COM.:443/a b?c=ü#d", "example.com", "/a%20b?c=%C3%BC"),
        ("http://example.com:8080?q", "example.com:8080", "/?q"),
        ("https://bücher.example/%C3%BC?s=%2F", "xn--bcher-kva.example", "/%C3%BC?s=%2F"),
        ("http://faß.de/", "xn--fa-hia.de", "/"),
        ("http://[2606:4700::1111]:8080/x", "[2606:4700::1111]:8080", "/x"),
        ("http://my_bucket.example/@user/a:b", "my_bucket.example", "/@user/a:b"),
    ],
)
def test_an_honest_url_is_read_as_it_is_meant(url: str, authority: str, path: str) -> None:
    target = parse(url)

    assert (target.authority, target.path) == (authority, path)


class TestTls:
    def fetch_as(self, host: str, certificate: Path, tls: ssl.SSLContext | None) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with serving("127.0.0.1", body=b"secure", tls=context) as server:
            url = f"https://{host}:{server.port}/"
            return fetch(url, tls=tls, resolve=lambda name: ["127.0.0.1"], allow_networks=LOOPBACK)

    def test_the_name_in_the_url_is_verified(self, certificate: Path) -> None:
        trusting = ssl.create_default_context(cafile=certificate)

        assert self.fetch_as("pictures.test", certificate, trusting) == b"secure"
        for host in ("other.test", "127.0.0.1"):
            with pytest.raises(FetchError, match="certificate is not valid for this host"):
                self.fetch_as(host, certificate, trusting)

    def test_a_stranger_s_certificate_is_refused(self, certificate: Path) -> None:
        with pytest.raises(FetchError, match="certificate is not valid"):
            self.fetch_as("pictures.test", certificate, None)

    def test_a_server_without_tls(self) -> None:
        answer = says(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with misbehaving(answer) as port, pytest.raises(FetchError, match="no TLS connection could be made"):
            fetch(f"https://127.0.0.1:{port}/", allow_networks=LOOPBACK)
