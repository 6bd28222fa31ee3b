"""What an operator allows a reference image to be. Plain numbers: nothing here fetches, decodes or reads a setting."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one reference.

    `max_bytes` is the size of its file, `max_pixels` width × height, `min_side` the least of both in pixels;
    `timeout_seconds` covers everything from the first look-up to the last pixel. `allow_networks` opens addresses
    that are otherwise refused (a LAN's image server, loopback in tests).
    """

    max_bytes: int = 30 * 2**20
    max_pixels: int = 40_000_000
    min_side: int = 64
    timeout_seconds: float = 10
    max_redirects: int = 3
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
