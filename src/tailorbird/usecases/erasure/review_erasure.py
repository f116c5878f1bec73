"""Erasure on the sheets of label reviews: answers to a subject's rows, answers that repeat their words, reviewers' reasons.

A release signs the digest of its sheet. That stays as it is; the sheet of that digest is deleted, and another stands for it, which names it
and has the same items, in the same numbers. So marks go on counting, signatures go on verifying, and who kept a copy of the old sheet can
still show that it was the one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tailorbird.domain.erasure import ErasedAnswers
from tailorbird.domain.label_review import Judgement, ReviewItem, ReviewSheet
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.text.text_finder import TextFinder
from tailorbird.usecases.anchored_rows import anchored_records


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
        theirs = {item.number for item in sheet.items if item.item in rows or _held(item, quotes)}
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


def _held(item: ReviewItem, quotes: TextFinder) -> bool:
    return quotes.held_by(item.candidate) or quotes.held_by(item.other)


def _emptied(item: ReviewItem) -> ReviewItem:
    return item.model_copy(update={"candidate": "", "other": "", "erased": True})
