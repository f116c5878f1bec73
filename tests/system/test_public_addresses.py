"""Addresses of the public internet, and names that lead to others."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tailorbird.domain.errors import Forbidden
from tailorbird.system import outward_access
from tailorbird.system.outward_access import endpoint_address_of, is_local, is_public, public_address_of

PRIVATE = [
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "not an address",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "2606:4700::1111",
        "64:ff9b::101:101",
    ],
)
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.1",
        "2130706433",
        "0177.0.0.1",
    ],
)
def test_every_notation_of_loopback_is_resolved_before_it_is_judged(host: str) -> None:
    with pytest.raises(Forbidden) as refused:
        public_address_of(host, 443)
    assert refused.value.error_code == "address_private"


def test_a_name_that_leads_to_a_public_and_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(outward_access.socket, "getaddrinfo", both)
    with pytest.raises(Forbidden):
        public_address_of("data.acme.example", 443)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.7",
        "::1",
        "fd12::7",
    ],
)
def test_an_address_of_the_local_network(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "8.8.8.8",
    ],
)
def test_services_of_a_cloud_are_not_local(address: str) -> None:
    assert not is_local(address)


def test_an_endpoint_is_local_only_where_it_may_be() -> None:
    assert endpoint_address_of("127.0.0.1", 80, private=True) == "127.0.0.1"
    with pytest.raises(Forbidden):
        endpoint_address_of("127.0.0.1", 80, private=False)
    with pytest.raises(Forbidden):
        endpoint_address_of("169.254.169.254", 80, private=True)
