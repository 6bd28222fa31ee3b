"""Which IP addresses this server may talk to on a stranger's behalf. Pure: no name is looked up and no socket opened.

The rule is "the public internet and what the operator opened", so IPv6 is refused unless it lies in 2000::/3, and
IPv4 unless no range below holds it. Addresses that wrap another one (mapped, NAT64, 6to4, Teredo, ISATAP) are refused
whatever they wrap: nobody publishes an image under one, and unwrapping rightly is harder than saying no.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# First match names the reason, so a narrower range stands before the wider one that holds it.
_REFUSED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "the unspecified network"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a provider's internal network"),
        ("127.0.0.0/8", "the loopback network"),
        ("168.63.129.16/32", "a cloud provider's internal network"),  # Azure's host agent, though globally routed
        ("169.254.0.0/16", "the link-local network"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "a reserved network"),
        ("192.0.2.0/24", "a documentation network"),
        ("192.31.196.0/24", "a reserved network"),
        ("192.52.193.0/24", "a reserved network"),
        ("192.88.99.0/24", "a reserved network"),
        ("192.168.0.0/16", "a private network"),
        ("192.175.48.0/24", "a reserved network"),
        ("198.18.0.0/15", "a benchmark network"),
        ("198.51.100.0/24", "a documentation network"),
        ("203.0.113.0/24", "a documentation network"),
        ("224.0.0.0/4", "a multicast network"),
        ("240.0.0.0/4", "a reserved network"),
        ("::/128", "the unspecified network"),
        ("::1/128", "the loopback network"),
        ("::ffff:0:0/96", "a network that wraps IPv4 addresses"),
        ("64:ff9b::/96", "a network that wraps IPv4 addresses"),
        ("64:ff9b:1::/48", "a network that wraps IPv4 addresses"),
        ("2001::/32", "a network that wraps IPv4 addresses"),  # Teredo
        ("2001::/23", "a reserved network"),
        ("2001:db8::/32", "a documentation network"),
        ("2002::/16", "a network that wraps IPv4 addresses"),  # 6to4
        ("3fff::/20", "a documentation network"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "the link-local network"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "a multicast network"),
    )
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def refusal(address: IPAddress, allow_networks: Iterable[IPNetwork] = ()) -> str | None:
    """The kind of network that makes `address` off limits ("a private network"), or None where it may be reached."""
    if any(address in network for network in allow_networks):
        return None
    for network, kind in _REFUSED:
        if address in network:
            return kind
    if isinstance(address, IPv6Address):
        if (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
            return "a network that wraps IPv4 addresses"
        if address not in _PUBLIC_IPV6:
            return "a reserved network"
    # Ranges that a later Python knows of and the table above does not.
    return None if address.is_global else "a reserved network"
