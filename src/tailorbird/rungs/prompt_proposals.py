"""Proposals of instructions: written by a model, or built from the objective's own, and those that may not be tried.

The base is shown the task in four ways: its instruction, to be said otherwise; its labels; rows with their answers (Zhou et al. 2023, APE,
arXiv 2211.01910); and what a prompt got wrong (Pryzant et al. 2023, arXiv 2305.03495; Agrawal et al. 2025, GEPA, arXiv 2507.19457). A small
base writes much that is of no use: variants by rule stand beside it, and rows held out decide. Where the objective names a hosted proposer
that one writes in place of the base (decision 0125), and is believed in nothing: what it writes is checked as what the base writes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import Internal, InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import MISTAKES_SHOWN, ROWS_SHOWN, Message, PromptSpec, Sampling
from tailorbird.domain.rung_wishes import EndpointWishes
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.context import RungContext
from tailorbird.rungs.hosted_server import demand_asked
from tailorbird.rungs.label_thresholds import trial_servable
from tailorbird.text.conversations import last_user_turn, shown_answer
from tailorbird.text.normalisation import normalise

#: Characters of an instruction: as long as the objective's own and half as much again, within these.
SHORTEST, LONGEST, LONGEST_OF_ALL = 12, 320, 1200
#: Characters of a hosted proposer's answer that are kept and read.
_MOST_READ = 8 * LONGEST_OF_ALL
#: Characters in a row that an instruction may share with a training row.
SHARED = 24
#: Words of a row that no instruction may hold whole, at least.
_FEWEST_WORDS = 3
#: Characters of a row that the proposer is shown, and labels.
_SHOWN, _LABELS = 240, 40
_SAMPLING = Sampling(max_tokens=96, temperature=0.8, top_p=0.95, stop=("\n\n",))
#: A hosted model may think before it writes, and does not take every parameter.
_SAMPLING_OUTSIDE = Sampling(max_tokens=512, temperature=0.8, top_p=0.95)
_PROPOSER = "You write instructions for an assistant. Write one instruction, in one or two sentences, and nothing else."


@dataclass(frozen=True)
class Mistake:
    """A training row that a prompt got wrong, and what was answered."""

    row: Row
    answer: str


@dataclass(frozen=True)
class ProposedInstruction:
    """An instruction, how it came about, and the training rows that were shown for it."""

    instruction: str
    origin: str
    proposed_from: tuple[str, ...] = ()


@dataclass
class Proposals:
    """Instructions that may be tried, and how many may not, by reason. ``count`` is told the key of each answer in the journal.
    ``reported`` are the names under which a hosted proposer answered."""

    context: RungContext
    journal: AnswerJournal
    count: Callable[[Iterable[str]], None]
    calls: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    reported: set[str] = field(default_factory=set)
    _written_outside: set[str] = field(default_factory=set)
    _known: set[str] = field(default_factory=set)
    _corpus: str = ""
    _rows: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._known.add(normalise(self.context.objective.task.instruction))
        # A proposer outside the house may have been shown dev: what it writes may repeat none of it, either.
        rows = (*self.context.shown, *(self.context.dev if self._wishes else ()))
        texts = {text for row in rows for text in (row.text, row.answer, last_user_turn(row.text), shown_answer(row.answer))}
        self._corpus = "\n".join(sorted(map(normalise, texts)))
        self._rows = frozenset(said for text in texts if (said := _words(text)).count(" ") > _FEWEST_WORDS)

    @property
    def _wishes(self) -> EndpointWishes | None:
        """The hosted proposer that the plan has taken from the objective."""
        return self.context.proposer

    def proposer_of(self, instruction: str) -> HostedModel | None:
        """The hosted model that wrote ``instruction``; None where the base did, a rule, or the objective."""
        return self.proposer if instruction in self._written_outside else None

    @property
    def proposer(self) -> HostedModel | None:
        """The hosted model that is asked, as it has answered; None where the base writes."""
        endpoint, wishes = self.context.plan.proposer, self._wishes
        if endpoint is None or wishes is None:
            return None
        return HostedModel(endpoint=endpoint.name, url=endpoint.url, model=wishes.model, reported=next(iter(self.reported), ""))

    def by_rule(self) -> list[ProposedInstruction]:
        """Variants of the objective's instruction that need no model."""
        own = self.context.objective.task.instruction.strip()
        if self.context.objective.task.kind is TaskKind.CLASSIFY:
            texts = (
                f"{own} Answer with the label alone.",
                f"Read the text carefully. {own} Choose the label that fits best.",
                f"You are an expert in sorting texts. {own}",
            )
        else:
            texts = (
                f"{own} Answer as the examples do: in the same form, length and tone.",
                f"Read the message carefully. {own}",
                f"You are an experienced assistant. {own} Be complete and precise.",
            )
        return [found for text in texts if (found := self._checked(ProposedInstruction(text, "rule"))) is not None]

    def written(self, rows: Sequence[Row], calls: int) -> list[ProposedInstruction]:
        """Of at most ``calls`` that are written without knowing how a prompt did: its instruction said otherwise, and what it reads out
        of ``rows`` with their answers."""
        own = self.context.objective.task.instruction
        labels = ", ".join(self.context.labels[:_LABELS])
        sorts = f"\nThe labels are: {labels}." if labels else ""
        asked = [
            ("paraphrase", f"Say this instruction in other words, so that it is clearer:\n\n{own}", ()),
            ("labels" if labels else "paraphrase", f"Explain to an assistant step by step what to do here:\n\n{own}{sorts}", ()),
            *(("rows", _rows_asked(part), tuple(row.id for row in part)) for part in (rows[:4], rows[4:ROWS_SHOWN]) if part),
            ("paraphrase", f"Make this instruction more detailed:\n\n{own}{sorts}", ()),
        ]
        return self._written(asked[:calls], "written")

    def corrected(self, instruction: str, mistakes: Sequence[Mistake], calls: int) -> list[ProposedInstruction]:
        """Of at most ``calls`` that are written in view of what a prompt with ``instruction`` got wrong."""
        parts = [part for part in (mistakes[:3], mistakes[3:MISTAKES_SHOWN]) if part]
        asked = [("errors", _errors_asked(instruction, part), tuple(one.row.id for one in part)) for part in parts]
        return self._written(asked[:calls], "corrected")

    def _written(self, asked: Sequence[tuple[str, str, tuple[str, ...]]], kind: str) -> list[ProposedInstruction]:
        found = []
        for number, (origin, text, shown) in enumerate(asked):
            try:
                said = self._answer(text, self.context.objective.seed + number, f"{kind} {number}")
                written = None if said is None else cleaned(said)
            except InvalidInput as error:
                if self._wishes and error.error_code != "prompt_too_long":
                    raise
                self.dropped["asked for with more than the model reads"] += 1
                continue
            if written is None:
                self.dropped["refused by the proposer"] += 1
                continue
            if (checked := self._checked(ProposedInstruction(written, origin, shown))) is not None:
                found.append(checked)
                self._written_outside |= {written} if self._wishes else set()
        return found

    def _answer(self, text: str, seed: int, what: str) -> str | None:
        """What was written; None where a hosted proposer would not."""
        key = f"{what} {digest_of({'text': text, 'seed': seed})}"
        messages = (Message(role="system", content=_PROPOSER), Message(role="user", content=text))
        if self.journal.get(key) is None:
            said = self._asked_outside(self._wishes, messages, seed) if self._wishes else self._said(messages, seed)
            self.journal.put({key: said})
        self.calls += 1
        self.count((key,))
        found = self.journal.get(key)
        if not isinstance(found, dict):
            return str(found)
        if found["reported"]:
            self.reported.add(found["reported"])
        return None if found["refused"] else str(found["text"])

    def _asked_outside(self, wishes: EndpointWishes, messages: Sequence[Message], seed: int) -> dict[str, str | bool]:
        """The answer of the hosted proposer. Raises what asking raises; InvalidInput (``endpoint_model_other``, ``endpoint_model_changed``:
        it answers under another name than before a kill)."""
        if self.context.ask_proposer is None:
            raise Internal("the plan names a proposer, and nothing asks it", "please report this with the log", code="plan_incomplete")
        [answer] = self.context.ask_proposer([messages], _SAMPLING_OUTSIDE.model_copy(update={"seed": seed}))
        demand_asked(wishes, answer.model)
        if answer.model and self.reported - {answer.model}:
            raise InvalidInput(
                f"the proposer answers as {answer.model}, and did as {', '.join(sorted(self.reported))}",
                "its model was changed under one name: name a version of it, and adapt again",
                code="endpoint_model_changed",
            )
        return {"text": answer.text[:_MOST_READ], "reported": answer.model, "refused": answer.refused}

    def _said(self, messages: Sequence[Message], seed: int) -> str:
        engine, nothing = self.context.engine(), PromptSpec(instruction=_PROPOSER)
        servable = trial_servable(self.context, nothing).model_copy(update={"task": TaskKind.GENERATE})
        engine.load(servable)
        try:
            [answer] = engine.generate(servable.id, [messages], _SAMPLING.model_copy(update={"seed": seed}))
        finally:
            engine.unload(servable.id)
        return answer.text

    def _checked(self, proposal: ProposedInstruction) -> ProposedInstruction | None:
        reason = self._why_not(proposal.instruction)
        if reason:
            self.dropped[reason] += 1
            return None
        self._known.add(normalise(proposal.instruction))
        return proposal

    def _why_not(self, text: str) -> str:
        own = self.context.objective.task.instruction
        longest = min(LONGEST_OF_ALL, max(LONGEST, len(own) * 3 // 2))
        words = normalise(text).split()
        # One after the other: what is too long is looked at no further, for a proposer outside the house may write without end.
        checks: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("too short", lambda: len(text) < SHORTEST or len(words) < 3),
            ("too long", lambda: len(text) > longest),
            ("repeats itself", lambda: len(set(words)) < 0.4 * len(words)),
            ("holds marks of a template", lambda: _MARKS.search(text) is not None or not text.isprintable()),
            ("holds numbers or addresses", lambda: not _addresses(text) <= _addresses(own)),
            ("repeats another", lambda: normalise(text) in self._known),
            ("repeats a row of train or dev" if self._wishes else "repeats a training row", lambda: self._repeats_row(text)),
        )
        return next((reason for reason, found in checks if found()), "")

    def _repeats_row(self, text: str) -> bool:
        """True where it holds a whole training row of three words or more, or shares a long piece with one, that stands in neither the
        objective's instruction nor the labels."""
        known = (self.context.objective.task.instruction, *self.context.labels)
        said, told = _words(text), "\n".join(map(_words, known))
        if any(row in said and row not in told for row in self._rows):
            return True
        free, plain = "\n".join(map(normalise, known)), normalise(text)
        pieces = (plain[at : at + SHARED] for at in range(max(0, len(plain) - SHARED) + 1))
        return any(len(piece) == SHARED and piece not in free and piece in self._corpus for piece in pieces)


#: What frames turns in chat templates, or a template's own fields.
_MARKS = re.compile(r"<[^<>\s]{1,40}>|[{}]|\[/?INST\]|###")
#: A word that holds a long number or (part of) an address.
_ADDRESSES = re.compile(r"\S*(?:\d{4,}|@\w|https?:|www\.)\S*")
_WORD = re.compile(r"\w+")
_LEADS = re.compile(r"^(?:(?:revised|new|better|improved|clearer|final|the)\s+)*instructions?\s*(?:is)?\s*[:\-]\s*", re.IGNORECASE)


def _addresses(text: str) -> set[str]:
    return {found.strip(".,;:!?()[]\"'“”‘’") for found in _ADDRESSES.findall(normalise(text))}


def _words(text: str) -> str:
    """The words alone, a space before and behind each."""
    return " ".join(["", *_WORD.findall(normalise(text)), ""])


def cleaned(text: str) -> str:
    """The instruction within what a model wrote: its first line that says something, without a heading, quotes or marks of a list."""
    lines = [line.strip().strip("*_`#> ").strip() for line in text.strip().splitlines()]
    said = next((line for line in lines if line and not line.endswith(":")), "")
    said = re.sub(r"^(?:\d+[.)]|[-•])\s+", "", said)
    return " ".join(_LEADS.sub("", said).strip("\"'“”‘’*_` ").split())


def _rows_asked(rows: Sequence[Row]) -> str:
    shown = "\n".join(f"Text: {_cut(last_user_turn(row.text))}\nAnswer: {_cut(shown_answer(row.answer))}" for row in rows)
    return f"Somebody was given an instruction, and answered these texts by it:\n\n{shown}\n\nWrite the instruction, without the texts."


def _errors_asked(instruction: str, mistakes: Sequence[Mistake]) -> str:
    shown = "\n".join(
        f"Text: {_cut(last_user_turn(one.row.text))}\nAnswered: {_cut(one.answer)}\nRight: {_cut(shown_answer(one.row.answer))}"
        for one in mistakes
    )
    return f"The instruction was: {instruction}\n\nThese answers were wrong:\n\n{shown}\n\nWrite a better instruction, without the texts."


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
