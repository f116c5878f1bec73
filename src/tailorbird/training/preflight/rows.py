"""Checks of the rows as they will be learned: what carries loss, where answers end, how rows begin.

In: a subject. Out: findings. Must not know: weights.
"""

from __future__ import annotations

from itertools import takewhile

from tailorbird.domain.examination import Finding, Severity
from tailorbird.foundations.prompting import quoted
from tailorbird.training.encoding import Encoded
from tailorbird.training.preflight.subject import Subject, blocking, warning


def mask(subject: Subject) -> list[Finding]:
    """Rows that teach nothing, rows that teach their own prompt, and prompts that lack the row's text.

    The loss mask that is silently wrong is the commonest fault of fine-tuning: trl#4147, trl#3279, open-r1#648, unsloth#2095.
    """
    rows, found = subject.rows, []
    silent = sum(row.prompt >= len(row.ids) - 1 and not row.earlier for row in rows)
    if silent:
        what = f"{silent} of {len(rows)} rows are masked whole: not one token of an answer carries loss"
        found.append(blocking("all_masked", what, "give every row an answer, or leave the row out"))
    bare = sum(row.read == 0 for row in rows)
    if bare:
        what = f"{bare} of {len(rows)} rows have no prompt, so every token carries loss"
        found.append(blocking("nothing_masked", what, "use a base model whose chat template writes the user's turn"))
    elif _blind(subject):
        what = "all rows have the same prompt although their texts differ: the chat template leaves the user's text out"
        found.append(blocking("text_not_in_prompt", what, "use a base model whose chat template writes the user's turn"))
    return found


def _blind(subject: Subject) -> bool:
    texts = {example.text for example in subject.job.train}
    return len(texts) > 1 and len({row.ids[: row.prompt] for row in subject.train}) == 1


def truncation(subject: Subject) -> list[Finding]:
    """Rows above the limit. Training refuses them; a trainer that cuts them loses what is counted here (unsloth#3019, trl#6548)."""
    rows, limit = subject.rows, subject.limit
    long = [row for row in rows if len(row.ids) > limit]
    if not long:
        return []
    lost = sum(max(0, end - max(limit, start)) for row in long for start, end in row.spans)
    whole = sum(row.prompt >= limit for row in long)
    every, longest = sum(row.learned for row in rows), max(len(row.ids) for row in long)
    what = (
        f"{len(long)} of {len(rows)} rows ({len(long) / len(rows):.1%}) are longer than {limit} tokens; cutting them would lose "
        f"{lost} of {every} loss tokens ({lost / every:.1%}) and the whole answer of {whole} rows; the longest row has {longest}"
    )
    return [
        blocking("example_too_long", what, f"raise max_length to {longest} if the context allows, shorten the texts, or leave them out")
    ]


def end_of_turn(subject: Subject) -> list[Finding]:
    """Answers that the model would not learn to end: it then never stops (trl#1623, unsloth#416)."""
    rows, end = subject.rows, subject.encoder.end_of_turn
    endless = sum(row.ids[-1] != end or row.prompt >= len(row.ids) for row in rows)
    name = subject.encoder.tokenizer.convert_ids_to_tokens(end)
    found = []
    if endless:
        what = f"{endless} of {len(rows)} rows do not learn the end of turn, {name}: the model would not stop"
        found.append(blocking("end_of_turn_not_learned", what, "use a base model whose template closes the assistant's turn"))
    if end not in _stops(subject):
        what = f"answers end with {name}, which the model's configuration does not name as an end (eos_token_id)"
        found.append(warning("end_of_turn_no_stop", what, f"add {end} to eos_token_id in generation_config.json for other servers"))
    return found


def _stops(subject: Subject) -> set[int]:
    """What servers stop at: the tokenizer's end, and those that the configuration names."""
    files = (subject.config, subject.read_json("generation_config.json"))
    named = [subject.encoder.tokenizer.eos_token_id, *(file.get("eos_token_id") for file in files)]
    return {token for value in named if value is not None for token in ([value] if isinstance(value, int) else value)}


def beginning(subject: Subject) -> list[Finding]:
    """Rows that begin twice, or not at all, where the tokenizer has a token to begin with."""
    tokenizer = subject.encoder.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    most = max(_leading(row, bos) for row in subject.rows)
    if most > 1:
        what = f"rows begin with {tokenizer.bos_token} {most} times: the template and the tokenizer both write it"
        return [blocking("bos_doubled", what, "take it out of the chat template, or out of the tokenizer's post-processor")]
    if most == 0 and tokenizer("a")["input_ids"][:1] == [bos]:
        what = f"rows do not begin with {tokenizer.bos_token}, with which this tokenizer begins a text"
        return [warning("bos_missing", what, "let the chat template begin with {{ bos_token }}")]
    return []


def _leading(row: Encoded, token: int) -> int:
    return sum(1 for _ in takewhile(lambda one: one == token, row.ids))


def control_tokens(subject: Subject) -> list[Finding]:
    """Texts that name control tokens: they are read as text, in training and in serving, and cannot forge a turn."""
    job, control = subject.job, subject.encoder.control
    named = sum(quoted(example.text, control) or quoted(example.target, control) for example in (*job.train, *job.held_out))
    if not named:
        return []
    what = f"{named} rows name control tokens of the template in their text; they are read as ordinary text"
    remedy = "nothing, where people really write that; otherwise clean the rows, which may be chats that were exported with their template"
    return [Finding(code="control_tokens_in_text", severity=Severity.NOTE, what=what, remedy=remedy)]
