"""Production check of a release against its training data."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial

from pydantic import Field

from tailorbird.chat.conversations import last_user_turn
from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.feedback import Marks, Severity, Signal, SignalName
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Digest, Name, Value
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
from tailorbird.monitoring.sketch import sketch
from tailorbird.monitoring.thresholds import (
    ALPHA,
    CLASSES,
    LENGTH,
    MIN_MESSAGES,
    OUT_OF_SCOPE,
    TEXT,
    Measurement,
    ThresholdGuard,
    percent,
    too_few,
)

#: Rows that are kept: beyond this many, a test of drift gains nothing that its floor would let through.
MOST_ROWS = 2_000


class Reference(Value):
    """Sketches and lengths (in characters) of training messages, and how often each class is to be expected, as counts."""

    sketches: tuple[str, ...]
    characters: tuple[int, ...]
    classes: dict[str, int] = Field(default_factory=dict)


def reference_of(rows: Sequence[Row], classes: Iterable[str] = (), *, refused: Mapping[str, int] | None = None) -> Reference:
    """The reference of a release trained on ``rows``; ``classes`` is one class an item, best what the release answered at the gate,
    ``refused`` how many of them it would refuse as out of scope, by class: live ones have no class either.

    More than 2,000 rows are sampled by taking the first by id: ids are digests, so their order is random and the same everywhere. Texts of
    one sketch count once, as live ones do.
    """
    chosen = sorted(rows, key=lambda row: row.id)[:MOST_ROWS]
    lengths = {sketch(text): len(text) for text in (last_user_turn(row.text) for row in chosen)}
    expected = dict(sorted((Counter(classes) - Counter(refused)).items()))
    return Reference(sketches=tuple(lengths), characters=tuple(lengths.values()), classes=expected)


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
    seed: int = 20


def check_release(inputs: WatchInputs) -> tuple[Signal, ...]:
    """Signals of one release: drift of text, length and classes, requests out of scope, service, feedback, live KPIs, in this order."""
    readings = _drift_readings(inputs.reference, inputs) if inputs.reference is not None else ()
    scope = _scope_readings(inputs)
    service = service_readings(inputs.traffic, inputs.expected) if inputs.traffic is not None else iter(())
    fallback = () if inputs.stood_in is None else (fallback_reading(inputs.stood_in, inputs.traffic),)
    loads = (refusal_reading(inputs.load_refusals),) if inputs.load_refusals else ()
    told = feedback_readings(inputs.marks, inputs.accuracy_target)
    of = {"tenant": inputs.tenant, "objective": inputs.objective, "release": inputs.release, "at": inputs.at}
    measured = (*readings, *scope, *service, *fallback, *loads, *told, *live_readings(inputs.live))
    return tuple(Signal.model_validate(vars(one) | of) for one in measured)


def _drift_readings(reference: Reference, inputs: WatchInputs) -> Iterator[Measurement]:
    """Drift is reported when it is both proven (p, corrected) and large enough to matter (effect)."""
    rows = _like_known(_distinct(inputs.requests), inputs.expected.known_refused)
    seed = inputs.seed
    sketches = [row.sketch for row in rows if row.sketch]
    lengths = [row.characters for row in rows if row.characters]
    classes = Counter(row.prediction for row in rows if row.prediction is not None)
    # What is compared, how many of either side there are, the bounds of the effect, the effect that means none, the test, and its sentence.
    compared: list[_Compared] = [
        (
            "drift.text",
            "What messages say",
            (len(reference.sketches), len(sketches)),
            TEXT,
            0.5,
            lambda: text_drift(reference.sketches, sketches, seed),
            lambda effect: (
                f"Live messages are told apart from those trained on {percent(effect)} of the time; 50 % is chance, "
                f"the bound is {percent(TEXT.warning)}."
            ),
        ),
        (
            "drift.length",
            "How long messages are",
            (len(reference.characters), len(lengths)),
            LENGTH,
            0.0,
            lambda: length_drift(reference.characters, lengths),
            lambda effect: (
                f"Half of the live messages have at most {statistics.median(lengths):.0f} characters, of those trained on "
                f"{statistics.median(reference.characters):.0f}; the distributions differ by {effect:.2f}, "
                f"the bound is {LENGTH.warning:g}."
            ),
        ),
    ]
    if reference.classes:
        sizes = (sum(reference.classes.values()), classes.total())
        test = partial(class_drift, reference.classes, classes, seed)
        words = partial(_class_sentence, expected=reference.classes, live=classes, guard=CLASSES)
        compared.append(("drift.classes", "Which classes are answered", sizes, CLASSES, 0.0, test, words))
    tests = {name: test() for name, _, sizes, _, _, test, _ in compared if min(sizes) >= MIN_MESSAGES}
    corrected = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    for name, what, sizes, guard, none, _, sentence in compared:
        if name not in tests:
            yield Measurement(name, none, sizes[1], too_few(what, min(sizes), MIN_MESSAGES), bound=guard.warning)
            continue
        found, p_value = tests[name], corrected[name]
        proven = p_value <= ALPHA
        severity = guard.severity(found.effect) if proven else Severity.INFO
        verdict = "This is drift" if severity is not Severity.INFO else "Too little to matter" if proven else "No drift is proven"
        rests_on = f"{found.n_live} live and {found.n_reference} reference messages, p = {p_value:.3g}"
        text = f"{sentence(found.effect)} {verdict} ({rests_on})."
        yield Measurement(name, found.effect, sizes[1], text, severity, guard.warning, p_value)


_Compared = tuple[SignalName, str, tuple[int, int], ThresholdGuard, float, Callable[[], DriftTest], Callable[[float], str]]


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
    usual = inputs.expected.known_refused
    if usual is None:
        return
    rows = _distinct(inputs.requests)
    refused = sum(row.out_of_scope for row in rows)
    yield rate("drift.out_of_scope", "Messages that none of the labels fits", (refused, len(rows)), OUT_OF_SCOPE.raised(usual))


def _class_sentence(effect: float, expected: Mapping[str, int], live: Mapping[str, int], guard: ThresholdGuard) -> str:
    share_of = {name: live.get(name, 0) / sum(live.values()) for name in {*expected, *live}}
    usual_of = {name: expected.get(name, 0) / sum(expected.values()) for name in share_of}
    moved = max(sorted(share_of), key=lambda name: abs(share_of[name] - usual_of[name]))
    return (
        f"The answer that moved most is {moved}: {percent(share_of[moved])} of answers, {percent(usual_of[moved])} expected; "
        f"the stability index is {effect:.2f}, the bound is {guard.warning:g}."
    )
