"""HTTP on a stranger's behalf: only to public addresses, only so many bytes, only so long.

Knows nothing of images, tasks or settings; it turns a URL into bytes or says in a sentence why not. Webhook delivery
uses the same `post`.

Safety does not rest on reading the URL cleverly. httpcore asks a network backend for every connection it makes; ours
looks the name up once, judges every address that came back, and connects to the judged address itself, so nothing can
change between check and use, whatever the URL looked like. TLS still verifies the URL's host name, because httpcore
passes that to `start_tls` on its own. (ssrfguard 0.4 does the same in 5,500 lines around httpx, but has neither a
total deadline nor a bound on bytes; with those ours to write, the rest is the forty lines of `_Backend`.)
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from ipaddress import ip_address
from threading import Thread
from typing import Any

import httpcore

from mutoscope.references.addresses import IPAddress, IPNetwork, refusal
from mutoscope.references.targets import FetchError, Target, join, parse

Resolver = Callable[[str], Sequence[str]]
"""Host name → its addresses as text, all of them. Raises OSError where there are none."""

USER_AGENT = "Mutoscope (reference-to-video server)"
_MAX_ADDRESSES = 16
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer to a POST, without its body. `retry_after` is that header's text, empty without one."""

    status: int
    retry_after: str = ""

    @property
    def description(self) -> str:
        """The status as people read it: `404 Not Found`."""
        return _describe(self.status)


def get(
    url: str,
    *,
    max_bytes: int,
    max_redirects: int,
    deadline: float,
    allow_networks: Iterable[IPNetwork] = (),
    resolve: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    """The body behind `url`, after redirects. `deadline` is a time.monotonic() for all of it. Raises FetchError."""
    target = parse(url)
    backend = _Backend(deadline, tuple(allow_networks), resolve or resolve_by_system)
    for hop in range(max_redirects + 1):
        try:
            with _answer("GET", target, backend, tls, {"Accept": "image/*, */*;q=0.5"}) as response:
                if response.status in (200, 203):
                    return _read_whole(response, max_bytes)
                if response.status not in _REDIRECTS:
                    raise FetchError(f"the server answered {_describe(response.status)}")
                location = _header(response, b"location")
            target = parse(join(target.url, location))
        except FetchError as error:
            raise error if hop == 0 else FetchError(f"after a redirect, {error}") from None
    raise FetchError(f"the server redirects more than {max_redirects} times")


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    deadline: float,
    allow_networks: Iterable[IPNetwork] = (),
    resolve: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send `body`, and read the answer no further than its headers: how long or slow the rest is, is no matter.

    Redirects are not followed. Raises FetchError.
    """
    backend = _Backend(deadline, tuple(allow_networks), resolve or resolve_by_system)
    with _answer("POST", parse(url), backend, tls, headers, body) as response:
        return Reply(response.status, _header(response, b"retry-after"))


def resolve_by_system(host: str) -> list[str]:
    """Every address the system's resolver knows for `host`. Raises OSError where there is none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


@cache
def _public_tls() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


@contextlib.contextmanager
def _answer(
    method: str,
    target: Target,
    backend: _Backend,
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> Iterator[httpcore.Response]:
    """One exchange on a connection of its own, its body still unread; httpcore's errors become FetchError."""
    sent = {"Host": target.authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close"}
    origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
    url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target.path.encode())
    has_answered = False
    try:
        context = tls if tls is not None or target.scheme == "http" else _public_tls()
        with (
            httpcore.HTTPConnection(origin, ssl_context=context, network_backend=backend) as connection,
            connection.stream(method, url, headers=[*(sent | dict(headers)).items()], content=body) as response,
        ):
            has_answered = True
            yield response
    except (TimeoutError, httpcore.TimeoutException):
        raise FetchError(f"it took too long to {'arrive' if method == 'GET' else 'answer'}") from None
    except httpcore.ConnectError:
        raise FetchError("no connection could be made with the server") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        what = "the file was complete" if has_answered else "the server had answered in HTTP"
        raise FetchError(f"the connection ended before {what}") from None


def _read_whole(response: httpcore.Response, max_bytes: int) -> bytes:
    """The body, decoded. Raises FetchError where it is larger than `max_bytes`, on the wire or decoded."""
    too_large = FetchError(f"the file is larger than {max_bytes / 2**20:.3g} MB")
    declared = _header(response, b"content-length")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_large
    encoding = _header(response, b"content-encoding").strip().lower()
    inflate = None
    if encoding in ("gzip", "x-gzip", "deflate"):
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # reads either header
    elif encoding not in ("", "identity"):
        raise FetchError("the server sent the file compressed, though it was asked not to")
    received, body = 0, bytearray()
    for chunk in response.iter_stream():
        received += len(chunk)
        try:
            body += chunk if inflate is None else inflate.decompress(chunk, max_bytes + 1 - len(body))
        except zlib.error:
            raise FetchError("the server's compression of the file is broken") from None
        if received > max_bytes or len(body) > max_bytes:
            raise too_large
    if inflate is not None and not inflate.eof:
        raise FetchError("the connection ended before the file was complete")
    return bytes(body)


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _describe(status: int) -> str:
    # The server's own words are a stranger's text; the registry's are not.
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


class _Backend(httpcore.NetworkBackend):
    """Opens connections to judged addresses only, and lets nothing outlive the deadline."""

    def __init__(self, deadline: float, allow_networks: tuple[IPNetwork, ...], resolve: Resolver) -> None:
        self._deadline = deadline
        self._allow = allow_networks
        self._resolve = resolve
        self._system = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._judged(host, port)
        for tried, address in enumerate(addresses):
            share = _remaining(self._deadline) / (len(addresses) - tried)
            try:
                # The text of an address is never looked up, so this is the address that was judged.
                stream = self._system.connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if tried + 1 == len(addresses):
                    raise
            else:
                return _Stream(stream, self._deadline)
        raise httpcore.ConnectError("no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise FetchError("only http:// and https:// URLs can be fetched")

    def _judged(self, host: str, port: int) -> list[IPAddress]:
        """All addresses of `host`, every one allowed; one that is not refuses the lot."""
        try:
            addresses, subject = [ip_address(host)], "this address"
        except ValueError:
            addresses, subject = self._look_up(host), "this host's address"
        for address in addresses:
            if kind := refusal(address, self._allow):
                raise FetchError(f"{subject} is in {kind}, which this server does not fetch from")
            is_opened = any(address in network for network in self._allow)
            if port < 1024 and port not in (80, 443) and not is_opened:
                raise FetchError(f"port {port} is no web server's; 80, 443 and those from 1024 on can be used")
        return addresses[:_MAX_ADDRESSES]

    def _look_up(self, host: str) -> list[IPAddress]:
        answer: Future[list[IPAddress]] = Future()

        def ask() -> None:
            try:
                answer.set_result([ip_address(text) for text in self._resolve(host)])
            except Exception as error:
                answer.set_exception(error)

        # getaddrinfo has no time-out of its own; the thread outlives ours by as long as the system's resolver tries.
        Thread(target=ask, name="resolve", daemon=True).start()
        try:
            addresses = answer.result(_remaining(self._deadline))
        except TimeoutError:
            raise
        except (OSError, ValueError):
            addresses = []
        if not addresses:
            raise FetchError("there is no host of this name")
        return addresses


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait is cut to what is left until the deadline, so a drip of bytes gains no time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 2**14):
            self._stream.write(buffer[start : start + 2**14], _remaining(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, _remaining(self._deadline))
        except httpcore.ConnectError as error:  # told apart here: to the caller they would look alike
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise FetchError("the server's TLS certificate is not valid for this host") from None
            raise FetchError("no TLS connection could be made with the server") from None
        return _Stream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
