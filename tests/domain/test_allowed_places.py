"""Which addresses a place covers, and which network addresses are public: every spelling that leads elsewhere is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from support.addresses import NO_ADDRESS, PLACES
from tailorbird.domain.endpoint import AllowedPlace, parse_address, place_for


@pytest.mark.parametrize(
    ("address", "credential"),
    [
        ("s3://acme", "none"),
        ("S3://acme/a b/rows%20.csv", "none"),
        ("s3://acme/board/rows.csv", "board"),
        ("s3://acme/boards.csv", "none"),
        ("s3://shared/exports/rows.csv", "worker"),
        ("https://DATA.acme.example:443/exports/rows.csv", "none"),
        ("hf://datasets/acme/desk@v1:default/train", "none"),
        ("hf://acme/tiny@refs/pr/1", "hub"),
    ],
)
def test_what_a_place_covers(address: str, credential: str) -> None:
    place = place_for(parse_address(address), PLACES)
    assert place is not None
    assert place.credential == credential


@pytest.mark.parametrize("prefix", NO_ADDRESS)
def test_nor_is_it_a_place(prefix: str) -> None:
    with pytest.raises(ValidationError):
        AllowedPlace(prefix=prefix)


def test_a_whole_kind_of_storage_is_said_as_such() -> None:
    assert place_for(parse_address("s3://any/rows.csv"), (AllowedPlace(prefix="s3://"),))
    assert place_for(parse_address("hf://any/model"), (AllowedPlace(prefix="hf://"),))
    assert place_for(parse_address("gs://any/rows.csv"), (AllowedPlace(prefix="s3://"),)) is None
