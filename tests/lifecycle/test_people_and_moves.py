"""What people do to a release, over a real ledger: approvals, promotion, rollback, keys, and every way it is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle_kit import NO_REFERRAL, let_in, show_gateway, write_objective

from tailorbird.access import create_key
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.release import ReleaseState
from tailorbird.integrations.memory import FixedClock
from tailorbird.lifecycle import Actor, Parts, Progress, admit
from tailorbird.lifecycle.control import people, perform
from tailorbird.lifecycle.identities.people import act_as, create_api_key, disable, key_path, list_api_keys, revoke_api_key
from tailorbird.lifecycle.releasing import promote as moves
from tailorbird.lifecycle.releasing.drill import drill
from tailorbird.lifecycle.running import adapt as climbing
from tailorbird.lifecycle.upkeep.audit import make_checkpoint, verify_log
from tailorbird.ports.engine import LoadRequest

SILENT = Progress()


def add_identity(parts: Parts, admin: Actor, name: str, roles: list[Role]) -> Identity:
    """As the command line does it: the key is made beside, and its public half told."""
    public = create_key(key_path(parts, admin.tenant, name))
    asked = people.NewIdentity(name=name, roles=frozenset(roles), public_key=public)
    return perform(parts, admin, people.ADD, asked)


@pytest.fixture
def release(parts: Parts, author: Actor, tmp_path_factory: pytest.TempPathFactory) -> str:
    ended = climbing.adapt(parts, author, write_objective(tmp_path_factory.mktemp("job")), SILENT)
    assert ended.conclusion is not None
    assert ended.conclusion.release is not None
    return ended.conclusion.release


def production(release: str) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release, purpose="production")


def test_the_whole_way_into_production_and_back(parts: Parts, approver: Actor, operator: Actor, release: str) -> None:
    assert moves.sign_and_decide(parts, approver, release, "approve", "read").state is ReleaseState.APPROVED
    assert moves.stage(parts, operator, release).state is ReleaseState.STAGED
    moved = moves.promote(parts, operator, release)
    assert moved.alias.path == "acme/desk"
    assert moved.alias.targets[0].release == release
    assert admit(parts, production(release)).id == release
    back = moves.roll_back(parts, operator, "acme/desk", "drill")
    assert back.alias.targets == ()
    assert back.alias.version == 2
    assert moves.find_release(parts, "acme", release).state is ReleaseState.RETIRED


def test_a_replaced_release_answers_again_after_a_rollback(
    parts: Parts, author: Actor, approver: Actor, operator: Actor, release: str
) -> None:
    second = second_release(parts, author, release)
    for digest in (release, second):
        moves.sign_and_decide(parts, approver, digest, "approve", "")
        moves.stage(parts, operator, digest)
    moves.promote(parts, operator, release)
    with pytest.raises(Conflict) as refused:
        moves.promote(parts, operator, second)
    assert refused.value.error_code == "rollout_needed"
    let_in(parts, operator, second)
    assert moves.find_release(parts, "acme", release).state is ReleaseState.STAGED
    back = moves.roll_back(parts, operator, "desk", "worse")
    assert back.entered is not None
    assert back.entered.digest == release
    assert moves.find_release(parts, "acme", release).state is ReleaseState.PRODUCTION
    assert moves.find_release(parts, "acme", second).state is ReleaseState.RETIRED


def second_release(parts: Parts, author: Actor, first: str) -> str:
    folder = parts.workspace.parent / "second"
    ended = climbing.adapt(parts, author, write_objective(folder, margin=0.03), SILENT)
    assert ended.conclusion is not None
    assert ended.conclusion.release not in (None, first)
    return str(ended.conclusion.release)


@pytest.mark.parametrize("verb", ["stage", "promote"])
def test_nothing_moves_without_approval(parts: Parts, operator: Actor, release: str, verb: str) -> None:
    with pytest.raises(Conflict):
        getattr(moves, verb)(parts, operator, release)
    with pytest.raises(Forbidden, match="not approved"):
        admit(parts, production(release))


def test_the_author_cannot_approve_not_even_with_the_role(parts: Parts, release: str) -> None:
    admin = act_as(parts, "acme", "admin")
    add_identity(parts, admin, "both", [Role.AUTHOR, Role.APPROVER])
    both = act_as(parts, "acme", "both")
    ended = climbing.adapt(parts, both, write_objective(parts.workspace.parent / "own", margin=0.04), SILENT)
    assert ended.conclusion is not None
    with pytest.raises(Forbidden, match="cannot decide"):
        moves.sign_and_decide(parts, both, str(ended.conclusion.release), "approve", "")
    assert moves.sign_and_decide(parts, both, release, "approve", "").state is ReleaseState.APPROVED


def test_naming_somebody_is_not_being_them(parts: Parts) -> None:
    """The author's key does not prove the approver's name."""
    with pytest.raises(Forbidden):
        act_as(parts, "acme", "approver", key_path(parts, "acme", "author"))


def test_a_signature_by_another_key_is_not_taken(parts: Parts, approver: Actor, author: Actor, release: str) -> None:
    forged = Actor(approver.identity, author.sign)
    with pytest.raises(InvalidInput, match="was made by author"):
        moves.sign_and_decide(parts, forged, release, "approve", "")
    assert moves.find_release(parts, "acme", release).state is ReleaseState.GATED


def test_nobody_decides_twice(parts: Parts, approver: Actor, release: str) -> None:
    moves.sign_and_decide(parts, approver, release, "approve", "")
    with pytest.raises(TailorbirdError):
        moves.sign_and_decide(parts, approver, release, "approve", "")


def test_a_rejected_release_is_gone_for_good(parts: Parts, approver: Actor, operator: Actor, release: str) -> None:
    assert moves.sign_and_decide(parts, approver, release, "reject", "wrong labels").state is ReleaseState.REJECTED
    with pytest.raises(Conflict):
        moves.stage(parts, operator, release)


def test_changed_bytes_are_refused_and_the_refusal_is_logged(parts: Parts, approver: Actor, release: str) -> None:
    moves.sign_and_decide(parts, approver, release, "approve", "")
    content = moves.find_release(parts, "acme", release).content
    damage(parts, content.base_model)
    with pytest.raises(Corrupt):
        admit(parts, production(release))
    with parts.ledger.system(write=False) as system:
        assert [entry.event.kind for entry in system.events.entries()][-1] == "release.load_refused"


def damage(parts: Parts, tree: str) -> None:
    """Flips one byte of the largest file of a tree, wherever the store keeps it."""
    digests = parts.artifacts.tree(tree).values()
    files = [path for path in parts.workspace.rglob("*") if path.is_file() and any(d.removeprefix("sha256:") in path.name for d in digests)]
    assert files
    for path in files:
        path.chmod(0o600)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))


def test_what_somebody_approved_before_they_were_disabled_stands(parts: Parts, approver: Actor, operator: Actor, release: str) -> None:
    moves.sign_and_decide(parts, approver, release, "approve", "")
    assert isinstance(parts.clock, FixedClock)
    parts.clock.advance(timedelta(seconds=1))
    disable(parts, act_as(parts, "acme", "admin"), "approver")
    moves.stage(parts, operator, release)
    assert admit(parts, production(release)).id == release


def test_an_edit_does_not_lower_the_tier_of_what_is_in_production(parts: Parts, author: Actor, operator: Actor) -> None:
    """A high-risk release answers; an edit to minimal risk still asks for two people of two roles."""
    folder = parts.workspace.parent / "tiers"
    admin = act_as(parts, "acme", "admin")
    add_identity(parts, admin, "ann", [Role.APPROVER])
    add_identity(parts, admin, "bob", [Role.REVIEWER])
    business = {"goal": "Route messages.", "owner": "support"}
    digests = []
    for risk in ("high", "minimal"):
        excepted = {"exceptions": NO_REFERRAL} if risk == "high" else {}
        ended = climbing.adapt(parts, author, write_objective(folder, business=business | {"risk": risk}, **excepted), SILENT)
        assert ended.conclusion is not None
        digests.append(str(ended.conclusion.release))
        moves.sign_and_decide(parts, act_as(parts, "acme", "ann"), digests[-1], "approve", "")
        with pytest.raises(Conflict):
            moves.stage(parts, operator, digests[-1])
        moves.sign_and_decide(parts, act_as(parts, "acme", "bob"), digests[-1], "approve", "")
        moves.stage(parts, operator, digests[-1])
        if risk == "high":
            into_production_as_high(parts, operator, digests[-1])
    with pytest.raises(Conflict) as refused:
        moves.promote(parts, operator, digests[-1])
    assert refused.value.error_code == "rollout_needed"


def into_production_as_high(parts: Parts, operator: Actor, digest: str) -> None:
    """A drill, and two operators."""
    add_identity(parts, act_as(parts, "acme", "admin"), "second", [Role.OPERATOR])
    for code in ("drill_needed", "second_operator"):
        with pytest.raises(Conflict) as refused:
            moves.promote(parts, operator, digest)
        assert refused.value.error_code == code
        show_gateway(parts)
        drill(parts, operator, digest)
    moves.promote(parts, act_as(parts, "acme", "second"), digest)


def test_the_wrong_role_is_refused(parts: Parts, author: Actor, approver: Actor, operator: Actor, release: str) -> None:
    for actor, call in (
        (operator, lambda: moves.sign_and_decide(parts, operator, release, "approve", "")),
        (approver, lambda: moves.stage(parts, approver, release)),
        (author, lambda: moves.roll_back(parts, author, "desk", "")),
        (author, lambda: create_api_key(parts, author, "mine")),
    ):
        with pytest.raises(Forbidden, match="role"):
            call()
        with parts.ledger.system(write=False) as system:
            last = [entry.event for entry in system.events.entries()][-1]
        assert (last.kind, last.actor) == ("access.denied", actor.name)


def test_rolling_back_what_is_not_there(parts: Parts, operator: Actor) -> None:
    with pytest.raises(NotFound):
        moves.roll_back(parts, operator, "desk", "")
    with pytest.raises(NotFound):
        moves.roll_back(parts, operator, "globex/desk", "")


def test_api_keys_are_made_listed_and_revoked(parts: Parts) -> None:
    admin = act_as(parts, "acme", "admin")
    key, secret = create_api_key(parts, admin, "app")
    assert secret not in key.model_dump_json()
    assert [known.id for known in list_api_keys(parts, admin)] == [key.id]
    revoke_api_key(parts, admin, key.id)
    assert not list_api_keys(parts, admin)[0].is_valid(parts.clock.now())


def test_an_identity_cannot_be_added_twice_and_leaves_no_key(parts: Parts) -> None:
    admin = act_as(parts, "acme", "admin")
    add_identity(parts, admin, "ada", [Role.REVIEWER])
    with pytest.raises(Conflict):
        add_identity(parts, admin, "ada", [Role.APPROVER])
    assert act_as(parts, "acme", "ada").identity.roles == {Role.REVIEWER}


def test_a_checkpoint_is_verified_and_the_log_is_intact(parts: Parts, release: str) -> None:
    admin = act_as(parts, "acme", "admin")
    checkpoint = make_checkpoint(parts, admin)
    report = verify_log(parts, admin)
    assert report.intact
    assert report.checkpoints == 1
    assert report.size >= checkpoint.size > 10
