"""Background schedules of the processes: checkpoints, clock floor, retention, erasures, rollout guards, production checks, certificates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.domain.identity import Role
from tailorbird.system.background_loop import Rounds
from tailorbird.usecases import Dependencies, tenants
from tailorbird.usecases.audit_events import tell_denials
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.erasure.local_copies import follow_erasures
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance import audit, clock_floor
from tailorbird.usecases.monitoring.watch import watch_production
from tailorbird.usecases.rollouts.rollouts import any_goes_on, watch_rollouts

_log = logging.getLogger("tailorbird.schedules")

#: Seconds between two looks at what is due.
_LOOK_EVERY = 0.5

#: How often the record is told the time.
_MIND_TIME_EVERY = timedelta(minutes=1)

#: The identity that watches and works, in each tenant.
WORKER = Role.WORKER.value


class Schedule(Rounds):
    """Task that is due ``every`` so often, first at once; later where it failed again and again. ``last`` is when it was last begun, on the
    monotonic clock."""

    def __init__(self, name: str, every: timedelta, what: Callable[[], object]) -> None:
        super().__init__(name)
        self.every, self.what = every, what
        self.last = float("-inf")

    def is_due(self, now: float) -> bool:
        """True when it is to be begun; one whose interval is zero never is."""
        return bool(self.every) and now - self.last >= max(self.every.total_seconds(), self.pause)


@contextmanager
def run_schedules(schedules: Sequence[Schedule]) -> Iterator[None]:
    """Within the block, does each schedule whenever it is due, one after another in a thread: the work beside it never waits.

    One that fails, by an error of ours or by a defect, is told and done again when it is next due. Leaving waits for what is under way.
    """
    ended = Event()
    with ThreadPoolExecutor(2, thread_name_prefix="chores") as threads:
        threads.submit(_do, schedules, threads, ended)
        try:
            yield
        finally:
            ended.set()


def _do(schedules: Sequence[Schedule], threads: ThreadPoolExecutor, ended: Event) -> None:
    while not ended.wait(_LOOK_EVERY):
        for schedule in schedules:
            if schedule.is_due(time.monotonic()) and not ended.is_set():
                schedule.last = time.monotonic()
                error = threads.submit(schedule.what).exception()
                schedule.failed(error) if error else schedule.succeeded()


def sign_and_ship(deps: Dependencies) -> Schedule:
    """Keeps the log's head signed and shipped; looks more often than checkpoints are made, so that a place that was away is not late."""
    return Schedule("checkpoint", deps.upkeep.checkpoint_every / 4, lambda: audit.keep_signed(deps))


def purge_expired(deps: Dependencies) -> Schedule:
    """Deletes expired content, and counts of past minutes."""
    return Schedule("purge", timedelta(minutes=10), lambda: tenants.purge(deps))


def clear_erased(deps: Dependencies) -> Schedule:
    """Removes this machine's copies of what was erased, wherever that was done."""
    return Schedule("erasures", timedelta(minutes=10), lambda: follow_erasures(deps))


def guard_rollouts(deps: Dependencies) -> Schedule:
    """Judges rollouts that go on, and does what follows. Where none does, nothing is looked at until something was written."""
    at_rest: object | None = None

    def guard() -> None:
        nonlocal at_rest
        pulse = deps.ledger.pulse()
        if pulse and pulse == at_rest:
            return
        watch_rollouts(deps)
        at_rest = None if any_goes_on(deps) else pulse

    return Schedule("rollouts", timedelta(seconds=1), guard)


def raise_clock_floor(deps: Dependencies) -> Schedule:
    """Raises the clock floor of the ledger, so that a clock that is set back revives nothing that has expired."""
    return Schedule("time", _MIND_TIME_EVERY, lambda: clock_floor.keep_time(deps))


def record_denial_floods(deps: Dependencies) -> Schedule:
    """Records how many denials were only counted."""
    return Schedule("denials", timedelta(seconds=30), lambda: tell_denials(deps))


def check_production(deps: Dependencies) -> Schedule:
    """Checks the production of every tenant whose worker key is here."""
    return Schedule("watch", deps.upkeep.watch_every, lambda: _check_production(deps))


def _check_production(deps: Dependencies) -> None:

    def check(tenant: str) -> None:
        if not _was_watched(deps, tenant):
            _watch(deps, tenant)

    for_each_tenant(deps, check).all()


def _was_watched(deps: Dependencies, tenant: str) -> bool:
    """True when another process looked within this interval. What a rollout's guards tell is no look."""
    with deps.ledger.work(tenant, write=False) as work:
        newest = [signal for signal in work.signals.latest(50) if not signal.name.startswith("rollout.")]
    return bool(newest) and newest[0].at > deps.clock.now() - 0.9 * deps.upkeep.watch_every


def _watch(deps: Dependencies, tenant: str) -> None:
    try:
        actor = act_as(deps, tenant, WORKER)
    except (NotFound, Forbidden):
        return
    found = watch_production(deps, actor)
    if found.told or found.undelivered:
        _log.warning("watch: %d readings are news, %d receivers were not reached", len(found.told), found.undelivered)
