"""Annotation: texts labelled by a hosted model, kept where it agrees with itself, and marked as generated.

What it labelled is a source of its own in the objective: in train alone, with ``generated`` in the provenance of each row. An endpoint that
was shown the objective's sealed test does not teach it any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tailorbird import data
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.endpoint import Endpoint, HostedUse
from tailorbird.domain.errors import Busy, Exhausted, Forbidden, InvalidInput, TailorbirdError
from tailorbird.domain.objective import Objective, TeacherWishes
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.value import Digest
from tailorbird.objective import read_objective
from tailorbird.ports.endpoint import HostedAnswer
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.rungs import AnswerJournal
from tailorbird.system.files import locked, private_folder
from tailorbird.text.label_rules import answered_label
from tailorbird.text.normalisation import normalise
from tailorbird.text.prompt_rendering import messages_for
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.climb.hosted_engine import HostedEngine, Purse
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.endpoints import TEACHER, demand_currency, demand_unshown, tell_sent, to_second, usable_endpoint
from tailorbird.usecases.registry import local
from tailorbird.usecases.snapshots.snapshot_queries import find_snapshot

_log = logging.getLogger("tailorbird.endpoints")


@dataclass(frozen=True)
class LeftOut:
    """Records that were not sent: texts that hold ``personal`` data, those ``repeated`` from dev or test, and cells without a text
    (``blank``)."""

    personal: int
    repeated: int
    blank: int


@dataclass(frozen=True)
class Annotations:
    """Labelled texts, and what became of the others: ``disagreed`` twice-asked texts had two labels, ``unlabelled`` none. ``use`` is what
    was asked and paid now; ``kept`` texts were labelled by a call that broke off, and paid then. ``reported`` is how the server names what
    answered, empty where it does not; ``at`` is when."""

    rows: tuple[tuple[str, str], ...]
    disagreed: int
    unlabelled: int
    left_out: LeftOut
    endpoint: Endpoint
    use: HostedUse
    kept: int
    reported: str
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


@local(Action.ADAPT)
def annotate(deps: Dependencies, actor: Actor, path: Path, progress: Progress, hand_over: Callable[[Annotations], None]) -> None:
    """Labels the texts of ``teacher`` in the objective at ``path`` by its hosted model, and gives them to ``hand_over``.

    Each text is asked for twice, with the labels in two orders, and kept where both answers give the same label. Labels that were paid for
    stay in the workspace until ``hand_over`` has returned: whatever ends a call, the next one asks for the rest. Raises InvalidInput (no
    ``teacher``), NotFound (no snapshot, no endpoint), Forbidden (policy, terms), Conflict (``teacher_saw_test``;
    ``endpoint_changed``: it is paid in another currency; ``annotation_running``), Exhausted (``budget_spent``), and what asking and
    ``hand_over`` raise.
    """
    deps, file = deps.for_tenant(actor.tenant), read_objective(path, actor.tenant)
    objective, wishes = file.objective, file.objective.teacher
    if wishes is None:
        hint = "add `teacher: {endpoint: NAME, model: NAME, path: FILE, source: {...}}`"
        raise InvalidInput("the objective names no teacher", hint, code="teacher_missing")
    endpoint = _granted(deps, objective, wishes)
    with deps.ledger.work(actor.tenant, write=False) as work:
        snapshot = find_snapshot(work, objective.name).manifest
        demand_unshown(work, objective.name, endpoint, wishes.model)
    texts = _texts(deps, snapshot, wishes, Path(file.folder))
    with kept_labels(deps, objective, snapshot.labels, endpoint, wishes.model) as journal:
        purse = purse_of(journal, objective.budget.money)
        engine = HostedEngine(endpoint, wishes.model, lambda: deps.endpoint_client(endpoint, wishes.model), purse)
        teacher = TeacherLabels(engine, journal, objective, snapshot.labels)
        kept = teacher.known(texts.clean)
        facts: Facts = {"objective": objective.name, "model": wishes.model}
        if kept < len(texts.clean):
            with deps.ledger.work(actor.tenant) as work:
                tell_sent(work, actor.name, deps, endpoint, facts | {"split": TEACHER, "rows": len(texts.clean) - kept})
        labels = _paid_labels(_Payments(deps, actor, objective.name, engine), teacher, texts.clean, progress)
        given = [(text, first) for text, (first, second) in zip(texts.clean, labels, strict=True) if first and first == second]
        at, unlabelled = deps.clock.now(), sum(not first or not second for first, second in labels)
        with deps.ledger.work(actor.tenant) as work:
            record_annotation(work, actor.name, endpoint, facts | {"reported": teacher.reported}, given, at)
        disagreed, told = len(texts.clean) - len(given) - unlabelled, texts.left_out
        hand_over(Annotations(tuple(given), disagreed, unlabelled, told, endpoint, engine.use, kept, teacher.reported, at))


def _paid_labels(payments: _Payments, teacher: TeacherLabels, texts: Sequence[str], progress: Progress) -> list[tuple[str, str]]:
    """The labels, of which it is told what they cost, and what is kept where something fails."""
    try:
        with payments.told_at_end():
            return teacher.give(texts, payments.told(progress))
    except BaseException as error:
        if kept := teacher.known(texts):
            progress.tell(f"{kept:,} texts of {len(texts):,} are labelled and kept: the same command asks for the others")
        if isinstance(error, Exhausted) and error.error_code == "budget_spent":
            hint = "raise `money` under `budget`, and run the same command again: what is labelled is not paid for again"
            raise Exhausted(error.message, hint, code=error.error_code) from error
        raise


@dataclass(frozen=True)
class _Texts:
    """Texts that may be sent, each once, and how many others there are."""

    clean: tuple[str, ...]
    left_out: LeftOut


def _texts(deps: Dependencies, snapshot: SnapshotManifest, wishes: TeacherWishes, folder: Path) -> _Texts:
    """Those of ``teacher``. Raises as ``read_column``."""
    measured = {normalise(row.text) for split in (Split.DEV, Split.TEST) for row in data.load_items(snapshot, deps.artifacts, split)}
    cells = list(data.read_column(wishes.path, wishes.text, folder))
    texts = tuple(dict.fromkeys(text for text in cells if text is not None))
    fresh = [text for text in texts if normalise(text) not in measured]
    clean = tuple(text for text in fresh if deps.redact is None or deps.redact(text) == text)
    return _Texts(clean, LeftOut(personal=len(fresh) - len(clean), repeated=len(texts) - len(fresh), blank=cells.count(None)))


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


def record_annotation(
    work: UnitOfWork, actor: str, endpoint: Endpoint, facts: Facts, rows: Iterable[tuple[str, str]], at: datetime
) -> None:
    """Writes who has labelled rows, where and when, and which rows they are, as a digest."""
    made = tuple(rows)
    told: Facts = {"url": endpoint.url, "rows": len(made), "digest": rows_digest(made), "at": to_second(at)}
    record(work, "data.annotated", actor, endpoint.name, at, told | facts)


def rows_digest(rows: Iterable[tuple[str, str]]) -> Digest:
    """Digest of labelled texts, in any order."""
    return digest_of(sorted(rows))


#: Texts that are asked for between two words on progress.
_CHUNK = 32


class TeacherLabels:
    """Labels that a hosted model gives to texts, each asked for twice, with the labels in two orders. They are in ``journal`` as soon as
    they are paid for, by digests of the texts."""

    def __init__(self, engine: HostedEngine, journal: AnswerJournal, objective: Objective, labels: tuple[str, ...]) -> None:
        many = ("none",) if objective.task.labels == "many" else ()
        instruction = objective.task.instruction
        self._engine, self._journal = engine, journal
        self._prompts = [
            PromptSpec(instruction=instruction, labels=each, label_sets=many, list_labels=True) for each in (labels, labels[::-1])
        ]
        if (before := self._journal.get(_REPORTED)) is not None:
            engine.expect(str(before))

    @property
    def reported(self) -> str:
        """How the server names what answers, now or before; empty where it does not."""
        return str(self._journal.get(_REPORTED) or "")

    def known(self, texts: Sequence[str]) -> int:
        """Of how many of ``texts`` both answers are there."""
        return sum(all(self._answer(turn, text) is not None for turn in range(len(self._prompts))) for text in texts)

    def give(self, texts: Sequence[str], progress: Progress) -> list[tuple[str, str]]:
        """For each text the label that is given with the labels in order, and with them in the other order; empty: none. Raises what asking
        raises."""
        for start in range(0, len(texts), _CHUNK):
            some = texts[start : start + _CHUNK]
            for turn in range(len(self._prompts)):
                self._ask(turn, [text for text in some if self._answer(turn, text) is None])
            progress.count(start + len(some), len(texts))
        first, second = ([str(self._answer(turn, text)) for text in texts] for turn in range(len(self._prompts)))
        return list(zip(first, second, strict=True))

    def _answer(self, turn: int, text: str) -> object:
        return self._journal.get(_key(turn, text))

    def _ask(self, turn: int, texts: Sequence[str]) -> None:
        prompt = self._prompts[turn]

        def keep(place: int, answer: HostedAnswer) -> None:
            told = {_key(turn, texts[place]): "" if answer.refused else answered_label(prompt, answer.text)}
            nameless = answer.refused and not answer.model
            self._journal.put(told if nameless else told | {_REPORTED: answer.model})

        self._engine.ask([messages_for(prompt, text) for text in texts], Sampling(max_tokens=256), keep)


#: Places in the journal beside those of answers: how the server names what answers, and what it was paid so far.
_REPORTED, _PAID = "reported", "paid"


def _key(turn: int, text: str) -> str:
    return f"{turn} {digest_of({'text': text})}"


def purse_of(journal: AnswerJournal, money: float) -> Purse:
    """What is left of ``money`` for labels, whichever call pays them."""

    def pay(_: float) -> None:
        journal.put({_PAID: purse.spent})

    purse = Purse(money, pay, float(journal.get(_PAID) or 0.0))
    return purse


@contextmanager
def kept_labels(deps: Dependencies, objective: Objective, labels: Sequence[str], endpoint: Endpoint, model: str) -> Iterator[AnswerJournal]:
    """The journal of what ``model`` said of texts of the objective, which is gone once the block has ended well. Raises Busy
    (``annotation_running``), OSError."""
    asked = {"objective": objective.name, "task": digest_of(objective.task), "labels": list(labels), "url": endpoint.url, "model": model}
    origin = digest_of(asked)
    folder = private_folder(deps.annotations(objective.tenant))
    path = folder / f"{origin.removeprefix('sha256:')}.jsonl"
    with locked(folder / f"{objective.name}.lock") as alone:
        if alone is False:
            raise Busy(
                f"the texts of {objective.name} are being labelled already",
                "wait until the other `tailorbird data annotate` has ended",
                code="annotation_running",
            )
        yield AnswerJournal(path, origin, deps.seal_key("annotations"))
        path.unlink(missing_ok=True)
