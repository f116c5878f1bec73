"""Whether what is learned is what will be served: the chat template, rendered as we do and as others do.

tailorbird's own engine renders as training does, by construction; other servers use transformers' rendering, or the template inside
tokenizer_config.json. A model that is served by another template than it learned is the fault of unsloth#976 and ollama#6823.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.domain.prompt import Message, split_reasoning
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call
from tailorbird.text.chat_templates import SLOW, render
from tailorbird.text.conversations import answer_turn
from tailorbird.text.prompt_rendering import messages_for, messages_for_row
from tailorbird.text.template_environment import TEMPLATE_DATE
from tailorbird.text.template_layout import is_plain
from tailorbird.text.template_marks import MarkedConversation, marked_conversation
from tailorbird.text.tool_calls import uses_tools
from tailorbird.training.preflight.context import PreflightContext, warning

#: Limits of a rendering by transformers, which is imported for it.
_STOCK = SandboxLimits(memory=4 << 30, processor=60, wait=120.0, output=1 << 24)
#: Conversations that are laid out whole, at about equal distances.
_PROVEN = 64
_TEXT, _ANSWER = "Where is my card?", "tailorbirdanswer"


def templates(subject: PreflightContext) -> list[PreflightFinding]:
    """One finding for each rendering that is not the one that is learned."""
    messages = messages_for(subject.job.prompt, _TEXT)
    ours, (theirs, ids) = subject.encoder.prompt_text(messages), _stock(subject, messages)
    dated = f" (it writes the date, which is always {TEMPLATE_DATE:%Y-%m-%d} here)" if "strftime_now" in subject.encoder.template else ""
    found = _differing(ours, theirs, f"transformers renders the prompt otherwise{dated}", "template_differs")
    if theirs == ours and ids != subject.encoder.prompts([messages])[0]:
        what = "transformers reads the same prompt as other tokens: the model would be served other tokens than it learns"
        found.append(
            warning("tokenizer_differs", what, "serve with tailorbird, or give the other server the tokenizer.json of this folder")
        )
    embedded = subject.read_json("tokenizer_config.json").get("chat_template")
    if isinstance(embedded, str):
        found += _differing(
            ours, _by(embedded, subject, messages), "the template in tokenizer_config.json is another one", "template_twice"
        )
    return found + _past_turn(subject, messages, ours) + _proofs(subject)


def _stock(subject: PreflightContext, messages: tuple[Message, ...]) -> tuple[str | None, list[int]]:
    """What transformers, and so vLLM, puts to the model: as text and as tokens."""
    said, folder = (
        [message.model_dump(exclude_defaults=True) for message in subject.encoder.turns(messages)],
        str(subject.job.base.absolute()),
    )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if isinstance(tokenizer.chat_template, str) and is_plain(tokenizer.chat_template):
            return _by_transformers(tokenizer, said, subject.encoder.switches)
        given = {"folder": folder, "messages": said, "switches": subject.encoder.switches}
        found = call(SandboxJob(f"{__name__}:stock", given, _STOCK, "the chat template of the base model", ModelInvalid))
        return str(found["text"]), [int(token) for token in found["ids"]]
    except (ModelInvalid, OSError, ImportError, KeyError, TypeError, ValueError):
        return None, []


def stock(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: what transformers makes of ``messages`` by the template in ``folder``."""
    tokenizer: Any = AutoTokenizer.from_pretrained(given["folder"], local_files_only=True, trust_remote_code=False)
    text, ids = _by_transformers(tokenizer, given["messages"], given["switches"])
    yield {} if text is None else {"text": text, "ids": ids}


def _by_transformers(tokenizer: Any, said: list[dict[str, Any]], switches: dict[str, bool]) -> tuple[str | None, list[int]]:
    try:
        text = str(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False, **switches))
    except (TemplateError, ValueError):
        return None, []
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def _by(template: str, subject: PreflightContext, messages: tuple[Message, ...]) -> str | None:
    try:
        return subject.encoder.opening.of(render(template, subject.encoder.turns(messages), subject.encoder.variables))
    except ModelInvalid:
        return None


def _differing(ours: str, theirs: str | None, how: str, code: str) -> list[PreflightFinding]:
    if theirs == ours:
        return []
    where = "or not at all" if theirs is None else f"from character {_common(ours, theirs)} of {len(ours)} on"
    remedy = "serve with tailorbird, which renders as training does, or give the other server the file chat_template.jinja"
    return [warning(code, f"{how}, {where}: the model would be served by another template than it learns", remedy)]


def _common(one: str, other: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _past_turn(subject: PreflightContext, messages: tuple[Message, ...], ours: str) -> list[PreflightFinding]:
    """The answer as it stands in a later turn should be the answer as it was learned."""
    later = (*messages, Message(role="assistant", content=_ANSWER), Message(role="user", content=_TEXT))
    try:
        if render(subject.encoder.template, subject.encoder.turns(later), subject.encoder.variables).startswith(ours + _ANSWER):
            return []
    except ModelInvalid as error:
        remedy = "nothing for single questions; a conversation of several turns cannot be put to this model"
        return [warning("template_one_turn", f"the template refuses a conversation that goes on: {error.message}"[:500], remedy)]
    what = "the template writes a past answer otherwise than a present one (it cuts or adds something)"
    remedy = "nothing for single questions; in longer conversations the model reads its own answers in another form than it learned"
    return [warning("template_past_turn", what, remedy)]


def _proofs(subject: PreflightContext) -> list[PreflightFinding]:
    """Whether the template itself, laying whole conversations out, has the answer where it is learned. Trainers that render conversations
    take their masks from that; here a prompt is what is served, and the mask what follows it."""
    step = max(1, math.ceil(len(subject.job.train) / _PROVEN))
    unproven = otherwise = looked = 0
    for example in subject.job.train[::step]:
        messages = subject.encoder.turns(messages_for_row(subject.job.prompt, example.text, example.context))
        reasoning, answer = split_reasoning(example.target) if subject.encoder.marks else ("", example.target)
        looked += 1
        if uses_tools(messages):
            otherwise += not _is_laid_out(subject, messages, reasoning, answer)
            continue
        answered = [*messages, Message(role="assistant", content=answer, reasoning=reasoning)]
        try:
            found = marked_conversation(subject.encoder.template, answered, subject.encoder.variables)
        except ModelInvalid as error:
            if error.error_code == SLOW:
                raise
            found = None
        unproven += found is None
        otherwise += found is not None and not _is_learned(found, subject.encoder.text_before_answer(messages, reasoning), answer)
    noted = []
    if unproven:
        what = f"where {unproven} of {looked} answers stand is not proven: the template looks into them, or refuses the conversation"
        noted.append(("mask_unproven", what, "nothing: an answer is learned behind its prompt, whatever the template makes of it later"))
    if otherwise:
        what = f"the template lays {otherwise} of {looked} answered conversations out with another prompt than the one that is served"
        noted.append(
            ("prompt_differs", what, "nothing: what is learned is what is served; a trainer that renders conversations learns another")
        )
    return [PreflightFinding(code=code, severity=PreflightSeverity.NOTE, what=what, remedy=remedy) for code, what, remedy in noted]


def _is_laid_out(subject: PreflightContext, messages: Sequence[Message], reasoning: str, answer: str) -> bool:
    """True where the template, laying the whole conversation out, writes the prompt and then the answer or the calls, byte for byte."""
    encoder = subject.encoder
    turn = answer_turn(answer).model_copy(update={"reasoning": reasoning})
    try:
        text = render(encoder.template, [*messages, turn], encoder.variables, encoder.tools.frames.call_mode())
        return text.startswith(encoder.text_before_answer(messages, reasoning) + encoder.answer_text(messages, answer).rstrip())
    except ModelInvalid as error:
        if error.error_code == SLOW:
            raise
        return False


def _is_learned(found: MarkedConversation, prompt: str, answer: str) -> bool:
    """True where the last turn is the answer, and all before it the prompt. White space between them belongs to either."""
    start, end = found.turns[-1]
    said = found.text[start:end]
    place = said.find(answer.strip())
    return place >= 0 and (found.text[:start] + said[:place]).rstrip() == prompt.rstrip()
