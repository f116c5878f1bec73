"""Context of one step of a run: what it is given, its outcome, its limits, and the error that the run records."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tailorbird import rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import load_documents, load_items, load_rows
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Document, Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.evidence import FEWEST_EXAMPLES, ItemResult
from tailorbird.domain.ladder import Candidate, Ladder, Making, Measured
from tailorbird.domain.objective import Budget, Objective
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import FLOOR, Failure, Run, Step, StepProgress, TrainingProgress, step_folder
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import Ledger, UnitOfWork
from tailorbird.objective import ObjectiveFile
from tailorbird.stats.intervals import spend
from tailorbird.system.files import private_folder
from tailorbird.system.machine import PeakMemory
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.record import RunRecord, V
from tailorbird.usecases.runs.transitions import Spent

_HINT = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version and what the worker's log says"

#: Errors that a rung ends with for a reason of its own, beside those of its input: the next rung may do better.
_FAILURES = frozenset({"memory", "model_invalid", "internal", "plan_incomplete"})

#: Errors of a hosted model, which has been asked several times by then: other rungs do not wait for it.
_HOSTED_FAILURES = frozenset(
    {
        "endpoint_unavailable",
        "endpoint_refused",
        "endpoint_busy",
        "endpoint_key_missing",
        "endpoint_changed",
        "endpoint_missing",
        "endpoint_not_allowed",
        "terms_forbid",
        "address_private",
    }
)


def ended_by(error: Exception) -> Making | None:
    """The budget is used up, or the rung failed by itself; None for anything else (a lost lease, a full disk, a record that is away), so
    that the step is tried again."""
    code = error.error_code if isinstance(error, TailorbirdError) else ""
    if code == "budget_spent":
        return Making(candidate=None, stopped=str(error))
    if isinstance(error, InvalidInput) or code in _FAILURES | _HOSTED_FAILURES:
        return Making(candidate=None, failed=True, stopped=f"{error} [{code}]")
    if isinstance(error, TailorbirdError | OSError):
        return None
    # The words of an error that is not ours may hold a row's text.
    return Making(candidate=None, failed=True, stopped=f"it broke off with {type(error).__name__}")


def failure_of(error: BaseException) -> Failure:
    """Failure for the step's record. Of a foreign error only its type: its message may hold a row's text."""
    if isinstance(error, TailorbirdError):
        return Failure(code=error.error_code, message=error.message, hint=error.hint)
    return Failure(code="internal", message=f"it broke off with {type(error).__name__}", hint=_HINT)


class WatchedProgress:
    """The progress of one step, watched: remembers the last of it for the lease, and raises in the working thread what ends the step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._last = StepProgress()
        self._end: TailorbirdError | None = None

    def progress(self) -> Progress:
        """The callbacks to hand to the work."""
        return Progress(tell=self._tell, training=self._training, count=self._count)

    @property
    def last(self) -> StepProgress:
        """Latest progress of the step."""
        with self._lock:
            return self._last

    def end(self, error: TailorbirdError) -> None:
        """Makes the next callback raise ``error``. May be called from another thread."""
        self._end = self._end or error

    def _tell(self, text: str) -> None:
        self._note(StepProgress(text=text, done=self._last.done, total=self._last.total))
        self._progress.tell(text)

    def _training(self, seen: TrainingProgress) -> None:
        self._note(self._last.model_copy(update={"done": seen.step, "total": seen.steps, "training": seen}))
        self._progress.training(seen)

    def _count(self, done: int, total: int) -> None:
        self._note(self._last.model_copy(update={"done": done, "total": total}))
        self._progress.count(done, total)

    def _note(self, seen: StepProgress) -> None:
        with self._lock:
            self._last = seen
        if self._end is not None:
            raise self._end


def within_budget(progress: Progress, budget: Budget, spent: Spent, per_hour: float) -> Progress:
    """Progress that raises Exhausted (``budget_spent``) once hours or money of ``budget`` are used up, counting on from ``spent``."""
    started = time.monotonic()

    def check() -> None:
        hours = (time.monotonic() - started) / 3600
        if spent.hours + hours > budget.hours:
            raise _spent(f"the budget of {budget.hours:g} h is used up")
        if spent.money + hours * per_hour > budget.money:
            raise _spent(f"the budget of {budget.money:g} {budget.currency} is used up")

    return _guarded(progress, check)


def within_memory(progress: Progress, budget: Budget, memory: PeakMemory) -> Progress:
    """Progress that raises Exhausted (``memory``) once the process has taken more than the memory of ``budget``."""
    return _guarded(progress, lambda: require_memory(budget, memory))


def _guarded(progress: Progress, check: Callable[[], None]) -> Progress:
    """Progress that calls ``check``, which raises what ends the work, after each sign of it but the last of a training."""

    def training(seen: TrainingProgress) -> None:
        progress.training(seen)
        if seen.step < seen.steps:
            check()

    def count(done: int, total: int) -> None:
        progress.count(done, total)
        check()

    def tell(text: str) -> None:
        progress.tell(text)
        check()

    return Progress(tell=tell, training=training, count=count)


def require_memory(budget: Budget, memory: PeakMemory) -> None:
    """Raises Exhausted (``memory``) where the process has taken more than the memory of ``budget``."""
    if budget.memory_gb != "auto" and memory.gib > budget.memory_gb:
        raise Exhausted(
            f"the process took {memory.gib:.1f} GiB of memory and the budget is {budget.memory_gb:g} GiB",
            "raise `budget.memory_gb`, or leave the rung out of the ladder",
            code="memory",
        )


def _spent(what: str) -> Exhausted:
    return Exhausted(what, "the climb goes on with what was measured; a larger budget in the objective is a new run", code="budget_spent")


def failed_disk(error: OSError) -> Unavailable:
    """Domain error for an OSError of a step outside the artifact store: in the run's own folder, in a cache."""
    place = error.filename or "the workspace"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"no space is left for {place}", "free some space, then run the same command again", code="disk_full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable(
            f"{place} may not be read or written", "give this user the right to read and write there", code="storage_forbidden"
        )
    reason = error.strerror or type(error).__name__
    return Unavailable(f"{place} cannot be used: {reason}", "check it, then run the same command again", code="storage_unreachable")


def _nothing(_: UnitOfWork) -> None: ...


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves: its value (stored as the step's result), facts for the event, and anything else to write
    in the same transaction."""

    value: Value
    facts: Facts = field(default_factory=dict)
    also: Callable[[UnitOfWork], None] = _nothing


@dataclass(frozen=True)
class StepContext(RunRecord):
    """One run as a step sees it. Everything is read from the record, so a step can be done by any worker, at any time. ``payments`` counts
    what the step pays while it is done; None outside of one. ``placed``: a cluster had this process do the step."""

    deps: Dependencies
    actor: Actor
    run: Run
    file: ObjectiveFile
    steps: tuple[Step, ...]
    progress: Progress
    payments: StepPayments | None = None
    placed: bool = False

    @property
    def objective(self) -> Objective:
        """The objective of the run."""
        return self.file.objective

    @property
    def many(self) -> bool:
        """True when an item may bear several labels."""
        return self.objective.task.labels == "many"

    @property
    def concurrency(self) -> int:
        """Requests at a time for which latency is limited."""
        limit = self.objective.limits.latency_p95_ms
        return limit.at_concurrency if limit else 1

    def confidence(self, look: int = 1) -> float:
        """What intervals are at: that of the objective's tier, at a look at the sealed test."""
        return spend(self.objective.business.risk.confidence, look)

    @property
    def spent(self) -> transitions.Spent:
        """Hours of this machine of the attempts that have ended, and their price with what all attempts paid to endpoints, up to now."""
        hours = sum(step.seconds for step in self.steps) / 3600
        paid = sum(step.paid for step in self.steps) + (self.payments.paid if self.payments else 0.0)
        return transitions.Spent(hours, hours * self.deps.prices.per_hour + paid)

    @property
    def folder(self) -> Path:
        """Working folder of this run."""
        return self.deps.runs / self.run.id

    def record(self, kind: type[V], digest: Digest) -> V:
        """A record of this tenant."""
        with self.deps.ledger.work(self.run.tenant, write=False) as work:
            return work.records.get(kind, digest)

    def base_for(self, rung: RungPlan) -> BaseModelRef:
        """The base model of one rung."""
        return self.base if rung.base is None else self.record(BaseModelRef, rung.base)

    def base_of(self, candidate: Candidate) -> BaseModelRef:
        """The base model that a candidate was made from."""
        if candidate.base_model == self.base.digest:
            return self.base
        listed = (self.record(BaseModelRef, each.base) for each in (self.plan.bases if self.plan else ()) if each.base)
        return next((base for base in listed if base.digest == candidate.base_model), self.base)

    @property
    def failed(self) -> dict[RungPlan, str]:
        """The rungs that failed, and how: ``made: REASON`` or ``measured: REASON``."""
        return {rung: how_ended(step, making) for rung, (step, making) in self.ended.items() if making.failed}

    @property
    def stopped(self) -> tuple[RungPlan, str] | None:
        """The rung that a limit ended before there was a candidate, or before it was measured, and how: as in ``failed``."""
        return next(((rung, how_ended(step, making)) for rung, (step, making) in self.ended.items() if not making.failed), None)

    def next_step(self) -> str | None:
        """The step to do next."""
        floor = self.result_if_done(Measured, FLOOR)
        progress = transitions.RunProgress(
            self.done,
            self.climbs,
            stopped=self.stopped is not None,
            chosen=self.ladder is not None and self.ladder.chosen is not None,
            failed={step for step, making in self.ended.values() if making.failed},
            floor=floor.choice if floor else None,
            unconfirmed=[
                transitions.Unconfirmed(look.choice, len(self.result(Ladder, transitions.choose_step(number)).climbs))
                for number, look in enumerate(self.looks, 1)
                if look.goes_on
            ],
        )
        return transitions.next_step(self.objective, self.plan, progress)

    def rows(self, split: Split) -> tuple[Row, ...]:
        """Rows to learn from, or the items of dev or test; without those of the shifted part and those that are out of scope."""
        return tuple(row for row in self._of_split(split) if not row.shifted and self.manifest.is_known(row))

    def outside_rows(self, split: Split) -> tuple[Row, ...]:
        """Examples of what is out of scope. None is learned from: those that fell to train are measured on with those of dev."""
        if not self.manifest.outside:
            return ()
        found = self._of_split(split) + (self._of_split(Split.TRAIN) if split is Split.DEV else ())
        return tuple(row for row in found if not self.manifest.is_known(row))

    @cached_property
    def leaves_labels_out(self) -> bool:
        """True where what tells requests out of scope is chosen on labels that are left out: there are no examples, or too few."""
        return self.objective.task.out_of_scope is not None and len({row.group for row in self.outside_rows(Split.DEV)}) < FEWEST_EXAMPLES

    @cached_property
    def _read(self) -> dict[Split, tuple[Row, ...]]:
        """What was read of each split: a plan asks for the rows once for every rung."""
        return {}

    def _of_split(self, split: Split) -> tuple[Row, ...]:
        if split not in self._read:
            self._read[split] = (load_rows if split is Split.TRAIN else load_items)(self.manifest, self.deps.artifacts, split)
        return self._read[split]

    @cached_property
    def train_items(self) -> tuple[Row, ...]:
        """The items of train: as ``rows``, but each answer of a conversation that is learned stands for itself."""
        if self.manifest.answers == "last":
            return self.rows(Split.TRAIN)
        found = load_items(self.manifest, self.deps.artifacts, Split.TRAIN)
        return tuple(row for row in found if not row.shifted and self.manifest.is_known(row))

    def shifted_rows(self, split: Split) -> tuple[Row, ...]:
        """Rows of the shifted part in one split; none where the objective asks for no such part."""
        if self.manifest.shift is None:
            return ()
        return tuple(row for row in self._of_split(split) if row.shifted and self.manifest.is_known(row))

    @cached_property
    def documents(self) -> tuple[Document, ...]:
        """The tenant's documents, where the objective names any."""
        return load_documents(self.manifest, self.deps.artifacts)

    def servable(self, candidate: Candidate) -> Servable:
        """A candidate as the engine loads it, from verified folders."""
        store = self.deps.artifacts
        return Servable(
            id=digest_of(candidate),
            tenant=self.run.tenant,
            task=self.objective.task.kind,
            base=str(store.get_tree(candidate.base_model)) if candidate.floor is None and candidate.hosted is None else "",
            adapter=str(store.get_tree(candidate.adapter)) if candidate.adapter else None,
            weights=str(store.get_tree(candidate.weights)) if candidate.weights else None,
            prompt=candidate.prompt,
            retrieval=rungs.local_retrieval(candidate.retrieval, store) if candidate.retrieval else None,
            floor=str(store.get_tree(candidate.floor)) if candidate.floor else None,
            hosted=candidate.hosted,
            encoder=str(store.get_tree(candidate.encoder)) if candidate.encoder else None,
        )

    def items(self, digest: Digest) -> tuple[ItemResult, ...]:
        """Per-item results of some evidence."""
        lines = self.deps.artifacts.get(digest).splitlines()
        return tuple(ItemResult.model_validate_json(line) for line in lines)


def how_ended(step: str, making: Making) -> str:
    """How a rung ended without evidence: ``made: REASON`` or ``measured: REASON``."""
    return f"{'made' if step.startswith('make ') else 'measured'}: {making.stopped}"


class StepPayments:
    """The counter of one attempt at a step. ``paid``: money that this attempt has paid, in the currency of the settings' prices.

    It is written in a transaction of its own: whatever ends the step, its process among it, what was paid stays paid.
    """

    def __init__(self, ledger: Ledger, step: Step) -> None:
        self.paid = 0.0
        self._ledger = ledger
        self._step = step

    def pay(self, money: float) -> None:
        """Writes that so much more was paid. Raises what the record raises: then it counts here, and is not on record."""
        self.paid += money
        if money:
            with self._ledger.work(self._step.tenant) as work:
                work.steps.pay(self._step, money)


def context_of(context: StepContext, rung: RungPlan, base: BaseModelRef) -> rungs.RungContext:
    """The context of one rung. Its progress raises once the objective's budget is used up."""
    place = step_folder(transitions.make_step(rung))
    scratch = context.deps.scratch(context.run.id)
    progress = within_budget(context.progress, context.objective.budget, context.spent, context.deps.prices.per_hour)
    return rungs.RungContext(
        objective=context.objective,
        plan=rung,
        base=base,
        base_folder=context.deps.artifacts.get_tree(base.digest),
        snapshot=digest_of(context.manifest),
        labels=context.manifest.labels,
        label_sets=context.manifest.label_sets,
        train=context.rows(Split.TRAIN),
        dev=context.rows(Split.DEV),
        train_items=context.train_items,
        documents=context.documents,
        encoder_folder=context.deps.artifacts.get_tree(rung.encoder) if rung.encoder else None,
        encoder=context.deps.encoder,
        trainer=context.deps.trainer,
        engine=context.deps.engine,
        artifacts=context.deps.artifacts,
        workspace=context.folder / place,
        indexes=context.deps.indexes(context.run.tenant),
        seal_key=context.deps.seal_key("checkpoints"),
        results=scratch and private_folder(scratch / place),
        report=progress.training,
        progress=progress.tell,
        count=progress.count,
        leaves_labels_out=context.leaves_labels_out,
    )
