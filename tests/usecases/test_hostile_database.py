"""Whoever can write to the database, and holds no key, puts nothing into production and changes nothing that is not named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from support.postgresql import Server
from support.usecases import open_workspace, write_objective
from tailorbird import auth
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.identity import Role
from tailorbird.domain.release import Approval, Statement
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Dependencies, Progress, admit
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit

Sql = Callable[..., list[tuple[object, ...]]]


@dataclass
class Attacked:
    """A workspace with an approved release, and somebody who writes into its database."""

    deps: Dependencies
    sql: Sql
    release: str

    def problems(self) -> tuple[str, ...]:
        return verify_log(self.deps, act_as(self.deps, "acme", "viewer")).problems

    def admitted(self) -> bool:
        try:
            admit(self.deps, LoadRequest(tenant="acme", release=self.release, purpose="production"))
        except TailorbirdError:
            return False
        return True


def sql_of(url: str) -> Sql:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def run(statement: str, **values: object) -> list[tuple[object, ...]]:
        with engine.connect() as connection:
            return rows_of(connection, statement, values)

    return run


def rows_of(connection: Connection, statement: str, values: dict[str, object]) -> list[tuple[object, ...]]:
    found = connection.execute(text(statement), values)
    return [tuple(row) for row in found] if found.returns_rows else []


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attacked]:
    """A release that passed its gate and that nobody has decided on."""
    folder = tmp_path / "workspace"
    server: Server | None = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    kind = server.empty() if server else "sqlite"
    deps = open_workspace(folder, kind)
    ended = submit.adapt(deps, act_as(deps, "acme", "author"), write_objective(tmp_path / "job"), Progress())
    yield Attacked(deps, sql_of(kind if server else f"sqlite:///{folder / 'tailorbird.db'}"), str(ended.conclusion.release))
    deps.ledger.close()


def forge_approval(attacked: Attacked, folder: Path, reason: str = "") -> None:
    """Swaps the approver's key for one of our own, and files an approval that it signed."""
    own = folder / "own.key"
    public = auth.create_key(own)
    attacked.sql("UPDATE identities SET public_key = :public WHERE name = 'approver'", public=public)
    with attacked.deps.ledger.work("acme", write=False) as work:
        dossier = digest_of(work.releases.get(attacked.release).dossier)
    stated = Statement(
        release=attacked.release, dossier=dossier, identity="approver", role=Role.APPROVER, decision="approve", reason=reason
    )
    signature = auth.sign(auth.load_key(own), "approver", "approve", digest_of(stated), attacked.deps.clock.now())
    approval = Approval(**dict(stated), signature=signature)
    attacked.sql("DELETE FROM approvals")
    attacked.sql(
        "INSERT INTO approvals (tenant, release, identity, number, dossier, role, decision, reason, signature) "
        "VALUES ('acme', :release, 'approver', 1, :dossier, 'approver', 'approve', :reason, :signature)",
        release=approval.release,
        dossier=approval.dossier,
        reason=approval.reason,
        signature=canonical_json(approval.signature).decode(),
    )


def put_into_production(attacked: Attacked) -> None:
    zone = "" if attacked.deps.workspace.joinpath("tailorbird.db").exists() else "+00:00"
    attacked.sql("UPDATE releases SET state = 'production'")
    attacked.sql(
        "INSERT INTO aliases (tenant, name, stage, version, targets, previous, moved_at, moved_by, salt, move) "
        f"VALUES ('acme', 'desk', 'production', 1, :targets, '[]', '2026-03-01 12:00:00{zone}', 'operator', '', 1)",
        targets=json.dumps([{"release": attacked.release, "weight": 100}], separators=(",", ":")),
    )


def test_a_rejected_release_is_not_put_into_production_by_sql(attacked: Attacked, tmp_path: Path) -> None:
    """The key of the approver is swapped, the rejection replaced by an approval, state and alias set: all of it without any key of ours."""
    deps = attacked.deps
    promotion.sign_and_decide(deps, act_as(deps, "acme", "approver"), attacked.release, "reject", "it misses refunds")
    assert attacked.problems() == ()
    attacked.sql("UPDATE releases SET state = 'gated'")
    attacked.sql("DELETE FROM approvals")
    forge_approval(attacked, tmp_path)
    put_into_production(attacked)
    assert not attacked.admitted()
    told = " ".join(attacked.problems())
    for row in ("identity approver", f"release {attacked.release[7:19]}", "alias desk"):
        assert row in told


def test_what_was_tampered_with_is_not_taken_over_by_the_next_change(attacked: Attacked, tmp_path: Path) -> None:
    """The forged approval is there before somebody stages the release: nothing that is written afterwards makes it good."""
    deps = attacked.deps
    forge_approval(attacked, tmp_path)
    attacked.sql("UPDATE releases SET state = 'approved'")
    with pytest.raises(Corrupt):
        promotion.stage(deps, act_as(deps, "acme", "operator"), attacked.release)
    assert not attacked.admitted()
    assert attacked.problems()
