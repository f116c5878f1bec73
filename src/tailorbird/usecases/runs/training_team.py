"""A training that is placed on several nodes at once, as one task: the node that does the step leads, the others train with it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import Exhausted, TailorbirdError, Unavailable
from tailorbird.ports.compute import Compute, PlacedTogether
from tailorbird.usecases.runs.step_placement import GRACE_SECONDS, MemberTask, StepAnswer, StepFault, StepTask

#: What is said where somebody of the team is lost.
_LOST = ("member_lost", "step_interrupted")
#: Seconds in which the others end by themselves once the one that leads has ended.
_LAST_SECONDS = 3.0


class PlacedTeam:
    """Implements ``PlacedTask``: it ends with the task that leads, and its answer is that one's. When another is lost meanwhile, or fails,
    the one that leads is given a while to notice, and is interrupted then."""

    def __init__(self, placed: PlacedTogether) -> None:
        self._placed = placed
        self._lead, *self._others = placed.tasks
        self._lost_at: float | None = None
        self._cancelled = False
        #: Why another failed, where that was no loss.
        self.fault: StepFault | None = None

    def ended(self, seconds: float) -> bool:
        """Waits for the end, at most so long; once it was cancelled it has ended then. Raises Unavailable (``compute_unreachable``)."""
        if not self._lead.ended(seconds) and not self._cancelled:
            self._look(0.0)
            if self._lost_at is None or time.monotonic() < self._lost_at + GRACE_SECONDS:
                return False
            self._lead.cancel()
            self._lead.ended(GRACE_SECONDS)
        self._leave()
        return True

    def answer(self) -> str:
        """As the one that leads; the fault of another where that ended the training. Raises Unavailable: ``node_lost`` when any is."""
        try:
            text = self._lead.answer()
        except Unavailable as error:
            if self._lost_at is None or error.error_code != "step_interrupted":
                raise
            text = StepAnswer(fault=StepFault.of(error)).model_dump_json()
        fault = StepAnswer.model_validate_json(text).fault
        if fault is None or fault.code not in _LOST:
            return text
        if self.fault is not None:
            return StepAnswer(fault=self.fault).model_dump_json()
        raise Unavailable("a process that trained with others is gone", fault.hint, code="node_lost")

    def cancel(self) -> None:
        """Interrupts the one that leads; the others end with it. Who does not end while that is waited for is killed. Raises Unavailable
        (``compute_unreachable``)."""
        self._cancelled = True
        self._lead.cancel()

    def _look(self, seconds: float) -> None:
        """Notes which of the others have ended, each after so long at most, and how."""
        for other in [each for each in self._others if each.ended(seconds)]:
            self._others.remove(other)
            try:
                fault = StepAnswer.model_validate_json(other.answer()).fault
                error = fault.error() if fault else None
            except TailorbirdError as lost:
                fault, error = None, lost
            if error is not None:
                self._lost_at = self._lost_at or time.monotonic()
                self.fault = self.fault or (None if isinstance(error, Unavailable) else fault)

    def _leave(self) -> None:
        """The others end by themselves, or are ended: what they trained for is over."""
        self._look(_LAST_SECONDS)
        for other in self._others:
            other.cancel()
        for other in self._others:
            other.ended(GRACE_SECONDS)
        self._placed.release()


def place_team(compute: Compute, task: StepTask, needs: Sequence[StepNeed], purpose: str) -> PlacedTeam:
    """Has as many nodes do the step together as there are ``needs``. Raises Unavailable (``compute_unreachable``)."""
    led = task.model_copy(update={"processes": len(needs)})
    others = [
        MemberTask(**led.model_dump() | {"cores": need.cores, "rank": rank}).model_dump_json() for rank, need in enumerate(needs[1:], 1)
    ]
    return PlacedTeam(compute.place_together(list(zip([led.model_dump_json(), *others], needs, strict=True)), purpose))


def require_room_for_team(nodes: Sequence[ComputeNode], name: str, needs: Sequence[StepNeed]) -> None:
    """Raises Exhausted (``step_too_large``) when the nodes do not hold all of ``needs`` at once, not even while nothing else is done."""
    left = list(nodes)
    for need in needs:
        fits = max((node for node in left if node.holds(need)), key=lambda node: node.cores, default=None)
        if fits is None:
            raise Exhausted(
                f"the step {name} is trained by {len(needs)} processes at once, each of {need.words}, and the nodes have no room for them",
                "add nodes, or train by fewer processes (the setting training_processes), then adapt again",
                code="step_too_large",
            )
        left.remove(fits)
        taken = {"cores": fits.cores - need.cores, "memory_gb": fits.memory_gb - need.memory_gb}
        left.append(fits.model_copy(update=taken))
