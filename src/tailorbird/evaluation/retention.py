"""Retention: bundled probes answered by base and candidate, and the drop between them.

Choices are scored as complete answers, as labels are; free answers are matched by rule. Both models answer the same probes, so the drop is
a paired difference. The probes are written by ``scripts/write_probes.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from statistics import fmean

from tailorbird.domain.evidence import Metric, Retained, Retention
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine
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


#: Further questions: which of them a servable answers right, by family and question.
More = Callable[[Digest, Tell], Mapping[str, Mapping[str, bool]]]


def probe_names() -> tuple[str, ...]:
    """The probes that are shipped, by name."""
    return tuple(probe.id for probe in probes())


def measure_retention(
    engine: Engine, base: Digest, candidate: Digest, confidence: float, tell: Tell, more: More | None = None
) -> Retention:
    """Puts all probes to both, and the questions of ``more``, which count like probes. Raises what the engine raises."""
    shipped = probes()
    before = _right(engine, base, shipped, lambda done: tell(done, 2 * len(shipped)))
    after = _right(engine, candidate, shipped, lambda done: tell(len(shipped) + done, 2 * len(shipped)))
    asked = shipped + _further(more, base, candidate, (before, after), tell)
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


def _further(
    more: More | None, base: Digest, candidate: Digest, rights: tuple[dict[str, bool], dict[str, bool]], tell: Tell
) -> tuple[Probe, ...]:
    """The questions of ``more``, in the form of probes; their answers go into ``rights``."""
    if more is None:
        return ()
    told = [more(servable, tell) for servable in (base, candidate)]
    for right, answered in zip(rights, told, strict=True):
        right |= {question: was for family in answered.values() for question, was in family.items()}
    return tuple(Probe(id=question, family=family, prompt="") for family, answered in told[0].items() for question in answered)


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
