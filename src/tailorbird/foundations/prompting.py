"""From a text to the messages put to a model, and from messages to the text the model reads.

In: a prompt and a user's text; a chat template. Out: messages; the rendered prompt. Training, evaluation and serving
all come through here, so that what is learned is what is measured and what is served. Must not know: tokenizers, models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.foundations.label_sets import NONE, SEPARATOR


def messages_for(prompt: PromptSpec, text: str) -> tuple[Message, ...]:
    """The conversation for one user text: instruction (with labels, if listed), demonstrations, the text."""
    system = prompt.instruction
    if prompt.list_labels and prompt.labels:
        asked = f"all of these that apply, separated by {SEPARATOR}, or {NONE}" if prompt.label_sets else "exactly one of"
        system += f"\nAnswer with {asked}: " + ", ".join(prompt.labels) + "."
    messages = [Message(role="system", content=system)]
    for shown in prompt.demonstrations:
        messages.append(Message(role="user", content=shown.text))
        messages.append(Message(role="assistant", content=shown.target))
    messages.append(Message(role="user", content=text))
    return tuple(messages)


def render(template: str, messages: Sequence[Message], special: dict[str, str] | None = None) -> str:
    """The text a model reads before it answers, by the model's own chat template, generation prompt included.

    ``special`` are special tokens that templates name (``bos_token``, ``eos_token``). Templates run in a sandbox.
    Raises ModelInvalid when the template fails.
    """
    try:
        return _compiled(template).render(messages=[m.model_dump() for m in messages], add_generation_prompt=True, **(special or {}))
    except TemplateError as error:
        raise ModelInvalid(
            f"the chat template of the base model failed: {error}",
            "use a base model whose template accepts system, user and assistant turns",
            code="chat_template",
        ) from error


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> Any:
    raise TemplateError(message)
