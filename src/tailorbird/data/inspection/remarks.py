"""Remarks on a file: what its guesses leave out, and what would be read otherwise than it was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tailorbird.data.inspection.column_names import AGAINST, DIVISIONS, LABEL_WORDS, NAMES, SPLIT_COLUMNS, plain_name, words_of
from tailorbird.data.inspection.columns import BETWEEN, ColumnTally
from tailorbird.data.readers.cells import SPLIT_NAMES
from tailorbird.domain.dataset import Split
from tailorbird.domain.inspection import LONGEST_LABEL, MOST_NUMBERS, SEVERAL, ColumnSeen, Guess

#: Columns that one remark names.
_NAMED = 6
#: Roles of what is learned from, and of what is learned.
_READ, _LEARNED = ("text", "messages"), ("label", "answer", "relevant")
#: Free text is at least so long on average, and a title.
_FREE, _TITLE = 24, 8


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
        self.taken = {guess.column for guess in guesses.values()}
        self.free = [column for name, column in self.seen.items() if name not in self.taken]

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
            yield (
                f"{_listed(objects)}: objects, whose fields are not seen: write them as columns (pandas.json_normalize does), or what is "
                "to be answered whole as a text (json.dumps does)"
            )
        yield from self._lists()
        yield from self._conversations()

    def _lists(self) -> Iterator[str]:
        """What is there in lists and objects."""
        if {"annotations", "data"} <= self.seen.keys() and self.seen["data"].kind == "object":
            yield "an export of Label Studio: export it as CSV, or as JSON-MIN, where text and choice have a column each"
        inner = [name for name, tally in self.tallies.items() if tally.marks.share(tally.marks.records) > 0.5]
        if inner and not (self.guesses.keys() & set(_READ) and self.guesses.keys() & {*_LEARNED, "messages"}):
            yield f"{_listed(inner)}: lists of objects, whose fields are not seen: write a row for each (pandas.json_normalize does)"
        for name in (name for name, column in self.seen.items() if column.kind == "list" and name not in self.taken):
            if plain_name(name) in ("answer", "answers") and not self.guesses.keys() & set(_LEARNED):
                yield (
                    f"{name[:40]!r}: a list in each cell; write the answer that is to be learned, one of several that are right, into a "
                    "column `answer`"
                )
            elif plain_name(name) in NAMES["label"]:
                yield f"{name[:40]!r}: lists of something else than labels; whole texts are labelled here, and no words or places in them"

    def _conversations(self) -> Iterator[str]:
        """What people said, in forms that are no turns."""
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
        named = label is not None and (label.why.startswith("it is called") or "more_labels" in self.guesses)
        if others and "text" in self.guesses and label is not None and not named:
            yield f"the label could also be {_listed(others)}: --label COLUMN"
        if "answer" in self.guesses and "text" in self.guesses:
            told = [self.guesses["label"].column] if "label" in self.guesses else []
            labels = [*told, *(each.name for each in self.free if words_of(each.name) & LABEL_WORDS and each.may_hold_labels(named=False))]
            if labels:
                yield f"{_listed(labels)}: few values, which could be learned as labels: --task classify --label COLUMN"
        texts = [column.name for column in self.free if self._is_free_text(column) and plain_name(column.name) not in AGAINST]
        yield from self._more_texts(texts)
        yield from self._splits()

    def _more_texts(self, texts: list[str]) -> Iterator[str]:
        """Texts that an answer may depend on. A title is told about like them."""
        read = next((self.guesses[role].column for role in _READ if role in self.guesses), "")
        if "more_text" in self.guesses:
            both = _listed([read, self.guesses["more_text"].column])
            yield f"{both} are read as one text, a blank line between them: ask for answers likewise; for one alone: --text COLUMN"
            return
        title = [self.guesses["title"].column] if "title" in self.guesses and "messages" not in self.guesses else []
        title = [name for name in title if self._is_free_text(self.seen[name], least=_TITLE)]
        if (texts or title) and read and self.guesses.keys() & set(_LEARNED):
            named = " ".join(f"--text {name[:40]!r}" for name in (*title, read, *texts)[:_NAMED])
            yield (
                f"only {read[:40]!r} is read as text; {_listed([*title, *texts])}: more texts, which are not: where an answer depends on "
                f"them, they are read together with {named}"
            )

    def _splits(self) -> Iterator[str]:
        if "split" in self.guesses:
            yield (
                f"{self.guesses['split'].column[:40]!r} says which rows are of train, dev and test: dev and test stay as they are, and are "
                "never learned from (`split_column`)"
            )
            return
        label = self.guesses["label"].column if "label" in self.guesses else ""
        if label in self.seen and self.seen[label].tells_splits:
            yield (
                f"{label[:40]!r} is taken for the label, as nothing else is to be learned; if it says which rows are of train and test, "
                "name what is learned (--label COLUMN), or call it `split`"
            )
        for name in (name for name in self.tallies if plain_name(name) in (*DIVISIONS, *SPLIT_COLUMNS) and name != label):
            words, other = self.tallies[name].split_words, self.tallies[name].other_words
            near = any(words_of(word) & SPLIT_NAMES.keys() for word in other)
            if words and not other:
                yield f"{name[:40]!r} is not read: rows are split anew; {self._given_split(name)}"
            elif words or near or plain_name(name) in DIVISIONS:
                odd = f" ({_listed(other)} says none)" if (words or near) and other else ""
                kept = f"to keep yours, a column `split` says train, dev or test of each{odd}"
                yield f"{name[:40]!r} is not read: rows are split anew; {kept}"

    def _given_split(self, name: str) -> str:
        """Why a column of nothing but splits says none that can be kept, and what would."""
        said = sorted({SPLIT_NAMES[word] for word in self.tallies[name].split_words}, key=list(Split).index)
        told = " and ".join(split.value for split in said)
        if Split.TRAIN not in said:
            return (
                f"it says {told} and train of no row, and what is kept as that is never learned from: bring rows to learn from beside it "
                "(init --from FOLDER), or write train into some rows"
            )
        if len(said) == 1:
            return f"it says {told} of every row, and something must be measured on: write dev or test into some rows to keep yours"
        empty = self.tallies[name].filled < max(tally.filled for tally in self.tallies.values())
        return "to keep yours, a column `split` says train, dev or test of each" + (" (some rows say none)" if empty else "")

    def labels(self) -> Iterator[str]:
        """What is learned, where it may be meant otherwise."""
        flags = [name for name, tally in self.tallies.items() if _is_flag(tally) and plain_name(name) not in DIVISIONS]
        if "more_labels" in self.guesses:
            yield f"{_listed(flags)}: 0 and 1 alone: each is taken for a label of its own; for one of them alone: --label COLUMN"
        elif len(flags) > 1:
            named = " ".join(f"--label {name[:40]!r}" for name in flags[:_NAMED])
            yield f"{_listed(flags)}: 0 and 1 alone; if each is a label of its own: {named}"
        many = [column.name for column in self.seen.values() if _has_many_labels(column)]
        if many and not self.guesses.keys() & {"label", "messages"}:
            yield f"{_listed(many)}: too many values, or each too seldom, for labels; if they are labels: --task classify --label COLUMN"
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

    def _is_free_text(self, column: ColumnSeen, least: int = _FREE) -> bool:
        many = 3 * column.distinct >= min(column.filled, 1000)
        return column.kind == "text" and not column.codes and column.mean_length >= least and many


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


def _has_many_labels(column: ColumnSeen) -> bool:
    called = plain_name(column.name) in NAMES["label"] and column.kind == "text" and not column.numeric
    return called and column.longest <= LONGEST_LABEL and not column.may_hold_labels(named=True)


def _is_flag(tally: ColumnTally) -> bool:
    return len(tally.values) == 2 and tally.marks.filled == tally.marks.flags


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name[:40]) for name in names[:_NAMED]) + more
