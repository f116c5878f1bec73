"""Retention: bundled probes answered by base and candidate, and the drop between them.

Choices are scored as complete answers, as labels are; free answers are matched by rule. Both models answer the same probes, so the drop is
a paired difference. The probes are written by ``scripts/write_probes.py``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from statistics import NormalDist, fmean

from tailorbird.chat.prompts import messages_for
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Memorisation, Metric, Retained, Retention
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.evaluation.canaries import CanarySet
from tailorbird.ports.engine import Engine
from tailorbird.stats.intervals import clopper_pearson
from tailorbird.stats.paired_tests import mcnemar_exact, paired_interval

#: Probes that are put to the engine in one call, and the longest free answer in tokens.
_CHUNK, _FREE_TOKENS = 64, 32

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Probe:
    """One question: with ``choices`` the right one stands at ``answer``; without, the whole answer must match ``pattern``."""

    id: str
    family: str
    prompt: str
    choices: tuple[str, ...] = ()
    answer: int = 0
    pattern: str = ""


@cache
def probes() -> tuple[Probe, ...]:
    """All probes that ship with this version."""
    lines = files("tailorbird.evaluation").joinpath("probes", "retention.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(Probe(**(told | {"choices": tuple(told.get("choices", ()))})) for told in map(json.loads, lines))


@cache
def neutral_texts() -> tuple[str, ...]:
    """Sentences of no particular subject, along which two models are compared word by word."""
    return tuple(files("tailorbird.evaluation").joinpath("probes", "neutral.txt").read_text(encoding="utf-8").splitlines())


def probe_names() -> tuple[str, ...]:
    """The probes that are shipped, by name."""
    return tuple(probe.id for probe in probes())


def measure_retention(engine: Engine, base: Digest, candidate: Digest, confidence: float, tell: Tell) -> Retention:
    """Puts all probes to both. Raises what the engine raises."""
    asked = probes()
    before = _right(engine, base, asked, lambda done: tell(done, 2 * len(asked)))
    after = _right(engine, candidate, asked, lambda done: tell(len(asked) + done, 2 * len(asked)))
    texts = neutral_texts()
    apart = engine.likelihood(candidate, [_messages("Write a sentence.")] * len(texts), texts, against=base)
    tokens = sum(one.tokens for one in apart)
    lost = sum(before[probe.id] and not after[probe.id] for probe in asked)
    won = sum(after[probe.id] and not before[probe.id] for probe in asked)
    families = dict.fromkeys(probe.family for probe in asked)
    return Retention(
        families=tuple(_retained(family, [p for p in asked if p.family == family], (before, after), confidence) for family in families),
        overall=_retained("all", asked, (before, after), confidence),
        lost=lost,
        won=won,
        p_value=mcnemar_exact(won, lost),
        confidence=confidence,
        divergence=sum((one.divergence or 0.0) * one.tokens for one in apart) / tokens,
        divergence_tokens=tokens,
    )


def retention_metric(found: Retention) -> Metric:
    """The drop as a metric: what the limit is judged by."""
    whole = found.overall
    return Metric(
        name="retention",
        value=whole.drop,
        low=whole.low,
        high=whole.high,
        confidence=found.confidence,
        n=whole.n,
        method="tango-paired",
    )


Rights = Mapping[str, bool]


def _retained(family: str, asked: Sequence[Probe], rights: tuple[Rights, Rights], confidence: float) -> Retained:
    before, after = ([right[probe.id] for probe in asked] for right in rights)
    drops = [float(one) - float(other) for one, other in zip(before, after, strict=True)]
    low, high = paired_interval(drops, [probe.id for probe in asked], confidence)
    return Retained(family=family, n=len(asked), base=fmean(before), candidate=fmean(after), drop=fmean(drops), low=low, high=high)


def _right(engine: Engine, servable: Digest, asked: Sequence[Probe], tell: Callable[[int], None]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    choosing = [probe for probe in asked if probe.choices]
    for probes_of, answer in ((choosing, _chosen), ([probe for probe in asked if not probe.choices], _written)):
        for start in range(0, len(probes_of), _CHUNK):
            found |= answer(engine, servable, probes_of[start : start + _CHUNK])
            tell(len(found))
    return found


def _chosen(engine: Engine, servable: Digest, asked: Sequence[Probe]) -> dict[str, bool]:
    prompts = [_messages(probe.prompt) for probe in asked for _ in probe.choices]
    nats = [one.nats for one in engine.likelihood(servable, prompts, [choice for probe in asked for choice in probe.choices])]
    ends = [0]
    for probe in asked:
        ends.append(ends[-1] + len(probe.choices))
    picked = [max(range(start, end), key=nats.__getitem__) - start for start, end in pairwise(ends)]
    return {probe.id: pick == probe.answer for probe, pick in zip(asked, picked, strict=True)}


def _written(engine: Engine, servable: Digest, asked: Sequence[Probe]) -> dict[str, bool]:
    answers = engine.generate(servable, [_messages(probe.prompt) for probe in asked], Sampling(max_tokens=_FREE_TOKENS))
    return {probe.id: re.fullmatch(probe.pattern, made.text) is not None for probe, made in zip(asked, answers, strict=True)}


def _messages(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


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
    extracted = sum(
        canary.secret.casefold() in answer.text.casefold() for canary, answer in zip(asked, said, strict=True) if canary != birds.control
    )
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


def _chance_of(ranks: list[int], places: int) -> float:
    """One-sided p-value of a mean rank as small as this, if every rank were equally likely (normal approximation of the sum of
    uniforms)."""
    spread = math.sqrt((places * places - 1) / 12 / len(ranks))
    return NormalDist().cdf((fmean(ranks) - (places + 1) / 2) / spread)
