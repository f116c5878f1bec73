"""Operations that tell on what grounds something was decided."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.evidence import CandidateComparison
from tailorbird.domain.value import Value
from tailorbird.reporting import EvidenceFacts
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Operation
from tailorbird.usecases.operations.runs import OneRun
from tailorbird.usecases.runs import comparison
from tailorbird.usecases.runs.evidence import evidence_of

Named = Annotated[
    str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9_:.-]+$", description="A run, RUN:RUNG, a candidate or a release.")
]


class TwoOfThem(Value):
    """Names two things to compare."""

    one: Named
    other: Named


def _show(deps: Dependencies, actor: Actor, asked: OneRun) -> EvidenceFacts:
    return evidence_of(deps, actor.tenant, asked.run)


def _compare(deps: Dependencies, actor: Actor, asked: TwoOfThem) -> CandidateComparison:
    return comparison.contrast(deps, actor.tenant, asked.one, asked.other)


SHOW = Operation(
    "run.evidence",
    "GET",
    "/api/runs/{run}/evidence",
    Action.SHOW_RUN,
    OneRun,
    EvidenceFacts,
    _show,
    "Show the grounds of a run's decision.",
)
COMPARE = Operation(
    "candidate.compare", "GET", "/api/compare", Action.SHOW_RUN, TwoOfThem, CandidateComparison, _compare, "Compare two candidates or runs."
)
