"""What a terminal shows of a certificate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.cli.data import show_certificate
from tailorbird.domain.erasure import Certificate, Erasure, ErasureReach
from tailorbird.usecases.erasure.erase import not_looked_for
from tailorbird.usecases.erasure.places import treated

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize("who", ["มด", "Ada Lovelace"])
def test_places_that_were_not_searched_for_a_short_name_say_so(capsys: pytest.CaptureFixture[str], who: str) -> None:
    limits = not_looked_for(who)
    certificate = Certificate(
        erasure="0a1b", tenant="acme", subject="subject:0", asked_by="admin", asked_at=NOW, done_at=NOW, reach=ErasureReach(),
        snapshots=(), purged=(), duties=(), places=treated(name_looked_for=not limits), not_looked_for=limits,
    )  # fmt: skip
    show_certificate(Erasure(id="0a1b", tenant="acme", subject="subject:0", by="admin", at=NOW), certificate)
    told = capsys.readouterr().out
    searched = next(line for line in told.splitlines() if line.startswith("searched: "))
    short = who == "มด"
    assert ("requests (not for all)" in searched, "NOT looked for: the person's name" in told) == (short, short)
    assert "artifacts," in searched
