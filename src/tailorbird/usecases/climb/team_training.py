"""A training that processes of several nodes do together: what the one that leads tells the others, and how they train with it.

The one that leads holds the step's lease, reports and writes; the others hold none. They learn what to train from an artifact of the
tenant, whose name stands with the step in the record until the training is over, and end with it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import Field

from tailorbird.domain.errors import InvalidInput, LeaseLost, TailorbirdError
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import OPEN, Step, StepState, TrainingProgress
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.trainer import ReportProgress, TeamPlace, TrainedModel, TrainingJob
from tailorbird.system.build import build_name
from tailorbird.usecases.anchored_rows import anchored_run
from tailorbird.usecases.leases import LeaseWatch
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext, TrainingTeam

#: What a job says of the machine of the one that leads, and the keys that each has by itself.
_OWN = {"base", "workspace", "results", "seal_key"}
#: Seconds between two looks into the record.
LOOK_SECONDS = 1.0


class SharedJob(Value):
    """What the others are told: the job without what is of one machine, by ``fingerprint`` what its bytes depend on there, and the key by
    which they show that they were told."""

    run: str
    step: str
    version: str = Field(default_factory=build_name)
    fingerprint: Digest
    key: str
    job: dict[str, Any]


def train_with_others(context: StepContext, rung: RungPlan) -> Callable[[TrainingJob, ReportProgress], TrainedModel] | None:
    """What trains the job of a rung together with the others of the step's team; None where it has none."""
    return partial(_lead, context, context.team, transitions.make_step(rung)) if context.team else None


def _lead(context: StepContext, team: TrainingTeam, step: str, job: TrainingJob, report: ReportProgress) -> TrainedModel:
    """Raises as ``Trainer.train_in_team``, and what storing raises."""
    trainer = context.deps.trainer()
    shared = SharedJob(
        run=context.run.id,
        step=step,
        fingerprint=trainer.fingerprint(job),
        key=secrets.token_hex(32),
        job=job.model_dump(mode="json", exclude=_OWN),
    )
    digest = context.deps.artifacts.put(shared.model_dump_json().encode())
    place = _place(context, team, 0, job, shared.key)
    try:
        with context.deps.ledger.work(context.run.tenant) as work:
            if work.runs.get(context.run.id).state not in OPEN or not work.steps.note_answers(context.run.id, step, team.name, digest):
                raise LeaseLost(f"the step {step} is done by somebody else, or wanted no more", "look at the run", code="lease_lost")
        trained = trainer.train_in_team(job, place, report, lambda: True)
    finally:
        place.meeting.unlink(missing_ok=True)
        with suppress(TailorbirdError):
            context.deps.artifacts.destroy(digest)
    assert trained is not None, "it leads"
    return trained


def train_with_lead(context: StepContext, team: TrainingTeam, rung: RungPlan, rank: int) -> bool:
    """Trains for a rung, as the one with this ``rank`` of its step's team, once the one that leads has told what; False where it never
    does. Raises as ``Trainer.train_in_team``, and InvalidInput (``workspace_not_shared``, ``node_differs``)."""
    step = transitions.make_step(rung)
    trainer = context.deps.trainer()  # its libraries are loaded meanwhile
    digest = None
    while digest is None:
        found = _step(context, step)
        if found is not None and found.state in (StepState.DONE, StepState.FAILED):
            return False
        digest = found.answers.get(team.name) if found else None
        time.sleep(0 if digest else LOOK_SECONDS)
    shared = SharedJob.model_validate_json(context.deps.artifacts.get(digest))
    _require((shared.run, shared.step, shared.version) == (context.run.id, step, build_name()))
    job = _own_job(context, rung, shared)
    _require(trainer.fingerprint(job) == shared.fingerprint)
    lease = LeaseWatch()
    trainer.train_in_team(job, _place(context, team, rank, job, shared.key), _silent, lambda: _is_led(context, step, team.name, lease))
    return True


def _silent(_: TrainingProgress) -> None: ...


def _own_job(context: StepContext, rung: RungPlan, shared: SharedJob) -> TrainingJob:
    """The job as it is here: the base model lies elsewhere, the workspace is the same."""
    base = context.base_for(rung)
    own = {
        "base": str(context.deps.artifacts.get_tree(base.digest)),
        "workspace": str(context.folder / transitions.step_folder(shared.step)),
        "seal_key": context.deps.seal_key("checkpoints"),
    }
    return TrainingJob.model_validate_json(json.dumps(shared.job | own))


def _place(context: StepContext, team: TrainingTeam, rank: int, job: TrainingJob, key: str) -> TeamPlace:
    meeting = job.workspace / f"meeting-{team.name}"
    return TeamPlace(rank=rank, size=team.size, meeting=meeting, address=context.deps.node_address, key=key)


def _require(alike: bool) -> None:
    if not alike:
        raise InvalidInput(
            "this node would not train what the one that leads does: code, libraries, processor or threads differ",
            "install the same versions on every node, on machines of one kind, or train on one (training_processes)",
            code="node_differs",
        )


def _step(context: StepContext, name: str) -> Step | None:
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        _, steps = anchored_run(work, context.run.id)
    return next((step for step in steps if step.name == name), None)


def _is_led(context: StepContext, name: str, team: str, lease: LeaseWatch) -> bool:
    """Whether the training goes on, as far as the record can be asked: the one that leads holds its lease."""
    try:
        step = _step(context, name)
    except TailorbirdError:
        return True
    if step is None or step.state is not StepState.LEASED or team not in step.answers:
        return False
    return lease.is_kept(step.lease_until, context.deps.clock.now())
