"""A plan as one HTML page that needs nothing else: the ladder as a picture, the estimates, the reasons."""

from __future__ import annotations

from html import escape

from tailorbird.domain.plan import Estimate, Plan, RungPlan
from tailorbird.reporting.findings import exception_lines
from tailorbird.reporting.number_formats import NOTHING, estimate_text, human_count
from tailorbird.reporting.plan_table import (
    base_lines,
    comparison_lines,
    floor_reasons,
    floor_rows,
    items_of,
    left_out_lines,
    shift_lines,
    traffic_lines,
)

_STEP_WIDTH, _STEP_RISE, _LEFT, _HEIGHT = 150, 44, 20, 46

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1d2a22;background:#fbfcf9}
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #d9e0d5}
th:first-child,td:first-child{text-align:left}li{margin:.2rem 0}small{color:#5b6b60}svg{width:100%;height:auto}
svg rect{fill:#dcebd9;stroke:#3f6b4a}svg rect.out{fill:#f3f0ea;stroke:#a99;stroke-dasharray:4 3}svg text{font:12px system-ui,sans-serif}
"""


def plan_page(plan: Plan, name: str) -> str:
    """The page of a plan; ``name`` is what stands above it."""
    head = f"<meta charset='utf-8'><title>plan of {escape(name)}</title><style>{_STYLE}</style>"
    machine = f"{plan.machine.cores} cores, {plan.machine.memory_gb:.0f} GiB, {', '.join(plan.machine.gpus) or 'no GPU'}"
    parts = (
        f"<h1>Plan: {escape(name)}</h1><p>{escape(machine)}</p>",
        _picture(plan),
        _table(plan),
        _traffic(plan),
        _bases(plan),
        _reasons(plan),
        _left_out(plan),
        _exceptions(plan),
        _power(plan),
    )
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _picture(plan: Plan) -> str:
    """Planned rungs as rising steps, and those left out after them, dashed."""
    is_rung = plan.floor is not None and plan.floor.role == "rung"
    floor = [(name, estimate_text(found[0]), "") for name, found in floor_rows(plan) if is_rung and found[0]]
    planned = [(f"{rung.rung.value} {rung.variant}", estimate_text(rung.time), "") for rung in plan.rungs]
    steps = floor + planned + [(refusal.rung.value, "left out", "out") for refusal in plan.left_out]
    width, height = 2 * _LEFT + _STEP_WIDTH * len(steps), _STEP_RISE * len(steps) + _HEIGHT + 10
    drawn = "".join(_step(place, height, *step) for place, step in enumerate(steps))
    return f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='the ladder, cheapest rung first'>{drawn}</svg>"


def _step(place: int, height: int, name: str, below: str, kind: str) -> str:
    x, y = _LEFT + place * _STEP_WIDTH, height - 5 - _HEIGHT - place * _STEP_RISE
    box = f"<rect class='{kind}' x='{x}' y='{y}' width='{_STEP_WIDTH - 8}' height='{_HEIGHT}' rx='4'/>"
    return f"{box}<text x='{x + 8}' y='{y + 19}'>{escape(name)}</text><text x='{x + 8}' y='{y + 36}'>{escape(below)}</text>"


def _table(plan: Plan) -> str:
    heads = ("rung", "trained", "time", "process memory", "money", "energy", "1,000 requests", "in all")
    floor = [(name, NOTHING, *map(_text, found)) for name, found in floor_rows(plan)]
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in (*floor, *map(_cells, plan.rungs)))
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"


def _cells(rung: RungPlan) -> tuple[str, ...]:
    figures = (rung.time, rung.memory, rung.money, rung.energy, rung.serving_cost, rung.total)
    return (f"{rung.rung.value} {rung.variant}", human_count(rung.trained_parameters), *map(_text, figures))


def _text(estimate: Estimate | None) -> str:
    return estimate_text(estimate) if estimate else NOTHING


def _traffic(plan: Plan) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in traffic_lines(plan))
    return f"<h2>Traffic</h2><ul>{lines}</ul>" if lines else ""


def _bases(plan: Plan) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in base_lines(plan))
    return f"<h2>Base models</h2><ul>{lines}</ul>" if lines else ""


def _reasons(plan: Plan) -> str:
    floor = [("floor", told)] if (told := floor_reasons(plan)) else []
    blocks = []
    for name, reasons in (*floor, *((f"{rung.rung.value} {rung.variant}", rung.reasons) for rung in plan.rungs)):
        lines = "".join(f"<li>{escape(why.text)} <small>{escape(why.rule)}: {escape(why.source)}</small></li>" for why in reasons)
        blocks.append(f"<h3>{escape(name)}</h3><ul>{lines}</ul>")
    return "<h2>Why</h2>" + "".join(blocks)


def _left_out(plan: Plan) -> str:
    lines = "".join(f"<li>{escape(told)}</li>" for told in left_out_lines(plan))
    return f"<h2>Left out</h2><ul>{lines}</ul>" if lines else ""


def _exceptions(plan: Plan) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in exception_lines(plan.exceptions))
    return f"<h2>Rules of the tier that are not followed</h2><ul>{lines}</ul>" if lines else ""


def _power(plan: Plan) -> str:
    powers = [("dev", power) for power in plan.dev_power] + [("test", power) for power in plan.test_power]
    lines = "".join(
        f"<li>{split}: {escape(power.kpi)} of at least {power.target:g}: "
        + (f"proven by {power.must_observe:.3f} on {items_of(power)}" if power.provable else f"cannot be proven with {items_of(power)}")
        + "</li>"
        for split, power in powers
    )
    lines += "".join(f"<li>{escape(line)}</li>" for line in shift_lines(plan))
    lines += "".join(f"<li>{escape(line)}</li>" for line in comparison_lines(plan))
    return f"<h2>What the data can prove</h2><ul>{lines}</ul>" if lines else ""
