"""``grounding`` names a released ranking: where nothing could come of it, the line says so."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import parse_objective

SOURCE = "{origin: us, license: CC0-1.0}"
DOCUMENTS = f"documents: [{{path: pages.jsonl, source: {SOURCE}}}]\n"


def text(*, kind: str = "generate", more: str = DOCUMENTS, grounding: str = "{encoder: acme/search}") -> str:
    kpi = {"classify": "accuracy", "generate": "rouge_l", "rank": "ndcg@10"}[kind]
    return (
        f"name: help\ntenant: acme\nbusiness:\n  goal: g\n  owner: o\n  risk: minimal\ntask:\n  kind: {kind}\n  instruction: Do it.\n"
        f"data:\n- path: rows.csv\n  source: {SOURCE}\ngrounding: {grounding}\n{more}kpis:\n- {{metric: {kpi}, target: 0.5}}\n"
    )


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (text(kind="rank"), "`grounding` is for kind: classify or generate"),
        (text(more=""), "none are named"),
        (text(grounding="{encoder: acme/help}"), "this very objective"),
        (text(grounding="{encoder: beta/search}"), "a release of the tenant beta"),
    ],
)
def test_what_nothing_could_come_of_is_refused_at_its_line(asked: str, what: str) -> None:
    with pytest.raises(ObjectiveInvalid, match=what) as refused:
        parse_objective(asked, "objective.yaml")
    assert refused.value.line == 13


@pytest.mark.parametrize("grounding", ["{encoder: acme/search}", f"{{encoder: 'sha256:{'ab' * 32}'}}"])
def test_what_can_be_pursued_is_read(grounding: str) -> None:
    assert parse_objective(text(grounding=grounding), "objective.yaml").objective.name == "help"
