"""Annotation: texts labelled by a hosted model, kept where it agrees with itself, and marked as generated.

What it labelled is a source of its own in the objective: in train alone, with ``generated`` in the provenance of each row. An endpoint that
was shown the objective's sealed test does not teach it any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tailorbird import data
from tailorbird.auth import Action
from tailorbird.chat.prompts import messages_for
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.endpoint import Endpoint, HostedUse
from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.domain.objective import Objective, TeacherWishes
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.value import Digest
from tailorbird.objective import read_objective
from tailorbird.text.label_rules import answered_label
from tailorbird.text.words import normalise
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.endpoints import TEACHER, demand_currency, demand_unshown, tell_sent, to_second, usable_endpoint
from tailorbird.usecases.registry import local
from tailorbird.usecases.runs.hosted_engine import HostedEngine
from tailorbird.usecases.snapshots import find_snapshot

#: Texts that are asked for between two words on progress, and on what was paid.
_CHUNK = 32


@dataclass(frozen=True)
class LeftOut:
    """Records that were not sent: texts that hold ``personal`` data, those ``repeated`` from the snapshot, and cells without a text
    (``blank``)."""

    personal: int
    repeated: int
    blank: int


@dataclass(frozen=True)
class Annotations:
    """Labelled texts, and what became of the others: ``disagreed`` texts had two labels, ``unlabelled`` none, ``unasked`` are those that
    the call did not come to. ``use`` is what was asked and paid."""

    rows: tuple[tuple[str, str], ...]
    disagreed: int
    unlabelled: int
    unasked: int
    left_out: LeftOut
    use: HostedUse
    at: datetime

    @property
    def model(self) -> str:
        """What answered, as the server names it where it does."""
        return ", ".join(self.use.reported) or self.use.model


@local(Action.ADAPT)
def annotate(deps: Dependencies, actor: Actor, path: Path, progress: Progress, hand_over: Callable[[Annotations], None]) -> None:
    """Labels the texts of ``teacher`` in the objective at ``path`` by its hosted model, and gives them to ``hand_over``.

    Each text is asked for twice, with the labels in two orders, and kept where both answers give the same label. Whatever ends a call
    early, what is labelled by then is handed over; once it is in the objective's snapshot, it is not asked for again. Raises InvalidInput
    (no ``teacher``), NotFound (no snapshot, no endpoint), Forbidden (policy, terms), Conflict (``teacher_saw_test``; ``endpoint_changed``:
    it is paid in another currency), Exhausted (``budget_spent``), and what asking and ``hand_over`` raise.
    """
    deps, file = deps.for_tenant(actor.tenant), read_objective(path, actor.tenant)
    objective, wishes = file.objective, file.objective.teacher
    if wishes is None:
        hint = "add `teacher: {endpoint: NAME, model: NAME, path: FILE, source: {...}}`"
        raise InvalidInput("the objective names no teacher", hint)
    endpoint = _granted(deps, objective, wishes)
    facts: Facts = {"objective": objective.name, "model": wishes.model}
    with deps.ledger.work(actor.tenant, write=False) as work:
        snapshot = find_snapshot(work, objective.name).manifest
        demand_unshown(work, objective.name, endpoint, wishes.model)
    texts, left_out = _texts(deps, snapshot, wishes, Path(file.folder))
    with deps.ledger.work(actor.tenant) as work:
        tell_sent(work, actor.name, deps, endpoint, facts | {"split": TEACHER, "rows": len(texts)})
    engine = HostedEngine(endpoint, wishes.model, lambda: deps.endpoint_client(endpoint, wishes.model), objective.budget.money)
    told, labels = 0.0, list[tuple[str, str]]()

    def tell_paid() -> None:
        nonlocal told
        if money := engine.use.money - told:
            paid: Facts = {"objective": objective.name, "split": TEACHER, "money": money, "currency": endpoint.currency}
            with deps.ledger.work(actor.tenant) as work:
                record(work, "data.paid", actor.name, endpoint.name, deps.clock.now(), paid)
            told += money

    try:
        prompts = _prompts(objective, snapshot.labels)
        for start in range(0, len(texts), _CHUNK):
            some = texts[start : start + _CHUNK]
            labels += zip(*(_labels(engine, prompt, some) for prompt in prompts), strict=True)
            tell_paid()
            progress.count(len(labels), len(texts))
    finally:
        engine.unload("")
        tell_paid()
        at = deps.clock.now()
        rows = tuple((text, first) for text, (first, second) in zip(texts, labels, strict=False) if first and first == second)
        unlabelled = sum(not first or not second for first, second in labels)
        found = Annotations(rows, len(labels) - len(rows) - unlabelled, unlabelled, len(texts) - len(labels), left_out, engine.use, at)
        if found.rows or sys.exception() is None:
            made: Facts = {"url": endpoint.url, "rows": len(found.rows), "digest": rows_digest(found.rows)}
            made |= {"at": to_second(found.at), "reported": found.model}
            with deps.ledger.work(actor.tenant) as work:
                record(work, "data.annotated", actor.name, endpoint.name, found.at, made | facts)
            hand_over(found)


def _texts(deps: Dependencies, snapshot: SnapshotManifest, wishes: TeacherWishes, folder: Path) -> tuple[tuple[str, ...], LeftOut]:
    """Texts that may be sent, each once, and how many others there are. Raises as ``read_column``."""
    known = {normalise(row.text) for split in Split for row in data.load_items(snapshot, deps.artifacts, split)}
    cells = list(data.read_column(wishes.path, wishes.text, folder))
    texts = tuple(dict.fromkeys(text for text in cells if text is not None))
    fresh = [text for text in texts if normalise(text) not in known]
    clean = tuple(text for text in fresh if deps.redact is None or deps.redact(text) == text)
    return clean, LeftOut(personal=len(fresh) - len(clean), repeated=len(texts) - len(fresh), blank=cells.count(None))


def _granted(deps: Dependencies, objective: Objective, wishes: TeacherWishes) -> Endpoint:
    found = usable_endpoint(deps, objective.tenant, wishes.endpoint)
    demand_currency(deps, found, objective)
    if found.name not in wishes.source.processors:
        raise Forbidden(
            f"the terms of {wishes.path} do not let it be sent to the endpoint {found.name}",
            f"where they do, say so under `teacher.source`: processors: [{found.name}]",
            code="terms_forbid",
        )
    return found


def _prompts(objective: Objective, labels: tuple[str, ...]) -> list[PromptSpec]:
    """The question with the labels in order, and with them in the other order."""
    many, instruction = ("none",) if objective.task.labels == "many" else (), objective.task.instruction
    return [PromptSpec(instruction=instruction, labels=each, label_sets=many, list_labels=True) for each in (labels, labels[::-1])]


def _labels(engine: HostedEngine, prompt: PromptSpec, texts: Sequence[str]) -> list[str]:
    """A label for each text; empty: none."""
    answers = engine.ask([messages_for(prompt, text) for text in texts], Sampling(max_tokens=256))
    return ["" if answer.refused else answered_label(prompt, answer.text) for answer in answers]


def rows_digest(rows: Iterable[tuple[str, str]]) -> Digest:
    """Digest of labelled texts, in any order."""
    return digest_of(sorted(rows))
