"""Rows of token ids for the examples of a job, with the stretches that are learned.

Batches of a training: the order of the rows, and their layout in a forward pass: packed into one row, or padded to one length.

Packed rows pay for no padding, so rows are not sorted by length: every epoch is one honest shuffle, of whose batches the longest comes
first, so that memory that is short shows at once. Padded ones are sorted within their batch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from tailorbird.chat.conversations import earlier_answers
from tailorbird.chat.prompts import messages_for_row
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.prompt import PromptSpec, split_reasoning
from tailorbird.ports.trainer import Example
from tailorbird.training.tree_attention import AttentionTree, grow_tree


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


class RowLayout(StrEnum):
    """Layout of the rows of a forward pass, the cheapest first: packed behind the beginning that they share; below one another, padded
    behind their ends; one row at a time."""

    TREE = "tree"
    PADDED = "padded"
    SINGLE = "single"


@dataclass(frozen=True)
class Packed:
    """Rows in one. ``ids_1T`` and ``positions_1T`` are the packed tokens; position ids go on from the prefix in each suffix.

    Without a ``tree`` the rows stand below one another, (B, T), ``mask_BT`` is 0 behind their ends (None where all are of one length), and
    places count through all rows.

    The hidden state at ``answers_A[i]`` predicts ``targets_A[i]`` of the row numbered ``owners_A[i]``. ``useful`` counts prompt and answer
    tokens as if each row stood alone.
    """

    ids_1T: torch.Tensor
    positions_1T: torch.Tensor
    tree: AttentionTree | None
    answers_A: torch.Tensor
    targets_A: torch.Tensor
    owners_A: torch.Tensor
    useful: int
    mask_BT: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return self.ids_1T.numel()

    @property
    def pairs(self) -> int:
        """(query, key) pairs that are not masked; of padded rows, those of the padding too."""
        rows, length = self.ids_1T.shape
        return rows * length * (length + 1) // 2 if self.tree is None else self.tree.pairs

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return self.targets_A.shape[0]


def shared_prefix(rows: Sequence[TokenizedRow]) -> int:
    """How many tokens all rows begin with, less what every row needs for itself: the last token before the first that it learns, which
    predicts it."""
    shared = rows[0].read - 1
    for row in rows[1:]:
        shared = narrowed_prefix(rows[0], row, shared)
    return shared


def narrowed_prefix(first: TokenizedRow, row: TokenizedRow, shared: int) -> int:
    """Length that remains of a prefix of ``shared`` tokens of ``first`` when ``row`` joins."""
    shared = min(shared, row.read - 1)
    if first.ids[:shared] == row.ids[:shared]:
        return shared
    return next(place for place, (a, b) in enumerate(zip(first.ids, row.ids, strict=False)) if a != b)


def packed_tokens(rows: Sequence[TokenizedRow], layout: RowLayout = RowLayout.TREE) -> int:
    """Number of tokens that a pass over ``rows`` computes."""
    if layout is not RowLayout.TREE:
        return len(rows) * (max(len(row.ids) for row in rows) - 1)
    prefix = shared_prefix(rows)
    return prefix + sum(len(row.ids) - 1 - prefix for row in rows)


def pack(rows: Sequence[TokenizedRow], dtype: torch.dtype, device: torch.device, layout: RowLayout = RowLayout.TREE) -> Packed:
    """Lays out ``rows``; ``dtype`` is that of the queries, which attention masks must share."""
    if layout is not RowLayout.TREE:
        return _padded(rows, device)
    # Neighbours of like length make attention groups that need little padding.
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    prefix = shared_prefix(rows)
    ids, positions = list(rows[0].ids[:prefix]), list(range(prefix))
    answers: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for place in order:
        row = rows[place]
        shift = len(ids) - prefix
        ids.extend(row.ids[prefix:-1])
        positions.extend(range(prefix, len(row.ids) - 1))
        for start, end in row.spans:
            answers.extend(range(shift + start - 1, shift + end - 1))
        targets.extend(row.targets)
        owners.extend([place] * row.learned)
    return Packed(
        ids_1T=torch.tensor([ids], device=device),
        positions_1T=torch.tensor([positions], device=device),
        tree=grow_tree(prefix, [len(rows[place].ids) - 1 - prefix for place in order], dtype, device),
        answers_A=torch.tensor(answers, device=device),
        targets_A=torch.tensor(targets, device=device),
        owners_A=torch.tensor(owners, device=device),
        useful=sum(len(row.ids) for row in rows),
    )


def _padded(rows: Sequence[TokenizedRow], device: torch.device) -> Packed:
    """Rows below one another. What pads them stands behind their ends, where no token of a row looks."""
    length = max(len(row.ids) for row in rows) - 1
    lacking = [length - (len(row.ids) - 1) for row in rows]
    ids = [[*row.ids[:-1], *[row.ids[0]] * padding] for row, padding in zip(rows, lacking, strict=True)]
    answers = [place * length + token - 1 for place, row in enumerate(rows) for start, end in row.spans for token in range(start, end)]
    mask = [[1] * (length - padding) + [0] * padding for padding in lacking]
    return Packed(
        ids_1T=torch.tensor(ids, device=device),
        positions_1T=torch.arange(length, device=device).expand(len(rows), -1),
        tree=None,
        answers_A=torch.tensor(answers, device=device),
        targets_A=torch.tensor([token for row in rows for token in row.targets], device=device),
        owners_A=torch.tensor([place for place, row in enumerate(rows) for _ in range(row.learned)], device=device),
        useful=sum(len(row.ids) for row in rows),
        mask_BT=torch.tensor(mask, device=device) if any(lacking) else None,
    )


class Batches:
    """The optimiser batches of a whole run, by step, so that a run can go on at any step."""

    def __init__(self, rows: Sequence[TokenizedRow], settings: TrainingSettings, layout: RowLayout = RowLayout.TREE) -> None:
        self._layout = layout
        self._rows = rows
        self._settings = settings
        self.steps_per_epoch = -(-len(rows) // settings.batch_size)
        self.steps = self.steps_per_epoch * settings.epochs
        self._epoch = -1
        self._batches: list[list[TokenizedRow]] = []

    def at(self, step: int) -> list[list[TokenizedRow]]:
        """The rows of ``step`` (0-based), divided into forward passes of the settings' token budget."""
        return divide(self.rows(step), self._settings.token_budget, self._layout)

    def rows(self, step: int) -> list[TokenizedRow]:
        """The rows of ``step`` (0-based), undivided."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._ordered(epoch)[place]

    def _ordered(self, epoch: int) -> list[list[TokenizedRow]]:
        if epoch != self._epoch:
            order, size = list(range(len(self._rows))), self._settings.batch_size
            random.Random(f"{self._settings.seed}/{epoch}").shuffle(order)
            batches = [[self._rows[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
            if self._layout is not RowLayout.TREE:
                batches = [sorted(batch, key=lambda row: len(row.ids)) for batch in batches]
            longest = max(
                range(len(batches)),
                key=lambda place: max(
                    packed_tokens(part, self._layout) for part in divide(batches[place], self._settings.token_budget, self._layout)
                ),
            )
            batches[0], batches[longest] = batches[longest], batches[0]
            self._epoch, self._batches = epoch, batches
        return self._batches

    def evaluates(self, step: int) -> bool:
        """True when the validation loss is measured after ``step`` steps: evenly through each epoch, its end among them."""
        per_epoch, times = self.steps_per_epoch, max(1, self._settings.evaluations_per_epoch)
        return step > 0 and (step - 1) % per_epoch + 1 in {-(-per_epoch * k // times) for k in range(1, times + 1)}


def divide(rows: Sequence[TokenizedRow], token_budget: int, layout: RowLayout = RowLayout.TREE) -> list[list[TokenizedRow]]:
    """``rows`` in order, in as few parts as keep the tokens of each within ``token_budget``; a longer row stands alone.

    A row's last token is predicted but never read, so it takes no room.
    """
    if layout is RowLayout.SINGLE:
        return [[row] for row in rows]
    if layout is RowLayout.PADDED:
        return _divided_padded(rows, token_budget)
    parts: list[list[TokenizedRow]] = []
    shared = read = 0
    for row in rows:
        length = len(row.ids) - 1
        if parts:
            narrowed = narrowed_prefix(parts[-1][0], row, shared)
            if read + length - len(parts[-1]) * narrowed <= token_budget:
                parts[-1].append(row)
                shared, read = narrowed, read + length
                continue
        parts.append([row])
        shared, read = row.read - 1, length
    return parts


def _divided_padded(rows: Sequence[TokenizedRow], token_budget: int) -> list[list[TokenizedRow]]:
    parts: list[list[TokenizedRow]] = []
    for row in rows:
        if parts and packed_tokens([*parts[-1], row], RowLayout.PADDED) <= token_budget:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts
