"""Who must approve, who may, and when enough have."""

from __future__ import annotations

import pytest

from support.release import decision, name_of, objective, person, release, signature
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Corrupt, Forbidden, InvalidInput
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Approval, ApprovalRule, Release
from tailorbird.release import QuorumStanding, check_may_decide, deciding_role, quorum, rule_for, stricter

ONE = ApprovalRule(roles=(Role.APPROVER,), count=1)
TWO = ApprovalRule(roles=(Role.APPROVER, Role.REVIEWER), count=2, distinct_roles=2)
#: At the high tier nobody decides who makes data.
HIGH = TWO.model_copy(update={"no_data_author": True})
BEN, CAT = person("ben", Role.APPROVER), person("cat", Role.REVIEWER)


def _verify(approval: Approval, identity: Identity) -> None:
    """The twin of the real verifier: proofs are made by ``support.release.signature``."""
    if approval.signature != signature(identity, approval.decision, digest_of(approval.statement())):
        raise Corrupt("forged", "restore", code="signature_invalid")


def _standing(of: Release, rule: ApprovalRule, *people: Identity) -> QuorumStanding:
    return quorum(of, rule, {who.name: who for who in people}, verify=_verify)


def _quorum(of: Release, rule: ApprovalRule, *people: Identity) -> bool:
    return _standing(of, rule, *people).is_reached


def _with(of: Release, *approvals: Approval) -> Release:
    return of.model_copy(update={"approvals": approvals})


@pytest.mark.parametrize(("risk", "rule"), [(RiskTier.MINIMAL, ONE), (RiskTier.LIMITED, ONE), (RiskTier.HIGH, HIGH)])
def test_the_tier_says_who_must_approve(risk: RiskTier, rule: ApprovalRule) -> None:
    assert rule_for(objective(risk)) == rule


@pytest.mark.parametrize(
    ("risk", "listed", "rule"),
    [
        (RiskTier.LIMITED, ("approver", "reviewer"), TWO),
        (RiskTier.LIMITED, ("approver", "approver"), ApprovalRule(roles=(Role.APPROVER,), count=2)),
        (RiskTier.HIGH, ("approver",), HIGH),
        (
            RiskTier.HIGH,
            ("reviewer", "approver", "reviewer"),
            ApprovalRule(roles=(Role.REVIEWER, Role.APPROVER), count=3, distinct_roles=2, no_data_author=True),
        ),
    ],
)
def test_a_list_of_roles_can_only_ask_for_more(risk: RiskTier, listed: tuple[str, ...], rule: ApprovalRule) -> None:
    assert rule_for(objective(risk, approvals=listed)) == rule


@pytest.mark.parametrize("role", ["admin", "boss"])
def test_a_role_that_cannot_decide_is_refused(role: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        rule_for(objective(approvals=(role,)))
    assert caught.value.error_code == "invalid_input"


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (person("author", Role.AUTHOR, Role.APPROVER), "own_release"),
        (person("second-name", Role.APPROVER, key="key of author"), "own_release"),
        (person("ada", Role.ADMIN), "role_missing"),
        (CAT, "role_missing"),
        (person("ben", Role.APPROVER, disabled=True), "identity_disabled"),
        (person("ben", Role.APPROVER, tenant="rival"), "other_tenant"),
    ],
)
def test_who_may_not_decide_is_told_why(who: Identity, code: str) -> None:
    with pytest.raises(Forbidden) as caught:
        check_may_decide(release(), ONE, who)
    assert caught.value.error_code == code


def _made_by(*names: str, risk: RiskTier = RiskTier.HIGH) -> Objective:
    (source,) = objective(risk).data
    terms = source.source.model_copy(update={"authors": names})
    return objective(risk, data=(source.model_copy(update={"source": terms}),))


@pytest.mark.parametrize("who", [BEN, person("dora", Role.APPROVER, Role.DATA_AUTHOR)])
def test_at_the_high_tier_nobody_decides_on_what_was_learned_from_their_data(who: Identity) -> None:
    rule, of = rule_for(_made_by("ben")), release()
    with pytest.raises(Forbidden) as caught:
        check_may_decide(of, rule, who)
    assert caught.value.error_code == "own_data"
    assert not _quorum(_with(of, decision(of, who), decision(of, CAT, Role.REVIEWER)), rule, who, CAT)
    other = person("eve", Role.APPROVER)
    assert _quorum(_with(of, decision(of, other), decision(of, CAT, Role.REVIEWER)), rule, other, CAT)


def test_the_stricter_of_two_rules_leaves_out_the_data_authors_of_both() -> None:
    both = stricter(rule_for(_made_by("ben")), rule_for(_made_by("cat")))
    assert (both.data_authors, both.no_data_author) == ({"ben", "cat"}, True)
    assert stricter(ONE, rule_for(_made_by("ben"))).data_authors == {"ben"}


def test_even_at_the_lowest_tier_nobody_decides_on_their_own_release() -> None:
    own = person("author", *Role)
    with pytest.raises(Forbidden, match="cannot decide on it"):
        check_may_decide(release(risk=RiskTier.MINIMAL), rule_for(objective(RiskTier.MINIMAL)), own)


def test_whoever_holds_two_roles_leaves_the_one_that_others_hold() -> None:
    """Else the first of two people, who holds both roles, would take the only one that the second holds, and no quorum could be reached."""
    both, of = person("dora", Role.APPROVER, Role.REVIEWER), release()
    assert deciding_role(of, TWO, both, _standing(of, TWO, BEN, both)) is Role.REVIEWER
    assert deciding_role(of, TWO, both, _standing(of, TWO, CAT, both)) is Role.APPROVER
    decided = _with(of, decision(of, both, Role.REVIEWER), decision(of, BEN))
    assert _quorum(decided, TWO, BEN, both)


def test_what_is_missing_is_told() -> None:
    of, dora = release(), person("dora", Role.APPROVER)
    none = _standing(of, HIGH, BEN, CAT, dora)
    assert (none.people, none.roles, [who.name for who in none.deciders]) == (2, (Role.APPROVER, Role.REVIEWER), ["ben", "cat", "dora"])
    one = _standing(_with(of, decision(of, BEN)), HIGH, BEN, CAT, dora)
    assert (one.people, one.roles, [who.name for who in one.deciders]) == (1, (Role.REVIEWER,), ["cat", "dora"])
    alike = _standing(_with(of, decision(of, BEN), decision(of, dora)), HIGH, BEN, CAT, dora)
    assert (alike.people, alike.roles, alike.is_reached) == (1, (Role.REVIEWER,), False)
    both = _standing(_with(of, decision(of, BEN), decision(of, CAT, Role.REVIEWER)), HIGH, BEN, CAT)
    assert (both.people, both.roles, both.is_reached) == (0, (), True)
    assert _standing(_with(of, decision(of, BEN, says="reject")), ONE, BEN).rejected_by == ("ben",)


def test_a_quorum_is_the_count_of_different_people() -> None:
    of = release()
    assert not _quorum(of, ONE, BEN)
    assert _quorum(_with(of, decision(of, BEN)), ONE, BEN)
    twice = ApprovalRule(roles=(Role.APPROVER,), count=2)
    assert not _quorum(_with(of, decision(of, BEN), decision(of, BEN)), twice, BEN)
    twin = person("ben2", Role.APPROVER, key=BEN.public_key)
    assert not _quorum(_with(of, decision(of, BEN), decision(of, twin)), twice, BEN, twin)
    dora = person("dora", Role.APPROVER)
    assert _quorum(_with(of, decision(of, BEN), decision(of, dora)), twice, BEN, dora)


def test_two_roles_are_two_roles() -> None:
    of, dora = release(), person("dora", Role.APPROVER)
    assert not _quorum(_with(of, decision(of, BEN), decision(of, dora)), TWO, BEN, dora)
    assert _quorum(_with(of, decision(of, BEN), decision(of, CAT, Role.REVIEWER)), TWO, BEN, CAT)


@pytest.mark.parametrize(
    "who",
    [
        person("alias", Role.APPROVER, key="key of author"),
        person("ben", Role.APPROVER, disabled=True),
        person("ben", Role.VIEWER),
        person("ben", Role.APPROVER, tenant="rival"),
    ],
)
def test_an_approval_by_somebody_who_may_not_does_not_count(who: Identity) -> None:
    of = release()
    assert not _quorum(_with(of, decision(of, who)), ONE, who)


def test_an_approval_by_nobody_known_or_of_another_release_does_not_count() -> None:
    of, other = release(), release(kind="full")
    assert of.digest != other.digest
    assert not _quorum(_with(of, decision(of, BEN)), ONE, CAT)
    assert not _quorum(_with(of, decision(other, BEN)), ONE, BEN)
    moved = decision(other, BEN).model_copy(update={"release": of.digest})
    assert not _quorum(_with(of, moved), ONE, BEN)


def test_an_approval_under_another_name_does_not_count() -> None:
    of, eve = release(), person("eve", Role.APPROVER)
    borrowed = decision(of, eve).model_copy(update={"identity": "ben"})
    assert not _quorum(_with(of, borrowed), ONE, BEN, eve)


def test_a_forged_signature_is_said_aloud() -> None:
    of = release()
    true = decision(of, BEN)
    forged = true.model_copy(update={"signature": true.signature.model_copy(update={"signature": name_of("forged")})})
    with pytest.raises(Corrupt):
        _quorum(_with(of, forged), ONE, BEN)


def test_a_rejection_stands_against_any_number_of_approvals() -> None:
    of, dora = release(), person("dora", Role.APPROVER)
    assert not _quorum(_with(of, decision(of, BEN), decision(of, dora, says="reject")), ONE, BEN, dora)
