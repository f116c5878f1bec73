"""Step context: what one step of a run is given, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import TypeVar

from tailorbird import rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import load_documents, load_items, load_rows
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Document, Row, SnapshotManifest, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import NotFound
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.ladder import Candidate, Choice, Climb, Ladder, Making, Measured, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.run import Run, Step, results_of
from tailorbird.domain.scope import FEWEST_EXAMPLES
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import ObjectiveFile
from tailorbird.ports.ledger import Ledger, UnitOfWork
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.steps import transitions

V = TypeVar("V", bound=Value)


def climb_of(work: UnitOfWork, result: Digest | None) -> Climb | None:
    """What a step of measuring left; None where it is not done, or where its rung failed."""
    if result is None:
        return None
    try:
        return work.records.get(Climb, result)
    except NotFound:
        return None


def looks_of(work: UnitOfWork, done: Mapping[str, Digest]) -> tuple[SealedTest, ...]:
    """Looks of a run at the sealed test, in order."""
    steps = takewhile(done.__contains__, map(transitions.look_step, count(1)))
    return tuple(work.records.get(SealedTest, done[step]) for step in steps)


def number_of(looks: Sequence[SealedTest]) -> int:
    """The number of the look (1-based, among those of the run) that is made or prepared now."""
    return 1 + sum(look.goes_on for look in looks)


def _nothing(_: UnitOfWork) -> None: ...


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves: its value (stored as the step's result), facts for the event, and anything else to write
    in the same transaction."""

    value: Value
    facts: Facts = field(default_factory=dict)
    also: Callable[[UnitOfWork], None] = _nothing


@dataclass(frozen=True)
class StepContext:
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

    @cached_property
    def done(self) -> dict[str, Digest]:
        """Finished steps and the digests of their results."""
        return results_of(self.steps)

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

    def result(self, kind: type[V], step: str) -> V:
        """Result of a finished step."""
        return self.record(kind, self.done[step])

    @cached_property
    def manifest(self) -> SnapshotManifest:
        """The snapshot's manifest."""
        return self.result(SnapshotManifest, transitions.SNAPSHOT)

    @cached_property
    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        return self.result(Plan, transitions.PLAN) if transitions.PLAN in self.done else None

    @cached_property
    def base(self) -> BaseModelRef:
        """The base model the plan names; of several, the first."""
        assert self.plan is not None
        return self.record(BaseModelRef, self.plan.base_model)

    def base_for(self, rung: RungPlan) -> BaseModelRef:
        """The base model of one rung."""
        return self.base if rung.base is None else self.record(BaseModelRef, rung.base)

    def base_of(self, candidate: Candidate) -> BaseModelRef:
        """The base model that a candidate was made from."""
        if candidate.base_model == self.base.digest:
            return self.base
        listed = (self.record(BaseModelRef, each.base) for each in (self.plan.bases if self.plan else ()) if each.base)
        return next((base for base in listed if base.digest == candidate.base_model), self.base)

    @cached_property
    def climbs(self) -> tuple[Climb, ...]:
        """Rungs climbed so far, cheapest first."""
        with self.deps.ledger.work(self.run.tenant, write=False) as work:
            found = [climb_of(work, self.done.get(transitions.measure_step(rung))) for rung in (self.plan.rungs if self.plan else ())]
        return tuple(climb for climb in found if climb is not None)

    @cached_property
    def floor_choice(self) -> Choice | None:
        """Choice after the floor; None where it is a reference, or not measured yet."""
        return self.result(Measured, transitions.FLOOR).choice if transitions.FLOOR in self.done else None

    @cached_property
    def _without_candidate(self) -> tuple[tuple[RungPlan, Making], ...]:
        """Rungs whose making ended before there was a candidate."""
        made = [(rung, transitions.make_step(rung)) for rung in (self.plan.rungs if self.plan else ())]
        found = [(rung, self.result(Making, step)) for rung, step in made if step in self.done]
        return tuple((rung, making) for rung, making in found if making.candidate is None)

    @cached_property
    def stopped(self) -> tuple[RungPlan, str] | None:
        """The rung that a limit ended before there was a candidate, or before it was measured, and how: as in ``failed``."""
        return next(((rung, told) for rung, making, told in self._ended if not making.failed), None)

    @cached_property
    def failed(self) -> dict[RungPlan, str]:
        """The rungs that failed, and how: ``made: REASON`` or ``measured: REASON``."""
        return {rung: told for rung, making, told in self._ended if making.failed}

    @property
    def _ended(self) -> tuple[tuple[RungPlan, Making, str], ...]:
        """Rungs that ended without evidence, what their steps left, and how they ended."""
        made = [(rung, making, f"made: {making.stopped}") for rung, making in self._without_candidate]
        return (*made, *((rung, making, f"measured: {making.stopped}") for rung, making in self._unmeasured))

    @cached_property
    def _unmeasured(self) -> tuple[tuple[RungPlan, Making], ...]:
        """Rungs whose candidate could not be measured."""
        climbed = {(climb.rung, climb.variant) for climb in self.climbs}
        rungs = self.plan.rungs if self.plan else ()
        ended = [rung for rung in rungs if transitions.measure_step(rung) in self.done and (rung.rung, rung.variant) not in climbed]
        return tuple((rung, self.result(Making, transitions.measure_step(rung))) for rung in ended)

    @cached_property
    def looks(self) -> tuple[SealedTest, ...]:
        """Looks of this run at the sealed test, in order."""
        with self.deps.ledger.work(self.run.tenant, write=False) as work:
            return looks_of(work, self.done)

    @cached_property
    def ladder(self) -> Ladder | None:
        """The finished climb, once a candidate was chosen or none was found; None while the climb goes on after a look."""
        step = transitions.choose_step(number_of(self.looks))
        return self.result(Ladder, step) if step in self.done else None

    def next_step(self) -> str | None:
        """The step to do next."""
        chosen = self.ladder is not None and self.ladder.chosen is not None
        return transitions.next_step(self.objective, self.plan, self._told(chosen))

    def _told(self, chosen: bool) -> transitions.RunProgress:
        unmeasured = {transitions.measure_step(rung) for rung, making in self._unmeasured if making.failed}
        failed = {transitions.make_step(rung) for rung, making in self._without_candidate if making.failed} | unmeasured
        return transitions.RunProgress(
            self.done,
            self.climbs,
            stopped=self.stopped is not None,
            chosen=chosen,
            failed=failed,
            floor=self.floor_choice,
            unconfirmed=[
                transitions.Unconfirmed(look.choice, len(self.result(Ladder, transitions.choose_step(number)).climbs))
                for number, look in enumerate(self.looks, 1)
                if look.goes_on
            ],
        )

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
