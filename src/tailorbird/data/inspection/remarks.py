"""Remarks on a file: what its guesses leave out, and what would be read otherwise than it was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tailorbird.data.inspection.cell_marks import BETWEEN
from tailorbird.data.inspection.columns import AGAINST, ColumnTally, plain_name
from tailorbird.domain.inspection import MOST_NUMBERS, SEVERAL, ColumnSeen, Guess

#: Columns that one remark names.
_NAMED = 6
#: Roles of what is learned from, and of what is learned.
_READ, _LEARNED = ("text", "messages"), ("label", "answer", "relevant")
#: Free text is at least so long on average.
_FREE = 24


def remarks(tallies: Mapping[str, ColumnTally], guesses: Sequence[Guess], *, named_by_line: bool) -> tuple[str, ...]:
    """What a person should know before these guesses become an objective; ``named_by_line``: the first line names the columns."""
    told = _Remarks(tallies, {guess.role: guess for guess in guesses})
    header = told.header() if named_by_line else ()
    return (*header, *told.form(), *told.choice(), *told.labels())


class _Remarks:
    """Columns with what is known of them, and the guesses by role."""

    def __init__(self, tallies: Mapping[str, ColumnTally], guesses: Mapping[str, Guess]) -> None:
        self.tallies = tallies
        self.guesses = guesses
        self.seen = {name: tally.seen() for name, tally in tallies.items() if tally.filled}
        taken = {guess.column for guess in guesses.values()}
        self.free = [column for name, column in self.seen.items() if name not in taken]

    def header(self) -> Iterator[str]:
        """The first line holds no names."""
        values = [name for name, tally in self.tallies.items() if name.strip() and hash(name) in tally.values]
        if values:
            yield (
                f"the first line names the columns, and {_listed(values)} there is a value of the rows below, too: "
                "if it is a row, write a line of names above it"
            )
        unnamed = self.tallies.get("")
        if unnamed is not None and unnamed.filled and not unnamed.seen().numeric:
            yield (
                "the first line leaves columns without a name, and of those only the last one is seen: delete what stands above the names "
                "of the columns, and name each"
            )

    def form(self) -> Iterator[str]:
        """What is there in a form that is not read."""
        mixed = [name for name, column in self.seen.items() if column.kind == "mixed"]
        if mixed:
            yield f"{_listed(mixed)}: cells of several types: write them all as texts, or all as lists"
        objects = [name for name, column in self.seen.items() if column.kind == "object"]
        if objects:
            yield f"{_listed(objects)}: objects, whose fields are not seen: write them as columns (pandas.json_normalize does)"
        for name, tally in self.tallies.items():
            marks = tally.marks
            if marks.share(marks.python_turns) > 0.5:
                yield f"{name[:40]!r}: turns written as Python prints them: write each cell with json.dumps"
            elif marks.share(marks.transcripts) > 0.5 and "messages" not in self.guesses:
                yield (
                    f"{name[:40]!r}: conversations as one text; to learn what an agent answers, write each as a list of "
                    '{"role": "user" or "assistant", "content": ...} (JSON) in a column `messages`'
                )
        for name in (name for name, column in self.seen.items() if column.speakers):
            yield (
                f"{name[:40]!r}: who speaks, so each row is one turn; to learn what is answered, put the turns of a conversation "
                "into one cell: a list of {role, content} (JSON), in a column `messages`"
            )

    def choice(self) -> Iterator[str]:
        """Columns that another guess would have taken."""
        if self.seen and not self.guesses.keys() & set(_READ):
            yield "no column holds texts of several words; numbers, codes, days and flags are not taken for any: if one is, --text COLUMN"
        others = [column.name for column in self.free if not column.numeric and column.may_hold_labels(named=False)]
        label = self.guesses.get("label")
        if others and "text" in self.guesses and label is not None and not label.why.startswith("it is called"):
            yield f"the label could also be {_listed(others)}: --label COLUMN"
        texts = [column.name for column in self.free if self._is_free_text(column) and plain_name(column.name) not in AGAINST]
        read = next((self.guesses[role].column for role in _READ if role in self.guesses), "")
        if texts and read and self.guesses.keys() & set(_LEARNED):
            yield (
                f"only {read[:40]!r} is read as text; {_listed(texts)}: more texts, which are not: where an answer depends on them, "
                "join them with it into one column"
            )
        if any(plain_name(name) == "split" for name in self.tallies):
            yield "'split' is not read: rows are split anew; to keep yours, write a file for each, and `split: train | dev | test` to each"

    def labels(self) -> Iterator[str]:
        """What is learned, where it may be meant otherwise."""
        flags = [name for name, tally in self.tallies.items() if _is_flag(tally)]
        if len(flags) > 1:
            yield (
                f"{_listed(flags)}: 0 and 1 alone; if each is a label of its own, write the names of those that apply into one column, "
                "with | between them, or none: --task classify-many"
            )
        turns = any(column.speakers for column in self.seen.values())
        if not self.guesses.keys() & {*_LEARNED, "messages"} and "text" in self.guesses and not turns:
            numbers = [column.name for column in self.free if column.numeric and column.distinct > MOST_NUMBERS]
            if numbers:
                yield (
                    f"{_listed(numbers)}: numbers; none are predicted here: write ranges of them (low, middle, high), which are labels; "
                    "or, where they are numbers of labels: --label COLUMN"
                )
        label = self.tallies.get(self.guesses["label"].column) if "label" in self.guesses else None
        if label is not None:
            yield from _of_labels(label)

    def _is_free_text(self, column: ColumnSeen) -> bool:
        many = 3 * column.distinct >= min(column.filled, 1000)
        return column.kind == "text" and not column.codes and column.mean_length >= _FREE and many


def _of_labels(label: ColumnTally) -> Iterator[str]:
    seen, marks = label.seen(), label.marks
    for mark in BETWEEN if not seen.holds_several else "":
        if SEVERAL * marks.several[mark] >= marks.filled and len(marks.parts[mark]) < seen.distinct:
            yield (
                f"{label.name[:40]!r}: labels with {mark!r} between them are read as one label each, {seen.distinct:,} in all; if they are "
                "several, write | between them: --task classify-many"
            )
            return
    if marks.nothings:
        called = _listed(sorted(marks.nothings))
        yield f"{label.name[:40]!r}: {called} is read as a label; where it stands for no label, delete these rows"


def _is_flag(tally: ColumnTally) -> bool:
    return len(tally.values) == 2 and tally.marks.filled == tally.marks.flags


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name[:40]) for name in names[:_NAMED]) + more
