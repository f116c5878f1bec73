"""Annotation: texts labelled by a hosted model, kept where it agrees with itself, and marked as generated.

What it labelled is a source of its own in the objective: in train alone, with ``generated`` in the provenance of each row. An endpoint that
was shown the objective's sealed test does not teach it any more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tailorbird import data
from tailorbird.auth import Action
from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint, HostedUse
from tailorbird.domain.errors import Forbidden, InvalidInput, TailorbirdError
from tailorbird.domain.objective import Objective, TeacherWishes
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.objective import read_objective
from tailorbird.text.answered_labels import answered_label
from tailorbird.text.normalisation import normalise
from tailorbird.text.prompt_rendering import messages_for
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.climb.hosted_engine import HostedEngine, Purse
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.endpoints import demand_currency, tell_sent, usable_endpoint
from tailorbird.usecases.snapshots.snapshot_lookup import find_snapshot
from tailorbird.usecases.teachers import TEACHER, demand_unshown, record_annotation

_log = logging.getLogger("tailorbird.endpoints")

#: Texts that are asked for between two words on progress.
_CHUNK = 32


@dataclass(frozen=True)
class Annotations:
    """Labelled texts, and what became of the others: ``disagreed`` twice-asked texts had two labels, ``unlabelled`` none, ``personal`` hold
    personal data and ``repeated`` are items of dev or test: neither was sent. ``use`` is what was asked and paid, ``at`` when."""

    rows: tuple[tuple[str, str], ...]
    disagreed: int
    unlabelled: int
    personal: int
    repeated: int
    endpoint: Endpoint
    use: HostedUse
    at: datetime


class _Payments:
    """What an annotation pays, in the log after each chunk and at its end, however it ends."""

    def __init__(self, deps: Dependencies, actor: Actor, objective: str, engine: HostedEngine) -> None:
        self._deps = deps
        self._actor = actor
        self._objective = objective
        self._engine = engine
        self._told = 0.0

    def told(self, progress: Progress) -> Progress:
        """The progress, at each count of which is written what was paid since the one before."""

        def count(done: int, total: int) -> None:
            self.tell()
            progress.count(done, total)

        return replace(progress, count=count)

    @contextmanager
    def told_at_end(self) -> Iterator[None]:
        """Closes the engine in the end, and tells what was paid. Where something else has failed, that is the error, whether or not the
        record can be written."""
        try:
            yield
        except BaseException:
            try:
                self.tell()
            except TailorbirdError:
                _log.warning("what the endpoint %s was paid last could not be written", self._engine.use.endpoint, exc_info=True)
            raise
        else:
            self.tell()
        finally:
            self._engine.unload("")

    def tell(self) -> None:
        """Writes what was paid since it was told last."""
        use = self._engine.use
        if money := use.money - self._told:
            facts: Facts = {"objective": self._objective, "split": TEACHER, "money": money, "currency": use.currency}
            with self._deps.ledger.work(self._actor.tenant) as work:
                record(work, "data.paid", self._actor.name, use.endpoint, self._deps.clock.now(), facts)
            self._told = use.money


def annotate(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> Annotations:
    """Labels the texts of ``teacher`` in the objective at ``path`` by its hosted model.

    Each text is asked for twice, with the labels in two orders, and kept where both answers give the same label. Raises InvalidInput (no
    ``teacher``), NotFound (no snapshot, no endpoint), Forbidden (policy, terms), Conflict (``teacher_saw_test``;
    ``endpoint_changed``: it is paid in another currency), and what asking raises.
    """
    permit(deps, actor, Action.ADAPT, path.name)
    deps, file = deps.for_tenant(actor.tenant), read_objective(path, actor.tenant)
    objective, wishes = file.objective, file.objective.teacher
    if wishes is None:
        hint = "add `teacher: {endpoint: NAME, model: NAME, path: FILE, source: {...}}`"
        raise InvalidInput("the objective names no teacher", hint, code="teacher_missing")
    endpoint = _granted(deps, objective, wishes)
    with deps.ledger.work(actor.tenant, write=False) as work:
        snapshot = find_snapshot(work, objective.name).manifest
        demand_unshown(work, objective.name, endpoint, wishes.model)
    measured = {normalise(row.text) for split in (Split.DEV, Split.TEST) for row in data.load_items(snapshot, deps.artifacts, split)}
    texts = tuple(dict.fromkeys(data.read_column(wishes.path, wishes.text, Path(file.folder))))
    fresh = [text for text in texts if normalise(text) not in measured]
    clean = [text for text in fresh if deps.redact is None or deps.redact(text) == text]
    with deps.ledger.work(actor.tenant) as work:
        facts: Facts = {"objective": objective.name, "model": wishes.model}
        tell_sent(work, actor.name, deps, endpoint, facts | {"split": TEACHER, "rows": len(clean)})
    purse = Purse(objective.budget.money)
    engine = HostedEngine(endpoint, wishes.model, lambda: deps.endpoint_client(endpoint, wishes.model), purse)
    payments = _Payments(deps, actor, objective.name, engine)
    with payments.told_at_end():
        labels = _labels(engine, objective, snapshot.labels, clean, payments.told(progress))
    given = [(text, first) for text, (first, second) in zip(clean, labels, strict=True) if first and first == second]
    unlabelled = sum(not first or not second for first, second in labels)
    at = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        record_annotation(work, actor.name, endpoint, facts | {"reported": ", ".join(engine.use.reported)}, given, at)
    return Annotations(
        rows=tuple(given),
        disagreed=len(clean) - len(given) - unlabelled,
        unlabelled=unlabelled,
        personal=len(fresh) - len(clean),
        repeated=len(texts) - len(fresh),
        endpoint=endpoint,
        use=engine.use,
        at=at,
    )


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


def _labels(
    engine: HostedEngine, objective: Objective, labels: tuple[str, ...], texts: Sequence[str], progress: Progress
) -> list[tuple[str, str]]:
    """For each text the label that is given with the labels in order, and with them in the other order."""
    many = ("none",) if objective.task.labels == "many" else ()
    instruction = objective.task.instruction
    prompts = [PromptSpec(instruction=instruction, labels=each, label_sets=many, list_labels=True) for each in (labels, labels[::-1])]
    found: list[tuple[str, str]] = []
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        both = [engine.ask([messages_for(prompt, text) for text in some], Sampling(max_tokens=256)) for prompt in prompts]
        said = [
            ["" if one.refused else answered_label(prompt, one.text) for one in each] for prompt, each in zip(prompts, both, strict=True)
        ]
        found += list(zip(*said, strict=True))
        progress.count(len(found), len(texts))
    return found
