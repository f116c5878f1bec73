"""Cells of a record as a row's text, label or answer, set of labels, conversation, judgements, and subject."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

from tailorbird.chat.conversations import fold_answer, fold_turns
from tailorbird.chat.tool_calls import ToolFault, canonical, linked, parsed_json, tool_call, tool_calls, tool_names, tools_text
from tailorbird.data.readers.data_file import Record
from tailorbird.domain.dataset import Split
from tailorbird.domain.prompt import Message, ToolCall, answer_of, ends_within, split_reasoning, with_reasoning
from tailorbird.text import label_rules

#: A list of texts as Python prints it, and one of its texts.
_QUOTED = r"""(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")"""
_PRINTED = re.compile(rf"\s*\[\s*(?:{_QUOTED}(?:\s*,\s*{_QUOTED})*(?:\s*,)?\s*)?\]\s*", re.DOTALL)
_TEXT = re.compile(_QUOTED, re.DOTALL)


class UnusableRecord(Exception):
    """A record that cannot become a row: code and reason, without its text."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def text_cell(record: Record, role: str, column: str, *, numbers: bool = False) -> str:
    """The text in ``column``, which plays ``role``; with ``numbers`` also that of a number. Raises Unusable when there is none, or only
    white space."""
    value = record.cells.get(column)
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        value = _without_float(value)
        value = None if value is None else str(value)
    if value is None:
        raise UnusableRecord("missing_cell", f"there is no {role} (column {column!r})")
    if not isinstance(value, str):
        raise UnusableRecord("wrong_type", f"the {role} (column {column!r}) is not a text: write it as one (json.dumps does)")
    if not value.strip():
        raise UnusableRecord(f"empty_{role}", f"the {role} (column {column!r}) is empty")
    if not is_unicode(value):
        raise broken_text(f"the {role}", column)
    return value


def broken_text(what: str, column: str) -> UnusableRecord:
    """A cell with a text that cannot be written as UTF-8."""
    return UnusableRecord("broken_text", f"{what} (column {column!r}) holds bytes that are no UTF-8, or half of a character")


def _without_float(value: Any) -> Any:
    """Data frames write the whole numbers of a column with empty cells as 12.0, and its empty cells as a number that is none."""
    if not isinstance(value, float):
        return value
    if value != value:
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else value


def labels_cell(record: Record, column: str) -> list[str]:
    """Several labels: from a list, a text that is a JSON list, or a text with ``|`` between; ``none`` or ``[]`` for no label. Raises
    UnusableRecord, also for an empty cell: that is no row without labels but one that nobody labelled."""
    value = record.cells.get(column)
    if not isinstance(value, list):
        text = text_cell(record, "label", column)
        if text.strip() == label_rules.NONE:
            return []
        value = labels_in_text(text) if text.lstrip().startswith("[") else text.split(label_rules.SEPARATOR)
    names = names_in_list(value)
    if names is None:
        raise UnusableRecord("wrong_type", f"the labels (column {column!r}) are a list, but not one of texts or whole numbers")
    labels = [name.strip() for name in names]
    if not all(map(is_unicode, labels)):
        raise broken_text("one of the labels", column)
    if not all(labels):
        raise UnusableRecord("empty_label", f"one of the labels (column {column!r}) is empty")
    return labels


#: How a cell says that a label is its row's, or that it is not.
_FLAGS = dict.fromkeys(("1", "1.0", "true", "yes", "y", "x"), True) | dict.fromkeys(("0", "0.0", "false", "no", "n"), False)


def flagged_cells(record: Record, columns: tuple[str, ...]) -> list[str]:
    """Those of ``columns`` that the record has as labels. Raises Unusable for a cell that is neither 1 nor 0."""
    flags = [_FLAGS.get(name_cell(record, "label", column).casefold()) for column in columns]
    if None in flags:
        column = columns[flags.index(None)]
        raise UnusableRecord("wrong_type", f"the cell of a label (column {column!r}) is neither 1 nor 0, nor true or false")
    return [column.strip() for column, flag in zip(columns, flags, strict=True) if flag]


def texts_cell(record: Record, columns: tuple[str, ...]) -> str:
    """The texts in ``columns``, joined by a blank line, without empty ones. Raises Unusable where all are empty, or one is no text."""
    texts = [record.cells.get(column) for column in columns]
    filled = [column for column, text in zip(columns, texts, strict=True) if text is not None and text == text and str(text).strip()]
    parts = [text_cell(record, "text", column, numbers=True) for column in filled or columns[:1]]
    return "\n\n".join(parts)


def labels_in_text(text: str) -> list[str] | None:
    """The labels of a list in ``text``, as JSON or as Python prints one; None where there is no list of texts or whole numbers."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Python prints a letter as it is, and a backslash before a quote or a backslash.
        if _PRINTED.fullmatch(text) is None:
            return None
        return [re.sub(r"\\(['\"\\])", r"\1", quoted[1:-1]) for quoted in _TEXT.findall(text)]
    return names_in_list(value)


def names_in_list(value: Any) -> list[str] | None:
    """The items of a list of texts and whole numbers, as texts; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str | int) and not isinstance(item, bool) for item in value):
        return None
    return [str(item) for item in value]


def plain_cell(record: Record, role: str, column: str | None) -> str:
    """The subject, a term of use, or what rows are split by, as text; empty where nothing is stated. Raises UnusableRecord."""
    value = _without_float(record.cells.get(column)) if column else None
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or not is_unicode(str(value)):
        raise UnusableRecord("wrong_type", f"the {role} (column {column!r}) is neither a text nor a whole number")
    return str(value).strip()


def name_cell(record: Record, role: str, column: str) -> str:
    """The name in ``column``: a text, a whole number or a truth value, without outer white space. Raises UnusableRecord."""
    value = _without_float(record.cells.get(column))
    if isinstance(value, bool):
        return str(value).lower()
    return text_cell(record, role, column, numbers=not isinstance(value, float)).strip()


def groups_cell(record: Record, column: str) -> tuple[str, ...]:
    """Groups in ``column``: a list, or a text with ``|`` between them, sorted. An empty cell: nobody. Raises UnusableRecord."""
    value = record.cells.get(column)
    if isinstance(value, str):
        value = value.split("|")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(group, str) and is_unicode(group) for group in value):
        raise UnusableRecord("wrong_type", f"the groups (column {column!r}) are no texts")
    return tuple(sorted({group.strip() for group in value if group.strip()}))


def date_cell(record: Record, column: str | None) -> date | None:
    """The day in ``column``; None where there is none. Raises Unusable for what is no day: nobody guesses how long data may be kept."""
    stated = plain_cell(record, "terms", column)
    try:
        return date.fromisoformat(stated[:10]) if stated else None
    except ValueError as error:
        raise UnusableRecord("bad_date", f"the day (column {column!r}) is not written YYYY-MM-DD") from error


def is_unicode(value: str) -> bool:
    """True when the text can be written as UTF-8: it holds no half of a character."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


#: How data in use name their splits. What is only called an evaluation set is not learned from, nor chosen by.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), Split.TRAIN),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), Split.DEV),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), Split.TEST),
}


#: Grades by document.
Grades = dict[str, int]


def target_of(grades: Mapping[str, int]) -> str:
    """Grades as the target of a row: compact JSON with sorted keys."""
    return json.dumps(dict(sorted(grades.items())), separators=(",", ":"), ensure_ascii=False)


def without_documents(target: str, gone: Collection[str]) -> str:
    """The ``target`` of a query without the documents that are ``gone``; empty where nothing is left to be found."""
    grades: Grades = json.loads(target)
    left = {name: grade for name, grade in grades.items() if name not in gone}
    return target_of(left) if left else ""


def grades_cell(record: Record, column: str, known: Collection[str]) -> tuple[Grades, int]:
    """The relevant documents in a cell that are among the ``known``, and how many others it names: {document: grade}, a list of documents,
    or a text with | between them. Raises UnusableRecord."""
    value = record.cells.get(column)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    elif isinstance(value, str):
        value = [name.strip() for name in value.split("|") if name.strip()]
    if isinstance(value, list) and all(isinstance(name, str | int) and not isinstance(name, bool) for name in value):
        grades = {str(name): 1 for name in value}
    elif isinstance(value, dict) and all(isinstance(grade, int) and not isinstance(grade, bool) for grade in value.values()):
        grades = {str(name): grade for name, grade in value.items() if grade > 0}
    else:
        raise UnusableRecord("wrong_type", f"the relevant documents (column {column!r}) are neither a list nor grades by document")
    if not grades:
        raise UnusableRecord("no_judgement", f"no document is relevant (column {column!r})")
    there = {name: grade for name, grade in grades.items() if name in known}
    if not there:
        raise UnusableRecord("unknown_document", f"none of the relevant documents (column {column!r}) is there")
    return there, len(grades) - len(there)


#: How formats in use name the roles.
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter", "customer", "client", "caller"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatbot", "ai", "agent", "advisor", "representative"), "assistant"),
    "function_call": "assistant",
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
#: How formats in use name what says who speaks, and what is said.
SPEAKER_KEYS, CONTENT_KEYS = ("role", "from", "speaker", "author", "sender"), ("content", "value", "text", "message", "parts")
#: The role whose content is the call.
_CALLS = "function_call"
#: Names by which turns hold reasoning apart from their content.
_REASONING = ("reasoning_content", "reasoning", "thinking")


def answered(record: Record, column: str, tools: str | None = None, *, thinking: bool = False) -> tuple[str, str]:
    """(text, answer) of the conversation in ``column``: a list, or a text that is a JSON list; ``tools`` is the column with the functions
    that it offers. Raises UnusableRecord.

    A system turn may open it; then user and assistant alternate, and the assistant has the last word. What one says in several turns is
    joined by a blank line; what the assistant says before the first question, and the user after the last answer, is left out. Between a
    turn that calls functions and the next one of the assistant stand the results, at most one a call. With ``thinking`` what it reasoned
    stands before its answers (``domain/prompt.py``), else it is left out.
    """
    value = record.cells.get(column)
    if value is None or value == "":
        raise UnusableRecord("missing_cell", f"there is no conversation (column {column!r})")
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if not isinstance(value, list):
        raise UnusableRecord("wrong_type", f"the conversation (column {column!r}) is not a list of turns")
    try:
        offered = tools_text(record.cells.get(tools)) if tools else ""
        turns = linked(_answered_alone(_joined(_turn(item, column, thinking) for item in value)))
    except ToolFault as fault:
        raise UnusableRecord(fault.code, f"{fault.reason} (column {column!r})") from fault
    # Raises UnusableRecord where somebody else should have spoken.
    expected, fits = "user", bool(turns) and turns[-1].role == "assistant"
    for turn in turns[turns[0].role == "system" if turns else 0 :]:
        if turn.role != "tool":
            fits = fits and turn.role == expected
            expected = "assistant" if turn.role == "user" or turn.tool_calls else "user"
    if not fits:
        reason = (
            f"the turns (column {column!r}) do not go user, assistant, …, assistant, with at most one system turn before them, and results "
            "of tools between a call and what the assistant says next"
        )
        raise UnusableRecord("role_order", reason)
    # Raises UnusableRecord where a function is called that is not on offer.
    called = {call.name for turn in turns for call in turn.tool_calls}
    if not called <= tool_names(offered):
        if tools is None:
            hint = f"a turn calls a function (column {column!r}): name the column with the definitions of functions, `tools`, under `data`"
            raise UnusableRecord("tools_missing", hint)
        raise UnusableRecord("function_unknown", f"a turn calls a function that the conversation does not offer (column {tools!r})")
    turns = [_without_filling(turn, offered) for turn in turns]
    if offered:
        turns[0] = turns[0].model_copy(update={"tools": offered})
    return fold_turns(turns[:-1]), fold_answer(turns[-1])


def _turn(item: Any, column: str, thinking: bool) -> Message:
    if not isinstance(item, dict):
        raise UnusableRecord("wrong_type", f"a turn (column {column!r}) is no object with a role and a content")
    role = next((item[key] for key in SPEAKER_KEYS if key in item), None)
    role = role.casefold() if isinstance(role, str) else ""
    known = ROLES.get(role)
    content = _text_of(next((item[key] for key in CONTENT_KEYS if key in item), None), of_tool=known == "tool")
    if known is None:
        raise UnusableRecord("role_unknown", f"a turn (column {column!r}) has no role that is known: {', '.join(ROLES)}")
    if known == "tool":
        told = item.get("tool_call_id")
        result = content if isinstance(content, str) else "" if content is None else canonical(content)
        if not is_unicode(result):
            raise broken_text("a turn", column)
        return Message(role="tool", content=result, tool_call_id=told if isinstance(told, str) else "")
    calls = _calls_of(item, role, content) if known == "assistant" else ()
    content = "" if calls and (content is None or role == _CALLS) else content
    if not isinstance(content, str) or not (content.strip() or calls):
        reason = "has no text as its content: write an object or a list as one (json.dumps does), and what a picture shows"
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) {reason}")
    if not is_unicode(content):
        raise broken_text("a turn", column)
    said = reasoned(content, item, thinking=thinking) if known == "assistant" else content
    if not (answer_of(said).strip() or calls):
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) has no answer behind its reasoning")
    return Message.model_validate({"role": known, "content": said, "tool_calls": calls})


def _joined(turns: Iterable[Message]) -> list[Message]:
    """``turns`` with one in place of several that one side takes in a row: people press Enter within what they say. Calls, results and
    reasoning stay as they are."""
    joined = list[Message]()
    for turn in turns:
        pair = (*joined[-1:], turn)
        plain = not any(each.tool_calls or split_reasoning(each.content)[0] for each in pair)
        if joined and plain and joined[-1].role == turn.role and turn.role != "tool":
            joined[-1] = joined[-1].model_copy(update={"content": f"{joined[-1].content}\n\n{turn.content}"})
        else:
            joined.append(turn)
    return joined


def _answered_alone(turns: list[Message]) -> list[Message]:
    """``turns`` from the first question to the last answer: without a greeting of the assistant before, and words of thanks after it."""
    rules = [turn for turn in turns[:1] if turn.role == "system"]
    said = turns[len(rules) :]
    while said and said[0].role == "assistant" and not said[0].tool_calls:
        said = said[1:]
    while said and said[-1].role == "user":
        said = said[:-1]
    return [*rules, *said]


def is_turn(item: Any) -> bool:
    """True for an object that says who speaks, in ``role`` or ``from``, or by a known name: other objects have an author, too."""
    if not isinstance(item, dict):
        return False
    names = (item.get(key) for key in SPEAKER_KEYS)
    return not item.keys().isdisjoint(SPEAKER_KEYS[:2]) or any(isinstance(name, str) and name.casefold() in ROLES for name in names)


def _text_of(content: Any, *, of_tool: bool) -> Any:
    """The text of a content in parts, where all of them are texts and nothing else; else the content as it is: a picture, or what a tool
    found beside a text, is not left out in silence."""

    def is_text(part: Any) -> bool:
        return isinstance(part, dict) and (part.get("type") == "text" or (part.keys() == {"text"} and not of_tool))

    if isinstance(content, list) and content and all(map(is_text, content)):
        texts = [part.get("text") for part in content]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else content
    return content


def _calls_of(item: dict[str, Any], role: str, content: Any) -> tuple[ToolCall, ...]:
    """The calls of an assistant's turn: in ``tool_calls``, in OpenAI's former ``function_call``, or as the content of a turn that is one.
    Raises ToolFault."""
    if role == _CALLS:
        found = parsed_json(content, 2**20, "call_invalid", "a turn of the role function_call") if isinstance(content, str) else content
        return tool_calls(found if isinstance(found, list) else [found])
    if calls := item.get("tool_calls"):
        return tool_calls(parsed_json(calls, 2**20, "call_invalid", "the calls of a turn") if isinstance(calls, str) else calls)
    return (tool_call(item["function_call"]),) if item.get("function_call") else ()


def _without_filling(turn: Message, offered: str) -> Message:
    """``turn`` without arguments that are nothing and that the function does not take: a data frame gives each call the keys of all."""
    if not turn.tool_calls:
        return turn
    takes = {tool["function"]["name"]: tool["function"].get("parameters", {}).get("properties") for tool in json.loads(offered)}

    def said(call: ToolCall) -> ToolCall:
        known, arguments = takes[call.name], json.loads(call.arguments)
        kept = {key: value for key, value in arguments.items() if value is not None or known is None or key in known}
        return call.model_copy(update={"arguments": canonical(kept)}) if kept != arguments else call

    return turn.model_copy(update={"tool_calls": tuple(map(said, turn.tool_calls))})


def reasoned(content: str, item: dict[str, Any] | None = None, *, thinking: bool) -> str:
    """An answer with the reasoning before it, or without."""
    within, answer = split_reasoning(content)
    apart = next((value for name in _REASONING if isinstance(value := (item or {}).get(name), str) and is_unicode(value)), "")
    reasoning = within or apart.strip("\n")
    if thinking and ends_within(reasoning):
        raise UnusableRecord("reasoning_unclear", "the reasoning holds the mark that ends it: where the answer begins cannot be told")
    return with_reasoning(reasoning, answer) if thinking else answer
