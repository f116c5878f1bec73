"""Which addresses a place covers, and which network addresses are public: every spelling that leads elsewhere is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailorbird.domain.allowed_places import AllowedPlace, parse_address, place_for

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


@pytest.mark.parametrize("prefix", NO_ADDRESS)
def test_nor_is_it_a_place(prefix: str) -> None:
    with pytest.raises(ValidationError):
        AllowedPlace(prefix=prefix)


def test_a_whole_kind_of_storage_is_said_as_such() -> None:
    assert place_for(parse_address("s3://any/rows.csv"), (AllowedPlace(prefix="s3://"),))
    assert place_for(parse_address("hf://any/model"), (AllowedPlace(prefix="hf://"),))
    assert place_for(parse_address("gs://any/rows.csv"), (AllowedPlace(prefix="s3://"),)) is None
