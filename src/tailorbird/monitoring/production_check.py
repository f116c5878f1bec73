"""Production check of a release against its training data, or of an objective's sources against their snapshot."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field

from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.feedback import Marks, Severity, Signal, SignalName
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.monitoring.data_pipeline import DataWatchInputs, data_readings
from tailorbird.monitoring.drift import DriftTest, class_drift, holm, length_drift, text_drift
from tailorbird.monitoring.service import (
    Expectation,
    fallback_reading,
    feedback_readings,
    live_readings,
    rate,
    refusal_reading,
    service_readings,
)
from tailorbird.monitoring.thresholds import Measurement, MeasurementSubject, ThresholdGuard, Thresholds, percent, too_few
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.sketch import sketch

#: Rows that are kept: beyond this many, a test of drift gains nothing that its floor would let through.
MOST_ROWS = 2_000


class Reference(Value):
    """Sketches and lengths (in characters) of training messages, and how often each class is to be expected, as counts.

    ``outside`` is the label of the snapshot's examples that are out of scope, of which nothing is in here; empty where it holds none. A
    reference with another one than its snapshot's was made when examples were still in it.
    """

    sketches: tuple[str, ...]
    characters: tuple[int, ...]
    classes: dict[str, int] = Field(default_factory=dict)
    outside: str = ""


def reference_of(
    rows: Sequence[Row], classes: Iterable[str] = (), *, refused: Mapping[str, int] | None = None, outside: str = ""
) -> Reference:
    """The reference of a release trained on ``rows``; ``classes`` is one class an item, best what the release answered at the gate,
    ``refused`` how many of them it would refuse as out of scope, by class: live ones have no class either.

    More than 2,000 rows are sampled by taking the first by id: ids are digests, so their order is random and the same everywhere. Texts of
    one sketch count once, as live ones do.
    """
    chosen = sorted(rows, key=lambda row: row.id)[:MOST_ROWS]
    lengths = {sketch(text): len(text) for text in (last_user_turn(row.text) for row in chosen)}
    expected = dict(sorted((Counter(classes) - Counter(refused)).items()))
    return Reference(sketches=tuple(lengths), characters=tuple(lengths.values()), classes=expected, outside=outside)


class WatchInputs(Value):
    """Inputs of one check of a release.

    ``requests`` are rows that the release answered within the window (a few hundred suffice, the newest 2,000 are plenty), ``traffic`` the
    sums of the window. Either may be missing: what cannot be read then is left out. ``stood_in`` counts the requests of the window that
    another release answered because this one's hosted model did not; None where it is not hosted. ``load_refusals`` are the codes with
    which engines refused to load it in the last minutes, newest first. ``live`` are the objective's live KPIs.
    """

    tenant: Name
    objective: Name
    release: Digest
    at: datetime
    reference: Reference | None = None
    requests: tuple[RequestRow, ...] = ()
    traffic: Traffic | None = None
    stood_in: int | None = None
    load_refusals: tuple[str, ...] = ()
    expected: Expectation = Expectation()
    marks: tuple[Marks, ...] = ()
    live: tuple[LiveFinding, ...] = ()
    accuracy_target: float | None = None
    bounds: Thresholds = Thresholds()
    seed: int = 20


@dataclass(frozen=True)
class _Comparison:
    """A test of drift that is due: its sizes, the test itself, the effect that means none, and the sentence of its result."""

    name: SignalName
    what: str
    sizes: tuple[int, int]
    guard: ThresholdGuard
    none: float
    test: Callable[[], DriftTest]
    sentence: Callable[[DriftTest], str]


def check_release(inputs: WatchInputs) -> tuple[Signal, ...]:
    """Signals of one release: drift of text, length and classes, requests out of scope, service, feedback, live KPIs, in this order."""
    subject = MeasurementSubject(tenant=inputs.tenant, objective=inputs.objective, release=inputs.release, at=inputs.at)
    readings = _drift_readings(inputs.reference, inputs) if inputs.reference is not None else ()
    scope = _scope_readings(inputs)
    service = service_readings(inputs.traffic, inputs.expected, inputs.bounds) if inputs.traffic is not None else iter(())
    fallback = () if inputs.stood_in is None else (fallback_reading(inputs.stood_in, inputs.traffic, inputs.bounds),)
    loads = (refusal_reading(inputs.load_refusals),) if inputs.load_refusals else ()
    told = feedback_readings(inputs.marks, inputs.accuracy_target, inputs.bounds)
    return subject.signals((*readings, *scope, *service, *fallback, *loads, *told, *live_readings(inputs.live)))


def check_data(inputs: DataWatchInputs) -> tuple[Signal, ...]:
    """Signals of one objective's data."""
    subject = MeasurementSubject(tenant=inputs.tenant, objective=inputs.objective, at=inputs.at)
    return subject.signals(data_readings(inputs))


def _drift_readings(reference: Reference, inputs: WatchInputs) -> tuple[Measurement, ...]:
    comparisons = tuple(_comparisons(reference, inputs))
    needed = inputs.bounds.min_messages
    tested = [comparison for comparison in comparisons if min(comparison.sizes) >= needed]
    tests = [comparison.test() for comparison in tested]
    corrected = holm([test.p_value for test in tests])
    results = {comparison.name: (test, p) for comparison, test, p in zip(tested, tests, corrected, strict=True)}
    return tuple(_drift_reading(comparison, results.get(comparison.name), inputs.bounds) for comparison in comparisons)


def _drift_reading(comparison: _Comparison, result: tuple[DriftTest, float] | None, bounds: Thresholds) -> Measurement:
    """Drift is told when it is both proven (p, corrected) and large enough to matter (effect)."""
    name, guard, live = comparison.name, comparison.guard, comparison.sizes[1]
    if result is None:
        text = too_few(comparison.what, min(comparison.sizes), bounds.min_messages)
        return Measurement(name, comparison.none, live, text, bound=guard.warning)
    test, p_value = result
    proven = p_value <= bounds.alpha
    severity = guard.severity(test.effect) if proven else Severity.INFO
    verdict = "This is drift" if severity is not Severity.INFO else "Too little to matter" if proven else "No drift is proven"
    rests_on = f"{test.n_live} live and {test.n_reference} reference messages, p = {p_value:.3g}"
    return Measurement(name, test.effect, live, f"{comparison.sentence(test)} {verdict} ({rests_on}).", severity, guard.warning, p_value)


def _comparisons(reference: Reference, inputs: WatchInputs) -> Iterator[_Comparison]:
    rows = _like_known(_distinct(inputs.requests), inputs.expected.known_refused)
    bounds, seed = inputs.bounds, inputs.seed
    sketches = [row.sketch for row in rows if row.sketch]
    yield _Comparison(
        "drift.text",
        "What messages say",
        (len(reference.sketches), len(sketches)),
        bounds.text,
        0.5,
        lambda: text_drift(reference.sketches, sketches, seed),
        lambda test: _text_sentence(test, bounds.text),
    )
    lengths = [row.characters for row in rows if row.characters]
    yield _Comparison(
        "drift.length",
        "How long messages are",
        (len(reference.characters), len(lengths)),
        bounds.length,
        0.0,
        lambda: length_drift(reference.characters, lengths),
        lambda test: _length_sentence(test, reference.characters, lengths, bounds.length),
    )
    classes = Counter(row.prediction for row in rows if row.prediction is not None)
    if reference.classes:
        yield _Comparison(
            "drift.classes",
            "Which classes are answered",
            (sum(reference.classes.values()), classes.total()),
            bounds.classes,
            0.0,
            lambda: class_drift(reference.classes, classes, seed),
            lambda test: _class_sentence(test, reference.classes, classes, bounds.classes),
        )


def _distinct(requests: Sequence[RequestRow]) -> tuple[RequestRow, ...]:
    """Answered requests, one for each message: a snapshot holds no text twice, so a client that repeats itself must not look like drift."""
    return tuple({row.sketch or row.id: row for row in requests if row.outcome == "ok"}.values())


def _like_known(rows: Sequence[RequestRow], usual: float | None) -> tuple[RequestRow, ...]:
    """What messages that a label fits would look like: those that were labelled, and so many of those refused as out of scope, spread over
    all of them, as would be among them if a label fitted all (``usual`` is their share then). What is refused beyond that has a reading of
    its own."""
    refused = [row for row in rows if row.out_of_scope]
    labelled = [row for row in rows if not row.out_of_scope]
    usual = min(usual or 0.0, 0.99)
    most = min(len(refused), round(len(labelled) * usual / (1 - usual)))
    return (*labelled, *(refused[place * len(refused) // most] for place in range(most)))


def _scope_readings(inputs: WatchInputs) -> Iterator[Measurement]:
    """The share of messages that were refused as out of scope, where a release refuses any."""
    usual, bounds = inputs.expected.known_refused, inputs.bounds
    if usual is None:
        return
    rows = _distinct(inputs.requests)
    refused = sum(row.out_of_scope for row in rows)
    yield rate(
        "drift.out_of_scope", "Messages that none of the labels fits", (refused, len(rows)), bounds.out_of_scope.raised(usual), bounds
    )


def _text_sentence(test: DriftTest, guard: ThresholdGuard) -> str:
    return (
        f"Live messages are told apart from those trained on {percent(test.effect)} of the time; 50 % is chance, "
        f"the bound is {percent(guard.warning)}."
    )


def _length_sentence(test: DriftTest, reference: Sequence[int], live: Sequence[int], guard: ThresholdGuard) -> str:
    return (
        f"Half of the live messages have at most {statistics.median(live):.0f} characters, of those trained on "
        f"{statistics.median(reference):.0f}; the distributions differ by {test.effect:.2f}, the bound is {guard.warning:g}."
    )


def _class_sentence(test: DriftTest, expected: Mapping[str, int], live: Mapping[str, int], guard: ThresholdGuard) -> str:
    share_of = {name: live.get(name, 0) / sum(live.values()) for name in {*expected, *live}}
    usual_of = {name: expected.get(name, 0) / sum(expected.values()) for name in share_of}
    moved = max(sorted(share_of), key=lambda name: abs(share_of[name] - usual_of[name]))
    return (
        f"The answer that moved most is {moved}: {percent(share_of[moved])} of answers, {percent(usual_of[moved])} expected; "
        f"the stability index is {test.effect:.2f}, the bound is {guard.warning:g}."
    )
