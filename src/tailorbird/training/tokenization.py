"""From examples to token ids, exactly as inference will put them to the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.ports.trainer import Example
from tailorbird.text.chat_templates import render
from tailorbird.text.conversations import fold_turns, unfold_turns
from tailorbird.text.prompt_rendering import PromptPiece, messages_for_row, quoted, render_pieces, token_ids

#: Stands for an answer while the template is asked what it writes after one.
_PROBE = "tailorbirdanswer"


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


class RowTokenizer:
    """The tokenizer and chat template of the base model in ``folder``; ``special`` are the tokens that templates name.

    Raises ModelInvalid when either is missing or unusable.
    """

    def __init__(self, folder: Path) -> None:
        self.template = _read_template(folder)
        self.tokenizer = _read_tokenizer(folder)
        named = {"bos_token": self.tokenizer.bos_token, "eos_token": self.tokenizer.eos_token}
        self.special = {name: token for name, token in named.items() if token}

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
        prompts = self._ids([self._pieces(messages_for_row(prompt, example.text, example.context)) for example in examples])
        answers = self.answers([example.target for example in examples])
        empty = sum(not ids for ids in answers)
        if empty:
            raise InvalidInput(
                f"{empty} of {len(answers)} answers have no tokens",
                "give every row an answer that is more than white space, or leave the row out",
                code="answer_empty",
            )
        return [TokenizedRow((*p, *a, self.end_of_turn), len(p)) for p, a in zip(prompts, answers, strict=True)]

    @cached_property
    def end_of_turn(self) -> int:
        """The token that the template writes straight after an answer, learned like the answer, so that the model stops.

        Raises ModelInvalid when that is no special token: an answer could then not be told from its end.
        """
        turns = [Message(role="user", content="?"), Message(role="assistant", content=_PROBE)]
        after = render(self.template, turns, self.special).rpartition(_PROBE)[2]
        first = self._read([after])[0][:1]
        if not set(self.tokenizer.convert_ids_to_tokens(first)).intersection(self.control):
            raise ModelInvalid(
                "the chat template of the base model ends an assistant turn with no special token",
                "use a base model whose template closes each turn, so that answers can be learned to end",
                code="end_of_turn",
            )
        return first[0]

    @cached_property
    def control(self) -> tuple[str, ...]:
        """The names of the special tokens, which steer the model where the template writes them and are text where a row does."""
        return tuple(added.content for added in self.tokenizer.added_tokens_decoder.values() if added.special)

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as an answer, without the end of the turn."""
        return self._ids([[PromptPiece(text, quoted(text, self.control))] for text in texts])

    def _pieces(self, messages: Sequence[Message]) -> list[PromptPiece]:
        return render_pieces(self.template, messages, self.special, self.control)

    def _ids(self, texts: list[list[PromptPiece]]) -> list[list[int]]:
        return token_ids(texts, self._read, self._read_literally)

    def _read(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _read_literally(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._literal(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    @cached_property
    def _literal(self) -> Any:
        return copy.deepcopy(self.tokenizer)


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
    turns = unfold_turns(example.text)
    earlier = [
        Example(text=fold_turns(turns[:place]), target=turn.content, context=example.context)
        for place, turn in enumerate(turns)
        if turn.role == "assistant" and place and turns[place - 1].role == "user"
    ]
    return [*earlier, example]


def _read_template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if not path.is_file():
        raise ModelInvalid(
            f"the base model in {folder.name} has no chat template",
            "use a model that was trained to chat (an instruct model)",
            code="chat_template",
        )
    return path.read_text(encoding="utf-8")


def _read_tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelInvalid(
            f"the tokenizer in {folder.name} cannot be read ({type(error).__name__})",
            "fetch the base model again: tailorbird models pull",
            code="tokenizer_unreadable",
        ) from error
