"""Rows of token ids for the examples of a job, with the stretches that are learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import PromptSpec, split_reasoning
from tailorbird.ports.trainer import Example
from tailorbird.text.chat_tokenizer import ChatTokenizer
from tailorbird.text.conversations import earlier_answers
from tailorbird.text.prompt_rendering import messages_for_row


@dataclass(frozen=True)
class TokenizedRow:
    """One row: ``ids`` are prompt, answer and end of turn; the first ``prompt`` of them are only read, the rest are learned. ``earlier``
    are stretches of the prompt, from the first token to before the last, that are learned, too: what the assistant said before."""

    ids: tuple[int, ...]
    prompt: int
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """All stretches that are learned, in order."""
        return (*self.earlier, (self.prompt, len(self.ids)))

    @property
    def read(self) -> int:
        """How many tokens come before the first that is learned."""
        return self.spans[0][0]

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(end - start for start, end in self.spans)

    @property
    def targets(self) -> tuple[int, ...]:
        """The tokens that are learned."""
        return tuple(token for start, end in self.spans for token in self.ids[start:end])

    def goes_on(self, earlier: TokenizedRow) -> bool:
        """True when the prompt begins with all of ``earlier``: one pass then gives the losses of both, and the same ones."""
        return len(earlier.ids) <= self.prompt and self.ids[: len(earlier.ids)] == earlier.ids


class RowTokenizer(ChatTokenizer):
    """The chat tokenizer of a base model, for rows to learn."""

    def encode(self, prompt: PromptSpec, examples: Sequence[Example]) -> list[TokenizedRow]:
        """Rows of ``examples`` in their order. Raises InvalidInput when an answer has no tokens.

        Of an example with ``every_turn`` each answer of the assistant is a row of its own, put to the model as it would be asked for; those
        that the next one goes on from word for word are learned in one pass with it.
        """
        if any(example.every_turn for example in examples):
            turns = [each_turn(example) for example in examples]
            rows = iter(self._encode(prompt, [turn for each in turns for turn in each]))
            return [row for each in turns for row in _joined([next(rows) for _ in each])]
        return self._encode(prompt, examples)

    def _encode(self, prompt: PromptSpec, examples: Sequence[Example]) -> list[TokenizedRow]:
        conversations = [messages_for_row(prompt, example.text, example.context) for example in examples]
        reasons = self.marks is not None
        targets = [split_reasoning(example.target) if reasons else ("", example.target) for example in examples]
        thought = [bool(reasoning.strip()) for reasoning, _ in targets]
        texts = [(reasoning if has else "", answer) for has, (reasoning, answer) in zip(thought, targets, strict=True)]
        answers = self.answers_to(conversations, texts)
        self._check_answers(self.answers_to(conversations, [("", answer) for _, answer in targets]) if reasons else answers)
        prompts = self.prompts(conversations)
        if reasons:  # of a row without reasoning the answer alone is learned, behind a prompt that leaves none out
            bare = self.prompts_without_reasoning(conversations)
            prompts = [two if has else one for has, one, two in zip(thought, bare, prompts, strict=True)]
        return [TokenizedRow((*p, *a), len(p)) for p, a in zip(prompts, answers, strict=True)]

    def _check_answers(self, answers: Sequence[Sequence[int]]) -> None:
        empty = sum(map(self.is_empty, answers))
        if empty:
            raise InvalidInput(
                f"{empty} of {len(answers)} answers have no tokens",
                "give every row an answer that is more than white space, or leave the row out",
                code="answer_empty",
            )


def _joined(turns: Sequence[TokenizedRow]) -> Iterator[TokenizedRow]:
    """The answers of one conversation in as few rows as give the same losses."""
    row = turns[0]
    for later in turns[1:]:
        if later.goes_on(row):
            row = TokenizedRow(later.ids, later.prompt, row.spans)
        else:
            yield row
            row = later
    yield row


def each_turn(example: Example) -> list[Example]:
    """An example for each answer of the assistant in a conversation, in order; the last is the example's own."""
    if not example.every_turn:
        return [example]
    said = earlier_answers(example.text, calls=example.calls)
    return [*(Example(text=text, target=answer, context=example.context) for text, answer in said), example]
