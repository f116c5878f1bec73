"""Source rows with content-addressed ids, built from records by the roles that the objective gives to columns."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any

from tailorbird.data.readers.cells import (
    UnusableRecord,
    date_cell,
    is_unicode,
    labels_cell,
    name_cell,
    shift_cell,
    subject_cell,
    term_cell,
    text_cell,
)
from tailorbird.data.readers.data_file import DataFile, Record
from tailorbird.data.readers.qrels import Grades, grades_cell, target_of
from tailorbird.domain.dataset import Document, Provenance, Quarantined, Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataSource, Objective, TaskKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.text.conversations import fold_turns
from tailorbird.text.data_licences import clash
from tailorbird.text.normalisation import normalise
from tailorbird.text.pseudonyms import pseudonym
from tailorbird.text.thought_blocks import answer_of, ends_within, split_reasoning, with_reasoning


def row_id(text: str, target: str) -> Digest:
    """The digest of the normalised text and the target: exact duplicates share it.

    It is ``digest_of({"target": ..., "text": ...})``, spelled out because a million rows ask for it: of texts alone, ``json`` writes the
    canonical form.
    """
    encoded = f'{{"target":{_text(target)},"text":{_text(normalise(text))}}}'
    return "sha256:" + sha256(encoded.encode()).hexdigest()


_text = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """What rows of one file share: where they are from, and on what terms. ``file_digest`` is set for the files of a folder."""

    file: str
    file_digest: Digest | None
    origin: str
    license: str
    collected: str
    consent: str
    retain_until: date | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as it stands in its file. ``target`` is the label without outer white space, or the answer as it is.

    ``fixed`` is the split that the objective gives to the whole source, ``subject`` the keyed pseudonym of the person it belongs to.
    ``shift`` is the cell that the objective splits by, ``shifted`` what follows from it (``splitting/shifting``).
    """

    text: str
    target: str
    subject: str | None
    fixed: Split | None
    place: SourcePlace
    line: int
    transforms: tuple[str, ...] = ()
    shift: str = ""
    shifted: bool = False

    @property
    def provenance(self) -> Provenance:
        """What the row will carry in a snapshot."""
        fields = {name: getattr(self.place, name) for name in SourcePlace.__dataclass_fields__}
        return Provenance(**fields, line=self.line, subject=self.subject, transforms=self.transforms)


@dataclass(frozen=True)
class SourceRows:
    """All rows of an objective in the order of its sources. ``read`` counts the records of each file: rows and quarantined ones.

    ``removed`` are rows that had to go for reasons outside of the files (``data/provenance``): no fault of any file.
    ``documents`` are sorted by id; ``removed_documents`` are those that had to go likewise.
    """

    rows: tuple[SourceRow, ...]
    quarantined: tuple[Quarantined, ...]
    read: dict[str, int]
    files: dict[str, Digest]
    removed: tuple[Quarantined, ...] = ()
    documents: tuple[Document, ...] = ()
    removed_documents: tuple[Quarantined, ...] = ()


#: How formats in use name the roles.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def answered(record: Record, column: str, *, thinking: bool = False) -> tuple[str, str]:
    """(text, answer) of the conversation in ``column``: a list, or a text that is a JSON list. Raises UnusableRecord.

    A system turn may open it; then user and assistant alternate, and the assistant has the last word. With ``thinking`` what it reasoned
    stands before its answers (``text/thought_blocks``), else it is left out.
    """
    turns = [_turn(item, column, thinking) for item in _list(record.cells.get(column), column)]
    spoken = [turn.role for turn in turns[turns[0].role == "system" if turns else 0 :]]
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        reason = f"the turns (column {column!r}) do not go user, assistant, …, assistant, with at most one system turn before them"
        raise UnusableRecord("role_order", reason)
    return fold_turns(turns[:-1]), turns[-1].content


def _list(value: Any, column: str) -> list[Any]:
    if value is None or value == "":
        raise UnusableRecord("missing_cell", f"there is no conversation (column {column!r})")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UnusableRecord("wrong_type", f"the conversation (column {column!r}) is not a JSON list") from error
    if not isinstance(value, list):
        raise UnusableRecord("wrong_type", f"the conversation (column {column!r}) is not a list of turns")
    return value


def _turn(item: Any, column: str, thinking: bool) -> Message:
    if not isinstance(item, dict):
        raise UnusableRecord("wrong_type", f"a turn (column {column!r}) is no object with a role and a content")
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    known = ROLES.get(role.casefold()) if isinstance(role, str) else None
    if known is None:
        raise UnusableRecord("role_unknown", f"a turn (column {column!r}) has no role that is known: {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) has no text as its content")
    if not is_unicode(content):
        raise UnusableRecord("broken_text", f"a turn (column {column!r}) holds bytes that are no UTF-8, or half of a character")
    said = reasoned(content, item, thinking=thinking) if known == "assistant" else content
    if not answer_of(said).strip():
        raise UnusableRecord("empty_turn", f"a turn (column {column!r}) has no answer behind its reasoning")
    return Message.model_validate({"role": known, "content": said})


#: Names by which turns hold reasoning apart from their content.
_REASONING = ("reasoning_content", "reasoning", "thinking")


def reasoned(content: str, item: dict[str, Any] | None = None, *, thinking: bool) -> str:
    """An answer with the reasoning before it, or without."""
    within, answer = split_reasoning(content)
    apart = next((value for name in _REASONING if isinstance(value := (item or {}).get(name), str) and is_unicode(value)), "")
    reasoning = within or apart.strip("\n")
    if thinking and ends_within(reasoning):
        raise UnusableRecord("reasoning_unclear", "the reasoning holds the mark that ends it: where the answer begins cannot be told")
    return with_reasoning(reasoning, answer) if thinking else answer


class RowBuilder:
    """Makes the rows of one source. Rows of one file on the same terms share one ``Place``."""

    def __init__(self, objective: Objective, source: DataSource, secret: bytes, documents: frozenset[str] = frozenset()) -> None:
        """``documents`` are the ids of those that queries may be answered with. ``judged`` holds the grades by query, where a file has
        them; ``split_by`` is the column that all rows are split by."""
        self.source = source
        self.judged: dict[str, Grades] = {}
        self._documents = documents
        self._objective = objective
        self._secret = secret
        self._fixed = Split(source.split) if source.split else None
        self._pseudonyms: dict[str, str] = {}
        self._labelled = objective.task.kind is TaskKind.CLASSIFY
        self._targets: dict[str, str] = {}
        self.split_by = objective.split.by if objective.split else ""
        self._places: dict[tuple[object, ...], SourcePlace] = {}

    def row(self, file: DataFile, record: Record) -> SourceRow:
        """The row that ``record`` of ``file`` holds. Raises Unusable; DataInvalid where terms or labels make the whole file unusable."""
        text, target = self._content(file, record)
        return SourceRow(
            text=text,
            target=self._targets.setdefault(target, target) if self._labelled else target,
            subject=self._subject(record),
            fixed=self._fixed,
            place=self._place(file, record),
            line=record.line,
            shift=sys.intern(shift_cell(record, self.split_by)) if self.split_by else "",
        )

    def _content(self, file: DataFile, record: Record) -> tuple[str, str]:
        source, task = self.source, self._objective.task
        if source.messages:
            return answered(record, source.messages, thinking=task.thinking)
        text = text_cell(record, "text", source.text)
        if task.kind is TaskKind.RANK:
            return text, target_of(self._grades(record))
        if task.labels == "many":
            return text, labels_cell(record, file.name, source.label).strip()
        if task.kind is TaskKind.CLASSIFY:
            return text, name_cell(record, "label", source.label)
        return text, self._answer(text_cell(record, "label", source.label))

    def _answer(self, said: str) -> str:
        """Raises UnusableRecord where it is all reasoning."""
        answer = reasoned(said, thinking=self._objective.task.thinking)
        if not answer_of(answer).strip():
            raise UnusableRecord("empty_turn", "the answer has nothing behind its reasoning")
        return answer

    def _grades(self, record: Record) -> Grades:
        if not self.source.qrels:
            return grades_cell(record, self.source.label, self._documents)
        grades = self.judged.get(name_cell(record, "id", self.source.id))
        if not grades:
            raise UnusableRecord("no_judgement", "no document that is there was judged relevant to the query")
        return grades

    def _subject(self, record: Record) -> str | None:
        name = subject_cell(record, self.source.subject)
        if name is None:
            return None
        known = self._pseudonyms.get(name)
        if known is None:
            known = self._pseudonyms[name] = pseudonym(self._secret, self._objective.tenant, name)
        return known

    def _place(self, file: DataFile, record: Record) -> SourcePlace:
        terms = self._terms(record)
        place = self._places.get((file.name, *terms))
        if place is None:
            self._check_licence(file, record, terms[0])
            place = SourcePlace(file.name, None if file.name == self.source.path else file.digest, self.source.source.origin, *terms)
            self._places[(file.name, *terms)] = place
        return place

    def _terms(self, record: Record) -> tuple[str, str, str, date | None]:
        """Licence, time of collection, consent and retention: the row's own, or else those of its source."""
        said, columns = self.source.source, self.source.terms
        return (
            term_cell(record, columns.license) or said.license,
            term_cell(record, columns.collected) or str(said.collected),
            term_cell(record, columns.consent) or said.consent,
            date_cell(record, columns.retain_until) or said.retain_until,
        )

    def _check_licence(self, file: DataFile, record: Record, licence: str) -> None:
        use = self._objective.business.use
        if why := clash(licence, use):
            message = f"{file.name}:{record.line}: the licence {licence[:60]} clashes with `business.use: {use}`: {why}"
            hint = "leave such rows out, agree on other terms with their owner, or set `business.use` to what the result is really for"
            raise DataInvalid(message, hint, code="license_clash")
