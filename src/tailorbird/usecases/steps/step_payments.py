"""Payments of a step: what it pays to endpoints while it is done, on record before more is asked."""

from __future__ import annotations

from tailorbird.domain.run import Step
from tailorbird.ports.ledger import Ledger


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
