"""Runs of one objective for many tenants, one after another, each as an identity of its tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound, ObjectiveInvalid, TailorbirdError, Unauthenticated
from tailorbird.domain.evidence import Finding
from tailorbird.domain.objective import DataSource, DocumentSource
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import Failure, Run, RunState
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.objective import SHARED_ROWS, ObjectiveFile, read_objective
from tailorbird.sdk.remote_runs import follow, is_planned, submit_file
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.system.files import digest_file
from tailorbird.text.normalisation import nearest
from tailorbird.usecases import Progress
from tailorbird.usecases.runs import submit as runs
from tailorbird.usecases.runs.run_queries import RunReport, show_run
from tailorbird.usecases.steps.cancellation import failure_of
from tailorbird.usecases.tenants import TenantView, list_tenants

#: Names every tenant that is known and not suspended.
ALL = "all"
Goal = Literal["plan", "adapt"]
State = Literal["release", "no_release", "planned", "submitted", "failed", "left_out"]


class TenantRun(Value):
    """What became of one tenant.

    ``state``: a ``release`` was drafted; the climb ended with ``no_release``; ``planned``; ``submitted`` to a worker; ``failed``, for the
    reason ``failure``; ``left_out``, because it has no rows and was not named. ``rung`` is the one that was released, or the last that was
    measured; ``kpis`` are what the sealed test found, or dev where it was not opened. ``done_before`` is true when the run had ended
    earlier, so that nothing was done again. ``remedies`` are what could lead to a release where there is none.
    """

    tenant: str
    state: State
    run: str = ""
    rung: str = ""
    kpis: tuple[Finding, ...] = ()
    split: str = ""
    verdict: str = ""
    release: Digest | None = None
    reason: str = ""
    remedies: tuple[str, ...] = ()
    failure: Failure | None = None
    done_before: bool = False
    plan: Plan | None = None
    rows: int = 0


def _named(session: WorkspaceSession, text: str) -> list[str]:
    """The tenants that ``text`` names: ``a,b,c``, a file with a name a line, or ``all``."""
    if text == ALL:
        return sorted(view.tenant.name for view in _seen(session) if view.tenant.suspended_at is None)
    path = Path(text)
    lines = _lines(path) if "," not in text and path.is_file() else text.split(",")
    names = (line.partition("#")[0].strip() for line in lines)
    return [name for name in names if name]


def _checked(session: WorkspaceSession, listed: Sequence[str]) -> tuple[str, ...]:
    """Raises InvalidInput (none, one twice, or what is no name), NotFound (one that is not here, as far as whoever asks may see others)."""
    names = [_name(name) for name in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        what = f"the tenant {twice[0]} is named twice" if twice else "no tenant is named"
        raise InvalidInput(what, "name each tenant once: a,b,c, a file with a name a line, or all", code="tenants_named")
    _refuse_unknown(session, names)
    return tuple(names)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text", "write the name of a tenant on each line", code="tenants_named") from None


def _name(text: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        hint = "a tenant's name has lower-case letters, digits, '.', '_' and '-', and begins with a letter or digit: tailorbird tenant list"
        raise InvalidInput(f"{text[:80]!r} is no name of a tenant, and no file", hint, code="tenants_named") from None


def _refuse_unknown(session: WorkspaceSession, listed: Sequence[str]) -> None:
    try:
        known = {view.tenant.name for view in _seen(session)}
    except (Forbidden, NotFound, Unauthenticated):  # an identity that the host does not have: each tenant answers for itself
        return
    unknown = [name for name in listed if name not in known]
    sees_all = len(known) > 1 or (not session.server and session.tenant == session.deps.host)
    if sees_all and unknown:
        near = nearest(unknown[0], sorted(known))
        hint = "see tailorbird tenant list; add it with tailorbird tenant add, or correct the path of the file with the names"
        hint = f"did you mean {near}? {hint}" if near else hint
        raise NotFound(f"there is no tenant {unknown[0]}", hint, code="tenant_missing")


def _seen(session: WorkspaceSession) -> tuple[TenantView, ...]:
    """The tenants that whoever asks may see: those of the host see all."""
    return session.in_tenant(session.tenant).ask(list_tenants).tenants


class TenantRuns:
    """One objective for many tenants: each one's own rows, run, evidence and release, on base models that all share.

    The identity of the session's name acts in each tenant, proven by its key there. A tenant that fails ends nothing but its own run.
    Nothing of a tenant is read for another; two tenants whose own rows are the same are both refused. Doing it again goes on where it
    stopped.
    """

    def __init__(self, session: WorkspaceSession, path: Path, tenants: str | Sequence[str]) -> None:
        """``tenants`` are names, or a text: ``a,b,c``, a file with a name a line, ``all``. Raises InvalidInput, NotFound, ObjectiveInvalid,
        before anything is done for any tenant."""
        self._session, self._path, self._all = session, path, tenants == ALL
        named = _named(session, tenants) if isinstance(tenants, str) else tenants
        self._files = {tenant: _read(path, tenant) for tenant in _checked(session, named)}
        self._refused = _sharing(self._files)

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants, in order."""
        return tuple(self._files)

    def adapt(self, progress: Progress) -> Iterator[TenantRun]:
        """Climbs for each tenant. By URL the server's workers climb, for all tenants at once."""
        return self._each("adapt", progress, self._adapted_here)

    def plan(self, progress: Progress) -> Iterator[TenantRun]:
        """Plans for each tenant; trains nothing."""
        return self._each("plan", progress, self._planned_here)

    def submit(self) -> Iterator[TenantRun]:
        """Leaves the climbs to workers; what had ended before is told as it ended."""
        for tenant in self.tenants:
            yield self._left_out(tenant) or self._tried(tenant, self._left_to_workers)

    def _left_to_workers(self, session: WorkspaceSession) -> TenantRun:
        run = self._submit(session, "adapt")
        if run.state not in (RunState.DONE, RunState.NO_RELEASE):
            return _submitted(run)
        return _concluded(session.ask(show_run, run=run.id)).model_copy(update={"done_before": True})

    def _each(self, goal: Goal, progress: Progress, here: Callable[..., TenantRun]) -> Iterator[TenantRun]:
        begun = self._begun(goal) if self._session.server else {}
        for number, tenant in enumerate(self.tenants, start=1):
            own = _prefixed(progress, f"{tenant} ({number} of {len(self.tenants)})")
            found = self._left_out(tenant) or begun.get(tenant) or self._tried(tenant, partial(here, progress=own))
            if found.state == "submitted":
                found = self._tried(tenant, partial(self._followed, run=found.run, goal=goal, progress=own))
            progress.tell(_told(found))
            yield found

    def _begun(self, goal: Goal) -> dict[str, TenantRun]:
        """All of them submitted, before any is followed: the server's workers take several at a time."""
        able = [tenant for tenant in self.tenants if self._left_out(tenant) is None]
        return {tenant: self._tried(tenant, lambda session: _submitted(self._submit(session, goal))) for tenant in able}

    def _tried(self, tenant: str, work: Callable[[WorkspaceSession], TenantRun]) -> TenantRun:
        """What ``work`` finds for the tenant; whatever ends it is the tenant's failure."""
        try:
            if tenant in self._refused:
                raise self._refused[tenant]
            return work(self._session.in_tenant(tenant)).model_copy(update={"tenant": tenant})
        except Exception as error:  # noqa: BLE001 - a defect in one tenant's run ends no other's; the run's step has recorded it
            return TenantRun(tenant=tenant, state="failed", failure=failure_of(error))

    def _left_out(self, tenant: str) -> TenantRun | None:
        """Where all tenants are meant, those without a single file of their own have nothing to adapt to."""
        own = _own_places(self._files[tenant])
        if not self._all or not own or any(place.exists() for place in own):
            return None
        return TenantRun(tenant=tenant, state="left_out", reason=f"no rows: there is no {own[0]}")

    def _adapted_here(self, session: WorkspaceSession, progress: Progress) -> TenantRun:
        ended = runs.adapt(session.deps, session.actor(), self._path, progress)
        found = _concluded(session.ask(show_run, run=ended.run.id))
        return found.model_copy(update={"done_before": ended.resumed == len(ended.steps)})

    def _planned_here(self, session: WorkspaceSession, progress: Progress) -> TenantRun:
        return _planned(session.ask(show_run, run=runs.plan(session.deps, session.actor(), self._path, progress).run.id))

    def _submit(self, session: WorkspaceSession, goal: Goal) -> Run:
        if session.server:
            return submit_file(session, self._path, goal)
        return runs.submit(session.deps, session.actor(), self._path, RunState.ACTIVE)

    def _followed(self, session: WorkspaceSession, *, run: str, goal: Goal, progress: Progress) -> TenantRun:
        submitted = session.ask(show_run, run=run).run
        if goal == "plan":
            return _planned(follow(session, submitted, progress, until=lambda job: is_planned(session, job)))
        return _concluded(follow(session, submitted, progress))


def _read(path: Path, tenant: str) -> ObjectiveFile:
    file = read_objective(path, tenant)
    if not file.for_tenants:
        hint = 'write tenant: "{tenant}" in it, and {tenant} in the paths of what each tenant has of its own, as in rows/{tenant}.csv'
        message = f"{path}: the objective is of {file.objective.tenant} alone, and --tenants was given"
        raise ObjectiveInvalid(message, hint, code="tenants_objective", line=file.line_of("tenant"))
    return file


def _own_places(file: ObjectiveFile) -> list[Path]:
    """Files and folders here that hold the tenant's own rows and documents."""
    objective = file.objective
    sources: tuple[DataSource | DocumentSource, ...] = (*objective.data, *objective.documents)
    return [Path(file.folder) / source.path for source in sources if not source.shared and "://" not in source.path]


def _sharing(files: Mapping[str, ObjectiveFile]) -> dict[str, TailorbirdError]:
    """The refusal of each tenant whose own rows or documents are those of another: one place, or the same bytes."""
    refused: dict[str, TailorbirdError] = {}
    places = [(tenant, place) for tenant, file in files.items() for place in _own_places(file) if place.exists()]
    for (one, here), (other, there) in combinations(places, 2):
        if one != other and _same(here, there):
            message = f"{one} and {other} have the same rows of their own: {here} and {there}"
            hint = "give each its own; rows that all may learn from stand in a source of their own, with `shared: true`"
            refused |= dict.fromkeys((one, other), InvalidInput(message, hint, code=SHARED_ROWS))
    return refused


def _same(one: Path, other: Path) -> bool:
    """True for one place under two names, and for two files that hold the same bytes."""
    if one.samefile(other):
        return True
    files = one.is_file() and other.is_file() and one.stat().st_size == other.stat().st_size > 0
    return files and digest_file(one) == digest_file(other)


def _submitted(run: Run) -> TenantRun:
    return TenantRun(tenant=run.tenant, state="submitted", run=run.id)


def _planned(report: RunReport) -> TenantRun:
    assert report.plan is not None
    rows = report.manifest.counts if report.manifest else None
    count = rows.train + rows.dev + rows.test if rows else 0
    return TenantRun(tenant=report.run.tenant, state="planned", run=report.run.id, plan=report.plan, rows=count)


def _concluded(report: RunReport) -> TenantRun:
    assert report.conclusion is not None
    measured = report.ladder.measured if report.ladder else ()
    climb = next(
        (climb for climb in measured if report.test and climb.candidate == report.test.candidate), measured[-1] if measured else None
    )
    gate = report.gate or (climb.gate if climb else None)
    rows = report.manifest.counts if report.manifest else None
    return TenantRun(
        tenant=report.run.tenant,
        state="release" if report.conclusion.release else "no_release",
        run=report.run.id,
        rung=f"{climb.rung.value} {climb.variant}" if climb else "",
        kpis=tuple(finding for finding in gate.findings if finding.kind == "kpi") if gate else (),
        split=gate.split.value if gate else "",
        verdict=gate.verdict.value if gate else "",
        release=report.conclusion.release,
        reason=report.conclusion.reason,
        remedies=report.remedies,
        rows=rows.train + rows.dev + rows.test if rows else 0,
    )


def _prefixed(progress: Progress, tenant: str) -> Progress:
    return replace(progress, tell=lambda text: progress.tell(f"{tenant}: {text}"))


def _told(found: TenantRun) -> str:
    """One line of what became of a tenant."""
    if found.failure is not None:
        return f"{found.tenant} failed: {found.failure.message} [{found.failure.code}]; the others go on"
    ended = {"release": "its release is drafted", "no_release": "no release", "left_out": f"left out, {found.reason}"}
    return f"{found.tenant}: {ended.get(found.state, found.state)}{', as before' if found.done_before else ''}"
