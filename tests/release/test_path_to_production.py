"""No sequence of legal operations puts a release before users without a passed gate and approvals by somebody else.

A tiny driver does what the story does with releases, aliases and people, through the domain's state machine and the functions of this room;
hypothesis looks for a way around. What must hold is checked by hand, not by the functions under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.release import NOW, decision, evidence, name_of, objective, person, release, share, signature
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Approval, Release, ReleaseAction, ReleaseState, next_state
from tailorbird.release import GateInputs, apply_gate, check_may_decide, promoted, quorum, rolled_back, rule_for
from tailorbird.stats.intervals import wilson

KINDS = st.sampled_from(["prompt", "lora", "full"])
NAMES = st.sampled_from(["ada", "ada-again", "ben", "cat", "dora", "eve"])

ROLES = st.sampled_from([Role.APPROVER] * 3 + [Role.REVIEWER] * 2 + [Role.ADMIN])
#: Who decides, in which role, with which trick.
DECISIONS = st.tuples(NAMES, ROLES, st.sampled_from(["none"] * 6 + ["forged", "borrowed", "other release"]))


def _people() -> dict[str, Identity]:
    made = (
        person("ada", Role.AUTHOR, Role.APPROVER, Role.REVIEWER),
        person("ada-again", Role.APPROVER, key="key of ada"),
        person("ben", Role.APPROVER),
        person("cat", Role.REVIEWER, Role.AUTHOR),
        person("dora", Role.APPROVER, Role.REVIEWER),
        person("eve", Role.ADMIN, Role.OPERATOR),
    )
    return {who.name: who for who in made}


def _verify(approval: Approval, identity: Identity) -> None:
    if approval.signature != signature(identity, approval.decision, digest_of(approval.statement())):
        raise Corrupt("forged", "restore", code="signature_invalid")


def _statement_digest(of: Release, name: str, role: Role) -> str:
    """What an honest approval signs, written out."""
    stated = {"release": of.digest, "dossier": digest_of(of.dossier), "identity": name, "role": role.value}
    return digest_of(stated | {"decision": "approve", "reason": ""})


@dataclass
class House:
    """What a ledger holds, and the moves that people may ask for. Each raises a TailorbirdError or changes exactly what it says."""

    goal: Objective
    people: dict[str, Identity] = field(default_factory=_people)
    releases: dict[str, Release] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    alias: Alias | None = None

    def draft(self, kind: str, author: str, hits: int) -> None:
        made = release(ReleaseState.DRAFT, kind, author=self.people[author], risk=self.goal.business.risk)
        if made.digest not in self.releases:
            self.releases[made.digest], self.hits[made.digest] = made, hits

    def pass_gate(self, digest: str) -> None:
        found = evidence(share("accuracy", self.hits[digest], 400))
        verdict = apply_gate(GateInputs(objective=self.goal, evidence=found, look=1)).verdict
        self._move(digest, ReleaseAction.PASS_GATE if verdict is Verdict.PASS else ReleaseAction.REJECT)

    def decide(self, digest: str, approval: Approval) -> None:
        before, who = self.releases[digest], self.people[approval.identity]
        check_may_decide(before, rule_for(self.goal), who)
        after = before.model_copy(update={"approvals": (*before.approvals, approval)})
        if approval.decision == "reject":
            self._move(digest, ReleaseAction.REJECT)
        elif quorum(after, rule_for(self.goal), self.people, _verify).is_reached:
            self._move(digest, ReleaseAction.APPROVE)
        self.releases[digest] = after.model_copy(update={"state": self.releases[digest].state})

    def stage(self, digest: str) -> None:
        self._demand_quorum(digest)
        self._move(digest, ReleaseAction.STAGE)

    def promote(self, digest: str) -> None:
        self._demand_quorum(digest)
        alias = promoted(self.alias, self.releases[digest], NOW, "eve")
        for target in self.alias.targets if self.alias else ():
            self._move(target.release, ReleaseAction.SUPERSEDE)
        self._move(digest, ReleaseAction.PROMOTE)
        self.alias = alias

    def roll_back(self) -> None:
        assert self.alias is not None
        alias = rolled_back(self.alias, NOW, "eve")
        for target in alias.targets:
            next_state(self.releases[target.release].state, ReleaseAction.PROMOTE)
        for target in self.alias.targets:
            self._move(target.release, ReleaseAction.WITHDRAW)
        for target in alias.targets:
            self._move(target.release, ReleaseAction.PROMOTE)
        self.alias = alias

    def retire(self, digest: str) -> None:
        self._move(digest, ReleaseAction.RETIRE)

    def _demand_quorum(self, digest: str) -> None:
        if not quorum(self.releases[digest], rule_for(self.goal), self.people, _verify).is_reached:
            raise Corrupt("no quorum", "approve")

    def _move(self, digest: str, action: ReleaseAction) -> None:
        before = self.releases[digest]
        self.releases[digest] = before.model_copy(update={"state": next_state(before.state, action)})


class PathToProduction(RuleBasedStateMachine):
    """Anybody asks for anything, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House(objective())

    @initialize(risk=st.sampled_from(RiskTier))
    def found(self, risk: RiskTier) -> None:
        self.house = House(objective(risk))

    @rule(kind=KINDS, author=NAMES, hits=st.sampled_from([200, 360, 370, 385, 400]))
    def draft(self, kind: str, author: str, hits: int) -> None:
        self.house.draft(kind, author, hits)

    @precondition(lambda self: self.house.releases)
    @rule(data=st.data())
    def pass_gate(self, data: st.DataObject) -> None:
        self._ask(partial(self.house.pass_gate, self._any(data)))

    @precondition(lambda self: self.house.releases)
    @rule(data=st.data(), how=DECISIONS, says=st.sampled_from(["approve"] * 9 + ["reject"]))
    def decide(self, data: st.DataObject, how: tuple[str, Role, str], says: str) -> None:
        self._decide(self._any(data), how, says)

    @precondition(lambda self: self.house.releases)
    @rule(data=st.data())
    def stage(self, data: st.DataObject) -> None:
        self._ask(partial(self.house.stage, self._any(data)))

    @precondition(lambda self: self.house.releases)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        self._ask(partial(self.house.promote, self._any(data)))

    @precondition(lambda self: self.house.alias is not None)
    @rule()
    def roll_back(self) -> None:
        self._ask(self.house.roll_back)

    @precondition(lambda self: self.house.releases)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        self._ask(partial(self.house.retire, self._any(data)))

    @rule(kind=KINDS, author=NAMES, hits=st.sampled_from([200, 385, 400]), decisions=st.lists(DECISIONS, min_size=2, max_size=4))
    def walk_straight(self, kind: str, author: str, hits: int, decisions: list[tuple[str, Role, str]]) -> None:
        """The short way through all states, so that the search gets there often; by people who may or may not take it."""
        known = set(self.house.releases)
        self.house.draft(kind, author, hits)
        for digest in set(self.house.releases) - known:
            self._ask(partial(self.house.pass_gate, digest))
            for how in decisions:
                self._decide(digest, how, "approve")
            self._ask(partial(self.house.stage, digest))
            self._ask(partial(self.house.promote, digest))

    @invariant()
    def production_is_proven_and_approved_by_somebody_else(self) -> None:
        for of in self.house.releases.values():
            if of.state is ReleaseState.PRODUCTION:
                risk = self.house.goal.business.risk
                assert wilson(self.house.hits[of.digest], 400, risk.confidence)[0] >= 0.9
                others = self._approvers(of)
                assert len({who.public_key for who, _ in others}) >= (2 if risk is RiskTier.HIGH else 1)
                assert {Role.APPROVER} <= {role for _, role in others}
                assert risk is not RiskTier.HIGH or {role for _, role in others} == {Role.APPROVER, Role.REVIEWER}

    @invariant()
    def the_alias_and_the_states_agree(self) -> None:
        live = {digest for digest, of in self.house.releases.items() if of.state is ReleaseState.PRODUCTION}
        assert live == {target.release for target in (self.house.alias.targets if self.house.alias else ())}

    def _approvers(self, of: Release) -> list[tuple[Identity, Role]]:
        """Who truly approved: not the author under any name, with the role they claim, by their own proof over this digest."""
        author = self.house.people[of.content.author]
        people = [(self.house.people[approval.identity], approval) for approval in of.approvals if approval.decision == "approve"]
        return [
            (who, approval.role)
            for who, approval in people
            if who.public_key != author.public_key
            and approval.role in who.roles
            and approval.signature.signature == name_of(f"{who.public_key} approve {_statement_digest(of, who.name, approval.role)}")
        ]

    def _decide(self, digest: str, how: tuple[str, Role, str], says: str) -> None:
        """A decision as an honest person files it, or with one of three tricks."""
        name, role, trick = how
        of = self.house.releases[digest]
        approval = decision(of, self.house.people[name], role, says)
        if trick == "forged":
            approval = approval.model_copy(update={"signature": approval.signature.model_copy(update={"signature": name_of("x")})})
        elif trick == "borrowed":
            approval = approval.model_copy(update={"signature": signature(self.house.people["eve"], says, digest)})
        elif trick == "other release":
            approval = decision(of.model_copy(update={"digest": name_of("other")}), self.house.people[name], role, says)
        self._ask(partial(self.house.decide, digest, approval))

    def _any(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.house.releases)))

    @staticmethod
    def _ask(move: Callable[[], None]) -> None:
        try:
            move()
        except TailorbirdError:
            return


# A counter-example of thirty short steps reads well enough; shrinking one takes minutes.
PathToProduction.TestCase.settings = settings(stateful_step_count=30, phases=[Phase.explicit, Phase.reuse, Phase.generate])
TestPathToProduction = PathToProduction.TestCase


def test_the_straight_way_does_lead_to_production() -> None:
    """The property above would hold in a house where nothing ever moves: here something does, at every tier."""
    for risk in RiskTier:
        house = House(objective(risk))
        house.draft("lora", "ada", 400)
        (digest,) = house.releases
        house.pass_gate(digest)
        house.decide(digest, decision(house.releases[digest], house.people["ben"], Role.APPROVER))
        if risk is RiskTier.HIGH:
            assert house.releases[digest].state is ReleaseState.GATED
            house.decide(digest, decision(house.releases[digest], house.people["cat"], Role.REVIEWER))
        house.stage(digest)
        house.promote(digest)
        assert house.releases[digest].state is ReleaseState.PRODUCTION
        house.roll_back()
        assert house.releases[digest].state is ReleaseState.RETIRED
