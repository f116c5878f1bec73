"""High risk demands people, or somebody who takes the exception by name."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import parse_objective

EXCEPTED = '[{rule: referral, by: head of support, because: "every answer is read before it is acted on"}]'
BOTH = EXCEPTED[:-1] + ', {rule: label_review, by: head of support, because: "an order of documents"}]'


def text(*, risk: str = "high", kind: str = "classify", labels: str = "one", more: str = "", documents: bool = False) -> str:
    many = f"  labels: {labels}\n" if kind == "classify" else ""
    kpi = {"classify": "micro_f1" if labels == "many" else "accuracy", "generate": "rouge_l", "rank": "ndcg@10"}[kind]
    source = "{origin: us, license: CC0-1.0}"
    listed = f"documents: [{{path: documents.csv, source: {source}}}]\n" if kind == "rank" else ""
    return (
        f"name: desk\ntenant: acme\nbusiness:\n  goal: g\n  owner: o\n  risk: {risk}\ntask:\n  kind: {kind}\n{many}  instruction: Do it.\n"
        f"data:\n- path: rows.csv\n  source: {source}\n{listed}kpis:\n- {{metric: {kpi}, target: 0.5}}\n{more}"
    )


@pytest.mark.parametrize(
    "asked",
    [(text()), (text(labels="many")), (text(kind="generate")), (text(kind="rank", more=f"exceptions: {EXCEPTED}\n"))],
)
def test_high_risk_without_people_is_refused_at_the_line_of_the_tier(asked: str) -> None:
    with pytest.raises(ObjectiveInvalid) as refused:
        parse_objective(asked, "objective.yaml")
    assert refused.value.line == 6


@pytest.mark.parametrize(
    "asked",
    [
        text(more="referral: {max_error: 0.05}\n"),
        text(more=f"exceptions: {EXCEPTED}\n"),
        text(kind="rank", more=f"exceptions: {BOTH}\n"),
        text(kind="generate", more="- {metric: referral_recall, target: 0.9}\nreferral: {pattern: a colleague}\n"),
    ],
)
def test_people_or_a_named_exception_are_enough(asked: str) -> None:
    assert parse_objective(asked, "objective.yaml").objective.name == "desk"


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (text(risk="limited", more=f"exceptions: {EXCEPTED}\n"), "which only the tier high demands"),
        (text(more=f"referral: {{max_error: 0.05}}\nexceptions: {EXCEPTED}\n"), "`referral` is set"),
        (text(more=f"exceptions: {EXCEPTED[:-1]}, {EXCEPTED[1:]}\n"), "named twice"),
        (text(more='exceptions: [{rule: referral, by: "", because: b}]\n'), "must not be empty"),
    ],
)
def test_an_exception_that_is_none_is_refused(asked: str, what: str) -> None:
    with pytest.raises(ObjectiveInvalid, match=what) as refused:
        parse_objective(asked, "objective.yaml")
    assert refused.value.line
    assert refused.value.hint


@pytest.mark.parametrize(
    ("asked", "source", "what", "line"),
    [
        (text(risk="minimal", kind="generate"), "  label: [a, b]\n", "has no labels, of which each could have a column", 12),
        (text(risk="minimal"), "  split: test\n  split_column: part\n", "says another for each row", 14),
    ],
)
def test_columns_that_contradict_are_refused(asked: str, source: str, what: str, line: int) -> None:
    with pytest.raises(ObjectiveInvalid, match=what) as refused:
        parse_objective(asked.replace("- path: rows.csv\n", f"- path: rows.csv\n{source}"), "objective.yaml")
    assert refused.value.line == line
