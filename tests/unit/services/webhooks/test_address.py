"""Which URLs and addresses webhooks may be sent to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from services.webhooks.address import is_allowed_address, parse_networks, parse_webhook_url
from shared.errors import InvalidRequest

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.0.8", "192.0.2.1",
    "198.18.0.1", "198.51.100.7", "203.0.113.1", "192.88.99.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
    "2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808",
    "2002:7f00:1::", "2002:a00:1::1",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
    "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed_address(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed_address(ip_address(address))


def test_listed_networks_are_allowed_in_whatever_form_their_addresses_come() -> None:
    allowed = parse_networks("10.0.0.0/8, fd00::/8,")
    for address in ("10.9.9.9", "::ffff:10.9.9.9", "64:ff9b::a09:909", "fd00::7", "8.8.8.8"):
        assert is_allowed_address(ip_address(address), allowed)
    for address in ("127.0.0.1", "11.0.0.1%", "192.168.0.1", "fe80::1"):
        if "%" not in address:
            assert is_allowed_address(ip_address(address), allowed) is (address == "11.0.0.1")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everything", "10.0.0.0/33", "10.0.0.0/8;::/0"])
def test_a_list_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a network"):
        parse_networks(text)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://a.example/", "must begin with https"),
        ("ftp://a.example/", "must begin with https"),
        ("//a.example/", "must begin with https"),
        ("https://", "neither a name nor an address"),
        ("https:///x", "neither a name nor an address"),
        ("https://user:pass@a.example/", "user name"),
        ("https://user@a.example/", "user name"),
        ("https://@a.example/", "user name"),
        ("https://a.example:8443/", "port 443"),
        ("https://a.example:99999/", "not a URL"),
        ("https://a.example:x/", "not a URL"),
        ("https://a.example/#part", "fragment"),
        ("https://a.example/#", "fragment"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://[::ffff:169.254.169.254]/", "not public"),
        ("https://[fe80::1%25eth0]/", "neither|not public|not a URL"),
        ("https://[v1.x]/", "neither|not a URL"),
        ("https://a b.example/", "ASCII"),
        ("https://a.example/\r\nHost: b", "ASCII"),
        ("https://a.example\\@b.example/", "ASCII"),
        ("https://bücher.example/", "ASCII"),
        ("https://a..example/", "neither"),
        ("https://-a.example/", "neither"),
        ("https://" + "a" * 64 + ".example/", "neither"),
        ("https://" + "a" * 250 + "-/", "neither"),  # took an exponential time once
        ("https://" + ".".join("a" * 120) + "-/", "neither"),
        ("https://a.example/" + "x" * 2000, "more than 2000"),
    ],
)
def test_a_url_that_may_not_be_told_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_webhook_url(url)
    assert caught.value.field == "url"


@pytest.mark.parametrize("host", ["a", "a.b.example.", "_dmarc.a-b.example", "a" * 63 + ".example"])
def test_a_name_may_have_every_form_that_names_have(host: str) -> None:
    assert parse_webhook_url(f"https://{host}/").host == host


def test_a_url_is_taken_apart() -> None:
    target = parse_webhook_url("https://Hooks.Example/a/b?c=d")
    assert (target.host, target.port) == ("hooks.example", 443)
    allowed = parse_networks("127.0.0.0/8")
    assert parse_webhook_url("https://127.0.0.1:8443/", allowed).port == 8443
