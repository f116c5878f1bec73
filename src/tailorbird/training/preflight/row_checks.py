"""Checks of rows and labels: loss masks, truncation, end of turn, control tokens."""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile

from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.domain.prompt import split_reasoning
from tailorbird.text.prompt_rendering import quoted
from tailorbird.training.preflight.context import PreflightContext, blocking, warning
from tailorbird.training.preflight.memory_check import layer_names
from tailorbird.training.tokenization import TokenizedRow


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
    return ([_empty(empty)] if empty else []) + [_alike(names) for _, names in sorted(by_tokens.items()) if len(names) > 1]


def _empty(names: list[str]) -> PreflightFinding:
    what = f"{_listed(names)} has no tokens: nothing of it could be learned or scored"
    return blocking("label_empty", what, "give the label a name that is more than white space")


def _alike(names: list[str]) -> PreflightFinding:
    what = f"the labels {_listed(names)} have the same tokens: no score could tell them apart"
    return blocking("labels_collide", what, "rename all but one of them, or make them one label")


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
    elif _blind(subject):
        what = "all rows have the same prompt although their texts differ: the chat template leaves the user's text out"
        found.append(blocking("text_not_in_prompt", what, "use a base model whose chat template writes the user's turn"))
    return found


def _blind(subject: PreflightContext) -> bool:
    texts = {example.text for example in subject.job.train}
    return len(texts) > 1 and len({row.ids[: row.prompt] for row in subject.train}) == 1


def truncation(subject: PreflightContext) -> list[PreflightFinding]:
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


def end_of_turn(subject: PreflightContext) -> list[PreflightFinding]:
    """Answers that the model would not learn to end: it then never stops (trl#1623, unsloth#416)."""
    rows, end = subject.rows, subject.encoder.end_of_turn
    ended = {(token,) for token in subject.encoder.stops} | {end}  # calls of functions have an end of their own
    endless = sum(not any(row.ids[max(row.prompt, len(row.ids) - len(each)) :] == each for each in ended) for row in rows)
    name = subject.encoder.tokenizer.id_to_token(end[-1])
    found = []
    if endless:
        what = f"{endless} of {len(rows)} rows do not learn the end of turn, {name}: the model would not stop"
        found.append(blocking("end_of_turn_not_learned", what, "use a base model whose template closes the assistant's turn"))
    if end[-1] not in subject.encoder.declared:
        what = f"answers end with {name}, which the model's configuration does not name as an end (eos_token_id)"
        found.append(warning("end_of_turn_no_stop", what, f"add {end[-1]} to eos_token_id in generation_config.json for other servers"))
    return found


def beginning(subject: PreflightContext) -> list[PreflightFinding]:
    """Rows that begin twice, or not at all, where the tokenizer has a token to begin with."""
    tokenizer, name = subject.encoder.tokenizer, subject.encoder.special.get("bos_token", "")
    bos = tokenizer.token_to_id(name)
    if bos is None:
        return []
    most = max(_leading(row, bos) for row in subject.rows)
    if most > 1:
        what = f"rows begin with {name} {most} times: the template and the tokenizer both write it"
        return [blocking("bos_doubled", what, "take it out of the chat template, or out of the tokenizer's post-processor")]
    if most == 0 and tokenizer.encode("a").ids[:1] == [bos]:
        what = f"rows do not begin with {name}, with which this tokenizer begins a text"
        return [warning("bos_missing", what, "let the chat template begin with {{ bos_token }}")]
    return []


def _leading(row: TokenizedRow, token: int) -> int:
    return sum(1 for _ in takewhile(lambda one: one == token, row.ids))


def control_tokens(subject: PreflightContext) -> list[PreflightFinding]:
    """Texts that name control tokens: they are read as text, in training and in serving, and cannot forge a turn."""
    job, control = subject.job, subject.encoder.control
    named = sum(quoted(example.text, control) or quoted(example.target, control) for example in (*job.train, *job.held_out))
    if not named:
        return []
    what = f"{named} rows name control tokens of the template in their text; they are read as ordinary text"
    remedy = "nothing, where people really write that; otherwise clean the rows, which may be chats that were exported with their template"
    return [PreflightFinding(code="control_tokens_in_text", severity=PreflightSeverity.NOTE, what=what, remedy=remedy)]


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


def servable(subject: PreflightContext) -> list[PreflightFinding]:
    """Adapters that would train well and then not load (vllm#9280, #6983, #2847)."""
    lora = subject.job.settings.lora
    if lora is None:
        return []
    found = list[PreflightFinding]()
    others = set(lora.targets) - SERVED_TARGETS
    beyond = sorted(others - (layer_names(subject.job.base) if others else set()))
    if unproven := sorted(others - set(beyond)):
        what = (
            f"whether vLLM loads an adapter on {', '.join(unproven)} was not tested; tailorbird's engine takes any linear layer of a block"
        )
        found.append(warning("target_unproven", what, "serve with tailorbird's engine, or leave these out of the targets"))
    if beyond:
        what = f"no serving engine loads an adapter on {', '.join(beyond)}"
        found.append(blocking("target_unservable", what, f"adapt only {', '.join(sorted(SERVED_TARGETS))}"))
    if lora.rank > VLLM_LARGEST_RANK:
        what = f"vLLM loads ranks up to {VLLM_LARGEST_RANK}, and this adapter has {lora.rank}"
        found.append(warning("rank_unservable", what, "lower the rank, or serve with tailorbird's engine alone"))
    return found
