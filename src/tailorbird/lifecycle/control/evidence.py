"""Operations that tell on what grounds something was decided.

In: what a caller asks. Out: evidence pages, comparisons. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.comparing import Contrast
from tailorbird.domain.value import Value
from tailorbird.lifecycle.control.operation import Operation
from tailorbird.lifecycle.control.runs import OneRun
from tailorbird.lifecycle.explaining import comparing
from tailorbird.lifecycle.explaining.evidence import evidence_of
from tailorbird.lifecycle.parts import Actor, Parts
from tailorbird.reporting import EvidenceFacts

Named = Annotated[
    str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9_:.-]+$", description="A run, RUN:RUNG, a candidate or a release.")
]


class TwoOfThem(Value):
    """Names two things to compare."""

    one: Named
    other: Named


def _show(parts: Parts, actor: Actor, asked: OneRun) -> EvidenceFacts:
    return evidence_of(parts, actor.tenant, asked.run)


def _compare(parts: Parts, actor: Actor, asked: TwoOfThem) -> Contrast:
    return comparing.contrast(parts, actor.tenant, asked.one, asked.other)


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
    "candidate.compare", "GET", "/api/compare", Action.SHOW_RUN, TwoOfThem, Contrast, _compare, "Compare two candidates or runs."
)
