"""Answers of the use cases that show themselves as tables in a terminal and in a notebook."""

from __future__ import annotations

from io import StringIO
from typing import TypeVar, cast

from rich.console import Console, Group, RenderableType
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import Inspection
from tailorbird.domain.plan import Plan
from tailorbird.domain.release import Release
from tailorbird.domain.run import Run
from tailorbird.domain.value import Value
from tailorbird.reporting.ladder import ladder_table
from tailorbird.reporting.plan import plan_table
from tailorbird.reporting.tables import (
    NOTHING,
    RELEASE_COLUMNS,
    RUN_COLUMNS,
    STEP_COLUMNS,
    Columns,
    columns_table,
    finding_text,
    inspection_table,
)
from tailorbird.sdk.runs import TenantRun
from tailorbird.usecases.runs.queries import RunReport

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
        return "\n".join(
            "".join(letter if letter.isprintable() else " " for letter in line).rstrip() for line in captured.get().rstrip().split("\n")
        )

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
        return columns_table(RUN_COLUMNS, self)


class ReleaseTable(TableView, tuple[Release, ...]):
    """Releases, newest first."""

    def table(self) -> RenderableType:
        """A line a release."""
        return columns_table(RELEASE_COLUMNS, self)


class PlanView(TableView, Plan):
    """A plan, shown with its rungs, costs and what each split can prove."""

    def table(self) -> RenderableType:
        """The plan as the command line shows it."""
        return plan_table(self)


class InspectionView(TableView, Inspection):
    """A data file as it looks, shown with its columns and the source to write."""

    def table(self) -> RenderableType:
        """A line a column, and the proposal."""
        return Group(Text(f"{self.name}: {self.kind}, {self.rows:,} rows\n"), inspection_table(self), Text(f"\n{self.proposal}"))


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
            return Group(head, columns_table(STEP_COLUMNS, self.steps))
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
        columns: Columns = {
            "tenant": "tenant",
            "rung": lambda each: each.rung or NOTHING,
            "KPI": lambda each: "\n".join(f"{kpi.name} {kpi.bound:g}" for kpi in each.kpis) or NOTHING,
            "measured": lambda each: "\n".join(map(finding_text, each.kpis)) or NOTHING,
            "on": lambda each: each.split or NOTHING,
            "verdict": lambda each: each.verdict or each.state.replace("_", " "),
            "release": lambda each: each.release or each.state.replace("_", " "),
        }
        return Group(columns_table(columns, self), *(Text(f"\n{line}") for line in map(_why, self) if line))


def _why(found: TenantRun) -> str:
    """Why a tenant has no release, and what to do about it; nothing where it has one."""
    if found.failure is not None:
        return f"{found.tenant} failed: {found.failure.message} [{found.failure.code}]\n  hint: {found.failure.hint}"
    if found.state in ("no_release", "left_out"):
        return f"{found.tenant}: {found.state.replace('_', ' ')}: {found.reason}" + "".join(f"\n  · {each}" for each in found.remedies)
    return ""
