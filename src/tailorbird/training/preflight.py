"""Preflight of a training job, before anything is spent.

In: a training job. Out: refusals for the trainer, of jobs that cannot be trained; for people, an examination that finds all faults of a
job at once: loss masks, lengths, ends of turns, labels, settings that do not fit the model. Must not know: the loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from transformers import AutoConfig

from tailorbird.decoders import context_of, model_class
from tailorbird.domain.errors import InvalidInput, ModelInvalid, Unavailable
from tailorbird.domain.plan import Examination, PreflightFinding, PreflightSeverity, ShownToken
from tailorbird.domain.prompt import split_reasoning
from tailorbird.ports.trainer import TrainingJob
from tailorbird.system.process import model_load
from tailorbird.training.batches import Batches, RowLayout, RowTokenizer, TokenizedRow
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import Network


@dataclass(frozen=True)
class PreflightContext:
    """A job whose rows were encoded; ``rows`` are those to learn and those held out."""

    job: TrainingJob
    encoder: RowTokenizer
    train: Sequence[TokenizedRow]
    held_out: Sequence[TokenizedRow]

    @property
    def rows(self) -> list[TokenizedRow]:
        """All rows, those to learn first."""
        return [*self.train, *self.held_out]


def read_subject(job: TrainingJob) -> PreflightContext:
    """Encodes the job's rows. Raises InvalidInput, ModelInvalid as the encoder does."""
    encoder = RowTokenizer(job.base, thinking=job.prompt.thinking)
    return PreflightContext(job, encoder, encoder.encode(job.prompt, job.train), encoder.encode(job.prompt, job.held_out))


def blocking(code: str, what: str, remedy: str) -> PreflightFinding:
    """A finding that stands in the way."""
    return PreflightFinding(code=code, severity=PreflightSeverity.BLOCKING, what=what, remedy=remedy)


def warning(code: str, what: str, remedy: str) -> PreflightFinding:
    """A finding to know before going on."""
    return PreflightFinding(code=code, severity=PreflightSeverity.WARNING, what=what, remedy=remedy)


def labels(subject: PreflightContext) -> list[PreflightFinding]:
    """Labels that are no tokens, and labels that are the same ones: no score could tell them apart.

    A label whose tokens begin another one is no fault: a score is that of the whole answer, the end of turn included, which only one of
    the two has there.
    """
    answers = subject.job.prompt.answers
    by_tokens: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for answer, ids in zip(answers, subject.encoder.answers(answers), strict=True):
        by_tokens[tuple(ids)].append(answer)
    empty = by_tokens.pop(subject.encoder.end_of_turn, [])
    found = []
    if empty:
        what = f"{_listed(empty)} has no tokens: nothing of it could be learned or scored"
        found.append(blocking("label_empty", what, "give the label a name that is more than white space"))
    for _, names in sorted(by_tokens.items()):
        if len(names) > 1:
            what = f"the labels {_listed(names)} have the same tokens: no score could tell them apart"
            found.append(blocking("labels_collide", what, "rename all but one of them, or make them one label"))
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def mask(subject: PreflightContext) -> list[PreflightFinding]:
    """Rows that teach nothing, rows that teach their own prompt, and prompts that lack the row's text.

    The loss mask that is silently wrong is the commonest fault of fine-tuning: trl#4147, trl#3279, open-r1#648, unsloth#2095.
    """
    rows, found = subject.rows, []
    silent = sum(subject.encoder.is_empty(row.ids[row.prompt :]) and not row.earlier for row in rows)
    if silent:
        what = f"{silent} of {len(rows)} rows are masked whole: not one token of an answer carries loss"
        found.append(blocking("all_masked", what, "give every row an answer, or leave the row out"))
    bare = sum(row.read == 0 for row in rows)
    if bare:
        what = f"{bare} of {len(rows)} rows have no prompt, so every token carries loss"
        found.append(blocking("nothing_masked", what, "use a base model whose chat template writes the user's turn"))
    elif len({example.text for example in subject.job.train}) > 1 and len({row.ids[: row.prompt] for row in subject.train}) == 1:
        what = "all rows have the same prompt although their texts differ: the chat template leaves the user's text out"
        found.append(blocking("text_not_in_prompt", what, "use a base model whose chat template writes the user's turn"))
    return found


def end_of_turn(subject: PreflightContext) -> list[PreflightFinding]:
    """Answers that the model would not learn to end: it then never stops (trl#1623, unsloth#416)."""
    rows, end = subject.rows, subject.encoder.end_of_turn
    ended = {(token,) for token in subject.encoder.stops} | {end}  # calls of functions have an end of their own
    endless = sum(not any(row.ids[max(row.prompt, len(row.ids) - len(each)) :] == each for each in ended) for row in rows)
    name = subject.encoder.tokenizer.id_to_token(end[-1])
    if not endless:
        return []
    what = f"{endless} of {len(rows)} rows do not learn the end of turn, {name}: the model would not stop"
    return [blocking("end_of_turn_not_learned", what, "use a base model whose template closes the assistant's turn")]


def beginning(subject: PreflightContext) -> list[PreflightFinding]:
    """Rows that begin twice, or not at all, where the tokenizer has a token to begin with."""
    tokenizer, name = subject.encoder.tokenizer, subject.encoder.special.get("bos_token", "")
    bos = tokenizer.token_to_id(name)
    if bos is None:
        return []
    most = max(sum(1 for _ in takewhile(lambda one: one == bos, row.ids)) for row in subject.rows)
    if most > 1:
        what = f"rows begin with {name} {most} times: the template and the tokenizer both write it"
        return [blocking("bos_doubled", what, "take it out of the chat template, or out of the tokenizer's post-processor")]
    if most == 0 and tokenizer.encode("a").ids[:1] == [bos]:
        what = f"rows do not begin with {name}, with which this tokenizer begins a text"
        return [warning("bos_missing", what, "let the chat template begin with {{ bos_token }}")]
    return []


def reasoning(subject: PreflightContext) -> list[PreflightFinding]:
    """Rows without reasoning, of a model that is to reason: their answers are learned behind a prompt that leaves it out."""
    if subject.encoder.marks is None:
        return []
    bare = sum(not split_reasoning(example.target)[0].strip() for example in subject.job.train)
    if not bare:
        return []
    what = (
        f"{bare} of {len(subject.job.train)} rows hold no reasoning: of those the answer alone is learned, and served it follows reasoning"
    )
    remedy = "give these rows the reasoning (`reasoning_content`, or <think> before the answer), or set `thinking: off`"
    return [warning("reasoning_missing", what, remedy)]


#: The linear layers of a decoder block that tailorbird's engine and vLLM load adapters for.
SERVED_TARGETS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
#: The values that vLLM takes for ``--max-lora-rank``; an adapter is padded to the next one.
VLLM_LARGEST_RANK = 512


#: How far packed and plain losses may lie apart, relative to 1 + loss: rounding, not a different computation.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def check_job(job: TrainingJob) -> None:
    """Raises InvalidInput when there is nothing to learn or to measure on."""
    if not job.train:
        raise InvalidInput("there are no training rows", "give at least one row of the train split", code="no_train_rows")
    if not job.held_out:
        raise InvalidInput(
            "there are no held-out rows, so no checkpoint could be called the best",
            "keep some training rows out of training",
            code="no_train_rows",
        )


def check_lengths(rows: Sequence[TokenizedRow], limit: int) -> None:
    """Refuses rows above ``limit`` tokens: cutting one would teach the model a wrong answer. Raises InvalidInput ``example_too_long``."""
    long = [len(row.ids) for row in rows if len(row.ids) > limit]
    if long:
        raise InvalidInput(
            f"{len(long)} of {len(rows)} examples are longer than {limit} tokens; the longest has {max(long)}",
            f"raise max_length to {max(long)} if the model's context allows, shorten the prompt, or leave those rows out",
            code="example_too_long",
        )


@torch.no_grad()
def check_packing(network: Network, rows: Sequence[TokenizedRow]) -> None:
    """Compares the second of two packed rows, which could see the first, with the model's own forward pass of it alone; where rows are
    computed one at a time, the first.

    Raises ModelInvalid where the architecture does not bear packing.
    """
    shortest = sorted(rows, key=lambda row: len(row.ids))[: 1 if network.layout is RowLayout.SINGLE else 2]
    both = network.pack(shortest)
    packed = float(network.answer_losses(both)[both.owners_A == len(shortest) - 1].sum())
    plain = network.plain_loss_sum(shortest[-1])
    if abs(packed - plain) > _TOLERANCE[network.dtype] * (1 + plain):
        raise ModelInvalid(
            f"rows computed together and one by one differ ({packed:.4f} and {plain:.4f} nats)",
            "use another base model: rows of this one see one another, although its architecture passed the test on small weights",
            code="model_unsupported",
        )


#: Checks of rows.
_CHECKS: tuple[Callable[[PreflightContext], list[PreflightFinding]], ...] = (mask, end_of_turn, beginning, reasoning, labels)


def examine(job: TrainingJob) -> Examination:
    """Findings of all checks of ``job``, those that block first. What the job's own validation raises becomes a blocking finding."""
    try:
        check_job(job)
        subject = read_subject(job)
    except InvalidInput as error:
        return Examination(findings=(blocking(error.error_code, error.message, error.hint),))
    config, settings = AutoConfig.from_pretrained(job.base, local_files_only=True, trust_remote_code=False), job.settings
    found = [finding for check in _CHECKS for finding in check(subject)]
    try:
        check_lengths(subject.rows, min(settings.max_length, context_of(config) or settings.max_length))
        with model_load, torch.device("meta"):
            model = model_class(config).from_config(config)
        METHODS[settings.method].check(Learner(model, settings, job.base))
    except (InvalidInput, Unavailable) as refused:
        found.append(blocking(refused.error_code, refused.message, refused.hint))
    if settings.lora and (others := sorted(set(settings.lora.targets) - SERVED_TARGETS)):
        what = f"whether vLLM loads an adapter on {', '.join(others)} was not tested; tailorbird's engine takes any linear layer of a block"
        found.append(warning("target_unproven", what, "serve with tailorbird's engine, or leave these out of the targets"))
    if settings.lora and settings.lora.rank > VLLM_LARGEST_RANK:
        what = f"vLLM loads ranks up to {VLLM_LARGEST_RANK}, and this adapter has {settings.lora.rank}"
        found.append(warning("rank_unservable", what, "lower the rank, or serve with tailorbird's engine alone"))
    parts = Batches(subject.train, settings).at(0)
    return Examination(
        findings=tuple(sorted(found, key=lambda finding: finding.severity is not PreflightSeverity.BLOCKING)),
        first_batch=tuple(_shown(subject.encoder, row) for part in parts for row in part),
        measured=_counts(subject),
    )


def _counts(subject: PreflightContext) -> dict[str, float]:
    rows = subject.rows
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "loss_tokens": sum(row.learned for row in rows),
        "longest_row": max(len(row.ids) for row in rows),
    }


def _shown(encoder: RowTokenizer, row: TokenizedRow) -> tuple[ShownToken, ...]:
    texts = [encoder.tokenizer.decode([token], skip_special_tokens=False) for token in row.ids]
    learned = {place for start, end in row.spans for place in range(start, end)}
    return tuple(
        ShownToken(text=text, learned=place in learned, id=token, control=encoder.is_control(token))
        for place, (token, text) in enumerate(zip(row.ids, texts, strict=True))
    )


__all__ = ["check_job", "check_lengths", "check_packing", "examine"]
