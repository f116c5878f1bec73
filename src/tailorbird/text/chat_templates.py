"""Chat templates: programs that come with a base model, and so from somebody else.

A template that only lays the conversation out (one loop over the messages, texts put together, conditions) takes time and memory in
proportion to it, and is rendered here. Any other is rendered by a confined process that stays for the next conversation: what it may take
is bounded, whatever it does.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.system.sandbox import Dialogue, SandboxJob, SandboxLimits
from tailorbird.system.time_limit import TimeLimitExceeded, time_limit
from tailorbird.text.template_layout import is_plain

#: Seconds that a template may take for one conversation: none that lays one out needs a hundredth of it.
RENDER_SECONDS = 10.0
#: Confined processes that are kept, one a template: the one that was used least lately goes.
_KEPT = 8
_MEMORY, _PROCESSOR, _OUTPUT = 1 << 30, 600, 1 << 26
_MOST_LETTERS, _MOST_EXPONENT = 10**6, 64
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")
_HINT = "use a base model with a template that only lays out the conversation"


def render(template: str, messages: Sequence[Message], special: dict[str, str] | None = None, *, add_generation_prompt: bool = True) -> str:
    """The text a model reads before it answers, by the model's own chat template, generation prompt included unless it is not wanted.

    ``special`` are special tokens that templates name (``bos_token``, ``eos_token``). Raises ModelInvalid when the template fails, or takes
    more memory or time than it may.
    """
    if is_plain(template):
        return render_here(template, messages, special, add_generation_prompt=add_generation_prompt)
    return _renderer(template).render(messages, special or {}, add_generation_prompt)


def render_here(
    template: str, messages: Sequence[Message], special: dict[str, str] | None = None, *, add_generation_prompt: bool = True
) -> str:
    """As ``render``, in this process: in a sandbox, and for a limited time. Raises ModelInvalid."""
    said = [message.model_dump() for message in messages]
    try:
        with time_limit(RENDER_SECONDS):
            return _compiled(template).render(messages=said, add_generation_prompt=add_generation_prompt, **(special or {}))
    except (TimeLimitExceeded, RecursionError) as error:
        raise ModelInvalid(
            f"the chat template of the base model did not end within {RENDER_SECONDS:g} s, or calls itself without end",
            _HINT,
            code="chat_template",
        ) from error
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


def confined(given: dict[str, Any]) -> Generator[Any, Any]:
    """In a confined process: renders each conversation that it is sent, and answers with the text, or with what was wrong."""
    said = yield None
    while True:
        try:
            messages = [Message.model_validate(each) for each in said["messages"]]
            answer = {
                "text": render_here(given["template"], messages, said["special"], add_generation_prompt=said["add_generation_prompt"])
            }
        except ModelInvalid as error:
            answer = {"message": error.message, "hint": error.hint}
        said = yield answer


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

    def render(self, messages: Sequence[Message], special: dict[str, str], add_generation_prompt: bool) -> str:
        plain = [message.model_dump() for message in messages]
        said = {"messages": plain, "special": special, "add_generation_prompt": add_generation_prompt}
        with self._lock:
            answer = self._ask(said)
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            told = answer if isinstance(answer, dict) else {}
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


class _Bounded(ImmutableSandboxedEnvironment):
    """A sandbox in which nothing grows without bound at once: ``'x' * 10**9`` would take memory, ``9**9**9`` time."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """As the sandbox's. Raises SecurityError."""
        if not _is_small(left) or not _is_small(right) or (operator == "**" and right > _MOST_EXPONENT):
            raise SecurityError(f"an operand of {operator} is too large")
        if operator == "*" and _length(left) * _length(right) > _MOST_LETTERS:
            raise SecurityError("the product is too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise SecurityError("a field of the format is too wide")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, *given: Any, **named: Any) -> Any:
        """As the sandbox's: a width or a count is not beyond all measure. Raises SecurityError."""
        _refuse_large((*given, *named.values()))
        return super().call(context, called, *given, **named)


def _refuse_large(given: Sequence[Any]) -> None:
    if any(isinstance(each, int) and abs(each) > _MOST_LETTERS for each in given):
        raise SecurityError("an argument is too large")


def _measured(named: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is given no width or count beyond all measure."""

    @wraps(named)
    def measured(*given: Any, **asked: Any) -> Any:
        _refuse_large((*given, *asked.values()))
        if any(isinstance(each, str) and _WIDE.search(each) for each in given[:1]) and named.__name__ == "do_format":
            raise SecurityError("a field of the format is too wide")
        return named(*given, **asked)

    return measured


def _is_small(operand: Any) -> bool:
    return not isinstance(operand, int) or operand.bit_length() <= 64


def _length(operand: Any) -> int:
    """How often the other operand may be repeated by it: itself, where it is a number."""
    if isinstance(operand, bool | float):
        return 1
    return min(abs(operand), 2**20) if isinstance(operand, int) else len(operand) if hasattr(operand, "__len__") else 1


@lru_cache(maxsize=32)
def _compiled(template: str) -> Template:
    environment = _Bounded(trim_blocks=True, lstrip_blocks=True)
    environment.filters = {name: _measured(each) for name, each in environment.filters.items()}
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> Any:
    raise TemplateError(message)
