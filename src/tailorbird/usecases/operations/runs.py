"""Operations on runs and jobs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from tailorbird.auth import Action
from tailorbird.domain.deployment import Alias
from tailorbird.domain.ladder import Allowance, RungKind
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import OBJECTIVE_FILE
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Nothing, Operation
from tailorbird.usecases.runs import jobs, reports, submit
from tailorbird.usecases.steps import rung_approval
from tailorbird.usecases.steps import training_fork as forking

#: What an objective file may be called.
OBJECTIVE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.ya?ml$"

RunId = Annotated[str, Field(min_length=1, max_length=64, description="Id of the run, or how it begins.")]


def _plain(path: str) -> str:
    """A relative path with one spelling, that leads nowhere else."""
    pieces = path.split("/")
    if (
        not all(0 < len(part.encode("utf-8", "surrogatepass")) <= 255 and part not in (".", "..") for part in pieces)
        or set(path) & {"\\", "\0"}
        or pieces[0] == OBJECTIVE_FILE
    ):
        raise ValueError("a file is named by a plain relative path")
    return path


RelativePath = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_plain)]


class Submission(Value):
    """An objective to plan or to adapt for. ``files`` maps the data's relative paths to artifacts that were uploaded before."""

    objective: Annotated[str, Field(min_length=1, max_length=1 << 20, description="Text of the objective file.")]
    files: dict[RelativePath, Digest] = Field(default_factory=dict, max_length=10_000)
    goal: Literal["plan", "adapt"] = "adapt"
    name: str = Field(
        default=OBJECTIVE_FILE,
        pattern=OBJECTIVE_NAME,
        description="Name of the objective file, for messages.",
        exclude_if=lambda value: value == OBJECTIVE_FILE,
    )

    @model_validator(mode="after")
    def _the_objective_is_no_data(self) -> Self:
        if any(path.partition("/")[0] == self.name for path in self.files):
            raise ValueError("a file cannot have the name of the objective file")
        return self

    @field_validator("files")
    @classmethod
    def _no_file_is_a_folder(cls, files: dict[str, Digest]) -> dict[str, Digest]:
        folders = {path[:end] for path in files for end, letter in enumerate(path) if letter == "/"}
        if folders & files.keys():
            raise ValueError("a file cannot also be a folder")
        return files


class RunPageRequest(Value):
    """Which part of a list is wanted: ``limit`` entries after leaving out ``skip``, newest first."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    skip: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class RunPage(Value):
    """Some of the tenant's runs, newest first, and how many there are."""

    runs: tuple[Run, ...]
    total: int


class ObjectiveHead(Value):
    """What an objective has come to: its newest run, and its public name, where there are any."""

    name: str
    run: Run | None
    alias: Alias | None


class Objectives(Value):
    """The tenant's objectives: all that were run for or have a public name, by name."""

    objectives: tuple[ObjectiveHead, ...]


class OneRun(Value):
    """Names a run."""

    run: RunId


class Allow(Value):
    """Names a run and the rung that shall be allowed."""

    run: RunId
    rung: RungKind
    reason: Annotated[str, Field(max_length=2000)] = ""


class Fork(Value):
    """A run, and the run whose unfinished training it goes on from."""

    run: RunId
    source: RunId


class Jobs(Value):
    """What is being done or waits to be."""

    jobs: tuple[jobs.Job, ...]


def _submit(deps: Dependencies, actor: Actor, asked: Submission) -> Run:
    if asked.goal == "plan":
        return submit.submit_uploaded(deps, actor, asked.objective, asked.files, RunState.PLANNING, asked.name)
    permit(deps, actor, Action.ADAPT, "run.submit")
    return submit.submit_uploaded(deps, actor, asked.objective, asked.files, RunState.ACTIVE, asked.name)


def _list(deps: Dependencies, actor: Actor, asked: RunPageRequest) -> RunPage:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return RunPage(runs=work.runs.latest(asked.limit, asked.skip), total=work.runs.count())


def _objectives(deps: Dependencies, actor: Actor, _asked: Nothing) -> Objectives:
    with deps.ledger.work(actor.tenant, write=False) as work:
        newest = {run.objective_name: run for run in work.runs.newest_by_objective()}
        aliases = {alias.name: alias for alias in work.aliases.all()}
    names = sorted(newest.keys() | aliases.keys())
    return Objectives(objectives=tuple(ObjectiveHead(name=name, run=newest.get(name), alias=aliases.get(name)) for name in names))


def _show(deps: Dependencies, actor: Actor, asked: OneRun) -> reports.RunReport:
    return reports.report(deps, actor.tenant, asked.run)


def _jobs(deps: Dependencies, actor: Actor, _asked: Nothing) -> Jobs:
    return Jobs(jobs=jobs.open_jobs(deps, actor.tenant))


def _job(deps: Dependencies, actor: Actor, asked: OneRun) -> jobs.Job:
    return jobs.job(deps, actor.tenant, asked.run)


def _fork(deps: Dependencies, actor: Actor, asked: Fork) -> Run:
    return forking.fork(deps, actor, asked.run, asked.source)


def _cancel(deps: Dependencies, actor: Actor, asked: OneRun) -> Run:
    return jobs.cancel(deps, actor, asked.run)


def _allow(deps: Dependencies, actor: Actor, asked: Allow) -> Allowance:
    return rung_approval.allow(deps, actor, asked.run, asked.rung, asked.reason)


SUBMIT = Operation(
    "run.submit", "POST", "/api/runs", Action.PLAN, Submission, Run, _submit, "Submit an objective; workers plan it, or climb for it."
)
LIST = Operation("run.list", "GET", "/api/runs", Action.SHOW_RUN, RunPageRequest, RunPage, _list, "List runs, newest first.")
OBJECTIVES = Operation(
    "objective.list",
    "GET",
    "/api/objectives",
    Action.SHOW_RUN,
    Nothing,
    Objectives,
    _objectives,
    "List objectives, each with its newest run and its public name.",
)
SHOW = Operation(
    "run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN, OneRun, reports.RunReport, _show, "Show a run with all it led to so far."
)
FORK = Operation(
    "run.fork", "POST", "/api/runs/{run}/fork", Action.ADAPT, Fork, Run, _fork, "Let a run go on from the unfinished training of another."
)
JOBS = Operation("job.list", "GET", "/api/jobs", Action.SHOW_RUN, Nothing, Jobs, _jobs, "List what is being done or waits for a worker.")
JOB = Operation("job.show", "GET", "/api/jobs/{run}", Action.SHOW_RUN, OneRun, jobs.Job, _job, "Show how far a run is.")
CANCEL = Operation(
    "job.cancel", "POST", "/api/jobs/{run}/cancel", Action.CANCEL_RUN, OneRun, Run, _cancel, "Cancel a run; what is finished stays."
)
ALLOW = Operation(
    "run.allow",
    "POST",
    "/api/runs/{run}/allow",
    Action.ALLOW_RUNG,
    Allow,
    Allowance,
    _allow,
    "Allow a rung that needs leave: all weights, where the risk is high.",
)
