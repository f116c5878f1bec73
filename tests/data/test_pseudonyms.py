"""Pseudonyms of subjects."""

from __future__ import annotations

import pytest

from tailorbird.data.pseudonyms import pseudonym, spellings


@pytest.mark.parametrize("spelling", [" ANN   LEE\n", "Ａnn Lee"])
def test_spellings_of_one_name_are_one_person(spelling: str) -> None:
    assert pseudonym(b"key", "acme", spelling) == pseudonym(b"key", "acme", "Ann Lee")


def test_another_key_tenant_or_name_is_another_pseudonym() -> None:
    others = [pseudonym(b"other", "acme", "Ann"), pseudonym(b"key", "globex", "Ann"), pseudonym(b"key", "acme", "Anne")]
    assert len({pseudonym(b"key", "acme", "Ann"), *others}) == 4
    assert all("ann" not in found.casefold() for found in others)


@pytest.mark.parametrize(
    "written",
    [
        "zoë müller",
        "ZOË MÜLLER",
        "Zoe\u0308 Mu\u0308ller",
    ],
)
def test_usual_spellings_of_a_name_are_known(written: str) -> None:
    assert written in spellings(" Zoë  Müller")


@pytest.mark.parametrize(
    "name",
    [
        "ılgaz",
        "İnci",
        "ΣΟΦΟΣ",
    ],
)
def test_spellings_are_of_one_person(name: str) -> None:
    """Capitals of the Turkish ``ılgaz`` are those of ``ilgaz``, who is somebody else."""
    assert name in spellings(name)
    assert {pseudonym(b"key", "acme", each) for each in spellings(name)} == {pseudonym(b"key", "acme", name)}
