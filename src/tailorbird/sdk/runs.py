"""Runs of an objective, here or on a server, and of one objective for many tenants."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, ObjectiveInvalid, TailorbirdError, Unauthenticated
from tailorbird.domain.evidence import Finding
from tailorbird.domain.objective import DataSource, DocumentSource
from tailorbird.domain.run import Failure, Run, RunState
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.objective import OBJECTIVE_FILE, SHARED_ROWS, ObjectiveFile, read_objective
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.system.files import digest_file
from tailorbird.usecases import Progress, StepBegun
from tailorbird.usecases.runs import submit as runs
from tailorbird.usecases.runs.context import failure_of
from tailorbird.usecases.runs.queries import OPEN, RunReport, show_run, show_status
from tailorbird.usecases.runs.submit import OBJECTIVE_NAME, Submission, submit_uploaded
from tailorbird.usecases.tenants import list_tenants

#: Seconds between two looks at a run that a server works on.
POLL_SECONDS = 1.0

Goal = Literal["plan", "adapt"]


def submit_run(session: WorkspaceSession, path: Path, goal: Goal = "adapt", *, again: bool = False) -> Run:
    """Leaves the objective at ``path`` to workers. To a server it uploads the data on this machine that the objective names first."""
    if not session.server:
        return runs.submit(session.deps, session.actor(), path, RunState.ACTIVE, again=again)
    uploaded: dict[str, Digest] = {}
    for name in read_objective(path, session.tenant).objective.places:
        place = path.parent / name
        if "://" in name:
            continue
        files = {name: place}
        if place.is_dir():
            files = {f"{name.rstrip('/')}/{file.relative_to(place).as_posix()}": file for file in place.rglob("*") if file.is_file()}
        uploaded |= {named: session.remote().upload(file) for named, file in files.items()}
    name = path.name if re.match(OBJECTIVE_NAME, path.name) else OBJECTIVE_FILE
    text = path.read_text(encoding="utf-8-sig")
    return session.ask(submit_uploaded, Submission(objective=text, files=uploaded, goal=goal, name=name, again=again))


def plan_run(session: WorkspaceSession, path: Path, progress: Progress) -> RunReport:
    """The run of the objective at ``path``, once it is planned. Trains nothing."""
    if session.server:
        return follow(session, submit_run(session, path, "plan"), progress, "plan")
    return session.ask(show_run, run=runs.plan(session.deps, session.actor(), path, progress).run.id)


def adapt_here(session: WorkspaceSession, path: Path, progress: Progress, *, again: bool = False) -> tuple[RunReport, int]:
    """The run of the objective at ``path``, climbed to its end on this machine, and how many of its steps were finished before."""
    ended = runs.adapt(session.deps, session.actor(), path, progress, again=again)
    return session.ask(show_run, run=ended.run.id), ended.resumed


def follow(session: WorkspaceSession, run: Run, progress: Progress, goal: Goal = "adapt") -> RunReport:
    """Reports the progress of a run that workers execute until it has ended or, with the goal ``plan``, until it is planned: a run that
    somebody adapts already goes on beyond it. Raises Conflict when it failed or was cancelled."""
    reported: tuple[object, ...] = ()
    begun = ""
    while (status := session.ask(show_status, run=run.id)).run.state in OPEN:
        if goal == "plan" and status.run.state is RunState.ACTIVE and session.ask(show_run, run=run.id).plan is not None:
            break
        step = status.step
        if step is not None and status.working and step.name != begun:
            begun = step.name
            progress.step(StepBegun(run.id, begun, status.done, status.outlook))
        seen = step.progress if step else None
        line = f"step {step.name}: {seen.text}" if step and seen else f"step {step.name}" if step else "waiting for a worker"
        if (line, status.working) != reported:
            progress.tell(f"{line}: waiting for a worker" if step and not status.working else line)
            reported = (line, status.working)
        if seen and seen.training:
            progress.training(seen.training)
        elif seen and seen.total:
            progress.count(seen.done, seen.total)
        time.sleep(POLL_SECONDS)
    progress.step(None)
    if status.run.state in (RunState.FAILED, RunState.WAITING, RunState.CANCELLED):
        step = status.step
        error = step.error if step else None
        why = f": {step.message or error}" if step and error else ""
        hint = f"{step.hint}; then " if step and step.hint else f"see tailorbird runs show {run.id}; "
        code = error or f"run_{status.run.state.value}"
        raise Conflict(f"run {run.id} is {status.run.state.word}{why}", f"{hint}adapt again to go on where it stopped", code=code)
    return session.ask(show_run, run=run.id)


#: Names every tenant that is known and not suspended.
ALL = "all"
State = Literal["release", "no_release", "submitted", "failed", "left_out"]


class TenantRun(Value):
    """What became of one tenant.

    ``state``: a ``release`` was drafted; the climb ended with ``no_release``; ``submitted`` to a worker; ``failed``, for the
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

    def __str__(self) -> str:
        """One line of what became of it."""
        if self.failure is not None:
            return f"{self.tenant} failed: {self.failure.message} [{self.failure.code}]; the others go on"
        ended = {"release": "its release is drafted", "no_release": "no release", "left_out": f"left out, {self.reason}"}
        return f"{self.tenant}: {ended.get(self.state, self.state)}{', as before' if self.done_before else ''}"


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
        self._files = {tenant: _read(path, tenant) for tenant in _named(session, tenants)}
        self._refused = _sharing(self._files)

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants, in order."""
        return tuple(self._files)

    def submit(self) -> Iterator[TenantRun]:
        """Leaves the climbs to workers; what had ended before is shown as it ended."""

        def submitted(session: WorkspaceSession) -> TenantRun:
            run = submit_run(session, self._path)
            if run.state not in (RunState.DONE, RunState.NO_RELEASE):
                return _submitted(run)
            return _concluded(session.ask(show_run, run=run.id), done_before=True)

        for tenant in self.tenants:
            yield self._left_out(tenant) or self._tried(tenant, submitted)

    def adapt(self, progress: Progress) -> Iterator[TenantRun]:
        """Climbs for each tenant. To a server all are submitted before any is followed: its workers take several at a time."""
        begun: dict[str, TenantRun] = {}
        for tenant in self.tenants if self._session.server else ():
            if self._left_out(tenant) is None:
                begun[tenant] = self._tried(tenant, lambda session: _submitted(submit_run(session, self._path)))
        for number, tenant in enumerate(self.tenants, start=1):
            found = self._left_out(tenant) or begun.get(tenant)
            if found is None or found.state == "submitted":
                run, prefix = found.run if found else "", f"{tenant} ({number} of {len(self.tenants)}): "
                found = self._tried(tenant, partial(self._finished, run=run, progress=progress, prefix=prefix))
            progress.tell(str(found))
            yield found

    def _finished(self, session: WorkspaceSession, run: str, progress: Progress, prefix: str) -> TenantRun:
        """Follows what was submitted as ``run``, or climbs here. ``prefix`` stands before each line of its progress."""
        own = replace(progress, tell=lambda text: progress.tell(prefix + text))
        if run:
            return _concluded(follow(session, session.ask(show_run, run=run).run, own))
        report, resumed = adapt_here(session, self._path, own)
        return _concluded(report, done_before=resumed == len(report.steps))

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


def _named(session: WorkspaceSession, tenants: str | Sequence[str]) -> list[str]:
    """The tenants that are named: by a list, or a text: ``a,b,c``, a file with a name a line, or ``all``. Raises InvalidInput (none, one
    twice, or what is no name), NotFound (one that is not here, as far as whoever asks may see others: those of the host see all)."""
    seen = session.in_tenant(session.tenant)
    if tenants == ALL:
        return sorted(view.tenant.name for view in seen.ask(list_tenants).tenants if view.tenant.suspended_at is None)
    names = tenants
    if isinstance(tenants, str):
        path, lines = Path(tenants), tenants.split(",")
        if len(lines) == 1 and path.is_file():
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except UnicodeDecodeError:
                raise InvalidInput(f"{path} is not UTF-8 text", "write the name of a tenant on each line") from None
        names = [name for line in lines if (name := line.partition("#")[0].strip())]
    for name in names:
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError:
            hint = "a name has lower-case letters, digits, '.', '_' and '-', and begins with a letter or digit: tailorbird tenant list"
            raise InvalidInput(f"{name[:80]!r} is no name of a tenant, and no file", hint) from None
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or twice:
        what = f"the tenant {twice[0]} is named twice" if twice else "no tenant is named"
        raise InvalidInput(what, "name each tenant once: a,b,c, a file with a name a line, or all")
    try:
        known = {view.tenant.name for view in seen.ask(list_tenants).tenants}
    except (Forbidden, NotFound, Unauthenticated):  # an identity that the host does not have: each tenant answers for itself
        return list(names)
    unknown = [name for name in names if name not in known]
    if unknown and (len(known) > 1 or (not session.server and session.tenant == session.deps.host)):
        raise NotFound(f"there is no tenant {unknown[0]}", "see tailorbird tenant list, or the file with the names", code="tenant_missing")
    return list(names)


def _read(path: Path, tenant: str) -> ObjectiveFile:
    file = read_objective(path, tenant)
    if not file.for_tenants:
        hint = 'write tenant: "{tenant}" in it, and {tenant} in the paths of what each tenant has of its own, as in rows/{tenant}.csv'
        message = f"{path}: the objective is of {file.objective.tenant} alone, and --tenants was given"
        raise ObjectiveInvalid(message, hint, line=file.line_of("tenant"))
    return file


def _own_places(file: ObjectiveFile) -> list[Path]:
    """Files and folders here that hold the tenant's own rows and documents."""
    sources: tuple[DataSource | DocumentSource, ...] = (*file.objective.data, *file.objective.documents)
    return [Path(file.folder) / source.path for source in sources if not source.shared and "://" not in source.path]


def _sharing(files: Mapping[str, ObjectiveFile]) -> dict[str, TailorbirdError]:
    """The refusal of each tenant whose own rows or documents are those of another: one place, by whatever name, or the same bytes. Files
    are hashed once, and only those whose size another has."""
    places = [(tenant, place, place.stat()) for tenant, file in files.items() for place in _own_places(file) if place.exists()]
    sizes = Counter(status.st_size for _, place, status in places if place.is_file())
    same: dict[object, list[tuple[str, Path]]] = defaultdict(list)
    for tenant, place, status in places:
        same[status.st_dev, status.st_ino].append((tenant, place))
        if place.is_file() and status.st_size and sizes[status.st_size] > 1:
            same[digest_file(place)].append((tenant, place))
    refused: dict[str, TailorbirdError] = {}
    for (one, here), *others in same.values():
        for other, there in others:
            if other != one:
                message = f"{one} and {other} have the same rows of their own: {here} and {there}"
                hint = "give each its own; rows that all may learn from stand in a source of their own, with `shared: true`"
                refused |= dict.fromkeys((one, other), InvalidInput(message, hint, code=SHARED_ROWS))
    return refused


def _submitted(run: Run) -> TenantRun:
    return TenantRun(tenant=run.tenant, state="submitted", run=run.id)


def _concluded(report: RunReport, *, done_before: bool = False) -> TenantRun:
    assert report.conclusion is not None
    measured = report.ladder.measured if report.ladder else ()
    tested = [climb for climb in measured if report.test and climb.candidate == report.test.candidate]
    climb = (*tested, *measured[-1:])[0] if measured else None
    gate = report.gate or (climb.gate if climb else None)
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
        done_before=done_before,
    )
