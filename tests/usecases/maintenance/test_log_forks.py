"""A log that was put back or rewritten is told by what stands elsewhere, and stays told until an admin settles it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryNotifier
from support.operations import Open, add_event, with_upkeep
from tailorbird.auth import KeyFileSealer
from tailorbird.domain.errors import Conflict
from tailorbird.domain.event import Checkpoint
from tailorbird.ledger import open_ledger
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Dependencies, admit
from tailorbird.usecases.identities import NewKey, act_as, create_api_key, revoke_api_key
from tailorbird.usecases.maintenance.audit import (
    checkpoint_notices,
    demand_no_fork,
    keep_signed,
    log_public_key,
    make_checkpoint,
    rotate_log_key,
    settle_forks,
    verify_log,
)
from tailorbird.usecases.releases.promotion import promote
from tailorbird.usecases.releases.rollouts import start_rollout

SOME = "sha256:" + "0" * 64


@pytest.fixture
def witnessed(deps: Dependencies, tmp_path: Path) -> Dependencies:
    """A workspace that ships to a file."""
    return with_upkeep(deps, checkpoint_files=(tmp_path / "witness.jsonl",))


def problems(deps: Dependencies, *notes: str) -> tuple[str, ...]:
    return verify_log(deps, act_as(deps, "acme", "viewer"), notes).problems


def checkpoint(deps: Dependencies) -> Checkpoint:
    return make_checkpoint(deps, act_as(deps, "acme", "admin"))


def put_back(deps: Dependencies, copy: Path) -> Dependencies:
    """The database as it was when ``copy`` was made, in a process that starts now."""
    deps.ledger.close()
    for file in deps.workspace.glob("tailorbird.db*"):
        file.unlink()
    shutil.copy(copy, deps.workspace / "tailorbird.db")
    ledger = open_ledger(f"sqlite:///{deps.workspace / 'tailorbird.db'}", deps.clock, KeyFileSealer(deps.workspace))
    return replace(deps, ledger=ledger)


def copied(deps: Dependencies, tmp_path: Path) -> Path:
    deps.ledger.close()
    deps.ledger.flush(scrub=True)
    return Path(shutil.copy(deps.workspace / "tailorbird.db", tmp_path / "older.db"))


@pytest.fixture
def rolled_back(witnessed: Dependencies, tmp_path: Path) -> Iterator[Dependencies]:
    """A key was revoked and a checkpoint shipped; then the database of before was put back."""
    admin = act_as(witnessed, "acme", "admin")
    key = create_api_key(witnessed, admin, NewKey(name="shop")).key
    checkpoint(witnessed)
    older = copied(witnessed, tmp_path)
    revoke_api_key(witnessed, admin, key.id)
    checkpoint(witnessed)
    assert problems(witnessed) == ()
    deps = put_back(witnessed, older)
    yield deps
    deps.ledger.close()


def test_a_database_that_was_put_back_is_named_however_long_the_log_grows(rolled_back: Dependencies) -> None:
    (problem,) = problems(rolled_back)
    assert "holds a checkpoint of" in problem
    for _ in range(20):
        add_event(rolled_back)
    (problem,) = problems(rolled_back)
    assert "has another root" in problem


def test_a_fork_is_not_signed_nor_shipped_nor_promoted_and_is_alarmed_once(rolled_back: Dependencies, tmp_path: Path) -> None:
    alarm, before = MemoryNotifier(), (tmp_path / "witness.jsonl").read_bytes()
    deps = replace(rolled_back, notifiers=lambda: (alarm,))
    operator = act_as(deps, "acme", "operator")
    for _ in range(3):
        add_event(deps)
        assert keep_signed(deps) is None
    assert [message["kind"] for message in alarm.sent] == ["log.forked"]
    assert (tmp_path / "witness.jsonl").read_bytes() == before
    assert "log_forked" in [notice.code for notice in checkpoint_notices(deps)]
    for attempt in (
        lambda: checkpoint(deps),
        lambda: promote(deps, operator, SOME),
        lambda: start_rollout(deps, operator, SOME),
        lambda: admit(deps, LoadRequest(tenant="acme", release=SOME, purpose="production")),
    ):
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.error_code == "log_forked"


def test_an_admin_settles_a_fork_and_the_places_begin_anew(rolled_back: Dependencies, tmp_path: Path) -> None:
    admin = act_as(rolled_back, "acme", "admin")
    (fork,) = settle_forks(rolled_back, admin, "a backup was restored after the disk had failed").forks
    demand_no_fork(rolled_back)
    assert problems(rolled_back) == ()
    signed = checkpoint(rolled_back)
    newest = Checkpoint.model_validate_json((tmp_path / "witness.jsonl").read_bytes().splitlines()[-1])
    assert newest == signed
    assert problems(rolled_back) == ()
    with rolled_back.ledger.system(write=False) as system:
        (settled,) = [entry.event for entry in system.events.about("log") if entry.event.kind == "log.fork_settled"]
    assert (settled.actor, settled.data["size"], settled.data["root"]) == ("admin", fork.size, fork.root)
    with pytest.raises(Conflict, match="continues"):
        settle_forks(rolled_back, admin, "again")


def test_what_somebody_kept_elsewhere_is_compared(rolled_back: Dependencies, tmp_path: Path) -> None:
    """With no place in the settings: the file was carried here."""
    notes = [json.loads(line)["note"] for line in (tmp_path / "witness.jsonl").read_text().splitlines()]
    deps = with_upkeep(rolled_back, checkpoint_files=())
    assert problems(deps) == ()
    assert problems(deps, notes[0]) == ()
    (problem,) = problems(deps, *notes)
    assert problem.startswith("the witness: it holds a checkpoint of")
    assert "no key of this log" in problems(deps, notes[0].replace("\n— ", "\n— x"))[0] or problems(deps, "no note")


def test_the_key_of_the_log_is_changed_by_both_keys(witnessed: Dependencies, another: Open) -> None:
    before = checkpoint(witnessed)
    public = log_public_key(witnessed)
    changed = rotate_log_key(witnessed, act_as(witnessed, "acme", "admin"))
    assert (changed.former, changed.public) == (public, log_public_key(witnessed))
    after = checkpoint(witnessed)
    assert problems(witnessed, before.note, after.note) == ()
    assert not (witnessed.workspace / "keys" / "log.former.pub").exists()
    stranger = another()
    assert problems(witnessed, checkpoint(stranger).note)
    fresh = replace(
        witnessed, ledger=open_ledger(f"sqlite:///{witnessed.workspace / 'tailorbird.db'}", sealer=KeyFileSealer(witnessed.workspace))
    )
    add_event(fresh)
    assert problems(fresh) == ()
    fresh.ledger.close()
