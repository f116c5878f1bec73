"""Placement of a run's steps on a cluster: what a step takes of a node, the task that a node is given, and how its end is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from uuid import uuid4

from pydantic import Field

from tailorbird.domain.errors import (
    Busy,
    Conflict,
    Exhausted,
    Forbidden,
    InvalidInput,
    ObjectiveInvalid,
    TailorbirdError,
    Unavailable,
    error_named,
)
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.run import CHOOSE, CONCLUDE, FLOOR, PLAN, ComputeNode, Step, StepNeed, StepProgress, StepState
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.ports.compute import Compute, PlacedTask
from tailorbird.system.files import private_folder
from tailorbird.system.process import build_name
from tailorbird.usecases.dependencies import Dependencies, Progress
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.context import StepContext

#: Steps that are done where the run was started, whatever does the others: they sign, and keys stay where they are.
SIGNED_HERE = (CONCLUDE,)
#: Seconds between two looks at a step that a node does, and for which one that was interrupted is waited for.
LOOK_SECONDS, GRACE_SECONDS = 0.5, 15.0
#: GiB of a process that has the libraries loaded, torch among them (0.48 on Linux), and does next to nothing.
LEAST_MEMORY = 0.5
#: Placements of one step in a row of which none leased it, after which it fails; seconds after the first, twice as many after each other.
MOST_FRUITLESS, PAUSE_SECONDS = 5, 2.0


class StepTask(Value):
    """What a node is told: names, and nothing that must be kept from others. It reads the settings in ``workspace`` there. ``settings`` is
    the digest of those that results depend on, ``need`` what is booked for it; with steps that take no more it goes on, as far as the step
    ``until`` (empty: the last). ``mark`` names a file that lies in the run's folder while the step is waited for: a node that does not see
    it has a workspace of its own."""

    version: str = Field(default_factory=build_name)
    workspace: str
    settings: Digest
    tenant: Name
    actor: Name
    run: str
    step: str
    need: StepNeed
    until: str = ""
    mark: str = Field(pattern=r"^placed-[0-9a-f]{32}$")


class StepFault(Value):
    """The error that ended a step on a node, by the name of its class."""

    kind: str
    code: str
    message: str
    hint: str
    line: int = 0
    """That of the objective which is to blame, where one is."""

    @classmethod
    def of(cls, error: TailorbirdError) -> StepFault:
        """The fault that ``error`` is."""
        line = error.line if isinstance(error, ObjectiveInvalid) else 0
        return cls(kind=type(error).__name__, code=error.error_code, message=error.message, hint=error.hint, line=line)

    def error(self) -> TailorbirdError:
        """The error, as if the step had been done here."""
        return error_named(self.kind, self.message, self.hint, self.code, self.line)


class StepAnswer(Value):
    """What a node answers: the record holds the step's result."""

    fault: StepFault | None = None


def need_of(
    plan: Plan | None, name: str, nodes: Sequence[ComputeNode], cores: int, done: Sequence[str] = (), processes: int = 0
) -> StepNeed:
    """What the step ``name`` takes. Before there is a plan that is ``cores`` (0: all of the largest node), and for the plan itself the GPUs
    of that node, too; afterwards what the plan foresees on the machine it was made on: how many threads compute can change the last bits
    of a sum, so their number stays. Each of several ``processes`` that train together without a GPU holds as much as one."""
    largest = max(nodes, key=lambda node: (node.gpus, node.cores, node.memory_gb))
    if plan is None:
        gpus = largest.gpus if name == PLAN else 0
        return StepNeed(cores=cores or max(1, largest.cores), memory_gb=LEAST_MEMORY, gpus=gpus)
    machine = plan.machine
    threads = machine.threads or cores or max(1, min(machine.cores, largest.cores))
    rung = next((rung for rung in plan.rungs if name in (transitions.make_step(rung), transitions.measure_step(rung))), None)
    gpus, memory = _gpus(plan, rung, name), _memory(plan, rung, name, done)
    held = memory * processes + LEAST_MEMORY if processes > 1 and _trains(rung, name) and not gpus else memory
    return StepNeed(cores=threads, memory_gb=round(held, 3), gpus=gpus)


def _memory(plan: Plan, rung: RungPlan | None, name: str, done: Sequence[str]) -> float:
    """GiB that are likely taken: what planning compares with the machine. A sealed test asks what was measured on dev; to choose takes
    next to nothing, and as much is booked for it, so that the process which measured goes on to the test."""
    if rung is not None:
        return max(rung.memory.likely, LEAST_MEMORY)
    likely = [plan.floor.memory.likely] if plan.floor and plan.floor.memory else []
    if name != FLOOR:
        likely = [rung.memory.likely for rung in plan.rungs if transitions.measure_step(rung) in done] or likely
    return max((*likely, LEAST_MEMORY))


def _gpus(plan: Plan, rung: RungPlan | None, name: str) -> int:
    """All that training may use; one to ask a model."""
    if not plan.machine.gpus or name.startswith(CHOOSE) or (rung is not None and rung.rung is RungKind.HOSTED):
        return 0
    return len(plan.machine.gpus) if _trains(rung, name) else 1


def _trains(rung: RungPlan | None, name: str) -> bool:
    return rung is not None and rung.training is not None and name == transitions.make_step(rung)


def require_room(nodes: Sequence[ComputeNode], name: str, need: StepNeed) -> None:
    """Raises Exhausted (``step_too_large``) when no node holds ``need``, not even one that does nothing else."""
    if any(node.holds(need) for node in nodes):
        return
    largest = max(nodes, key=lambda node: (node.gpus >= need.gpus, node.cores >= need.cores, node.memory_gb, node.cores))
    has = StepNeed(cores=max(1, largest.cores), memory_gb=largest.memory_gb, gpus=largest.gpus)
    raise Exhausted(
        f"the step {name} takes {need.words}, and no node has that: the largest has {has.words}",
        "add a node that holds it, or a smaller base, rank or batch to the objective, then adapt again",
        code="step_too_large",
    )


def require_shared(deps: Dependencies, compute: Compute, nodes: Sequence[ComputeNode]) -> None:
    """Raises InvalidInput when nodes of other machines cannot reach the record, and Forbidden (``cluster_open``)
    when others could give the cluster orders: also one of this machine alone, for its ports are open on the network."""
    others = sorted({node.host for node in nodes if not node.here})
    if others and deps.upkeep.record_file is not None:
        raise InvalidInput(
            f"the record is a file of this machine, and nodes of others take part ({', '.join(others[:3])})",
            "keep the record on PostgreSQL and the artifacts in S3 or a shared folder (docs/howto/ray.md), or use this machine alone",
        )
    if not compute.protected:
        raise Forbidden(
            "the cluster takes orders from whoever reaches its ports",
            "start every node, and this process, with RAY_AUTH_MODE=token and the same token, or the only one on loopback "
            "(ray start --node-ip-address=127.0.0.1; docs/howto/ray.md)",
            code="cluster_open",
        )


def await_free(context: StepContext, name: str) -> None:
    """Waits until no lease holds the step. Raises Busy when its holder lives: when the lease is renewed meanwhile."""
    until: datetime | None = None
    while (held := _held(context, name)) is not None and held.lease_until is not None:
        if until is not None and held.lease_until > until:
            raise run_busy(held)
        if until is None:
            context.progress.tell(f"{held.owner} holds this step; waiting for its lease to end")
        until = held.lease_until
        time.sleep(1.0)


def run_busy(held: Step) -> Busy:
    """What is said when somebody who lives holds a step of the run."""
    return Busy(
        f"another process ({held.owner}) works on this run, at step {held.name}",
        "wait for it, or end it: the run goes on where it stopped",
        code="run_busy",
    )


def _held(context: StepContext, name: str) -> Step | None:
    step = step_of(context, name)
    if step is None or step.state is not StepState.LEASED or step.lease_until is None:
        return None
    return step if step.lease_until > context.deps.clock.now() else None


def follow(context: StepContext, placed: PlacedTask, check: Callable[[UnitOfWork], None], begun: Callable[[str], None]) -> None:
    """Waits for the end of what a node does of a run, and tells how far it is. When the node is gone its step is to be done again.

    ``check`` raises Conflict when the run was cancelled; ``begun`` hears of each step that the node goes on with. Whatever ends the waiting
    interrupts the step: the node gives it back. Raises what the step raised there, which says more than the state that the run has since
    then.
    """
    relay = _Relay(context, check, begun)
    try:
        while not placed.ended(LOOK_SECONDS):
            relay.look()
    except BaseException:
        with suppress(TailorbirdError):
            placed.cancel()
            placed.ended(GRACE_SECONDS)
        raise
    with suppress(TailorbirdError):
        relay.look()
    try:
        answer = StepAnswer.model_validate_json(placed.answer())
    except Unavailable as error:
        if error.error_code != "node_lost":
            raise
        context.progress.tell(f"{error.message}; the step is done again")
        return
    if answer.fault is not None:
        raise answer.fault.error()


@contextmanager
def marked(context: StepContext) -> Iterator[str]:
    """A file in the run's folder that a node sees which shares the workspace; its name."""
    mark = private_folder(context.folder) / f"placed-{uuid4().hex}"
    mark.touch()
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)
        with suppress(OSError):
            context.folder.rmdir()


def step_of(context: StepContext, name: str) -> Step | None:
    """The step as the record has it now."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        return next((step for step in work.steps.of(context.run.id) if step.name == name), None)


def is_begun(before: Step | None, now: Step | None) -> bool:
    """True when a placement came to something: the step was leased since ``before``, or is held or done by whomever."""
    if now is None:
        return False
    return now.state in (StepState.LEASED, StepState.DONE) or now.attempts > (before.attempts if before else 0)


def not_begun(name: str) -> Exhausted:
    """What is said (``step_hopeless``) when no placement of the step came to anything."""
    return Exhausted(
        f"the step {name} was given to nodes {MOST_FRUITLESS} times, and none came as far as to take it",
        "look what ends its process there before it begins (memory? a library that is missing?) in the logs of the nodes, and that they "
        "use the same record, then adapt again",
        code="step_hopeless",
    )


class _Relay:
    """Tells here what the record knows of steps that are done elsewhere."""

    def __init__(self, context: StepContext, check: Callable[[UnitOfWork], None], begun: Callable[[str], None]) -> None:
        self._context = context
        self._name, self._told = "", {*context.done, context.next_step()}
        self._check, self._begun = check, begun
        self._seen = StepProgress()
        self._owner: str | None = None

    def look(self) -> None:
        """Looks once. A record that does not answer says nothing about the step. Raises Conflict."""
        try:
            with self._context.deps.ledger.work(self._context.run.tenant, write=False) as work:
                self._check(work)
                steps = work.steps.of(self._context.run.id)
        except Conflict:
            raise
        except TailorbirdError:
            return
        for step in steps:
            if step.state in (StepState.LEASED, StepState.DONE) and step.name not in self._told:
                self._told.add(step.name)
                self._begun(step.name)
            if step.state is StepState.LEASED:
                self._tell(self._context.progress, step)

    def _tell(self, progress: Progress, step: Step) -> None:
        if step.name != self._name:
            self._name, self._owner, self._seen = step.name, None, StepProgress()
        if step.owner != self._owner:
            self._owner = step.owner
            progress.tell(f"{step.owner} does the step")
        seen, now = self._seen, step.progress or StepProgress()
        if now.text and now.text != seen.text:
            progress.tell(now.text)
        if now.training is not None and now.training != seen.training:
            progress.training(now.training)
        elif (now.done, now.total) != (seen.done, seen.total):
            progress.count(now.done, now.total)
        self._seen = now
