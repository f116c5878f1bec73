"""What people do to a release, over a real ledger: approvals, promotion, rollback, keys, and every way it is refused."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

import pytest

from support.doubles import FixedClock
from support.usecases import NO_REFERRAL, VIEWER, answered_once_each, let_in, roll_out, show_gateway, write_objective
from tailorbird.auth import create_key, load_key, sign
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput
from tailorbird.domain.identity import Identity, Role, Rotation
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.rollout import RolloutState
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.identities import (
    act_as,
    add_identity,
    disable,
    key_path,
    rotate,
)
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.registry import perform
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.release_queries import show_card, show_quorum, show_release
from tailorbird.usecases.releases.rollouts import decide_rollout, drill_release, show_rollout, watch_rollouts
from tailorbird.usecases.runs import submit as climbing

SILENT = Progress()


def add(deps: Dependencies, admin: Actor, name: str, roles: list[Role]) -> Identity:
    """As the command line does it: the key is made beside, and its public half told."""
    public = create_key(key_path(deps, admin.tenant, name))
    return perform(deps, admin, add_identity, name=name, roles=frozenset(roles), public_key=public)


@pytest.fixture
def release(deps: Dependencies, author: Actor, tmp_path_factory: pytest.TempPathFactory) -> str:
    ended = climbing.adapt(deps, author, write_objective(tmp_path_factory.mktemp("job")), SILENT)
    assert ended.conclusion.release is not None
    return ended.conclusion.release


def production(release: str) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release, purpose="production")


def test_the_whole_way_into_production_and_back(deps: Dependencies, approver: Actor, operator: Actor, release: str) -> None:
    assert moves.sign_and_decide(deps, approver, release, "approve", "read").state is ReleaseState.APPROVED
    assert moves.stage(deps, operator, release).state is ReleaseState.STAGED
    moved = moves.promote(deps, operator, release)
    assert moved.alias.path == "acme/desk"
    assert moved.alias.targets[0].release == release
    assert admit(deps, production(release)).id == release
    back = moves.roll_back(deps, operator, "desk", "drill", withdraw=True)
    assert back.alias.targets == ()
    assert back.alias.version == 2
    assert show_release(deps, VIEWER, release).state is ReleaseState.RETIRED


def staged_beside(deps: Dependencies, author: Actor, approver: Actor, operator: Actor, release: str) -> str:
    """Another release of the name, staged as ``release`` is."""
    second = second_release(deps, author, release)
    for digest in (release, second):
        moves.sign_and_decide(deps, approver, digest, "approve", "")
        moves.stage(deps, operator, digest)
    return second


def test_a_replaced_release_answers_again_after_a_rollback(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, release: str
) -> None:
    second = staged_beside(deps, author, approver, operator, release)
    assert show_quorum(deps, VIEWER, second).next == f"tailorbird promote {short(second)}"
    moves.promote(deps, operator, release)
    assert show_quorum(deps, VIEWER, second).next == f"tailorbird rollout start {short(second)}"
    with pytest.raises(Conflict) as refused:
        moves.promote(deps, operator, second)
    assert refused.value.error_code == "rollout_needed"
    let_in(deps, operator, second)
    assert show_release(deps, VIEWER, release).state is ReleaseState.STAGED
    back = moves.roll_back(deps, operator, "desk", "worse")
    assert back.entered.digest == release
    with pytest.raises(Conflict) as again:
        moves.roll_back(deps, operator, "desk", "worse")
    assert again.value.error_code == "withdrawal_unasked"
    assert show_release(deps, VIEWER, release).state is ReleaseState.PRODUCTION
    assert show_release(deps, VIEWER, second).state is ReleaseState.RETIRED


def second_release(deps: Dependencies, author: Actor, first: str) -> str:
    folder = deps.workspace.parent / "second"
    ended = climbing.adapt(deps, author, write_objective(folder, margin=0.03), SILENT)
    assert ended.conclusion.release not in (None, first)
    return str(ended.conclusion.release)


@pytest.mark.parametrize("verb", ["stage", "promote"])
def test_nothing_moves_without_approval(deps: Dependencies, operator: Actor, release: str, verb: str) -> None:
    with pytest.raises(Conflict):
        getattr(moves, verb)(deps, operator, release)
    with pytest.raises(Forbidden, match="not approved"):
        admit(deps, production(release))


def test_the_author_cannot_approve_not_even_with_the_role(deps: Dependencies, release: str) -> None:
    admin = act_as(deps, "acme", "admin")
    add(deps, admin, "both", [Role.AUTHOR, Role.APPROVER])
    both = act_as(deps, "acme", "both")
    ended = climbing.adapt(deps, both, write_objective(deps.workspace.parent / "own", margin=0.04), SILENT)
    with pytest.raises(Forbidden, match="cannot decide"):
        moves.sign_and_decide(deps, both, str(ended.conclusion.release), "approve", "")
    assert moves.sign_and_decide(deps, both, release, "approve", "").state is ReleaseState.APPROVED


def test_naming_somebody_is_not_being_them(deps: Dependencies) -> None:
    """The author's key does not prove the approver's name."""
    with pytest.raises(Forbidden):
        act_as(deps, "acme", "approver", key_path(deps, "acme", "author"))


def test_a_signature_by_another_key_is_not_taken(deps: Dependencies, approver: Actor, author: Actor, release: str) -> None:
    forged = Actor(approver.identity, author.sign)
    with pytest.raises(InvalidInput, match="was made by author"):
        moves.sign_and_decide(deps, forged, release, "approve", "")
    assert show_release(deps, VIEWER, release).state is ReleaseState.GATED


def test_whoever_approved_takes_it_back_until_it_is_staged(deps: Dependencies, approver: Actor, operator: Actor, release: str) -> None:
    moves.sign_and_decide(deps, approver, release, "approve", "read")
    found = moves.sign_and_decide(deps, approver, release, "reject", "read again")
    assert found.state is ReleaseState.REJECTED
    assert [(one.identity, one.decision, one.reason) for one in found.approvals] == [("approver", "reject", "read again")]
    with deps.ledger.system(write=False) as system:
        kinds = [entry.event.kind for entry in system.events.entries()]
    assert "release.approved" in kinds
    assert kinds[-1] == "release.rejected"
    assert verify_log(deps, VIEWER).intact


def test_a_struck_approval_is_made_good_at_any_state(
    deps: Dependencies, approver: Actor, operator: Actor, release: str, tmp_path: Path
) -> None:
    """A leaked key strikes what it approved: the release is approved anew, with the new key or by somebody else, and goes on."""
    moves.sign_and_decide(deps, approver, release, "approve", "read")
    with pytest.raises(Conflict):
        moves.sign_and_decide(deps, act_as(deps, "acme", "approver"), release, "approve", "again")
    anew = leaked(deps, approver)
    assert show_quorum(deps, VIEWER, release).text == "1 more approval by approver; who may: approver"
    with pytest.raises(Forbidden, match="lacks valid approvals: 1 more approval"):
        moves.stage(deps, operator, release)
    assert moves.sign_and_decide(deps, anew, release, "approve", "with the new key").state is ReleaseState.APPROVED
    moves.stage(deps, operator, release)
    moves.promote(deps, operator, release)
    second = leaked(deps, anew)
    with pytest.raises(Forbidden):
        admit(deps, production(release))
    (struck,) = show_release(deps, VIEWER, release).approvals
    found = moves.sign_and_decide(deps, second, release, "approve", "third key")
    assert (found.state, len(found.approvals)) == (ReleaseState.PRODUCTION, 1)
    with deps.ledger.work("acme", write=False) as work:
        told = [entry.event.data for entry in work.events.about(release) if entry.event.kind == "release.approved"]
    assert "replaced.signature" not in told[0]
    kept = [told[-1][f"replaced.{name}"] for name in ("signature", "public_key", "digest")]
    assert kept == [struck.signature.signature, struck.signature.public_key, digest_of(struck.statement())], "its row is gone"
    assert admit(deps, production(release)).id == release
    assert show_quorum(deps, VIEWER, release).is_open is False
    assert verify_log(deps, VIEWER).intact


def test_a_rollout_gives_no_more_users_to_a_release_whose_approval_was_struck(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, release: str
) -> None:
    """Neither people nor guards: its approvals were looked at when the rollout began, and never again."""
    second = staged_beside(deps, author, approver, operator, release)
    moves.promote(deps, operator, release)
    begun = roll_out(deps, operator, second)
    anew = leaked(deps, approver)
    moves.sign_and_decide(deps, anew, release, "approve", "what answers now stays approved")
    answered_once_each(deps, begun)
    assert watch_rollouts(deps) == 1
    held = show_rollout(deps, VIEWER, begun.id).rollout
    assert (held.state, held.finished) == (RolloutState.HELD, True)
    assert "lacks valid approvals: 1 more approval by approver" in held.history[-1].reason
    for decision in ("promote", "promote_unproven"):
        with pytest.raises(Forbidden, match="lacks valid approvals") as refused:
            decide_rollout(deps, operator, begun.id, decision, "now")  # type: ignore[arg-type]
        assert (refused.value.error_code, "release approve" in refused.value.hint) == ("not_approved", True)
    assert show_release(deps, VIEWER, second).state is ReleaseState.ROLLING_OUT
    moves.sign_and_decide(deps, anew, second, "approve", "with the new key")
    assert decide_rollout(deps, operator, begun.id, "promote", "approved anew").state is RolloutState.PROMOTED
    assert show_release(deps, VIEWER, second).state is ReleaseState.PRODUCTION


def leaked(deps: Dependencies, actor: Actor) -> Actor:
    """The actor after a rotation that strikes the former key."""
    path = key_path(deps, "acme", actor.name)
    old = path.rename(path.with_suffix(f".{secrets.token_hex(4)}"))
    public = create_key(path)
    rotation = Rotation(tenant="acme", identity=actor.name, public_key=public, leaked=True)
    present, proof = (sign(load_key(key), actor.name, "rotate", digest_of(rotation), deps.clock.now()) for key in (old, path))
    rotate(deps, actor, rotation, present, proof)
    return act_as(deps, "acme", actor.name)


def test_two_who_see_one_alarm_take_back_one_release(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, release: str
) -> None:
    second = staged_beside(deps, author, approver, operator, release)
    moves.promote(deps, operator, release)
    let_in(deps, operator, second)
    with deps.ledger.work("acme", write=False) as work:
        seen = work.aliases.get("desk").version
    moves.roll_back(deps, operator, "desk", "alarm", seen)
    with pytest.raises(Conflict) as refused:
        moves.roll_back(deps, approver, "desk", "alarm", seen)
    assert refused.value.error_code == "alias_moved"
    assert show_release(deps, VIEWER, release).state is ReleaseState.PRODUCTION


def test_a_rejected_release_is_gone_for_good(deps: Dependencies, approver: Actor, operator: Actor, release: str) -> None:
    assert moves.sign_and_decide(deps, approver, release, "reject", "wrong labels").state is ReleaseState.REJECTED
    with pytest.raises(Conflict):
        moves.stage(deps, operator, release)


def test_changed_bytes_are_refused_and_the_refusal_is_logged(deps: Dependencies, approver: Actor, release: str) -> None:
    moves.sign_and_decide(deps, approver, release, "approve", "")
    content = show_release(deps, VIEWER, release).content
    damage(deps, content.base_model)
    with pytest.raises(Corrupt):
        admit(deps, production(release))
    with deps.ledger.system(write=False) as system:
        assert [entry.event.kind for entry in system.events.entries()][-1] == "release.load_refused"


def damage(deps: Dependencies, tree: str) -> None:
    """Flips one byte of the largest file of a tree, wherever the store keeps it."""
    digests = deps.artifacts.tree(tree).values()
    files = [path for path in deps.workspace.rglob("*") if path.is_file() and any(d.removeprefix("sha256:") in path.name for d in digests)]
    assert files
    for path in files:
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))


def test_what_somebody_approved_before_they_were_disabled_stands(
    deps: Dependencies, approver: Actor, operator: Actor, release: str
) -> None:
    moves.sign_and_decide(deps, approver, release, "approve", "")
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(seconds=1))
    disable(deps, act_as(deps, "acme", "admin"), "approver")
    moves.stage(deps, operator, release)
    assert admit(deps, production(release)).id == release


def test_an_edit_does_not_lower_the_tier_of_what_is_in_production(deps: Dependencies, author: Actor, operator: Actor) -> None:
    """A high-risk release answers; an edit to minimal risk still asks for two people of two roles."""
    folder = deps.workspace.parent / "tiers"
    admin = act_as(deps, "acme", "admin")
    add(deps, admin, "ann", [Role.APPROVER])
    add(deps, admin, "bob", [Role.REVIEWER])
    business = {"goal": "Route messages.", "owner": "support"}
    digests = []
    for risk in ("high", "minimal"):
        excepted = {"exceptions": NO_REFERRAL} if risk == "high" else {}
        ended = climbing.adapt(deps, author, write_objective(folder, business=business | {"risk": risk}, **excepted), SILENT)
        digests.append(str(ended.conclusion.release))
        moves.sign_and_decide(deps, act_as(deps, "acme", "ann"), digests[-1], "approve", "")
        with pytest.raises(Conflict):
            moves.stage(deps, operator, digests[-1])
        assert "2 different people" in show_card(deps, VIEWER, digests[-1]).markdown.split("## Approvals needed")[1]
        moves.sign_and_decide(deps, act_as(deps, "acme", "bob"), digests[-1], "approve", "")
        moves.stage(deps, operator, digests[-1])
        assert show_quorum(deps, VIEWER, digests[-1]).next == f"tailorbird drill {short(digests[-1])}"
        if risk == "high":
            into_production_as_high(deps, operator, digests[-1])
    with pytest.raises(Conflict) as refused:
        moves.promote(deps, operator, digests[-1])
    assert refused.value.error_code == "rollout_needed"


def into_production_as_high(deps: Dependencies, operator: Actor, digest: str) -> None:
    """A drill, and two operators."""
    add(deps, act_as(deps, "acme", "admin"), "second", [Role.OPERATOR])
    for code in ("drill_needed", "second_operator"):
        with pytest.raises(Conflict) as refused:
            moves.promote(deps, operator, digest)
        assert refused.value.error_code == code
        show_gateway(deps)
        drill_release(deps, operator, digest)
    moves.promote(deps, act_as(deps, "acme", "second"), digest)
