"""Chat templates: programs that come with a base model, and so from somebody else.

A template that only lays the conversation out (one loop over the messages, texts put together, conditions) takes time and memory in
proportion to it, and is rendered here. Any other is rendered by a confined process that stays for the next conversation: what it may take
is bounded, whatever it does.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, ToolCall
from tailorbird.system.sandbox import Dialogue, SandboxJob, SandboxLimits
from tailorbird.system.time_limit import TimeLimitExceeded, time_limit
from tailorbird.text.template_environment import compiled
from tailorbird.text.template_layout import is_plain
from tailorbird.text.tool_calls import offered_tools

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
    """How calls are given to a template: name and arguments in a ``function`` or ``flat``, arguments as an object or ``written`` as JSON;
    ``named``: the name of a call is a part of its id."""

    flat: bool = False
    written: bool = False
    named: bool = False


#: The forms that templates read, the commonest first.
CALL_FORMS = tuple(CallForm(flat, written, named) for named in (False, True) for flat in (False, True) for written in (False, True))


class RenderMode(NamedTuple):
    """How a conversation is written: whether with the generation prompt at its end, and with ``MARKS`` around generation blocks; and the
    form of its calls."""

    add_generation_prompt: bool = True
    marked: bool = False
    calls: CallForm = CallForm()


ASKED, CLOSED = RenderMode(), RenderMode(add_generation_prompt=False)


def render(template: str, messages: Sequence[Message], variables: Variables | None = None, mode: RenderMode = ASKED) -> str:
    """The text a model reads before it answers, by the model's own chat template, generation prompt included unless it is not wanted.

    Raises ModelInvalid: the template fails, or takes more memory than it may (``chat_template``), or more time (``chat_template_slow``).
    """
    if is_plain(template):
        return render_here(template, messages, variables, mode)
    return _renderer(template).render(messages, dict(variables or {}), mode)


def render_here(template: str, messages: Sequence[Message], variables: Variables | None = None, mode: RenderMode = ASKED) -> str:
    """As ``render``, in this process: in a sandbox, and for a limited time. Raises ModelInvalid."""
    said, tools = _said(messages, mode.calls), offered_tools(messages)
    try:
        with time_limit(RENDER_SECONDS):
            program = compiled(template, marked=mode.marked)
            given = {**_UNUSED, **({"tools": json.loads(tools)} if tools else {}), **(variables or {})}
            return program.render(messages=said, add_generation_prompt=mode.add_generation_prompt, **given)
    except TimeLimitExceeded as error:
        raise _slow() from error
    except RecursionError as error:
        raise ModelInvalid("the chat template of the base model calls itself without end", _HINT, code="chat_template") from error
    except TemplateError as error:
        raise ModelInvalid(
            f"the chat template of the base model failed: {str(error)[:500]}",
            "use a base model whose template accepts system, user and assistant turns",
            code="chat_template",
        ) from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"the chat template of the base model failed ({type(error).__name__})",
            "use a base model whose template accepts system, user and assistant turns",
            code="chat_template",
        ) from error


#: The code of a template that takes more time than it may: to ask it again would take as much again.
SLOW = "chat_template_slow"


def _slow() -> ModelInvalid:
    return ModelInvalid(f"the chat template of the base model did not end within {RENDER_SECONDS:g} s", _HINT, code=SLOW)


def _said(messages: Sequence[Message], form: CallForm) -> list[dict[str, Any]]:
    """The turns as templates read them; reasoning by the names that they know it by. Calls are numbered by their place in the turn: what a
    service drew at random is nothing to read or to learn, and a call reads the same wherever it stands."""
    said, calls = list[dict[str, Any]](), dict[str, tuple[str, str]]()
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            turn |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
        if message.tool_calls:
            ids = [f"functions.{call.name}:{at}" if form.named else f"call{at:05d}" for at, call in enumerate(message.tool_calls)]
            calls |= {call.id: (id_, call.name) for call, id_ in zip(message.tool_calls, ids, strict=True)}
            turn["tool_calls"] = [_call(call, id_, form) for call, id_ in zip(message.tool_calls, ids, strict=True)]
        if message.role == "tool":
            id_, name = calls.get(message.tool_call_id, ("", ""))
            turn |= {"tool_call_id": id_, "name": name}
        said.append(turn)
    return said


def _call(call: ToolCall, id_: str, form: CallForm) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments if form.written else json.loads(call.arguments)}
    return {"id": id_, "type": "function", **(function if form.flat else {"function": function})}


def confined(given: dict[str, Any]) -> Generator[Any, Any]:
    """In a confined process: renders each conversation that it is sent, and answers with the text, or with what was wrong."""
    said = yield None
    while True:
        try:
            messages = [Message.model_validate(each) for each in said["messages"]]
            answer: dict[str, str | bool] = {"text": render_here(given["template"], messages, said["variables"], _mode(said["mode"]))}
        except ModelInvalid as error:
            answer = {"message": error.message, "hint": error.hint, "slow": error.error_code == SLOW}
        said = yield answer


def _mode(said: Sequence[Any]) -> RenderMode:
    """The mode as it came over the wire."""
    prompted, marked, calls = said
    return RenderMode(prompted, marked, CallForm(*calls))


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
        said = {"messages": plain, "variables": variables, "mode": list(mode)}
        with self._lock:
            answer = self._ask(said)
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            told = answer if isinstance(answer, dict) else {}
            if told.get("slow") is True:
                raise _slow()
            raise ModelInvalid(
                str(told.get("message", "the chat template failed"))[:1000], str(told.get("hint", _HINT))[:500], code="chat_template"
            )
        return str(answer["text"])

    def _ask(self, said: dict[str, Any]) -> Any:
        try:
            if self._dialogue is None:
                self._dialogue, self._answered = Dialogue(self._job), 0
            answer = self._dialogue.ask(said)
            self._answered += 1
            return answer
        except ModelInvalid as error:
            used_up = error.error_code == "parser_processor" and self._answered
            self.close()
            if used_up:  # by all conversations before this one
                return self._ask(said)
            if error.error_code in ("parser_time", "parser_processor"):
                raise _slow() from error
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


_renderers: OrderedDict[tuple[int, str], _Renderer] = OrderedDict()
_renderers_lock = threading.Lock()


def _renderer(template: str) -> _Renderer:
    """The one of this process: what was forked from it has others."""
    key = os.getpid(), template
    with _renderers_lock:
        if key not in _renderers:
            _renderers[key] = _Renderer(template)
        _renderers.move_to_end(key)
        found = _renderers[key]
        while len(_renderers) > _KEPT:
            _renderers.popitem(last=False)  # its process ends once nobody waits for it any more
    return found
