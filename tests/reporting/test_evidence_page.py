"""The evidence page from literals: everything is on it, nothing of a row is, and markup in a name stays text."""

from __future__ import annotations

import re

from support.release import evidence, gate, ladder, name_of, objective, share
from tailorbird.domain.evidence import (
    Bin,
    Breakdown,
    Confusion,
    Memorisation,
    Referred,
    Retained,
    Retention,
    Slice,
)
from tailorbird.reporting.documents import EvidenceFacts, evidence_markdown
from tailorbird.reporting.tables import document_html

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
    assert all(part in page for part in ("The ladder", "The gate", "0 of 12 planted", "Where it errs"))
    assert not re.search(r'(src|href)="', page)
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_markup_in_a_label_stays_text() -> None:
    page = page_of(FACTS)
    assert "refund &lt;b&gt;" in page
    assert "refund <b>" not in page
    assert "refund <b>" not in evidence_markdown(FACTS)


def test_what_is_odd_about_the_answers_stands_on_both_pages_and_markup_in_a_label_stays_text() -> None:
    odd = FACTS.model_copy(update={"evidence": evidence().model_copy(update={"remarks": ("answers '<i>a</i>' to all 9 items",)})})
    assert "It answers '&lt;i&gt;a&lt;/i&gt;' to all 9 items." in page_of(odd)
    assert "- It answers" in evidence_markdown(odd)
    assert "Remarks on its answers" not in page_of(FACTS) + evidence_markdown(FACTS)
