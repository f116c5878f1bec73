"""Chat templates: programs that come with a base model, and so from somebody else; and ours by name.

A template that we know (``is_known``) takes time and memory in proportion to the conversation, and is rendered here. Any other is
rendered by a confined process that stays for the next conversation, with limits of its memory and time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tailorbird.chat.tool_calls import offered_tools
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import ModelInvalid, Unavailable
from tailorbird.domain.prompt import Message, ToolCall
from tailorbird.domain.value import Digest
from tailorbird.system.sandbox import Dialogue, SandboxJob, SandboxLimits


def _headed(system: str, user: str, assistant: str) -> str:
    """A template that puts a line above each turn, and the end of text behind each answer."""
    return (
        "{{ bos_token | default('') }}{% for message in messages %}"
        f"{{% if message['role'] == 'assistant' %}}{{{{ '{assistant}\\n' + message['content'] + eos_token + '\\n\\n' }}}}"
        f"{{% elif message['role'] == 'system' %}}{{{{ '{system}' + message['content'] + '\\n\\n' }}}}"
        f"{{% else %}}{{{{ '{user}\\n' + message['content'] + '\\n\\n' }}}}{{% endif %}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '{assistant}\\n' }}}}{{% endif %}}"
    )


#: What is taken where a base model has none.
DEFAULT = "plain"
TEMPLATES = {
    DEFAULT: _headed("", "Question:", "Answer:"),
    "alpaca": _headed("", "### Instruction:", "### Response:"),
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token | default('') }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
}
_NAMES = {digest_bytes(text.encode()): name for name, text in TEMPLATES.items()}


def template_name(digest: Digest) -> str:
    """The name of the template with this ``digest``; empty for one that has none."""
    return _NAMES.get(digest, "")


#: Templates of base models that were read, and lay the conversation out in one loop: SmolLM2's.
_READ = frozenset({"sha256:872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788"})


@lru_cache(maxsize=64)
def is_known(template: str) -> bool:
    """True where ``template`` takes memory and time in proportion to the conversation: one of ours, or one that was read."""
    return digest_bytes(template.encode("utf-8", "surrogatepass")) in _READ | _NAMES.keys()


#: What ``strftime_now`` gives: a prompt that changes from day to day would be neither the one that was learned nor the one that was
#: measured. Templates of Llama 3 write this date where no clock is given.
TEMPLATE_DATE = datetime(2024, 7, 26)


class _GenerationBlocks(Extension):
    """``{% generation %}``, which frames what the assistant says: written as it is."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        """The statements of the block, in a scope of their own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


@lru_cache(maxsize=32)
def compiled(template: str) -> Template:
    """``template`` as a program. Raises TemplateError."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols])
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = TEMPLATE_DATE.strftime
    return environment.from_string(template)


def _refuse(message: str) -> Any:
    raise TemplateError(message)


def _as_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
) -> str:
    """As transformers writes it: Jinja's own filter escapes letters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


#: Seconds that a template may take for one conversation: none that lays one out needs a hundredth of it.
RENDER_SECONDS = 10.0
#: Confined processes that are kept, one a template: the one that was used least lately goes.
_KEPT = 8
_MEMORY, _PROCESSOR, _OUTPUT = 1 << 30, 600, 1 << 26
_HINT = "use a base model with a template that only lays out the conversation"


#: What templates read beside the messages: special tokens by name (``bos_token``), and switches (``enable_thinking``).
Variables = Mapping[str, str | bool]


#: What transformers gives to every template, used or not: some ask whether it is none, and not whether it is there.
_UNUSED = {"tools": None, "documents": None}


class CallForm(NamedTuple):
    """How calls are given to a template: in a ``function`` or ``flat``, their arguments as an object or ``written`` as JSON."""

    flat: bool = False
    written: bool = False


#: The forms that templates read, the commonest first.
CALL_FORMS = tuple(CallForm(flat, written) for flat in (False, True) for written in (False, True))


class RenderMode(NamedTuple):
    """How a conversation is written: whether with the generation prompt at its end, and the form of its calls."""

    add_generation_prompt: bool = True
    calls: CallForm = CallForm()


ASKED, CLOSED = RenderMode(), RenderMode(add_generation_prompt=False)


def render(template: str, messages: Sequence[Message], variables: Variables | None = None, mode: RenderMode = ASKED) -> str:
    """The text a model reads before it answers, by the model's own chat template, generation prompt included unless it is not wanted.

    Raises ModelInvalid: the template fails, or takes more memory than it may (``chat_template``), or more time (``chat_template_slow``);
    Unavailable where the process that renders it is ended from outside, twice.
    """
    if is_known(template):
        return render_here(template, messages, variables, mode)
    return _renderer(template).render(messages, dict(variables or {}), mode)


def render_here(template: str, messages: Sequence[Message], variables: Variables | None = None, mode: RenderMode = ASKED) -> str:
    """As ``render``, in this process. Raises ModelInvalid."""
    turns, tools = _turns(messages, mode.calls), offered_tools(messages)
    given = {**_UNUSED, **({"tools": json.loads(tools)} if tools else {}), **(variables or {})}
    try:
        return compiled(template).render(messages=turns, add_generation_prompt=mode.add_generation_prompt, **given)
    except (TemplateError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        why = f": {str(error)[:500]}" if isinstance(error, TemplateError) else f" ({type(error).__name__})"
        raise ModelInvalid(
            f"the chat template of the base model failed{why}",
            "use a base model whose template accepts system, user and assistant turns",
            code="chat_template",
        ) from error


#: The code of a template that takes more time than it may: to ask it again would take as much again.
SLOW = "chat_template_slow"


def _turns(messages: Sequence[Message], form: CallForm) -> list[dict[str, Any]]:
    """The turns as templates read them; reasoning by the names that they know it by. Calls are numbered by their place in the turn: what a
    service drew at random is nothing to read or to learn, and a call reads the same wherever it stands."""
    turns, calls = list[dict[str, Any]](), dict[str, tuple[str, str]]()
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
        if message.tool_calls:
            numbered = [(f"call{place:05d}", call) for place, call in enumerate(message.tool_calls)]
            calls |= {call.id: (number, call.name) for number, call in numbered}
            turn["tool_calls"] = [_call(call, number, form) for number, call in numbered]
        if message.role == "tool":
            number, name = calls.get(message.tool_call_id, ("", ""))
            turn |= {"tool_call_id": number, "name": name}
        turns.append(turn)
    return turns


def _call(call: ToolCall, id_: str, form: CallForm) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments if form.written else json.loads(call.arguments)}
    return {"id": id_, "type": "function", **(function if form.flat else {"function": function})}


def confined(given: dict[str, Any]) -> Generator[Any, Any]:
    """In a confined process: renders each conversation that it is sent, and answers with the text, or with the message of an error."""
    asked = yield None
    while True:
        try:
            messages = [Message.model_validate(each) for each in asked["messages"]]
            mode = RenderMode(asked["prompted"], CallForm(*asked["calls"]))
            answer = {"text": render_here(given["template"], messages, asked["variables"], mode)}
        except ModelInvalid as error:
            answer = {"message": error.message, "hint": error.hint}
        asked = yield answer


class _Renderer:
    """A template and the process that renders it, made when it is needed and again when it has ended. Safe to share between threads."""

    def __init__(self, template: str) -> None:
        limits = SandboxLimits(_MEMORY, _PROCESSOR, RENDER_SECONDS, _OUTPUT)
        about = "the chat template of the base model"
        given = {"template": template}
        self._job = SandboxJob(f"{__name__}:confined", given, limits, about, ModelInvalid, (__name__,), broken="chat_template")
        self._dialogue: Dialogue | None = None
        self._answered = 0
        self._lock = threading.Lock()

    def render(self, messages: Sequence[Message], variables: dict[str, str | bool], mode: RenderMode) -> str:
        plain = [message.model_dump(exclude_defaults=True) for message in messages]
        asked = {"messages": plain, "variables": variables, "prompted": mode.add_generation_prompt, "calls": list(mode.calls)}
        with self._lock:
            answer = self._ask(asked)
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            known = answer if isinstance(answer, dict) else {}
            raise ModelInvalid(
                str(known.get("message", "the chat template failed"))[:1000], str(known.get("hint", _HINT))[:500], code="chat_template"
            )
        return str(answer["text"])

    def _ask(self, asked: dict[str, Any], *, again: bool = False) -> Any:
        try:
            if self._dialogue is None:
                self._dialogue, self._answered = Dialogue(self._job), 0
            answer = self._dialogue.ask(asked)
            self._answered += 1
            return answer
        except ModelInvalid as error:
            used_up = error.error_code == "parser_processor" and self._answered
            self.close()
            # Used up by all conversations before this one, or ended by a machine that is short of memory: the template has not failed yet.
            if not again and (used_up or error.error_code in ("parser_memory", "parser_crashed")):
                return self._ask(asked, again=True)
            if error.error_code == "parser_crashed":
                raise Unavailable(error.message, "try again when the machine is less busy", code="parser_crashed") from error
            if error.error_code in ("parser_time", "parser_processor"):
                raise ModelInvalid(
                    f"the chat template of the base model did not end within {RENDER_SECONDS:g} s", _HINT, code=SLOW
                ) from error
            raise ModelInvalid(error.message, _HINT, code="chat_template") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the process."""
        if self._dialogue is not None:
            self._dialogue.close()
            self._dialogue = None

    def __del__(self) -> None:
        self.close()


def _renderer(template: str) -> _Renderer:
    """The one of this process: what was forked from it has others."""
    return _kept_renderer(os.getpid(), template)


@lru_cache(maxsize=_KEPT)
def _kept_renderer(process: int, template: str) -> _Renderer:
    """A process that is dropped ends once nobody waits for it any more."""
    del process
    return _Renderer(template)
