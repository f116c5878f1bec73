"""A person is forgotten on the sheets of label reviews, and the review goes on with what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import VIEWER, everything, on_both_databases, write_disputed
from tailorbird import data
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.erasure import Certificate
from tailorbird.domain.errors import NotFound
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Mark, ReviewItem, ReviewSheet
from tailorbird.domain.release import Release
from tailorbird.release import candidate_side
from tailorbird.usecases import Actor, Dependencies, Progress, label_review
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.erasure.places import sheet_in
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs.submit import adapt

REASON = "this is what the lady of the mill wrote"


@pytest.fixture
def admin(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "admin")


@pytest.fixture
def reviewers(deps: Dependencies) -> list[Actor]:
    return [act_as(deps, "acme", name) for name in ("reviewer", "approver")]


@pytest.fixture
def release(deps: Dependencies, author: Actor, tmp_path: Path) -> Release:
    """A release that people are asked about. Every row is of a person of its own."""
    path = write_disputed(
        tmp_path / "risky",
        data=[{"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}],
    )
    place = path.parent / "rows.csv"
    header, *lines = place.read_text().splitlines()
    place.write_text("\n".join([f"{header},who", *(f"{line},person number {n}" for n, line in enumerate(lines, 2))]) + "\n")
    ended = adapt(deps, author, path, Progress())
    with deps.ledger.work("acme", write=False) as work:
        return work.releases.get(str(ended.conclusion.release))


def sheet_of(deps: Dependencies, release: Release) -> ReviewSheet:
    with deps.ledger.work("acme", write=False) as work:
        return sheet_in(work, str(release.dossier.review))


def person_of(deps: Dependencies, sheet: ReviewSheet, item: ReviewItem) -> str:
    with deps.ledger.work("acme", write=False) as work:
        manifest = work.records.get(SnapshotManifest, sheet.snapshot)
    rows = data.load_rows(manifest, deps.artifacts, Split(sheet.split))
    return f"person number {next(row.provenance.line for row in rows if row.id == item.item)}"


def forget(deps: Dependencies, admin: Actor, who: str) -> Certificate:
    return erase.erase(deps, admin, who).certificate


def judge_on(deps: Dependencies, reviewer: Actor, release: Release) -> list[int]:
    """Judges whatever is shown, for the candidate; which items that were."""
    shown, numbers = label_review.next_shown(deps, reviewer, release.digest), list[int]()
    while shown.number:
        assert {shown.left, shown.right} == {"login", "refund"}
        assert "refund login" in shown.text
        sheet = sheet_of(deps, release)
        numbers.append(shown.number)
        side = Mark(candidate_side(sheet, reviewer.name, sheet.items[shown.number - 1]))
        shown = label_review.judge(deps, reviewer, release.digest, shown.number, side, "")
    assert shown.judged == shown.asked
    return numbers


@on_both_databases
def test_answers_go_and_the_review_goes_on(deps: Dependencies, admin: Actor, reviewers: list[Actor], release: Release) -> None:
    before = sheet_of(deps, release)
    gone = {item.number for item in before.items if item.item == before.items[-1].item}  # a repeated item, and the one that it repeats
    assert len(gone) == 2
    for number in (*gone, next(item.number for item in before.items if item.number not in gone)):
        label_review.judge(deps, reviewers[0], release.digest, number, Mark.SKIP, f"{REASON}, I think: {number}")
    certificate = forget(deps, admin, person_of(deps, before, before.items[-1]))
    after = sheet_of(deps, release)
    (told,) = certificate.answers
    assert (told.sheet, told.instead) == (release.dossier.review, digest_of(after))
    assert (after.stands_for, set(told.items), told.reasons) == (release.dossier.review, gone, 2)
    for was, now in zip(before.items, after.items, strict=True):
        kept = was.model_copy(update={"candidate": "", "other": "", "erased": True}) if was.number in gone else was
        assert now == kept
        assert candidate_side(after, "reviewer", now) == candidate_side(before, "reviewer", was)
    with deps.ledger.work("acme", write=False) as work:
        assert release.dossier.review not in work.records.digests(ReviewSheet)
        assert work.releases.get(release.digest) == release
        reasons = {given.number: given.reason for given in work.judgements.of(release.digest)}
    assert [bool(reason) for number, reason in reasons.items() if number in gone] == [False, False]
    left = everything(deps)
    assert not [number for number in gone if f"{REASON}, I think: {number}" in left]
    with pytest.raises(NotFound):
        label_review.judge(deps, reviewers[1], release.digest, min(gone), Mark.TIE, "")
    assert gone.isdisjoint(judge_on(deps, reviewers[0], release))
    assert {*judge_on(deps, reviewers[1], release), *gone} == {item.number for item in before.items}
    result = label_review.show_review(deps, VIEWER, release.digest).result
    assert (result.asked, result.missing, result.verdict) == (len(before.items) - 2, 0, Verdict.PASS)


def test_answers_that_repeat_the_persons_words_go_wherever_they_stand(deps: Dependencies, admin: Actor, release: Release) -> None:
    before = sheet_of(deps, release)
    who = person_of(deps, before, before.items[0])
    with deps.ledger.work("acme", write=False) as work:
        manifest = work.records.get(SnapshotManifest, before.snapshot)
    rows = {row.id: row.text for row in data.load_rows(manifest, deps.artifacts, Split(before.split))}
    said = rows[before.items[0].item]
    answers = [("We have it: " + " ".join([said, said]), "Ask us."), ("Ask them.", f"{who.title()} told us."), ("Ask.", "Tell.")]
    other = before.model_copy(
        update={
            "items": tuple(
                ReviewItem(number=number, item=digest_bytes(str(number).encode()), candidate=candidate, other=answer)
                for number, (candidate, answer) in enumerate(answers, 1)
            )
        }
    )
    with deps.ledger.work("acme") as work:
        digest = work.records.put(other)
    certificate = forget(deps, admin, who)
    (told,) = (each for each in certificate.answers if each.sheet == digest)
    with deps.ledger.work("acme", write=False) as work:
        left = sheet_in(work, digest)
    assert told.items == tuple(item.number for item in left.items if item.erased) == (1, 2)
    assert left.items[2] == other.items[2]
    assert who.title() not in everything(deps)
