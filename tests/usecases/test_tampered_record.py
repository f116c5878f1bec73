"""What a signature, a gate, an approval, an alias, an erasure or a quota rests on is refused once it was changed by SQL, and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Boolean, Column, Float, Integer, create_engine, text
from sqlalchemy.pool import NullPool

import support.ledger_samples as sample
from support.usecases import open_workspace, write_objective
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.curation import Decision, FixAction
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.evidence import Evidence, GateResult, Metric, Verdict
from tailorbird.domain.identity import ApiKey, Session
from tailorbird.domain.label_review import Judgement, Mark
from tailorbird.domain.ladder import Allowance, RungKind, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release
from tailorbird.domain.run import TEST, Run, RunState
from tailorbird.domain.value import Value
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.tables import CanonicalJson, UtcTime, metadata
from tailorbird.serving.request_log import usage_of
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.anchored_rows import anchored_identities, anchored_judgements, anchored_looks, anchored_records, anchored_splits
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import check_log, make_checkpoint
from tailorbird.usecases.releases.rules import rule_of
from tailorbird.usecases.runs import submit
from tailorbird.usecases.runs.engine import plan_for, stage_of, work_on
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.snapshots import amendments_of, manifests_of
from tailorbird.usecases.storage_quota import stored_by

T = TypeVar("T")
SILENT = Progress()
#: A public name that somebody points to a release by hand.
ALIAS = (
    "INSERT INTO aliases (tenant, name, stage, version, targets, previous, moved_at, moved_by, salt, move) "
    "SELECT tenant, 'desk', 'production', 1, '[{\"release\"\\:\"' || digest || '\",\"weight\"\\:100}]', "
    "'[]', '2026-03-01 12:00:00', 'operator', '', 1 "
    "FROM releases"
)
OTHER = "sha256:" + "ab" * 32


class Record:
    """The workspace of a test, and somebody who writes into its database."""

    def __init__(self, folder: Path) -> None:
        self.deps = open_workspace(folder)
        self.author = act_as(self.deps, "acme", "author")
        self._engine = create_engine(f"sqlite:///{folder / 'tailorbird.db'}", isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def sql(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            done = connection.execute(text(statement), values)
            return [tuple(row) for row in done] if done.returns_rows else []

    def forge(self, value: Value) -> str:
        """Inserts a record under its own digest, as our own code would write it."""
        values = {"kind": type(value).__name__, "digest": digest_of(value), "body": canonical_json(value).decode()}
        self.sql("INSERT INTO records (tenant, kind, digest, number, body) VALUES ('acme', :kind, :digest, 999, :body)", **values)
        return values["digest"]

    def problems(self) -> str:
        """What ``audit verify`` says; a record that it cannot read ends it."""
        try:
            return " ".join(check_log(self.deps).problems)
        except Corrupt as error:
            return error.message

    def releases(self) -> int:
        with self.deps.ledger.work("acme", write=False) as work:
            return len(work.releases.all())


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Workspaces to copy: ``tested`` before its release is signed, ``released`` with what may stand beside it."""
    folder = tmp_path_factory.mktemp("stories")

    @cache
    def story(name: str) -> Path:
        record = Record(folder / name)
        path = write_objective(folder / f"{name}-job")
        if name == "tested":
            plan_for(record.deps, record.author, submit.submit(record.deps, record.author, path, RunState.ACTIVE), SILENT, TEST)
        else:
            submit.adapt(record.deps, record.author, path, SILENT)
        if name == "released":
            stand_beside(record.deps)
        record.deps.ledger.close()
        return folder / name

    return story


def stand_beside(deps: Dependencies) -> None:
    """Rows of the tables that the story leaves empty."""
    now = deps.clock.now()
    with deps.ledger.work("acme") as work:
        release = work.releases.all()[0].digest
        work.judgements.add(Judgement(release=release, reviewer="reviewer", number=1, mark=Mark.TIE, candidate_side="left", at=now))
        work.decisions.add([Decision(objective="desk", row="sha256:" + "cd" * 32, action=FixAction.DROP, by="author", at=now)])
        work.erasures.add(Erasure(id="ab" * 6, tenant="acme", subject="pseudonym", by="admin", at=now))
        work.releases.approve(sample.approval(work.releases.get(release), "approver"))
        work.aliases.put(sample.alias("acme", name="billing"))
        work.rollouts.add(sample.rollout("acme"))
        work.keys.add(ApiKey(id="0" * 12, tenant="acme", name="shop", secret_sha256="0" * 64, created_at=now))
        work.sessions.add(
            Session(
                id="a" * 32, tenant="acme", identity="author", secret_sha256="0" * 64, created_at=now, expires_at=now + timedelta(days=1)
            )
        )
        answered = sample.request("acme").model_copy(update={"at": now, "key": "0" * 12, "release": release})
        work.requests.add([answered])
        work.usage.add(usage_of([answered], "gateway"))
    make_checkpoint(deps, act_as(deps, "acme", "admin"))


@pytest.fixture
def record(request: pytest.FixtureRequest, stories: Callable[[str], Path], tmp_path: Path) -> Record:
    return Record(shutil.copytree(stories(request.param), tmp_path / "workspace"))


def made_up(record: Record, candidate: str, evidence: Evidence) -> str:
    """A sealed test that never was: 0.995 where something else was measured. Returns the digest of its record."""
    shown = {"accuracy": Metric(name="accuracy", value=0.995, low=0.99, high=0.999, confidence=0.9, n=150, method="wilson")}
    found = evidence.model_copy(update={"metrics": evidence.metrics | shown})
    gate = GateResult(
        verdict=Verdict.PASS, split=found.split, confidence=0.9, adjusted_confidence=0.9, look=1, findings=(), reason="all reached"
    )
    return record.forge(SealedTest(candidate=candidate, evidence=record.forge(found), gate=record.forge(gate), look=1))


def signed_by(record: Record) -> str:
    """What adapting again comes to: the code of the refusal; empty where a release was signed."""
    ((run,),) = record.sql("SELECT id FROM runs")
    with record.deps.ledger.work("acme", write=False) as work:
        found = work.runs.get(run)
    try:
        work_on(record.deps, record.author, found, SILENT)
    except TailorbirdError as error:
        return error.error_code
    return ""


@pytest.mark.parametrize("record", ["tested"], indirect=True)
def test_a_sealed_test_repointed_by_sql_is_not_signed(record: Record) -> None:
    with record.deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        (test,) = [step.result for step in work.steps.of(run.id) if step.name == TEST]
        found = work.records.get(SealedTest, str(test))
        evidence = work.records.get(Evidence, found.evidence)
    forged = made_up(record, found.candidate, evidence)
    record.sql("UPDATE steps SET result = :forged WHERE name = 'test'", forged=forged)
    assert signed_by(record) == "row_changed"
    assert record.releases() == 0
    assert f"run {run.id}" in record.problems()


#: What rests on a table, the change that is made of it, and the decision that reads it.
Reading = Callable[[Record], object]
REFUSED: dict[str, tuple[str, Reading]] = {
    "a run": ("UPDATE runs SET state = 'active'", lambda record: stage_of(record.deps, record.author, run_of(record), SILENT)),
    "a step's result": (
        "UPDATE steps SET result = :other WHERE name = 'choose'",
        lambda record: show_run(record.deps, record.author, run_of(record).id),
    ),
    "a step's costs": ("UPDATE steps SET paid = 0.5", lambda record: stage_of(record.deps, record.author, run_of(record), SILENT)),
    "a look": ("DELETE FROM looks", lambda record: with_work(record, anchored_looks)),
    "splits": ("UPDATE splits SET split = 'test'", lambda record: with_work(record, lambda work: anchored_splits(work, "desk"))),
    "a row without a split": ("DELETE FROM splits", lambda record: with_work(record, lambda work: anchored_splits(work, "desk"))),
    "a judgement": ("DELETE FROM judgements", lambda record: with_release(record, reviews_of)),
    "a decision": ("DELETE FROM decisions", lambda record: amendments_of(record.deps, objective_of(record))),
    "an erasure": ("DELETE FROM erasures", lambda record: amendments_of(record.deps, objective_of(record))),
    "a secret": ("DELETE FROM secrets", lambda record: amendments_of(record.deps, objective_of(record))),
    "a snapshot": ("DELETE FROM records WHERE kind = 'SnapshotManifest'", lambda record: with_work(record, manifests_of)),
    "stored bytes": ("UPDATE stored SET bytes = 1", lambda record: stored_by(record.deps, "acme")),
    "a public name": (ALIAS, lambda record: with_release(record, rule_of)),
    "who decides": ("DELETE FROM identities WHERE name = 'operator'", lambda record: with_work(record, anchored_identities)),
}


@pytest.mark.parametrize("record", ["released"], indirect=True)
@pytest.mark.parametrize("what", REFUSED)
def test_what_rests_on_a_tampered_row_is_refused(record: Record, what: str) -> None:
    change, decision = REFUSED[what]
    decision(record)
    record.sql(change, **({"other": OTHER} if ":other" in change else {}))
    with pytest.raises(Corrupt) as refused:
        decision(record)
    assert refused.value.error_code == "row_changed"


@pytest.mark.parametrize("record", ["released"], indirect=True)
def test_an_allowance_put_in_by_sql_allows_nothing(record: Record) -> None:
    record.forge(Allowance(run=run_of(record).id, rung=RungKind.FULL, by="approver", reason=""))
    with pytest.raises(Corrupt) as refused:
        with_work(record, lambda work: anchored_records(work, Allowance))
    assert refused.value.error_code == "row_changed"
    assert "records Allowance" in record.problems()


@pytest.mark.parametrize("record", ["released"], indirect=True)
def test_a_drill_put_into_the_log_by_sql_does_not_count(record: Record) -> None:
    """An entry about the release becomes that of a drill: the row says so, and the tree of the log does not."""
    with_release(record, drilled)
    ((index, body),) = record.sql("SELECT \"index\", body FROM log_entries WHERE body LIKE '%release.gated%'")
    record.sql('UPDATE log_entries SET body = :body WHERE "index" = :index', body=body.replace("gated", "drilled"), index=index)
    with pytest.raises(Corrupt) as refused:
        with_release(record, drilled)
    assert refused.value.error_code == "log_corrupt"


def drilled(work: UnitOfWork, release: Release) -> bool:
    return any(entry.event.kind == "release.drilled" for entry in work.events.about(release.digest))


def reviews_of(work: UnitOfWork, release: Release) -> object:
    return anchored_judgements(work, release.digest)


def run_of(record: Record) -> Run:
    return with_work(record, lambda work: work.runs.all()[0])


def objective_of(record: Record) -> Objective:
    return with_work(record, lambda work: work.records.get(Objective, work.runs.all()[0].objective))


def with_work(record: Record, do: Callable[[UnitOfWork], T]) -> T:
    with record.deps.ledger.work("acme", write=False) as work:
        return do(work)


def with_release(record: Record, do: Callable[[UnitOfWork, Release], T]) -> T:
    return with_work(record, lambda work: do(work, work.releases.all()[0]))


#: Columns, and whole tables, whose change is not named. No signature, gate, approval, alias, erasure, quota or bill rests on one of them.
HARMLESS = {
    # measures of traffic: a guard that they end or move is recorded with its numbers when it decides
    "feedback",
    "requests.id",
    "requests.alias",
    *(f"requests.{name}" for name in ("route", "status", "outcome", "error", "prediction", "latency_ms", "characters", "sketch")),
    *(f"requests.{name}" for name in ("confidence", "version", "unit", "malformed", "referred", "out_of_scope", "agrees")),
    # leases: who works on it now, and how often that ended badly
    *(f"steps.{name}" for name in ("owner", "lease_until", "leased_at", "attempts", "deaths", "reached")),
    *("erasures.owner", "erasures.lease_until"),
    # what is shown, and leads to nothing
    *(f"steps.{name}" for name in ("position", "progress", "error", "message", "hint")),
    *("signals", "reviews", "contents", "judgements.reason"),
    # the order in which rows were added; what is anchored tells its own order where that matters
    "number",
    # how gateways find what moved; they compare the alias itself
    *("gateways", "alias_moves", "aliases.move"),
    # derived from what is compared, or authenticated otherwise; whoever revives a session lacks its secret
    *("data_keys", "log_nodes", "anchored_rows.place", "anchored_rows.bucket", "log_frontier.id", "checkpoints.at", "stored.name"),
    "sessions.ended_at",
}
#: Columns that a decision rests on, and whose change is not named yet (docs/security.md): the sum of all counts stays the same.
OPEN_RISKS = {"requests.release", "requests.endpoint", "requests.paid", "usage.gateway"}
#: Values that a column takes, where any other of its type would not be read at all.
TAKES: dict[str, object] = {
    "steps.state": "failed",
    "runs.state": "active",
    "releases.state": "approved",
    "judgements.mark": "left",
    "judgements.candidate_side": "right",
    "erasures.state": "done",
    "decisions.action": "keep",
    "requests.arm": "shadow",
    "aliases.stage": "staging",
    "approvals.decision": "reject",
}


def unnamed(table: str, column: str) -> bool:
    return not (HARMLESS | OPEN_RISKS).isdisjoint((table, column, f"{table}.{column}"))


def other_than(column: Column[Any], known: object) -> object:
    """A value of the column's type that is not ``known``."""
    taken = TAKES.get(f"{column.table.name}.{column.name}")
    if taken is not None and taken != known:
        return taken
    if isinstance(column.type, Boolean):
        return not known
    if isinstance(column.type, Integer | Float):
        return (known or 0) + 1000  # type: ignore[operator]
    if isinstance(column.type, UtcTime):
        return "2020-01-01 00:00:00.000000"
    if isinstance(column.type, CanonicalJson):
        return "[]" if known != "[]" else '["x"]'
    return OTHER if known is None or str(known).startswith("sha256:") else f"{known}x"


@pytest.mark.parametrize("record", ["released"], indirect=True)
@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_a_change_of_any_column_is_named_or_harmless(record: Record, table: str) -> None:
    if table in HARMLESS:
        return
    assert record.problems() == ""
    rows = record.sql(f"SELECT rowid FROM {table} LIMIT 1")
    assert rows, f"the story leaves {table} empty"
    for column in metadata.tables[table].columns:
        if unnamed(table, column.name):
            continue
        ((row, known),) = record.sql(f'SELECT rowid, "{column.name}" FROM {table} LIMIT 1')
        change, other = f'UPDATE {table} SET "{column.name}" = :value WHERE rowid = :row', other_than(column, known)
        record.sql(change, value=other, row=row)
        assert record.problems(), f"{table}.{column.name} was changed, and nothing is said of it"
        is_row = isinstance(column.type, Integer) and list(metadata.tables[table].primary_key) == [column]  # SQLite's own name for it
        record.sql(change, value=known, row=other if is_row else row)
    assert record.problems() == ""
    if table != "checkpoints":  # the places that they were shipped to miss one
        record.sql(f"DELETE FROM {table} WHERE rowid = {rows[0][0]}")
        assert record.problems(), f"a row of {table} is gone, and nothing is said of it"


def test_what_is_not_named_is_in_the_schema() -> None:
    """A column that is renamed does not stay on the list."""
    known = {*metadata.tables, "number", *(f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns)}
    assert known >= HARMLESS | OPEN_RISKS
