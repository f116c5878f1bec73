"""What time costs: money, energy, and what 1,000 requests will cost.

In: an estimate of time, prices. Out: estimates in the currency and in kWh. Must not know: how time was estimated.
"""

from __future__ import annotations

from tailorbird.domain.plan import Estimate
from tailorbird.planning.estimates.interval import interval
from tailorbird.planning.estimates.scoring import scoring_seconds
from tailorbird.planning.inputs import PlanInputs


def money_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """What the time costs at the machine's price, and its energy where that is paid apart."""
    prices = inputs.prices
    price = (prices.per_hour + prices.per_kwh * prices.watts / 1000) / 3600
    return interval([time.low * price, time.likely * price, time.high * price], prices.currency)


def energy_estimate(inputs: PlanInputs, time: Estimate) -> Estimate:
    """kWh at the power that the machine draws while it works."""
    kilowatts = inputs.prices.watts / 1000 / 3600
    return interval([time.low * kilowatts, time.likely * kilowatts, time.high * kilowatts], "kWh")


def serving_estimate(inputs: PlanInputs, shots: int, looked_up: float = 0.0) -> Estimate:
    """What 1,000 requests cost that come one by one: the machine's time for each. What all of them share, demonstrations too, is computed
    once and kept; the ``looked_up`` tokens of each are its own. An adapter's own products are left out: it can be merged."""
    low, likely, high = scoring_seconds(inputs, shots, 1000, alone=True, looked_up=looked_up)
    return money_estimate(inputs, Estimate(low=low, likely=likely, high=high, unit="s"))
