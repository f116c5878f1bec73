"""Checks that rows are as the event log anchors them, before anything rests on them."""

from __future__ import annotations

from tailorbird.crypto.anchored_rows import (
    RowGroup,
    anchored_row,
    decision_group,
    erasure_group,
    look_group,
    record_group,
    review_group,
    row_changed,
    run_group,
    secret_group,
    split_groups,
)
from tailorbird.domain.curation import Decision
from tailorbird.domain.deployment import Alias
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.errors import NotFound
from tailorbird.domain.identity import Identity
from tailorbird.domain.label_review import Judgement
from tailorbird.domain.release import Look
from tailorbird.domain.run import Run, Step
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork


def demand_anchored(work: UnitOfWork, *values: Value | RowGroup) -> None:
    """Returns when each of ``values``, as it was read in this transaction, is what the log says.

    Raises Corrupt, naming the rows that differ; NotFound where this machine cannot check the log's seal.
    """
    differing = work.anchors.differing({row.name: row.digest for row in map(anchored_row, values)})
    if differing:
        raise row_changed(work.tenant, differing)


def anchored_identities(work: UnitOfWork) -> tuple[Identity, ...]:
    """All identities of the tenant, for rules that ask who is there: one that was deleted from the record is missed.

    Raises as ``demand_anchored``.
    """
    people = work.identities.all()
    found = {row.name: row.digest for row in map(anchored_row, people)}
    told = work.anchors.all_of("identity")
    differing = sorted(name for name in found.keys() | told.keys() if found.get(name) != told.get(name))
    if differing:
        raise row_changed(work.tenant, differing)
    return people


# What follows reads and checks at once: what a step, a gate, a signature or an erasure rests on. All raise as ``demand_anchored``.


def anchored_run(work: UnitOfWork, run: str) -> tuple[Run, tuple[Step, ...]]:
    """A run and its steps. Raises NotFound, too."""
    found = work.runs.get(run)
    return found, anchored_steps(work, found)[0]


def anchored_steps(work: UnitOfWork, *runs: Run) -> tuple[tuple[Step, ...], ...]:
    """The steps of each of ``runs``, which were read in this transaction."""
    steps = [work.steps.of(run.id) for run in runs]
    demand_anchored(work, *map(run_group, runs, steps))
    return tuple(steps)


def anchored_looks(work: UnitOfWork) -> tuple[Look, ...]:
    """All looks at sealed tests."""
    looks = work.looks.all()
    demand_anchored(work, look_group(work.tenant, looks))
    return looks


def looks_taken(work: UnitOfWork, objective: str) -> int:
    """How many looks an objective has taken."""
    return sum(look.objective_name == objective for look in anchored_looks(work))


def anchored_splits(work: UnitOfWork, objective: str) -> dict[Digest, tuple[str, str]]:
    """Split and group of every row that an objective ever had."""
    assigned = work.splits.assigned(objective)
    demand_anchored(work, *split_groups(work.tenant, objective, assigned))
    return assigned


def anchored_judgements(work: UnitOfWork, release: Digest) -> tuple[Judgement, ...]:
    """What people said in the label review of a release."""
    said = work.judgements.of(release)
    demand_anchored(work, review_group(work.tenant, release, said))
    return said


def anchored_erasures(work: UnitOfWork) -> tuple[Erasure, ...]:
    """All erasures, newest first."""
    erasures = work.erasures.all()
    demand_anchored(work, erasure_group(work.tenant, erasures))
    return erasures


def anchored_decisions(work: UnitOfWork, objective: str) -> tuple[Decision, ...]:
    """What was decided about rows of an objective."""
    decisions = work.decisions.of(objective)
    demand_anchored(work, decision_group(work.tenant, objective, decisions))
    return decisions


def anchored_records(work: UnitOfWork, kind: type[Value]) -> tuple[Digest, ...]:
    """The digests of all records of a kind, oldest first, where it matters which ones there are."""
    digests = work.records.digests(kind)
    demand_anchored(work, record_group(work.tenant, kind.__name__, digests))
    return digests


def anchored_secret(work: UnitOfWork, name: str) -> bytes:
    """A secret of the tenant. In a transaction that writes it is made on first use."""
    secret = work.secrets.get(name)
    demand_anchored(work, secret_group(work.tenant, name, secret))
    return secret


def anchored_alias(work: UnitOfWork, name: str) -> Alias | None:
    """A public name; None where nothing was ever promoted under it."""
    try:
        alias = work.aliases.get(name)
    except NotFound:
        demand_anchored(work, RowGroup(work.tenant, f"alias/{name}", None))
        return None
    demand_anchored(work, alias)
    return alias
