"""What columns seem to be for: by their names, and by what is in them.

In: what was seen of each column. Out: guesses, each with its reason; the task they fit. Must not know: files, objectives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tailorbird.domain.inspection import ColumnSeen, Guess

#: Names that columns of a role often have, the likeliest first.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "chat", "turns", "dialogue"),
    "text": (
        "text",
        "message",
        "instruction",
        "prompt",
        "question",
        "query",
        "input",
        "sentence",
        "utterance",
        "body",
        "content",
        "document",
    ),
    "label": ("label", "labels", "category", "intent", "class", "topic", "target", "tag", "tags"),
    "answer": ("answer", "response", "output", "completion", "reply", "summary"),
    "subject": ("subject", "customer", "customer_id", "user", "user_id", "author", "person", "email", "account", "patient", "who"),
    "id": ("id", "_id", "query_id", "doc_id", "docid"),
    "title": ("title", "headline"),
    "license": ("license", "licence"),
    "consent": ("consent", "consent_basis"),
    "collected": ("collected", "collected_at", "created", "created_at", "date"),
    "retain_until": ("retain_until", "retention", "delete_after"),
}

#: A column of labels has few values, each short, and each often.
MOST_LABELS, LONGEST_LABEL, ROWS_A_LABEL = 300, 80, 3


def guess_roles(columns: Sequence[ColumnSeen], rows: int) -> tuple[Guess, ...]:
    """One column a role at most, and one role a column. Roles without which there is no task come first."""
    free = {column.name: column for column in columns if column.filled}
    found: list[Guess] = []
    for role in NAMES:
        guess = _guess(role, free.values(), rows, found)
        if guess is not None:
            found.append(guess)
            del free[guess.column]
    return tuple(found)


def task_of(guesses: Iterable[Guess]) -> str:
    """The kind of task that the guesses fit."""
    roles = {guess.role for guess in guesses}
    if "messages" in roles or {"text", "answer"} <= roles:
        return "generate"
    if {"text", "label"} <= roles:
        return "classify"
    return "documents" if "text" in roles else "unknown"


def _guess(role: str, free: Iterable[ColumnSeen], rows: int, found: Sequence[Guess]) -> Guess | None:
    if role in ("text", "label", "answer") and any(guess.role == "messages" for guess in found):
        return None
    if role == "answer" and any(guess.role == "label" for guess in found):
        return None
    fitting = [column for column in free if _fits(role, column, rows)]
    for name in NAMES[role]:
        for column in fitting:
            if column.name.strip().casefold().replace("-", "_").replace(" ", "_") == name:
                return Guess(role=role, column=column.name, why=f"it is called {column.name[:40]}")
    return _by_content(role, fitting)


def _fits(role: str, column: ColumnSeen, rows: int) -> bool:
    if role == "messages":
        return column.kind == "turns"
    if role == "label":
        few = column.distinct <= min(MOST_LABELS, max(2, column.filled / ROWS_A_LABEL))
        return column.kind == "list" or (column.kind in ("text", "number") and few and column.longest <= LONGEST_LABEL)
    if role in ("text", "answer"):
        return column.kind == "text" and column.filled >= 0.5 * rows
    return column.kind in ("text", "number")


def _by_content(role: str, fitting: Sequence[ColumnSeen]) -> Guess | None:
    """Where no name helps: turns are turns, the longest texts are the text, few short values are labels."""
    if role == "messages" and fitting:
        return Guess(role=role, column=fitting[0].name, why="its cells are turns with roles")
    if role == "text" and fitting:
        longest = max(fitting, key=lambda column: column.mean_length)
        return Guess(role=role, column=longest.name, why=f"its texts are the longest (mean {longest.mean_length:g} characters)")
    if role == "label" and fitting:
        fewest = min(fitting, key=lambda column: column.distinct)
        return Guess(role=role, column=fewest.name, why=f"{fewest.distinct} short values, each many times")
    return None
