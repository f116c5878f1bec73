"""Objectives to play the story with, small and of known difficulty."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

import support.ledger_samples as sample
from support.doubles import FixedClock, MemoryEngine, MemoryModelReader, MemoryTrainer
from support.workspace_ledger import SQLITE, workspace_ledger
from tailorbird.domain.identity import Identity, Role, Signature
from tailorbird.domain.rollout import Rollout, RolloutPlan, RolloutStep
from tailorbird.ledger import open_artifacts
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, initialise
from tailorbird.usecases.releases.rollouts import start_rollout, watch_rollouts


def somebody(name: str, tenant: str = "acme") -> Actor:
    """Who is asked for: for use cases called directly, which look at tenant and name alone."""
    made = Identity(tenant=tenant, name=name, roles=frozenset({Role.VIEWER}), public_key="", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    return Actor(made, sign=_signs_nothing)


def _signs_nothing(purpose: str, _digest: str) -> Signature:
    raise AssertionError(f"nobody asked for a signature ({purpose})")


VIEWER = somebody("viewer")
#: For tests whose story must be the same on SQLite and on PostgreSQL.
on_both_databases = pytest.mark.parametrize("deps", ["sqlite", "postgresql"], indirect=True)

LABELS = ("refund", "delivery", "login")
#: What an objective of high risk needs that leaves no answer to people.
NO_REFERRAL = [{"rule": "referral", "by": "head of support", "because": "every answer is read by a person before it is acted on"}]


def write_objective(folder: Path, *, hard_share: int = 20, rows: int = 750, **changes: object) -> Path:
    """An objective over short rows.

    The twin engine answers by words shared with the label, so that every ``hard_share``-th row is one it gets wrong. The floor knows all
    of them: it is a reference, unless the ladder lists it or ``floor`` says otherwise.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            label = LABELS[number % 3]
            said = LABELS[(number + 1) % 3] if number // 3 % hard_share == 0 else label
            writer.writerow([f"case {number * 7919 % 100003} {_words(number)} {said}", label])
    base = folder / "base"
    base.mkdir(exist_ok=True)
    MemoryModelReader().convert(folder, base)
    content: dict[str, object] = {
        "name": "desk",
        "tenant": "acme",
        "business": {"goal": "Route messages.", "owner": "support", "risk": "limited"},
        "task": {"kind": "classify", "instruction": "Classify the message."},
        "data": [{"path": "rows.csv", "source": {"origin": "written for this test", "license": "Apache-2.0"}}],
        "base_model": "base",
        "kpis": [{"metric": "accuracy", "target": 0.8, "because": "as good as people"}],
    }
    if "floor" not in changes.get("ladder", ()):  # type: ignore[operator]
        content["floor"] = "reference"
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def open_workspace(workspace: Path, ledger_kind: str = SQLITE, clock: FixedClock | None = None) -> Dependencies:
    """The workspace there, on SQLite unless ``ledger_kind`` says otherwise; one that is new is made, with its first people."""
    is_new = not workspace.exists()
    workspace.mkdir(exist_ok=True)
    clock = clock or FixedClock()
    ledger = workspace_ledger(workspace, clock, ledger_kind)
    engine, trainer = MemoryEngine(), MemoryTrainer()
    opened = Dependencies(
        ledger=ledger,
        artifacts=open_artifacts(str(workspace / "artifacts"), workspace / "cache"),
        clock=clock,
        workspace=workspace,
        trainer=lambda: trainer,
        engine=lambda: engine,
        model_reader=MemoryModelReader,
    )
    if is_new:
        initialise(opened, "acme", FIRST_PEOPLE)
    return opened


def write_disputed(folder: Path, *, every: int = 4, target: float = 0.7, **changes: object) -> Path:
    """A high-risk objective whose first release is reviewed: where a message names two labels, as ``every`` so many of one label do, the
    floor has learned which counts, and the model has not."""
    business = {"goal": "Route messages.", "owner": "support", "risk": "high"}
    changes = {"exceptions": NO_REFERRAL} | changes
    path = write_objective(folder, business=business, kpis=[{"metric": "accuracy", "target": target}], hard_share=1000, **changes)
    rows = (folder / "rows.csv").read_text().splitlines()
    both = [row.replace(" refund,", " refund login,") if place % every == 0 else row for place, row in enumerate(rows)]
    (folder / "rows.csv").write_text("\n".join(both) + "\n")
    return path


def _words(number: int) -> str:
    """Words that tell rows apart, so that none are near-duplicates."""
    return " ".join(f"w{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001))


def let_in(deps: Dependencies, operator: Actor, digest: str) -> None:
    """Takes a staged release into production by a short rollout on which nothing goes wrong."""
    answered_once_each(deps, roll_out(deps, operator, digest))
    assert watch_rollouts(deps) == 1


def roll_out(deps: Dependencies, operator: Actor, digest: str) -> Rollout:
    """Begins a rollout of one step, which passes once each release has answered."""
    return start_rollout(deps, operator, digest, RolloutPlan(steps=(RolloutStep(share=0.5, requests=1, minutes=0),)))


def answered_once_each(deps: Dependencies, begun: Rollout) -> None:
    """A request that each of the two releases answered."""
    with deps.ledger.work(begun.tenant) as work:
        version = work.aliases.get(begun.alias).version
        rows = [
            sample.request(begun.tenant).model_copy(
                update={"id": f"req_{begun.candidate[7:15]}_{arm}", "alias": f"{begun.tenant}/{begun.alias}", "arm": arm}
                | {"release": release, "at": deps.clock.now(), "version": version}
            )
            for arm, release in (("a", begun.incumbent), ("b", begun.candidate))
        ]
        work.requests.add(rows)


def show_gateway(deps: Dependencies) -> None:
    """A gateway that follows every move at once, as far as the record tells."""
    with deps.ledger.system() as system:
        system.gateways.beat("gateway", 10**6, deps.clock.now())


def everything(deps: Dependencies) -> str:
    """Every byte below the workspace, and all that the ledger tells, wherever it is."""
    with TemporaryDirectory() as folder:
        deps.ledger.dump(Path(folder))
        places = [place for root in (deps.workspace, Path(folder)) for place in root.rglob("*") if place.is_file()]
        return "\n".join(place.read_bytes().decode("utf-8", "replace") for place in places)
