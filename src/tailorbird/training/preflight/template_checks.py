"""Whether what is learned is what will be served: the chat template, rendered as we do and as others do.

tailorbird's own engine renders as training does, by construction; other servers use transformers' rendering, or the template inside
tokenizer_config.json. A model that is served by another template than it learned is the fault of unsloth#976 and ollama#6823.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.preflight import PreflightFinding
from tailorbird.domain.prompt import Message
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call
from tailorbird.text.chat_templates import render
from tailorbird.text.prompt_rendering import messages_for
from tailorbird.text.template_layout import is_plain
from tailorbird.training.preflight.context import PreflightContext, warning

#: Limits of a rendering by transformers, which is imported for it.
_STOCK = SandboxLimits(memory=4 << 30, processor=60, wait=120.0, output=1 << 24)
_TEXT, _ANSWER = "Where is my card?", "tailorbirdanswer"


def templates(subject: PreflightContext) -> list[PreflightFinding]:
    """One finding for each rendering that is not the one that is learned."""
    messages = messages_for(subject.job.prompt, _TEXT)
    ours, (theirs, ids) = render(subject.encoder.template, messages, subject.encoder.special), _stock(subject, messages)
    found = _differing(ours, theirs, "transformers renders the prompt otherwise", "template_differs")
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
    return found + _past_turn(subject, messages, ours)


def _stock(subject: PreflightContext, messages: tuple[Message, ...]) -> tuple[str | None, list[int]]:
    """What transformers, and so vLLM, puts to the model: as text and as tokens."""
    said, folder = [message.model_dump() for message in messages], str(subject.job.base.absolute())
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if isinstance(tokenizer.chat_template, str) and is_plain(tokenizer.chat_template):
            return _by_transformers(tokenizer, said)
        given = {"folder": folder, "messages": said}
        found = call(SandboxJob(f"{__name__}:stock", given, _STOCK, "the chat template of the base model", ModelInvalid))
        return str(found["text"]), [int(token) for token in found["ids"]]
    except (ModelInvalid, OSError, ImportError, KeyError, TypeError, ValueError):
        return None, []


def stock(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: what transformers makes of ``messages`` by the template in ``folder``."""
    tokenizer: Any = AutoTokenizer.from_pretrained(given["folder"], local_files_only=True, trust_remote_code=False)
    text, ids = _by_transformers(tokenizer, given["messages"])
    yield {} if text is None else {"text": text, "ids": ids}


def _by_transformers(tokenizer: Any, said: list[dict[str, Any]]) -> tuple[str | None, list[int]]:
    try:
        text = str(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False))
    except (TemplateError, ValueError):
        return None, []
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def _by(template: str, subject: PreflightContext, messages: tuple[Message, ...]) -> str | None:
    try:
        return render(template, messages, subject.encoder.special)
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
    if render(subject.encoder.template, later, subject.encoder.special).startswith(ours + _ANSWER):
        return []
    what = "the template writes a past answer otherwise than a present one (it cuts or adds something)"
    remedy = "nothing for single questions; in longer conversations the model reads its own answers in another form than it learned"
    return [warning("template_past_turn", what, remedy)]
