"""Labels of a teacher, kept as they come: what was paid for survives whatever ends an annotation, and the next one asks for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Busy
from tailorbird.domain.objective import Objective
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.ports.endpoint import HostedAnswer
from tailorbird.rungs import AnswerJournal
from tailorbird.system.files import locked, private_folder
from tailorbird.text.answered_labels import answered_label
from tailorbird.text.prompt_rendering import messages_for
from tailorbird.usecases.climb.hosted_engine import HostedEngine, Purse
from tailorbird.usecases.dependencies import Dependencies, Progress

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
