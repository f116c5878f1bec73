"""Number formats of the engine: what each of them loses on dev rows, before anything is measured with it for a release.

Dev rows alone are read. Nothing is chosen: the format is a setting, and what is measured in one is served in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Literal

from tailorbird import evaluation, planning, rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.ladder import Candidate, Climb
from tailorbird.domain.number_format import FormatMeasurement, FormatReading, NumberFormat
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Sampling
from tailorbird.domain.value import Digest
from tailorbird.system.thread_clocks import Laps, ThreadPool, usable_cores
from tailorbird.usecases.climb.base_probe import comparison_rule, metric_of
from tailorbird.usecases.climb.metric_spec import spec_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.climb.snapshot_and_plan import offers_of
from tailorbird.usecases.climb.timing import machine_name
from tailorbird.usecases.dependencies import EngineFormats
from tailorbird.usecases.steps.step_context import StepContext

#: Rows that are answered in each format at most: those that are scored, and those that are generated, which take longer.
MOST_SCORED, MOST_GENERATED = 400, 100
#: The fewest rows that tell formats apart.
FEWEST_ROWS = 30
#: Of them, those that are asked one at a time.
_ALONE = 16
#: Formats of weights that are tried beside the chosen one.
_PRECISIONS: tuple[Literal["bf16", "int8"], ...] = ("bf16", "int8")
_MIB = 2**20


@dataclass(frozen=True)
class _FormatSubject:
    """A candidate to answer in each format, and the base that it stands on."""

    label: str
    base: Digest
    candidate: Candidate


def measure_formats(context: StepContext) -> tuple[FormatMeasurement, ...]:
    """Of each base model of the plan: the candidate with the most weights of its own that the climb has made, or else the zero-shot
    prompt, in each format. Adapters in other formats are measured where the candidate has one.

    Raises InvalidInput: the engine is not ours (``formats_engine``), no language model answers (``formats_task``), or there are too few
    rows (``formats_rows``); and what the engine raises in the format that the settings name.
    """
    formats = _offered(context)
    machine = machine_name(context.deps.trainer().measure_machine())
    return tuple(_measured(context, formats, subject, machine) for subject in _subjects(context))


def _offered(context: StepContext) -> EngineFormats:
    if context.deps.formats is None:
        raise InvalidInput(
            "the engine that answers is not ours: it holds models in the format that its server was started with",
            "compare servers that were started with each; or set engine to torch",
            code="formats_engine",
        )
    if context.objective.task.kind is TaskKind.RANK:
        hint = "number formats are those of a language model: they change nothing of this task"
        raise InvalidInput("encoders answer this objective, and they are held in one format", hint, code="formats_task")
    if (rows := len(context.rows(Split.DEV))) < FEWEST_ROWS:
        raise InvalidInput(f"{rows} dev rows are too few to tell number formats apart", "give at least 30 dev rows", code="formats_rows")
    return context.deps.formats


def _subjects(context: StepContext) -> Iterator[_FormatSubject]:
    """One candidate for each base model with a rung. Raises InvalidInput (``formats_task``) where no language model is planned."""
    able = planning.bases_to_probe(offers_of(context))
    if not able:
        hint = "number formats are those of a language model: plan one, with a rung that it answers"
        raise InvalidInput("the plan has no rung of a language model of this machine", hint, code="formats_task")
    trained = dict(_trained(context))
    for label, (base, rung) in able.items():
        if (found := trained.get(base.digest)) is not None:
            climb, candidate = found
            yield _FormatSubject(f"{climb.rung.value} {climb.variant} on {label}", base.digest, candidate)
        else:
            yield _FormatSubject(
                f"zero-shot prompt on {label}", base.digest, rungs.make_candidate(context_of(context, rung, base)).candidate
            )


def _trained(context: StepContext) -> Iterator[tuple[Digest, tuple[Climb, Candidate]]]:
    """Candidates with weights of their own, in the order of the climb, with the digest of their base model."""
    for climb in context.climbs:
        candidate = context.record(Candidate, climb.candidate)
        if candidate.adapter is not None or candidate.weights is not None:
            yield context.base_of(candidate).digest, (climb, candidate)


def _rows(context: StepContext) -> tuple[Row, ...]:
    """Dev rows that are answered, drawn by the hash of seed and row."""
    seed, most = context.objective.seed, MOST_SCORED if context.objective.task.kind is TaskKind.CLASSIFY else MOST_GENERATED
    return tuple(sorted(context.rows(Split.DEV), key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())[:most])


def _measured(context: StepContext, formats: EngineFormats, subject: _FormatSubject, machine: str) -> FormatMeasurement:
    trial = _FormatTrial(context, formats, subject, _rows(context))
    readings = tuple(trial.readings())
    return FormatMeasurement(
        objective=context.objective.name,
        machine=machine,
        base=subject.base,
        snapshot=digest_of(context.manifest),
        candidate=digest_of(subject.candidate),
        label=subject.label,
        rows=len(trial.rows),
        at=context.deps.clock.now(),
        readings=readings,
        loaded=trial.laps.loaded,
    )


def _wishes(chosen: NumberFormat, candidate: Candidate) -> tuple[NumberFormat, ...]:
    """The chosen format, and the others: first of weights, then of an adapter."""
    found = [chosen, *(NumberFormat(precision=each) for each in _PRECISIONS)]
    if candidate.adapter is not None:
        found += [one.model_copy(update={"adapters": "int4"}) for one in (chosen, NumberFormat(precision="int8"))]
    return tuple(dict.fromkeys(found))


class _BusyLaps:
    """Whether other processes wanted the cores in any lap."""

    def __init__(self) -> None:
        self._laps = Laps(ThreadPool(usable_cores, int))
        self.loaded = False

    def lap(self) -> None:
        """Ends one, and begins the next."""
        self.loaded |= self._laps.lap().loaded


@dataclass(frozen=True)
class _FormatTrial:
    """One candidate and the rows that it answers in each format."""

    context: StepContext
    formats: EngineFormats
    subject: _FormatSubject
    rows: tuple[Row, ...]
    laps: _BusyLaps = field(default_factory=_BusyLaps)

    def readings(self) -> Iterator[FormatReading]:
        """Of the chosen format, and of those beside it; a format that is another one's by its fingerprint is answered in once."""
        answered: list[tuple[FormatReading, tuple[ItemResult, ...]]] = []
        for wish in _wishes(self.formats.chosen, self.subject.candidate):
            try:
                found = self._answered(wish, frozenset(reading.fingerprint for reading, _ in answered))
            except (InvalidInput, ModelInvalid) as error:
                if wish == self.formats.chosen:
                    raise
                found = FormatReading(format=wish, refused=str(error)), ()
            answered += [found] if found else []
        metric = metric_of(self.context, [items for _, items in answered if items])
        for reading, items in answered:
            yield self._compared(reading, items, answered[0][1], metric) if items else reading

    def _answered(self, wish: NumberFormat, known: Container[str]) -> tuple[FormatReading, tuple[ItemResult, ...]] | None:
        """What one format does; None where it is a known one."""
        progress, engine = self.context.progress, self.formats.open(wish)
        try:
            if (fingerprint := engine.fingerprint()) in known:
                return None
            progress.tell(f"{self.subject.label}: answering {len(self.rows)} dev rows with {wish.text}")
            engine.load(servable := self.context.servable(self.subject.candidate))
            asked = evaluation.PredictionRequest(
                engine, servable, self.rows, progress.count, sampling=Sampling(max_tokens=256), timed=min(_ALONE, len(self.rows) // 2)
            )
            items = evaluation.item_results(self.rows, evaluation.engine_predictions(asked), spec_of(self.context, 1))
            held = engine.state().memory_used / _MIB
            self.laps.lap()  # while the engine's threads live, which have waited for cores or not
        finally:
            engine.close()
        return FormatReading(format=wish, fingerprint=fingerprint, weights_mb=held, **_pace(items)), items

    def _compared(
        self, reading: FormatReading, items: tuple[ItemResult, ...], chosen: tuple[ItemResult, ...], metric: str
    ) -> FormatReading:
        score = evaluation.metrics_of(items, spec_of(self.context, 1))[metric]
        if items is chosen:
            return reading.model_copy(update={"score": score})
        differ = sum(one.prediction != other.prediction for one, other in zip(items, chosen, strict=True))
        name = digest_of(self.subject.candidate)
        difference = evaluation.compare(name, name, items, chosen, comparison_rule(self.context, metric))
        return reading.model_copy(update={"score": score, "differ": differ, "difference": difference})


def _pace(items: Sequence[ItemResult]) -> dict[str, float]:
    """Times of those asked alone, and of those asked many at a time."""
    alone = [item.request_ms for item in items if item.request_ms is not None]
    many = fmean(item.latency_ms for item in items if item.request_ms is None)
    return {"alone_ms": median(alone), "per_second": 1000 / many if many else 0.0}
