"""Release rules: gate, label review, LLM judges, approvals, bundle, reference probes, model card, and the moves of an alias.

In: an objective, evidence, decisions of people. Out: gate results, approval rules and quorums, bundles, aliases. Must not know: how
evidence is measured, how a signature is verified (a callable is passed in), where anything is stored.

    evidence > gate > bundle > model_card; label_review, llm_judges > approvals > alias_moves
"""

from tailorbird.release.approvals import (
    DECIDING_ROLES,
    DRILL_LASTS,
    AliasTrial,
    ChangeRule,
    QuorumStanding,
    VerifyApproval,
    change_rule,
    check_may_decide,
    deciding_role,
    promoted,
    quorum,
    restored,
    rolled_back,
    rule_for,
    stricter,
    with_trial,
)
from tailorbird.release.bundle import CardEncoder, CardFacts, ReleaseParts, assemble, model_card, release_digest
from tailorbird.release.gate import REPEATED, EndedClimb, GateInputs, apply_gate, interval_at, remedies, unprovable_next
from tailorbird.release.label_review import (
    Disagreement,
    candidate_side,
    check_mark,
    check_may_review,
    draw_sheet,
    next_item,
    review_result,
)
from tailorbird.release.reference_probes import PROBE_TEXTS, choose, choose_of_base, choose_of_scores, shortlist

__all__ = [
    "DECIDING_ROLES",
    "DRILL_LASTS",
    "PROBE_TEXTS",
    "REPEATED",
    "AliasTrial",
    "CardEncoder",
    "CardFacts",
    "ChangeRule",
    "Disagreement",
    "EndedClimb",
    "GateInputs",
    "QuorumStanding",
    "ReleaseParts",
    "VerifyApproval",
    "apply_gate",
    "assemble",
    "candidate_side",
    "change_rule",
    "check_mark",
    "check_may_decide",
    "check_may_review",
    "choose",
    "choose_of_base",
    "choose_of_scores",
    "deciding_role",
    "draw_sheet",
    "interval_at",
    "model_card",
    "next_item",
    "promoted",
    "quorum",
    "release_digest",
    "remedies",
    "restored",
    "review_result",
    "rolled_back",
    "rule_for",
    "shortlist",
    "stricter",
    "unprovable_next",
    "with_trial",
]
