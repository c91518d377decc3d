"""Where webhooks may be sent to: https, and never into the network that the service stands in.

A name says nothing about where it leads, and may lead elsewhere a moment later. So a URL's form is
checked when it is registered, and the address that a name leads to when it is connected to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, urlsplit

from shared.errors import InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARS = 2000
HTTPS_PORT = 443
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# a dot between every two labels: there is one way to read a name, and trying takes no longer than that
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
# What `is_global` of this Python's ipaddress takes for public, and is not.
_SPECIAL = [
    ip_network(text)
    for text in (
        "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
        "3fff::/20",
    )
]  # fmt: skip
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookTarget:
    """A checked URL in its parts. `host` is an ASCII name, or an address without brackets."""

    host: str
    port: int
    url: str


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks of a comma-separated list.

    Raises:
        InvalidRequest: one is no network.
    """
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ip_network(part))
        except ValueError as error:
            raise InvalidRequest(
                f"{part!r} is not a network: write it as 10.0.0.0/8 or fd00::/8 ({error})",
                "PALIMPSEST_WEBHOOK_ALLOW",
            ) from None
    return tuple(networks)


def parse_webhook_url(url: str, allowed: Sequence[Network] = ()) -> WebhookTarget:
    """Check a URL's form. A name is not looked up here.

    Args:
        allowed: networks that may be sent to although they are not public; with any, also other ports
            than 443.

    Raises:
        InvalidRequest: it is not an https URL that may be sent to.
    """
    if len(url) > MAX_URL_CHARS:
        raise InvalidRequest(f"the URL has more than {MAX_URL_CHARS} characters", "url")
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise InvalidRequest(
            "the URL may contain printable ASCII only: encode what is not, and a name as punycode",
            "url",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or HTTPS_PORT
    except ValueError:
        raise InvalidRequest("this is not a URL", "url") from None
    if parts.scheme != "https":
        raise InvalidRequest("the URL must begin with https://", "url")
    if "@" in parts.netloc:
        raise InvalidRequest("the URL must not contain a user name or password", "url")
    if "#" in url:
        raise InvalidRequest("the URL must not contain a fragment (#...)", "url")
    if port != HTTPS_PORT and not allowed:
        raise InvalidRequest("webhooks are sent to port 443 only", "url")
    _check_host(parts, host, allowed)
    return WebhookTarget(host, port, url)


def _check_host(parts: SplitResult, host: str, allowed: Sequence[Network]) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if "[" in parts.netloc or not _HOST_NAME.fullmatch(host):
            raise InvalidRequest("the URL's host is neither a name nor an address", "url") from None
        return
    if not is_allowed_address(address, allowed):
        raise InvalidRequest("the URL's address is not public", "url")


def is_allowed_address(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address may be connected to: it is public, or in one of the allowed networks.

    An address that carries an IPv4 address is what that one is.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = _find_inner_address(address)
        if inner is not None:
            address = inner
    if any(address in network for network in allowed if network.version == address.version):
        return True
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _find_inner_address(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one go to: mapped, 6to4, or through NAT64."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
