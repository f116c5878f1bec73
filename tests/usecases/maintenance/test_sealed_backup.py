"""A backup of a workspace that encrypts holds nothing of its artifacts in the clear, and is read with the workspace's key alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.doubles import FixedClock
from support.doubles.key_service import MemoryKeyService
from tailorbird.domain.errors import Corrupt, Forbidden
from tailorbird.ledger import open_artifacts, open_ledger
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.backup import back_up, find_backup, restore
from tailorbird.usecases.storage_quota import storing
from usecases.test_encryption import WORDS, encrypting


def none() -> None:
    raise AssertionError("nothing is trained or run here")


def restored(folder: Path, source: Path) -> Dependencies:
    folder.mkdir()
    ledger = open_ledger(f"sqlite:///{folder / 'tailorbird.db'}")
    ledger.migrate()
    artifacts = open_artifacts(str(folder / "artifacts"), folder / "cache")
    deps = Dependencies(ledger, artifacts, FixedClock(), folder, none, none, none, sealed_files=artifacts.sealed_files)  # type: ignore[arg-type]
    found = find_backup(source)
    restore(deps, found, Progress())
    return deps


def test_encrypted_artifacts_come_back_with_the_key(deps: Dependencies, tmp_path: Path) -> None:
    service, place = MemoryKeyService(), tmp_path / "backups"
    workspace = encrypting(deps, lambda: service)
    with storing(workspace.for_tenant("acme"), "acme") as (store, _):
        digest = store.put(WORDS)
    made = back_up(workspace, act_as(workspace, "acme", "admin"), place, b"tenant: acme\n", Progress())
    assert made.new == made.artifacts > 0
    assert not [path for path in place.rglob("*") if path.is_file() and WORDS in path.read_bytes()]
    there = encrypting(restored(tmp_path / "restored", place), lambda: service)
    assert there.for_tenant("acme").artifacts.get(digest) == WORDS
    other = encrypting(there, MemoryKeyService)
    with pytest.raises((Forbidden, Corrupt)):
        other.for_tenant("acme").artifacts.get(digest)
    sealed = next(find_backup(place).folder.joinpath("artifacts", "sealed").rglob("*/*/*/*"))
    sealed.unlink()
    with pytest.raises(Corrupt):
        restored(tmp_path / "again", place)
