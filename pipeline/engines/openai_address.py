"""Addresses of servers: what is one, and where no server of ours is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from constitution.errors import UserError

METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def check_address(url: str, setting: str = "base_url", secret: str = "OPENAI_API_KEY") -> str:
    """`url` without a trailing slash. Raises UserError for what is not a plain http(s) address of a model server.
    `setting` and `secret` are where the address and the key are set, for messages."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UserError(f"{setting} is not a valid address; write it like http://localhost:8000/v1") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{setting} must begin with http:// or https:// and name a host, not {parts.scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"{setting} holds a name or a password; take it out, and give the key as {secret}")
    if parts.query or parts.fragment:
        raise UserError(f"{setting} must end with its path (like /v1): no ? and no #")
    with suppress(ValueError):  # a name, not a number: looked up when the server is first asked
        refuse_metadata(host, [host], setting)
    return url.rstrip("/")


def refuse_metadata(host: str, addresses: Iterable[str], setting: str) -> None:
    """Clouds hand out credentials at link-local addresses (169.254.169.254, fe80::/10) and at a few others."""
    for address in addresses:
        number = ipaddress.ip_address(address.partition("%")[0])
        meant = _inside(number) if isinstance(number, ipaddress.IPv6Address) else number
        if meant.is_link_local or meant in METADATA:
            raise UserError(
                f"{setting} names {host} ({meant}), a link-local address or one where a cloud keeps its keys: no model "
                f"server is there; set {setting} to the server's own address"
            )


def _inside(number: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for (mapped, 6to4, NAT64, or written with zeros in front)."""
    if number in NAT64 or (int(number) >> 32 == 0 and int(number) > 1):
        return ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
    return number.ipv4_mapped or number.sixtofour or number
