"""The evidence page from literals: everything is on it, nothing of a row is, and markup in a name stays text."""

from __future__ import annotations

import re
from io import StringIO

from rich.console import Console

from support.release import evidence, gate, ladder, name_of, objective, share
from tailorbird.domain.evidence import (
    Bin,
    Breakdown,
    CandidateComparison,
    Comparison,
    Confusion,
    Memorisation,
    Referred,
    Retained,
    Retention,
    Side,
    Slice,
    Standing,
)
from tailorbird.reporting.documents import EvidenceFacts, evidence_markdown
from tailorbird.reporting.tables import contrast_table, document_html

WHOLE = Retained(family="all", n=406, base=0.61, candidate=0.60, drop=0.01, low=-0.004, high=0.024)
FACTS = EvidenceFacts(
    run="0123456789ab",
    objective=objective(),
    ladder=ladder(),
    gate=gate(share("accuracy", 380, 400)),
    evidence=evidence(share("accuracy", 380, 400)).model_copy(update={"refer_below": 0.4}),
    sealed=True,
    breakdown=Breakdown(
        confusions=(Confusion(target="refund <b>", answer="login", count=7, examples=(name_of("i"),)),),
        slices=(Slice(segment="label", name="refund", n=40, value=0.8, low=0.7, high=0.9),),
        reliability=(Bin(n=20, said=0.6, right=0.55), Bin(n=20, said=0.9, right=0.95)),
        referral=tuple(
            Referred(refer_below=step / 10, coverage=1 - step / 10, risk=0.2 - step / 50, risk_high=0.25 - step / 50) for step in range(8)
        ),
    ),
    retention=Retention(
        families=(WHOLE.model_copy(update={"family": "facts"}),),
        overall=WHOLE,
        lost=9,
        won=5,
        p_value=0.42,
        confidence=0.9,
        divergence=0.031,
        divergence_tokens=600,
    ),
    memorisation=Memorisation(
        planted=12, extracted=0, extractable_share=0.22, twins=63, exposures=(1.0, 2.0), p_value=0.4, received=True, control_rank=1
    ),
    release=name_of("release"),
    reason="accuracy 0.950 is proven to reach 0.9",
)


def page_of(facts: EvidenceFacts) -> str:
    return document_html(evidence_markdown(facts))


def test_the_html_page_holds_all_grounds_and_fetches_nothing() -> None:
    page = page_of(FACTS)
    for expected in (
        "The ladder",
        "The gate",
        "test split, look 1",
        "referred below",
        "0 of 12 planted",
        "Where it errs",
        "the rung below passes",
    ):
        assert expected in page
    assert not re.search(r'(src|href)="', page)
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_markup_in_a_label_stays_text() -> None:
    page = page_of(FACTS)
    assert "refund &lt;b&gt;" in page
    assert "refund <b>" not in page
    assert "refund <b>" not in evidence_markdown(FACTS)


def test_markdown_holds_the_same_grounds() -> None:
    page = evidence_markdown(FACTS)
    for expected in ("# Evidence: acme/desk", "## The ladder", "## The gate", "## What training cost", "## Where it errs", "Decision:"):
        assert expected in page


def test_a_run_that_has_only_begun_has_a_page_too() -> None:
    facts = EvidenceFacts(run="0123456789ab", objective=objective())
    assert "has not ended" in page_of(facts)
    assert "has not ended" in evidence_markdown(facts)


def drawn(found: CandidateComparison) -> str:
    console = Console(file=StringIO(), width=200)
    with console.capture() as captured:
        console.print(contrast_table(found))
    return captured.get()


def test_two_candidates_side_by_side() -> None:
    against = Comparison(
        upper=name_of("a"),
        lower=name_of("b"),
        metric="accuracy",
        n=90,
        difference=0.03,
        low=-0.01,
        high=0.07,
        confidence=0.9,
        wins=9,
        losses=6,
        p_value=0.6,
        margin=0.02,
        standing=Standing.NOT_PROVEN,
        items_needed=410,
    )
    sides = [
        Side(
            name=f"run {name}",
            run="r",
            candidate=name_of(name),
            split="test",
            n=90,
            metrics={"accuracy": share("accuracy", hits, 90)},
            trained_parameters=1,
            seconds=2,
            peak_memory_gb=1,
            money=0.1,
        )
        for name, hits in (("a", 80), ("b", 77))
    ]
    page = drawn(CandidateComparison(one=sides[0], other=sides[1], paired=(against,)))
    assert "+0.030 not proven [-0.010, +0.070], 410 more items would settle it" in page
    loss = against.model_copy(update={"metric": "log_loss", "difference": -0.2, "low": -0.3, "high": -0.1, "less_is_better": True})
    better = loss.model_copy(update={"standing": Standing.BETTER, "items_needed": None})
    page = drawn(CandidateComparison(one=sides[0], other=sides[1], compared_on="log_loss", paired=(better, against)))
    assert page.index("\nlog_loss") < page.index("\naccuracy")
    assert "-0.200 better [-0.300, -0.100]" in page


def test_what_is_odd_about_the_answers_stands_on_both_pages_and_markup_in_a_label_stays_text() -> None:
    odd = FACTS.model_copy(update={"evidence": evidence().model_copy(update={"remarks": ("answers '<i>a</i>' to all 9 items",)})})
    assert "It answers '&lt;i&gt;a&lt;/i&gt;' to all 9 items." in page_of(odd)
    assert "- It answers" in evidence_markdown(odd)
    assert "Remarks on its answers" not in page_of(FACTS) + evidence_markdown(FACTS)


def test_what_approvals_are_worth_stands_on_both_pages() -> None:
    told = FACTS.model_copy(update={"approval_remarks": ("the private keys of <b>ada</b> and ben lie in one workspace",)})
    for page in (page_of(told), evidence_markdown(told)):
        assert "What approvals are worth here" in page
        assert "and ben lie in one workspace" in page
        assert "<b>ada" not in page
    assert "worth here" not in page_of(FACTS)
