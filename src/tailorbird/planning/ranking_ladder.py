"""The ladder of ``kind: rank``: search by words, by meaning, by both; then an encoder tuned, by adapter and by all weights."""

from __future__ import annotations

from typing import Literal

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Estimate, LoraSettings, Reason, RungPlan, TrainingSettings
from tailorbird.planning import setting_rules
from tailorbird.planning.estimates import energy_estimate, money_estimate
from tailorbird.planning.estimates.interval import around
from tailorbird.planning.estimates.memory import GIB, PROCESS_GIB
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.parameter_counts import adapter_parameters, backbone_parameters, steps_per_pass

#: Epochs over questions, of which there are few, at most: the best weights are kept, and a run ends when none are better.
EPOCHS = 8
#: Tokens of a document that are read, and of a question; documents that a cross-encoder orders anew, and that it compares at once.
DOCUMENT_TOKENS, QUERY_TOKENS, RERANKED, COMPARED = 200, 24, 50, 12
#: Share of the matmul rate that encoders reach in fp32 on short texts.
_RATE, _SPREAD = 0.3, (0.5, 2.5)
#: Seconds of a search in itself, for each request and for each document among which it searches.
_SEARCH_SECONDS, _SECONDS_A_DOCUMENT = 1e-3, 1e-7
_FUSION = "Cormack, Clarke & Büttcher 2009"


def ranking_rungs(inputs: PlanInputs) -> list[RungPlan]:
    """All rungs, in the order of what making them takes."""
    return [
        _search(inputs, "words", "BM25: documents that share the question's words, without a model", "Robertson & Zaragoza 2009"),
        _search(inputs, "meaning", f"vectors of {inputs.base.name}: documents that say alike in other words", "Reimers & Gurevych 2019"),
        _search(inputs, "words and meaning", "both, fused by reciprocal rank: each finds what the other misses", _FUSION),
        _tuned(inputs, RungKind.BI_ENCODER, "lora"),
        _tuned(inputs, RungKind.BI_ENCODER, "full"),
        _tuned(inputs, RungKind.CROSS_ENCODER, "lora"),
        _tuned(inputs, RungKind.CROSS_ENCODER, "full"),
    ]


def _search(inputs: PlanInputs, variant: str, text: str, source: str) -> RungPlan:
    reads = 0 if variant == "words" else inputs.documents * DOCUMENT_TOKENS + inputs.manifest.counts.dev * QUERY_TOKENS
    return _planned(inputs, RungKind.SEARCH, variant, None, 2.0 * reads, (Reason(rule="search", text=text, source=source),))


def _tuned(inputs: PlanInputs, kind: RungKind, method: Literal["lora", "full"]) -> RungPlan:
    settings, reasons = _settings(inputs, method)
    queries, both = inputs.manifest.counts.train, kind is RungKind.CROSS_ENCODER
    learned = queries * (COMPARED * (DOCUMENT_TOKENS + QUERY_TOKENS) if both else QUERY_TOKENS)
    measured = inputs.manifest.counts.dev * (RERANKED * (DOCUMENT_TOKENS + QUERY_TOKENS) if both else QUERY_TOKENS)
    index = inputs.documents * DOCUMENT_TOKENS
    tokens = settings.epochs * learned * (4.0 if settings.lora else 6.0) + 2.0 * (measured + index)
    variant = f"r{settings.lora.rank}" if settings.lora else "all weights"
    return _planned(inputs, kind, variant, settings, tokens, (_what(kind), *reasons))


def _what(kind: RungKind) -> Reason:
    if kind is RungKind.BI_ENCODER:
        text = "the side of the questions learns, against all documents at once, and is fused with what it learned from; the index stays"
        return Reason(rule="bi-encoder", text=text, source="Karpukhin et al. 2020, arXiv 2004.04906")
    text = f"a question and a document are read together; the first {RERANKED} of the fusion are ordered anew"
    return Reason(rule="cross-encoder", text=text, source="Nogueira & Cho 2019, arXiv 1901.04085")


def _settings(inputs: PlanInputs, method: Literal["lora", "full"]) -> tuple[TrainingSettings, tuple[Reason, ...]]:
    batch, batch_reason = setting_rules.batch_size()
    targets = tuple(inputs.base.linear_shapes)
    asked = setting_rules.wishes(inputs, method).epochs
    epochs = EPOCHS if asked == "auto" else asked
    steps = epochs * steps_per_pass(inputs.manifest.counts.train, batch)
    rate, rate_reason = setting_rules.learning_rate(inputs, method, max(steps, setting_rules.SHORT_RUN))
    settings = TrainingSettings(
        method=method,
        lora=LoraSettings(rank=setting_rules.SMALLEST_DEFAULT_RANK, alpha=setting_rules.ALPHA, targets=targets)
        if method == "lora"
        else None,
        learning_rate=rate,
        epochs=epochs,
        batch_size=batch,
        token_budget=8192,
        max_length=inputs.base.context,
        warmup=setting_rules.WARMUP,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="fp32",
        seed=inputs.objective.seed,
        threads=inputs.machine.threads,
    )
    return settings, (rate_reason, batch_reason)


def _planned(
    inputs: PlanInputs, kind: RungKind, variant: str, settings: TrainingSettings | None, tokens: float, reasons: tuple[Reason, ...]
) -> RungPlan:
    """``tokens`` are weighed by how often each meets a weight."""
    flops = tokens * backbone_parameters(inputs.base)
    time = around(3.0 + flops / _rate(inputs), _SPREAD, "s")
    trained = 0 if settings is None else adapter_parameters(inputs.base, settings.lora) if settings.lora else inputs.base.parameters
    return RungPlan(
        rung=kind,
        variant=variant,
        training=settings,
        trained_parameters=trained,
        time=time,
        memory=_memory(inputs, trained),
        money=money_estimate(inputs, time),
        flops=around(flops, _SPREAD, "FLOP"),
        energy=energy_estimate(inputs, time),
        serving_cost=_serving(inputs, kind, variant),
        encoder=inputs.base.digest,
        reasons=reasons,
    )


def _rate(inputs: PlanInputs) -> float:
    """FLOP/s of an encoder on this machine."""
    return 1e9 * _RATE * (inputs.machine.fp32_gflops or 10.0 * inputs.machine.cores)


def _serving(inputs: PlanInputs, kind: RungKind, variant: str) -> Estimate:
    """What 1,000 requests cost that come one by one: a question is read by each encoder that is asked; a cross-encoder reads it once more
    with each of the documents that it orders anew."""
    read = 0 if variant == "words" else QUERY_TOKENS * (1 if kind is RungKind.SEARCH else 2)
    read += RERANKED * (DOCUMENT_TOKENS + QUERY_TOKENS) if kind is RungKind.CROSS_ENCODER else 0
    searching = _SEARCH_SECONDS + _SECONDS_A_DOCUMENT * inputs.documents
    seconds = searching + 2.0 * read * backbone_parameters(inputs.base) / _rate(inputs)
    return money_estimate(inputs, around(1000 * seconds, _SPREAD, "s"))


def _memory(inputs: PlanInputs, trained: int) -> Estimate:
    """Weights in fp32, gradients and moments, one batch of documents, the index."""
    base = inputs.base
    batch = 32 * DOCUMENT_TOKENS * 4 * (17 * base.hidden * base.layers if trained else 8 * base.hidden)
    held = 4 * base.parameters + 12 * trained + batch + 4 * inputs.documents * base.hidden
    return around(PROCESS_GIB + held / GIB, (0.7, 1.6), "GiB")
