"""Erasure in serving data: kept words of requests and answers, feedback, and user hashes.

A request is a person's when it was sent for them (the field ``user``, which is kept as a salted hash), when its kept words or a label that
somebody gave hold what an erased row or document says, or when they name the person. Kept words go rather too often than too seldom: they
are there for review, and for a while only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.merkle import key_of
from tailorbird.data import salt_of
from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.dataset import JOINED, Document, Row
from tailorbird.domain.deployment import FORGOTTEN
from tailorbird.domain.erasure import ErasedAnswers, ErasedWords
from tailorbird.domain.feedback import Feedback, KeptWords
from tailorbird.domain.label_review import Judgement, ReviewItem, ReviewSheet
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.serving import experiment_unit
from tailorbird.text.conversations import as_lines, shown_answer, unfold_turns
from tailorbird.text.pseudonyms import spellings
from tailorbird.text.text_finder import TextFinder, is_long
from tailorbird.usecases.anchored_rows import anchored_records
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.erasure.lineage import Found

#: Requests that are read in one transaction.
_PAGE = 1000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")

T = TypeVar("T", KeptWords, Feedback)

#: Requests that are a person's, and why.
Reasons = Mapping[str, Literal["sent", "held"]]


class Quotes(NamedTuple):
    """What the person is known again by, and how many of their texts are not looked for in the form in which requests keep them."""

    finder: TextFinder
    withheld: int


def quotes_of(subject: str, found: Found, redact: Callable[[str], str], *, answers: bool) -> Quotes:
    """The person's name, and what their rows and documents say, as it was read and as it is kept of requests. ``answers`` says that targets
    of rows are words, and no labels."""
    texts = list(dict.fromkeys(_as_read(found, answers=answers)))
    kept = [redact(text) for text in texts]
    return Quotes(TextFinder([*texts, *(text for text in kept if text != WITHHELD)], [subject]), kept.count(WITHHELD))


def find_words(deps: Dependencies, tenant: str, subject: str, quotes: TextFinder) -> Reasons:
    """The requests that are the person's."""
    sent = _sent(deps, tenant, spellings(subject))
    held = set(_held(deps, tenant, quotes)) if quotes else set[str]()
    return {request: "sent" if request in sent else "held" for request in sorted(sent | held)}


def forget_words(work: UnitOfWork, tenant: str, reasons: Reasons, secret: bytes) -> tuple[ErasedWords, ...]:
    """Deletes the words, and returns what was deleted. Requests that hold nothing of the person any more are not named."""
    salt = salt_of(secret, f"{tenant} requests")
    kept = {request: content for request in reasons if (content := work.contents.get(request)) is not None}
    traced = {request for request in reasons if _is_traced(work, request)}
    work.contents.forget(kept)
    said, reviewed = set(work.feedback.forget(reasons)), set(work.reviews.forget(reasons))
    work.requests.forget(traced)
    named = {"kept": kept.keys(), "feedback": said, "review": reviewed, "trace": traced}
    erased = []
    for request, why in reasons.items():
        what = tuple(name for name, some in named.items() if request in some)
        key = key_of(salt, digest_bytes(kept[request].text.encode())).hex() if request in kept else ""
        erased.append(ErasedWords(request=request, what=what, why=why, key=key))
    return tuple(each for each in erased if each.what)


def _is_traced(work: UnitOfWork, request: str) -> bool:
    row = work.requests.get(request)
    return bool(row.unit not in ("", FORGOTTEN) or row.sketch or row.prediction)


def _sent(deps: Dependencies, tenant: str, names: Iterable[str]) -> set[str]:
    """Requests whose ``user`` was one of ``names``, under whatever version of an alias."""
    with deps.ledger.work(tenant, write=False) as work:
        versions = [version for alias in work.aliases.all(stage=None) for version in work.aliases.history(alias.name, alias.stage)]
        return set(work.requests.of_units({experiment_unit(version, name) for version in versions for name in names}))


def _as_read(found: Found, *, answers: bool) -> Iterator[str]:
    for held in found.values():
        yield from _of_rows(held.rows, answers=answers)
        if answers:
            yield from _of_earlier_answers(held.answers)
        yield from _of_documents(held.documents)


def _of_rows(rows: Sequence[Row], *, answers: bool) -> Iterator[str]:
    for row in rows:
        yield row.text
        yield from _of_turns(row.text)
        if JOINED in row.provenance.transforms:
            yield from filter(is_long, row.text.split("\n\n"))
        if answers:
            yield from {row.target, row.answer, shown_answer(row.answer)}


def _of_earlier_answers(items: Sequence[Row]) -> Iterator[str]:
    """What was answered in the middle of a conversation, where it is long enough to be of that one alone."""
    for item in items:
        yield from (text for text in {item.target, item.answer, shown_answer(item.answer)} if is_long(text))


def _of_turns(text: str) -> Iterator[str]:
    """A conversation as requests keep it, and each longer turn of the user or of a tool by itself."""
    turns = unfold_turns(text)
    if turns[0].content == text:
        return
    yield as_lines(text)
    yield from (turn.content for turn in turns if turn.role in ("user", "tool") and (is_long(turn.content) or len(turns) == 1))


def _of_documents(documents: Sequence[Document]) -> Iterator[str]:
    """Whole, and sentence by sentence: an answer quotes a sentence. A short one may be anybody's."""
    for document in documents:
        yield document.text
        yield from (sentence for sentence in _SENTENCE.split(document.text.strip()) if is_long(sentence))


def _held(deps: Dependencies, tenant: str, quotes: TextFinder) -> Iterator[str]:
    contents = _pages(deps, tenant, lambda work, after: work.contents.page(after, _PAGE))
    yield from (one.request for one in contents if quotes.held_by(one.text) or quotes.held_by(one.answer))
    labels = _pages(deps, tenant, lambda work, after: work.feedback.labels(after, _PAGE))
    yield from (one.request for one in labels if quotes.held_by(one.value))


def _pages(deps: Dependencies, tenant: str, page: Callable[[UnitOfWork, str], Sequence[T]]) -> Iterator[T]:
    """All of a repository, a short transaction a page."""
    after = ""
    while True:
        with deps.ledger.work(tenant, write=False) as work:
            found = page(work, after)
        if not found:
            return
        yield from found
        after = found[-1].request


class Concerned(NamedTuple):
    """Numbers of a sheet's items whose answers must go, and judgements whose reasons must."""

    items: frozenset[int]
    reasons: tuple[Judgement, ...]


#: Sheets on which something is the person's, by the digest under which they are stored.
Sheets = Mapping[Digest, Concerned]


def sheet_in(work: UnitOfWork, signed: Digest) -> ReviewSheet:
    """The sheet whose digest is ``signed``, or the one that stands for it. Raises NotFound."""
    known = anchored_records(work, ReviewSheet)
    if signed not in known:
        for sheet in (work.records.get(ReviewSheet, digest) for digest in known):
            if sheet.stands_for == signed:
                return sheet
    return work.records.get(ReviewSheet, signed)


def find_answers(work: UnitOfWork, rows: Collection[Digest], quotes: TextFinder) -> Sheets:
    """The sheets that show an answer to one of ``rows``, or one that ``quotes`` knows again; and those about which a reason does."""
    given: dict[Digest, list[Judgement]] = {}
    for release in work.releases.all():
        if release.dossier.review is not None:
            given.setdefault(release.dossier.review, []).extend(work.judgements.of(release.digest))
    found = {}
    for digest in anchored_records(work, ReviewSheet):
        sheet = work.records.get(ReviewSheet, digest)
        theirs = {item.number for item in sheet.items if item.item in rows or _holds(item, quotes)}
        reasons = [one for one in given.get(sheet.stands_for or digest, ()) if one.reason]
        concerned = Concerned(
            items=frozenset(item.number for item in sheet.open if item.number in theirs),
            reasons=tuple(one for one in reasons if one.number in theirs or quotes.held_by(one.reason)),
        )
        if concerned.items or concerned.reasons:
            found[digest] = concerned
    return found


def forget_answers(work: UnitOfWork, sheets: Sheets) -> tuple[ErasedAnswers, ...]:
    """Replaces ``sheets``, empties the reasons, and returns what was deleted."""
    told = []
    for digest, concerned in sheets.items():
        sheet = work.records.get(ReviewSheet, digest)
        signed, instead = sheet.stands_for or digest, digest
        if concerned.items:
            items = tuple(_emptied(item) if item.number in concerned.items else item for item in sheet.items)
            instead = work.records.put(sheet.model_copy(update={"items": items, "stands_for": signed}))
            work.records.forget(ReviewSheet, [digest])
        reasons = work.judgements.forget_reasons(concerned.reasons)
        told.append(ErasedAnswers(sheet=signed, instead=instead, items=tuple(sorted(concerned.items)), reasons=reasons))
    return tuple(told)


def _holds(item: ReviewItem, quotes: TextFinder) -> bool:
    return quotes.held_by(item.candidate) or quotes.held_by(item.other)


def _emptied(item: ReviewItem) -> ReviewItem:
    return item.model_copy(update={"candidate": "", "other": "", "erased": True})
