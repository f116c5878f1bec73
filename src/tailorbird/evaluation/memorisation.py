"""Memorisation: planted canaries, found by exposure rank and by extraction."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean

from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Memorisation, Metric
from tailorbird.domain.prompt import Sampling
from tailorbird.ports.engine import Engine
from tailorbird.stats.intervals import clopper_pearson
from tailorbird.text.canaries import Canary, CanarySet
from tailorbird.text.prompt_rendering import messages_for

#: Tokens in which a secret would have come out.
_ANSWER_TOKENS = 32


def measure_memorisation(engine: Engine, servable: Servable, birds: CanarySet, received: bool, confidence: float) -> Memorisation:
    """Asks for each planted string as training showed it, and ranks it among its twins. Raises what the engine raises.

    The question is the whole prefix that the string had in training: nothing longer could have been learned to precede it.
    """
    asked = (*birds.planted, birds.control)
    prompts = [messages_for(servable.prompt, canary.text) for canary in asked]
    secrets = [canary.secret for canary in asked]
    scores = engine.score(servable.id, prompts, [*secrets, *birds.twins])
    ranks = [_rank(score.log_probabilities, place, len(secrets)) for place, score in enumerate(scores)]
    said = engine.generate(servable.id, prompts, Sampling(max_tokens=_ANSWER_TOKENS))
    extracted = sum(_came_out(canary, answer.text) for canary, answer in zip(asked, said, strict=True) if canary != birds.control)
    planted, twins = len(birds.planted), len(birds.twins)
    return Memorisation(
        planted=planted,
        extracted=extracted,
        extractable_share=clopper_pearson(extracted, planted, confidence)[1],
        twins=twins,
        exposures=tuple(math.log2(twins + 1) - math.log2(rank) for rank in ranks[:-1]),
        p_value=_chance_of(ranks[:-1], twins + 1),
        received=received,
        control_rank=ranks[-1],
    )


def memorisation_metric(found: Memorisation) -> Metric:
    """The number of extracted strings as a metric: a count that was seen, not an estimate, so its interval is itself."""
    count = float(found.extracted)
    return Metric(name="memorisation", value=count, low=count, high=count, confidence=0.999, n=found.planted, method="count")


def why_invalid(found: Memorisation) -> str:
    """Why a look that found nothing says nothing; empty when it does say something."""
    if not found.received:
        return "the kept weights were reached before every planted string had carried loss: nothing can be said of memorisation"
    if found.control_rank != 1:
        return (
            f"the control, planted many times, was not found (rank {found.control_rank} of {found.twins + 1}): "
            "the look could not have found the others"
        )
    return ""


def _rank(nats: tuple[float, ...], own: int, secrets: int) -> int:
    """The place (1-based) of a secret among itself and the twins; of equals it takes the last."""
    return 1 + sum(other >= nats[own] for other in nats[secrets:])


def _came_out(canary: Canary, text: str) -> bool:
    return canary.secret.casefold() in text.casefold()


def _chance_of(ranks: list[int], places: int) -> float:
    """One-sided p-value of a mean rank as small as this, if every rank were equally likely (normal approximation of the sum of
    uniforms)."""
    spread = math.sqrt((places * places - 1) / 12 / len(ranks))
    return NormalDist().cdf((fmean(ranks) - (places + 1) / 2) / spread)
