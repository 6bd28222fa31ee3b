"""URL → where a request goes, read strictly. Touches no network, and judges no address: `fetch.py` does.

Only what every reader of URLs understands alike is taken; the rest is refused rather than mended, since what is mended
here may be mended otherwise elsewhere.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# "%" stands among the safe characters because a URL arrives already encoded; only what can't be sent is encoded here.
_SAFE = "%/?:@!$&'()*+,;=-._~[]|^`{}\""


class FetchError(Exception):
    """The exchange can't be made or was refused; the text is a sentence without its subject's name and full stop."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points, in the only form in which it goes on to the network."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header: brackets around IPv6, the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.scheme) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(url: str) -> Target:
    """Read an http(s) URL strictly: what two readers could read in two ways is refused. Raises FetchError."""
    url = url.strip(" ")
    if _CONTROL.search(url):
        raise FetchError("the URL holds a backslash, a tab or a line break")
    match = _URL.fullmatch(url)
    if match is None:
        raise FetchError("only http:// and https:// URLs can be fetched")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if "@" in authority:
        raise FetchError("the URL holds a user name or password, which this server does not send")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not parts[1]:
        raise FetchError("the URL's host can't be read")
    port = int(parts[2][:6]) if parts[2] else _default_port(scheme)
    if not 0 < port < 2**16:
        raise FetchError("the URL's port is not between 1 and 65535")
    path = rest if rest.startswith("/") else f"/{rest}"
    return Target(scheme, _parse_host(parts[1]), port, quote(path, safe=_SAFE))


def join(url: str, location: str) -> str:
    """`location`, as a redirect from `url` gives it, as a whole URL. Raises FetchError."""
    # Checked before urljoin, which would drop line breaks and tabs unasked.
    if location and not _CONTROL.search(location):
        with contextlib.suppress(ValueError):
            # A whole URL is read as strictly as the first one was, without urljoin's mending.
            return location if _URL.match(location) else urljoin(url, location)
    raise FetchError("the server redirects to a URL that can't be read")


def _parse_host(host: str) -> str:
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1] if "%" not in host else ""))
        except ValueError:
            raise FetchError("the URL's host is not an IPv6 address") from None
    if not host.isascii():
        import idna  # only here: few hosts need it

        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise FetchError("the URL's host can't be read") from None
    host = host.lower().removesuffix(".")
    # A last label that is a number makes it an IPv4 address to everyone (WHATWG URL, "ends in a number"), and the C
    # library reads 127.1, 0x7f.1, 0177.1 and 2130706433 as one too; only the dotted quad is taken.
    if _NUMBER.fullmatch(host.rsplit(".", 1)[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise FetchError("the URL's host is an IPv4 address in an unusual form") from None
    if not _NAME.fullmatch(host):
        raise FetchError("the URL's host can't be read")
    return host


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
