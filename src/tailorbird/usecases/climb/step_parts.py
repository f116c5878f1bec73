"""Parts of a step that nodes do which do not hold it: artifacts, whose names stand with the step in the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.run import OPEN, Run, Step, StepState
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_run
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.leases import LeaseWatch
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.storage_quota import storing


def _nothing(_work: UnitOfWork) -> None: ...


class StepParts:
    """Parts of the step ``step`` of a run. ``account`` enters what is stored in the record, together with its name: who holds the step may
    destroy it at once. Implements ``GivenParts`` of the data room."""

    def __init__(self, context: StepContext, step: str, account: Callable[[UnitOfWork], None] = _nothing) -> None:
        self._context, self._step, self._account = context, step, account
        self._lease = LeaseWatch()

    @property
    def wanted(self) -> bool:
        """False once the step has ended, or the run."""
        with self._context.deps.ledger.work(self._context.run.tenant, write=False) as work:
            step = self._step_in(work)
            open_still = work.runs.get(self._context.run.id).state in OPEN
        return open_still and step is not None and step.state not in (StepState.DONE, StepState.FAILED)

    @property
    def is_held(self) -> bool:
        """True while somebody who lives does the step: under a lease that is kept alive."""
        with self._context.deps.ledger.work(self._context.run.tenant, write=False) as work:
            step = self._step_in(work)
        until = step.lease_until if step is not None and step.state is StepState.LEASED else None
        return self._lease.is_kept(until, self._context.deps.clock.now())

    @property
    def known(self) -> dict[str, Digest]:
        """The artifacts of parts that are done, by the part's name."""
        with self._context.deps.ledger.work(self._context.run.tenant, write=False) as work:
            step = self._step_in(work)
        return step.answers if step is not None else {}

    def get(self, name: str) -> bytes | None:
        """The part called ``name``; None where nobody has done it, or it cannot be read."""
        with suppress(TailorbirdError):
            digest = self.known.get(name)
            return self._context.deps.artifacts.get(digest) if digest is not None else None
        return None

    def put(self, name: str, data: bytes) -> bool:
        """Stores a part and notes it; False, and nothing is stored, where it is wanted no more or there already. Raises what storing
        raises."""
        deps, run = self._context.deps, self._context.run
        digest = deps.artifacts.put(data)
        noted = False
        try:
            with deps.ledger.work(run.tenant) as work:
                wanted = work.runs.get(run.id).state in OPEN and work.steps.note_answers(run.id, self._step, name, digest)
                if wanted:
                    self._account(work)
            noted = wanted
        finally:
            if not noted:
                deps.artifacts.destroy(digest)
        return noted

    def forget(self) -> None:
        """What others did is wanted no more: its bytes go, then its names, then bytes that somebody gave once more under such a name. What
        is given meanwhile under others stays, with its names."""
        _forget(self._context.deps, self._context.run, self._step, self.known)

    def _step_in(self, work: UnitOfWork) -> Step | None:
        _, steps = anchored_run(work, self._context.run.id)
        return next((step for step in steps if step.name == self._step), None)


def forget_parts(context: StepContext, step: str) -> None:
    """What others did for a step that has ended goes. A record that is away then keeps it for erasures to find."""
    if step == transitions.SNAPSHOT or step.startswith(("measure ", "make ")):
        with suppress(TailorbirdError):
            StepParts(context, step).forget()


def forget_cancelled(deps: Dependencies, run: Run) -> None:
    """What others did for steps of a run that was cancelled goes, whoever holds them: who does ends at the next beat, and nobody else comes
    by again. None is noted from now on. A record or a store that is away keeps it for erasures to find."""
    with suppress(TailorbirdError), storing(deps, run.tenant, bounded=False) as store:
        with deps.ledger.work(run.tenant, write=False) as work:
            steps = work.steps.of(run.id)
        for step in steps:
            _forget(replace(deps, artifacts=store), run, step.name, step.answers)


def _forget(deps: Dependencies, run: Run, step: str, known: Mapping[str, Digest]) -> None:
    if not known:
        return
    for digest in known.values():
        deps.artifacts.destroy(digest)
    with deps.ledger.work(run.tenant) as work:
        work.steps.forget_answers(run.id, step, known)
    for digest in known.values():
        if deps.artifacts.exists(digest):
            deps.artifacts.destroy(digest)
