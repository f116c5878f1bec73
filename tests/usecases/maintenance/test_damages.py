"""A damaged database file: verify names it, and neither a backup nor a server goes on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.operations import TENANT, Open, add_event
from tailorbird.domain.errors import Corrupt
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.maintenance.backup import back_up

PAGE = 4096


def _filled(another: Open) -> tuple[Dependencies, Path]:
    deps = another()
    for _ in range(300):
        add_event(deps)
    deps.ledger.flush(scrub=True)
    return deps, deps.workspace / "tailorbird.db"


def _damage(file: Path, page: int) -> None:
    """Overwrites the header of a page and the first of its cell pointers."""
    with file.open("r+b") as opened:
        opened.seek(page * PAGE)
        opened.write(b"\xa5" * 64)


def test_every_damaged_page_is_named(another: Open) -> None:
    deps, file = _filled(another)
    whole = file.read_bytes()
    actor = act_as(deps, TENANT, "admin")
    pages = len(whole) // PAGE
    assert pages > 100
    for page in range(1, pages, 20):
        deps.ledger.close()
        _damage(file, page)
        try:
            assert deps.ledger.damages(thorough=True), page
            assert any("the database is damaged" in problem for problem in verify_log(deps, actor).problems), page
        finally:
            deps.ledger.close()
            file.write_bytes(whole)


def test_a_backup_of_a_damaged_database_is_refused(another: Open, tmp_path: Path) -> None:
    deps, file = _filled(another)
    actor = act_as(deps, TENANT, "admin")
    deps.ledger.close()
    _damage(file, file.stat().st_size // PAGE - 2)
    with pytest.raises(Corrupt) as refused:
        back_up(deps, actor, tmp_path / "to", b"", Progress())
    assert refused.value.error_code == "database_corrupt"
    assert "tailorbird restore" in refused.value.hint
    assert not (tmp_path / "to").exists()
