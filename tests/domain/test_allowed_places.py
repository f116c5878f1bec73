"""Which addresses a place covers, and which network addresses are public: every spelling that leads elsewhere is refused."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tailorbird.data.readers import remote
from tailorbird.data.readers.remote import is_public, public_address_of
from tailorbird.domain.allowed_places import AllowedPlace, parse_address, place_for
from tailorbird.domain.errors import Forbidden, TailorbirdError, Unavailable
from tailorbird.system.source_access import SourceAccess, grant_for, grant_within, restrict_sources

PLACES = (
    AllowedPlace(prefix="s3://acme"),
    AllowedPlace(prefix="s3://acme/board", credential="board"),
    AllowedPlace(prefix="s3://shared/exports/", credential="worker"),
    AllowedPlace(prefix="https://data.acme.example/exports"),
    AllowedPlace(prefix="https://data.acme.example:8443"),
    AllowedPlace(prefix="hf://datasets/acme"),
    AllowedPlace(prefix="hf://acme/tiny", credential="hub"),
    AllowedPlace(prefix="az://box@acme"),
)
REACH = SourceAccess("acme", PLACES, {"board": {"key": "k", "secret": "s"}})


@pytest.mark.parametrize(
    ("address", "credential"),
    [
        ("s3://acme", "none"),
        ("s3://acme/rows.csv", "none"),
        ("S3://acme/a b/rows%20.csv", "none"),
        ("s3://acme/board/rows.csv", "board"),
        ("s3://acme/boards.csv", "none"),
        ("s3://shared/exports/rows.csv", "worker"),
        ("https://data.acme.example/exports/rows.csv", "none"),
        ("https://DATA.acme.example:443/exports/rows.csv", "none"),
        ("https://data.acme.example:8443/rows.csv", "none"),
        ("hf://datasets/acme/desk@v1:default/train", "none"),
        ("hf://acme/tiny@refs/pr/1", "hub"),
        ("abfs://box@acme/rows.csv", "none"),
    ],
)
def test_what_a_place_covers(address: str, credential: str) -> None:
    place = place_for(parse_address(address), PLACES)
    assert place is not None
    assert place.credential == credential


NOT_COVERED = [
    "s3://acme-other/rows.csv",
    "s3://acme.other/rows.csv",
    "s3://ACME/rows.csv",
    "s3://shared/rows.csv",
    "s3://shared/exports-of-others/rows.csv",
    "gs://acme/rows.csv",
    "https://data.acme.example/rows.csv",
    "https://data.acme.example.evil.example/exports/rows.csv",
    "https://data.acme.example:80/exports/rows.csv",
    "https://acme.example/exports/rows.csv",
    "hf://acme/tiny2",
    "hf://acme/tiny-private@main",
    "hf://datasets/acme-other/desk",
    "hf://acme",
    "az://box/rows.csv",
    "az://box@other/rows.csv",
]
NO_ADDRESS = [
    "s3://acme/../other/rows.csv",
    "s3://acme/./rows.csv",
    "s3://acme//rows.csv",
    "s3://acme/%2e%2e/other/rows.csv",
    "s3://acme/%252e%252e/other/rows.csv",
    "s3://acme/a%2f..%2f..%2fother/rows.csv",
    "s3://acme/..%5cother/rows.csv",
    "s3://acme\\..\\other/rows.csv",
    "s3://acme%2fboard/rows.csv",
    "s3://user:secret@acme/rows.csv",
    "s3://user@acme/rows.csv",
    "s3://acme/rows.csv?versionId=1",
    "s3://acme/rows.csv#x",
    "s3://acme/x::file:///etc/passwd",
    "s3://acme/rows.csv\n",
    "s3:///acme/rows.csv",
    "s3:acme/rows.csv",
    "https://data.acme.example@evil.example/exports/rows.csv",
    "https://evil.example\\@data.acme.example/exports/rows.csv",
    "https://data.acme.example/exports/..%2f..%2fsecret.csv",
    "https://data.acme.example/exports/..;/secret.csv",
    "https://data.acme.example/exports/..;x=1/secret.csv",
    "https://data.acme.example/exports/ ../secret.csv",
    "https://data.acme.example./exports/rows.csv",
    "https://[::1]/exports/rows.csv",
    "https://dаta.acme.example/exports/rows.csv",  # a Cyrillic а
    "http://data.acme.example/exports/rows.csv",
    "file:///etc/passwd",
    "memory://acme/rows.csv",
    "simplecache::s3://other/rows.csv",
    "/etc/passwd",
    "rows.csv",
    "",
]


@pytest.mark.parametrize("address", NOT_COVERED)
def test_what_no_place_covers_is_not_allowed(address: str) -> None:
    with pytest.raises(Forbidden) as refused:
        grant_within(REACH, address)
    assert refused.value.error_code == "place_not_allowed"


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_what_has_a_second_spelling_is_no_address(address: str) -> None:
    with pytest.raises(Forbidden) as refused:
        grant_within(REACH, address)
    assert refused.value.error_code == "place_form"


@pytest.mark.parametrize("prefix", NO_ADDRESS)
def test_nor_is_it_a_place(prefix: str) -> None:
    with pytest.raises(ValidationError):
        AllowedPlace(prefix=prefix)


def test_a_whole_kind_of_storage_is_said_as_such() -> None:
    assert place_for(parse_address("s3://any/rows.csv"), (AllowedPlace(prefix="s3://"),))
    assert place_for(parse_address("hf://any/model"), (AllowedPlace(prefix="hf://"),))
    assert place_for(parse_address("gs://any/rows.csv"), (AllowedPlace(prefix="s3://"),)) is None


def test_a_credential_that_this_machine_lacks_is_no_leave_to_use_another() -> None:
    assert grant_within(REACH, "s3://acme/board/x").options == {"key": "k", "secret": "s"}
    with pytest.raises(Unavailable) as missing:
        grant_within(REACH, "hf://acme/tiny")
    assert missing.value.error_code == "credential_missing"


def test_nothing_is_bounded_outside_and_everything_inside() -> None:
    assert grant_for("s3://anything/../at all") is None
    with restrict_sources(SourceAccess("acme", ())), pytest.raises(Forbidden):
        grant_for("s3://acme/rows.csv")
    assert grant_for("s3://acme/rows.csv") is None


@given(st.text(max_size=60).map(lambda rest: f"s3://acme/{rest}"))
def test_whatever_is_covered_lies_below_the_prefix_for_whoever_resolves_it(address: str) -> None:
    """As a file system or a server would: with escapes undone and dots resolved."""
    import posixpath
    from urllib.parse import unquote

    try:
        grant_within(REACH, address)
    except TailorbirdError:
        return
    for told in (address, unquote(address), unquote(unquote(address))):
        path = told.removeprefix("s3://")
        assert posixpath.normpath(path.replace("\\", "/")).split("/")[0] == "acme"


PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:db8::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "52.216.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "0"])
def test_every_notation_of_loopback_is_resolved_before_it_is_judged(host: str) -> None:
    with pytest.raises(Forbidden) as refused:
        public_address_of(host, 443)
    assert refused.value.error_code == "address_private"


def test_a_name_that_leads_to_a_public_and_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(remote.socket, "getaddrinfo", both)
    with pytest.raises(Forbidden):
        public_address_of("data.acme.example", 443)
