"""Answers of the use cases that show themselves as tables in a terminal and in a notebook."""

from __future__ import annotations

from io import StringIO
from typing import Any, TypeVar, cast

from rich.console import Console, Group, RenderableType
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.inspection import Inspection
from tailorbird.domain.plan import Estimate, Plan
from tailorbird.domain.release import Release
from tailorbird.domain.run import Run
from tailorbird.domain.value import Value
from tailorbird.reporting import add_row, finding_text, human_money, human_seconds, ladder_table, plain_table, plan_table
from tailorbird.reporting.tables import NOTHING, FittedTable
from tailorbird.sdk.tenant_runs import TenantRun
from tailorbird.usecases.runs.run_queries import RunReport

V = TypeVar("V", bound=Value)

#: Characters a line, in a terminal and in a notebook.
_WIDTH = 110
_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class TableView:
    """What shows itself as a table: plain text as ``repr``, escaped HTML in notebooks."""

    def table(self) -> RenderableType:
        """What is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        console = Console(file=StringIO(), width=_WIDTH, color_system=None, legacy_windows=False)
        with console.capture() as captured:
            console.print(self.table())
        return "\n".join(_printable(line).rstrip() for line in captured.get().rstrip().split("\n"))

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        console = Console(file=StringIO(), width=_WIDTH, record=True, legacy_windows=False)
        console.print(self.table())
        return console.export_html(inline_styles=True, code_format=_HTML).rstrip()


def viewed(kind: type[V], value: Value) -> V:
    """``value`` as the view ``kind`` of its class: the same fields, and a table."""
    return cast("V", kind.model_construct(value.model_fields_set, **{name: getattr(value, name) for name in type(value).model_fields}))


class RunTable(TableView, tuple[Run, ...]):
    """Runs, newest first."""

    def table(self) -> RenderableType:
        """A line a run."""
        rows = ((run.id, run.objective_name, run.state.word, run.created_by, f"{run.created_at:%Y-%m-%d %H:%M}") for run in self)
        return _filled(("run", "objective", "state", "by", "since"), rows)


class ReleaseTable(TableView, tuple[Release, ...]):
    """Releases, newest first."""

    def table(self) -> RenderableType:
        """A line a release."""
        rows = ((short(r.digest), r.content.objective_name, r.content.rung.value, r.state.value, r.content.author) for r in self)
        return _filled(("release", "objective", "rung", "state", "author"), rows)


class PlanView(TableView, Plan):
    """A plan, shown with its rungs, costs and what each split can prove."""

    def table(self) -> RenderableType:
        """The plan as the command line shows it."""
        return plan_table(self)


class InspectionView(TableView, Inspection):
    """A data file as it looks, shown with its columns and the source to write."""

    def table(self) -> RenderableType:
        """A line a column, and the proposal."""
        guessed = {guess.column: f"{guess.role}? {guess.why}" for guess in self.guesses}
        rows = ((each.name, each.kind, f"{each.filled:,}", f"{each.distinct:,}", guessed.get(each.name, "")) for each in self.columns)
        columns = _filled(("column", "holds", "filled", "distinct", "seems to be"), rows)
        return Group(Text(f"{self.name}: {self.kind}, {self.rows:,} rows\n"), columns, Text(f"\n{self.proposal}"))


class RunView(TableView, RunReport):
    """A run with all it led to so far, shown as its ladder and outcome, or as its steps before there is a ladder."""

    @property
    def release(self) -> str | None:
        """Digest of the release that was drafted, if any."""
        return self.conclusion.release if self.conclusion else None

    def table(self) -> RenderableType:
        """The ladder where the climb has ended, else the steps."""
        head = Text(f"run {self.run.id} of {self.run.objective_name}: {self.run.state.word}\n")
        if self.ladder is None:
            rows = ((step.name, step.state.value, f"{step.seconds:.1f} s", step.error or "") for step in self.steps)
            return Group(head, _filled(("step", "state", "time", "error"), rows))
        return Group(head, ladder_table(self.ladder, self.objective), Text(f"\n{self._outcome()}"))

    def _outcome(self) -> str:
        if self.conclusion is None:
            return "the run goes on"
        if self.conclusion.release is None:
            return "\n".join((f"no release: {self.conclusion.reason}", *(f"  · {line}" for line in self.remedies)))
        return f"release {short(self.conclusion.release)} is signed and gated"


class TenantTable(TableView, tuple[TenantRun, ...]):
    """What became of each tenant of an objective for many."""

    def table(self) -> RenderableType:
        """A line a tenant, then why those failed or got nothing that did."""
        planned = any(each.state == "planned" for each in self)
        found = self._plans() if planned else self._climbs()
        return Group(found, *(Text(f"\n{line}") for line in map(_why, self) if line))

    def _climbs(self) -> FittedTable:
        rows = (
            (
                each.tenant,
                each.rung or NOTHING,
                "\n".join(f"{kpi.name} {kpi.bound:g}" for kpi in each.kpis) or NOTHING,
                "\n".join(map(finding_text, each.kpis)) or NOTHING,
                each.split or NOTHING,
                each.verdict or each.state.replace("_", " "),
                short(each.release) if each.release else each.state.replace("_", " "),
            )
            for each in self
        )
        return _filled(("tenant", "rung", "KPI", "measured", "on", "verdict", "release"), rows)

    def _plans(self) -> FittedTable:
        rows = [(each.tenant, f"{each.rows:,}", *_planned(each.plan)) if each.plan else (each.tenant, *(NOTHING,) * 4) for each in self]
        plans = [each.plan for each in self if each.plan]
        time, money = (sum(_most(plan, name) for plan in plans) for name in ("time", "money"))
        total = ("in all", f"{sum(each.rows for each in self):,}", "", human_seconds(time), human_money(money))
        return _filled(("tenant", "rows", "rungs", "time at most", "money at most"), [*rows, total])


def _planned(plan: Plan) -> tuple[str, ...]:
    floor = ["floor"] if plan.floor and plan.floor.time else []
    rungs = floor + [f"{rung.rung.value} {rung.variant}" for rung in plan.rungs]
    return ", ".join(rungs), human_seconds(_most(plan, "time")), human_money(_most(plan, "money"))


def _most(plan: Plan, name: str) -> float:
    """The upper ends of an estimate of every rung together: what a climb to the top takes."""
    estimates: list[Estimate | None] = [getattr(rung, name) for rung in (*((plan.floor,) if plan.floor else ()), *plan.rungs)]
    return sum(estimate.high for estimate in estimates if estimate is not None)


def _why(found: TenantRun) -> str:
    """Why a tenant has no release, and what to do about it; nothing where it has one."""
    if found.failure is not None:
        return f"{found.tenant} failed: {found.failure.message} [{found.failure.code}]\n  hint: {found.failure.hint}"
    if found.state in ("no_release", "left_out"):
        return f"{found.tenant}: {found.state.replace('_', ' ')}: {found.reason}" + "".join(f"\n  · {each}" for each in found.remedies)
    return ""


def _printable(line: str) -> str:
    """Words of data cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in line)


def _filled(head: tuple[str, ...], rows: Any) -> FittedTable:
    table = plain_table(head)
    for row in rows:
        add_row(table, row)
    return table
