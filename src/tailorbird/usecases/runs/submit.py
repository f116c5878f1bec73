"""From an objective to a run: submitted, planned, examined, and climbed to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tailorbird import __version__, base_models, data
from tailorbird.auth import Action
from tailorbird.chat.templates import TEMPLATES
from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, digest_of
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound
from tailorbird.domain.ladder import Refusal
from tailorbird.domain.objective import Objective
from tailorbird.domain.run import FINISHED, SNAPSHOT, Run, RunState
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.objective import OBJECTIVE_FILE, ObjectiveFile, chat_template_of, parse_submitted, read_objective
from tailorbird.system.outward_access import SourceAccess, grant_within
from tailorbird.usecases.audit_events import permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.endpoints import demand_teachers_unshown, named_endpoint
from tailorbird.usecases.registry import local, usecase
from tailorbird.usecases.releases.rules import find_ranker
from tailorbird.usecases.runs.context import StepContext
from tailorbird.usecases.runs.engine import WorkedRun, plan_for, work_on
from tailorbird.usecases.runs.snapshot_and_plan import ExaminedRung, draft_plan, examine_rungs
from tailorbird.usecases.snapshots import SnapshotView, heeded_facts, show_snapshot
from tailorbird.usecases.storage_quota import RelativePath, require_uploaded, storing
from tailorbird.usecases.tenants import reach_of

#: What an objective file may be called.
OBJECTIVE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.ya?ml$"
#: Folders of a submission at most.
MOST_FOLDERS = 2_000
#: A file may come under several names, as long as all files together have at most so many times their own bytes, and so many more: for each
#: name the bytes are read.
_MOST_TIMES, _MOST_MORE = 2, 1 << 26
#: Runs that are done at most, among which those of one objective are counted.
_MOST_DONE = 10_000


@local(Action.ADAPT)
def adapt(deps: Dependencies, actor: Actor, path: Path, progress: Progress, *, again: bool = False) -> WorkedRun:
    """Climbs for the objective at ``path``: submits the run (or finds the one that exists) and works on it to its end. ``again`` as in
    ``submit``.

    Raises ObjectiveInvalid, DataInvalid, Forbidden, Busy (another process works on this run), and what a step raises.
    """
    deps = deps.for_tenant(actor.tenant)
    return work_on(deps, actor, submit(deps, actor, path, RunState.ACTIVE, again=again), progress)


@local(Action.PLAN)
def plan(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> StepContext:
    """Goes as far as the plan, and no further: what ``adapt`` would do, and why, before anything is trained.

    The run it leaves is the one that ``adapt`` takes up. Raises as ``adapt`` does.
    """
    deps = deps.for_tenant(actor.tenant)
    return plan_for(deps, actor, submit(deps, actor, path, RunState.PLANNING), progress)


@local(Action.PLAN)
def submit(deps: Dependencies, actor: Actor, path: Path, goal: RunState, *, again: bool = False) -> Run:
    """Writes the run for the objective at ``path`` and the present bytes of its data; the same inputs give the run that exists.

    With ``again``, a run that ended without a release is repeated. Raises Forbidden.
    """
    if goal is RunState.ACTIVE:
        permit(deps, actor, Action.ADAPT, "submit", path.name)
    file, deps = read_objective(path, actor.tenant), deps.for_tenant(actor.tenant)
    data.start_parser()
    with storing(deps, actor.tenant) as (store, _):
        source = store.put(path.read_bytes())
    return _submit(deps, actor, file, goal, again=again, source=source, inputs=None)


class Submission(Value):
    """An objective to plan or to adapt for. ``files`` maps the data's relative paths to artifacts that were uploaded before."""

    objective: Annotated[str, Field(min_length=1, max_length=1 << 20, description="Text of the objective file.")]
    files: dict[RelativePath, Digest] = Field(default_factory=dict, max_length=10_000)
    goal: Literal["plan", "adapt"] = "adapt"
    again: bool = Field(default=False, description="Repeat a run that ended without a release.")
    name: str = Field(default=OBJECTIVE_FILE, pattern=OBJECTIVE_NAME, description="Name of the objective file, for messages.")

    @model_validator(mode="after")
    def _the_objective_is_no_data(self) -> Self:
        if any(path.partition("/")[0] == self.name for path in self.files):
            raise ValueError("a file cannot have the name of the objective file")
        return self

    @field_validator("files")
    @classmethod
    def _no_file_is_a_folder(cls, files: dict[str, Digest]) -> dict[str, Digest]:
        folders: set[str] = set()
        for path in files:
            while (path := path.rpartition("/")[0]) and path not in folders:
                folders.add(path)
            if len(folders) > MOST_FOLDERS:
                raise ValueError(f"more than {MOST_FOLDERS:,} folders")
        if folders & files.keys():
            raise ValueError("a file cannot also be a folder")
        return files


@usecase("run.submit", "POST", "/api/runs", Action.PLAN)
def submit_uploaded(deps: Dependencies, actor: Actor, submission: Submission) -> Run:
    """Submit an objective; workers plan it, or climb for it.

    Data at addresses are not read here, while somebody waits for the answer, but by the step that freezes them.
    """
    if submission.goal == "adapt":
        permit(deps, actor, Action.ADAPT, "run.submit")
    goal = RunState.ACTIVE if submission.goal == "adapt" else RunState.PLANNING
    text, name, files = submission.objective, submission.name, submission.files
    require_uploaded(deps, actor.tenant, files)
    sizes = {digest: deps.artifacts.size(digest) or 0 for digest in set(files.values())}
    if sum(sizes[digest] for digest in files.values()) > _MOST_TIMES * sum(sizes.values()) + _MOST_MORE:
        raise InvalidInput("the same files come under many names", "name each file once", param="files")
    with storing(deps, actor.tenant) as (store, _):
        source = store.put(text.encode())
        inputs = store.put(canonical_json({**files, name: source}))
    file = parse_submitted(text, name, actor.tenant)  # faults name the caller's file, not a folder of this machine
    file = file.model_copy(update={"folder": str(deps.artifacts.get_tree(inputs))})
    _refuse_outside(file, files, reach_of(deps, actor.tenant))
    return _submit(deps, actor, file, goal, again=submission.again, source=source, inputs=inputs)


def _refuse_outside(file: ObjectiveFile, files: Mapping[str, Digest], reach: SourceAccess) -> None:
    """A submitted objective reads what came with it and at the places of its tenant; never this machine's files or network.

    The steps that read ask once more: a place may be taken back meanwhile. Raises InvalidInput, Forbidden.
    """
    objective = file.objective
    for name in objective.places:
        if _came_along(name, files):
            continue
        if "://" not in name:
            raise InvalidInput(f"the data {name} did not come with the objective", "upload it", code="upload_missing")
        grant_within(reach, name)
    template = objective.chat_template
    if template and template not in TEMPLATES and not _came_along(template, files):
        raise InvalidInput(f"the chat template {template} did not come with the objective", "upload it", code="upload_missing")
    offered = {entry.name: base_models.address_of(entry) for entry in base_models.catalogue()}
    for named in objective.models:
        base = offered.get(named, named)
        if not base or _came_along(base, files):
            continue
        if not base.startswith("hf://"):
            raise InvalidInput(
                f"the base model {base} did not come with the objective",
                "name one of the catalogue, or hf://OWNER/NAME",
            )
        grant_within(reach, base)


def _came_along(name: str, files: Mapping[str, Digest]) -> bool:
    return name in files or any(path.startswith(f"{name.rstrip('/')}/") for path in files)


def _submit(
    deps: Dependencies, actor: Actor, file: ObjectiveFile, goal: RunState, *, again: bool, source: Digest, inputs: Digest | None
) -> Run:
    objective = file.objective
    if objective.tenant != actor.tenant:
        raise Forbidden(
            f"the objective belongs to tenant {objective.tenant}, and {actor.name} to {actor.tenant}",
            f"set tenant: {actor.tenant}, or act as an identity of {objective.tenant}: --as {objective.tenant}/NAME",
            code="other_tenant",
        )
    files = data.fingerprint_sources(objective, Path(file.folder), remote=inputs is None)
    unread = _unread(deps, objective) if inputs and any("://" in place for place in objective.places) else {}
    named = {"objective": digest_of(objective), "files": dict(files), "version": __version__} | unread
    if template := chat_template_of(objective, Path(file.folder)):
        named |= {"chat_template": digest_bytes(template.encode())}
    endpoint = named_endpoint(deps, file)
    # Whom a run asks, and at what price; not by which key.
    asks = {"endpoint": digest_of(endpoint.model_copy(update={"key": None}))} if endpoint else {}
    with deps.ledger.work(objective.tenant, write=False) as work:
        demand_teachers_unshown(work, file)
        ranker = find_ranker(work, file)
        taken = ({"encoder_of": ranker.digest} if ranker else {}) | asks
        fingerprint = fingerprint_of(work, named | heeded_facts(work, objective, deps.clock.now().date()) | taken, again=again)
    run = Run(
        id=id_of(fingerprint),
        tenant=objective.tenant,
        objective_name=objective.name,
        objective=digest_of(objective),
        fingerprint=fingerprint,
        folder="" if inputs else file.folder,
        created_by=actor.name,
        created_at=deps.clock.now(),
        state=goal,
        source=source,
        inputs=inputs,
    )
    with deps.ledger.work(objective.tenant) as work:
        _require_known(work, objective)
        work.records.put(objective)
        known = work.runs.add(run)
        if known == run:
            record(work, "run.submitted", actor.name, run.id, run.created_at, {"objective": objective.name, "goal": goal.value})
            return run
        if _is_revived(known.state, goal):
            work.steps.retry(known.id)
            work.runs.set_state(known.id, goal)
            record(work, "run.revived", actor.name, known.id, run.created_at, {"goal": goal.value, "was": known.state.value})
        return work.runs.get(known.id)


def _require_known(work: UnitOfWork, objective: Objective) -> None:
    """A data author who is nobody here would keep nobody from deciding. Raises InvalidInput."""
    known = {person.name for person in work.identities.all()}
    for name in sorted(objective.data_authors):
        if name not in known:
            hint = "name identities of the tenant: tailorbird identity list"
            raise InvalidInput(f"the data author {name} is no identity of {objective.tenant}", hint)


def _unread(deps: Dependencies, objective: Objective) -> dict[str, int]:
    """What stands in a run's fingerprint for data that nobody has read yet: how many runs of the objective are done.

    So a submission that is repeated finds the run that is under way, and one that comes after its end reads the data again.
    """
    with deps.ledger.work(objective.tenant, write=False) as work:
        done = work.runs.in_states(FINISHED, limit=_MOST_DONE)
    return {"done": sum(run.objective == digest_of(objective) for run in done)}


def _is_revived(state: RunState, goal: RunState) -> bool:
    """True when a run in ``state`` that is submitted again takes ``goal``: what is done or being done is left as it is."""
    if goal is RunState.PLANNING:
        return state in (RunState.PLANNED, RunState.FAILED, RunState.CANCELLED)
    return state not in (*FINISHED, RunState.ACTIVE)


def fingerprint_of(work: UnitOfWork, inputs: Mapping[str, Any], *, again: bool) -> Digest:
    """Fingerprint of the newest run on ``inputs``, or of the first; with ``again``, of the one that repeats the newest, where that ended
    without a release."""
    known = list(_runs(work, inputs))
    repeats = again and known and known[-1].state is RunState.NO_RELEASE
    return _fingerprint(inputs, len(known) if repeats else max(0, len(known) - 1))


def id_of(fingerprint: Digest) -> str:
    """The id of the run with ``fingerprint``."""
    return fingerprint.removeprefix("sha256:")[:12]


def _runs(work: UnitOfWork, inputs: Mapping[str, Any]) -> Iterator[Run]:
    """The run on ``inputs``, then those that repeat it, oldest first."""
    for number in count():
        try:
            yield work.runs.get(id_of(_fingerprint(inputs, number)))
        except NotFound:
            return


def _fingerprint(inputs: Mapping[str, Any], number: int) -> Digest:
    return digest_of(dict(inputs) | ({"again": number} if number else {}))


@local(Action.PLAN)
def curate(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> SnapshotView:
    """Reads, cleans, splits and freezes the data of the objective at ``path``; nothing is planned or fetched. Raises as ``adapt``."""
    run = submit(deps, actor, path, RunState.PLANNING)
    context = plan_for(deps, actor, run, progress, until=SNAPSHOT)
    return show_snapshot(deps, actor, context.done[SNAPSHOT])


class Checkup(Value):
    """What was found for each rung that would train; ``left_out`` are rungs that the plan does not try, and why."""

    rungs: tuple[ExaminedRung, ...]
    left_out: tuple[Refusal, ...]

    @property
    def healthy(self) -> bool:
        """True when nothing stands in the way of any rung."""
        return not any(one.examination.blocking for one in self.rungs)


@local(Action.PLAN)
def examine_objective(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> Checkup:
    """Freezes the data and fetches the base model as ``plan`` does, drafts the plan, and examines what it would train.

    The run it leaves is the one that ``plan`` and ``adapt`` take up; no plan is frozen. Raises as ``adapt`` does.
    """
    context = plan_for(deps, actor, submit(deps, actor, path, RunState.PLANNED), progress, until=SNAPSHOT)
    plan, refs = draft_plan(context)
    return Checkup(rungs=examine_rungs(context, plan, refs), left_out=plan.left_out)
