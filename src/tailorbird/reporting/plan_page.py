"""Plan page: one self-contained HTML document with the ladder, the estimates and the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from jinja2 import Environment

from tailorbird.domain.plan import Estimate, Plan
from tailorbird.reporting.html_templates import template_environment
from tailorbird.reporting.ladder_chart import planned_chart
from tailorbird.reporting.plan_table import (
    base_lines,
    comparison_lines,
    floor_rows,
    left_out_lines,
    power_lines,
    reasons_by_rung,
    traffic_lines,
)
from tailorbird.reporting.tables import NOTHING, confidence_text, exception_lines, human_count


def plan_page(plan: Plan, name: str) -> str:
    """The page of a plan; ``name`` is its heading."""
    return (
        _environment()
        .get_template("plan.html")
        .render(
            plan=plan,
            name=name,
            chart=planned_chart(plan),
            rows=list(_rows(plan)),
            traffic=traffic_lines(plan),
            bases=base_lines(plan),
            reasons=reasons_by_rung(plan),
            left_out=left_out_lines(plan),
            exceptions=exception_lines(plan.exceptions),
            proofs=[*([confidence_text(plan.risk)] if plan.risk else []), *power_lines(plan), *comparison_lines(plan)],
        )
    )


def _rows(plan: Plan) -> Iterator[tuple[str, str, tuple[Estimate | None, ...]]]:
    for name, estimates in floor_rows(plan):
        yield name, NOTHING, (*estimates, *(() if plan.traffic else (None,)))
    for rung in plan.rungs:
        figures = (rung.time, rung.memory, rung.money, rung.energy, rung.serving_cost, rung.total)
        yield f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), figures


@cache
def _environment() -> Environment:
    return template_environment()
