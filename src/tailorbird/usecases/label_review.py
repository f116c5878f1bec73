"""Label review of a release: the sheet that its run leaves, what people are shown, and what stands before staging."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird import data, release
from tailorbird.auth import Action
from tailorbird.chat.conversations import as_lines
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.domain.label_review import DATA_ANSWERS, Judgement, Mark, ReviewResult, ReviewSheet
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_judgements
from tailorbird.usecases.audit_events import deny, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.erasure.places import sheet_in
from tailorbird.usecases.registry import Reason, ReleaseDigest, usecase
from tailorbird.usecases.snapshots import present_of


class ShownItem(Value):
    """An item as a reviewer sees it. ``number`` is 0 when nothing is left; then the texts are empty."""

    release: Digest
    instruction: str
    number: int = 0
    text: str = ""
    left: str = ""
    right: str = ""
    judged: int = 0
    asked: int = 0


class ReviewState(Value):
    """A release's review so far. ``required`` is False where nobody has to be asked."""

    release: Digest
    required: bool
    result: ReviewResult | None = None
    against: str = ""


ItemNumber = Annotated[int, Field(ge=1, le=10_000)]


@usecase("label_review.next", "GET", "/api/releases/{digest}/review/next", Action.JUDGE)
def next_shown(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> ShownItem:
    """Show the next two answers to judge.

    The first look at the items is logged. Raises Forbidden (the author), NotFound (nothing to review).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found, sheet, objective = read_sheet(work, digest)
        given = work.judgements.of(found.digest)
        manifest = present_of(work, deps.artifacts, sheet.snapshot)
    refuse_author(deps, actor, found)
    own = [judgement for judgement in given if judgement.reviewer == actor.name]
    if not own:
        with deps.ledger.work(actor.tenant) as work:
            record(work, "review.opened", actor.name, found.digest, deps.clock.now(), {"items": len(sheet.open)})
    # An item that they judged counts when its answers were erased since.
    asked = {item.number for item in sheet.open} | {judgement.number for judgement in own}
    shown = ShownItem(release=found.digest, instruction=objective.task.instruction, judged=len(own), asked=len(asked))
    item = release.next_item(sheet, actor.name, given)
    if item is None:
        return shown
    left, right = item.candidate, item.other
    if release.candidate_side(sheet, actor.name, item) == "right":
        left, right = right, left
    rows = data.load_items(manifest, deps.artifacts, Split(sheet.split))
    text = next((as_lines(row.text) for row in rows if row.id == item.item), "(this item was erased)")
    return shown.model_copy(update={"number": item.number, "text": text, "left": left, "right": right})


@usecase("label_review.judge", "POST", "/api/releases/{digest}/review", Action.JUDGE)
def judge(deps: Dependencies, actor: Actor, digest: ReleaseDigest, number: ItemNumber, mark: Mark, reason: Reason = "") -> ShownItem:
    """File a judgement.

    It is a mark on the item that was shown as ``number``; whoever skips says why. The answer is the next item. Raises Forbidden,
    InvalidInput (skipped without a reason), NotFound, Conflict (judged).
    """
    release.check_mark(mark, reason)
    with deps.ledger.work(actor.tenant, write=False) as work:
        found, sheet, _ = read_sheet(work, digest)
    refuse_author(deps, actor, found)
    item = next((item for item in sheet.open if item.number == number), None)
    if item is None:
        raise NotFound(f"there is no item {number} on this sheet", "judge the item that is shown next")
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        work.judgements.add(
            Judgement(
                release=found.digest,
                reviewer=actor.name,
                number=number,
                mark=mark,
                candidate_side=release.candidate_side(sheet, actor.name, item),
                reason=reason.strip(),
                at=now,
            )
        )
        record(work, "review.judged", actor.name, found.digest, now, {"number": number, "mark": mark.value})
    return next_shown(deps, actor, found.digest)


@usecase("label_review.show", "GET", "/api/releases/{digest}/review", Action.SHOW_RELEASE)
def show_review(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> ReviewState:
    """Show how its label review stands.

    Raises NotFound when there is no such release.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return standing_in(work, work.releases.get(digest))


def standing_in(work: UnitOfWork, found: Release) -> ReviewState:
    """The same, in a transaction that is open."""
    if found.dossier.review is None:
        return ReviewState(release=found.digest, required=False)
    sheet = sheet_in(work, found.dossier.review)
    objective = work.records.get(Objective, found.content.objective)
    given = anchored_judgements(work, found.digest)
    confidence, seed = objective.business.risk.confidence, objective.seed
    # Labels that are not those of the data are errors; a text may be as good as the one in the data.
    errors = sheet.against == DATA_ANSWERS and objective.task.kind is TaskKind.CLASSIFY
    result = release.review_result(sheet, given, confidence, seed, errors_alone=errors)
    return ReviewState(release=found.digest, required=True, result=result, against=sheet.against)


def below(ladder: Ladder, chosen: Climb) -> Climb | None:
    """The cheaper one beside which the chosen one is judged; beside the floor, the first rung."""
    if chosen == ladder.floor:
        return next(iter(ladder.climbs), None)
    cheaper = ladder.climbs[: ladder.climbs.index(chosen)]
    return cheaper[-1] if cheaper else ladder.floor


def read_sheet(work: UnitOfWork, digest: str) -> tuple[Release, ReviewSheet, Objective]:
    """A release with its sheet and its objective. Raises NotFound where nothing has to be reviewed."""
    found = work.releases.get(digest)
    if found.dossier.review is None:
        raise NotFound(
            f"release {short(found.digest)} needs no label review",
            "its risk tier asks nobody, or its answers differ from nothing that came before",
        )
    return found, sheet_in(work, found.dossier.review), work.records.get(Objective, found.content.objective)


def refuse_author(deps: Dependencies, actor: Actor, found: Release) -> None:
    """Raises Forbidden (``own_release``) for the author, and logs it."""
    try:
        release.check_may_review(found, actor.name, actor.identity.public_key)
    except Forbidden as error:
        deny(deps, actor, "release.review", found.digest, error)
        raise
