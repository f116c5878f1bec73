"""Engine worker thread: one step at a time over everything on the same weights, with a watchdog for hanging steps."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.inference.blocking_call import WAITING, WAITING_EACH, defect
from tailorbird.inference.forward_factory import Forward
from tailorbird.inference.jobs import EngineJob
from tailorbird.inference.model_runner import ModelRunner, Planned, fail
from tailorbird.inference.openmp_threads import release_threads
from tailorbird.inference.registry import Loaded, Registry
from tailorbird.inference.scheduling import BLOCK, SchedulerLimits, is_full
from tailorbird.ports.engine import EngineState
from tailorbird.system.process import LAST_STEP, end_before_exit

#: Seconds that a step may take while none has ended yet, and that any may take.
_FIRST, _ANY = 300.0, 30.0
#: How many times the slowest pace so far a step may take: what is computed with more context, or beside a busy machine, is slower.
_SLOWER = 20.0


class StepWatchdog:
    """The steps of one thread. ``overdue`` may be asked by any other, and waits for nothing."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._under_way: tuple[float, int] | None = None
        self._slowest: float | None = None

    def begin(self, tokens: int) -> None:
        """A step of so many tokens begins."""
        self._under_way = (self._now(), max(1, tokens))

    def end(self) -> None:
        """It has ended, well or not."""
        if self._under_way is not None:
            began, tokens = self._under_way
            self._slowest = max(self._slowest or 0.0, (self._now() - began) / tokens)
            self._under_way = None

    @property
    def overdue(self) -> bool:
        """True when the step under way takes longer than any should."""
        under_way, slowest = self._under_way, self._slowest
        if under_way is None:
            return False
        began, tokens = under_way
        return self._now() - began > (_FIRST if slowest is None else max(_ANY, _SLOWER * slowest * tokens))


#: Seconds without a job after which the thread ends.
_IDLE = 2.0
#: Seconds after which a lane that could compute nothing is looked at again.
_STUCK = 0.05
#: Megabytes for keys and values of each set of weights, unless the settings say otherwise. Pages are used as they are needed.
KV_MB = 1024


class EngineWorker:
    """Computes jobs. Thread-safe: the registry's lock is its lock too, so that neither waits for the other."""

    def __init__(self, registry: Registry, kv_mb: int = KV_MB) -> None:
        self._registry, self._kv_bytes = registry, kv_mb * 2**20
        self._limits = SchedulerLimits(waiting=WAITING, waiting_each=WAITING_EACH)
        self._lanes: dict[int, ModelRunner] = {}
        self._parked: list[tuple[Loaded, EngineJob]] = []
        self._changed = threading.Condition(registry.lock)
        self._thread: threading.Thread | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="engine-reader")
        self._closed = False
        self._pulse = StepWatchdog()
        self._turn = 0
        self._counts = {"prefix_queries": 0, "prefix_hits": 0, "prompt_tokens": 0, "generated_tokens": 0}

    def add(self, loaded: Loaded, job: EngineJob, *, bounded: bool) -> None:
        """``job`` of a held servable waits for its turn and its weights. Raises InvalidInput; Exhausted (``bounded``: too many wait)."""
        release_threads()
        with self._changed:
            if self._closed:
                raise Unavailable("the engine is closed", "start it again", code="engine_unavailable")
            if bounded:
                lane, owner = self._lanes.get(id(loaded.decoder.content)), job.sequence.owner
                # Tenants whose weights are being read must not fill the queue of everybody.
                full = is_full(Counter(other.sequence.owner for _, other in self._parked), owner, WAITING, WAITING_EACH)
                if full or (lane is not None and lane.scheduler.is_full_for(owner)):
                    raise Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")
            if loaded.is_resident:
                self._let_in(loaded, job)
                self._wake()
            else:
                self._parked.append((loaded, job))
                self._readers.submit(self._bring, loaded)

    def drop(self, job: EngineJob) -> None:
        """``job`` is over: its memory is free."""
        with self._changed:
            self._parked = [(loaded, parked) for loaded, parked in self._parked if parked is not job]
            for lane in self._lanes.values():
                lane.drop(job)

    def drop_lane(self, forward: object) -> None:
        """These weights go: their memory of keys and values too."""
        with self._changed:
            self._lanes.pop(id(forward), None)

    def forget(self, salt: bytes) -> None:
        """No beginning of this salt is found again."""
        with self._changed:
            for lane in self._lanes.values():
                lane.scheduler.forget(salt)

    def overdue(self) -> bool:
        """True when a step takes far longer than any should. Waits for nothing."""
        return self._pulse.overdue

    def state(self) -> EngineState:
        """Sequences running and waiting."""
        with self._changed:
            lanes = list(self._lanes.values())
            return EngineState(
                running=sum(lane.scheduler.running for lane in lanes),
                waiting=sum(lane.scheduler.waiting for lane in lanes) + len(self._parked),
                kv_tokens=sum(lane.pool.size for lane in lanes) * BLOCK,
                kv_tokens_used=sum(lane.pool.held for lane in lanes) * BLOCK,
                memory_used=self._registry.used,
                memory_budget=self._registry.budget,
                releases=self._registry.residencies(),
                **self._counts,
            )

    def close(self) -> None:
        """Ends every job with an error."""
        with self._changed:
            self._closed = True
            jobs = [job for _, job in self._parked] + [job for lane in self._lanes.values() for job in lane.jobs]
            self._changed.notify_all()
        self._readers.shutdown(wait=False, cancel_futures=True)
        for job in jobs:
            fail(job, Unavailable("the engine is being closed", "try again in a few seconds", code="engine_unavailable"))

    def end(self) -> None:
        """As ``close``, and waits until the step that is computed now is over."""
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LAST_STEP)

    def _bring(self, loaded: Loaded) -> None:
        """Reads a servable's weights, in the readers' thread, and lets its jobs go on."""
        error: TailorbirdError | None = None
        try:
            self._registry.bring(loaded)
        except TailorbirdError as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - whatever it is, the jobs that wait for these weights must hear of it
            error = defect(caught)
        release_threads()
        for job, failure in self._unpark(loaded, error):
            fail(job, failure)

    def _unpark(self, loaded: Loaded, error: TailorbirdError | None) -> list[tuple[EngineJob, TailorbirdError]]:
        """Lets the jobs of a servable in whose weights have come. Those that cannot go on, and why: they are told outside the lock."""
        failures: list[tuple[EngineJob, TailorbirdError]] = []
        with self._changed:
            mine = [job for parked, job in self._parked if parked is loaded]
            self._parked = [(parked, job) for parked, job in self._parked if parked is not loaded]
            for job in mine:
                try:
                    if error is not None:
                        raise error
                    self._let_in(loaded, job)
                except TailorbirdError as failure:
                    failures.append((job, failure))
            self._wake()
        return failures

    def _let_in(self, loaded: Loaded, job: EngineJob) -> None:
        forward: Forward = loaded.decoder.content
        if id(forward) not in self._lanes:
            self._lanes[id(forward)] = ModelRunner(forward, self._kv_bytes, self._limits)
        lane = self._lanes[id(forward)]
        if not lane.scheduler.fits(job.sequence):
            raise InvalidInput(
                f"{job.sequence.longest} tokens are more than the engine's memory for keys and values holds",
                "ask for fewer tokens, or raise the setting engine_kv_mb",
                code="prompt_too_long",
            )
        lane.add(job)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
            end_before_exit(self)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while (lane := self._next_lane()) is not None:
            with torch.inference_mode():
                self._step(lane)
            # While the thread waits for work it must not keep the memory of a lane that was dropped.
            del lane

    def _next_lane(self) -> ModelRunner | None:
        """The lane whose turn it is; None, and the thread is over, when there has been nothing to do for a while."""
        with self._changed:
            # Looked at again after the wait, however that ended: work may come at the very moment when the patience is over.
            for patient in (True, False):
                while not self._closed:
                    busy = [lane for lane in self._lanes.values() if lane.has_work]
                    if busy:
                        self._turn += 1
                        return busy[self._turn % len(busy)]
                    if not patient or not self._changed.wait(_IDLE):
                        break
            self._thread = None
            return None

    def _step(self, lane: ModelRunner) -> None:
        try:
            with self._changed:
                step = lane.plan()
                if not step:
                    self._changed.wait(_STUCK)
                    return
        except BaseException as error:  # noqa: BLE001 - a schedule that cannot be made ends the jobs of its lane, not the engine
            for job in lane.jobs:
                fail(job, error)
            return
        self._do(lane, step)

    def _do(self, lane: ModelRunner, step: list[Planned]) -> None:
        """Computes ``step`` and hands out its results. Where it cannot be computed at once, each part is tried alone: the one that fails
        must not fail those beside it."""
        self._pulse.begin(sum(one.tokens for one in step))
        try:
            hidden = lane.compute(step)
            with self._changed:
                lane.scheduler.computed([one.slice for one in step])
                self._count(step)
            return lane.hand_out(step, hidden)
        except BaseException as error:  # noqa: BLE001 - see above
            if len(step) == 1:
                return fail(step[0].job, error)
        finally:
            self._pulse.end()
        for one in step:
            if one.job.lease.live:
                self._do(lane, [one])
        return None

    def _count(self, step: list[Planned]) -> None:
        for part, job, _ in step:
            sequence = part.sequence
            prompt = max(0, min(part.stop, sequence.prompt) - part.start)
            self._counts["prompt_tokens"] += prompt
            self._counts["generated_tokens"] += part.last and job.drawer is not None
            if prompt and part.start == sequence.cached:
                self._counts["prefix_queries"] += sequence.prompt
                self._counts["prefix_hits"] += sequence.cached
