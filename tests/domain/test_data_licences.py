"""Licences of data against the use of a model."""

from __future__ import annotations

import pytest

from tailorbird.domain.dataset import clash, terms_of


@pytest.mark.parametrize(
    ("licence", "use", "blocked"),
    [
        ("CC-BY-4.0", "distributed", False),
        ("cc-by-nc-4.0", "internal", True),
        ("CC-BY-NC-SA-3.0", "research", False),
        ("CC-BY-ND-4.0", "commercial", True),
        ("CC-BY-SA-4.0", "distributed", True),
        ("our own", "distributed", False),
    ],
)
def test_licences_against_uses(licence: str, use: str, blocked: bool) -> None:
    assert (clash(licence, use) is not None) == blocked  # type: ignore[arg-type]


def test_a_licence_that_nobody_knows_is_for_people_to_read() -> None:
    assert terms_of("LicenseRef-contract-2025-17") is None
    assert terms_of("apache 2.0") == terms_of("Apache-2.0")
