"""Answers to parts of a candidate's items that other nodes give while it is measured on one: which parts, and how they travel.

A part is a chunk of items that is asked at once, cut as without other nodes, so that no answer gets other company. Whoever measures goes
through the parts from the first to the last, others from the last to the first, and each part that is known by then is taken rather than
asked: so the two meet, however fast either is, and whoever dies leaves no more than a part undone. Answers travel as artifacts, whose names
stand with the step in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.prompt import Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.build import build_name
from tailorbird.usecases.climb.step_parts import StepParts
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext

#: Groups of items, in the order in which they are asked. Of the first some are timed, one after the other: they are no part.
ITEMS, SHIFTED, OUTSIDE = "items", "shifted", "outside"
#: How candidates are asked.
SAMPLING = Sampling(max_tokens=256)

#: Answers to rows from one place to another of a group; None where nobody has given them yet.
Given = Callable[[int, int], Sequence[Prediction] | None]


def _nothing(_work: UnitOfWork) -> None: ...


class AnswerPart(NamedTuple):
    """Items ``start`` to ``stop`` of a group."""

    group: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        """As it stands in the record."""
        return f"{self.group} {self.start}-{self.stop}"


def rows_by_group(context: StepContext) -> dict[str, tuple[Row, ...]]:
    """The items on which candidates are measured while rungs are climbed."""
    dev = Split.DEV
    return {ITEMS: context.rows(dev), SHIFTED: context.shifted_rows(dev), OUTSIDE: context.outside_rows(dev)}


def parts_of(groups: dict[str, tuple[Row, ...]]) -> tuple[AnswerPart, ...]:
    """The parts in which others may answer, in the order in which they are asked."""
    chunks = {group: evaluation.chunks_of(len(rows), evaluation.TIMED if group == ITEMS else 0) for group, rows in groups.items()}
    return tuple(AnswerPart(group, *chunk) for group, found in chunks.items() for chunk in found)


class GivenAnswers:
    """Answers of others for the step ``step`` of a run, which measures the candidate with the digest ``candidate``; ``account`` as in
    ``StepParts``."""

    def __init__(self, context: StepContext, step: str, candidate: Digest, account: Callable[[UnitOfWork], None] = _nothing) -> None:
        self._parts = StepParts(context, step, account)
        self._about = {
            "run": context.run.id,
            "step": step,
            "candidate": candidate,
            "snapshot": context.done[transitions.SNAPSHOT],
            "version": build_name(),
        }

    @property
    def wanted(self) -> bool:
        """False once the step has ended, or the run."""
        return self._parts.wanted

    def known(self) -> dict[str, Digest]:
        """The artifacts of parts that are answered, by the part's name."""
        return self._parts.known

    def given(self, engine: str, group: str) -> Given:
        """What others have answered by an engine with this fingerprint to items of a group. What cannot be read is as if it were not
        there: it is asked."""

        def find(start: int, stop: int) -> Sequence[Prediction] | None:
            part = AnswerPart(group, start, stop)
            with suppress(ValueError):
                if (data := self._parts.get(part.name)) is not None:
                    head, *lines = data.splitlines()
                    if head == self._head(engine, part) and len(lines) == stop - start:
                        return [Prediction.model_validate_json(line) for line in lines]
            return None

        return find

    def put(self, engine: str, part: AnswerPart, predictions: Sequence[Prediction]) -> bool:
        """Stores answers and notes them; False, and nothing is stored, where they are wanted no more. Raises what storing raises."""
        lines = [self._head(engine, part), *(one.model_dump_json().encode() for one in predictions)]
        return self._parts.put(part.name, b"\n".join(lines))

    def _head(self, engine: str, part: AnswerPart) -> bytes:
        return canonical_json(self._about | {"engine": engine, "part": part.name})


class Helper(NamedTuple):
    """The place (from 0) of one node ``among`` those that answer parts."""

    number: int
    among: int

    def order(self, parts: Sequence[AnswerPart]) -> list[AnswerPart]:
        """Its own share of the parts from the last to the first, then what is left of the others'."""
        own = list(reversed(parts))[self.number :: self.among]
        return own + [part for part in reversed(parts) if part not in own]


def answer_parts(context: StepContext, candidate: Candidate, others: GivenAnswers, node: Helper) -> int:
    """Answers parts of the items on which ``candidate`` is measured, until none is left or wanted; how many. Raises what the engine and the
    store raise."""
    engine: Engine = context.deps.engine()
    groups, servable, done = rows_by_group(context), context.servable(candidate), 0
    engine.load(servable)
    try:
        for part in node.order(parts_of(groups)):
            if not others.wanted:
                break
            if part.name in others.known():
                continue
            rows = groups[part.group][part.start : part.stop]
            asked = evaluation.PredictionRequest(engine, servable, rows, context.progress.count, SAMPLING, timed=0)
            done += others.put(engine.fingerprint(), part, evaluation.engine_predictions(asked))
    finally:
        engine.unload(servable.id)
    return done
